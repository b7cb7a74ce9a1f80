# SPDX-License-Identifier: Apache-2.0
"""A change that cuts a host off from a real control plane, and one during which the control plane really is down (M7)."""

import json
import time

import pytest

import rig as rigs

PATIENCE = 3  # seconds


def confirm(fleet, name):
    """What netd says of the change in force."""
    return json.loads(fleet.host(name).enter("loopback", "status", "--json").stdout)["confirm"]["state"]


def routes(fleet, name):
    """All IPv4 routes of a host but those of the overlay."""
    return [line for line in fleet.host(name).enter("ip", "-4", "route", "show", "table", "all").stdout.splitlines() if "lb0" not in line]


@pytest.fixture(scope="module", name="far")
def far_host(deployment):
    """A host that reaches the control plane by its default route alone, and has little patience."""
    host = deployment.add("h61", options={"netd": f"--interface lb0 --listen-port 51820 --confirm {PATIENCE}"})
    deployment.wait_converged()
    host.enter("ip", "route", "add", "default", "dev", "eth0")
    host.enter("ip", "route", "delete", "198.18.0.0/15", "dev", "eth0")
    rigs.wait_until("word that the mesh is confirmed", lambda: confirm(deployment, "h61") == "confirmed")
    yield "h61"
    host.enter("loopback", "leave")
    host.stop()
    deployment.rig.hosts.pop("h61")


def test_a_network_that_hides_the_control_plane(fleet, far):
    """Its range holds the control plane's address. The host gets back to it by itself and says so; the network is left, and all is well."""
    before = routes(fleet, far)
    fleet.ctl("network", "create", "trap", "--workspace", "prod", "--cidr", "198.18.0.0/24")
    fleet.ctl("host", "join", far, "trap")
    rigs.wait_until("restored", lambda: confirm(fleet, far) == "restored", PATIENCE + 20)
    assert routes(fleet, far) == before and "198.18.0.0/24" not in fleet.host(far).enter("ip", "route").stdout
    assert fleet.reaches("h1", fleet.overlay(far))
    rigs.wait_until("its receipt", lambda: (fleet.ctl("host", "show", far)["receipt"] or {}).get("code") == "restored", 20)
    fleet.ctl("host", "leave", far, "trap")
    fleet.wait_converged()
    rigs.wait_until("confirmed", lambda: confirm(fleet, far) == "confirmed")
    fleet.ctl("network", "delete", "trap")


def test_an_outage_is_not_blamed_on_a_change(fleet, far):
    """The last change was confirmed; the control plane goes down for longer than the patience, and nothing moves."""
    def peers():
        return sorted(fleet.host(far).enter("wg", "show", "lb0", "allowed-ips").stdout.splitlines())

    def link():
        return json.loads(fleet.host(far).enter("loopback", "status", "--json").stdout)["control_plane"]

    before = peers(), routes(fleet, far)
    fleet.host("cp").launch("stop", "loopback-controld")
    down = time.monotonic()
    rigs.wait_until("an outage that is longer than the patience", lambda: not link()["online"] and time.monotonic() - down > PATIENCE + 1, 30)
    assert confirm(fleet, far) == "confirmed" and (peers(), routes(fleet, far)) == before
    fleet.host("cp").launch("start", "loopback-controld")
    fleet.wait_converged(timeout=40)
    rigs.wait_until("the control plane", lambda: link()["online"], 40)
