# SPDX-License-Identifier: Apache-2.0
"""What stays when our packages go. The last tests of a machine."""

import os
import re

import machine
from machine import run
from test_packages import files_of_system

ALL = (machine.AGENT, machine.CONTROL, machine.OPERATOR)
# Of the package manager and of systemd; the account files, in which our users stay (their numbers must never be given to others).
# apparmor.d/disable: AppArmor's own, an empty folder; dh_apparmor's script in each package that has a profile takes it away if it can.
OTHERS = re.compile(r"/etc/apparmor\.d/disable$|"
                    r"/etc/(hosts|apt/sources\.list|passwd-?|group-?|shadow-?|gshadow-?|subuid-?|subgid-?|\.pwd\.lock|ld\.so\.cache)$|"
                    r"/etc/systemd/system/(vm-|multi-user\.target\.wants/vm-)|"
                    r"/var/lib/(systemd|dbus|private|ucf|polkit-1|AccountsService)(/|$)|/var/cache/(private|debconf|apparmor)(/|$)|"
                    r"/etc/machine-id$|/var/lib/apt")


def test_remove_stops_everything_and_keeps_state_and_configuration():
    run("systemctl", "unmask", "loopback-controld.service", "loopback-signd.service", "loopback-signd.socket")
    pids = [pid for pid in (machine.main_pid(name) for name in ("netd", "fetchd", "controld", "signd")) if pid]
    kept = {path for path in files_of_system() if path.startswith((machine.STATE + "/netd/", machine.STATE + "/signd/"))
            and not path.endswith(("-wal", "-shm"))}  # a database that is closed in order takes these away itself
    assert pids and kept
    machine.apt("remove", machine.AGENT, machine.CONTROL, machine.OPERATOR)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert "does not exist" in run("ip", "link", "show", "lb0", check=False)
    assert not os.path.exists(machine.LIBEXEC) and not os.path.exists("/usr/bin/loopback")
    assert kept <= set(files_of_system()) and os.path.exists(f"{machine.CONFIG}/netd.env")
    units = run("systemctl", "list-units", "--all", "--no-legend", "--plain", "loopback-*.service", "loopback-*.socket").splitlines()
    assert [line for line in units if " not-found " not in line] == []  # others may still name what is gone


def test_an_agent_that_comes_back_is_the_host_it_was():
    machine.offer_packages("first")
    machine.apt("install", machine.AGENT)
    machine.wait_until("netd running", lambda: machine.status().get("state") == "running")
    assert run("wg", "show", "lb0", "peers").strip()


def test_purge_leaves_nothing_but_the_users():
    for name in ("tls.crt", "tls.key"):
        os.unlink(f"{machine.CONFIG}/{name}")  # the operator's: no package knows of them, and purge leaves them
    machine.apt("purge", *ALL)
    with open(f"{machine.NOTES}/files-before", encoding="utf-8") as file:
        before = set(file.read().split("\n"))
    left = sorted(path for path in set(files_of_system()) - before if not OTHERS.search(path))
    assert left == []
    gone = sorted(path for path in before - set(files_of_system()) if not OTHERS.search(path))
    assert gone == []
    accounts = run("getent", "passwd")
    assert "_lb-netd:" in accounts and "_lb-controld:" in accounts
    assert "does not exist" in run("ip", "link", "show", "lb0", check=False)
    assert machine.failed_units() == []
