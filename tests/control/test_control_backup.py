# SPDX-License-Identifier: Apache-2.0
"""Backups of controld and signd (C3): made while both run, verified before they are believed, and what becomes of a control plane that goes back."""

import hashlib
import os
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest
import wire
from agent import Agent
from cli_console import program
from plane import USER, Plane, keyset


def administrate(name, *words, check=True, **more):
    """A program as root runs it; returns subprocess.CompletedProcess."""
    done = subprocess.run([program(name), *words], capture_output=True, text=True, check=False, timeout=60, **more)
    assert not check or done.returncode == 0, done.stderr
    return done


def new_state(folder, name):
    """An empty state folder of the daemons' user."""
    path = os.path.join(folder, name)
    os.mkdir(path, 0o700)
    shutil.chown(path, USER, "nogroup")
    return path


def backup(plane, name="backup"):
    """(controld's, signd's) backup, in a folder that only root may enter."""
    folder = os.path.join(plane.folder, name)
    os.mkdir(folder, 0o700)
    paths = [os.path.join(folder, daemon) for daemon in ("controld", "signd")]
    for path, state in zip(paths, (plane.state, plane.signd.state)):
        administrate(os.path.basename(path), "backup", path, "--state", state)
    return paths


def lose(plane, *daemons):
    """The disks of these are gone; the folders are there again, empty."""
    plane.stop()
    for daemon in daemons:
        state = plane.state if daemon == "controld" else plane.signd.state
        shutil.rmtree(state)
        new_state(plane.folder, os.path.basename(state))


def restore(plane, paths, *options):
    """Both, onto empty disks; the new online key is listed by a keyset of epoch 2, which is published."""
    said = administrate("controld", "restore", paths[0], "--state", plane.state, *options).stdout
    plane.signd.public = bytes.fromhex(administrate("signd", "restore", paths[1], "--state", plane.signd.state).stdout.strip())
    plane.start()
    return said


def level(plane, hosts, epoch, seconds=5):
    """Wait until each host has everything of an epoch."""
    until = time.monotonic() + seconds
    for host in hosts:
        while True:
            answer = host.poll()
            if answer.status == 200:
                host.apply()
                if all(entry[2] == epoch for entry in host.entries.values()):
                    break
            assert time.monotonic() < until, (answer.status, answer.body, host.entries)
            time.sleep(0.05)


# -- making one

def test_a_backup_is_for_its_owner_and_says_what_it_is(plane, enrolled):
    enrolled(1)
    for path, name in zip(backup(plane), ("controld", "signd")):
        assert os.stat(path).st_mode & 0o7777 == 0o600 and os.stat(path).st_uid == 0
        with open(path, "rb") as file:
            head = file.read(512).decode()
            assert re.match(rf"loopback backup 1\nof {name}\nschema \d+\nversion \S+\nmade \d+\nbytes {os.path.getsize(path) - 512}\nblake2b-256 [0-9a-f]{{64}}\n\n", head)
            assert file.read(16) == b"SQLite format 3\0"
        state = plane.state if name == "controld" else plane.signd.state
        assert not [left for left in os.listdir(state) if "partial" in left]


def test_no_key_and_no_secret_is_in_it(plane, enrolled):
    """Neither the online key nor what a token or a credential is proved by."""
    enrolled(1)
    token = plane.token()
    with open(os.path.join(plane.signd.state, "online.key"), "rb") as file:
        secret = file.read()
    for path in backup(plane):
        with open(path, "rb") as file:
            content = file.read()
        for wanted in (secret, secret.hex().encode(), token.split(".")[1].encode(), plane.credential.split(".")[1].encode()):
            assert wanted not in content


def test_made_while_hosts_come(plane):
    """Each backup is of one moment: whatever was under way, what it holds fits together."""
    token, done = plane.token(), threading.Event()

    def enrol():
        number = 10
        while not done.is_set():
            Agent(plane, number).enrolled(token)
            number += 1
    thread = threading.Thread(target=enrol)
    thread.start()
    try:
        made = [backup(plane, f"backup{number}") for number in range(4)]
    finally:
        done.set()
        thread.join()
    counts = []
    for number, (control, _) in enumerate(made):
        state = new_state(plane.folder, f"restored{number}")
        administrate("controld", "restore", control, "--state", state)
        with sqlite3.connect(os.path.join(state, "control.db")) as database:
            hosts, members, documents = [database.execute(f"SELECT count(*) FROM {what}").fetchone()[0] for what in (
                "hosts", "memberships", "documents WHERE type = 4")]
            assert hosts == members == documents
            counts.append(hosts)
            assert os.stat(os.path.join(state, "control.db")).st_uid == pwd.getpwnam(USER).pw_uid
    assert counts == sorted(counts) and counts[-1] > counts[0]


@pytest.mark.parametrize("name", ["controld", "signd"])
def test_backups_that_cannot_be(plane, name, tmp_path):
    state = plane.state if name == "controld" else plane.signd.state
    there = tmp_path / "there"
    there.write_text("mine")
    for words, says in (
            ((str(there), "--state", state), "not written over"), (("/nonexistent/x", "--state", state), "cannot write"),
            ((str(tmp_path / "x"), "--state", "/nonexistent"), "/nonexistent"), ((str(tmp_path / "x"), "--state", str(tmp_path)), "cannot be copied"),
            (("/dev/full", "--state", state), "not written over"), ((str(tmp_path / "x"),), "--state"), (("--state", state), "not understood")):
        done = administrate(name, "backup", *words, check=False)
        assert done.returncode == 1 and says in done.stderr, done.stderr
    assert there.read_text() == "mine" and os.listdir(tmp_path) == ["there"]


def test_a_full_disk_leaves_no_backup(plane, folder):
    """Where the backup goes, and where the copy is made of which it comes."""
    small = os.path.join(folder, "small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        done = administrate("controld", "backup", os.path.join(small, "x"), "--state", plane.state, check=False)
        assert done.returncode == 1 and "No space left" in done.stderr and os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)
    plane.ok("GET", "/hosts")


def test_interrupted(plane, tmp_path):
    """A Ctrl-C leaves neither a file nor a lock; the next one works."""
    with sqlite3.connect(os.path.join(plane.state, "control.db"), timeout=10) as database:
        database.execute("CREATE TABLE ballast (bytes BLOB)")
        database.executemany("INSERT INTO ballast VALUES (randomblob(1000000))", [()] * 150)
    shutil.chown(os.path.join(plane.state, "control.db"), USER, "nogroup")
    def begun(process):
        """Something of the copy is there, wherever it is made."""
        return os.listdir(tmp_path) or [name for name in os.listdir(plane.state) if "partial" in name] or process.poll() is not None

    for later in (None, 0, 0.02):  # at once, at the first sign of the copy, and while it grows
        process = subprocess.Popen([program("controld"), "backup", str(tmp_path / "x"), "--state", plane.state], stderr=subprocess.PIPE, text=True,
                                   start_new_session=True)
        while later is not None and not begun(process):
            time.sleep(0.001)
        time.sleep(later or 0.01)
        os.killpg(process.pid, signal.SIGINT)
        words = process.communicate(timeout=10)[1]
        assert process.returncode == 1 and "interrupted" in words or process.returncode == -signal.SIGINT, (process.returncode, words)
        assert os.listdir(tmp_path) == []
    administrate("controld", "backup", str(tmp_path / "x"), "--state", plane.state)
    assert not [left for left in os.listdir(plane.state) if "partial" in left]


# -- restoring one

def damaged(path, how):
    """A copy of a backup with something wrong."""
    with open(path, "rb") as file:
        content = bytearray(file.read())
    if how == "cut":
        content = content[:-1]
    elif how == "cut to its head":
        content = content[:512]
    elif how == "longer":
        content += b"x"
    elif how == "one bit":
        content[len(content) // 2] ^= 1
    elif how == "never finished":
        content[:512] = bytes(512)
    elif how == "another head":
        content[:512] = content[:512].replace(b"bytes ", b"bytes 0", 1)[:512]
    elif how == "newer":
        head = re.sub(rb"schema (\d+)", b"schema 99", bytes(content[:512]))[:512]
        content[:512] = head + b"\n" * (512 - len(head))
    elif how == "empty":
        content = bytearray()
    elif how == "a database":
        content = content[512:]
    with open(path + ".damaged", "wb") as file:
        file.write(content)
    return path + ".damaged"


@pytest.mark.parametrize("name", ["controld", "signd"])
@pytest.mark.parametrize("how, says", [
    ("cut", "damaged"), ("cut to its head", "damaged"), ("longer", "damaged"), ("one bit", "damaged"), ("never finished", "cut off"),
    ("another head", "expected a backup"), ("newer", "schema 99"), ("empty", "expected a backup"), ("a database", "expected a backup"),
])
def test_a_damaged_backup_restores_nothing(plane, name, how, says):
    path = damaged(backup(plane)[0 if name == "controld" else 1], how)
    state = new_state(plane.folder, "new")
    done = administrate(name, "restore", path, "--state", state, check=False)
    assert done.returncode == 1 and says in done.stderr, done.stderr
    assert os.listdir(state) == []


def test_a_backup_of_the_other_program(plane):
    paths, state = backup(plane), new_state(plane.folder, "new")
    for name, path in zip(("signd", "controld"), paths):
        done = administrate(name, "restore", path, "--state", state, check=False)
        assert done.returncode == 1 and "expected a backup made by" in done.stderr and os.listdir(state) == []


def test_what_is_there_is_never_written_over(plane):
    control, signd = backup(plane)
    for name, path, state in (("controld", control, plane.state), ("signd", signd, plane.signd.state)):
        before = {file: os.stat(os.path.join(state, file)).st_ino for file in os.listdir(state)}
        done = administrate(name, "restore", path, "--state", state, check=False)
        assert done.returncode == 1 and "is there already" in done.stderr
        assert {file: os.stat(os.path.join(state, file)).st_ino for file in os.listdir(state)} == before
    plane.ok("GET", "/hosts")
    # the log of another database would be played into the restored one
    state = new_state(plane.folder, "new")
    open(os.path.join(state, "control.db-wal"), "wb").close()
    done = administrate("controld", "restore", control, "--state", state, check=False)
    assert done.returncode == 1 and "control.db-wal" in done.stderr
    # an online key that is there is not replaced
    state = new_state(plane.folder, "newer")
    shutil.copy(os.path.join(plane.signd.state, "online.key"), state)
    done = administrate("signd", "restore", signd, "--state", state, check=False)
    assert done.returncode == 1 and "there is a key already" in done.stderr and os.listdir(state) == ["online.key"]


def test_restored_whole(plane, enrolled):
    """Both disks lost: hosts, addresses and networks are there again, in a new epoch, which hosts accept though its generations are lower."""
    hosts = [enrolled(number) for number in range(3)]
    for host in hosts:
        host.apply()
    addresses = {entry["name"]: entry["addresses"] for entry in plane.status()["hosts"]}
    paths = backup(plane)
    for number in (7, 8):  # generations that the restored control plane does not know of
        enrolled(number)
    for host in hosts:
        host.apply()
    assert hosts[0].entries[wire.NETWORK, plane.network][3] == 6
    lose(plane, "controld", "signd")
    said = restore(plane, paths)
    assert "deployment test, 3 hosts, 1 networks, keyset of epoch 1 generation 1" in said and "epoch 2" in said
    # nothing is signed by the key that the root has not seen
    assert "online key" in plane.refuses(409, "signer-refused", "DELETE", f"/hosts/{hosts[0].name}/networks/mesh")
    assert hosts[0].poll().status == 503
    assert plane.publish(keyset(plane.root, [plane.signd.public], epoch=2)).status == 200
    level(plane, hosts, epoch=2)
    assert {entry["name"]: entry["addresses"] for entry in plane.status()["hosts"]} == addresses
    assert all(len(host.peers(plane.network)) == 3 for host in hosts)


def test_tokens_die_and_credentials_live(plane, enrolled, tmp_path):
    enrolled(1)
    token = plane.token()
    paths = backup(plane)
    lose(plane, "controld", "signd")
    said = restore(plane, paths, "--new-credential")
    assert plane.publish(keyset(plane.root, [plane.signd.public], epoch=2)).status == 200
    assert "tokens are revoked" in said
    answer = Agent(plane, 5).enroll(token)
    assert (answer.status, answer.msgpack[0]) == (401, "token-revoked")
    with open(os.path.join(plane.state, "admin.credential"), encoding="ascii") as file:
        plane.ok("GET", "/audit")
        assert plane.call("GET", "/audit", credential=file.read().strip()).status == 200
    assert plane.ok("GET", "/audit")["items"][-1]["what"] == "PUT /v1/keyset"
    assert "restore" in [entry["what"] for entry in plane.ok("GET", "/audit")["items"]]
    state = new_state(plane.folder, "kept")
    assert "revoked; make" not in administrate("controld", "restore", paths[0], "--state", state, "--keep-tokens").stdout


def test_retired_since(plane, enrolled):
    """--retire keeps a host out that a backup would bring back: nobody is ever told of it, and its address is free."""
    hosts = [enrolled(number) for number in range(3)]
    paths = backup(plane)
    address = next(entry["addresses"] for entry in plane.status()["hosts"] if entry["name"] == hosts[1].name)
    plane.ok("POST", f"/hosts/{hosts[1].name}/retire")
    lose(plane, "controld", "signd")
    for wrong in ("nobody", "../x", "' OR 1=1 --"):
        done = administrate("controld", "restore", paths[0], "--state", plane.state, "--retire", wrong, check=False)
        assert done.returncode == 1 and "no such host" in done.stderr and os.listdir(plane.state) == []
    restore(plane, paths, "--retire", hosts[1].name)
    assert plane.publish(keyset(plane.root, [plane.signd.public], epoch=2)).status == 200
    level(plane, [hosts[0], hosts[2]], epoch=2)
    assert len(hosts[0].peers(plane.network)) == 2 and hosts[1].poll().status == 410
    newcomer = Agent(plane, 9).enrolled(plane.token())
    assert next(entry["addresses"] for entry in plane.status()["hosts"] if entry["name"] == newcomer.name) == address


def test_retired_since_and_not_named(plane, enrolled):
    """What a backup does without --retire, as docs/design/control-plane.md has it: the host is a member again, until it is retired again."""
    hosts = [enrolled(number) for number in range(3)]
    paths = backup(plane)
    plane.ok("POST", f"/hosts/{hosts[1].name}/retire")
    assert hosts[1].poll().status == 410
    lose(plane, "controld", "signd")
    restore(plane, paths)
    assert plane.publish(keyset(plane.root, [plane.signd.public], epoch=2)).status == 200
    level(plane, hosts, epoch=2)
    assert len(hosts[0].peers(plane.network)) == 3
    plane.ok("POST", f"/hosts/{hosts[1].name}/retire")
    hosts[0].apply()
    assert len(hosts[0].peers(plane.network)) == 2 and hosts[1].poll().status == 410


def test_enrolled_since(plane, enrolled):
    """It is unknown; it enrols again, as itself, with a new token."""
    enrolled(1)
    paths = backup(plane)
    later = enrolled(2)
    later.apply()
    lose(plane, "controld", "signd")
    restore(plane, paths)
    assert plane.publish(keyset(plane.root, [plane.signd.public], epoch=2)).status == 200
    answer = later.poll()
    assert (answer.status, answer.msgpack[0]) == (401, "unknown-host")
    later.enrolled(plane.token())
    level(plane, [later], epoch=2)
    assert later.id.hex() in [entry["id"] for entry in plane.status()["hosts"]]


def test_signd_lives_and_controld_goes_back(plane, enrolled):
    """signd remembers what it signed: documents go on after it, in the same epoch, and nobody has to fetch the root key."""
    hosts = [enrolled(number) for number in range(3)]
    paths = backup(plane)
    enrolled(7)
    for host in hosts:
        host.apply()
    before = hosts[0].entries[wire.NETWORK, plane.network][3]
    lose(plane, "controld")
    administrate("controld", "restore", paths[0], "--state", plane.state)
    plane.start()
    for host in hosts:
        host.apply()
        assert host.entries[wire.NETWORK, plane.network][2] == 1 and len(host.peers(plane.network)) == 3
    assert hosts[0].entries[wire.NETWORK, plane.network][3] > before
    Agent(plane, 8).enrolled(plane.token())


def test_the_schema_of_an_older_backup_is_brought_up_to_date(plane, enrolled):
    """A backup that the first released schema made."""
    enrolled(1)
    path = backup(plane)[0]
    with open(path, "rb") as file:
        content = file.read()
    old = os.path.join(plane.folder, "old.db")
    with open(old, "wb") as file:
        file.write(content[512:])
    with sqlite3.connect(old) as database:
        tables = ["packages", "admissions", "list_nodes", "bridge_ends", "bridges", "job_documents", "jobs", "duplicates", "rotations"]
        columns = {"memberships": ["waits"], "receipts": ["confirm", "mended"], "documents": ["peers"],
                   "hosts": ["health", "health_reason", "health_since", "document_generation", "mended", "mended_total", "mended_at", "moving", "assignable", "wg_assigned"]}
        for table in tables:
            database.execute(f"DROP TABLE {table}")
        for table, added in columns.items():
            for column in added:
                database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 1")
    with open(old, "rb") as file:
        body = file.read()

    head = re.sub(rb"schema \d+", b"schema 1", content[:512].rstrip(b"\n") + b"\n")
    head = re.sub(rb"blake2b-256 \S+", b"blake2b-256 " + hashlib.blake2b(body, digest_size=32).hexdigest().encode(), head)
    head = re.sub(rb"bytes \d+", b"bytes %d" % len(body), head)
    with open(path + ".old", "wb") as file:
        file.write(head + b"\n" * (512 - len(head)) + body)
    state = new_state(plane.folder, "new")
    administrate("controld", "restore", path + ".old", "--state", state)
    with sqlite3.connect(os.path.join(state, "control.db")) as database:
        assert database.execute("SELECT count(*) FROM packages").fetchone() == (0,)
