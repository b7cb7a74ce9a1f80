# SPDX-License-Identifier: Apache-2.0
"""Bridges between networks of running hosts, and two machines with one identity among them; wg(8) is the witness."""

import fleetview
import pytest
import rig as rigs

LEFT, RIGHT = ("10.77.0.0/24", "fd00:77::/64"), ("10.78.0.0/24", "fd00:78::/64")


@pytest.fixture(name="apart", params=[2, 1], ids=["dual", "ipv6"])
def apart_fixture(fleet, request):
    """h1 and h2 in mesh; h1 in a network of the organization, h3 in one of the workspace and nowhere else. Afterwards as before."""
    for name, scope, cidrs in (("left", "--organization=acme", LEFT[-request.param:]), ("right", "--workspace=prod", RIGHT[-request.param:])):
        fleet.ctl("network", "create", name, scope, *(f"--cidr={cidr}" for cidr in cidrs))
    fleetview.set_membership(fleet, "h3", False)
    fleet.ctl("host", "join", "h1", "left")
    fleet.ctl("host", "join", "h3", "right")
    fleet.wait_converged({"h1"}, network="left")
    fleet.wait_converged({"h3"}, network="right")
    yield fleet
    for bridge in fleet.ctl("bridge", "list"):
        if bridge["state"] == "active":
            fleet.ctl("bridge", "delete", bridge["id"], "--wait", "60s")
    for host, network in (("h1", "left"), ("h3", "right")):
        fleet.ctl("host", "leave", host, network)
        fleet.ctl("network", "delete", network)
    fleetview.set_membership(fleet, "h3", True)


def addresses(fleet, name, network):
    """Of each family, IPv6 last."""
    (entry,) = [entry for entry in fleet.status(network)["hosts"] if entry["name"] == name]
    return [address.split("/")[0] for address in entry["addresses"]]


def test_a_bridge_comes_and_goes_and_nobody_within_the_networks_notices(apart):
    keys = {name: fleetview.status(apart, name)["public_key"] for name in ("h1", "h2", "h3")}
    there, here = addresses(apart, "h3", "right"), addresses(apart, "h1", "left")
    assert len(there) == len(here) and [":" in address for address in there + here] in ([True, True], [False, True] * 2)
    assert keys["h3"] not in fleetview.peers(apart, "h1") and keys["h1"] not in fleetview.peers(apart, "h3")
    generations = {name: apart.status(name)["generation"] for name in ("mesh", "left", "right")}
    pings = fleetview.Pings(apart, interval=0.005)

    made = apart.ctl_text("bridge", "create", "left", "right", "--wait", "30s")
    assert "2 of 2 hosts have acknowledged" in made.stderr
    (bridge,) = apart.ctl("bridge", "list")
    assert bridge["state"] == "active"
    fleetview.reach(apart, [("h1", address) for address in there] + [("h3", address) for address in here])
    allowed = fleetview.peers(apart, "h1")[keys["h3"]][1]
    assert set(allowed.split(",")) == {address + ("/128" if ":" in address else "/32") for address in there}, "exactly its addresses"
    assert keys["h3"] not in fleetview.peers(apart, "h2") and keys["h2"] not in fleetview.peers(apart, "h3"), "mesh is not bridged"
    assert {network["name"] for network in fleetview.status(apart, "h3")["networks"] if network["addresses"]} == {"right"}

    apart.ctl("bridge", "delete", bridge["id"], "--wait", "30s")
    assert apart.ctl("bridge", "list") == []
    assert keys["h3"] not in fleetview.peers(apart, "h1") and fleetview.peers(apart, "h3") == {}
    assert not apart.reaches("h1", there[0], wait=0.5) and not apart.reaches("h3", here[-1], wait=0.5)
    sent, lost = pings.stop(at_least=50)
    assert lost == 0, f"{lost} of {sent}"
    assert {name: apart.status(name)["generation"] - generation for name, generation in generations.items()} == {"mesh": 0, "left": 2, "right": 2}


def test_a_host_that_is_away_follows_when_it_is_back(apart):
    """Its fetchd is stopped; the job names it, and ends once it is offline or back."""
    there = addresses(apart, "h3", "right")
    apart.host("h3").launch("stop", "loopback-fetchd")
    bridge = apart.ctl("bridge", "create", "left", "right")
    job = bridge["job"]["id"]
    rigs.wait_until("h1 follows", lambda: apart.ctl("job", "show", job)["done"] == 1)
    shown = apart.ctl("job", "show", job)
    assert shown["state"] == "running" and [host["name"] for host in shown["outstanding"]] == ["h3"]
    apart.host("h3").launch("start", "loopback-fetchd")
    assert apart.ctl("job", "wait", job, "--wait", "60s")["done"] == 2
    fleetview.reach(apart, [("h1", there[0])])


def test_reapply_mends_nothing_where_nothing_is_wrong(fleet):
    """The host's document is of another generation; its peers and sessions are the ones from before."""
    before = fleetview.settled_peers(fleet, "h1")
    pings = fleetview.Pings(fleet)
    assert fleet.ctl("host", "reapply", "h1", "--wait", "30s")["done"] == 1
    assert fleet.ctl("network", "reapply", "mesh", "--wait", "30s")["outstanding"] == []
    sent, lost = pings.stop()
    assert lost == 0, f"{lost} of {sent}"
    assert fleetview.settled_peers(fleet, "h1") == before


def test_a_setting_reaches_the_interface(fleet):
    """The MTU and keepalive of a network, on every host of it, and back."""
    before = fleet.ctl("network", "show", "mesh")
    try:
        fleet.ctl("network", "set", "mesh", "--mtu", "1300", "--keepalive", "11")
        fleet.wait_converged()
        assert "mtu 1300" in fleet.host("h1").enter("ip", "link", "show", "lb0").stdout
        assert {keepalive for _, _, keepalive in fleetview.settled_peers(fleet, "h1").values()} == {"11"}
    finally:
        fleet.ctl("network", "set", "mesh", "--mtu", str(before["mtu"]), "--keepalive", str(before["keepalive"]))
    fleet.wait_converged()


def test_a_cloned_disk(fleet):
    """A host's folder in another machine: both are named, the second has no tunnel and says what to do, peers stay with the first."""
    first = fleet.add("h77")
    fleet.wait_converged()
    address, key = fleet.overlay("h77"), fleetview.status(fleet, "h77")["public_key"]
    try:
        fleetview.reach(fleet, [("h1", address), ("h77", fleet.overlay("h1"))])
        clone = fleet.rig.add_host("h76", "198.18.1.76", {"control.demo": rigs.CONTROL_ADDRESS})
        rigs.run("cp", "-a", first.folder + "/lib/.", clone.folder + "/lib")
        clone.start(*first.services, options=first.options)
        rigs.wait_until("both are named", lambda: fleet.ctl("host", "show", "h77")["duplicate"], 30)
        shown = fleet.ctl("host", "show", "h77")
        assert (shown["duplicate"]["first_address"], shown["duplicate"]["second_address"]) == (first.address, clone.address)
        assert shown["state"] == "degraded" and clone.address in shown["state_reason"]

        def told():
            return "loopback leave --force --forget-keys" in clone.enter("loopback", "status", check=False).stdout
        rigs.wait_until("the second says what to do", told, 30)
        rigs.wait_until("the second has no peers", lambda: fleetview.peers(fleet, "h76") == {}, 30)
        # Once it is silent, the first one's tunnels are all there is.
        fleetview.reach(fleet, [("h77", fleet.overlay("h1")), ("h77", fleet.overlay("h2"))], 25)
        fleetview.reach(fleet, [("h1", address), ("h2", address)])
        for name in ("h1", "h2"):
            assert fleetview.peers(fleet, name)[key][0] == f"{first.address}:51820"
        assert fleet.ctl("host", "show", "h77")["seen_address"] == first.address

        # What it was told to do makes another host of it, and leaves the first one where it is.
        clone.enter("loopback", "leave", "--force", "--forget-keys")
        fleet.enroll("h76")
        fleet.wait_converged()
        assert fleet.overlay("h76") != address and fleet.overlay("h77") == address
        fleetview.reach(fleet, [("h76", address), ("h1", fleet.overlay("h76")), ("h1", address)])
    finally:
        for name in ("h76", "h77"):
            if name in fleet.rig.hosts:
                fleet.host(name).enter("loopback", "leave", "--force", check=False)
                fleet.host(name).stop()
                fleet.rig.hosts.pop(name)
    fleet.wait_converged()
