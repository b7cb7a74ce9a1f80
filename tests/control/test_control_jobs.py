# SPDX-License-Identifier: Apache-2.0
"""Long work: re-applying, bridges while signd is away or somebody is killed, hosts that are away; and what can be set of a network."""

import sqlite3
import threading

import pytest
import wire
from agent import Agent
from cli_console import Console
from test_control_bridges import acknowledge, create, job_over, network, signed, two, wait_for  # noqa: F401 (a fixture among them)
from test_control_crash import Crasher, crash_plane, revive  # noqa: F401


# -- Re-applying


def test_a_host_is_re_applied_and_nobody_else(plane, enrolled):
    first, second = enrolled(1), enrolled(2)
    acknowledge(first, second)
    generation = plane.status()["generation"]
    own = first.entries[wire.HOST, first.id][3]
    answer = plane.call("POST", f"/hosts/{first.name}/reapply")
    assert answer.status == 202 and (answer.json["kind"], answer.json["label"], answer.json["object"]) == ("host-reapply", "h1", first.id.hex())
    job = answer.json["id"]
    signed(plane, job)
    first.apply()
    assert first.entries[wire.HOST, first.id][3] == own + 1 and first.own_addresses() == ["10.7.0.1"]
    progress = plane.ok("GET", f"/jobs/{job}")
    assert (progress["state"], progress["done"], progress["total"]) == ("running", 0, 1)
    first.apply(receipts=[first.receipt()])
    assert job_over(plane, job)["done"] == 1
    assert second.apply() == 0 and plane.status()["generation"] == generation


def test_a_network_is_re_applied_on_all_of_its_hosts(plane, enrolled):
    hosts = [enrolled(number) for number in range(5)]
    acknowledge(*hosts)
    generation = plane.status()["generation"]
    job = plane.call("POST", "/networks/mesh/reapply").json["id"]
    signed(plane, job)
    for number, host in enumerate(hosts):
        assert plane.ok("GET", f"/jobs/{job}")["done"] == number
        host.apply()
        assert host.generation(plane.network) == generation + 1
        host.apply(receipts=[host.receipt()])
    assert job_over(plane, job)["total"] == 5


def test_who_is_gone_is_not_re_applied(plane, enrolled):
    host = enrolled(1)
    plane.ok("POST", f"/hosts/{host.name}/retire")
    plane.refuses(409, "host-not-active", "POST", f"/hosts/{host.id.hex()}/reapply")
    plane.refuses(404, "not-found", "POST", "/networks/nothing/reapply")
    plane.refuses(404, "not-found", "GET", "/jobs/" + "0" * 32)


# -- Hosts that are away, a signer that is away


def test_hosts_that_are_away_do_not_hold_a_job(two):
    plane, first, second, _ = two
    acknowledge(first, second)
    plane.controld.stop()
    plane.controld.arguments += ("--offline-after", "2")
    plane.start_controld()
    first.apply()
    wait_for(lambda: plane.ok("GET", f"/hosts/{second.name}")["state"] == "offline")
    bridge, job = create(plane)
    signed(plane, job)
    acknowledge(first)
    ended = job_over(plane, job)
    assert (ended["state"], ended["done"], ended["total"], ended["outstanding_count"]) == ("done", 1, 2, 1)
    assert [(host["name"], host["state"]) for host in ended["outstanding"]] == [(second.name, "offline")]
    assert plane.ok("GET", f"/bridges/{bridge}")["state"] == "active"
    second.apply()  # it is back, and follows
    assert first.id in second.peers(plane.network)


def test_a_job_waits_for_the_signer_and_says_so(two):
    plane, first, second, _ = two
    acknowledge(first, second)
    plane.signd.stop()
    bridge, job = create(plane)
    wait_for(lambda: plane.ok("GET", f"/jobs/{job}")["attempts"] >= 2)
    waiting = plane.ok("GET", f"/jobs/{job}")
    assert waiting["state"] == "waiting" and "signer" in waiting["error"]
    plane.controld.kill()
    plane.start_controld()
    plane.signd.start()
    signed(plane, job)
    acknowledge(first, second)
    assert job_over(plane, job)["error"] is None
    assert plane.ok("GET", f"/bridges/{bridge}")["state"] == "active"


@pytest.mark.parametrize("victim", ["controld", "signd"])
def test_whoever_is_killed_between_two_signatures_a_bridge_comes_and_goes(crash_plane, victim):  # noqa: F811
    """Both manifests, or neither, in what a host ever sees."""
    plane = crash_plane
    lab = bytes.fromhex(network(plane, "lab", "10.8.0.0/24"))
    first, second = Agent(plane, 1).enrolled(plane.token()), Agent(plane, 2).enrolled(plane.token(["lab"]))
    acknowledge(first, second)
    both = {plane.network, lab}
    for at, wanted in enumerate(("active", None, "active", None)):  # two manifests, each asked for and answered
        plane.proxy.hook = crasher = Crasher(plane, victim, at)
        if wanted:
            bridge, job = create(plane)
        else:
            job = plane.call("DELETE", f"/bridges/{bridge}").json["job"]["id"]
        assert crasher.done.wait(10)
        crasher.over()
        revive(plane)
        for host, own in ((first, {plane.network}), (second, {lab})):
            host.apply()
            assert set(host.network_ids()) in (both, own)
        signed(plane, job)
        acknowledge(first, second)
        assert job_over(plane, job)["state"] == "done"
        assert set(first.network_ids()) == (both if wanted else {plane.network})
        assert set(second.network_ids()) == (both if wanted else {lab})
        assert [item["state"] for item in plane.ok("GET", "/bridges")["items"]] == ([wanted] if wanted else [])


# -- What can be set


def test_settings_are_bounded_and_reach_every_host(plane, enrolled):
    host = enrolled(1)
    acknowledge(host)
    for wrong in ({}, {"mtu": 1279}, {"mtu": 9001}, {"mtu": "1400"}, {"keepalive": -1}, {"keepalive": 3601}, {"add_cidrs": []}, {"name": "x"},
                  {"add_cidrs": ["10.9.0.1/24"]}, {"add_cidrs": ["127.0.0.0/24"]}, {"add_cidrs": ["10.9.0.0/24", "10.9.0.0/25"]}, {"cidrs": ["10.9.0.0/24"]}):
        plane.refuses(400, "malformed", "PATCH", "/networks/mesh", wrong)
    plane.refuses(409, "cidr-overlap", "PATCH", "/networks/mesh", {"add_cidrs": ["10.7.0.0/25"]})
    plane.refuses(409, "too-many-ranges", "PATCH", "/networks/mesh", {"add_cidrs": [f"10.{n}.0.0/24" for n in range(40, 44)]})
    assert host.apply() == 0, "refusals change nothing"
    changed = plane.ok("PATCH", "/networks/mesh", {"mtu": 1400, "keepalive": 0})
    assert (changed["mtu"], changed["keepalive"], changed["cidrs"]) == (1400, 0, ["10.7.0.0/24"])
    host.apply()
    manifest = wire.opened(host.documents[host.entries[wire.NETWORK, plane.network][4]], wire.NETWORK, plane.signd.public)
    assert manifest[3:5] == [1400, 0]


def test_a_new_range_is_used_and_no_address_moves(folder, plane, enrolled):
    plane.ok("POST", "/networks", {"name": "tiny", "workspace": "prod", "cidrs": ["10.60.0.0/30"]})
    token = plane.token(["tiny"])
    hosts = [Agent(plane, number).enrolled(token) for number in range(2)]
    assert Agent(plane, 7).enroll(token).status == 409
    plane.ok("PATCH", "/networks/tiny", {"add_cidrs": ["10.61.0.0/24", "fd00:61::/64"]})
    hosts.append(Agent(plane, 2).enrolled(token))
    acknowledge(*hosts)
    assert [host.own_addresses() for host in hosts] == [["10.60.0.1"], ["10.60.0.2"], ["10.61.0.1", "fd00:61::1"]]
    job = plane.call("POST", f"/hosts/{hosts[0].name}/reapply").json["id"]  # gives it its address of the new family
    signed(plane, job)
    acknowledge(hosts[0])
    assert hosts[0].own_addresses() == ["10.60.0.1", "fd00:61::2"]
    job_over(plane, job)


# -- The operator's console


@pytest.fixture
def console(plane, folder):
    """loopbackctl with a context of this plane."""
    made = Console(folder)
    made.write("credential", plane.credential + "\n")
    made.ok("context", "set", "here", "--url", f"http://127.0.0.1:{plane.port}", "--credential-file", made.file("credential"))
    return made


def test_the_console_bridges_and_waits(two, console):
    plane, first, second, _ = two
    acknowledge(first, second)
    stop = threading.Event()

    def hosts():
        while not stop.wait(0.05):
            acknowledge(first, second)

    thread = threading.Thread(target=hosts)
    thread.start()
    try:
        done = console.ctl("bridge", "create", "mesh", "lab", "--wait")
        assert done.returncode == 0 and "2 of 2 hosts have acknowledged" in done.stderr and "done" in done.stdout, done
        (bridge,) = console.json("bridge", "list")
        assert bridge["state"] == "active" and "lab" in console.ok("network", "show", "mesh")
        assert "bridge-exists" in console.refuses(1, "bridge", "create", "lab", "mesh", "--json")
        assert console.json("host", "reapply", "h1", "--wait", "60s")["state"] == "done"
        assert console.json("network", "reapply", "mesh", "--wait")["state"] == "done"
        assert console.json("network", "set", "mesh", "--mtu", "1400", "--add-cidr", "fd00:7::/64")["cidrs"] == ["10.7.0.0/24", "fd00:7::/64"]
        console.refuses(2, "network", "set", "mesh")
        console.refuses(2, "network", "set", "mesh", "--mtu", "99")
        console.refuses(2, "network", "set", "mesh", "--add-cidr", "10.0.0.1/8")
        ended = console.json("bridge", "delete", bridge["id"], "--wait")
        assert (ended["kind"], ended["state"], ended["outstanding"]) == ("bridge-delete", "done", [])
    finally:
        stop.set()
        thread.join()
    kinds = [job["kind"] for job in console.json("job", "list")]
    assert kinds == ["bridge-create", "host-reapply", "network-reapply", "bridge-delete"]
    assert console.json("job", "wait", ended["id"]) == ended == console.json("job", "show", ended["id"])
    assert "bridge-delete" in console.ok("job", "list") and "mesh" in console.ok("job", "show", ended["id"])


def test_a_job_that_failed_fails_the_command(plane, console):
    network(plane, "lab", "10.8.0.0/24")
    plane.controld.stop()
    with sqlite3.connect(plane.state + "/control.db") as database:
        database.execute("UPDATE cidrs SET cidr = '10.99.0.0/24' WHERE cidr = '10.8.0.0/24'")
    plane.start_controld()
    console.ok("context", "set", "here", "--url", f"http://127.0.0.1:{plane.port}")
    done = console.ctl("bridge", "create", "mesh", "lab", "--wait")
    assert done.returncode == 1 and "never taken away" in done.stderr, done
