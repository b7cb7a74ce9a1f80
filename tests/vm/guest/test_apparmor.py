# SPDX-License-Identifier: Apache-2.0
"""AppArmor in enforce mode (P2): every daemon under a profile of its own, and the profile bites. After test_packages.py."""

import json
import os
import subprocess
import sys

import machine
import pytest
from machine import run

DAEMONS = ("netd", "fetchd", "controld", "signd")
# Becomes some user, then confined as a daemon is, and tries to open a file.
OPEN = """
import os, sys
os.setresgid(int(sys.argv[4]), int(sys.argv[4]), int(sys.argv[4]))
os.setresuid(int(sys.argv[4]), int(sys.argv[4]), int(sys.argv[4]))
with open("/proc/self/attr/apparmor/current", "w") as current:
    current.write("changeprofile " + sys.argv[1])
try:
    os.close(os.open(sys.argv[2], int(sys.argv[3])))
    print("opened")
except OSError as error:
    print(error.errno)
"""


def confinement(name):
    """(profile, mode) of a daemon."""
    with open(f"/proc/{machine.main_pid(name)}/attr/apparmor/current", encoding="ascii") as file:
        label = file.read().strip()
    profile, _, mode = label.rpartition(" ")
    return profile or label, mode


def try_open(profile, path, flags, uid=0):
    """What an open(2) ends with under a profile: "opened" or the errno."""
    return subprocess.run([sys.executable, "-ISc", OPEN, profile, path, str(flags), str(uid)], capture_output=True, text=True,
                          check=True, timeout=30).stdout.strip()


@pytest.mark.parametrize("name", DAEMONS)
def test_each_daemon_runs_under_its_profile_in_enforce_mode(name):
    profile, mode = confinement(name)
    assert mode == "(enforce)", f"{name} runs as \"{profile} {mode}\""
    told = json.loads(run("aa-status", "--json"))
    assert told["profiles"][profile] == "enforce"
    processes = [entry for path in told["processes"].values() for entry in path]
    assert any(entry["profile"] == profile and entry["status"] == "enforce" for entry in processes)
    assert len({confinement(other)[0] for other in DAEMONS}) == len(DAEMONS)


@pytest.mark.parametrize("name", DAEMONS)
def test_what_is_not_its_own_is_denied(name):
    """To root as well, whom no file mode holds back: so it is the profile that says no. Of /etc, fetchd's table shows all."""
    profile, _ = confinement(name)
    foreign = f"{machine.STATE}/{'signd' if name != 'signd' else 'netd'}"
    for path, flags in (("/root", os.O_RDONLY), (foreign, os.O_RDONLY), ("/var/lib/dpkg/status", os.O_RDONLY), ("/bin/true", os.O_WRONLY),
                        ("/etc/hosts", os.O_WRONLY)) + ((("/etc/shadow", os.O_RDONLY),) if name != "fetchd" else ()):
        assert try_open("unconfined", path, flags) == "opened", path
        assert try_open(profile, path, flags) == "13", (path, flags)


@pytest.mark.parametrize("name", DAEMONS)
def test_its_own_is_allowed(name):
    """Against a profile that denies everything, which would pass the test before this one."""
    uid = int(run("id", "-u", f"_lb-{name}"))
    assert try_open(confinement(name)[0], f"{machine.STATE}/{name}", os.O_RDONLY, uid) == "opened"
