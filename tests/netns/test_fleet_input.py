# SPDX-License-Identifier: Apache-2.0
"""What operators and hosts put in, end to end: tokens, addresses, networks that do not fit (M2, M4, M5, M7).

What is refused has an exit status that is not 0 and a message that says what to do, and leaves the host as it was: no root pinned, no interface with an
address, nothing in the API.
"""

import json
import os
import time

import pytest

import fleet as fleets
import fleetview
import rig as rigs

URL = f"https://{fleets.CONTROL_NAME}:8443"
SMALL = "10.201.0.0/30"


def enrol(fleet, name, token, *more, url=URL, authority=None):
    """loopback enroll on a host; returns subprocess.CompletedProcess."""
    host = fleet.host(name)
    for path, text in (("token", token + "\n"), ("ca.pem", authority or fleet.read("ca.pem"))):
        with open(os.path.join(host.folder, "etc", path), "w", encoding="utf-8") as file:
            file.write(text)
    return host.enter("loopback", "enroll", "--url", url, "--token-file", "/etc/loopback/token", "--ca", "/etc/loopback/ca.pem",
                      "--name", name, *more, check=False, timeout=60)


def token(fleet, *more, workspace="prod", network=fleets.NETWORK):
    """A new token, as the API tells it."""
    joins = ("--network", network) if network else ()
    return fleet.ctl("token", "create", "--workspace", workspace, *joins, *more)


def untouched(fleet, name):
    """A host that nothing has come to: no root, no address, no peer, and no place in the network."""
    told = fleetview.status(fleet, name)
    assert told["state"] == "unpinned" and told["networks"] == [] and not told["control_plane"]["enrolled"], told
    if fleet.host(name).enter("ip", "link", "show", "lb0", check=False).returncode == 0:
        assert "inet 100" not in fleet.host(name).enter("ip", "address", "show", "lb0").stdout
        assert fleetview.peers(fleet, name) == {}
    assert name not in {entry["name"] for entry in fleet.status()["hosts"]}


@pytest.fixture(scope="module", name="spare_host")
def booted_spare(deployment):
    """h29: daemons and nothing else. It is no member, so that it is told to nobody."""
    deployment.boot_host("h29")
    host = deployment.rig.hosts.pop("h29")
    yield host
    deployment.rig.hosts["h29"] = host
    done = host.enter("loopback", "leave", "--forget-keys", check=False)
    host.stop()
    deployment.rig.hosts.pop("h29")
    assert done.returncode == 0, done.stderr


@pytest.fixture(name="spare")
def spare_of_a_fleet(fleet, spare_host):
    """The fleet, with h29 beside it, which is not enrolled before and after."""
    fleet.rig.hosts["h29"] = spare_host
    yield fleet
    spare_host.enter("loopback", "leave", "--forget-keys", "--force")
    fleet.rig.hosts.pop("h29")


# ---- tokens

def expired(fleet):
    """Its time is over."""
    made = token(fleet, "--ttl", "1s")["token"]
    time.sleep(1.2)
    return made


def revoked(fleet):
    """An operator took it back."""
    made = token(fleet)
    fleet.ctl("token", "revoke", made["id"])
    return made["token"]


def unknown(fleet):
    """Of the right form, made by nobody."""
    return "ab" * 16 + "." + token(fleet)["token"].split(".", 1)[1]


def wrong_secret(fleet):
    """The id of a real one."""
    number, secret, root = token(fleet)["token"].split(".")
    return f"{number}.{secret[:-2]}{'AA' if secret[-2:] != 'AA' else 'BB'}.{root}"


def another_root(fleet):
    """The root of another deployment: this control plane cannot prove to be that one."""
    return token(fleet)["token"].rsplit(".", 1)[0] + "." + "5a" * 32


TOKENS = {
    "expired": (expired, "expired"),
    "revoked": (revoked, "revoked"),
    "unknown": (unknown, "does not know this token"),
    "wrong secret": (wrong_secret, "does not know this token"),
    "another root": (another_root, "root"),
    "cut short": (lambda fleet: token(fleet)["token"][:-20], "64 hexadecimal digits"),
    "without a root": (lambda fleet: token(fleet)["token"].rsplit(".", 1)[0], "no third part"),
    "empty": (lambda fleet: "", "token"),
    "not one": (lambda fleet: "let me in", "token"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_token_that_does_not_stand(spare, name):
    make, words = TOKENS[name]
    done = enrol(spare, "h29", make(spare))
    assert done.returncode == 1 and done.stdout == "" and words in done.stderr, done
    untouched(spare, "h29")


def test_token_for_one_host(spare):
    """--once: the second host is refused; the first may use it again, for it is the same host (an answer may get lost)."""
    made = token(spare, "--once")["token"]
    assert enrol(spare, "h29", made).returncode == 0
    spare.wait_converged()
    new = "h27"
    spare.boot_host(new)
    try:
        done = enrol(spare, new, made)
        assert done.returncode == 1 and "has been used" in done.stderr, done
        untouched(spare, new)
    finally:
        spare.rig.hosts.pop(new).stop()


def test_a_failure_tells_programs_too(spare):
    """--json: the error is JSON on stderr, stdout is empty."""
    done = enrol(spare, "h29", unknown(spare), "--json")
    assert done.returncode == 1 and done.stdout == "" and "token" in json.loads(done.stderr)["detail"]


def test_token_of_another_workspace(spare):
    """A host belongs to the workspace that it came to; a token of another one does not move it, and changes nothing of what it has."""
    try:
        spare.ctl("workspace", "create", "lab", "--organization", "acme")
    except rigs.RigError as error:
        assert "exists" in str(error)
    assert enrol(spare, "h29", token(spare)["token"]).returncode == 0
    spare.wait_converged()
    before = fleetview.overlay_view(spare, "h29")
    done = enrol(spare, "h29", token(spare, workspace="lab", network=None)["token"])
    assert done.returncode == 1 and "another workspace" in done.stderr, done
    assert fleetview.overlay_view(spare, "h29") == before
    assert fleetview.status(spare, "h29")["state"] == "running" and spare.ctl("host", "show", "h29")["workspace"]


# ---- the way to the control plane

def other_authority(fleet):
    """A CA that signed nothing here."""
    path = fleet.file("other-ca")
    rigs.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", path + ".key",
             "-out", path + ".pem", "-subj", "/CN=Somebody else")
    return fleet.read("other-ca.pem")


WAYS = {
    "nobody listens": ({"url": f"https://{fleets.CONTROL_NAME}:8444"}, 1, "Couldn't connect"),
    "no such name": ({"url": "https://nowhere.invalid:8443"}, 1, "nowhere.invalid"),
    "plain http": ({"url": f"http://{fleets.CONTROL_NAME}:8443"}, 1, "https"),
    "not a url": ({"url": "control.demo"}, 2, "https://HOST"),
    "another name": ({"url": f"https://{rigs.CONTROL_ADDRESS}.nip.invalid:8443"}, 1, "nip.invalid"),
    "another authority": ({"authority": other_authority}, 1, "certificate"),
}


@pytest.mark.parametrize("name", WAYS)
def test_way_that_leads_nowhere(spare, name):
    """Told within a minute which object is wrong; the token is not sent to whoever cannot prove to be the control plane, and can be used afterwards."""
    more, code, words = WAYS[name]
    more = {key: value(spare) if callable(value) else value for key, value in more.items()}
    made = token(spare, "--once")["token"]
    done = enrol(spare, "h29", made, **more)
    assert done.returncode == code and words in done.stderr, done
    untouched(spare, "h29")
    assert enrol(spare, "h29", made).returncode == 0


# ---- coming, going, coming again

def test_identity_and_address(spare):
    """Enrolled again: the same host, the same address. Left and come again: the same. Keys forgotten: another host, and the old one's address is free."""
    assert enrol(spare, "h29", token(spare)["token"]).returncode == 0
    spare.wait_converged()
    host, address = fleetview.status(spare, "h29")["host"], spare.overlay("h29")
    assert enrol(spare, "h29", token(spare)["token"]).returncode == 0
    spare.wait_converged()
    assert (fleetview.status(spare, "h29")["host"], spare.overlay("h29")) == (host, address)
    spare.host("h29").enter("loopback", "leave")
    spare.wait_converged([name for name in spare.members() if name != "h29"])
    untouched_peers = fleetview.peers(spare, "h1")
    assert address + "/32" not in {allowed for _, allowed, _ in untouched_peers.values()}
    assert enrol(spare, "h29", token(spare)["token"]).returncode == 0
    spare.wait_converged()
    assert (fleetview.status(spare, "h29")["host"], spare.overlay("h29")) == (host, address)
    fleetview.reach(spare, [("h29", spare.overlay("h1")), ("h1", address)])


def test_retired_identity(spare):
    """A retired host's interface empties, its peers lose it, it cannot come back, and is told how another identity can."""
    assert enrol(spare, "h29", token(spare)["token"]).returncode == 0
    spare.wait_converged()
    old = fleetview.status(spare, "h29")["host"]
    key = fleetview.status(spare, "h29")["public_key"]
    spare.ctl("host", "retire", "h29")
    others = [name for name in spare.members() if name != "h29"]
    spare.wait_converged(others)
    for name in others:
        assert key not in fleetview.peers(spare, name)
    rigs.wait_until("the end of its polls", lambda: "retired" in (fleetview.status(spare, "h29")["control_plane"]["last_error"] or ""))
    spare.host("h29").enter("loopback", "leave", "--force")
    done = enrol(spare, "h29", token(spare)["token"])
    assert done.returncode == 1 and "retired" in done.stderr and "leave --forget-keys" in done.stderr, done
    spare.host("h29").enter("loopback", "leave", "--forget-keys")
    assert enrol(spare, "h29", token(spare)["token"]).returncode == 0
    spare.wait_converged()
    assert fleetview.status(spare, "h29")["host"] != old
    fleetview.reach(spare, [("h29", spare.overlay("h1"))])


def test_leave_empties_the_interface(spare):
    """loopback leave: nobody has it any more, its own interface has no peer, no address, no route; other hosts lose no packet."""
    assert enrol(spare, "h29", token(spare)["token"]).returncode == 0
    spare.wait_converged()
    key = fleetview.status(spare, "h29")["public_key"]
    pings = fleetview.Pings(spare)
    done = spare.host("h29").enter("loopback", "leave")
    assert "has left" in done.stdout
    others = [name for name in spare.members() if name != "h29"]
    spare.wait_converged(others)
    for name in others:
        assert key not in fleetview.peers(spare, name)
    assert fleetview.peers(spare, "h29") == {}
    assert spare.host("h29").enter("ip", "-4", "-o", "address", "show", "lb0").stdout == ""
    assert spare.host("h29").enter("ip", "-4", "route", "show", "table", "all", "dev", "lb0").stdout == ""
    assert pings.stop()[1] == 0


# ---- networks

@pytest.fixture(name="small")
def small_network(fleet):
    """A network beside the mesh, with room for two hosts; removed afterwards."""
    fleet.ctl("network", "create", "small", "--workspace", "prod", "--cidr", SMALL, "--mtu", "1300")
    yield fleet
    for entry in fleet.status("small")["hosts"]:
        fleet.ctl("host", "leave", entry["name"], "small")
    fleet.wait_converged()
    fleet.ctl("network", "delete", "small")


def test_two_networks_on_one_interface(small):
    """A host in two networks has one interface with both addresses and the smaller MTU; a peer that shares both has one entry with both addresses. Out
    of the second, all is as it was; the first loses no packet throughout."""
    before = {name: fleetview.overlay_view(small, name) for name in ("h1", "h2", "h3")}
    pings = fleetview.Pings(small)
    for name in ("h1", "h2"):
        small.ctl("host", "join", name, "small")
    small.wait_converged(["h1", "h2"], network="small")
    key = fleetview.status(small, "h2")["public_key"]
    mesh, second = small.overlay("h2"), small.overlay("h2", "small")
    assert fleetview.peers(small, "h1")[key][1].split(",") == sorted([mesh + "/32", second + "/32"])
    link = json.loads(small.host("h1").enter("ip", "-j", "address", "show", "lb0").stdout)[0]
    assert link["mtu"] == 1300
    assert {entry["local"] for entry in link["addr_info"] if entry["family"] == "inet"} == {small.overlay("h1"), small.overlay("h1", "small")}
    routes = {route["dst"] for route in json.loads(small.host("h1").enter("ip", "-j", "route", "show", "dev", "lb0").stdout)}
    assert routes == {fleets.CIDR, SMALL}
    fleetview.reach(small, [("h1", second), ("h1", mesh)])
    assert fleetview.overlay_view(small, "h3") == before["h3"]
    for name in ("h1", "h2"):
        small.ctl("host", "leave", name, "small")
    small.wait_converged()
    rigs.wait_until("the network's end", lambda: fleetview.overlay_view(small, "h1") == before["h1"]
                    and fleetview.overlay_view(small, "h2") == before["h2"])
    assert pings.stop()[1] == 0


def test_network_that_is_full(small):
    """A /30 has two addresses: the third host is refused, in words, and stays as it was; so does the network."""
    for name in ("h1", "h2"):
        small.ctl("host", "join", name, "small")
    status = small.wait_converged(["h1", "h2"], network="small")
    before = fleetview.overlay_view(small, "h3")
    done = small.ctl_text("host", "join", "h3", "small", check=False)
    assert done.returncode == 1 and "no free address" in done.stderr and "small" in done.stderr, done
    assert small.status("small")["generation"] == status["generation"]
    assert fleetview.overlay_view(small, "h3") == before
    small.wait_converged()


def test_network_that_is_full_at_enrolment(small, spare_host):
    """The same by a token: nothing of the host is left behind."""
    for name in ("h1", "h2"):
        small.ctl("host", "join", name, "small")
    small.rig.hosts["h29"] = spare_host
    try:
        done = enrol(small, "h29", token(small, network="small")["token"])
        assert done.returncode == 1 and "no free address" in done.stderr, done
        untouched(small, "h29")
    finally:
        small.rig.hosts.pop("h29")


def test_range_that_a_host_routes_elsewhere(small):
    """h1 has a route into the network's range: it refuses, says so in the API, and keeps all that it has; h2 goes on. Once the route is gone, h1 takes it."""
    host = small.host("h1")
    host.enter("ip", "route", "add", "10.201.0.0/16", "dev", "eth0")
    try:
        before, others = fleetview.overlay_view(small, "h1"), fleetview.others_view(small, "h1")
        pings = fleetview.Pings(small)
        for name in ("h1", "h2"):
            small.ctl("host", "join", name, "small")

        def refused():
            receipt = small.ctl("host", "show", "h1")["receipt"]
            return receipt["outcome"] == "refused" and receipt
        receipt = rigs.wait_until("a refusal", refused)
        assert receipt["code"] == "route-overlap" and "10.201.0.0/16" in receipt["reason"] and "small" in receipt["reason"]
        assert fleetview.overlay_view(small, "h1") == before and fleetview.others_view(small, "h1") == others
        assert fleetview.status(small, "h1")["last_result"]["code"] == "route-overlap"
        rigs.wait_until("h2's acknowledgement", lambda: any(
            entry["name"] == "h2" and entry["outcome"] == "applied" for entry in small.status("small")["hosts"]))
        assert not small.status("small")["converged"]
        assert pings.stop()[1] == 0
    finally:
        host.enter("ip", "route", "del", "10.201.0.0/16", "dev", "eth0")
    small.wait_converged(["h1", "h2"], network="small", timeout=40)
    fleetview.reach(small, [("h1", small.overlay("h2", "small"))])
