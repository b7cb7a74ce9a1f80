# SPDX-License-Identifier: Apache-2.0
"""Packages that controld serves, and the install script that names them (U1): what it holds, what it refuses, what it does to a host."""

import hashlib
import http.client
import os
import re
import socket
import subprocess
import urllib.parse

import pytest
from cli_console import program
from stock import AMD64, ARM64, CONTENT, DEB, RPM, RPM64, administrate, stock, write


@pytest.fixture(name="stocked")
def plane_with_packages(bare_plane, tmp_path):
    """A control plane that serves the agent for two architectures of Debian and one of an rpm distribution."""
    return stock(bare_plane, tmp_path)


def script(plane, query="", host=None):
    """GET the install script."""
    return plane.request("GET", "/v1/agent/install.sh" + query, headers={"Host": host} if host else None)


def package_lines(text):
    """The lines of the script that name packages, as lists of words."""
    return [line.split() for line in re.search(r"packages='\n(.*?)'", text, re.S).group(1).splitlines()]


# -- packages

def test_a_package_is_served_as_it_was_added(stocked):
    for name, content in CONTENT.items():
        answer = stocked.request("GET", "/v1/agent/packages/" + name)
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["Content-Type"] == "application/octet-stream"
    listed = {entry["id"]: entry for entry in stocked.ok("GET", "/packages")["items"]}
    assert listed[AMD64]["sha512"] == hashlib.sha512(DEB).hexdigest() and listed[AMD64]["bytes"] == len(DEB)
    assert (listed[RPM64]["version"], listed[RPM64]["architecture"], listed[RPM64]["format"]) == ("0.1.0-1", "x86_64", "rpm")
    assert stocked.ok("GET", "/packages?limit=1")["next"] == sorted(listed)[0]
    assert stocked.ok("GET", f"/packages?limit=1&after={sorted(listed)[0]}")["items"][0]["id"] == sorted(listed)[1]


@pytest.mark.parametrize("header, first, end", [
    ("bytes=0-9", 0, 10), (f"bytes={len(DEB) - 3}-", len(DEB) - 3, len(DEB)), (f"bytes=5-{10 ** 15}", 5, len(DEB)), (f"bytes={len(DEB)}-", None, None),
    ("bytes=99999999999999999999999-", 0, None), ("bytes=-5", 0, None), ("bytes=5-2", 0, None), ("bytes=1-2,4-5", 0, None), ("lines=1-2", 0, None),
    ("bytes=", 0, None), ("bytes=0x10-", 0, None),
])
def test_a_part_of_a_package(stocked, header, first, end):
    """first, end: what comes with 206; no end: all of it with 200; neither: 416."""
    answer = stocked.request("GET", "/v1/agent/packages/" + AMD64, headers={"Range": header})
    if first is None:
        assert answer.status == 416
    elif end is None:
        assert answer.status == 200 and answer.body == DEB
    else:
        assert answer.status == 206 and answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(DEB)}"
        assert hashlib.sha512(answer.body).digest() == hashlib.sha512(DEB[first:end]).digest()


@pytest.mark.parametrize("path", [
    "../control.db", "..%2fcontrol.db", "%2e%2e/control.db", "..%2f..%2f..%2fetc%2fpasswd", ".partial", "", ".", "..", "%00", AMD64 + "%00",
    AMD64 + "/", "/" + AMD64, AMD64.upper(), "*", "%25s%25n", "'", "a" * 3000,
], ids=lambda path: path[:30])
def test_no_other_file_is_served(stocked, path):
    answer = stocked.request("GET", "/v1/agent/packages/" + path)
    # a NUL ends the name for us as for the file system: it is the package, or nothing
    assert answer.status == (200 if path == AMD64 + "%00" else 404), answer.body[:100]
    assert answer.body == DEB or b"SQLite" not in answer.body


def test_a_package_that_changed_on_the_disk_is_not_served(stocked):
    path = os.path.join(stocked.state, "packages", AMD64)
    with open(path, "ab") as file:
        file.write(b"more")
    assert stocked.request("GET", "/v1/agent/packages/" + AMD64).status == 500
    os.unlink(path)
    os.symlink(os.path.join(stocked.state, "control.db"), path)
    assert stocked.request("GET", "/v1/agent/packages/" + AMD64).status == 500
    os.unlink(path)
    assert stocked.request("GET", "/v1/agent/packages/" + AMD64).status == 500
    assert "cannot be served" in stocked.controld.text()


def test_what_is_no_package_is_not_added(bare_plane, tmp_path):
    good = write(tmp_path, AMD64, DEB)
    for name, content, says in (
            ("loopback-agent_0.1.0_arm64.deb", b"<html>404</html>", "expected a deb package"), (RPM64, DEB, "expected a rpm package"),
            ("loopback-agent_0.2.0_amd64.deb", b"", "is empty"), ("agent.deb", DEB, "expected a name"), ("a_1_b.zip", DEB, "expected a name"),
            ("a_1;reboot_amd64.deb", DEB, "expected a name"), ("a_1_$(id).deb", DEB, "expected a name"), ("a_1'_amd64.deb", DEB, "expected a name"),
            ("-a_1_amd64.deb", DEB, "expected a name"), (".a_1_amd64.deb", DEB, "expected a name"), ("a_1 2_amd64.deb", DEB, "expected a name"),
            ("a" * 190 + "_1_amd64.deb", DEB, "expected a name")):
        done = administrate(bare_plane, "package", "add", write(tmp_path, name, content), check=False)
        assert done.returncode == 1 and says in done.stderr, (name, done.stderr)
    for path, says in ((str(tmp_path / "none_1_amd64.deb"), "cannot open"), (str(tmp_path), "name")):
        done = administrate(bare_plane, "package", "add", path, check=False)
        assert done.returncode == 1 and says in done.stderr, done.stderr
    assert bare_plane.ok("GET", "/packages")["items"] == [] and os.listdir(os.path.join(bare_plane.state, "packages")) == []
    administrate(bare_plane, "package", "add", good)
    assert os.stat(os.path.join(bare_plane.state, "packages", AMD64)).st_uid == os.stat(bare_plane.state).st_uid


def test_a_name_never_comes_to_mean_another_file(stocked, tmp_path):
    assert "was there" in administrate(stocked, "package", "add", write(tmp_path, AMD64, DEB)).stdout
    done = administrate(stocked, "package", "add", write(tmp_path, AMD64, DEB + b"2"), check=False)
    assert done.returncode == 1 and "new version" in done.stderr
    assert stocked.request("GET", "/v1/agent/packages/" + AMD64).body == DEB
    # a copy that was lost is taken in again
    os.unlink(os.path.join(stocked.state, "packages", AMD64))
    administrate(stocked, "package", "add", write(tmp_path, AMD64, DEB))
    assert stocked.request("GET", "/v1/agent/packages/" + AMD64).body == DEB


def test_removing_and_listing(stocked):
    assert AMD64 in administrate(stocked, "package", "list").stdout
    administrate(stocked, "package", "remove", AMD64)
    assert stocked.request("GET", "/v1/agent/packages/" + AMD64).status == 404
    assert AMD64 not in administrate(stocked, "package", "list").stdout
    for name in (AMD64, "../control.db", "control.db", ""):
        assert administrate(stocked, "package", "remove", name, check=False).returncode == 1
    assert os.path.exists(os.path.join(stocked.state, "control.db"))
    whats = [entry["what"] for entry in stocked.ok("GET", "/audit")["items"]]
    assert whats.count("package add") == 3 and whats.count("package remove") == 1


# -- the script

def test_the_script_names_root_and_packages(stocked):
    answer = script(stocked)
    text = answer.body.decode()
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/x-shellscript")
    assert f"root='{stocked.root.public.hex()}'" in text and stocked.deployment.hex() in text
    assert f"url='http://127.0.0.1:{stocked.port}'" in text
    assert sorted(package_lines(text)) == sorted([
        ["deb", "amd64", "0.1.0", str(len(DEB)), hashlib.sha512(DEB).hexdigest(), AMD64],
        ["deb", "arm64", "0.1.0", str(len(DEB) + 3), hashlib.sha512(DEB + b"arm").hexdigest(), ARM64],
        ["rpm", "x86_64", "0.1.0-1", str(len(RPM)), hashlib.sha512(RPM).hexdigest(), RPM64]])
    assert "@" not in text.replace('"$@"', "") and stocked.credential not in text
    assert text.count("\n") < 170


def test_the_newest_added_or_the_one_that_was_asked_for(stocked, tmp_path):
    newer = "loopback-agent_0.2.0~rc1+b2_amd64.deb"
    administrate(stocked, "package", "add", write(tmp_path, newer, DEB + b"new"), write(tmp_path, "loopback-cli_0.3.0_amd64.deb", DEB))
    assert [line[5] for line in package_lines(script(stocked, "?arch=amd64").body.decode())] == [newer]
    assert [line[5] for line in package_lines(script(stocked, "?version=0.1.0&arch=amd64").body.decode())] == [AMD64]
    assert [line[5] for line in package_lines(script(stocked, "?version=0.2.0~rc1%2Bb2").body.decode())] == [newer]
    assert len(package_lines(script(stocked).body.decode())) == 3


HOSTILE = ["';id;'", "$(id)", "`id`", "amd64\n", "amd64\r\nSet-Cookie: a=b", "../..", "", "a b", "a" * 5000, "@ROOT@", "%s%n", "\\", "-h", ".", "é", "\x00",
           "amd64\x00';id"]


def refused_as_a_script(answer, status=(400, 404, 414)):
    """An error that is harmless to a shell: it says so, changes nothing and ends with 1."""
    assert answer.status in status, answer.body
    if not answer.body or answer.status == 414:  # longer than the server takes: its own words
        return
    done = subprocess.run(["/bin/sh"], input=answer.body, capture_output=True, check=False, env={"PATH": "/nonexistent"})
    assert done.returncode == 1 and done.stderr.startswith(b"loopback: ") and done.stdout == b"", (answer.body, done)


@pytest.mark.parametrize("name", ["arch", "version", "url", "root", "channel"])
def test_hostile_queries(stocked, name):
    for value in HOSTILE:
        answer = script(stocked, f"?{name}={urllib.parse.quote(value)}")
        if name == "arch" and value.startswith("amd64\x00"):
            assert [line[5] for line in package_lines(answer.body.decode())] == [AMD64]  # a NUL ends the value
        else:
            refused_as_a_script(answer)


@pytest.mark.parametrize("query", ["?arch=amd64&arch=arm64", "?arch", "?arch=amd64&x=1", "?=amd64", "?&&", "?arch=amd64;version=1", "?arch=mips", "?version=9",
                                   "?arch=%zz"])
def test_malformed_queries(stocked, query):
    refused_as_a_script(script(stocked, query))


@pytest.mark.parametrize("host", ["';id;'", "$(id)", "a b", "a/b", "`id`", "a'b", 'a"b', "a\\b", "a&b", "x" * 300, "a;b", "http://a", "-", "a<b", "é"])
def test_hostile_host_headers(stocked, host):
    with socket.create_connection(("127.0.0.1", stocked.port), timeout=10) as connection:
        connection.sendall(b"GET /v1/agent/install.sh HTTP/1.1\r\nConnection: close\r\nHost: " + host.encode() + b"\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    if host == "-":
        assert answer.status == 200 and b"url='http://-'" in body
    else:
        assert answer.status == 400 and host.encode() not in body, body[:300]


def test_without_a_package_there_is_no_script(bare_plane):
    answer = script(bare_plane)
    refused_as_a_script(answer, (404,))
    assert b"controld package add" in answer.body
    assert bare_plane.request("POST", "/v1/agent/install.sh", b"x").status == 405


def test_the_url_that_hosts_use_can_be_given(folder, tmp_path):
    from plane import Plane
    made = Plane(folder, controld_options=("--url", "https://control.example:8443/x"))
    made.start()
    try:
        administrate(made, "package", "add", write(tmp_path, AMD64, DEB))
        assert b"url='https://control.example:8443/x'" in script(made, host="evil.example").body
    finally:
        made.stop()
    for url in ("https://a/", "ftp://a", "https://", "https://a'b", "https://a b", "a", "https://a$b"):
        done = subprocess.run([program("controld"), "--state", made.state, "--listen", "127.0.0.1:0", "--url", url], capture_output=True, text=True,
                              check=False, timeout=10)
        assert done.returncode == 1 and "--url" in done.stderr


def test_shellcheck_is_content(stocked, tmp_path):
    for query in ("", "?arch=amd64", "?arch=arm64&version=0.1.0", "?version=0.1.0-1"):
        path = write(tmp_path, "install.sh", script(stocked, query).body)
        done = subprocess.run(["shellcheck", "-s", "sh", "-S", "style", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_a_script_that_was_cut_off_does_nothing(stocked, tmp_path):
    """Whatever is missing at its end, and wherever it was cut: not one program is run, not one file touched."""
    text = script(stocked).body
    places = sorted({*range(0, len(text), 211), *range(len(text) - 200, len(text) - 1)})
    traps = tmp_path / "bin"
    traps.mkdir()
    for name in ("id", "dpkg", "apt-get", "mktemp", "curl", "wget", "rm", "sed", "head", "rpm", "uname", "loopback"):
        path = traps / name
        path.write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/ran\nexit 1\n")
        path.chmod(0o755)
    for at in places:
        done = subprocess.run(["/bin/sh"], input=text[:at], capture_output=True, check=False, cwd=tmp_path, env={"PATH": str(traps)})
        assert done.stdout == b"" and not os.path.exists(tmp_path / "ran"), (at, done)
    subprocess.run(["/bin/sh"], input=text, capture_output=True, check=False, cwd=tmp_path, env={"PATH": str(traps)})
    assert os.path.exists(tmp_path / "ran")  # the traps do catch the whole one
