# SPDX-License-Identifier: Apache-2.0
"""WireGuard keys that the control plane makes (M10): only for hosts that take them, only in a box that the host alone opens, and nothing of them stays here."""

import os
import sqlite3
import time

import pytest
import wire
from agent import Agent
from test_control_admission import Lists


@pytest.fixture(name="hosts")
def hosts_fixture(plane):
    """One that takes keys, one that does not."""
    made = [Agent(plane, 1), Agent(plane, 2)]
    made[0].assignable = True
    token = plane.token()
    for host in made:
        host.enrolled(token)
        host.apply()
    return made


def rotate(plane, host, **body):
    """Ask for a new key of a host."""
    answer = plane.call("POST", f"/hosts/{host.name}/rotate-key", {"assigned": True, **body})
    assert answer.status == 202, answer.body
    return answer.json


def box_of(host):
    """The box in a host's document, once there is one."""
    for _ in range(100):
        host.apply()
        document = host.own_document()
        if document[4]:
            assert document[3] == host.counter
            return document[4]
        time.sleep(0.02)
    raise AssertionError("no box came")


def announce(host, key):
    """The registration names the key that is to follow."""
    host.next_key = (key, host.counter + 1)
    host.apply(registration=host.registration())


def row(plane, host):
    """The rotation, as the database has it."""
    with sqlite3.connect(f"file:{plane.state}/control.db?mode=ro", uri=True) as database:
        return database.execute("SELECT state, box, assigned_key FROM rotations WHERE host = ?", (host.id.hex(),)).fetchone()


def wait_state(plane, host, state, seconds=8):
    """Until the rotation has come so far."""
    until = time.monotonic() + seconds
    while row(plane, host)[0] != state:
        assert time.monotonic() < until, row(plane, host)
        time.sleep(0.05)


def settle(hosts):
    """Everybody applies what there is and says that it has moved."""
    for host in hosts:
        host.apply()
        host.apply(receipts=[host.receipt()])


def memory(process):
    """All that a process has in memory and may be read."""
    with open(f"/proc/{process.pid}/maps", encoding="ascii") as maps, open(f"/proc/{process.pid}/mem", "rb") as content:
        for line in maps:
            span, rights = line.split()[:2]
            begin, end = (int(part, 16) for part in span.split("-"))
            if rights[0] == "r" and "[v" not in line:
                try:
                    content.seek(begin)
                    yield content.read(end - begin)
                except OSError:
                    pass


def test_a_key_is_made_sealed_and_forgotten(plane, hosts):
    host, other = hosts
    job = rotate(plane, host)
    private = host.host.seal_open(box_of(host))
    assert private and other.host.seal_open(box_of(host)) is None
    public = wire.wg_public(private)
    for daemon in (plane.controld, plane.signd):
        assert not any(private in part for part in memory(daemon.process)), f"{daemon.name} still has the private key"
    for folder, _, names in os.walk(plane.folder):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    assert private not in file.read(), path
    announce(host, public)
    wait_state(plane, host, "both")
    assert row(plane, host)[1] is None, "the box is gone once it was opened"
    settle(hosts)
    wait_state(plane, host, "settling")
    settle(hosts)
    wait_state(plane, host, "done")
    shown = plane.ok("GET", f"/hosts/{host.name}")
    assert (shown["key_made_by"], shown["takes_assigned_keys"]) == ("control-plane", True)
    assert plane.ok("GET", f"/jobs/{job['id']}")["outstanding_count"] == 0
    # The host says so itself from then on, and one of its own making comes in its place.
    host.wg_key, host.counter, host.next_key = public, host.counter + 1, None
    host.apply(registration=host.registration())
    assert plane.ok("GET", f"/hosts/{host.name}")["key_made_by"] == "control-plane"
    host.rekey()
    host.apply(registration=host.registration())
    assert plane.ok("GET", f"/hosts/{host.name}")["key_made_by"] == "host"


def test_the_memory_scan_finds_what_is_there(plane, hosts):
    """The control plane knows this host's public key: the scan above would see a private one."""
    assert any(hosts[0].wg_key in part for part in memory(plane.controld.process))


def test_who_takes_none_is_asked_for_none(plane, hosts):
    told = plane.refuses(409, "host-takes-no-key", "POST", f"/hosts/{hosts[1].name}/rotate-key", {"assigned": True})
    assert "--assigned-keys" in told and hosts[1].name in told
    assert hosts[1].name in plane.refuses(409, "host-takes-no-key", "POST", "/networks/mesh/rotate-keys", {"assigned": True})
    assert row(plane, hosts[0]) is None, "all or nothing"
    plane.refuses(400, "malformed", "POST", f"/hosts/{hosts[0].name}/rotate-key", {"assigned": 1})
    assert plane.call("POST", f"/hosts/{hosts[1].name}/rotate-key", {"assigned": False}).status == 202


def test_another_key_than_the_one_in_the_box_is_not_taken(plane, hosts):
    rotate(plane, hosts[0], deadline_s=5)
    box_of(hosts[0])
    announce(hosts[0], b"k" * 32)
    wait_state(plane, hosts[0], "given-up", 12)
    assert row(plane, hosts[0])[1] is None
    assert plane.ok("GET", f"/hosts/{hosts[0].name}")["key_made_by"] == "host"


def test_a_lock_ends_it(plane, hosts):
    """It may come while a key is under way; the host keeps its own."""
    rotate(plane, hosts[0])
    box_of(hosts[0])
    Lists(plane).put(add=hosts)
    wait_state(plane, hosts[0], "given-up")
    assert "locked" in plane.refuses(409, "network-locked", "POST", f"/hosts/{hosts[0].name}/rotate-key", {"assigned": True})


def test_an_owner_who_thinks_better_of_it(plane, hosts):
    rotate(plane, hosts[0])
    box_of(hosts[0])
    hosts[0].assignable = False
    hosts[0].apply(registration=hosts[0].registration())
    wait_state(plane, hosts[0], "given-up")
    hosts[0].apply()
    assert hosts[0].own_document()[3:5] == [0, b""]
