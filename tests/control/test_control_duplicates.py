# SPDX-License-Identifier: Apache-2.0
"""Two machines with one identity: told apart, the second refused and silenced, the first left alone. And that a restart is never taken for two."""

import http.client
import threading
import time

import pytest
import wire
from agent import Agent
from plane import Plane
from test_control_bridges import acknowledge, wait_for


@pytest.fixture
def plane(folder):
    """Behind a proxy, so that hosts have addresses."""
    made = Plane(folder, controld_options=("--behind-proxy", "--offline-after", "3"))
    made.start()
    made.network = bytes.fromhex(made.furnish()["id"])
    yield made
    made.stop()


class Machine(Agent):
    """A host whose fetchd has a mark, with a thread that polls as fetchd does."""

    def __init__(self, plane, seed, mark, address):
        super().__init__(plane, seed)
        self.mark, self.from_address = mark.ljust(16, "x"), address
        self.answers, self.stopped, self.thread = [], threading.Event(), None

    def clone(self, mark, address):
        """Its disk, in another machine."""
        made = Machine(self.plane, self.name[1:], mark, address)
        made.registrations, made.receipts = self.registrations, self.receipts
        made.entries, made.roots, made.nodes, made.documents = dict(self.entries), dict(self.roots), dict(self.nodes), dict(self.documents)
        return made

    def run(self):
        """Poll until stopped; a refusal is followed by a short pause."""
        while not self.stopped.is_set():
            body = self.poll_body(wait=1)
            try:
                answer = self.post("/v1/agent/poll", body)
            except OSError:
                continue
            self.answers.append((answer.status, answer.msgpack[0] if answer.status != 200 else ""))
            if answer.status == 200:
                self.take(answer.msgpack, body[0])
                self.post("/v1/agent/poll", self.poll_body(receipts=[self.receipt()]))
            else:
                self.stopped.wait(0.3)

    def start(self):
        """In a thread."""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def stop(self):
        """And wait for its last poll."""
        self.stopped.set()
        if self.thread:
            self.thread.join(10)


@pytest.fixture
def machines(plane):
    """machines(mark, address): the first one, which is enrolled and acknowledged; all are stopped in the end."""
    made = []

    def make(mark="first", address="192.0.2.1", of=None):
        machine = of.clone(mark, address) if of else Machine(plane, 1, mark, address).enrolled(plane.token())
        if not of:
            acknowledge(machine)
        made.append(machine)
        return machine
    yield make
    for machine in made:
        machine.stopped.set()
    for machine in made:
        machine.stop()


def shown(plane, host):
    return plane.ok("GET", f"/hosts/{host.id.hex()}")


def test_the_second_of_two_is_refused_and_told_that_it_is_in_no_network(plane, machines):
    first = machines()
    peer = Agent(plane, 9).enrolled(plane.token())
    acknowledge(first, peer)
    second = machines("second", "192.0.2.2", of=first)
    first.start()
    time.sleep(0.3)  # its poll is parked
    second.registrations += 5  # it was started later, so what it registers is newer
    refused = second.post("/v1/agent/poll", second.poll_body(registration=second.registration()))
    assert (refused.status, refused.msgpack[0]) == (503, "other-machine") and "192.0.2.1" in refused.msgpack[1]
    second.start()
    duplicate = wait_for(lambda: shown(plane, first)["duplicate"])
    assert (duplicate["first_address"], duplicate["second_address"]) == ("192.0.2.1", "192.0.2.2")
    assert duplicate["first_poll"] and duplicate["second_poll"] and duplicate["since"]
    state = shown(plane, first)
    assert state["state"] == "degraded" and "192.0.2.1" in state["state_reason"] and "192.0.2.2" in state["state_reason"]
    # The second one has taken the signed word that it is in no network; the first one is where it was.
    wait_for(lambda: second.answers and second.answers[-1] == (409, "duplicate-host"))
    assert second.network_ids() == [] and len([answer for answer in second.answers if answer[0] == 200]) == 1
    wait_for(lambda: first.entries[wire.HOST, first.id][3] > second.entries[wire.HOST, first.id][3])
    assert first.network_ids() == [plane.network] and first.own_addresses() == ["10.7.0.1"]
    assert {answer for answer in first.answers if answer[0] != 200} == set(), "the first is refused nothing"
    # Nothing about it has moved for its peers.
    generation = plane.status()["generation"]
    peer.apply()
    assert set(peer.peers(plane.network)) == {first.id, peer.id} and plane.status()["generation"] == generation
    assert shown(plane, first)["seen_address"] == "192.0.2.1"
    assert "two machines" in plane.controld.text()


def test_the_departure_of_the_second_does_not_take_the_first_away(plane, machines):
    first = machines()
    second = machines("second", "192.0.2.2", of=first)
    first.start()
    time.sleep(0.5)  # its poll is parked
    assert second.poll().status == 503
    time.sleep(0.3)
    answer = second.leave()
    assert (answer.status, answer.msgpack[0]) == (503, "other-machine"), "before they are told apart"
    second.start()
    wait_for(lambda: second.answers and second.answers[-1] == (409, "duplicate-host"))
    answer = second.leave()
    assert (answer.status, answer.msgpack[0]) == (409, "duplicate-host")
    second.registrations += 5
    answer = second.enroll(plane.token())
    assert (answer.status, answer.msgpack[0]) == (409, "duplicate-host"), "nor does coming back under the same identity"
    assert shown(plane, first)["networks"] and shown(plane, first)["seen_address"] == "192.0.2.1"


def test_a_restart_is_served_at_once(plane, machines):
    """Its old connection is closed with the process, while its poll waited."""
    first = machines()
    time.sleep(0.5)  # that of acknowledging was answered a while ago
    for number in range(2):
        body = wire.pack(first.poll_body(wait=30))
        connection = http.client.HTTPConnection("127.0.0.1", plane.port)
        connection.request("POST", "/v1/agent/poll", body, dict(first.signed_headers("/v1/agent/poll", body), **first.forwarded()))
        time.sleep(0.2)
        connection.close()
        first.mark = f"restart{number}".ljust(16, "x")
        assert first.poll().status == 200
        time.sleep(0.5)
    assert shown(plane, first)["duplicate"] is None


def test_a_restart_is_never_taken_for_two(plane, machines):
    """One that was answered a moment ago could be between two polls, so the new process waits. What was still under way may come late, once."""
    first = machines()
    first.start()
    time.sleep(0.2)
    first.stop()
    old, first.mark = first.mark, "restarted".ljust(16, "x")
    wait_for(lambda: first.poll().status == 200 or time.sleep(0.3))
    new, first.mark = first.mark, old
    assert first.poll().status == 200, "it came late"
    first.mark = new
    wait_for(lambda: first.poll().status == 200 or time.sleep(0.3))
    assert first.poll().status == 200 and shown(plane, first)["duplicate"] is None


def test_a_clone_that_comes_between_two_polls_moves_nothing(plane, machines):
    """Its registration is newer, its address another one."""
    first = machines()
    second = machines("second", "192.0.2.2", of=first)
    second.registrations += 5
    second.port = 9
    first.start()
    first.stop()
    assert second.post("/v1/agent/poll", second.poll_body(registration=second.registration())).status == 503
    assert first.poll().status == 200
    assert shown(plane, first)["seen_address"] == "192.0.2.1" and shown(plane, first)["endpoint"] == "192.0.2.1:51820"


def test_a_machine_that_lost_its_power_is_let_in_soon(plane, machines):
    """Its old connection is open for ever: nobody closes it."""
    first = machines()
    parked = threading.Thread(target=lambda: first.poll(wait=40), daemon=True)
    parked.start()
    time.sleep(0.5)
    reborn = machines("reborn", "192.0.2.1", of=first)
    begun = time.monotonic()
    statuses = []

    def let_in():
        statuses.append(reborn.poll().status)
        return statuses[-1] == 200 or time.sleep(0.3)
    wait_for(let_in)
    assert time.monotonic() - begun < 10 and set(statuses[:-1]) <= {503}
    assert shown(plane, first)["duplicate"] is None
    parked.join(10)


def test_the_second_is_let_in_when_the_first_is_gone(plane, machines):
    first = machines()
    second = machines("second", "192.0.2.2", of=first).start()
    first.start()
    wait_for(lambda: shown(plane, first)["duplicate"])
    first_is = shown(plane, first)["duplicate"]["first_address"]
    (first if first_is == "192.0.2.1" else second).stop()
    survivor = second if first_is == "192.0.2.1" else first
    wait_for(lambda: survivor.answers[-1][0] == 200 and survivor.network_ids() == [plane.network])
    assert shown(plane, first)["duplicate"] is None


def test_who_is_first_outlives_the_control_plane(plane, machines):
    first = machines()
    second = machines("second", "192.0.2.2", of=first)
    first.start()
    time.sleep(0.3)
    second.start()
    wait_for(lambda: second.answers and second.answers[-1] == (409, "duplicate-host"))
    second.stop()
    first.stop()
    plane.controld.kill()
    plane.start_controld()
    answer = second.poll()  # it comes first now, and is the second all the same
    assert answer.status in (200, 409)
    if answer.status == 200:  # silenced once more: that it was is not remembered
        assert len(answer.msgpack[2]) == 1
    assert second.poll().status == 409
    first.stopped.clear()
    first.start()
    wait_for(lambda: first.answers[-1][0] == 200 and first.network_ids() == [plane.network])
    assert shown(plane, first)["duplicate"]["first_address"] == "192.0.2.1"
