# SPDX-License-Identifier: Apache-2.0
"""What a change costs, what it leaves alone, and what outlives what: restarts of netd, of the tunnel, of the host.

What netd tells the kernel and wireguard-go is seen with strace: netlink requests that set something, UAPI operations.
"""

import base64
import re

import pytest

import rig as rigs

pytest.register_assert_rewrite("netd_rig")
from netd_fixtures import any_host, make_host, make_rig, whole_host  # noqa: E402,F401
from netd_rig import ENDPOINT, OWN  # noqa: E402  (the line above comes first)

PEERS = 300


def netlink_sets(lines):
    """Requests that change links, addresses or routes."""
    return [line for line in lines if re.search(r"nlmsg_type=RTM_(NEW|DEL|SET)", line)]


def tunnel_sets(lines):
    """UAPI operations that set something, as lists of lines."""
    return [re.search(r'"(set=1.*?)"', line).group(1).split("\\n") for line in lines if '"set=1' in line]


def named_peers(lines):
    """The peers that UAPI operations name."""
    return [base64.b64encode(bytes.fromhex(word.partition("=")[2])).decode()
            for operation in tunnel_sets(lines) for word in operation if word.startswith("public_key=")]


# ---- what a change costs

def test_unchanged_documents_cost_nothing(host):
    """The same set again, and the same contents under new generations: not one request that sets anything."""
    result, lines = host.trace(host.offer)
    assert result["outcome"] == "unchanged"
    assert (netlink_sets(lines), tunnel_sets(lines)) == ([], [])
    host.forge("network mesh")
    result, lines = host.trace(host.apply)
    assert result["outcome"] == "applied" and result["blobs"] == 2  # two documents, not one node
    assert (netlink_sets(lines), tunnel_sets(lines)) == ([], [])


def test_one_changed_peer_is_the_only_one_named(host):
    """Of 300. And the nodes that travel are its path alone."""
    key = host.forge("peer mesh 42 address=100.64.1.42 endpoint=192.0.2.9:1234")["key"]
    result, lines = host.trace(host.apply)
    assert named_peers(lines) == [key] and netlink_sets(lines) == []
    [operation] = tunnel_sets(lines)
    assert [line.partition("=")[0] for line in operation if line] == ["set", "public_key", "endpoint"]  # nothing else of it
    assert result["blobs"] <= 9  # manifest, host document, some five branches and a leaf, of the 190 that there are
    assert host.device() == host.published()


def test_one_peer_more_and_one_less(host):
    before = host.device()
    host.forge("unpeer mesh 42")
    key = host.forge("peer mesh 900 address=100.64.7.7")["key"]
    _, lines = host.trace(host.apply)
    [gone] = set(before) - set(host.device())
    assert sorted(named_peers(lines)) == sorted([key, gone]) and netlink_sets(lines) == []
    assert host.device() == host.published()


def test_a_network_more(host):
    """An address and a route of ours, nothing else of the host; and away again."""
    before = host.witness()
    host.forge("network two cidr=10.77.0.0/16")
    host.forge("self two address=10.77.0.1")
    host.forge("peers two from=10 count=1 base=10.77.0.10")  # a host that is in the other network as well
    _, lines = host.trace(host.apply)
    assert len(netlink_sets(lines)) == 2 and len(named_peers(lines)) == 1
    [both] = [entry for entry in host.device().values() if entry[1].count(",") == 1]
    assert both == (ENDPOINT, "10.77.0.10/32,100.64.1.10/32", "off")
    routes = host.host.enter("ip", "route").stdout
    assert "10.77.0.0/16 dev lb0 proto 158 scope link src 10.77.0.1" in routes
    host.forge("network two mine=0")
    host.apply()
    host.unmoved(before)


def test_a_bridge(host):
    """The other network's hosts become peers, spoken to from this host's own address; with the bridge they go."""
    before = host.witness()
    host.forge("network two cidr=10.77.0.0/16,fd77::/64 mtu=1380 keepalive=0 bridges=mesh mine=1")
    host.forge(f"peers two from=500 count=30 base=10.77.1.0 endpoint={ENDPOINT}")
    host.forge("network mesh bridges=two")
    host.forge("host networks=mesh")
    result, lines = host.trace(host.apply)
    assert len(named_peers(lines)) == 30 and result["receipt"]["peers"] == PEERS + 1 + 30
    assert host.device() == {**host.published("mesh"), **host.published("two")}
    routes = host.host.enter("ip", "route").stdout
    assert re.search(rf"^10\.77\.0\.0/16 dev lb0 .*src {OWN}\b", routes, re.M), routes
    assert "10.77." not in host.host.enter("ip", "address").stdout
    [network] = [network for network in host.status()["networks"] if network["name"] == "two"]
    assert network["addresses"] == [] and network["hosts"] == 30
    host.forge("network mesh bridges=none")  # one of the two is enough to end it
    host.forge("network two mine=0")
    _, lines = host.trace(host.apply)
    assert len(named_peers(lines)) == 30
    host.unmoved(before)


def test_new_generations_of_the_same_are_a_comparison(host):
    """Re-applied (M11): what somebody did to the peers, which nobody is told of, is found now and not minutes later."""
    key = next(iter(host.device()))
    mended = host.status()["drift_mended"]
    host.host.enter("wg", "set", "lb0", "peer", key, "remove")
    assert key not in host.device()
    host.forge("network mesh")
    result = host.apply()
    assert host.device() == host.published() and host.status()["drift_mended"] == mended + 1 == result["receipt"]["mended"]


def test_an_address_moves_between_hosts(host):
    """In one change, without a moment in which both or a third have it."""
    host.forge(f"peer mesh 3 address=100.64.1.4 endpoint={ENDPOINT}")
    host.forge(f"peer mesh 4 address=100.64.1.3 endpoint={ENDPOINT}")
    host.apply()
    assert host.device() == host.published()


def test_a_host_changes_its_key(host):
    """The new key takes the place of the old one."""
    host.forge("peer mesh 900 address=100.64.7.7")
    host.apply()
    count = len(host.device())
    key = host.forge("peer mesh 900 address=100.64.7.7 wg=new:3 counter=2")["key"]
    host.apply()
    assert key in host.device() and len(host.device()) == count
    assert host.device() == host.published()


def test_settings_of_the_network(host):
    """MTU and keepalive reach the interface and every peer."""
    host.forge("network mesh mtu=1300 keepalive=25")
    host.apply()
    assert "mtu 1300" in host.host.enter("ip", "link", "show", "lb0").stdout
    assert host.device() == host.published()
    assert {entry[2] for entry in host.device().values()} == {"25"}


def test_an_underlay_that_carries_less(host):
    """The way to the peers tells how large a packet may be (M6): its interface's MTU or its own, less WireGuard's 60 bytes (80 over IPv6)."""
    def mtu():
        return int(re.search(r"mtu (\d+)", host.host.enter("ip", "link", "show", "lb0").stdout).group(1))

    def news():
        host.host.enter("ip", "address", "add", "192.0.2.201/32", "dev", "lb0")
        host.host.enter("ip", "address", "delete", "192.0.2.201/32", "dev", "lb0")

    assert mtu() == 1380
    host.forge("empty")
    host.forge(f"self mesh address={OWN}")
    host.forge("peers mesh from=2000 count=3 base=100.64.1.0 endpoint=198.18.0.77:51820")
    host.apply()
    host.host.enter("ip", "link", "set", "eth0", "mtu", "1400")
    news()
    rigs.wait_until("a lower MTU", lambda: mtu() == 1340)
    host.host.enter("ip", "route", "add", "198.18.0.77/32", "dev", "eth0", "mtu", "1350")
    news()
    rigs.wait_until("the route's", lambda: mtu() == 1290)
    host.host.enter("ip", "route", "change", "198.18.0.77/32", "dev", "eth0", "mtu", "600")
    news()
    rigs.wait_until("no less than IPv6 needs", lambda: mtu() == 1280)
    host.host.enter("ip", "route", "delete", "198.18.0.77/32")
    host.host.enter("ip", "link", "set", "eth0", "mtu", "1500")
    news()
    rigs.wait_until("what is signed", lambda: mtu() == 1380)


def test_an_empty_network_is_a_fact(host):
    """Signed emptiness empties; and the interface stays."""
    host.forge("empty")
    host.forge("network mesh")
    host.forge(f"self mesh address={OWN}")
    host.apply()
    assert host.device() == {}
    host.forge("network mesh mine=0")
    host.apply()
    assert "100.64" not in host.host.enter("ip", "route").stdout + host.host.enter("ip", "address").stdout


# ---- what is not ours

def test_foreign_things_are_left_alone(host):
    """Addresses, routes and a WireGuard interface of somebody else, on our interface too, through every kind of change (M14)."""
    enter = host.host.enter
    enter("ip", "address", "add", "10.200.0.1/24", "dev", "eth0")
    enter("ip", "address", "add", "10.201.0.1/32", "dev", "lb0")
    enter("ip", "route", "add", "10.202.0.0/16", "via", "198.18.0.9", "proto", "static")
    enter("ip", "route", "add", "10.203.0.0/16", "dev", "lb0", "proto", "static")
    other = host.host.popen("wireguard-go", "-f", "wgother")
    try:
        rigs.wait_until("wgother", lambda: enter("wg", "show", "wgother", check=False).returncode == 0)
        key = base64.b64encode(b"k" * 32).decode()
        enter("wg", "set", "wgother", "listen-port", "4000", "peer", key, "allowed-ips", "100.64.1.3/32")
        enter("ip", "address", "add", "10.204.0.1/24", "dev", "wgother")
        enter("ip", "link", "set", "wgother", "up")

        def foreign():
            text = enter("ip", "address").stdout + enter("ip", "route").stdout
            return [line for line in text.splitlines() if "10.20" in line], enter("wg", "show", "wgother").stdout
        before = foreign()
        assert len(before[0]) == 7, before
        host.forge("peers mesh from=600 count=50 base=100.64.20.0")
        host.apply()
        assert foreign() == before
        host.restart()
        host.connect()
        assert foreign() == before
        host.forge("empty")
        host.publish()
        assert host.offer()["outcome"] == "applied"
        # Without a network our interface is down, and the kernel drops the routes through it; nothing else has gone.
        before[0].remove("10.203.0.0/16 dev lb0 proto static scope link ")
        assert foreign() == before
    finally:
        other.terminate()
        other.wait(timeout=10)
        for words in ("address delete 10.201.0.1/32 dev lb0", "address delete 10.200.0.1/24 dev eth0",
                      "route delete 10.202.0.0/16"):
            enter("ip", *words.split())


# ---- what outlives what

def test_netd_restarts_without_fetchd(host):
    """The last known good is applied, by netd alone (M15): no fetchd is connected."""
    before = host.witness()
    host.forge("disconnect")
    host.restart()
    host.unmoved(before)
    assert host.status()["stale"]
    in_force = host.connect()["in_force"]  # told to whoever comes, for the receipt of then may have been lost
    assert (in_force["outcome"], in_force["peers"]) == ("applied", host.peers + 1)
    assert host.offer()["outcome"] == "unchanged"
    assert not host.status()["stale"]


def test_restart_costs_nothing_if_nothing_drifted(host):
    """A restart reads the device and sets nothing."""
    _, lines = host.trace(host.restart, "launch")
    assert "get=1" in "".join(lines), "strace saw nothing"
    assert (netlink_sets(lines), tunnel_sets(lines)) == ([], [])
    host.connect()


def test_drift_is_mended_at_restart(host):
    """Peers removed, added, and changed by hand."""
    keys = sorted(host.device())
    stranger = base64.b64encode(b"s" * 32).decode()
    host.host.enter("wg", "set", "lb0", "peer", keys[0], "remove", "peer", keys[1], "allowed-ips", "100.64.99.99/32",
                    "peer", keys[2], "endpoint", "192.0.2.77:7", "peer", keys[3], "persistent-keepalive", "7",
                    "peer", stranger, "allowed-ips", "100.64.98.98/32")
    host.host.enter("ip", "route", "delete", "100.64.0.0/16", "dev", "lb0")
    host.host.enter("ip", "address", "delete", f"{OWN}/32", "dev", "lb0")
    host.host.enter("ip", "link", "set", "lb0", "mtu", "1400", "down")
    assert host.device() != host.published()
    _, lines = host.trace(host.restart, "launch")
    assert host.device() == host.published()
    assert set(named_peers(lines)) == {keys[0], keys[1], keys[2], keys[3], stranger}
    routes = host.host.enter("ip", "route").stdout
    assert f"100.64.0.0/16 dev lb0 proto 158 scope link src {OWN}" in routes
    assert "mtu 1380" in host.host.enter("ip", "link", "show", "lb0", "up").stdout
    host.connect()


def test_tunnel_comes_back(host):
    """wireguard-go is killed: another takes its place and has all that it had, without netd restarting."""
    before, netd, tunnel = host.witness(), host.pid(), host.pid("wg")
    host.kill("wg")
    rigs.wait_until("another tunnel", lambda: host.host.units()["loopback-wg"]["pid"] not in (0, tunnel))
    host.wait_state()
    after = host.witness()
    assert after[:2] == before[:2]
    assert host.device() == host.published()
    for family in (0, 2):  # addresses and routes of IPv4; the link-local address of IPv6 is the kernel's, and new
        assert re.sub(r"\d+: lb0", "lb0", after[2][family]) == re.sub(r"\d+: lb0", "lb0", before[2][family])
    assert host.pid() == netd
    assert host.offer()["outcome"] == "unchanged"


def test_restart_between_a_keyset_and_its_documents(host):
    """What is in force does not verify by today's keyset, and its successors have not come: the mesh runs on (M15). What comes is held to the new one."""
    published = host.published()
    host.keyset("online=second")
    host.restart()
    assert host.device() == published
    host.connect()
    host.forge("peer mesh 1 address=100.64.1.1 endpoint=192.0.2.9:5")
    host.publish()
    host.refused("forged", "sign=online")
    host.refused("forged", "sign=second")  # the host document that is in force already, of the old key
    assert host.device() == published
    host.keyset("online=online,second")
    host.connect()
    assert host.offer()["outcome"] == "applied"
    assert host.device() == host.published()


def test_host_reboots_without_fetchd(host):
    """The plug is pulled; interface and /run are gone. The mesh is back from the state folder alone."""
    published = host.published()
    host.reboot()
    assert host.device() == published
    assert f"src {OWN}" in host.host.enter("ip", "route").stdout
