# SPDX-License-Identifier: Apache-2.0
"""Daemons in somebody else's hands under their real units: what the rig of tests/takeover leaves to systemd is tried here (P2)."""

import os
import sys

import pytest
from test_units_booted import fleet_fixture  # noqa: F401  pylint: disable=unused-import

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "takeover"))

import under_units  # noqa: E402  (needs the path above)


class Booted:
    """A machine, for under_units."""

    def __init__(self, machine):
        self.root, self.machine = f"/proc/{machine.leader}/root", machine

    def run(self, *command):
        """A command; its output."""
        return self.machine.run(*command, check=False)


@pytest.mark.parametrize("daemon", under_units.attempts.DAEMONS)
def test_nothing_more_is_possible_than_in_the_rig(fleet, daemon):
    """Everything is refused that must be, and what the unit alone holds back as well; the others run on."""
    count, wrong = under_units.attack(Booted(fleet[0]), daemon, brief=True)
    assert count > 100 and not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)
    for machine in fleet:
        machine.run("systemctl", "is-active", "loopback-netd", "loopback-fetchd")
