# SPDX-License-Identifier: Apache-2.0
"""loopback audit on what the packages installed (P5): real units, AppArmor, the distribution's kernel. After test_packages.py."""

import json
import subprocess

import pytest

DAEMONS = {"netd", "fetchd", "controld", "signd"}


@pytest.fixture(name="alone")
def alone_fixture(site):
    """The other hosts, which are namespaces of this machine and have its users, are away."""
    for host in site.rig.hosts.values():
        host.stop()
    yield
    for host in site.rig.hosts.values():
        host.start(*host.services, options=host.options, timeout=60)


def test_every_daemon_is_as_declared(alone):
    del alone
    done = subprocess.run(["loopback", "audit", "--json"], capture_output=True, text=True, check=False, timeout=120)
    report = json.loads(done.stdout)
    found = [(process["name"], check) for process in report["processes"] for check in process["checks"]
             if check["result"] not in ("same", "not-shown")]
    assert not found and done.returncode == 0
    running = {process["name"]: {check["check"] for check in process["checks"]} for process in report["processes"] if process["pid"]}
    assert set(running) == DAEMONS
    assert all({"seccomp", "apparmor", "unit", "user_alone", "writable_paths"} <= checks for checks in running.values())
