# SPDX-License-Identifier: Apache-2.0
"""loopbackctl package list and mirror export (U2): a folder that stock tools verify and any web server can serve."""

import http.server
import json
import os
import subprocess
import threading

import pytest
import wire
from cli_console import Console
from stock import AMD64, ARM64, CONTENT, DEB, RPM64, administrate, stock, write


@pytest.fixture(name="console")
def console_fixture(bare_plane, tmp_path):
    """An operator of a control plane that has packages."""
    stock(bare_plane, tmp_path)
    return operator(bare_plane, tmp_path / "operator", f"http://127.0.0.1:{bare_plane.port}")


def operator(plane, folder, url, root=None):
    """A console with a context."""
    folder.mkdir()
    console = Console(folder)
    console.write("credential", plane.credential + "\n")
    console.write("root.pub", (root or plane.root).public.hex() + "\n")
    console.ok("context", "set", "lab", "--url", url, "--credential-file", "credential", "--root-pub", "root.pub")
    return console


def verify(folder):
    """Stock sha512sum has no complaint, and every file that matters is listed."""
    done = subprocess.run(["sha512sum", "--strict", "-c", "SHA512SUMS"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(os.path.join(folder, "SHA512SUMS"), encoding="ascii") as file:
        return {line.split()[1] for line in file}


def test_list(console):
    assert {entry["id"] for entry in console.json("package", "list")} == set(CONTENT)
    assert AMD64 in console.ok("package", "list")


def test_export(console):
    assert console.json("mirror", "export", "mirror") == {"folder": "mirror", "packages": 3, "fetched": 3}
    folder = console.file("mirror")
    assert verify(folder) == {*CONTENT, "install.sh", "README"}
    assert set(os.listdir(folder)) == {*CONTENT, "install.sh", "README", "SHA512SUMS", ".loopback-mirror"}
    for name, content in CONTENT.items():
        with open(os.path.join(folder, name), "rb") as file:
            assert file.read() == content
    for name in os.listdir(folder):
        assert os.stat(os.path.join(folder, name)).st_mode & 0o444 == 0o444, "a web server reads it"
    with open(os.path.join(folder, "README"), encoding="ascii") as file:
        text = file.read()
    assert "sha512sum -c SHA512SUMS" in text and "--offline ." in text and "LOOPBACK_MIRROR=" in text


def test_again_fetches_only_what_is_missing_or_wrong(console):
    console.ok("mirror", "export", "mirror")
    assert console.json("mirror", "export", "mirror")["fetched"] == 0
    os.unlink(console.file("mirror/" + ARM64))
    with open(console.file("mirror/" + RPM64), "r+b") as file:
        file.seek(100)
        file.write(b"rot")
    assert console.json("mirror", "export", "mirror")["fetched"] == 2
    verify(console.file("mirror"))


def test_what_was_fetched_in_part_is_continued(console, bare_plane):
    console.ok("mirror", "export", "mirror")
    os.unlink(console.file("mirror/" + AMD64))
    with open(console.file(f"mirror/{AMD64}.partial"), "wb") as file:
        file.write(DEB[:700000])
    done = console.ctl("mirror", "export", "mirror")
    assert done.returncode == 0 and "the rest of" in done.stderr
    verify(console.file("mirror"))
    # a beginning that is not its own is thrown away, and said
    os.unlink(console.file("mirror/" + AMD64))
    with open(console.file(f"mirror/{AMD64}.partial"), "wb") as file:
        file.write(b"x" * 1000)
    assert "what came is not what" in console.refuses(1, "mirror", "export", "mirror")
    assert not os.path.exists(console.file(f"mirror/{AMD64}.partial"))
    for length in (len(DEB), len(DEB) + 5):
        with open(console.file(f"mirror/{AMD64}.partial"), "wb") as file:
            file.write(b"x" * length)
        assert console.json("mirror", "export", "mirror")["fetched"] == 1
        os.unlink(console.file("mirror/" + AMD64))


def test_interrupted_exports_leave_no_half_file(console):
    for delay in (0.01, 0.03, 0.06, 0.1):
        process = subprocess.Popen([os.path.join(os.environ["LOOPBACK_BIN"], "loopbackctl"), "mirror", "export", "mirror"], cwd=console.folder,
                                   env=console.variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(10)
        for name, content in CONTENT.items():
            if os.path.exists(console.file("mirror/" + name)):
                assert os.path.getsize(console.file("mirror/" + name)) == len(content)
    console.ok("mirror", "export", "mirror")
    verify(console.file("mirror"))


def test_what_is_no_mirror_is_not_touched(console, bare_plane, tmp_path):
    os.mkdir(console.file("mine"))
    console.write("mine/" + AMD64, "mine")
    assert "neither empty nor a mirror" in console.refuses(1, "mirror", "export", "mine")
    assert os.listdir(console.file("mine")) == [AMD64]
    console.write("file", "mine")
    console.refuses(1, "mirror", "export", "file")
    console.refuses(1, "mirror", "export", "none/none")
    console.refuses(2, "mirror", "export")
    # the mirror of another deployment
    console.ok("mirror", "export", "mirror")
    console.write("mirror/.loopback-mirror", "ab" * 32 + "\n", 0o644)
    assert "another deployment" in console.refuses(1, "mirror", "export", "mirror")


def test_a_link_in_the_folder_leads_nowhere(console):
    console.ok("mirror", "export", "mirror")
    console.write("victim", "mine")
    for name in (AMD64, AMD64 + ".partial"):
        if os.path.exists(console.file("mirror/" + name)):
            os.unlink(console.file("mirror/" + name))
        os.symlink(console.file("victim"), console.file("mirror/" + name))
        console.refuses(1, "mirror", "export", "mirror")
        os.unlink(console.file("mirror/" + name))
    with open(console.file("victim"), encoding="ascii") as file:
        assert file.read() == "mine"


def test_without_packages_or_root_there_is_no_mirror(bare_plane, tmp_path):
    console = operator(bare_plane, tmp_path / "operator", f"http://127.0.0.1:{bare_plane.port}")
    assert "no packages" in console.refuses(1, "mirror", "export", "mirror")
    stock(bare_plane, tmp_path)
    other = operator(bare_plane, tmp_path / "other", f"http://127.0.0.1:{bare_plane.port}", wire.Key("other"))
    assert "does not carry the root key" in other.refuses(1, "mirror", "export", "mirror")
    assert not os.path.exists(other.file("mirror/SHA512SUMS")) and not os.path.exists(other.file("mirror/install.sh"))
    assert console.json("mirror", "export", "mirror")["fetched"] == 3


def test_a_full_disk(console):
    os.mkdir(console.file("small"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", console.file("small")], check=True)
    try:
        assert "No space left" in console.refuses(1, "mirror", "export", "small/mirror")
        assert not os.path.exists(console.file("small/mirror/SHA512SUMS"))
    finally:
        subprocess.run(["umount", console.file("small")], check=True)


# -- a control plane that lies

class Liar(http.server.BaseHTTPRequestHandler):
    """Answers as a test wants it to."""

    answers = {}

    def do_GET(self):
        """Whatever stands under the path."""
        path = self.path.split("?")[0]
        status, body = self.answers.get(path, (404, b"{}"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture(name="liar")
def lying_control_plane(tmp_path, bare_plane):
    """(answers, console of an operator who calls it)"""
    answers = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Liar,), {"answers": answers})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield answers, operator(bare_plane, tmp_path / "operator", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def listing(**more):
    """A list of one package."""
    item = dict({"id": AMD64, "bytes": len(DEB), "sha512": "0" * 128}, **more)
    return 200, json.dumps({"items": [item], "next": None}).encode()


@pytest.mark.parametrize("more, says", [
    ({"id": "../../etc/cron.d/x.deb"}, "no file name"), ({"id": "/etc/x.deb"}, "no file name"), ({"id": ".hidden.deb"}, "no file name"),
    ({"id": "SHA512SUMS"}, "no file name"), ({"id": "a\u001b[31m.deb"}, "no file name"), ({"id": None}, "no file name"), ({"id": "-rf.deb"}, "no file name"),
    ({"id": "a" * 300 + ".deb"}, "no file name"), ({"id": "a\nb.deb"}, "no file name"), ({"sha512": "xyz"}, "SHA-512"), ({"sha512": None}, "SHA-512"),
    ({"bytes": -1}, "size"), ({"bytes": 10 ** 15}, "size"), ({"bytes": "many"}, "size"), ({}, "what came is not what"),
    ({"bytes": 10}, "longer than it should be"), ({"bytes": len(DEB) + 1}, "what came is not what"),
])
def test_lies_about_packages(liar, more, says):
    answers, console = liar
    answers["/v1/packages"] = listing(**more)
    answers["/v1/agent/packages/" + AMD64] = (200, DEB)
    words = console.refuses(1, "mirror", "export", "mirror")
    assert says in words and "\x1b" not in words
    assert not os.path.exists(console.file("mirror/SHA512SUMS")) and not os.path.exists(console.file("mirror/" + AMD64))
    assert sorted(os.listdir(console.folder)) == sorted(["config", "credential", "mirror", "root.pub"])


def test_a_script_for_another_root(liar, bare_plane, tmp_path):
    answers, console = liar
    real = operator(bare_plane, tmp_path / "real", f"http://127.0.0.1:{bare_plane.port}")
    stock(bare_plane, tmp_path)
    script = bare_plane.request("GET", "/v1/agent/install.sh").body
    answers["/v1/packages"] = (200, json.dumps({"items": real.json("package", "list"), "next": None}).encode())
    for name, content in CONTENT.items():
        answers["/v1/agent/packages/" + name] = (200, content)
    for wrong in (script.replace(bare_plane.root.public.hex().encode(), b"5a" * 32), b"", b"#!/bin/sh\nid\n", script[10:], b"x" * 300000):
        answers["/v1/agent/install.sh"] = (200, wrong)
        console.refuses(1, "mirror", "export", "mirror")
        assert not os.path.exists(console.file("mirror/install.sh"))
    answers["/v1/agent/install.sh"] = (200, script)
    console.ok("mirror", "export", "mirror")
    verify(console.file("mirror"))


def test_a_package_that_is_gone(console, bare_plane, tmp_path):
    """Old versions stay in the folder, unlisted, for hosts that are at it; new ones come in beside them."""
    console.ok("mirror", "export", "mirror")
    administrate(bare_plane, "package", "remove", ARM64)
    administrate(bare_plane, "package", "add", write(tmp_path, "loopback-agent_0.2.0_amd64.deb", DEB + b"2"))
    assert console.json("mirror", "export", "mirror") == {"folder": "mirror", "packages": 3, "fetched": 1}
    assert verify(console.file("mirror")) == {AMD64, RPM64, "loopback-agent_0.2.0_amd64.deb", "install.sh", "README"}
    assert os.path.exists(console.file("mirror/" + ARM64))
