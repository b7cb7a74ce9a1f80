#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The same attempts under the real units of a booted machine on which the packages are installed and run (all five daemons, or some of them).

  under_units.py [--brief] [DAEMON]...     in that machine, as root; daemons: netd fetchd wg controld signd. One line for each that ended otherwise than it
                                           may. --brief leaves out what the daemon's own filter answers by the number of the call alone.

What the rig's stand-in for systemd leaves out is there: root folders, mounts, devices, the unit's own filter, AppArmor where the kernel has it. Whatever the
table says that is refused must be refused, in its way or because it has no name there; what the units alone hold back (attempts.py: unit) as well.
"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "netns")]

import attempts  # noqa: E402  (needs the path above)
import place  # noqa: E402

NOT_THERE = {"ENOENT", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EXDEV", "ENXIO", "ESRCH"}
LOG = "/run/takeover.log"
_PATHS = ("/run/tenant/open", "/etc/shadow", "/etc/passwd", "/root/.profile", "/usr/bin/loopback", "/var/lib/dpkg/status", "/run/dbus/system_bus_socket",
          "/var/lib/loopback/netd/host.key", "/var/lib/loopback/fetchd/transport.key", "/var/lib/loopback/signd/online.key",
          "/var/lib/loopback/controld/state.db")
_FOLDERS = ("/run/tenant", "/etc/loopback", "/usr/libexec/loopback", "/run/loopback", "/etc", "/home", "/usr/lib", "/run/systemd/system", "/var/lib")
_SOCKETS = {"documents": "/run/loopback/netd/documents.sock", "view": "/run/loopback/netd/view.sock", "admin": "/run/loopback/netd/admin.sock",
            "tunnel": "/run/loopback/netd/tunnel.sock", "fetchd-admin": "/run/loopback/fetchd/admin.sock", "sign": "/run/loopback/signd/sign.sock",
            "wireguard": "/run/wireguard/lb0.sock", "private": "/run/systemd/private", "dbus": "/run/dbus/system_bus_socket"}
# Of a family of attempts that differ in a number alone, these stand for all: the filter is the same one, and the rig has tried every number.
_SPARED = re.compile(r"(family|netlink|bpf)-(?!0$|2$|5$|12$|16$|17$|28$)\d+$")


class Here:
    """The machine that this runs on. For another: a class with the same two."""

    root = ""

    @staticmethod
    def run(*command):
        """A command; its output."""
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL).stdout


def _pids(machine):
    """{daemon: pid}"""
    found = {}
    for daemon in attempts.DAEMONS:
        pid = int(machine.run("systemctl", "show", "-P", "MainPID", f"loopback-{daemon}").strip() or 0)
        if pid:
            found[daemon] = pid
    return found


def _targets(machine, daemon, over, pids):
    """As place.targets()."""
    own = {"own": place.OWN[daemon]}
    if over is None:
        return {None: own}
    if over == "daemons":
        found = {}
        for name, pid in pids.items():
            if name != daemon:
                address = place.long_of(f"{machine.root}/proc/{pid}/maps")
                found[name] = dict(own, pid=pid, address=address, page=address & ~0xFFF)
        return found
    if over == "sockets":
        return {name: dict(own, path=path, type=1 if name in ("private", "dbus", "wireguard") else 5, length=3 + len(path)) for name, path in _SOCKETS.items()
                if not (daemon in ("wg", "netd") and name == "wireguard") and os.path.exists(machine.root + path) and
                place.owner(name) != daemon}
    paths = _FOLDERS if over == "folders" else [path for path in _PATHS if not path.startswith(place.OWN[daemon])]
    if over == "open-files":
        paths = ("/run/tenant/open",)
    if over == "neighbours":
        paths = [path for path in paths if path.startswith("/var/lib/loopback")]
    return {path: dict(own, path=path, size=0, mode=0, uid=0, gid=0, length=2 + len(path) + 9) for path in paths if os.path.exists(machine.root + path)}


class Unit:
    """A daemon's unit with the stand-in as its program."""

    def __init__(self, machine, daemon):
        self.machine, self.daemon, self.unit, self.count = machine, daemon, f"loopback-{daemon}.service", 0
        self.program = machine.root + place.PROGRAMS[daemon]
        with open(self.program, "rb") as file:
            self.genuine = file.read()
        folder = f"{machine.root}/run/systemd/system/{self.unit}.d"
        os.makedirs(folder, exist_ok=True)
        self.drop_in = os.path.join(folder, "takeover.conf")
        with open(self.drop_in, "w", encoding="utf-8") as file:
            file.write(f"[Service]\nRestart=no\nStandardOutput=append:{LOG}\n")
        # Whoever dials starts it once more, as often as he likes; not so often that systemd gives the socket up.
        self.sockets = machine.run("systemctl", "show", "-P", "TriggeredBy", self.unit).split()
        for socket in self.sockets:
            os.makedirs(f"{machine.root}/run/systemd/system/{socket}.d", exist_ok=True)
            with open(f"{machine.root}/run/systemd/system/{socket}.d/takeover.conf", "w", encoding="utf-8") as file:
                file.write("[Socket]\nTriggerLimitIntervalSec=0\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "stop", self.unit)

    def write(self, content):
        """The program's file anew, under the same name."""
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(self.program), delete=False) as file:
            file.write(content)
        os.chmod(file.name, 0o755)
        os.replace(file.name, self.program)

    def attempt(self, name, lines):
        """As place.StandIn.attempt(). Peers that dial start it as well, as often as they like: the first run that began with this program counts."""
        self.count += 1
        told = f"{name}.{self.count}"
        self.write(place.program_bytes(told, lines, False))
        said = self.machine.run("timeout", "30", "sh", "-c", f"""
            : >{LOG}; systemctl reset-failed {self.unit}
            until grep -aq "^takeover {told} begin" {LOG}; do systemctl start {self.unit} 2>/dev/null; done
            while systemctl -q is-active {self.unit}; do sleep 0.02; done
            cat {LOG}; journalctl -q --no-pager -o cat -u {self.unit} -n 30 | grep -a "Main process exited" | tail -1""")
        text = said.partition(f"takeover {told} begin\n")[2].partition(" begin\n")[0]
        killed = "status=31/SYS" in said.rpartition("Main process exited")[2]
        return place.Result(text, place.step_count(lines), "SIGSYS" if killed else "another end")

    def end(self):
        """The genuine program again, running."""
        os.unlink(self.drop_in)
        for socket in self.sockets:
            os.unlink(f"{self.machine.root}/run/systemd/system/{socket}.d/takeover.conf")
        self.write(self.genuine)
        self.machine.run("sh", "-c", f"systemctl daemon-reload; systemctl reset-failed {self.unit}; systemctl restart {self.unit}")


def refused(entry, daemon, wanted, result):
    """May it end so?"""
    if daemon in entry.unit:
        return result.outcome in entry.unit[daemon]
    return result.short() in wanted.split(" or ") or result.outcome in NOT_THERE  # the unit may be stricter than the rig, never laxer


def by_number(entry, wanted):
    """Does the daemon's own filter answer it whatever stands in the unit?"""
    return wanted.endswith(("SIGSYS", "ENOSYS")) and entry.name not in ("ptrace-seize", "execve", "unshare-user", "mount", "bpf-5", "family-17", "setuid")


def attack(machine, daemon, brief):
    """Everything, once. Returns (how many, [words about each that ended otherwise])."""
    pids, wrong, count = _pids(machine), [], 0
    os.makedirs(f"{machine.root}/run/tenant", exist_ok=True)
    with open(f"{machine.root}/run/tenant/open", "w", encoding="ascii") as file:
        file.write("open to all\n")
    unit = Unit(machine, daemon)
    try:
        for entry in (entry for entries in attempts.GROUPS.values() for entry in entries):
            if _SPARED.match(entry.name) or entry.name in ("connect-abstract", "tcp-connect"):
                continue  # these two need somebody at the other end, whom the rig has
            for target, words in _targets(machine, daemon, entry.over, pids).items():
                wanted = entry.outcome(daemon, target)
                if wanted is None or (brief and by_number(entry, wanted)):
                    continue
                lines = [re.sub(r"\{(\w+)\}", lambda found, words=words: str(words[found.group(1)]), line) for line in entry.steps]
                result = unit.attempt(entry.name, lines)
                count += 1
                if not refused(entry, daemon, wanted, result):
                    result = unit.attempt(entry.name, lines)  # a peer that dialled may have started it in between
                if not refused(entry, daemon, wanted, result):
                    wrong.append(f"{daemon}: {entry.name} {target or ''}: expected {wanted}, found {result.short()} ({result.text[-160:]!r}, {result.ended})")
    finally:
        unit.end()
    now = _pids(machine)
    wrong += [f"{daemon}: {name} is another process than before" for name, pid in pids.items() if name != daemon and now.get(name) != pid]
    return count, wrong


def main():
    """Every daemon that runs, or those named."""
    failed, brief = 0, "--brief" in sys.argv
    for daemon in [word for word in sys.argv[1:] if word != "--brief"] or _pids(Here):
        count, wrong = attack(Here, daemon, brief)
        print(*wrong, f"{daemon}: {count} attempts, {len(wrong)} ended otherwise than they may", sep="\n")
        failed += len(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
