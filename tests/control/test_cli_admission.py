# SPDX-License-Identifier: Apache-2.0
"""loopbackctl and locked networks: an operator's own key, and a control plane that is believed in nothing; real controld and signd behind it."""

import base64
import http.client
import http.server
import json
import os
import stat
import subprocess
import threading

import pytest
import wire
from agent import Agent
from cli_console import Console, program
from plane import keyset


class Liar(http.server.BaseHTTPRequestHandler):
    """A control plane that was taken over: passes everything on, and alters answers as a test says."""

    def pass_on(self):
        """Ask the real one."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.plane.port, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        if self.server.lie and answer.status == 200:
            data = self.server.lie(self.command, self.path, json.loads(data), data)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"] or "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        connection.close()

    do_GET = do_PUT = do_POST = pass_on

    def log_message(self, *_):
        """Silence."""


@pytest.fixture(name="console")
def console_fixture(plane, tmp_path):
    """An operator with a key that the keyset lists, whose control plane is behind a liar that does not lie yet."""
    console = Console(tmp_path)
    console.key = console.json("operator", "create", "--out", "op.key", "--name", "ann")["operator_public"]
    plane.operator.public = bytes.fromhex(console.key)  # for agents, which verify lists
    assert plane.publish(keyset(plane.root, [plane.signd.public], generation=2, operators=[bytes.fromhex(console.key)])).status == 200
    console.write("credential", plane.credential + "\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    server.plane, server.lie = plane, None
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    console.server = server
    console.ok("context", "set", "lab", "--url", f"http://127.0.0.1:{server.server_port}", "--credential-file", "credential", "--root-pub",
               os.path.join(plane.folder, "root.pub"))
    yield console
    server.shutdown()
    server.server_close()


def test_operator_keys_are_kept_like_root_keys(console):
    assert stat.S_IMODE(os.stat(console.file("op.key")).st_mode) == 0o600
    assert "exists" in console.refuses(1, "operator", "create", "--out", "op.key")
    console.write("pass", "correct horse\n")
    made = console.json("operator", "create", "--out", "locked.key", "--passphrase-file", "pass")
    with open(console.file("locked.key"), encoding="ascii") as file:
        text = file.read()
    assert text.startswith("loopback operator key 1\n") and "seed:" not in text and made["operator_public"] in text
    lock = ["network", "lock", "mesh", "--admit", "00" * 16, "--operator-key"]
    assert "does not list this key" in console.refuses(1, *lock, "locked.key", "--passphrase-file", "pass")
    console.write("wrong", "battery staple\n")
    assert "wrong passphrase" in console.refuses(1, *lock, "locked.key", "--passphrase-file", "wrong")
    os.chmod(console.file("op.key"), 0o644)
    assert "can be read by others" in console.refuses(1, *lock, "op.key")
    console.ok("root", "create", "--out", "k", "--name", "x")
    assert "loopback operator key 1" in console.refuses(1, *lock, "k/root.key"), "a root key is no operator's key"
    assert "loopback root key 1" in console.refuses(1, "root", "print", "locked.key"), "nor the other way round"


def test_lock_admit_evict_unlock(console, plane, enrolled):
    one, two = enrolled(1), enrolled(2)
    key = ("--operator-key", "op.key")
    assert "who is admitted?" in console.refuses(2, "network", "lock", "mesh", *key)
    shown = console.json("network", "lock", "mesh", *key, "--admit", one.id.hex())
    assert (shown["locked"], shown["generation"], shown["hosts"]) == (True, 1, [one.id.hex()])
    one.apply()
    two.apply()
    assert set(one.peers(plane.network)) == {one.id} and two.network_ids() == []
    shown = console.json("network", "admission", "mesh")
    assert shown["awaiting"] == [{"id": two.id.hex(), "name": "h2"}]
    assert console.json("network", "show", "mesh")["locked"] is True
    assert "Awaiting  " in console.ok("network", "admission", "mesh") and "h2" in console.ok("network", "admission", "mesh")
    # By its name only a person who compares admits a host; its id is enough for a program.
    assert "loopback status" in console.refuses(1, "host", "admit", "h2", "--network", "mesh", *key)
    assert console.json("host", "admit", two.id.hex(), "--network", "mesh", *key)["generation"] == 2
    assert "already" in console.refuses(1, "host", "admit", two.id.hex(), "--network", "mesh", *key)
    one.apply()
    assert set(one.peers(plane.network)) == {one.id, two.id}
    assert console.json("host", "evict", "h2", "--network", "mesh", *key)["generation"] == 3
    assert "not on the list" in console.refuses(1, "host", "evict", "h2", "--network", "mesh", *key)
    said = console.ctl("host", "retire", "h2").stderr
    assert "admission list" not in said, said
    one.apply()
    assert set(one.peers(plane.network)) == {one.id}
    assert console.json("network", "unlock", "mesh", *key)["locked"] is False
    assert "not locked" in console.refuses(1, "network", "unlock", "mesh", *key)
    one.apply()
    assert len(one.peers(plane.network)) == 1
    three = enrolled(3)
    assert console.json("network", "lock", "mesh", *key, "--all", "--bridge", "07" * 16, "--generation", "9")["generation"] == 9
    assert console.json("network", "admission", "mesh")["bridges"] == ["07" * 16]
    assert f"host evict {three.id.hex()} --network mesh" in console.ctl("host", "retire", "h3").stderr
    assert "greater number" in console.refuses(2, "network", "lock", "mesh", *key, "--generation", "9")


def on_terminal(console, typed, *arguments):
    """loopbackctl with a person at the keyboard; (exit status, what it said)."""
    ours, theirs = os.openpty()
    try:
        os.write(ours, typed.encode())
        done = subprocess.run([program("loopbackctl"), *arguments], cwd=console.folder, env=console.variables, stdin=theirs, text=True,
                              capture_output=True, timeout=60, check=False)
        return done.returncode, done.stderr
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_person_who_gives_a_name_compares(console, plane, enrolled):
    """The control plane says who the name is; the host itself says whether that is true."""
    one, two = enrolled(1), enrolled(2)
    key = ("--operator-key", "op.key")
    console.ok("network", "lock", "mesh", *key, "--admit", one.id.hex())
    admit = ("host", "admit", "h2", "--network", "mesh", *key)
    for typed in ("\n", two.id.hex()[:8] + "\n", "0" * 8 + "\n", two.id.hex() + "\n"):
        status, said = on_terminal(console, typed, *admit)
        assert status == 1 and two.id.hex() in said and "nothing is signed" in said, said
    # What a control plane does that wants another host in: its own, under this one's name.
    other = wire.host_id(wire.Key("another host").public)

    def lie(method, path, answer, data):
        return json.dumps(dict(answer, id=other.hex())).encode() if path.endswith("/hosts/h2") else data
    console.server.lie = lie
    status, said = on_terminal(console, two.id.hex()[-8:] + "\n", *admit)
    assert status == 1 and other.hex() in said and "nothing is signed" in said, said
    console.server.lie = None
    status, said = on_terminal(console, two.id.hex()[-8:] + "\n", *admit)
    assert status == 0, said
    one.apply()
    assert set(one.peers(plane.network)) == {one.id, two.id}


def test_a_long_list_goes_in_parts(console, plane, enrolled):
    """More than one call takes: the network is not locked before the last of them."""
    one = enrolled(1)
    hosts = [wire.hash_of(b"%d" % number)[:16].hex() for number in range(3100)]
    lock = ("network", "lock", "mesh", "--operator-key", "op.key", "--admit", one.id.hex(), "--admit-file", "-")
    assert "--admit-file: 'x'" in console.refuses(2, *lock, stdin="x\n")
    shown = console.json(*lock, stdin="\n".join(hosts) + "\n")
    assert shown["count"] == 3101 and shown["generation"] == 3
    one.apply()
    assert set(one.peers(plane.network)) == {one.id} and len(one.admitted(plane.network)) == 3101
    assert [entry["detail"] for entry in plane.ok("GET", "/audit")["items"] if entry["what"].endswith("admission")] == \
        ["list 1, 1500 hosts, unlocked", "list 2, 3000 hosts, unlocked", "list 3, 3101 hosts, locked"]


def admission(alter):
    """A lie about the answer that shows a list."""
    def lie(method, path, answer, data):
        if method != "GET" or not path.endswith("/admission"):
            return data
        alter(answer)
        return json.dumps(answer).encode()
    return lie


LIES = {
    "a host more": ("not those of the signed list", lambda answer: answer["hosts"].append({"id": "ff" * 16, "since": 1})),
    "a later admission": ("not those of the signed list", lambda answer: answer["hosts"][0].update(since=9)),
    "a host less": ("not those of the signed list", lambda answer: answer["hosts"].pop()),
    "no list": ("hosts without a list", lambda answer: answer.update(envelope=None)),
    "no list and no hosts": ("were seen|was seen", lambda answer: answer.update(envelope=None, hosts=[])),
    "a damaged list": ("not signed by an operator", lambda answer: answer.update(envelope=answer["envelope"][:-8] + "AAAAAAA=")),
    "another network": ("another network", lambda answer: answer.update(name="other")),
    "another network under this name": ("on this machine it was", lambda answer: answer.update(id="ab" * 16, envelope=None, hosts=[])),
}


@pytest.mark.parametrize("name", LIES)
def test_a_control_plane_that_lies(console, plane, enrolled, name):
    """Nothing is signed on top of what operators did not sign."""
    one = enrolled(1)
    key = ("--operator-key", "op.key")
    console.ok("network", "lock", "mesh", *key, "--admit", one.id.hex())
    words, alter = LIES[name]
    console.server.lie = admission(alter)
    said = console.refuses(1, "host", "admit", "ee" * 16, "--network", "mesh", *key)
    assert any(word in said for word in words.split("|")), said
    console.server.lie = None
    assert plane.ok("GET", "/networks/mesh/admission")["generation"] == 1


def test_an_older_list_is_not_gone_on_from(console, plane, enrolled):
    """Shown the list from before an eviction, an operator who admits somebody else would sign the evicted host in again."""
    one, two = enrolled(1), enrolled(2)
    key = ("--operator-key", "op.key")
    console.ok("network", "lock", "mesh", *key, "--all")
    old = plane.ok("GET", "/networks/mesh/admission")
    console.ok("host", "evict", two.id.hex(), "--network", "mesh", *key)
    console.server.lie = admission(lambda answer: answer.update(old))
    said = console.refuses(1, "host", "admit", "ee" * 16, "--network", "mesh", *key)
    assert "list 1" in said and "list 2 was seen here" in said and "--accept-older" in said
    assert "OLDER" in console.ctl("network", "admission", "mesh").stderr
    # A control plane that really was restored: the operator looks, says so, and the next list is newer than all that were seen.
    console.server.lie = None
    plane.stop()
    import sqlite3
    with sqlite3.connect(os.path.join(plane.state, "control.db")) as database:
        database.execute("DELETE FROM documents WHERE type = 8")
        database.execute("UPDATE admissions SET ids = x''")
    plane.start()
    assert "was seen here" in console.refuses(1, "network", "lock", "mesh", *key, "--admit", one.id.hex())
    assert console.json("network", "lock", "mesh", *key, "--admit", one.id.hex(), "--accept-older")["generation"] == 3


def test_an_older_keyset_is_not_gone_by(console, plane, enrolled):
    """Shown the keyset that lists a withdrawn key, and a list of that key, an operator would sign that list's hosts in."""
    one, gone = enrolled(1), wire.Key("withdrawn")
    key = ("--operator-key", "op.key")
    operators = [bytes.fromhex(console.key)]
    old = keyset(plane.root, [plane.signd.public], generation=3, operators=operators + [gone.public])
    assert plane.publish(old).status == 200
    assert plane.publish(keyset(plane.root, [plane.signd.public], generation=4, operators=operators)).status == 200
    console.ok("network", "lock", "mesh", *key, "--admit", one.id.hex())
    organization = bytes.fromhex(plane.ok("GET", "/networks/mesh")["organization"])
    root, _ = wire.listing({one.id: 1, bytes(16): 1})
    theirs = wire.envelope(wire.ADMISSION, [wire.header(plane.deployment, organization, plane.network, 1, 50), 1, 2, root, []], gone)

    def lie(method, path, answer, data):
        if method == "GET" and path.endswith("/keyset"):
            answer["envelope"] = base64.b64encode(old).decode()
        elif method == "GET" and path.endswith("/admission"):
            answer.update(envelope=base64.b64encode(theirs).decode(), generation=50, hosts=[{"id": name.hex(), "since": 1} for name in (bytes(16), one.id)])
        else:
            return data
        return json.dumps(answer).encode()

    console.server.lie = lie
    said = console.refuses(1, "host", "admit", "ee" * 16, "--network", "mesh", *key)
    assert "keyset 4" in said and "withdrawn" in said
    assert plane.ok("GET", "/networks/mesh/admission")["generation"] == 1


def test_without_a_root_nothing_is_signed(console, plane):
    console.ok("context", "set", "bare", "--url", f"http://127.0.0.1:{console.server.server_port}", "--credential-file", "credential")
    assert "--root-pub" in console.refuses(1, "network", "lock", "mesh", "--operator-key", "op.key", "--admit", "00" * 16, "--context", "bare")
    # A keyset of the control plane's own making lists whatever operator it likes.
    other = wire.Key("another root")
    with open(console.file("other.pub"), "w", encoding="ascii") as file:
        file.write(other.public.hex() + "\n")
    console.ok("context", "set", "bare", "--root-pub", "other.pub")
    assert console.ctl("network", "lock", "mesh", "--operator-key", "op.key", "--admit", "00" * 16, "--context", "bare").returncode == 1
    assert plane.ok("GET", "/networks/mesh/admission")["generation"] == 0


def test_cosign(folder, tmp_path):
    """A change above signd's cap: refused, co-signed by an operator, made."""
    from plane import Plane
    plane = Plane(folder, signd_options=("--change-cap", "1"))
    plane.start()
    try:
        plane.network = bytes.fromhex(plane.furnish()["id"])
        console = Console(tmp_path)
        public = console.json("operator", "create", "--out", "op.key")["operator_public"]
        assert plane.publish(keyset(plane.root, [plane.signd.public], generation=2, operators=[bytes.fromhex(public)])).status == 200
        console.write("credential", plane.credential + "\n")
        console.ok("context", "set", "lab", "--url", f"http://127.0.0.1:{plane.port}", "--credential-file", "credential")
        token = plane.token()
        hosts = [Agent(plane, number).enrolled(token) for number in (1, 2, 3)]
        assert "No change" in console.refuses(1, "network", "cosign", "mesh", "--operator-key", "op.key")
        plane.ok("PUT", "/hosts/h1/endpoint", {"endpoint": "192.0.2.1:1"})  # one peer is within the cap
        plane.controld.stop()
        import sqlite3
        with sqlite3.connect(os.path.join(plane.state, "control.db")) as database:  # what a large change is made of
            database.execute("UPDATE hosts SET endpoint = '192.0.2.77:7'")
        plane.start_controld()
        console.ok("context", "set", "lab", "--url", f"http://127.0.0.1:{plane.port}")
        said = plane.refuses(409, "change-cap", "PUT", "/hosts/h2/endpoint", {"endpoint": "192.0.2.2:2"})
        assert "cosign" in said
        shown = console.json("network", "cosign", "mesh", "--operator-key", "op.key")
        assert shown["name"] == "mesh" and shown["peers"] == 3 and shown["generation"] == shown["in_force"] + 1
        plane.refuses(409, "change-cap", "PUT", "/hosts/h2/endpoint", {"endpoint": "192.0.2.3:3"})  # another change than the co-signed one
        console.ok("network", "cosign", "mesh", "--operator-key", "op.key")
        plane.ok("PUT", "/hosts/h2/endpoint", {"endpoint": "192.0.2.3:3"})
        hosts[0].apply()
        assert hosts[0].generation(plane.network) == shown["generation"]
    finally:
        plane.stop()
