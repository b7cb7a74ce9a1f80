# SPDX-License-Identifier: Apache-2.0
"""Bridges: what is refused, what hosts are told, how far it is, and how it ends."""

import sqlite3
import time

import pytest

from agent import Agent


def wait_for(what, seconds=15):
    """Ask until it is so; returns what it was."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = what()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what()}")


def job_over(plane, job, seconds=15):
    """Wait until a job has ended; returns it."""
    return wait_for(lambda: (lambda now: now if now["state"] in ("done", "failed") else None)(plane.ok("GET", f"/jobs/{job}")), seconds)


def network(plane, name, cidr, **scope):
    """One more network; its id."""
    return plane.ok("POST", "/networks", dict(scope or {"workspace": "prod"}, name=name, cidrs=[cidr] if isinstance(cidr, str) else cidr))["id"]


def acknowledge(*hosts):
    """Each takes what is new and says so."""
    for host in hosts:
        host.apply()
        host.apply(receipts=[host.receipt()])


def create(plane, one="mesh", other="lab"):
    """Ask for a bridge; it and its job."""
    answer = plane.call("POST", "/bridges", {"networks": [one, other]})
    assert answer.status == 202, answer.body
    return answer.json["id"], answer.json["job"]["id"]


def signed(plane, job):
    """Wait until its documents are signed."""
    return wait_for(lambda: plane.ok("GET", f"/jobs/{job}")["state"] != "waiting")


@pytest.fixture
def two(plane):
    """Networks mesh and lab, a host in each: (plane, host of mesh, host of lab, lab's id)."""
    lab = bytes.fromhex(network(plane, "lab", ["10.8.0.0/24", "fd00:8::/64"]))
    return plane, Agent(plane, 1).enrolled(plane.token()), Agent(plane, 2).enrolled(plane.token(["lab"])), lab


# -- What is refused


def test_what_cannot_be_bridged_is_refused_and_says_why(plane):
    network(plane, "lab", "10.8.0.0/24")
    network(plane, "same", "10.7.0.128/25")
    plane.ok("POST", "/organizations", {"name": "other"})
    network(plane, "theirs", "10.9.0.0/24", organization="other")

    def refused(status, code, *networks):
        return plane.refuses(status, code, "POST", "/bridges", {"networks": list(networks)})

    assert '"nowhere"' in refused(404, "unknown-network", "mesh", "nowhere")
    assert "itself" in refused(409, "self-bridge", "mesh", "mesh")
    assert "organization" in refused(409, "other-organization", "mesh", "theirs")
    assert "10.7.0.128/25" in refused(409, "cidr-overlap", "mesh", "same")
    for body in ({}, {"networks": ["mesh"]}, {"networks": ["mesh", "lab", "same"]}, {"networks": "mesh"}, {"networks": ["mesh", 1]},
                 {"networks": ["mesh", "lab"], "more": 1}):
        plane.refuses(400, "malformed", "POST", "/bridges", body)
    assert plane.ok("GET", "/bridges")["items"] == [] and plane.ok("GET", "/jobs")["items"] == []
    bridge, job = create(plane)
    assert bridge in refused(409, "bridge-exists", "mesh", "lab") and bridge in refused(409, "bridge-exists", "lab", "mesh")
    job_over(plane, job)
    assert bridge in refused(409, "bridge-exists", "lab", "mesh")
    plane.refuses(404, "not-found", "GET", "/bridges/" + "0" * 32)
    plane.refuses(404, "not-found", "DELETE", "/bridges/" + "0" * 32)


def test_ranges_that_meet_only_over_a_bridge_are_refused_whichever_comes_last(plane):
    """mesh - lab is bridged; a host of mesh must not get a network that overlaps lab, by a join, a bridge or a new range."""
    network(plane, "lab", "10.8.0.0/24")
    network(plane, "clash", "10.8.0.128/25")
    host = Agent(plane, 1).enrolled(plane.token())
    create(plane)  # from the moment that it is asked for
    assert "over a bridge" in plane.refuses(409, "cidr-overlap", "POST", f"/hosts/{host.name}/networks", {"network": "clash"})
    assert "10.8.0" in plane.refuses(409, "cidr-overlap", "POST", "/bridges", {"networks": ["mesh", "clash"]})
    assert "10.8.0" in plane.refuses(409, "cidr-overlap", "PATCH", "/networks/mesh", {"add_cidrs": ["10.8.0.64/26"]})
    network(plane, "far", "10.10.0.0/24")
    plane.ok("POST", f"/hosts/{host.name}/networks", {"network": "far"})
    assert "10.8.0" in plane.refuses(409, "cidr-overlap", "PATCH", "/networks/far", {"add_cidrs": ["10.8.0.0/25"]})
    assert "10.8.0" in plane.refuses(409, "cidr-overlap", "POST", "/bridges", {"networks": ["far", "clash"]})


def test_a_network_has_sixteen_bridges_at_most_and_a_host_sixty_four_networks(plane):
    for number in range(17):
        network(plane, f"n{number}", f"10.20.{number}.0/24")
    for number in range(16):
        create(plane, "mesh", f"n{number}")
    assert "16" in plane.refuses(409, "too-many-bridges", "POST", "/bridges", {"networks": ["n16", "mesh"]})
    host = Agent(plane, 1).enrolled(plane.token())  # reaches 17 now
    for number in range(17, 64):
        network(plane, f"n{number}", f"10.20.{number}.0/24")
        plane.ok("POST", f"/hosts/{host.name}/networks", {"network": f"n{number}"})
    network(plane, "last", "10.21.0.0/24")
    assert "64" in plane.refuses(409, "too-many-networks", "POST", f"/hosts/{host.name}/networks", {"network": "last"})
    assert "64" in plane.refuses(409, "too-many-networks", "POST", "/bridges", {"networks": ["n17", "last"]})


def test_permissions_are_those_of_networks(plane):
    network(plane, "lab", "10.8.0.0/24")
    reader = plane.ok("POST", "/credentials", {"permissions": ["read"]})["credential"]
    plane.refuses(403, "forbidden", "POST", "/bridges", {"networks": ["mesh", "lab"]}, credential=reader)
    assert plane.call("GET", "/bridges", credential=reader).status == 200
    assert plane.call("GET", "/jobs", credential=reader).status == 200


# -- What happens


def test_hosts_of_two_networks_become_peers_and_cease_to_be(two):
    plane, first, second, lab = two
    acknowledge(first, second)
    before = {name: plane.status(name)["generation"] for name in ("mesh", "lab")}
    bridge, job = create(plane)
    signed(plane, job)
    assert plane.ok("GET", f"/bridges/{bridge}")["state"] == "creating"
    first.apply()
    assert set(first.network_ids()) == {plane.network, lab}
    assert second.id in first.peers(lab) and first.own_addresses() == ["10.7.0.1"], "peers, but no address there"
    first.apply(receipts=[first.receipt()])
    progress = plane.ok("GET", f"/jobs/{job}")
    assert (progress["state"], progress["done"], progress["total"]) == ("running", 1, 2)
    assert [host["name"] for host in progress["outstanding"]] == [second.name]
    acknowledge(second)
    assert set(second.network_ids()) == {plane.network, lab} and first.id in second.peers(plane.network)
    done = job_over(plane, job)
    assert (done["state"], done["done"], done["outstanding_count"]) == ("done", 2, 0)
    assert plane.ok("GET", f"/bridges/{bridge}")["state"] == "active"
    assert {name: plane.status(name)["generation"] for name in before} == {name: generation + 1 for name, generation in before.items()}, \
        "two manifests, each signed once"

    answer = plane.call("DELETE", f"/bridges/{bridge}")
    assert answer.status == 202 and answer.json["state"] == "deleting"
    signed(plane, answer.json["job"]["id"])
    plane.refuses(409, "bridge-busy", "DELETE", f"/bridges/{bridge}")
    acknowledge(first, second)
    assert first.network_ids() == [plane.network] and second.network_ids() == [lab]
    assert job_over(plane, answer.json["job"]["id"])["state"] == "done"
    plane.refuses(404, "not-found", "GET", f"/bridges/{bridge}")


def test_a_parked_poll_wakes_for_what_is_reached_over_a_bridge(two):
    plane, first, second, lab = two
    acknowledge(first, second)
    job = create(plane)[1]
    signed(plane, job)
    acknowledge(first, second)
    plane.ok("PUT", f"/hosts/{second.name}/endpoint", {"endpoint": "192.0.2.9:51820"})
    begun = time.monotonic()
    first.apply(wait=20)
    assert time.monotonic() - begun < 10
    assert first.peers(lab)[second.id][6], "the endpoint"
    third = Agent(plane, 3).enrolled(plane.token(["lab"]))
    first.apply(wait=20)
    assert third.id in first.peers(lab)
    # What came over the bridge can be fetched by name as well; what does not is nobody's business.
    names = [name for name in first.documents if name != first.entries[4, first.id][4]]
    assert len(first.blobs(names).msgpack[0]) > 0


@pytest.mark.parametrize("when", ["waiting", "running"])
def test_a_bridge_that_was_a_mistake_is_ended_at_once(two, when):
    """Nobody waits until hosts have what they are not to have."""
    plane, first, second, lab = two
    acknowledge(first, second)
    if when == "waiting":
        plane.signd.stop()
    bridge, job = create(plane)
    if when == "running":
        signed(plane, job)
    else:
        wait_for(lambda: plane.ok("GET", f"/jobs/{job}")["attempts"] > 0)
    answer = plane.call("DELETE", f"/bridges/{bridge}")
    assert answer.status == 202
    given_up = plane.ok("GET", f"/jobs/{job}")
    assert given_up["state"] == "failed" and "deleted" in given_up["error"]
    if when == "waiting":
        plane.signd.start()
    signed(plane, answer.json["job"]["id"])
    acknowledge(first, second)
    assert first.network_ids() == [plane.network] and second.network_ids() == [lab]
    assert job_over(plane, answer.json["job"]["id"])["state"] == "done" and plane.ok("GET", "/bridges")["items"] == []


def test_a_network_that_is_bridged_is_not_deleted(plane):
    network(plane, "lab", "10.8.0.0/24")
    bridge, job = create(plane)
    assert bridge in plane.refuses(409, "bridged", "DELETE", "/networks/lab")
    assert job_over(plane, job)["total"] == 0
    ended = plane.call("DELETE", f"/bridges/{bridge}").json["job"]["id"]
    job_over(plane, ended)
    plane.ok("DELETE", "/networks/lab")


def test_organization_and_workspace_networks_are_bridged(plane):
    network(plane, "wide", ["10.30.0.0/24", "fd00:30::/64"], organization="acme")
    plane.ok("POST", "/workspaces", {"name": "dev", "organization": "acme"})
    network(plane, "dev-net", "fd00:31::/64", workspace="dev")
    for pair in (("mesh", "wide"), ("wide", "dev-net")):
        assert job_over(plane, create(plane, *pair)[1])["state"] == "done"
    shown = plane.ok("GET", "/networks/wide")["bridges"]
    assert {(bridge["name"], bridge["state"]) for bridge in shown} == {("mesh", "active"), ("dev-net", "active")}


def test_a_refusal_of_the_signer_ends_the_job_and_leaves_nothing(plane):
    """Nobody in the control plane can tell; signd is the judge of it. Here it knows a range that the database has lost."""
    network(plane, "lab", "10.8.0.0/24")
    plane.controld.stop()
    import sqlite3
    with sqlite3.connect(plane.state + "/control.db") as database:
        database.execute("UPDATE cidrs SET cidr = '10.99.0.0/24' WHERE cidr = '10.8.0.0/24'")
    plane.start_controld()
    bridge, job = create(plane)
    ended = job_over(plane, job)
    assert ended["state"] == "failed" and "never taken away" in ended["error"]
    plane.refuses(404, "not-found", "GET", f"/bridges/{bridge}")


def test_nobody_gets_more_peers_than_there_can_be(plane):
    """33,000 hosts in each of two networks: either is well, both together are not, whether by a bridge or by a join of one that reaches both."""
    network(plane, "lab", "10.8.0.0/15")
    network(plane, "third", "10.20.0.0/24")
    host = Agent(plane, 1).enrolled(plane.token())
    plane.controld.stop()
    with sqlite3.connect(plane.state + "/control.db") as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(hosts)")]
        made = ",".join({"id": "printf('%032x', v)", "name": "'n' || v", "wg_key": "randomblob(32)"}.get(name, "h." + name) for name in columns)
        database.execute("WITH RECURSIVE s(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM s WHERE v < 66000)"
                         f" INSERT INTO hosts ({','.join(columns)}) SELECT {made} FROM s, (SELECT * FROM hosts LIMIT 1) h")
        for name, half in (("mesh", 0), ("lab", 1)):
            database.execute("INSERT INTO memberships (network, host, joined) SELECT n.id, h.id, 0 FROM networks n, hosts h WHERE n.name = ?"
                             " AND h.name LIKE 'n%' AND CAST(substr(h.name, 2) AS INTEGER) % 2 = ?", (name, half))
        database.execute("UPDATE documents SET peers = (SELECT count(*) FROM memberships m WHERE m.network = documents.id) WHERE type = 3")
    plane.start_controld()
    assert "65536" in plane.refuses(409, "too-many-peers", "POST", "/bridges", {"networks": ["mesh", "lab"]})
    assert "65536" in plane.refuses(409, "too-many-peers", "POST", f"/hosts/{host.name}/networks", {"network": "lab"})
    assert plane.ok("GET", "/bridges")["items"] == []
    assert plane.call("POST", "/bridges", {"networks": ["mesh", "third"]}).status == 202
