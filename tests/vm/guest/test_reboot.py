# SPDX-License-Identifier: Apache-2.0
"""After a reboot without the control plane (M15): what test_reboot_prepare.py has set up, seen from the other side of it."""

import json
import os

import machine
import pytest
import report
from machine import run

LIMIT_S = 1.0


@pytest.fixture(scope="module", name="before")
def before_fixture():
    with open(f"{machine.NOTES}/before.json", encoding="utf-8") as file:
        return json.load(file)


def test_the_peer_answers_within_a_second_of_netds_start():
    machine.wait_until("the first answer", lambda: os.path.exists(f"{machine.NOTES}/first-answer"), 120)
    machine.wait_until("all of the file", lambda: os.path.getsize(f"{machine.NOTES}/first-answer"))
    with open(f"{machine.NOTES}/first-answer", encoding="ascii") as file:
        seen = json.load(file)
    started, ready = (int(value) for value in machine.unit("loopback-netd.service", "ExecMainStartTimestampMonotonic",
                                                           "ActiveEnterTimestampMonotonic"))
    assert seen["asked"] < started, "netd started before anybody asked"
    took = (seen["answered"] - started) / 1e6
    report.figure(f"first answer over the tunnel {took:.2f} s after netd's start (limit {LIMIT_S} s); netd ready after "
                  f"{(ready - started) / 1e6:.2f} s; netd started {started / 1e6:.1f} s after boot")
    assert took <= LIMIT_S


def test_the_mesh_is_as_it_was(before):
    assert sorted(run("wg", "show", "lb0", "allowed-ips").splitlines()) == sorted(before["peers"].splitlines())
    now = machine.status()
    assert now["state"] == "running" and now["networks"] == before["status"]["networks"]


def test_nothing_of_the_control_plane_runs():
    assert not machine.active("loopback-controld.service") and not machine.active("loopback-signd.socket")


def test_the_journal_has_nothing_to_complain_of():
    """But that the control plane is away."""
    assert [line for line in machine.complaints() if not line.startswith("fetchd: ")] == []
    assert machine.failed_units() == []
