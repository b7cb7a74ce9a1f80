# SPDX-License-Identifier: Apache-2.0
"""loopback audit: a suite that runs is as declared; one right too many, of each kind, is named, and nothing else is (P5).

The stand-in (tests/tools/surplus.c) enters the sandbox of the daemon by whose name it is called, from the same table and with the same
code, and deviates in one thing.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
import rig

PREFIX = "lba"
FOLDER = os.path.join(rig.ROOT, "build/netns-audit")
TOOL = os.path.join(rig.ROOT, "build/tests/tools/surplus")
SAME, DIFFERS, UNKNOWN = 0, 1, 2
INSTALLED = "/usr/libexec/loopback"
PROGRAM = os.path.join(rig.ROOT, "build/bin/loopback")
LISTENING = ("netd", "fetchd", "signd")  # on sockets that the service manager makes


def units_of_the_rig(source, target):
    """Units as launch carries them out: of the settings that make namespaces it knows PrivateNetwork= alone."""
    os.makedirs(target)
    apart = re.compile(r"^(Private(?!Network)|Protect|ProcSubset|ReadOnly|ReadWrite|Inaccessible|Exec\w*Paths|NoExec|Temporary|"
                       r"Bind|Root)")
    for name in os.listdir(source):
        with open(os.path.join(source, name), encoding="utf-8") as unit, \
                open(os.path.join(target, name), "w", encoding="utf-8") as out:
            out.writelines(line for line in unit if not apart.match(line))
    return target


def audit(host, units, *arguments):
    """(exit status, what --json says) of loopback audit on a host."""
    done = host.enter(PROGRAM, "audit", "--json", "--units", units, *arguments, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def not_same(report):
    """{check: check} of all that is neither as declared nor shown by no kernel."""
    return {check["check"]: check for process in report["processes"] for check in process["checks"]
            if check["result"] not in ("same", "not-shown")}


# ---- a suite that runs


@pytest.mark.parametrize("name,services", [("h1", {"netd": "netd", "fetchd": "fetchd", "wg-launch": "wg"}),
                                           ("cp", {"controld": "controld", "signd": "signd"})])
def test_running_suite_is_as_declared(fleet, tmp_path, name, services):
    """All five processes, as they run in a fleet, in every check; and none of them minds being looked at."""
    host = fleet.host(name)
    if host.units().get("loopback-wg", {}).get("state") == "skipped":
        del services["wg-launch"]
    units = units_of_the_rig(host.rig.units, str(tmp_path / "units"))
    pids = {process: host.pid(service) for process, service in services.items()}
    restarts = {service: unit["restarts"] for service, unit in host.units().items()}
    for _ in range(20):
        status, report = audit(host, units, *[f"--pid={process}={pid}" for process, pid in pids.items()])
        assert not not_same(report) and (status, report["result"]) == (SAME, "not-shown")
    assert [process["name"] for process in report["processes"]] == [process for process in services]
    for process in report["processes"]:
        assert process["pid"] == pids[process["name"]]
        shown = {check["check"]: check["result"] for check in process["checks"]}
        assert len(shown) == len(process["checks"]) == (31 if process["name"] in LISTENING else 30)
        assert [check for check, result in shown.items() if result == "not-shown"] == ["landlock"]
    assert restarts == {service: unit["restarts"] for service, unit in host.units().items()}
    fleet.wait_converged()


def test_a_stopped_service_is_a_difference(fleet, tmp_path):
    """A process that is asked for by name and does not run."""
    units = units_of_the_rig(fleet.rig.units, str(tmp_path / "units"))
    status, report = audit(fleet.host("h1"), units, "--pid=netd=4194303")
    assert status == DIFFERS and set(not_same(report)) == {"running"}


# ---- one right too many


class Bench:
    """A host whose programs are stand-ins, and what was started there."""

    def __init__(self, folder):
        self.programs = os.path.join(folder, "bin")
        os.mkdir(self.programs, 0o755)
        for name in ("netd", "fetchd", "controld", "signd"):
            shutil.copy(TOOL, os.path.join(self.programs, name))
        self.rig = rig.Rig(FOLDER, PREFIX, self.programs)
        self.host = self.rig.add_host("h1", "198.18.1.1")
        self.units = units_of_the_rig(self.rig.units, os.path.join(folder, "units"))
        for name in ("netd", "fetchd", "signd", "controld"):
            self.host.enter("install", "-d", "-o", f"_lb-{name}", "-m", "0700", f"/var/lib/loopback/{name}")
        self.host.enter("install", "-d", "-o", "_lb-fetchd", "-m", "0700", "/var/cache/loopback/fetchd")
        self.make_sockets()
        self.running = []

    def make_sockets(self):
        """What the service manager would make of the socket units; nobody listens."""
        bind = "import os, socket, sys; os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True); " \
               "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(sys.argv[1])"
        for name in filter(lambda name: name.endswith(".socket"), os.listdir(self.units)):
            with open(os.path.join(self.units, name), encoding="utf-8") as file:
                text = file.read()
            settings = dict(re.findall(r"^(ListenSequentialPacket|SocketUser|SocketMode)=(.*)$", text, re.MULTILINE))
            path = settings["ListenSequentialPacket"]
            self.host.enter("/usr/bin/python3", "-c", bind, path)
            self.host.enter("chown", settings.get("SocketUser", "root"), path)
            self.host.enter("chmod", settings["SocketMode"], path)

    def start(self, name, deviation=None, **variables):
        """Start a stand-in; returns its pid once it is in its sandbox."""
        words = ["env", "-i", "PATH=/usr/bin:/bin", *[f"{key}={value}" for key, value in variables.items()], f"{INSTALLED}/{name}"]
        process = self.host.popen(*words, *([deviation] if deviation else []), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
        self.running.append(process)
        assert process.stdout.readline() == "ready\n", (name, deviation)
        return process.pid

    def end(self):
        """End what was started."""
        for process in self.running:
            process.kill()
            process.wait()
            process.stdout.close()
        self.running = []

    def audit(self, name, pid, units=None):
        """(exit status, report)"""
        return audit(self.host, units or self.units, f"--pid={name}={pid}")


@pytest.fixture(scope="module", name="machine")
def machine_fixture(tmp_path_factory):
    """One host for all stand-ins."""
    folder = tmp_path_factory.mktemp("audit")
    os.chmod(folder, 0o755)
    made = Bench(str(folder))
    yield made
    made.end()
    time.sleep(0.2)  # the stand-in's child looks every 50 ms whether its parent still lives
    left = made.rig.take_down()
    shutil.rmtree(FOLDER)
    assert not left


@pytest.fixture(name="bench")
def bench_fixture(machine):
    """The host without any stand-in."""
    yield machine
    machine.end()


@pytest.mark.parametrize("name,deviation", [("netd", None), ("fetchd", None), ("controld", None), ("signd", "own-network")])
def test_stand_in_without_a_deviation(bench, name, deviation):
    """Else what follows would show nothing."""
    status, report = bench.audit(name, bench.start(name, deviation))
    assert (status, not_same(report)) == (SAME, {})


SURPLUS = [
    # process, deviation, {check: words of what is found}
    ("netd", "uid", {"uid": "nobody"}),
    ("netd", "saved-uid", {"uid": "saved 0 (root)"}),
    ("fetchd", "gid", {"gid": "65534"}),
    ("fetchd", "group", {"groups": "65534"}),
    ("netd", "effective", {"cap_effective": "CAP_SYS_NICE", "cap_permitted": "CAP_SYS_NICE"}),
    ("fetchd", "permitted", {"cap_permitted": "CAP_SYS_NICE"}),
    ("netd", "inheritable", {"cap_inheritable": "CAP_NET_ADMIN"}),
    ("netd", "ambient", {"cap_ambient": "CAP_NET_ADMIN", "cap_inheritable": "CAP_NET_ADMIN"}),
    ("fetchd", "bounding", {"cap_bounding": "CAP_SYS_NICE"}),
    ("netd", "new-privs", {"no_new_privs": "not set"}),
    ("netd", "no-filter", {"seccomp": "off"}),
    ("netd", "filter=getcwd", {"seccomp": "lets through what the table does not: getcwd"}),
    ("fetchd", "filter=execve", {"seccomp": "lets through what the table does not: execve"}),
    ("netd", "loose-mmap", {"seccomp": "lets through what the table does not: mmap"}),
    ("netd", "loose-socket", {"seccomp": "lets through what the table does not: socket(family 17"}),
    ("netd", "older", {"seccomp": "none of the calls tried gets through that the table forbids: that of another version?"}),
    ("netd", "thread", {"seccomp": ": off"}),
    ("netd", "dumpable", {"memory": "its own user"}),
    ("netd", "core", {"core_limit": ""}),
    ("netd", "socket=2", {"socket_families": "AF_INET"}),
    ("netd", "socket=17", {"socket_families": "AF_PACKET"}),
    ("netd", "socket=16/12", {"socket_families": "AF_NETLINK/NETFILTER"}),
    ("fetchd", "socket=16/16", {"socket_families": "AF_NETLINK/GENERIC"}),
    ("netd", "open=/etc/shadow", {"descriptors": "/etc/shadow, outside of its paths"}),
    ("fetchd", "open=/etc/hosts", {"descriptors": "/etc/hosts, open for writing"}),
    ("fetchd", "open=/dev/net/tun", {"descriptors": "/dev/net/tun, outside of its paths"}),
    ("fetchd", "open=/dev/full", {"descriptors": "/dev/full (device 1:7), outside of its paths"}),
    ("netd", "path=/sys/kernel", {"descriptors": "/sys/kernel, outside of its paths"}),
    ("netd", "timer", {"descriptors": "timerfd, which it has no call to make"}),
    ("netd", "memory-code", {"code": "is executable and comes from no file"}),
    ("netd", "child", {"children": "process"}),
    ("signd", None, {"ns_network": "the host's"}),
    ("netd", "own-network", {"ns_network": "its own"}),
]


@pytest.mark.parametrize("name,deviation,expected", SURPLUS, ids=[f"{name}-{what or 'network'}" for name, what, _ in SURPLUS])
def test_one_right_too_many_is_named(bench, name, deviation, expected):
    """It is told, with why it matters and what to do, and nothing else is."""
    if deviation == "core":
        resource_of_bench_must_allow_core_dumps(bench)
    status, report = bench.audit(name, bench.start(name, deviation))
    found = not_same(report)
    assert status == DIFFERS and set(found) == set(expected), found
    for check, words in expected.items():
        assert found[check]["result"] == "differs" and words in found[check]["found"], found[check]
        assert found[check]["why"] and found[check]["do"] and found[check]["declared"] != found[check]["found"]


def resource_of_bench_must_allow_core_dumps(bench):
    """The deviation is to leave the limit as it is; that must not be nought already."""
    assert bench.host.enter("sh", "-c", "ulimit -Hc").stdout.strip() != "0"


def test_text_for_people(bench):
    """A difference in full, the rest in a line each, and a line that counts."""
    pid = bench.start("netd", "bounding")
    done = bench.host.enter(PROGRAM, "audit", "--units", bench.units, f"--pid=netd={pid}", check=False)
    assert done.returncode == DIFFERS and done.stderr == ""
    assert re.search(r"^  ok +uid +641\d\d \(_lb-netd\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^  DIFFERS +cap_bounding\n +declared  CAP_NET_ADMIN, CAP_BPF\n +found +CAP_NET_ADMIN, CAP_SYS_NICE, CAP_BPF\n"
                     r" +why +\S.*\n +do +\S.*$", done.stdout, re.MULTILINE)
    assert done.stdout.count("DIFFERS") == 1
    assert done.stdout.splitlines()[-1] == "1 process: 29 as declared, 1 different, 0 not determined, 1 not shown by the kernel"


# ---- what lies around the process


@pytest.mark.parametrize("change,back,found", [
    (["chmod", "0666", "/run/loopback/netd/documents.sock"], ["chmod", "0600", "/run/loopback/netd/documents.sock"],
     "/run/loopback/netd/documents.sock _lb-fetchd 0666"),
    (["chown", "_lb-wg", "/run/loopback/netd/admin.sock"], ["chown", "root", "/run/loopback/netd/admin.sock"],
     "/run/loopback/netd/admin.sock _lb-wg 0600"),
    (["mv", "/run/loopback/netd/view.sock", "/run/loopback/netd/x"], ["mv", "/run/loopback/netd/x", "/run/loopback/netd/view.sock"],
     "/run/loopback/netd/view.sock is not there"),
])
def test_who_may_connect(bench, change, back, found):
    """A socket's owner or mode that is not its unit's, and one that is not there."""
    pid = bench.start("netd")
    bench.host.enter(*change)
    try:
        status, report = bench.audit("netd", pid)
    finally:
        bench.host.enter(*back)
    assert status == DIFFERS and set(not_same(report)) == {"listeners"}
    assert found in not_same(report)["listeners"]["found"]


@pytest.mark.parametrize("make,found", [
    (["install", "-d", "-o", "_lb-fetchd", "/var/lib/loopback/netd-of-old"], "/var/lib/loopback/netd-of-old"),
    (["install", "-d", "-g", "_lb-fetchd", "-m", "0775", "/etc/loopback/conf"], "/etc/loopback/conf"),
    (["install", "-o", "_lb-fetchd", "-m", "0400", "/dev/null", "/etc/loopback/mine"], "/etc/loopback/mine"),
    (["install", "-D", "-o", "_lb-fetchd", "/dev/null", "/var/lib/loopback/a/b/c/d/e"], "/var/lib/loopback/a/b/c/d/e"),
])
def test_writable_path(bench, make, found):
    """A folder or file besides its own that it may write, or, as its owner, may make so."""
    pid = bench.start("fetchd")
    bench.host.enter(*make)
    try:
        status, report = bench.audit("fetchd", pid)
        assert status == DIFFERS and set(not_same(report)) == {"writable_paths"}
        assert f"besides its own: {found}" in not_same(report)["writable_paths"]["found"]
    finally:
        bench.host.enter("rm", "-r", "/".join(make[-1].split("/")[:5]))
    assert bench.audit("fetchd", pid)[0] == SAME


def test_writable_path_that_cannot_be_listed(bench):
    """Below a folder that the process can pass, if it knows the name, and not list; and none below one that it cannot pass."""
    pid = bench.start("fetchd")
    bench.host.enter("install", "-d", "-m", "0711", "/etc/loopback/dark")
    bench.host.enter("install", "-d", "-o", "_lb-fetchd", "/etc/loopback/dark/room")
    try:
        status, report = bench.audit("fetchd", pid)
        assert status == DIFFERS and set(not_same(report)) == {"writable_paths"}
        assert "besides its own: /etc/loopback/dark/room" in not_same(report)["writable_paths"]["found"]
        bench.host.enter("chmod", "0700", "/etc/loopback/dark")
        assert bench.audit("fetchd", pid)[0] == SAME
    finally:
        bench.host.enter("rm", "-r", "/etc/loopback/dark")


@pytest.mark.parametrize("change,back,found", [
    (["chmod", "0777", INSTALLED + "/netd"], ["chmod", "0755", INSTALLED + "/netd"], "written by everyone"),
    (["chgrp", "_lb-fetchd", INSTALLED + "/netd"], ["chgrp", "root", INSTALLED + "/netd"], None),
    (["chown", "_lb-fetchd", INSTALLED + "/netd"], ["chown", "root", INSTALLED + "/netd"], "belongs to uid"),
    (["chmod", "0777", INSTALLED], ["chmod", "0755", INSTALLED], INSTALLED + " can be written by everyone"),
])
def test_writable_program(bench, change, back, found):
    """Who may write a program, or replace it in its folder."""
    pid = bench.start("netd")
    bench.host.enter(*change)
    try:
        status, report = bench.audit("netd", pid)
    finally:
        bench.host.enter(*back)
    if found is None:
        assert (status, not_same(report)) == (SAME, {})  # the group's write bit is not set
        return
    assert status == DIFFERS and {"program_file"} <= set(not_same(report)) <= {"program_file", "code"}
    assert found in not_same(report)["program_file"]["found"]


def test_another_program(bench):
    """A process that is not what it is said to be, and one whose file was replaced under it."""
    pid = bench.start("fetchd")
    assert "program" in not_same(bench.audit("netd", pid)[1])
    path = os.path.join(bench.programs, "fetchd")
    shutil.copy(TOOL, path + ".new")
    os.rename(path + ".new", path)
    status, report = bench.audit("fetchd", pid)
    assert status == DIFFERS and set(not_same(report)) == {"program"}
    assert "replaced since the start" in not_same(report)["program"]["found"]


def test_environment(bench):
    """Variables that load code; their values are not told."""
    status, report = bench.audit("netd", bench.start("netd", LD_BIND_NOW="value-of-it"))
    assert status == DIFFERS and set(not_same(report)) == {"environment"}
    assert not_same(report)["environment"]["found"] == "LD_BIND_NOW is set"
    assert "value-of-it" not in json.dumps(report)


def test_no_unit_says_which_namespaces(bench, tmp_path):
    """Without the unit there is nothing to compare namespaces with: not determined, which is neither the same nor a difference."""
    (tmp_path / "none").mkdir()
    status, report = bench.audit("netd", bench.start("netd"), units=str(tmp_path / "none"))
    assert status == UNKNOWN and report["result"] == "unknown"
    assert {check: found["result"] for check, found in not_same(report).items()} == {
        f"ns_{name}": "unknown" for name in ("mount", "network", "user", "pid", "ipc", "uts", "cgroup")}


# ---- reading filters


def state_of(pid):
    """The letter of a process's state; t is stopped by a tracer."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_traced_process(bench):
    """Of a process that somebody traces the filter cannot be read: said as such, not taken for the same; and the tracer is named."""
    pid = bench.start("netd")
    tracer = subprocess.Popen(["/usr/bin/python3", "-c", f"""
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(0x4206, {pid}, None, None) == 0  # PTRACE_SEIZE
print("ready", flush=True)
sys.stdin.read()
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert tracer.stdout.readline() == "ready\n"
        status, report = bench.audit("netd", pid)
        found = not_same(report)
        assert status == DIFFERS and found["tracer"]["found"] == f"process {tracer.pid}"
        assert found["seccomp"]["result"] == "unknown" and found["seccomp"]["found"].startswith("not readable: ")
        assert set(found) == {"tracer", "seccomp"}
    finally:
        tracer.communicate("")


FILTERED = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))  # BPF_RET, SECCOMP_RET_ALLOW
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(allow)))
assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_an_audit_under_a_filter_of_its_own(bench):
    """As in many containers: the kernel then hands out no filters. That is not determined, and says why; the rest is looked at."""
    pid = bench.start("netd")
    done = bench.host.enter("/usr/bin/python3", "-c", FILTERED, PROGRAM, "audit", "--json", "--units", bench.units,
                            f"--pid=netd={pid}", check=False)
    found = not_same(json.loads(done.stdout))
    assert done.returncode == UNKNOWN and set(found) == {"seccomp"}
    assert found["seccomp"]["result"] == "unknown" and "under no seccomp filter itself" in found["seccomp"]["found"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_audit_that_is_ended_leaves_nothing_stopped(bench, number):
    """Whenever it ends, and however: the processes it looks at run on, and none of its own stays."""
    pid = bench.start("netd", "thread")
    for delay in range(30):
        process = bench.host.popen(PROGRAM, "audit", "--units", bench.units, f"--pid=netd={pid}",
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.001 * delay)
        process.send_signal(number)
        process.wait()
    rig.wait_until("the process runs on", lambda: state_of(pid) == "S", timeout=2)
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        assert "TracerPid:\t0\n" in file.read()
    assert bench.audit("netd", pid)[1]["processes"][0]["threads"] == 2


# ---- the command line


def test_usage(bench):
    """Names that are none, and users that may not."""
    for arguments in (["--process", "cron"], ["--pid", "netd=x"], ["--pid", "cron=1"], ["--pid", "netd"]):
        done = bench.host.enter(PROGRAM, "audit", *arguments, check=False)
        assert done.returncode == UNKNOWN and arguments[-1] in done.stderr and done.stdout == ""
    done = bench.host.enter("setpriv", "--reuid=65534", "--clear-groups", "test", "-x", PROGRAM, check=False)
    assert done.returncode == 0, "the next one must fail for its own reason"
    done = bench.host.enter("setpriv", "--reuid=65534", "--clear-groups", PROGRAM, "audit", check=False)
    assert done.returncode == UNKNOWN and "only root" in done.stderr


def test_manual_names_every_check():
    """Names of checks are promised to programs."""
    with open(os.path.join(rig.ROOT, "cli/loopback/audit_aspects.def"), encoding="utf-8") as file:
        names = set(re.findall(r"^ASPECT\((\w+),", file.read(), re.MULTILINE))
    with open(os.path.join(rig.ROOT, "docs/man/loopback.8"), encoding="utf-8") as file:
        items = [line for line in file if line.startswith(".It ")]
    promised = {word for line in items for word in line.split()}
    assert len(names) > 30 and names <= promised


def test_found_by_what_it_executes(bench):
    """Without --pid and without systemd. Where several would fit, none is taken."""
    # Other rigs on this machine share its process ids: only what is said of this one's counts.
    pid = bench.start("controld")
    done = bench.host.enter(PROGRAM, "audit", "--json", "--units", bench.units, "--process", "controld", check=False)
    process = json.loads(done.stdout)["processes"][0]
    if process["pid"] is None:
        assert done.returncode == UNKNOWN and str(pid) in process["checks"][0]["found"]
    else:
        assert (process["pid"], done.returncode) == (pid, SAME)
    second = bench.start("controld")
    done = bench.host.enter(PROGRAM, "audit", "--json", "--units", bench.units, "--process", "controld", check=False)
    found = not_same(json.loads(done.stdout))
    assert done.returncode == UNKNOWN and set(found) == {"running"}
    assert str(pid) in found["running"]["found"] and str(second) in found["running"]["found"]
