# SPDX-License-Identifier: Apache-2.0
"""netd and the kernel's WireGuard: what it tells the kernel, seen with strace, and what it makes of a device that others touch.

Skipped where the kernel has none. What holds of both kinds of tunnel is tested in test_netd_changes.py and test_fleet.py.
"""

import os
import re
import signal

import pytest

import fleet as fleets
import rig as rigs

pytest.register_assert_rewrite("netd_rig")
from netd_fixtures import any_host, make_host, make_rig, whole_host  # noqa: E402,F401
from netd_rig import ENDPOINT  # noqa: E402  (the line above comes first)
from test_wg_backend import read_message  # noqa: E402

PEERS = 300
SET_DEVICE = 1  # linux/wireguard.h


def kernel_has_wireguard():
    """Loads the module, as netd does when it asks."""
    done = rigs.run("sh", "-c", "ip link add lbk9 type wireguard 2>&1 && ip link delete lbk9 || echo none")
    return "none" not in done


pytestmark = pytest.mark.skipif(not kernel_has_wireguard(), reason="this kernel has no WireGuard")


def wireguard_sets(lines):
    """The peers of every message that sets something of a WireGuard device: [[peer]]"""
    found = []
    for line in lines:
        match = re.search(r'nlmsg_type=(?:wireguard|0x[0-9a-f]+)[^}]*\}, "((?:\\x[0-9a-f]{2})+)"', line)
        body = bytes.fromhex(match.group(1).replace("\\x", "")) if match else b""
        if body[:1] == bytes([SET_DEVICE]):
            header = (16 + len(body)).to_bytes(4, "little") + b"\0\0" + (5).to_bytes(2, "little") + bytes(8)
            found.append(read_message(header + body, 0)[1])
    return found


def route_sets(lines):
    """Requests that change links, addresses or routes."""
    return [line for line in lines if re.search(r"nlmsg_type=RTM_(NEW|DEL|SET)", line)]


def wait_mended(host, before, seconds):
    """Until the host is as it was before; interface numbers may be others."""
    def same():
        witness = host.witness() if host.host.enter("wg", "show", "lb0", check=False).returncode == 0 else None
        return witness and plain(witness) == plain(before)
    rigs.wait_until("the device as it was", same, seconds, interval=0.2)


def plain(witness):
    """A witness without interface numbers and without what IPv6 makes by itself."""
    texts = [re.sub(r"(?m)^\d+: ", "", text) for text in witness[2][::2]]
    return witness[:2] + [texts]


def test_the_kernel_is_taken_and_nothing_else_runs(host):
    assert "wireguard" in host.host.enter("ip", "-d", "link", "show", "lb0").stdout
    assert host.host.units()["loopback-wg"]["state"] == "skipped"
    assert "kernel WireGuard" in host.log()


def test_one_changed_peer_is_the_only_one_named(host):
    """Of 300, in one message, and of it nothing but what changed."""
    key = host.forge("peer mesh 42 address=100.64.1.42 endpoint=192.0.2.9:1234")["key"]
    _, lines = host.trace(host.apply)
    assert route_sets(lines) == []
    assert wireguard_sets(lines) == [[{"key": key, "flags": 0, "endpoint": "192.0.2.9:1234", "allowed": []}]]
    assert host.device() == host.published()


def test_one_peer_more_and_one_less(host):
    before = host.device()
    host.forge("unpeer mesh 42")
    key = host.forge("peer mesh 900 address=100.64.7.7")["key"]
    _, lines = host.trace(host.apply)
    [gone] = set(before) - set(host.device())
    assert wireguard_sets(lines) == [[{"key": key, "flags": 2, "keepalive": 0, "allowed": ["100.64.7.7/32"]},
                                      {"key": gone, "flags": 1, "allowed": []}]]
    assert host.device() == host.published()


def test_a_restart_reads_and_sets_nothing(host):
    before = host.witness()
    _, lines = host.trace(host.restart, "launch")
    host.connect()
    assert any("nlmsg_type=wireguard" in line and "NLM_F_REQUEST|0x300" in line for line in lines), "strace saw no dump"
    assert (wireguard_sets(lines), route_sets(lines)) == ([], []) and host.witness() == before


def test_a_restart_mends_what_differs_and_names_nothing_else(host):
    keys = sorted(host.device())
    stranger = "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M="
    host.host.enter("wg", "set", "lb0", "peer", keys[0], "remove", "peer", keys[1], "allowed-ips", "100.64.99.99/32",
                    "peer", keys[2], "endpoint", "192.0.2.77:7", "peer", keys[3], "persistent-keepalive", "7",
                    "peer", stranger, "allowed-ips", "100.64.98.98/32")
    _, lines = host.trace(host.restart, "launch")
    host.connect()
    assert host.device() == host.published()
    assert {peer["key"] for peers in wireguard_sets(lines) for peer in peers} == {*keys[:4], stranger}


def test_a_link_that_was_set_down_comes_up_again(host):
    """Its routes too, which the kernel drops with it: so soon that nobody may see them gone, but netd tells of it."""
    before = host.witness()
    host.restart()
    host.connect()
    told = host.log().count("somebody changed lb0")
    host.host.enter("ip", "link", "set", "lb0", "down")
    rigs.wait_until("netd's word of it", lambda: host.log().count("somebody changed lb0") > told)
    wait_mended(host, before, 5)


def test_an_interface_that_was_deleted_is_made_again(host):
    """By the same netd, from the last known good."""
    before = host.witness()
    host.restart()
    host.connect()
    netd = host.pid()
    host.host.enter("ip", "link", "delete", "lb0")
    wait_mended(host, before, 30)
    host.wait_state()
    assert host.pid() == netd and host.device() == host.published()


def test_a_change_while_the_interface_is_gone(host):
    """Either netd has made the interface again by then, or the change is not had, what was in force comes back, and then it is taken."""
    before = host.witness()
    host.host.enter("ip", "link", "delete", "lb0")
    host.forge(f"peer mesh 900 address=100.64.7.7 endpoint={ENDPOINT}")
    host.publish()
    answer = host.offer()
    if answer["outcome"] != "applied":
        assert (answer["outcome"], answer["receipt"]["code"]) in (("broken", "broken"), ("refused", "no-device")), answer
        wait_mended(host, before, 30)
        host.wait_state()
        assert host.offer()["outcome"] == "applied"
    assert host.device() == host.published()


def test_ten_thousand_peers(host):
    host.forge(f"peers mesh from=1000 count=9700 base=100.64.64.0 endpoint={ENDPOINT}")
    answer = host.apply()
    assert len(host.device()) == 10000 and host.device() == host.published()
    print(f"10,000 peers applied in {answer['us'] / 1e6:.2f} s")


def test_a_session_outlives_netd(fleet):
    """SIGKILL, and the next netd compares: no handshake more, no counter reset."""
    host, address = fleet.host("h1"), fleet.overlay("h2")
    assert fleets.Reach(fleet, [("h1", address)]).result()[("h1", address)] is not None

    def dump():
        return {fields[0]: (int(fields[4]), int(fields[5]), int(fields[6])) for fields in
                (line.split("\t") for line in host.enter("wg", "show", "lb0", "dump").stdout.splitlines()[1:])}
    before, pid = dump(), host.pid("netd")
    assert any(handshake for handshake, _, _ in before.values())
    os.kill(pid, signal.SIGKILL)
    rigs.wait_until("a new netd", lambda: host.units()["loopback-netd"]["pid"] not in (0, pid))
    host.launch("wait")
    fleet.wait_converged()
    after = dump()
    assert after.keys() == before.keys()
    for key, (handshake, received, sent) in before.items():
        assert after[key][0] == handshake and after[key][1] >= received and after[key][2] >= sent
    assert fleets.Reach(fleet, [("h1", address)]).result()[("h1", address)] is not None
