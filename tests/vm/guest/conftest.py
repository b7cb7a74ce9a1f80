# SPDX-License-Identifier: Apache-2.0
"""Tests that run inside the virtual machine of tests/vm, as root; nowhere else, for they install packages and reboot."""

import os
import sys

import pytest

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../../netns")]

from deployment import Deployment  # noqa: E402  (needs the path above)


def pytest_configure(config):
    """These tests change the machine they run on."""
    if not os.path.exists("/usr/local/sbin/vm-agent"):
        raise pytest.UsageError("tests/vm/guest runs in the virtual machine that tests/vm/run starts")


@pytest.fixture(scope="session", name="site")
def site_fixture():
    """The deployment, which the first tests fill."""
    made = Deployment()
    yield made
    made.rig.take_down()
