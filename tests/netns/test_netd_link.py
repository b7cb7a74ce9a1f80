# SPDX-License-Identifier: Apache-2.0
"""Somebody else changes the overlay interface under a running netd: it is put right at once (M12), and the rest of the host is not its business (M14)."""

import re
import time

import pytest

import procview
import rig as rigs

pytest.register_assert_rewrite("netd_rig")
from netd_fixtures import make_host, make_rig, whole_host  # noqa: E402,F401
from netd_rig import OWN  # noqa: E402  (the line above comes first)

SOON = 3.0  # seconds: a look follows the news within 0.1 s, or 2 s after the last one
ROUTE = f"100.64.0.0/16 dev lb0 proto 158 scope link src {OWN}"


@pytest.fixture(name="host")
def quiet_host(whole):
    time.sleep(2.1)  # the news of the change itself is over
    return whole


def mended(host):
    """How often netd says to have mended the interface."""
    return host.host.log("netd").count("mended")


def whole(host):
    """Is everything as it was signed?"""
    return (ROUTE in host.host.enter("ip", "route").stdout and
            f"inet {OWN}/32 " in host.host.enter("ip", "-4", "address", "show", "lb0").stdout and
            "mtu 1380" in host.host.enter("ip", "link", "show", "lb0", "up").stdout)


@pytest.mark.parametrize("change", ["address delete {own}/32 dev lb0", "address flush dev lb0", "route delete 100.64.0.0/16 dev lb0",
                                    "link set lb0 mtu 9000", "link set lb0 down"])
def test_what_somebody_undoes_is_mended(host, change):
    """Without a new document, without a restart, long before the next comparison."""
    assert whole(host)
    before = mended(host)
    host.host.enter("ip", *change.format(own=OWN).split())
    rigs.wait_until("mending", lambda: whole(host), SOON)
    rigs.wait_until("its line in the log", lambda: mended(host) == before + 1, SOON)
    assert host.device() == host.published()
    assert host.offer()["outcome"] == "unchanged"


def test_additions_of_others_are_left_alone(host):
    """An address and a route that somebody adds to the interface are theirs."""
    before = mended(host)
    host.host.enter("ip", "address", "add", "192.0.2.200/32", "dev", "lb0")
    host.host.enter("ip", "route", "add", "192.0.2.128/28", "dev", "lb0")
    time.sleep(0.5)
    assert "192.0.2.200/32" in host.host.enter("ip", "-4", "address", "show", "lb0").stdout
    assert "192.0.2.128/28" in host.host.enter("ip", "route").stdout
    assert mended(host) == before
    host.host.enter("ip", "route", "delete", "192.0.2.128/28", "dev", "lb0")
    host.host.enter("ip", "address", "delete", "192.0.2.200/32", "dev", "lb0")


def test_other_interfaces_do_not_wake_netd(host):
    """A host with containers makes and removes interfaces, addresses and routes all the time."""
    def woken():
        return int(procview.status(host.pid())["voluntary_ctxt_switches"])

    before = woken()
    for number in range(20):
        host.host.enter("ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1")
        host.host.enter("ip", "address", "add", f"192.0.2.{number}/24", "dev", "other0")
        host.host.enter("ip", "link", "set", "other0", "up")
        host.host.enter("ip", "route", "add", "203.0.113.0/24", "dev", "other0")
        host.host.enter("ip", "link", "delete", "other0")
    assert woken() - before <= 5  # timers of its own


def test_who_works_against_it_costs_little(host):
    """Somebody removes the address as fast as it can for some seconds: it is put back every 2 s, and stays when they stop."""
    before, begun = mended(host), time.monotonic()
    while time.monotonic() - begun < 5:
        host.host.enter("ip", "address", "delete", f"{OWN}/32", "dev", "lb0", check=False)
        time.sleep(0.02)
    rigs.wait_until("mending", lambda: whole(host), SOON)
    took = time.monotonic() - begun
    assert 2 <= mended(host) - before <= took / 2 + 2
    assert re.search(r"drift: somebody changed lb0", host.host.log("netd"))
