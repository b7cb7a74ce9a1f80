# SPDX-License-Identifier: Apache-2.0
"""Locked networks at the control plane: lists that operators sign are taken, kept and served; who is not on one waits; crashes leave nothing half done."""

import base64
import json
import sqlite3
import threading
import time

import pytest
import wire
from agent import Agent
from plane import Signd, keyset
from test_control_backup import administrate, backup, lose


class Lists:
    """What an operator signs, with a key that neither daemon has."""

    def __init__(self, plane):
        self.plane, self.hosts, self.generation = plane, {}, 0
        self.organization = bytes.fromhex(plane.ok("GET", "/networks/mesh")["organization"])

    def body(self, add=(), remove=(), **more):
        """A PUT's body; the list of this object moves on with it unless more says that it is a lie."""
        generation = more.get("generation", self.generation + 1)
        hosts = {host.id: generation for host in add}
        hosts.update(self.hosts)
        for host in remove:
            hosts.pop(host.id, None)
        root, _ = wire.listing(more.get("hosts", hosts))
        payload = [wire.header(more.get("deployment", self.plane.deployment), more.get("organization", self.organization),
                               more.get("id", self.plane.network), 1, generation),
                   more.get("flags", 1), more.get("count", len(hosts)), root,
                   sorted(more.get("bridges", []))]
        envelope = wire.envelope(more.get("kind", wire.ADMISSION), payload, more.get("signer", self.plane.operator))
        if not more.keys() - {"flags", "bridges"}:
            self.hosts, self.generation = hosts, generation
        return {"envelope": base64.b64encode(envelope).decode(), "add": sorted(host.id.hex() for host in add),
                "remove": sorted(host.id.hex() for host in remove)}

    def put(self, **more):
        """Must be taken."""
        return self.plane.ok("PUT", "/networks/mesh/admission", self.body(**more))


@pytest.fixture(name="lists")
def lists_fixture(plane):
    return Lists(plane)


def test_lock_admit_evict(plane, enrolled, lists):
    """Each list moves hosts in or out, in one step with the head that names it."""
    one, two = enrolled(1), enrolled(2)
    one.apply()
    shown = plane.ok("GET", "/networks/mesh/admission")
    assert (shown["locked"], shown["generation"], shown["envelope"], shown["hosts"]) == (False, 0, None, [])
    lists.put(add=[one])
    shown = plane.ok("GET", "/networks/mesh/admission")
    assert (shown["locked"], shown["generation"], shown["hosts"]) == (True, 1, [{"id": one.id.hex(), "since": 1}])
    assert shown["awaiting"] == [{"id": two.id.hex(), "name": "h2"}]
    payload = wire.opened(base64.b64decode(shown["envelope"]), wire.ADMISSION, plane.operator.public)
    assert payload[3] == wire.listing({one.id: 1})[0]
    network = plane.ok("GET", "/networks/mesh")
    assert network["locked"] and network["awaiting_admission"] == 1 and network["admission_generation"] == 1 and network["hosts"] == 2
    assert plane.ok("GET", "/hosts/h2")["networks"][0]["awaiting_admission"] is True
    one.apply()
    two.apply()
    assert set(one.peers(plane.network)) == {one.id} and two.network_ids() == []
    lists.put(add=[two])
    one.apply()
    two.apply()
    assert set(one.peers(plane.network)) == set(two.peers(plane.network)) == {one.id, two.id}
    assert plane.ok("GET", "/hosts/h2")["networks"][0]["awaiting_admission"] is False
    lists.put(remove=[two])
    one.apply(receipts=[one.receipt()])
    two.apply()
    assert set(one.peers(plane.network)) == {one.id} and two.network_ids() == []
    audit = [(entry["what"], entry["detail"]) for entry in plane.ok("GET", "/audit")["items"]]
    assert ("PUT /v1/networks/*/admission", "list 3, 1 hosts, locked") in audit


def test_who_joins_a_locked_network_waits(plane, enrolled, lists):
    """A host may be admitted before it comes, or after; its address is its own all the while."""
    one = enrolled(1)
    early, late = Agent(plane, "early"), Agent(plane, "late", "late")
    lists.put(add=[one, early])
    token = plane.token()
    early.enrolled(token).apply()
    late.enrolled(token).apply()
    one.apply()
    assert set(one.peers(plane.network)) == {one.id, early.id} and late.network_ids() == []
    address = plane.ok("GET", "/hosts/late")["networks"][0]["addresses"]
    lists.put(add=[late])
    late.apply()
    assert [f"{one}/32" for one in late.own_addresses()] == address and len(late.peers(plane.network)) == 3
    plane.ok("DELETE", "/hosts/late/networks/mesh")
    one.apply()
    assert late.id not in one.peers(plane.network) and late.id in one.admitted(plane.network)


def test_unlocked_again(plane, enrolled, lists):
    """Everybody who waited comes in; the list stays with its generation."""
    one, two = enrolled(1), enrolled(2)
    lists.put(add=[one])
    lists.put(flags=0)
    one.apply()
    two.apply()
    assert len(one.peers(plane.network)) == 2 and not plane.ok("GET", "/networks/mesh")["locked"]


REFUSED = {
    "signed by a stranger": (403, "not-operator", {"signer": wire.Key("stranger")}),
    "signed by the root": (403, "not-operator", {"signer": wire.Key("root")}),
    "not a list": (400, "malformed", {"kind": wire.NETWORK}),
    "of another network": (409, "other-network", {"id": bytes(16)}),
    "of another organization": (409, "other-network", {"organization": bytes([1]) * 16}),
    "of another deployment": (409, "other-network", {"deployment": bytes([1]) * 16}),
    "of the generation in force": (409, "list-older", {"generation": 1}),
    "of other hosts than the changes say": (409, "list-differs", {"hosts": {bytes([2]) * 16: 1}}),
    "of another count": (409, "list-differs", {"count": 7}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_lists_that_are_refused(plane, enrolled, lists, name):
    one = enrolled(1)
    lists.put(add=[one])
    status, code, lie = REFUSED[name]
    before = plane.ok("GET", "/networks/mesh/admission")
    plane.refuses(status, code, "PUT", "/networks/mesh/admission", lists.body(add=[Agent(plane, "x")], **lie))
    assert plane.ok("GET", "/networks/mesh/admission") == before
    lists.put(add=[Agent(plane, "x")])


def test_bodies_that_are_refused(plane, lists):
    good = lists.body(flags=1)
    for change in ({"envelope": "!"}, {"envelope": ""}, {"add": ["xyz"]}, {"add": "x"}, {"remove": [1]}, {"more": 1}, {"add": ["00" * 16] * 1501},
                   {"add": ["02" * 16, "01" * 16]}):
        plane.refuses(400, "malformed", "PUT", "/networks/mesh/admission", dict(good, **change))
    plane.refuses(404, "not-found", "PUT", "/networks/other/admission", good)
    plane.refuses(404, "not-found", "GET", "/networks/other/admission")
    reader = plane.ok("POST", "/credentials", {"permissions": ["read"], "description": "r"})["credential"]
    plane.refuses(403, "forbidden", "PUT", "/networks/mesh/admission", good, credential=reader)
    plane.ok("PUT", "/networks/mesh/admission", good)


def test_many_hosts_cost_a_path(plane, enrolled, lists):
    """A host polls after one admission into a large list: it gets the nodes that differ, and fetches the whole list if it has none."""
    one = enrolled(1)
    crowd = [wire.hash_of(f"host {i}".encode())[:16] for i in range(2000)]
    for start in (0, 1000):
        body = lists.body(flags=0)  # prepared while it is not locked, in parts
        lists.hosts.update({one_id: lists.generation for one_id in crowd[start:start + 1000]})
        root, _ = wire.listing(lists.hosts)
        payload = [wire.header(plane.deployment, lists.organization, plane.network, 1, lists.generation), 0, len(lists.hosts), root, []]
        body["envelope"] = base64.b64encode(wire.envelope(wire.ADMISSION, payload, plane.operator)).decode()
        body["add"] = sorted(one_id.hex() for one_id in crowd[start:start + 1000])
        plane.ok("PUT", "/networks/mesh/admission", body)
    lists.put(add=[one])
    assert one.apply() > 20
    assert len(one.admitted(plane.network)) == 2001
    before = set(one.documents)
    lists.put(add=[Agent(plane, "next")])
    one.apply()
    fresh = [one.documents[name] for name in set(one.documents) - before]
    assert sum(map(len, fresh)) < 4096, [len(data) for data in fresh]


@pytest.mark.parametrize("victim", ["controld", "signd"])
def test_what_a_crash_leaves_is_finished(plane, enrolled, lists, victim):
    """Killed while a list is handed over, at whatever moment that is: afterwards it is in force or can be, and heads come."""
    one, two = enrolled(1), enrolled(2)
    lists.put(add=[one, two])
    one.apply()
    plane.signd.process.send_signal(19)  # SIGSTOP: the call waits for signd
    body = lists.body(remove=[two])
    thread = threading.Thread(target=lambda: _quiet(plane, body))
    thread.start()
    deadline = time.monotonic() + 10
    while not pending(plane):
        assert time.monotonic() < deadline, "the list was not written down before signd was asked"
        time.sleep(0.01)
    if victim == "controld":
        plane.controld.kill()
        plane.signd.process.send_signal(18)
        thread.join()
        plane.start_controld()
    else:
        plane.signd.kill()
        plane.signd.start()
        thread.join()
    deadline = time.monotonic() + 20
    while plane.ok("GET", "/networks/mesh/admission")["generation"] != 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    one.apply()
    two.apply()
    assert set(one.peers(plane.network)) == {one.id} and two.network_ids() == []


def pending(plane):
    """Is there a list that signd has not answered for?"""
    with sqlite3.connect(f"file:{plane.state}/control.db?mode=ro", uri=True) as database:
        return database.execute("SELECT count(*) FROM admissions WHERE pending IS NOT NULL").fetchone()[0]


def _quiet(plane, body):
    try:
        plane.call("PUT", "/networks/mesh/admission", body)
    except OSError:
        pass


def test_signd_without_its_memory(plane, enrolled, lists):
    """A new signd, with a new key and no memory of lists, in the next epoch: controld hands it the list that it has, with all nodes."""
    one, two = enrolled(1), enrolled(2)
    lists.put(add=[one] + [Agent(plane, f"absent {number}") for number in range(100)])
    lose(plane, "signd")
    plane.signd = Signd(plane.folder, plane.root)
    plane.start()
    assert plane.publish(keyset(plane.root, [plane.signd.public], epoch=2, operators=[plane.operator.public])).status == 200
    deadline = time.monotonic() + 15
    while one.poll().status != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    one.apply()
    assert one.entries[wire.NETWORK, plane.network][2] == 2 and set(one.peers(plane.network)) == {one.id}
    assert len(one.admitted(plane.network)) == 101 and two.network_ids() == []
    lists.put(add=[two])
    one.apply()
    assert set(one.peers(plane.network)) == {one.id, two.id}


def test_controld_goes_back_and_signd_does_not(plane, enrolled, lists):
    """The list of a restored database is older than signd's: nothing is signed by it, until an operator signs on, and then not with whom he had taken off."""
    one, two = enrolled(1), enrolled(2)
    lists.put(add=[one, two])
    paths = backup(plane)
    before = dict(lists.hosts)
    lists.put(remove=[two])
    one.apply()
    lose(plane, "controld")
    administrate("controld", "restore", paths[0], "--state", plane.state)
    plane.start()
    assert one.poll().status == 503
    lists.hosts = before
    said = plane.refuses(409, "signer-refused", "PUT", "/networks/mesh/admission", lists.body(dry=True))
    assert "was not admitted since" in said
    lists.put(remove=[two])
    one.apply()
    assert set(one.peers(plane.network)) == {one.id}


def test_bridges_of_a_locked_network(plane, enrolled, lists):
    """A bridge that the list does not name is not made, and says why; one that it names brings in who is on the list, and lists travel over it."""
    from test_control_bridges import create, job_over, network
    lab = bytes.fromhex(network(plane, "lab", "10.8.0.0/24"))
    one, far = enrolled(1), Agent(plane, "far").enrolled(plane.token(["lab"]))
    lists.put(add=[one])
    _, job = create(plane)
    over = job_over(plane, job)
    assert over["state"] == "failed" and "names no bridge" in json.dumps(over), over
    one.apply()
    assert one.network_ids() == [plane.network]
    lists.put(bridges=[lab])
    over = job_over(plane, create(plane)[1])
    assert over["state"] == "failed" and "not on its admission list" in json.dumps(over), over
    lists.put(add=[far], bridges=[lab])
    create(plane)
    for _ in range(50):
        one.apply(receipts=[one.receipt()])
        far.apply(receipts=[far.receipt()])
        if len(one.network_ids()) == 2:
            break
    assert set(one.peers(lab)) == {far.id} and set(far.peers(plane.network)) == {one.id}
    assert far.admitted(plane.network) == {one.id, far.id}, "a host gets the list of what it reaches over a bridge"
    # Who comes to the other network is not let through, and is told why: that network is not locked, its hosts must be on this one's list.
    newcomer = Agent(plane, "newcomer")
    answer = newcomer.enroll(plane.token(["lab"]))
    assert answer.status == 409 and b"not on its admission list" in answer.body, answer.body
    # Nor is a host evicted that is still there: first it leaves the other network.
    said = plane.refuses(409, "signer-refused", "PUT", "/networks/mesh/admission", lists.body(remove=[far], bridges=[lab], dry=True))
    assert "of network lab" in said
    plane.ok("DELETE", "/hosts/hfar/networks/lab")
    lists.put(remove=[far], bridges=[lab])
