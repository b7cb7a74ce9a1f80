# SPDX-License-Identifier: Apache-2.0
"""Hosts come and go while others talk: nobody else notices, and nothing of the host that is not ours is touched (M2, M8, M14)."""

import json
import subprocess
import time

import pytest

import fleetview
import rig as rigs

FLOOD_PER_SECOND = 200
ROUNDS = 4


@pytest.fixture(name="whole")
def whole_fleet(fleet):
    """The fleet; afterwards h3 is a member again."""
    yield fleet
    fleetview.set_membership(fleet, "h3", True)


class Monitor:
    """`ip monitor` of one host: what the kernel tells of its links, addresses, routes and rules."""

    def __init__(self, host):
        self.process = host.popen("ip", "-o", "monitor", "link", "address", "route", "rule", stdout=subprocess.PIPE, text=True)
        time.sleep(0.2)

    def stop(self):
        """Everything that was told, by line."""
        time.sleep(0.1)
        self.process.terminate()
        lines = self.process.communicate(timeout=10)[0].splitlines()
        return [line for line in lines if line.strip()]


def test_changes_under_load(whole):
    """h3 goes and comes ROUNDS times under FLOOD_PER_SECOND packets a second each way between h1 and h2: none is lost; their handshake with each other is the one
    from before or WireGuard's own renewal of it; the kernel has nothing to tell of any link, address or route of h1."""
    pings = fleetview.Pings(whole, interval=1 / FLOOD_PER_SECOND)
    other = fleetview.status(whole, "h2")["public_key"]
    gone = fleetview.status(whole, "h3")["public_key"]
    shaken, began = fleetview.handshakes(whole, "h1")[other], time.monotonic()
    monitor, pid = Monitor(whole.host("h1")), whole.host("h1").pid("netd")
    for turn in range(ROUNDS):
        fleetview.set_membership(whole, "h3", turn % 2 == 1)
        assert (gone in fleetview.peers(whole, "h1")) == (turn % 2 == 1)
    told = monitor.stop()
    sent, lost = pings.stop(at_least=100)
    assert lost == 0, f"{lost} of {sent}"
    if time.monotonic() - began < 100:  # sessions are renewed after 120 s; none of ours is so old
        assert fleetview.handshakes(whole, "h1")[other] == shaken
    assert [line for line in told if "lb0" in line] == []
    assert whole.host("h1").pid("netd") == pid


def test_a_flood(whole):
    """The same under as many packets as the tunnel takes (ping -f, a bounded number): what is lost is lost without a change as well, namely nothing."""
    host, address = whole.host("h1"), whole.overlay("h2")
    fleetview.reach(whole, [("h1", address)])
    flood = host.popen("ping", "-f", "-q", "-c", "6000", "-W", "5", address, stdout=subprocess.PIPE, text=True)
    for member in (False, True):
        fleetview.set_membership(whole, "h3", member)
    words = flood.communicate(timeout=60)[0]
    assert "6000 packets transmitted, 6000 received" in words, words


def test_only_the_changed_peer_is_named(whole):
    """Traffic counters, endpoint and handshake of h2 at h1 go on from where they were: the peer was not made anew."""
    fleetview.reach(whole, fleetview.all_pairs(whole, ["h1", "h2"]))
    key = fleetview.status(whole, "h2")["public_key"]

    def counters():
        for line in whole.host("h1").enter("wg", "show", "lb0", "dump").stdout.splitlines()[1:]:
            fields = line.split("\t")
            if fields[0] == key:
                return fields[2], int(fields[5]), int(fields[6])
        raise AssertionError("h2 is not there")
    endpoint, received, sent = counters()
    assert received > 0 and sent > 0
    fleetview.set_membership(whole, "h3", False)
    after = counters()
    assert after[0] == endpoint and after[1] >= received and after[2] >= sent


def foreign(host):
    """Things on a host that are none of ours, of every kind that we work with."""
    host.enter("ip", "link", "add", "foreign0", "type", "veth", "peer", "name", "foreign1")
    host.enter("ip", "link", "set", "foreign1", "up")
    host.enter("ip", "link", "set", "foreign0", "up", "mtu", "1432")
    host.enter("ip", "address", "add", "203.0.113.7/24", "dev", "foreign0")
    host.enter("ip", "-6", "address", "add", "2001:db8::7/64", "dev", "foreign0", "nodad")
    host.enter("ip", "route", "add", "192.0.2.0/24", "via", "203.0.113.1", "proto", "static")
    host.enter("ip", "route", "add", "198.51.100.0/24", "dev", "foreign0", "table", "77")
    host.enter("ip", "route", "add", "blackhole", "240.0.0.0/8")
    host.enter("ip", "rule", "add", "from", "203.0.113.0/24", "lookup", "77", "priority", "700")
    host.enter("ip", "-6", "rule", "add", "from", "2001:db8::/64", "lookup", "77", "priority", "700")
    host.enter("nft", "-f", "-", input="table inet foreign {\n chain in { type filter hook input priority 0; policy accept; tcp dport 1 drop; }\n}\n")


def test_nothing_of_others_is_touched(whole):
    """Links, addresses, routes of all tables, rules, firewall and settings of a host are the same before it enrols, as a member, after changes, after a restart
    of each daemon and after it has left; and its overlay address is the same throughout."""
    host = whole.boot_host("h28")
    try:
        foreign(host)
        rigs.wait_until("IPv6's own addresses", lambda: "tentative" not in host.enter("ip", "address").stdout)
        before = fleetview.others_view(whole, "h28")
        assert any("foreign0" in line for line in before[0]) and "chain in" in before[6] and "ip_forward" in before[7]
        whole.enroll("h28")
        whole.wait_converged()
        assert fleetview.others_view(whole, "h28") == before
        address = whole.overlay("h28")
        fleetview.reach(whole, [("h28", whole.overlay("h1")), ("h1", address)])
        fleetview.set_membership(whole, "h3", False)
        fleetview.set_membership(whole, "h3", True)
        assert fleetview.others_view(whole, "h28") == before
        for service in ("netd", "fetchd"):
            host.launch("restart", f"loopback-{service}")
        if host.units()["loopback-wg"]["pid"]:
            fleetview.kill(host, "wg")
            rigs.wait_until("the tunnel", lambda: fleetview.netd_status(whole, "h28")["state"] == "running")
        whole.wait_converged()
        assert fleetview.others_view(whole, "h28") == before
        assert [network["addresses"] for network in fleetview.status(whole, "h28")["networks"]] == [[address + "/32"]]
        assert whole.overlay("h28") == address
        host.enter("loopback", "leave")
        assert fleetview.others_view(whole, "h28") == before
    finally:
        host.enter("loopback", "leave", "--force", check=False)
        host.stop()
        whole.rig.hosts.pop("h28")
    whole.wait_converged()


def test_addresses_stay(whole):
    """Restarts of every process, in both places, change nobody's address, key or host id, and the documents stay of the same generation."""
    def identities():
        shown = {name: fleetview.netd_status(whole, name) for name in whole.members()}
        return {name: (told["host"], told["public_key"], json.dumps(told["networks"])) for name, told in shown.items()}
    before = identities()
    for service in ("loopback-signd", "loopback-controld"):
        whole.host("cp").launch("restart", service)
    for name in whole.members():
        for service in ("loopback-netd", "loopback-fetchd"):
            whole.host(name).launch("restart", service)
    whole.wait_converged()
    assert identities() == before
