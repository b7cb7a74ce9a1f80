# SPDX-License-Identifier: Apache-2.0
"""Put the stand-in (intruder.c) in a daemon's place, let it try something, and tell what came of it."""

import os
import re
import struct
import subprocess
import time

import rig as rigs

INTRUDER = os.path.join(rigs.ROOT, "build/tests/takeover/intruder")
PROGRAMS = {"netd": "/usr/libexec/loopback/netd", "fetchd": "/usr/libexec/loopback/fetchd", "controld": "/usr/libexec/loopback/controld",
             "signd": "/usr/libexec/loopback/signd", "wg": "/usr/bin/wireguard-go"}
WHERE = {"netd": "h1", "fetchd": "h1", "wg": "h1", "controld": "cp", "signd": "cp"}
OWN = {"controld": "/var/lib/loopback/controld", "signd": "/var/lib/loopback/signd", "netd": "/var/lib/loopback/netd",
       "fetchd": "/var/lib/loopback/fetchd", "wg": "/nonexistent"}
_STEP = re.compile(r"^takeover (\S+) (\d+) (\S+) (done|E\w+|E\?)(?: -?\d+)?$", re.MULTILINE)
CALLS = ("call ", "fork ", "i386 ", "x32 ", "ack ", "run")


class Result:
    """What came of an attempt: outcome of the step where it ended, that step's number, and how the process ended."""

    def __init__(self, text, steps, ended):
        found = [(int(number), outcome) for _, number, _, outcome in _STEP.findall(text)]
        self.text, self.ended, self.steps = text, ended, steps
        if found and found[-1][1] != "done":
            self.step, self.outcome = found[-1]
        elif len(found) == steps:
            self.step, self.outcome = steps - 1, "done"
        else:
            self.step, self.outcome = len(found), ended

    def short(self):
        """As the table has it."""
        return self.outcome if self.step == self.steps - 1 else f"{self.step}:{self.outcome}"


def program_bytes(name, lines, bare):
    """The stand-in's file with a script at its end."""
    with open(INTRUDER, "rb") as file:
        program = file.read()
    script = "\n".join([f"attempt {name}"] + (["bare"] if bare else []) + list(lines)).encode() + b"\n"
    return program + script + struct.pack("<Q", len(script))


def step_count(lines):
    """How many steps a script has."""
    return sum(line.startswith(CALLS) for line in lines)


class StandIn:
    """A daemon's place. Whatever it tries, end() gives it back to the real one."""

    def __init__(self, fleet, daemon, host=None):
        self.fleet, self.daemon = fleet, daemon
        self.host = fleet.host(host or WHERE[daemon])
        self.service = f"loopback-{daemon}"
        self.file = os.path.join(fleet.rig.folder, f"intruder-{self.host.name}-{daemon}")
        self.log = os.path.join(self.host.folder, "log", self.service + ".log")
        self.host.launch("stop", self.service)
        self.write(["call getpid"], "none", False)
        self.host.enter("mount", "--bind", self.file, PROGRAMS[daemon])

    def write(self, lines, name, bare):
        """The next thing to try. In place: the file is what is mounted."""
        with open(self.file, "r+b" if os.path.exists(self.file) else "wb") as file:
            file.truncate(0)
            file.write(program_bytes(name, lines, bare))
        os.chmod(self.file, 0o755)

    def attempt(self, name, lines, patience=15.0):
        """Start it as its unit does, once."""
        self.write(lines, name, False)
        for _ in range(5):
            result = self.start(name, lines, patience)
            if "Text file busy" not in result.ended:  # a process that was being made had the file open for writing, too
                break
        return result

    def start(self, name, lines, patience):
        """What is written."""
        begin = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        try:
            self.host.launch("start", self.service)
        except rigs.RigError:
            pass  # it ended before it was ready, which it never says it is
        rigs.wait_until(f"{name} to end", lambda: not self.host.units()[self.service]["pid"], patience, interval=0.003)
        ended = self.host.units()[self.service]["last_exit"]
        self.host.launch("stop", self.service)
        with open(self.log, encoding="utf-8", errors="replace") as file:
            file.seek(begin)
            return Result(file.read(), step_count(lines), ended)

    def end(self):
        """The real daemon again."""
        self.host.launch("stop", self.service)
        self.host.enter("umount", PROGRAMS[self.daemon])
        self.host.launch("start", self.service)


def control(fleet, host, name, lines):
    """The same without a sandbox, as root, in a mount namespace that ends with it."""
    path = os.path.join(fleet.rig.folder, "intruder-control")
    with open(path, "wb") as file:
        file.write(program_bytes(name, lines, True))
    os.chmod(path, 0o755)
    done = subprocess.run(fleet.host(host).inside(["unshare", "--mount", "--ipc", "--uts", "--propagation", "private", path]),
                          capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    ended = f"exit status {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
    return Result(done.stdout, step_count(lines), ended + done.stderr)


class Tenant:
    """Somebody else on the host: files, sockets, an interface, a container."""

    def __init__(self, host):
        self.host, self.processes = host, []
        host.enter("mkdir", "-p", "/run/tenant/folder", "/sys/fs/cgroup")
        host.enter("sh", "-c", "echo secret >/run/tenant/open; echo secret >/run/tenant/closed; chmod 644 /run/tenant/open; chmod 600 /run/tenant/closed; "
                               "chmod 777 /run/tenant/folder; mount -t cgroup2 none /sys/fs/cgroup")
        script = ("import socket,os,sys,time\n"
                  "made=[]\n"
                  "for name,kind,mode in (('open.sock',1,0o777),('closed.sock',1,0o600),('open.dgram',2,0o777)):\n"
                  "    entry=socket.socket(1,kind); entry.bind('/run/tenant/'+name); os.chmod('/run/tenant/'+name,mode); made.append(entry)\n"
                  "    kind==1 and entry.listen(64)\n"
                  "entry=socket.socket(1,1); entry.bind(b'\\0tenant'); entry.listen(64)\n"
                  "print('up',flush=True)\n"
                  "while True:\n"
                  "    time.sleep(60)\n")
        self.processes.append(host.popen("/usr/bin/python3", "-c", script, stdout=subprocess.PIPE, text=True))
        assert self.processes[0].stdout.readline() == "up\n"

    def end(self):
        """Nothing of it is left."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.host.enter("sh", "-c", "rmdir /sys/fs/cgroup/takeover 2>/dev/null; umount /sys/fs/cgroup; rm -rf /run/tenant", check=False)


class Network:
    """Somebody else's interface tenant0 (10.77.0.1/24), whose other end tenant1 (10.77.0.2/24) is in the container box; made anew for each attempt."""

    def __init__(self, host):
        self.host = host
        host.enter("ip", "netns", "add", "box")
        self.process = host.popen("ip", "netns", "exec", "box", "sleep", "infinity")
        rigs.wait_until("a process in box", lambda: host.enter("ip", "netns", "pids", "box").stdout.split())
        self.ping = None

    def make(self):
        """The interface, and the place for packets.py."""
        ip = self.host.enter
        ip("sh", "-c", "ip link add tenant0 type veth peer name tenant1 netns box && ip link set tenant0 addrgenmode none && ip address add 10.77.0.1/24 dev tenant0 && ip link set tenant0 up && "
           "ip -n box address add 10.77.0.2/24 dev tenant1 && ip -n box link set tenant1 up && ip -n box link set lo up")
        numbers = {}
        for where in ((), ("-n", "box")):
            for line in ip("ip", *where, "-o", "link").stdout.splitlines():
                number, name = line.split(":")[:2]
                numbers.setdefault(name.strip().partition("@")[0], int(number))
        numbers["nsid"] = next(int(line.split()[1]) for line in ip("ip", "netns", "list-id").stdout.splitlines() if "box" in line)
        numbers["box"] = int(ip("ip", "netns", "pids", "box").stdout.split()[0])
        return numbers

    def next_number(self):
        """Which number the next interface of the host will get, as one made now and deleted again shows."""
        ip = self.host.enter
        ip("ip", "link", "add", "probe0", "type", "ifb")
        found = int(ip("ip", "-o", "link", "show", "probe0").stdout.split(":")[0])
        ip("ip", "link", "delete", "probe0")
        return found + 1

    def take_away(self):
        """The interface and whatever an attempt made."""
        self.host.enter("sh", "-c", "for name in tenant0 renamed0 made0 bridge-lb tap-lb; do ip link delete $name; ip -n box link delete $name; done 2>/dev/null; "
                        "ip -n box link delete tenant1 2>/dev/null; ip rule delete priority 7 2>/dev/null; ip addrlabel delete prefix 2001:db8::77/128 label 77 "
                        "2>/dev/null; ip nexthop flush 2>/dev/null; ip mptcp endpoint flush 2>/dev/null; true")

    def end(self):
        """All of it."""
        self.take_away()
        self.process.kill()
        self.process.wait()
        self.host.enter("ip", "netns", "delete", "box")


def long_of(path):
    """An address in a process's memory that can be read and written, from its maps: its stack."""
    with open(path, encoding="utf-8") as maps:
        for line in maps:
            if line.rstrip().endswith("[stack]"):
                return int(line.split("-")[1].split()[0], 16) - 64
    raise AssertionError(f"{path} has no stack")


def heap_of(path):
    """A page of a process's heap. (Of its stack one may be locked into memory, which is another answer than a refusal.)"""
    with open(path, encoding="utf-8") as maps:
        return next(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith("[heap]"))


def owner(name):
    """Whose socket one of the table's names is; it does not try its own."""
    return {"sign": "signd", "fetchd-admin": "fetchd"}.get(name, "netd" if name in ("documents", "view", "admin", "tunnel") else None)


def _fields(host, path):
    """What is needed to set a file to what it is anyway."""
    words = host.enter("stat", "-c", "%s %a %u %g", path).stdout.split()
    return {"path": path, "size": words[0], "mode": str(int(words[1], 8)), "uid": words[2], "gid": words[3], "length": 2 + len(path) + 9}


def daemons(fleet):
    """{name: pid} of every daemon of h1 and of the control plane that runs."""
    found = {}
    for name, host in WHERE.items():
        pid = fleet.host(host).units()[f"loopback-{name}"]["pid"]
        if pid:
            found[name] = pid
    return found


def targets(fleet, daemon, over):
    """{name: words for the steps} of what an attempt is tried on. daemon: whose stand-in it is, which is not tried on itself."""
    host, own = fleet.host(WHERE[daemon]), OWN[daemon]
    if over is None:
        return {None: {"own": own}}
    if over == "daemons":
        found = {}
        for name, pid in daemons(fleet).items():
            if name != daemon:
                address = long_of(f"/proc/{pid}/maps")
                found[name] = {"pid": pid, "address": address, "page": heap_of(f"/proc/{pid}/maps"), "own": own}
        return found
    if over == "folders":
        folders = [path for name, path in OWN.items() if WHERE[name] == host.name and name not in (daemon, "wg")]
        folders += ["/etc/loopback", "/usr/libexec/loopback", "/run/loopback", "/etc", "/root", "/home", "/usr/lib", "/tmp", "/run/tenant/folder", "/dev/shm"]
        return {path: dict(_fields(host, path), own=own) for path in folders}
    if over == "sockets":
        found = {"open-closed": ("/run/tenant/closed.sock", 1)}
        if host.name == "h1":
            found.update({name: (f"/run/loopback/netd/{name}.sock", 5) for name in ("documents", "view", "admin", "tunnel")} if daemon != "netd" else {})
            found.update({"fetchd-admin": ("/run/loopback/fetchd/admin.sock", 5), "wireguard": ("/run/wireguard/lb0.sock", 1)})
            if daemon == "fetchd":
                del found["fetchd-admin"]
            if daemon in ("wg", "netd"):
                del found["wireguard"]  # its own, or in its hands
        elif daemon != "signd":
            found["sign"] = ("/run/loopback/signd/sign.sock", 5)
        return {name: {"path": path, "type": kind, "length": 2 + len(path) + 1, "own": own} for name, (path, kind) in found.items()}
    names = [] if over == "neighbours" else ["/run/tenant/open"]
    if over in ("files", "neighbours"):
        for name, folder in OWN.items():
            if WHERE[name] == host.name and name not in (daemon, "wg"):
                names += [f"{folder}/{entry}" for entry in sorted(os.listdir(os.path.join(host.folder, "lib", os.path.basename(folder))))[:3]]
    if over == "files":
        names += ["/etc/shadow", "/etc/passwd", "/root/.profile", "/run/tenant/closed", "/usr/libexec/loopback/loopback", "/etc/loopback/netd.env"]
    there = host.enter("sh", "-c", "for name; do test -f $name && echo $name; done; true", "sh", *names).stdout.split()
    return {path: dict(_fields(host, path), own=own) for path in there}
