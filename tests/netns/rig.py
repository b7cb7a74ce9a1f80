# SPDX-License-Identifier: Apache-2.0
"""Hosts and an internet made of namespaces, on one machine, that leave nothing behind.

A Rig owns a folder and a prefix for the names of its network namespaces. Whatever it makes is written to FOLDER/state.json
first, so that sweep() can take down what a killed rig left. Processes are ended by pid and start time, never by name.
"""

import fcntl
import functools
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import hostview
import identity

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
UNITS = os.path.join(ROOT, "build/packaging/systemd")
SYSUSERS = os.path.join(ROOT, "packaging/sysusers.d")
LAUNCH = os.path.join(ROOT, "tests/netns/launch")

# As on a host, not as in the shell that started us.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# RFC 2544's range for test networks. The prefix of all of it is on the link: the "internet" is one bridge.
MACHINE_ADDRESS = "198.18.0.1"
CONTROL_ADDRESS = "198.18.0.10"
HOST_NAMES = re.compile(r"cp|h\d+")


class RigError(Exception):
    """Something on the machine did not go as the rig needs it."""


def run(*command, **more):
    """Run a program of the machine and return its output; RigError with its words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ, PATH=PATH), **more)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def start_time(pid):
    """When a process started, in clock ticks since boot; None if there is no such process (or only its corpse)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def end_process(pid, started, patience):
    """SIGTERM, and SIGKILL after patience seconds, to exactly the process that started then. 0: SIGKILL at once."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_time(pid) != started:
            return
        gone = select.poll()
        gone.register(fd, select.POLLIN)
        if patience:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
        if not patience or not gone.poll(patience * 1e3):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            gone.poll(5e3)
    except ProcessLookupError:
        pass  # it was quicker
    finally:
        os.close(fd)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # another process's child


def _read_state(path):
    """What a rig wrote down; nothing if there was none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def alive(folder):
    """Does anything run that a rig of this folder wrote down? Says nothing about whether it is well."""
    state = _read_state(os.path.join(folder, "state.json")) or {"processes": []}
    return any(start_time(entry["pid"]) == entry["started"] for entry in state["processes"])


def sweep(folder, prefix):
    """Take down what a rig of this folder and prefix left, whatever became of it. Safe to repeat.

    @return lines about what stays because the rig did not make it: processes that somebody else started in a host
    """
    state = _read_state(os.path.join(folder, "state.json")) or {"processes": [], "links": []}
    notes = []
    for kind, patience in (("launch", 30), ("holder", 0)):
        for entry in state["processes"]:
            if entry["kind"] == kind:
                end_process(entry["pid"], entry["started"], patience)
    for link in state["links"]:
        if os.path.exists(f"/sys/class/net/{link}"):
            run("ip", "link", "delete", link)
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        start, _, host = name.partition("-")
        if start != prefix or not (host == "net" or HOST_NAMES.fullmatch(host)):
            continue
        end = time.monotonic() + 1.0  # those that die with their parent may be under way
        while (left := run("ip", "netns", "pids", name).split()) and time.monotonic() < end:
            time.sleep(0.02)
        for pid in left:
            notes.append(f"process {pid} still runs in {name}; it was not started by the rig and stays")
        run("ip", "netns", "delete", name)
    if os.path.exists(os.path.join(folder, "state.json")):
        os.unlink(os.path.join(folder, "state.json"))
    return notes


class Rig:
    """The internet (a bridge in a namespace of its own) and the hosts on it."""

    def __init__(self, folder, prefix, programs, units=UNITS, tied=True):
        """
        @param folder    for state, logs and the hosts' files; made anew
        @param programs  folder of the built daemons
        @param units     folder of the unit files
        @param tied      everything dies with this process; otherwise it stays until sweep()
        """
        self.folder, self.prefix, self.programs = os.path.abspath(folder), prefix, os.path.abspath(programs)
        self.units, self.tied = os.path.abspath(units), tied
        self.hosts, self.commands = {}, []
        self.state = {"processes": [], "links": []}
        os.makedirs(os.path.dirname(self.folder), exist_ok=True)
        # Held until this process ends: a second rig would sweep the first one away.
        self.lock = os.open(self.folder + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RigError(f"{self.folder} is in use by another run") from None
        sweep(self.folder, prefix)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.internet = f"{prefix}-net"
        self._write_state()
        run("ip", "netns", "add", self.internet)
        self.ip(self.internet, "link add internet type bridge mcast_snooping 0", "link set internet up")

    def _write_state(self):
        path = os.path.join(self.folder, "state.json")
        with open(path + ".new", "w", encoding="utf-8") as out:
            json.dump(self.state, out, indent=1)
        os.replace(path + ".new", path)

    @staticmethod
    def ip(namespace, *lines):
        """Several ip(8) commands in one namespace, by one process."""
        run("ip", "-n", namespace, "-batch", "-", input="\n".join(lines) + "\n")

    def spawn(self, kind, become):
        """Fork a process that is written down before it does anything. become() runs in it and never returns."""
        sys.stdout.flush()
        sys.stderr.flush()
        gate, opener = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(opener)
                if os.read(gate, 1) == b"g":  # else the rig died before it could write this process down
                    os.setsid()  # Ctrl-C is for the rig, which then takes its hosts down in order
                    if self.tied:
                        identity.die_with_parent(parent)
                    become()
            except BaseException as error:
                os.write(2, f"rig: {kind}: {error}\n".encode())
            os._exit(1)
        os.close(gate)
        self.state["processes"].append({"kind": kind, "pid": pid, "started": start_time(pid)})
        self._write_state()
        os.write(opener, b"g")
        os.close(opener)
        return pid

    def forget(self, pid):
        """A process that was ended on purpose."""
        self.state["processes"] = [entry for entry in self.state["processes"] if entry["pid"] != pid]
        self._write_state()

    def end(self, pid, patience):
        """End one of this rig's processes."""
        for entry in self.state["processes"]:
            if entry["pid"] == pid:
                end_process(pid, entry["started"], patience)
        self.forget(pid)

    def add_host(self, name, address, resolve=None):
        """A new host on the internet. resolve: {name: address} for its /etc/hosts."""
        host = Host(self, name, address, resolve or {})
        self.hosts[name] = host
        host.boot()
        return host

    def connect_machine(self, link, targets):
        """Give the machine's own namespace a way to some addresses, by a veth pair of which this end is called link."""
        self.state["links"].append(link)
        self._write_state()
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "machine", "netns", self.internet)
        self.ip(self.internet, "link set machine master internet up")
        run("ip", "address", "add", MACHINE_ADDRESS + "/32", "dev", link)
        run("ip", "link", "set", link, "up")
        for target in targets:
            run("ip", "route", "add", target + "/32", "dev", link, "src", MACHINE_ADDRESS)

    def take_down(self):
        """End everything. Safe to repeat. @return as sweep()"""
        for process in self.commands:
            if process.poll() is None:
                process.kill()
                process.wait()
        notes = sweep(self.folder, self.prefix)
        self.commands = []
        self.hosts, self.state = {}, {"processes": [], "links": []}
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1
        return notes


class Host:
    """One host: a network, mount and uts namespace, a process that holds them, and launch in the place of systemd."""

    def __init__(self, rig, name, address, resolve):
        if not HOST_NAMES.fullmatch(name):
            raise RigError(f"host {name}: expected cp or h1, h2 ..., which sweep() finds again")
        self.rig, self.name, self.address, self.resolve = rig, name, address, resolve
        self.netns = f"{rig.prefix}-{name}"
        self.folder = os.path.join(rig.folder, name)
        self.holder = self.launch_pid = 0
        self.services, self.options = (), {}

    def boot(self):
        """Plug it in, then make its view of the machine."""
        for part in ("etc", "lib", "cache", "log"):
            os.makedirs(os.path.join(self.folder, part), mode=0o755, exist_ok=True)
        run("ip", "netns", "add", self.netns)
        self.rig.ip(self.rig.internet, f"link add {self.name} type veth peer name eth0 netns {self.netns}",
                    f"link set {self.name} master internet up")
        self.rig.ip(self.netns, "link set lo up", f"address add {self.address}/15 dev eth0", "link set eth0 up")
        self.hold()

    def hold(self):
        """Start the process that keeps the namespaces, and wait until the view is complete."""
        lines = [f"127.0.0.1 localhost {self.name}", "::1 localhost"]
        lines += [f"{address} {name}" for name, address in self.resolve.items()]
        done, child_done = os.pipe2(os.O_CLOEXEC)

        def become():
            hostview.enter_new(self.name, f"/run/netns/{self.netns}", self.folder, self.rig.programs, SYSUSERS,
                               "\n".join(lines) + "\n")
            os.write(child_done, b"v")
            os.chdir("/")
            os.execv("/usr/bin/sleep", ["sleep", "infinity"])

        self.holder = self.rig.spawn("holder", become)
        os.close(child_done)
        with os.fdopen(done, "rb") as stream:
            if stream.read(1) != b"v":
                raise RigError(f"{self.name}: no view of the machine could be made; see the line above")

    def inside(self, command):
        """An argument vector that runs a command as root on this host."""
        return ["/usr/bin/nsenter", f"--target={self.holder}", "--mount", "--net", "--uts", "--", *command]

    def enter(self, *command, check=True, timeout=30, variables=None, **more):
        """Run a command as root on this host; returns subprocess.CompletedProcess. Our own programs are found by name."""
        environment = dict(os.environ, PATH="/usr/libexec/loopback:" + PATH, **(variables or {}))
        done = subprocess.run(self.inside(command), capture_output=True, text=True, timeout=timeout, check=False,
                              env=environment, preexec_fn=functools.partial(identity.die_with_parent, os.getpid()), **more)
        if check and done.returncode:
            raise RigError(f"{self.name}: {' '.join(command)}: exit {done.returncode}: "
                           f"{(done.stderr or done.stdout).strip()}")
        return done

    def popen(self, *command, **more):
        """Start a command as root on this host; it ends with this process, or with take_down(), if the caller does not end it."""
        environment = dict(os.environ, PATH="/usr/libexec/loopback:" + PATH)
        process = subprocess.Popen(self.inside(command), env=environment,
                                   preexec_fn=functools.partial(identity.die_with_parent, os.getpid()), **more)
        self.rig.commands.append(process)
        return process

    def start(self, *services, options=None, timeout=20):
        """Start launch with these services and wait until all are up. options: {program: extra arguments}"""
        self.services, self.options = services, options or {}
        ready, child_ready = os.pipe2(os.O_CLOEXEC)
        command = [LAUNCH, "--units", self.rig.units, "--bin", "/usr/libexec/loopback", "--root", self.folder]
        for program, text in self.options.items():
            command += ["--option", f"{program}={text}"]

        def become():
            log = os.open(os.path.join(self.folder, "log/launch.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.set_inheritable(child_ready, True)
            arguments = self.inside(command + ["--ready-fd", str(child_ready), *services])
            os.execv(arguments[0], arguments)

        self.launch_pid = self.rig.spawn("launch", become)
        os.close(child_ready)
        with os.fdopen(ready, "rb", buffering=0) as stream:
            waiter = select.poll()
            waiter.register(stream, select.POLLIN)
            if not waiter.poll(timeout * 1e3):
                raise RigError(f"{self.name}: {', '.join(services)} not up within {timeout} s\n{self.log_tails()}")
            if not stream.read(1):
                raise RigError(f"{self.name}: launch ended before {', '.join(services)} were up\n{self.log_tails()}")

    def stop(self):
        """Stop launch and with it every service."""
        if self.launch_pid:
            self.rig.end(self.launch_pid, 30)
        self.launch_pid = 0

    def reboot(self, sure=False):
        """End all of it and boot again: /run and the interfaces of the overlay are lost, the disk stays.

        @param sure  True pulls the plug: SIGKILL, nobody is asked to stop
        """
        if self.launch_pid:
            self.rig.end(self.launch_pid, 0 if sure else 30)
        self.rig.end(self.holder, 0)
        # Not left to the namespace's own end, which comes some time after its deletion and would still hold the name.
        self.rig.ip(self.rig.internet, f"link delete {self.name}")
        run("ip", "netns", "delete", self.netns)
        self.boot()
        self.start(*self.services, options=self.options)

    def launch(self, verb, service=None, timeout=20):
        """Ask launch: start, stop or restart a service, status, or wait (until all are up). Returns its answer."""
        folder = os.open(self.folder, os.O_PATH | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout)
                connection.connect(f"/proc/self/fd/{folder}/control.sock")
                connection.sendall(" ".join(filter(None, (verb, service))).encode() + b"\n")
                answer = json.loads(connection.makefile().readline() or '{"ok": false, "error": "launch hung up"}')
        except OSError as error:
            raise RigError(f"{self.name}: launch {verb} {service or ''}: {error}\n{self.log_tails()}") from error
        finally:
            os.close(folder)
        if not answer["ok"]:
            raise RigError(f"{self.name}: {answer['error']}")
        return answer

    def units(self):
        """{service: {state, pid, restarts, status, last_exit}} as launch last wrote it down."""
        return (_read_state(os.path.join(self.folder, "run-state.json")) or {"units": {}})["units"]

    def pid(self, service):
        """The pid of a running service; "netd" is short for "loopback-netd"."""
        pid = self.units()[service if service.startswith("loopback-") else f"loopback-{service}"]["pid"]
        if not pid:
            raise RigError(f"{self.name}: {service} does not run\n{self.log_tails()}")
        return pid

    def log(self, service):
        """What a service has said so far."""
        name = service if service.startswith("loopback-") or service == "launch" else f"loopback-{service}"
        try:
            with open(os.path.join(self.folder, "log", name + ".log"), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def log_tails(self, lines=12):
        """The end of every log of this host, for an error that a person reads."""
        parts = []
        for name in sorted(os.listdir(os.path.join(self.folder, "log"))):
            text = self.log(name.removesuffix(".log")).splitlines()[-lines:]
            parts += [f"--- {self.name}/{name}", *text]
        return "\n".join(parts)


def wait_until(what, condition, timeout=10.0, interval=0.02):
    """Poll until condition() is true and return what it returned; RigError that says what never came."""
    end = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise RigError(f"not within {timeout:g} s: {what}")
        time.sleep(interval)
