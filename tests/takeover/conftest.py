# SPDX-License-Identifier: Apache-2.0
"""The fleet of tests/netns, in a folder and namespaces of its own."""

import importlib.util
import os
import sys

sys.dont_write_bytecode = True
os.environ.setdefault("FLEET_PREFIX", "lbo")
_NETNS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "netns")
sys.path[:0] = [os.path.dirname(os.path.realpath(__file__)), _NETNS]
_spec = importlib.util.spec_from_file_location("netns_conftest", os.path.join(_NETNS, "conftest.py"))
_netns = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_netns)

pytest_configure = _netns.pytest_configure
pytest_runtest_makereport = _netns.pytest_runtest_makereport
pytest_terminal_summary = _netns.pytest_terminal_summary
deployment_fixture = _netns.deployment_fixture
fleet_fixture = _netns.fleet_fixture
