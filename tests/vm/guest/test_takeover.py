# SPDX-License-Identifier: Apache-2.0
"""netd in somebody else's hands, as its installed unit starts it, on a kernel that has what it may try to misuse (P1, P4). The whole
list is tried in namespaces (tests/takeover); here what reaches for the kernel itself, and a control group through O_PATH before all.
After test_packages.py."""

import os
import re
import struct
import subprocess
import sys
import time

import machine
import pytest
from machine import run

PROJECT = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../.."))
sys.path.append(os.path.join(PROJECT, "tests/takeover"))
import attempts  # noqa: E402  (needs the path above)

UNIT, PROGRAM = "loopback-netd.service", f"{machine.LIBEXEC}/netd"
# Who waits at one of its sockets would have it started again before what it did can be read.
SOCKETS = [f"loopback-netd-{name}.socket" for name in ("documents", "view", "admin", "tunnel")]
OTHERS = ["loopback-fetchd.service", "loopback-wg.service"]
DROP_IN = f"/run/systemd/system/{UNIT}.d/takeover.conf"
TRIED = ("bpf-cgroup", "bpf-0", "bpf-5", "bpf-8", "bpf-10", "bpf-13", "bpf-28", "init-module", "finit-module", "kexec-load", "reboot",
         "clock-settime", "sethostname", "io-uring", "perf-event", "userfaultfd")
STEP = re.compile(r"^takeover (\S+) (\d+) (\S+) (done|E\w+|E\?)(?: -?\d+)?$", re.MULTILINE)
KERNEL = {entry.name: entry for entry in attempts.KERNEL}


def program(path, name, lines, bare=False):
    """The stand-in with what it is to try, as tests/takeover/script.h has it."""
    with open(os.path.join(PROJECT, "build/tests/takeover/intruder"), "rb") as file:
        image = file.read()
    text = "\n".join([f"attempt {name}"] + (["bare"] if bare else []) + list(lines)).encode() + b"\n"
    with open(path, "r+b" if os.path.exists(path) else "wb") as out:  # in place: it is what is mounted
        out.truncate(0)
        out.write(image + text + struct.pack("<Q", len(text)))
    os.chmod(path, 0o755)


def outcome(said, steps, ended):
    """(number of the last step it came to, what became of it)"""
    found = [(int(number), what) for _, number, _, what in STEP.findall(said)]
    if found and found[-1][1] != "done":
        return found[-1]
    return (steps - 1, "done") if len(found) == steps else (len(found), ended)


@pytest.fixture(scope="module", name="place")
def place_fixture():
    """netd's place: its unit starts the stand-in, once each time."""
    path = f"{machine.NOTES}/intruder"
    program(path, "none", ["call getpid"])
    run("systemctl", "stop", *OTHERS, UNIT, *SOCKETS)
    run("mount", "--bind", path, PROGRAM)
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    with open(DROP_IN, "w", encoding="utf-8") as out:
        out.write("[Service]\nRestart=no\n")
    run("systemctl", "daemon-reload")
    yield path
    run("systemctl", "stop", UNIT, *SOCKETS)
    run("umount", PROGRAM)
    os.unlink(DROP_IN)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", UNIT)
    run("systemctl", "start", *SOCKETS, UNIT, *OTHERS)
    machine.wait_until("netd running", lambda: machine.status().get("state") == "running")


def attempt(place, entry):
    """Start it as its unit does and wait for its end. Whose words journald has no sender for any more, because it ended at once, is heard again."""
    for _ in range(5):
        result, said = attempt_once(place, entry)
        if said.strip():
            break
    return result, said


def attempt_once(place, entry):
    """One start of it."""
    program(place, entry.name, entry.steps)
    run("systemctl", "reset-failed", UNIT, check=False)
    run("systemctl", "start", UNIT, check=False)  # it ends before it is ready, which it never says it is
    code, status, invocation = machine.unit(UNIT, "ExecMainCode", "ExecMainStatus", "InvocationID")
    run("journalctl", "--sync")
    said = run("journalctl", "-o", "cat", "--no-pager", "-q", f"_SYSTEMD_INVOCATION_ID={invocation}")
    ended = f"signal {status}" if code in ("2", "3") else f"exit status {status}"
    return outcome(said, sum(line.split()[0] in ("call", "fork", "ack", "run", "i386", "x32") for line in entry.steps), ended), said


def test_the_stand_in_takes_the_units_place(place):
    """Against a stand-in that never got as far as to try anything."""
    entry = attempts.Attempt("present", "make a harmless call", ["call getpid"], {"netd": "done"})
    (step, what), said = attempt(place, entry)
    assert (step, what) == (0, "done"), said


@pytest.mark.parametrize("name", TRIED)
def test_netd_cannot(place, name):
    entry = KERNEL[name]
    (step, what), said = attempt(place, entry)
    # Killed by the filter; or the unit's own view does not have the thing at all.
    assert what in ("signal 31", "ENOENT", "EACCES"), (step, what, said[-500:])


def test_without_a_sandbox_the_control_group_takes_the_program():
    """What bpf-cgroup is refused works on this kernel."""
    path, entry = f"{machine.NOTES}/control", KERNEL["bpf-cgroup"]
    lines = entry.control or entry.steps
    program(path, entry.name, lines, bare=True)
    done = subprocess.run([path], capture_output=True, text=True, timeout=30, check=False)
    if os.path.isdir("/sys/fs/cgroup/takeover"):
        os.rmdir("/sys/fs/cgroup/takeover")
    assert done.returncode == 0 and "end" in done.stdout, (done.returncode, done.stdout, done.stderr)


def test_the_mesh_is_as_it_was(site, place):
    """While netd's place was taken, too: nothing of what it tried reached the device or the other hosts."""
    del place
    assert site.unreached("vm", "h2", "h3") == []
