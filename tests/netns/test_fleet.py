# SPDX-License-Identifier: Apache-2.0
"""A fleet whose parts die: what the others notice of it (M8, M15, P1)."""

import os
import signal

import fleet as fleets
import pytest
import rig
from steady_ping import SteadyPing


def pair_up(fleet):
    """Two hosts whose tunnel is up: (host, other host's overlay address)."""
    host, address = fleet.host("h1"), fleet.overlay("h2")
    assert fleets.Reach(fleet, [("h1", address)]).result()[("h1", address)] is not None
    return host, address


def test_only_netd_holds_capabilities(fleet):
    for name in fleet.members():
        for service, unit in fleet.host(name).units().items():
            if not unit["pid"]:
                continue
            with open(f"/proc/{unit['pid']}/status", encoding="utf-8") as file:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            held = {key: int(status[key], 16) for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
            if service == "loopback-netd":
                assert held["CapEff"] == (1 << 12) | (1 << 39)
            else:
                assert set(held.values()) == {0}, service
            assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", service
            assert "0" not in status["Uid"].split(), service


@pytest.mark.parametrize("service", ["netd", "fetchd"])
def test_a_killed_daemon_costs_no_packet(fleet, service):
    host, address = pair_up(fleet)
    pings = SteadyPing(host, address)
    before = host.pid(service)
    os.kill(before, signal.SIGKILL)
    rig.wait_until(f"a new {service}", lambda: host.units()[f"loopback-{service}"]["pid"] not in (0, before))
    host.launch("wait")
    fleet.wait_converged()
    sent, lost = pings.stop()
    assert sent > 2 and lost == 0


def test_the_mesh_runs_on_without_its_control_plane(fleet):
    host, address = pair_up(fleet)
    for service in ("loopback-controld", "loopback-signd"):
        fleet.host("cp").launch("stop", service)
    assert fleets.Reach(fleet, [("h1", address)]).result()[("h1", address)] is not None
    host.reboot(sure=True)
    found = fleets.Reach(fleet, [("h1", address)]).result()
    assert found[("h1", address)] is not None, "not from the last known good state"


def test_a_host_that_was_away_learns_what_it_missed(fleet):
    fleet.host("h2").launch("stop", "loopback-fetchd")
    new = f"h{len(fleet.members()) + 1}"
    fleet.add(new)
    rig.wait_until("acknowledgements of the others", lambda: sum(
        entry["acknowledged_generation"] == fleet.status()["generation"] for entry in fleet.status()["hosts"]) >= 2)
    assert not fleet.status()["converged"]
    fleet.host("h2").launch("start", "loopback-fetchd")
    fleet.wait_converged()
    address = fleet.overlay(new)
    assert fleets.Reach(fleet, [("h2", address)]).result()[("h2", address)] is not None


def test_the_first_packet_to_a_new_host_does_not_wait_for_a_second_handshake(fleet):
    """Two hosts that learn of each other at the same moment must not both initiate: WireGuard would try again only after 5 s."""
    slowest = 0.0
    for name in ("h7", "h8", "h9"):
        fleet.boot_host(name)
        fleet.enroll(name)
        fleet.wait_converged()
        pairs = [(name, fleet.overlay(other)) for other in fleet.members() if other != name]
        slowest = max(slowest, max(fleets.Reach(fleet, pairs).result().values()))
    assert slowest < 3.0, slowest
