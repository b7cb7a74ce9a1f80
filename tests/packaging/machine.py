# SPDX-License-Identifier: Apache-2.0
"""Machines with a booted systemd, joined by a cable, on which packages are installed as users do it."""

import os
import shutil
import subprocess
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ROOTFS = os.path.join(ROOT, "build/vm/nspawn-bookworm")
# Parts of the file system that are the same before and after, whatever is installed, or change by themselves.
_NOISE = ("/proc", "/sys", "/dev", "/run/systemd", "/run/udev", "/run/log", "/run/dbus", "/tmp", "/var/tmp", "/var/log", "/var/cache/apt",
          "/var/cache/ldconfig", "/var/lib/dpkg", "/var/lib/apt", "/var/lib/systemd", "/root", "/run/packages", "/run/credentials",
          "/run/host", "/run/mount")
_IGNORED = {"/run/utmp", "/etc/machine-id", "/etc/.pwd.lock", "/etc/resolv.conf"}


class Failed(AssertionError):
    """A command on a machine failed."""


class Machine:
    """One booted container. Everything that it writes is gone when it ends."""

    def __init__(self, name, address):
        """@param name also of its network namespace; @param address with its length, of its end of the cable"""
        self.name, self.address = name, address.split("/")[0]
        self.interface = "eth0"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.boot = subprocess.Popen([os.path.join(HERE, "boot"), ROOTFS, name, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     text=True, start_new_session=True)
        line = self.boot.stdout.readline()
        if not line.startswith("up "):
            self.end()
            raise Failed(f"{name} did not come up")
        self.leader = int(line.split()[1])
        self._own_address = address
        # as udev makes it on a machine with hardware; a container gets a copy of whatever this computer has
        self.run("chmod", "666", "/dev/net/tun")

    def plug(self):
        """Bring up this end of the cable (cable() made it)."""
        self.run("ip", "address", "add", self._own_address, "dev", self.interface)
        self.run("ip", "link", "set", self.interface, "up")

    def end(self):
        """Shut it down; its network goes with it."""
        self.boot.stdin.close()
        self.boot.wait(timeout=30)
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def inside(self, *command):
        """The command line that runs a command in there, as root."""
        return ["nsenter", "-t", str(self.leader), "-a", "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", *command]

    def run(self, *command, check=True, text=None, timeout=120):
        """Run a command; its stdout. text goes to its stdin."""
        done = subprocess.run(self.inside(*command), input=text or "", capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise Failed(f"{self.name}: {' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def status(self, *command):
        """The exit status of a command."""
        return subprocess.run(self.inside(*command), stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode

    def popen(self, *command, **options):
        """Start a command of this computer in the machine's network, for signals to reach it."""
        return subprocess.Popen(["nsenter", f"--net=/run/netns/{self.name}", *command], stdin=subprocess.DEVNULL, **options)

    def write(self, path, text, mode="644"):
        """Write a file."""
        self.run("sh", "-c", 'umask 077; mkdir -p -m 755 "${1%/*}"; cat >"$1"; chmod "$2" "$1"', "-", path, mode, text=text)

    def apt(self, *arguments):
        """apt-get; what it said."""
        return self.run("apt-get", "-q", "-y", *arguments, timeout=300)

    def install(self, *debs):
        """Install or upgrade to these package files."""
        names = []
        for deb in debs:
            names.append("/run/packages/" + os.path.basename(deb))
            with open(deb, "rb") as file:
                subprocess.run(self.inside("sh", "-c", 'mkdir -p /run/packages && cat >"$1"', "-", names[-1]), stdin=file, check=True)
        return self.apt("--allow-downgrades", "--no-install-recommends", "install", *names)

    def properties(self, unit, *names):
        """What systemd says of a unit."""
        lines = self.run("systemctl", "show", unit, *[f"--property={name}" for name in names]).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def active(self, unit):
        """Is it up?"""
        return self.properties(unit, "ActiveState")["ActiveState"] == "active"

    def journal(self, unit):
        """What a unit logged."""
        return self.run("journalctl", "-q", "-o", "cat", "-u", unit)

    def wait(self, what, condition, seconds=20):
        """Until condition() is true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return
            time.sleep(0.05)
        raise Failed(f"{self.name}: not within {seconds} s: {what}")

    def files(self):
        """Every path there is but what changes by itself, with type, mode and owner."""
        prune = " -o ".join(f"-path {path}" for path in _NOISE)
        found = self.run("sh", "-c", f"find / \\( {prune} \\) -prune -o -printf '%p\\t%y %m %u:%g\\n'")
        return {path: kind for path, kind in (line.split("\t") for line in found.splitlines())
                if path not in _IGNORED and not path.startswith("/etc/.#")}


def cable(one, other):
    """Join two machines."""
    subprocess.run(["ip", "link", "add", one.interface, "netns", one.name, "type", "veth", "peer", "name", other.interface,
                    "netns", other.name], check=True)
    one.plug()
    other.plug()


def rootfs():
    """Make what the machines boot, if it is not there yet."""
    subprocess.run([os.path.join(HERE, "rootfs"), ROOTFS], check=True)


def tidy(folder):
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder
