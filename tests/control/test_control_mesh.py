# SPDX-License-Identifier: Apache-2.0
"""The main job: hosts come, are told of each other, go."""

import threading
import time

import wire
from agent import Agent
from plane import Plane


def test_a_host_enrols_and_gets_everything_in_one_poll(plane, enrolled):
    host = enrolled(1)
    host.apply()
    assert host.network_ids() == [plane.network]
    assert host.own_addresses() == ["10.7.0.1"]
    assert list(host.peers(plane.network)) == [host.id]


def test_each_host_of_a_network_sees_every_other(plane, enrolled):
    hosts = [enrolled(number) for number in range(40)]
    for host in hosts:
        host.apply()
    ids = {host.id for host in hosts}
    for host in hosts:
        assert set(host.peers(plane.network)) == ids
    assert len({address for host in hosts for address in host.own_addresses()}) == 40


def test_the_trie_is_the_one_that_its_contents_make(plane, enrolled):
    hosts = [enrolled(number) for number in range(50)]
    hosts[0].apply()
    root, _ = wire.trie(hosts[0].peers(plane.network).values())
    assert root == hosts[0].roots[plane.network]


def test_a_change_sends_only_its_path(plane, enrolled):
    hosts = [enrolled(number) for number in range(60)]
    hosts[0].apply()
    enrolled(1000)
    assert hosts[0].apply() <= 9  # the manifest, a leaf or the four it split into, and its ancestors: 3 or 4 of 80
    assert len(hosts[0].peers(plane.network)) == 61


def test_nothing_new_costs_a_head_and_nothing_else(plane, enrolled):
    host = enrolled(1)
    host.apply()
    assert host.apply() == 0


def test_a_parked_poll_wakes_when_a_host_joins(plane, enrolled):
    host = enrolled(1)
    host.apply()
    done = {}

    def wait():
        begun = time.monotonic()
        host.apply(wait=30)
        done["after"] = time.monotonic() - begun

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.5)
    assert not done
    enrolled(2)
    thread.join(10)
    assert 0.4 < done["after"] < 3
    assert len(host.peers(plane.network)) == 2


def test_a_parked_poll_ends_with_a_head_when_its_time_is_over(plane, enrolled):
    host = enrolled(1)
    host.apply()
    begun = time.monotonic()
    assert host.apply(wait=1) == 0
    assert 0.9 < time.monotonic() - begun < 3


def test_receipts_acknowledge_a_generation(plane, enrolled):
    first, second = enrolled(1), enrolled(2)
    assert not plane.status()["converged"]
    for host in (first, second):
        host.apply()
        host.apply(receipts=[host.receipt()])
    status = plane.status()
    assert status["converged"] and status["convergence_ms"] >= 0
    assert {member["acknowledged_generation"] for member in status["hosts"]} == {status["generation"]}
    shown = plane.ok("GET", f"/hosts/{first.id.hex()}")
    assert shown["state"] == "online" and shown["receipt"]["outcome"] == "applied"


def test_a_refusal_shows_and_acknowledges_nothing(plane, enrolled):
    host = enrolled(1)
    host.apply()
    host.apply(receipts=[host.receipt(outcome=3, code="overlap", reason="100.64.0.7/32 is twice in it")])
    member = plane.status()["hosts"][0]
    assert member["acknowledged_generation"] is None
    assert member["outcome"] == "refused" and "twice" in member["reason"]


def test_leaving_and_joining_keeps_the_address(plane, enrolled):
    first, second = enrolled(1), enrolled(2)
    plane.ok("DELETE", f"/hosts/{first.name}/networks/mesh")
    third = enrolled(3)
    third.apply()
    assert third.own_addresses() == ["10.7.0.3"]
    first.apply()
    assert first.network_ids() == []
    plane.ok("POST", f"/hosts/{first.name}/networks", {"network": "mesh"})
    first.apply()
    assert first.own_addresses() == ["10.7.0.1"]
    second.apply()
    assert len(second.peers(plane.network)) == 3


def test_enrolling_again_keeps_the_address(plane):
    host = Agent(plane, 1).enrolled(plane.token())
    Agent(plane, 2).enrolled(plane.token())
    host.enrolled(plane.token())
    host.apply()
    assert host.own_addresses() == ["10.7.0.1"]


def test_a_retired_host_frees_its_address_and_stays_out(plane, enrolled):
    first, second = enrolled(1), enrolled(2)
    second.apply()
    plane.ok("POST", f"/hosts/{first.id.hex()}/retire")
    assert first.poll().status == 410
    assert first.enroll(plane.token()).msgpack[0] == "host-retired"
    third = enrolled(3)
    third.apply()
    assert third.own_addresses() == ["10.7.0.1"]
    second.apply()
    assert set(second.peers(plane.network)) == {second.id, third.id}
    assert plane.ok("GET", f"/hosts/{first.id.hex()}")["state"] == "retired"


def test_a_host_leaves_by_itself_and_comes_back(plane, enrolled):
    host, other = enrolled(1), enrolled(2)
    departure = host.departure()
    assert host.leave(departure).status == 200
    assert host.poll().msgpack[0] == "unknown-host"
    other.apply()
    assert set(other.peers(plane.network)) == {other.id}
    host.enrolled(plane.token())
    host.apply()
    assert host.own_addresses() == ["10.7.0.1"]
    assert host.leave(departure).msgpack[0] == "departure-older"
    host.apply()


def test_a_transport_key_alone_takes_no_host_out_of_the_mesh(plane, enrolled):
    """It is fetchd's, which may be taken over; leaving is the host key's, which netd uses for root alone (P4)."""
    host, other = enrolled(1), enrolled(2)
    other.apply()
    refused = [(b"", 401), (host.departure()[:-1], 401), (other.departure(), 401), (host.departure(signer=other.host), 401),
               (host.departure(host_id=other.id), 401), (host.departure(generation=1), 409), (host.registration(), 401)]
    for departure, status in refused:
        assert host.leave(departure).status == status
    host.apply()
    other.apply()
    assert set(other.peers(plane.network)) == {host.id, other.id}


def test_endpoints_operator_then_reported_then_seen(plane, enrolled):
    host, other = enrolled(1), enrolled(2)

    def seen_by_other():
        other.apply()
        return other.peers(plane.network)[host.id][6]

    assert seen_by_other() == [wire.endpoint("127.0.0.1:51820")]
    host.addresses = ["192.0.2.9:51820", "[2001:db8::9]:51820", "192.0.2.10:51820"]
    host.apply(registration=host.registration())
    assert seen_by_other() == [wire.endpoint("[2001:db8::9]:51820"), wire.endpoint("192.0.2.9:51820")]
    plane.ok("PUT", f"/hosts/{host.name}/endpoint", {"endpoint": "198.51.100.1:4000"})
    assert seen_by_other() == [wire.endpoint("198.51.100.1:4000")]
    plane.ok("PUT", f"/hosts/{host.name}/endpoint", {"endpoint": None})
    assert len(seen_by_other()) == 2


def test_a_host_that_moves_is_told_once_a_minute(folder):
    """Only where the address that the control plane sees is what its peers are told."""
    plane = Plane(folder, controld_options=("--behind-proxy",))
    plane.start()
    network = bytes.fromhex(plane.furnish()["id"])
    token = plane.token()
    nat, fixed, other = (Agent(plane, number) for number in range(3))
    fixed.addresses = ["192.0.2.1:51820"]
    for host in (nat, fixed, other):
        host.from_address = "198.51.100.1"
        host.enrolled(token)

    def seen_by_other(host):
        other.apply()
        return other.peers(network)[host.id][6]

    for host in (nat, fixed):
        host.from_address = "198.51.100.2"
        host.apply()
    assert seen_by_other(nat) == [wire.endpoint("198.51.100.2:51820")]
    assert seen_by_other(fixed) == [wire.endpoint("192.0.2.1:51820")]
    generation = plane.status()["generation"]
    for address in ("198.51.100.3", "2001:db8::1", "198.51.100.1"):
        nat.from_address = address
        nat.apply()
    assert plane.status()["generation"] == generation
    plane.stop()


def test_a_new_wireguard_key_reaches_the_peers(plane, enrolled):
    host, other = enrolled(1), enrolled(2)
    host.rekey()
    host.apply(registration=host.registration())
    other.apply()
    assert other.peers(plane.network)[host.id][1] == host.wg_key


def test_a_network_of_both_families_gives_one_address_of_each(plane):
    plane.ok("POST", "/networks", {"name": "dual", "workspace": "prod", "cidrs": ["10.9.0.0/30", "fd00:9::/64"]})
    host = Agent(plane, 1).enrolled(plane.token(["dual"]))
    host.apply()
    assert host.own_addresses() == ["10.9.0.1", "fd00:9::1"]


def test_blobs_by_name_only_of_ones_own_networks(plane, enrolled):
    host = enrolled(1)
    host.apply()
    plane.ok("POST", "/networks", {"name": "other", "workspace": "prod", "cidrs": ["10.8.0.0/24"]})
    stranger = Agent(plane, 2).enrolled(plane.token(["other"]))
    stranger.apply()
    names = [host.roots[plane.network], host.entries[wire.NETWORK, plane.network][4], bytes(32)]
    assert [wire.hash_of(blob) for blob in host.blobs(names).msgpack[0]] == names[:2]
    assert stranger.blobs(names).msgpack == [[]]


def test_a_host_of_several_networks(plane, enrolled):
    plane.ok("POST", "/networks", {"name": "second", "organization": "acme", "cidrs": ["10.8.0.0/24"]})
    host = enrolled(1)
    plane.ok("POST", f"/hosts/{host.name}/networks", {"network": "second"})
    host.apply()
    assert len(host.network_ids()) == 2
    assert sorted(host.own_addresses()) == ["10.7.0.1", "10.8.0.1"]


def test_restart_of_both_changes_nothing(plane, enrolled):
    host = enrolled(1)
    host.apply()
    plane.controld.stop()
    plane.signd.stop()
    plane.start()
    assert host.apply() == 0
    enrolled(2)
    host.apply()
    assert len(host.peers(plane.network)) == 2
