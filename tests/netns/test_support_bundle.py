# SPDX-License-Identifier: Apache-2.0
"""loopback support-bundle on hosts of a running deployment: what is in it, and that no secret is, in whatever form."""

import base64
import json
import os
import re
import signal
import subprocess
import tarfile
import time
import urllib.parse

import pytest

from rig import wait_until

# Parts of whatever is searched for must be unlike anything that belongs there.
PROXY_USER, PROXY_PASSWORD = "office", "Kq7@:/?#[]!$&'()*+,;=%41 \"\\\u00fc^zz"
PLANTED = {
    "api secret": "hV9_planted-in-the-environment_w2",
    "option": "Gt5planted-in-options-of-nobody8Y",
    "comment": "Jw3planted-in-a-comment-of-old7P",
    "unseen token": "0123456789abcdef0123456789abcdef.QmFzZTY0dXJsX29mX2FfdG9rZW5fdGhhdF9ub2JvZHlfa25vd3M.cm9vdA",
    "unseen url": "https://somebody:Xe4-some-password@elsewhere.example/path",
    "unseen bearer": "Bearer YW5vdGhlcl9vbmVfdGhhdF9ub2JvZHlfa25vd3M=",
}
ENVIRONMENT = {
    "fetchd.env": f"# old: {PLANTED['comment']}\n"
                  f"https_proxy=http://{PROXY_USER}:{urllib.parse.quote(PROXY_PASSWORD, safe='')}@proxy.example:3128\n"
                  "no_proxy=198.18.0.10\nLOOPBACK_LOG_LEVEL=info\n",
    "other.env": f"API_SECRET=\"{PLANTED['api secret']}\"\nOTHER_OPTIONS=--state /x {PLANTED['option']} --listen-port 51820\n",
}


def forms(secret):
    """{name: bytes} of the ways in which a secret may be written."""
    text = None
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        pass
    found = {"raw": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode(),
             "hex with colons": secret.hex(":").encode(), "url": urllib.parse.quote(secret, safe="").encode(),
             "url, loose": urllib.parse.quote(secret).encode(),
             "url, lower": re.sub("%..", lambda found: found[0].lower(), urllib.parse.quote(secret, safe="")).encode(),
             "url, all": "".join(f"%{byte:02X}" for byte in secret).encode(), "form": urllib.parse.quote_plus(secret).encode()}
    for shift in range(3):
        # What encloses it is not known: only the digits that depend on it alone.
        start, whole = -(-shift * 8 // 6), (shift + len(secret)) * 8 // 6
        encoded = base64.b64encode(b"\0" * shift + secret)[start:whole]
        found[f"base64 at {shift}"] = encoded
        found[f"base64url at {shift}"] = encoded.replace(b"+", b"-").replace(b"/", b"_")
    if text:
        found.update({"utf-16le": text.encode("utf-16-le"), "utf-16be": text.encode("utf-16-be"),
                      "json": json.dumps(text)[1:-1].encode()})
    return found


def secrets_of(host):
    """{name: bytes} of the keys that this host really has."""
    found = {}
    for name, path, begin in (("host key", "netd/host.key", 0), ("WireGuard key", "netd/wg.key", 8),
                              ("transport key", "fetchd/transport.key", 0),
                              ("online key", "signd/online.key", 0)):
        path = "/var/lib/loopback/" + path
        if host.enter("test", "-e", path, check=False).returncode == 0:
            found[name] = base64.b64decode(host.enter("base64", path).stdout)[begin:begin + 32]
            assert len(found[name]) == 32, name
    if host.enter("test", "-e", "/var/lib/loopback/controld/admin.credential", check=False).returncode == 0:
        line = host.enter("cat", "/var/lib/loopback/controld/admin.credential").stdout.strip()
        found["credential"] = line.partition(".")[2].encode()
    return found


@pytest.fixture(name="place")
def make_place(tmp_path_factory):
    place = tmp_path_factory.mktemp("bundle")
    yield place


class Stand:
    """A program of this computer's in the place of one that the bundle runs: one without a journal has none to read from."""

    def __init__(self, place):
        self.place, self.mounts = place, []

    def add(self, path, script):
        """In the place of path, a shell script."""
        file = self.place / ("stand-" + path.replace("/", "-"))
        file.write_text("#!/bin/sh\n" + script, encoding="utf-8")
        file.chmod(0o755)
        self.mounts.append(f"mount --bind {file} {path}")

    def command(self, *words):
        """loopback support-bundle, which sees them."""
        script = " && ".join(self.mounts + ['exec loopback support-bundle "$@"'])
        return ["unshare", "--mount", "sh", "-c", script, "-", *words]


@pytest.fixture(name="stand")
def make_stand(place):
    return Stand(place)


@pytest.fixture(name="planted")
def make_planted(fleet):
    """Settings with secrets on h1."""
    host = fleet.host("h1")
    folder = os.path.join(host.rig.folder, "h1")
    for name, text in ENVIRONMENT.items():
        host.enter("sh", "-c", 'cat >"$1" && chmod 600 "$1"', "-", "/etc/loopback/" + name, input=text)
    yield folder
    for name in ENVIRONMENT:
        host.enter("rm", "/etc/loopback/" + name)


def unpack(path):
    """{name: bytes}"""
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert all(member.isreg() and member.mode == 0o600 and member.name.startswith("loopback-support/") for member in members)
        return {member.name.partition("/")[2]: tar.extractfile(member).read() for member in members}


def search(content, secrets):
    """Every (secret, form) that is found in a bundle's bytes."""
    return [(name, form) for name, secret in secrets.items() for form, needle in forms(secret).items() if needle in content]


def test_what_is_in_it(fleet, place):
    host, path = fleet.host("h1"), str(place / "bundle.tar")
    said = json.loads(host.enter("loopback", "support-bundle", "--json", "--output", path, timeout=120).stdout)
    stat = os.stat(path)
    assert stat.st_mode & 0o7777 == 0o600 and said["bytes"] == stat.st_size and said["file"] == path
    pieces = unpack(path)
    assert said["pieces"] == len(pieces) - 1 and said["not_whole"] == 0
    assert json.loads(pieces["status.json"])["state"] == "running"
    assert len(json.loads(pieces["mesh.json"])["peer_list"]) == len(fleet.status()["hosts"]) - 1
    assert json.loads(pieces["audit.json"]) and json.loads(pieces["doctor.json"])["root"]
    assert b"PRETTY_NAME=" in pieces["system.txt"] and b"Linux version" in pieces["system.txt"]
    assert b"netd 0." in pieces["version/netd.txt"] and b"lb0" in pieces["network/links.txt"]
    assert b"100.64.0.0/16" in pieces["network/routes4.txt"] and b"from all lookup main" in pieces["network/rules4.txt"]
    assert b"UTC" in pieces["clock.txt"] and b"net/ipv4/ip_forward = " in pieces["network/sysctls.txt"]
    files = pieces["files.txt"].decode().splitlines()
    assert any(line.startswith("- 0600 _lb-netd") and line.endswith("/var/lib/loopback/netd/host.key") for line in files)
    manifest = pieces["MANIFEST.txt"].decode()
    assert "Left out on purpose" in manifest and all(name in manifest for name in pieces if name != "MANIFEST.txt")
    # What a plain tar says of it too.
    listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(listed) == len(pieces)


@pytest.fixture(name="next_key")
def next_key_of_h1(fleet):
    """A next WireGuard key in h1's file, as while it is being replaced (libjournal/keys.h); netd reads the file when it starts."""
    path, key = os.path.join(fleet.host("h1").folder, "lib/netd/wg.key"), os.urandom(32)
    with open(path, "r+b") as file:
        before = file.read()
        assert len(before) == 48
        file.write((2).to_bytes(8, "big") + key)
    yield key
    with open(path, "r+b") as file:
        file.truncate(len(before))


def test_no_secret_of_a_host_in_any_form(fleet, place, stand, planted, next_key):
    """The journal holds every secret in every form, environment files hold some; the bundle none, and the rest of the lines."""
    host = fleet.host("h1")
    secrets = secrets_of(host)
    secrets["next WireGuard key"] = next_key
    assert {"host key", "WireGuard key", "transport key"} <= set(secrets)
    secrets["proxy password"] = PROXY_PASSWORD.encode()
    secrets["proxy, user and password"] = f"{PROXY_USER}:{PROXY_PASSWORD}".encode()
    secrets["api secret"], secrets["option"] = PLANTED["api secret"].encode(), PLANTED["option"].encode()
    journal = place / "journal"
    lines = [b"begin of the journal"]
    for name, secret in secrets.items():
        for form, needle in forms(secret).items():
            lines.append(f"line of {name} as {form}: ".encode() + needle + b" and on")
            if form.startswith("base64 at"):
                shift = int(form[-1])
                lines.append(b"embedded: " + base64.b64encode(b"x" * shift + secret + b"tail") + b" and on")
    lines += [PLANTED[name].encode() + b" and on" for name in ("unseen token", "unseen url", "unseen bearer")]
    lines += [b'curl password="Zs6-quoted words-5" and on', b"-----BEGIN PRIVATE KEY-----",
              b"TUlJRXZnSUJBREFOQmdrcWhraUc5", b"-----END PRIVATE KEY-----"]
    journal.write_bytes(b"\n".join(lines) + b"\nend of the journal\n")
    stand.add("/usr/bin/journalctl", f"cat {journal}\n")
    path = str(place / "bundle.tar")
    host.enter(*stand.command("--output", path), timeout=120)
    pieces = unpack(path)
    seen = pieces["journal/loopback-netd.service.txt"]
    assert seen.startswith(b"begin of the journal\n") and seen.endswith(b"\nend of the journal\n")
    assert len(seen) == journal.stat().st_size
    assert seen.count(b" and on") == sum(line.endswith(b" and on") for line in lines)
    with open(path, "rb") as file:
        content = file.read()
    for name in ("comment", "unseen token", "unseen bearer"):
        secrets[name] = PLANTED[name].rpartition(" ")[2].partition(".")[2 if name == "unseen token" else 0].encode()
    secrets.update({"somebody's password": b"Xe4-some-password", "quoted": b"Zs6-quoted words-5",
                    "pem": b"TUlJRXZnSUJBREFOQmdrcWhraUc5"})
    secrets["unseen token"] = secrets["unseen token"].partition(b".")[0]
    control = journal.read_bytes()
    assert search(control, secrets), "the search finds what is there"
    assert {name for name, _ in search(control, secrets)} == set(secrets) - {"comment"}
    assert search(content, secrets) == []
    environment = pieces["environment.txt"].decode()
    assert "API_SECRET=[left out]" in environment
    assert "no_proxy=198.18.0.10" in environment and "LOOPBACK_LOG_LEVEL=info" in environment
    assert "OTHER_OPTIONS= --state /x [left out] --listen-port 51820" in environment and "@proxy.example:3128" in environment


def test_no_secret_of_a_control_plane(fleet, place, stand):
    host = fleet.host("cp")
    secrets = secrets_of(host)
    assert {"online key", "credential"} <= set(secrets)
    journal = place / "journal"
    journal.write_bytes(b"".join(needle + b"\n" for secret in secrets.values() for needle in forms(secret).values()))
    stand.add("/usr/bin/journalctl", f"cat {journal}\n")
    path = str(place / "bundle.tar")
    host.enter(*stand.command("--output", path), timeout=120)
    with open(path, "rb") as file:
        assert search(file.read(), secrets) == []
    assert search(journal.read_bytes(), secrets) != []


def test_a_piece_that_hangs_or_floods_does_not_hold_it_up(fleet, place, stand):
    stand.add("/usr/bin/timedatectl", "echo first line; printf half; sleep 1000 & wait\n")
    stand.add("/usr/bin/uname", "yes 'one of very many lines'\n")
    path, begun = str(place / "bundle.tar"), time.monotonic()
    said = json.loads(fleet.host("h1").enter(*stand.command("--json", "--output", path), timeout=120).stdout)
    assert time.monotonic() - begun < 60
    pieces = unpack(path)
    assert said["not_whole"] == 2 and pieces["time.txt"] == b"first line\n"
    assert len(pieces["kernel.txt"]) <= 4 << 20 and pieces["kernel.txt"].endswith(b"many lines\n")
    manifest = {line.split()[0]: line for line in pieces["MANIFEST.txt"].decode().splitlines() if line}
    assert "NOT WHOLE: it was given 10 s" in manifest["time.txt"] and "NOT WHOLE: cut at 4 MiB" in manifest["kernel.txt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(fleet, place, stand, number):
    """No file, no part of one, none of the programs that it had started."""
    mark = place / "started"
    stand.add("/usr/bin/timedatectl", f"echo $$ >{mark}; sleep 1000 & wait\n")
    host = fleet.host("h1")
    process = host.popen(*stand.command("--output", str(place / "bundle.tar")), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    wait_until("the piece that hangs", mark.exists, 30)
    wait_until("its number", mark.read_text)
    begun = time.monotonic()
    process.send_signal(number)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode == 130 and "no file was made" in complaint and time.monotonic() - begun < 3
    assert [name for name in os.listdir(place) if name.startswith("bundle")] == []
    assert not os.path.exists(f"/proc/{mark.read_text().strip()}")


def test_what_exists_stays(fleet, place):
    path = place / "bundle.tar"
    path.write_text("somebody's", encoding="ascii")
    done = fleet.host("h1").enter("loopback", "support-bundle", "--output", str(path), check=False)
    assert done.returncode == 1 and "exists and stays as it is" in done.stderr
    assert path.read_text(encoding="ascii") == "somebody's" and os.listdir(place) == ["bundle.tar"]


def test_a_disk_that_is_full(fleet, place):
    """It says so and leaves nothing."""
    full = place / "full"
    full.mkdir()
    script = (f"mount -t tmpfs -o size=16k none {full} && loopback support-bundle --output {full}/bundle.tar; s=$?; "
              f"ls -A {full}; exit $s")
    done = fleet.host("h1").enter("unshare", "--mount", "sh", "-c", script, check=False, timeout=120)
    assert done.returncode == 1 and "No space left on device; no file was made" in done.stderr and done.stdout == ""


def test_only_root(fleet, place):
    done = fleet.host("h1").enter("setpriv", "--reuid=nobody", "--clear-groups", "loopback", "support-bundle", "--output",
                                  str(place / "b.tar"),
                                  check=False)
    assert done.returncode == 1 and "only root" in done.stderr


def test_progress_is_for_terminals(fleet, place):
    host = fleet.host("h1")
    terminal, end = os.openpty()
    process = host.popen("loopback", "support-bundle", "--output", str(place / "one.tar"), stdout=subprocess.DEVNULL, stderr=end)
    os.close(end)
    shown = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(terminal)
    assert process.wait(60) == 0 and b"1/" in shown and b"interfaces" in shown
    done = host.enter("loopback", "support-bundle", "--output", str(place / "two.tar"), timeout=120)
    assert done.stderr == "" and done.stdout.startswith(str(place / "two.tar"))
