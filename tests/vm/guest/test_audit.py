# SPDX-License-Identifier: Apache-2.0
"""loopback audit on what the packages installed (P5): real units, AppArmor, the distribution's kernel. After test_packages.py."""

import json
import subprocess

DAEMONS = {"netd", "fetchd", "controld", "signd"}


def test_every_daemon_is_as_declared():
    done = subprocess.run(["loopback", "audit", "--json"], capture_output=True, text=True, check=False, timeout=120)
    report = json.loads(done.stdout)
    found = [(process["name"], check) for process in report["processes"] for check in process["checks"]
             if check["result"] not in ("same", "not-shown")]
    assert not found and done.returncode == 0
    running = {process["name"]: {check["check"] for check in process["checks"]} for process in report["processes"] if process["pid"]}
    assert set(running) == DAEMONS
    assert all({"seccomp", "apparmor", "unit", "user_alone", "writable_paths"} <= checks for checks in running.values())
