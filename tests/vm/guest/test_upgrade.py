# SPDX-License-Identifier: Apache-2.0
"""Another version while the mesh runs. After test_packages.py, in the same run of pytest."""

import re

import machine
import pytest
from machine import run
from steady_ping import SteadyPing

CHANGES = {"upgrade": ("next", ("install", "--only-upgrade")), "downgrade": ("first", ("install", "--allow-downgrades"))}


def handshakes():
    """{public key: time of the latest handshake}"""
    return dict(line.split() for line in run("wg", "show", "lb0", "latest-handshakes").splitlines())


@pytest.mark.parametrize("change", CHANGES)
def test_no_ping_is_lost(site, change):
    """Both ways between this machine, whose agent apt replaces, and another; the control plane beside it is replaced, too."""
    folder, words = CHANGES[change]
    machine.offer_packages("first", "next")
    version = machine.offered_version(folder)
    before = {name: machine.main_pid(name) for name in ("netd", "fetchd", "controld", "signd")}
    known = handshakes()
    pings = [SteadyPing(machine.Machine, site.overlay("h2"), 0.1), SteadyPing(site.rig.hosts["h2"], site.overlay("vm"), 0.1)]
    said = machine.apt(*words, *(f"{name}={version}" for name in (machine.AGENT, machine.CONTROL, machine.OPERATOR)))
    machine.wait_until("netd running", lambda: machine.status().get("state") == "running")
    accounts = [ping.stop() for ping in pings]
    assert machine.version_of(machine.AGENT) == version, said
    for name, pid in before.items():
        assert machine.main_pid(name) not in (0, pid), f"{name} is still the old one"
    assert all(sent >= 20 and lost == 0 for sent, lost in accounts), accounts
    assert not re.search(r"(?im)^(warning|error|E:|W:)|failed", re.sub(r"(?m)^(dpkg: )?warning: downgrading .*$", "", said)), said
    again = handshakes()
    assert again.keys() == known.keys() and all(int(again[key]) >= int(known[key]) > 0 for key in known if int(known[key]))


def test_the_fleet_converges_again(site):
    site.wait_converged("vm", "h2", "h3")
    site.ctl("host", "leave", "h3", "mesh")
    site.wait_converged("vm", "h2")
    site.ctl("host", "join", "h3", "mesh")
    site.wait_converged("vm", "h2", "h3")
    assert site.unreached("vm", "h2", "h3") == []


def test_the_journal_has_nothing_to_complain_of():
    """But of what was provoked: netd was killed (test_packages.py), python confined (test_apparmor.py), the control plane replaced."""
    provoked = ("Main process exited, code=killed, status=9/KILL", "Failed with result 'signal'", 'comm="python3"', "connect to control.test", "Connection reset by peer")
    assert machine.complaints(provoked) == []
    assert machine.failed_units() == []
