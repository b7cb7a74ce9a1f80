# SPDX-License-Identifier: Apache-2.0
"""The machine that the tests run on: a Debian under systemd, with our packages or without."""

import json
import os
import subprocess
import time

CONFIG, STATE = "/etc/loopback", "/var/lib/loopback"
LIBEXEC = "/usr/libexec/loopback"
REPOSITORIES = "/opt/vm/packages"  # a folder for each version: first, next
NOTES = "/root/vm"                 # survives a reboot, and is nobody's state
AGENT, CONTROL, OPERATOR = "loopback-agent", "loopback-controld", "loopback-cli"
PROGRAMS = {"netd", "fetchd", "wg-launch", "controld", "signd", "loopback", "loopbackctl"}
ENVIRONMENT = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8", PYTHONPATH="")


class CommandFailed(Exception):
    """A command ended with another status than 0; its words are in the text."""


def run(*command, check=True, timeout=120, **more):
    """Run a command as root and return what it printed, both streams in the order in which it did."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
                          env=ENVIRONMENT, **more)
    if check and done.returncode:
        raise CommandFailed(f"{' '.join(command)}: exit {done.returncode}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def apt(*arguments):
    """apt-get, which asks nothing and keeps changed configuration files, as unattended upgrades do."""
    return run("apt-get", "-y", "-q", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-confdef", "-o",
               "Dpkg::Options::=--force-confold", *arguments, timeout=600)


def offer_packages(*versions):
    """Make these folders of packages what apt knows."""
    with open("/etc/apt/sources.list", "w", encoding="utf-8") as out:
        for version in versions:
            out.write(f"deb [trusted=yes] file:{REPOSITORIES}/{version} ./\n")
    apt("update")


def version_of(package):
    """The installed version; empty if it is not installed."""
    state, _, version = run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package, check=False).partition(" ")
    return version if state == "installed" else ""


def offered_version(folder):
    """The version of the packages in one of the folders."""
    with open(f"{REPOSITORIES}/{folder}/Packages", encoding="utf-8") as lines:
        return next(line.split()[1] for line in lines if line.startswith("Version: "))


def unit(name, *properties):
    """Properties of a unit, in the order asked for."""
    text = run("systemctl", "show", "--timestamp=us", "-p", ",".join(properties), name)
    found = dict(line.split("=", 1) for line in text.splitlines())
    return [found[key] for key in properties]


def active(name):
    """Is this unit active now?"""
    return unit(name, "ActiveState") == ["active"]


def main_pid(name):
    """The pid of a service's main process; 0 if it does not run."""
    return int(unit(f"loopback-{name}.service", "MainPID")[0])


def wait_until(what, condition, seconds=30.0):
    """Poll until condition() is true and return that."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return result


def status():
    """`loopback status --json`; nothing when netd cannot be asked."""
    text = subprocess.run(["loopback", "status", "--json"], capture_output=True, text=True, check=False).stdout
    return json.loads(text) if text.strip() else {}


def journal():
    """Every entry of this boot, as journalctl exports it."""
    for line in run("journalctl", "-b", "-o", "json", "--no-pager", "-q").splitlines():
        yield json.loads(line)


def _ours(entry):
    units = f"{entry.get('_SYSTEMD_UNIT', '')} {entry.get('UNIT', '')}"
    return "loopback-" in units or entry.get("_COMM") in PROGRAMS


def complaints(expected=()):
    """What the journal of this boot has that a healthy host's has not: warnings of ours or about us, kills, denials, crashes.

    @param expected  texts of warnings that the test has brought about itself
    """
    found = []
    for entry in journal():
        text = entry.get("MESSAGE")
        text = text if isinstance(text, str) else repr(text)
        kernel = entry.get("_TRANSPORT") in ("audit", "kernel")
        bad = _ours(entry) and not kernel and int(entry.get("PRIORITY", 6)) <= 4
        bad = bad or (kernel and ('apparmor="DENIED"' in text or text.startswith("SECCOMP ") or "type=1326" in text or "segfault at" in text))
        bad = bad or (_ours(entry) and ("Failed with result" in text or "Watchdog timeout" in text))
        if bad and not any(words in text for words in expected):
            found.append(f"{entry.get('_COMM') or entry.get('SYSLOG_IDENTIFIER', '?')}: {text}")
    return found


def failed_units():
    """Units of any kind, anybody's, that failed."""
    return run("systemctl", "list-units", "--failed", "--no-legend", "--plain").split("\n")[:-1]


class Machine:
    """The machine as SteadyPing and others want a host."""

    name = "vm"

    @staticmethod
    def popen(*command, **more):
        """Start a command."""
        return subprocess.Popen(command, **more)
