# SPDX-License-Identifier: Apache-2.0
"""What tests of several hosts share. Run as root: /usr/bin/python3 -m pytest tests/netns"""

import os
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import rig as rig_module  # noqa: E402  (needs the path above)

WORK = os.path.join(rig_module.ROOT, "build/netns")


def pytest_configure(config):
    """Say at once what would otherwise fail in every test."""
    if os.geteuid() != 0:
        raise pytest.UsageError("the tests in tests/netns make network namespaces: run them as root")
    config.addinivalue_line("markers", "fleet: needs the built programs")
