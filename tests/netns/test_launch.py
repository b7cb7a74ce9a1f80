# SPDX-License-Identifier: Apache-2.0
"""The rig itself: does launch give a service what systemd would, and does a rig leave nothing behind?"""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
import rig
import unitfile

PREFIX = "lbl"
FOLDER = os.path.join(rig.ROOT, "build/netns-launch")
NETD_CAPABILITIES = (1 << 12) | (1 << 39)  # CAP_NET_ADMIN, CAP_BPF
NETD, FETCHD, WG, SIGND = "loopback-netd", "loopback-fetchd", "loopback-wg", "loopback-signd"


@pytest.fixture(scope="module", name="machine")
def machine_fixture(tmp_path_factory):
    """A rig whose programs are stand-ins and whose units are ours with a watchdog of test length."""
    folder = tmp_path_factory.mktemp("standins")
    programs, units = folder / "bin", folder / "units"
    programs.mkdir()
    os.chmod(folder, 0o755)
    for name in ("netd", "fetchd", "wg-launch", "controld", "signd"):
        shutil.copy(os.path.join(os.path.dirname(__file__), "standin.py"), programs / name)
    shutil.copytree(rig.UNITS, units)
    for path in units.glob("*.service"):
        text = path.read_text().replace("WatchdogSec=30", "WatchdogSec=400ms")
        # A stand-in needs no `signd init`.
        path.write_text(re.sub(r"^ConditionPathExists=/var/lib/loopback/.*\n", "", text, flags=re.M))
    made = rig.Rig(FOLDER, PREFIX, programs, units=units)
    made.add_host("h1", "198.18.1.1")
    yield made
    made.take_down()
    shutil.rmtree(FOLDER)


@pytest.fixture(name="host")
def host_fixture(machine):
    """A host on which launch runs what the test starts."""
    host = machine.hosts["h1"]
    for name in os.listdir(os.path.join(host.folder, "log")):
        os.unlink(os.path.join(host.folder, "log", name))
    yield host
    host.stop()
    for name in os.listdir(os.path.join(host.folder, "etc")):
        os.unlink(os.path.join(host.folder, "etc", name))


def behave(host, program, words, **variables):
    """What a stand-in does from its next start on."""
    with open(os.path.join(host.folder, "etc", program + ".env"), "w", encoding="utf-8") as file:
        file.write(f'STANDIN="{words}"\n' + "".join(f"{key}={value}\n" for key, value in variables.items()))


def reports(host, service):
    """What each start of a stand-in found itself to be."""
    rig.wait_until(f"a report of {service}", lambda: "\n" in host.log(service))
    return [json.loads(line) for line in host.log(service).splitlines() if line.startswith("{")]


def capabilities(report):
    """The five sets as numbers."""
    return {name: int(report["status"]["Cap" + name], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


def uid(host, name):
    """The number of a user of the host."""
    return int(host.enter("id", "-u", name).stdout)


def test_a_host_is_up_in_well_under_a_second(host):
    begun = time.monotonic()
    host.start(NETD, FETCHD, WG)
    assert time.monotonic() - begun < 1.0
    assert {entry["state"] for entry in host.units().values()} <= {"active", "skipped"}


def test_netd_holds_its_two_capabilities_and_no_other(host):
    host.start(NETD)
    found = reports(host, NETD)[0]
    assert capabilities(found) == dict.fromkeys(("Inh", "Prm", "Eff", "Bnd", "Amb"), NETD_CAPABILITIES)
    assert found["status"]["Uid"].split() == [str(uid(host, "_lb-netd"))] * 4
    assert found["status"]["Gid"].split() == [str(uid(host, "_lb-netd"))] * 4
    assert found["status"]["Groups"].split() == []
    assert found["status"]["NoNewPrivs"] == "1"


@pytest.mark.parametrize("service, user", [(FETCHD, "_lb-fetchd"), (WG, "_lb-wg"), (SIGND, "_lb-signd")])
def test_the_others_hold_none(host, service, user):
    if service == WG and os.path.exists("/sys/module/wireguard"):
        pytest.skip("this kernel has WireGuard, so that loopback-wg is not for it")
    host.start(service)
    found = reports(host, service)[0]
    assert set(capabilities(found).values()) == {0}
    assert found["status"]["Uid"].split() == [str(uid(host, user))] * 4


def test_signd_has_no_network(host):
    host.start(SIGND)
    assert "eth0" not in reports(host, SIGND)[0]["interfaces"]


def test_sockets_are_passed_by_name_with_owner_and_mode(host):
    host.start(NETD)
    found = reports(host, NETD)[0]
    assert found["environment"]["LISTEN_PID"] == str(found["pid"])
    named = dict(zip(found["environment"]["LISTEN_FDNAMES"].split(":"), found["sockets"]))
    assert named == {name: f"/run/loopback/netd/{name}.sock" for name in ("documents", "view", "admin", "tunnel")}
    shown = host.enter("stat", "-c", "%n %U %a", *named.values()).stdout.split("\n")
    assert sorted(shown)[1:] == ["/run/loopback/netd/admin.sock root 600", "/run/loopback/netd/documents.sock _lb-fetchd 600",
                                 "/run/loopback/netd/tunnel.sock _lb-wg 600", "/run/loopback/netd/view.sock root 666"]


def test_nothing_else_is_inherited(host):
    host.start(NETD)
    found = reports(host, NETD)[0]
    assert found["descriptors"] == list(range(3 + 4))  # /dev/null, the log twice, four sockets
    allowed = {"PATH", "LANG", "HOME", "USER", "LOGNAME", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS",
               "LISTEN_PID", "LISTEN_FDNAMES", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "LC_CTYPE"}
    assert set(found["environment"]) <= allowed
    assert found["cwd"] == "/"


def test_folders_belong_to_the_service_and_keep_what_is_in_them(host):
    host.enter("sh", "-c", "mkdir -p /var/lib/loopback/netd/deep && echo kept > /var/lib/loopback/netd/deep/file")
    host.enter("chown", "-R", "root:root", "/var/lib/loopback/netd")
    host.start(NETD)
    shown = host.enter("stat", "-c", "%U %a", "/var/lib/loopback", "/var/lib/loopback/netd", "/run/wireguard",
                       "/var/lib/loopback/netd/deep/file").stdout.splitlines()
    assert shown == ["root 755", "_lb-netd 700", "_lb-netd 711", "_lb-netd 644"]


def test_options_and_environment_files_reach_the_command_line(host):
    behave(host, "netd", "ready", NETD_OPTIONS="'--one two'")
    host.start(NETD, options={"netd": "--listen-port 51820"})
    assert reports(host, NETD)[0]["argv"] == ["--one", "two", "--listen-port", "51820"]


def test_up_means_ready(host):
    behave(host, "netd", "slow")
    begun = time.monotonic()
    host.start(NETD)
    assert time.monotonic() - begun >= 0.3
    assert host.units()[NETD]["status"] == "standing in"


def test_not_ready_is_not_up(host):
    behave(host, "netd", "mute")
    with pytest.raises(rig.RigError, match="not up within"):
        host.start(NETD, timeout=0.5)
    assert host.units()[NETD]["state"] == "activating"


def test_a_killed_service_comes_back_on_the_same_sockets(host):
    host.start(NETD, FETCHD)
    inode = host.enter("stat", "-c", "%i", "/run/loopback/netd/admin.sock").stdout
    before, other = host.pid("netd"), host.pid("fetchd")
    os.kill(before, signal.SIGKILL)
    rig.wait_until("a new netd", lambda: host.units()[NETD]["pid"] not in (0, before))
    host.launch("wait")
    found = host.units()[NETD]
    assert (found["restarts"], found["last_exit"]) == (1, "SIGKILL")
    assert host.pid("fetchd") == other
    assert host.enter("stat", "-c", "%i", "/run/loopback/netd/admin.sock").stdout == inode


def test_what_a_service_forked_ends_with_it(host):
    behave(host, "netd", "ready fork")
    host.start(NETD)
    child = reports(host, NETD)[1]["child"]
    os.kill(host.pid("netd"), signal.SIGKILL)
    rig.wait_until("the child's end", lambda: rig.start_time(child) is None)


def test_the_watchdog_bites(host):
    behave(host, "netd", "ready hungry")
    host.start(NETD)
    rig.wait_until("a restart", lambda: host.units()[NETD]["restarts"] >= 1, timeout=5)
    assert host.units()[NETD]["last_exit"] == "SIGABRT"
    assert "watchdog not fed" in host.log("launch")


def test_a_fed_watchdog_does_not(host):
    host.start(NETD)
    time.sleep(1.0)
    assert host.units()[NETD]["restarts"] == 0


def test_stop_start_and_restart(host):
    host.start(NETD, FETCHD)
    first = host.pid("fetchd")
    assert host.launch("stop", FETCHD)["state"] == "inactive"
    time.sleep(0.4)
    assert rig.start_time(first) is None and host.units()[FETCHD]["pid"] == 0
    assert host.launch("start", FETCHD)["pid"] == host.pid("fetchd")
    second = host.pid("fetchd")
    assert host.launch("restart", FETCHD)["pid"] not in (first, second)
    assert host.units()[FETCHD]["restarts"] == 0


def test_commands_that_make_no_sense_are_refused(host):
    host.start(NETD)
    for verb, service in (("dance", NETD), ("stop", "nginx"), ("stop", None)):
        with pytest.raises(rig.RigError, match="expected start"):
            host.launch(verb, service)


def test_one_that_ignores_sigterm_is_killed(host):
    behave(host, "netd", "ready deaf")
    host.start(NETD)
    begun = time.monotonic()
    host.launch("stop", NETD)
    assert 4.5 < time.monotonic() - begun < 7
    assert host.units()[NETD]["last_exit"] == "SIGKILL"


def test_services_die_with_launch(host):
    host.start(NETD, FETCHD)
    pids = [host.pid("netd"), host.pid("fetchd")]
    os.kill(host.launch_pid, signal.SIGKILL)
    rig.wait_until("the services' end", lambda: not any(rig.start_time(pid) for pid in pids))


def test_an_unmet_condition_skips_a_service(host):
    unit = os.path.join(host.rig.units, WG + ".service")
    with open(unit, encoding="utf-8") as file:
        text = file.read()
    with open(unit, "w", encoding="utf-8") as file:
        file.write(text.replace("!/sys/module/wireguard", "!/proc"))
    try:
        host.start(NETD, WG)
        assert host.units()[WG]["state"] == "skipped"
    finally:
        with open(unit, "w", encoding="utf-8") as file:
            file.write(text)


def test_launch_refuses_the_machine_itself():
    done = subprocess.run([rig.LAUNCH, "--units", rig.UNITS, "--bin", "/", "--root", "/nonexistent", NETD],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "mount namespace" in done.stderr


def test_a_directive_that_the_rig_does_not_know_is_an_error(tmp_path):
    (tmp_path / "loopback-x.service").write_text("[Service]\nExecStart=/bin/true\nExecStartPre=/bin/true\n")
    with pytest.raises(unitfile.UnitError, match=r"loopback-x.service:3: the rig knows no ExecStartPre="):
        unitfile.load(tmp_path, "loopback-x")


def test_a_socket_that_its_service_forgot_is_an_error(tmp_path):
    shutil.copytree(rig.UNITS, tmp_path / "units")
    service = tmp_path / "units/loopback-netd.service"
    service.write_text(re.sub(r" loopback-netd-tunnel.socket$", "", service.read_text(), flags=re.MULTILINE))
    with pytest.raises(unitfile.UnitError, match="Sockets= does not list it"):
        unitfile.load(tmp_path / "units", NETD)


# ---- nothing stays


def machine_state():
    """What a rig could leave on the machine: links, namespaces, mounts, accounts, mount points."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line for line in file if "/run/netns" not in line]
    with open("/etc/passwd", encoding="utf-8") as file:
        passwd = file.read()
    paths = [path for path in ("/etc/loopback", "/var/lib/loopback", "/var/cache/loopback", "/run/loopback", "/run/wireguard")
             if os.path.exists(path)]
    names = [name for name in os.listdir("/run/netns") if name.startswith("lbk-")] if os.path.isdir("/run/netns") else []
    links = [name for name in os.listdir("/sys/class/net") if name.startswith("lbk")]
    return mounts, passwd, paths, names, links, stat.S_IMODE(os.stat("/dev/net/tun").st_mode)


CRASHER = """
import sys, time
sys.path.insert(0, {netns!r})
import rig
made = rig.Rig({folder!r}, "lbk", {programs!r}, tied={tied})
made.connect_machine("lbk-out", ["198.18.0.10"])
host = made.add_host("h1", "198.18.1.1")
host.start("loopback-netd", "loopback-fetchd")
print(host.launch_pid, host.holder, host.pid("netd"), host.pid("fetchd"), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("tied", [True, False])
def test_a_killed_rig_is_swept_whole(machine, tmp_path, tied):
    before = machine_state()
    folder = str(tmp_path / "crash")
    script = CRASHER.format(netns=os.path.dirname(rig.__file__), folder=folder, programs=machine.programs, tied=tied)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as crasher:
        pids = [int(word) for word in crasher.stdout.readline().split()]
        crasher.kill()
    assert len(pids) == 4
    if tied:
        rig.wait_until("the end of everything", lambda: not any(rig.start_time(pid) for pid in pids))
    else:
        assert all(rig.start_time(pid) for pid in pids)
    assert rig.sweep(folder, "lbk") == []
    assert not any(rig.start_time(pid) for pid in pids)
    assert machine_state() == before
    assert rig.sweep(folder, "lbk") == []


def test_sweep_leaves_a_process_whose_pid_was_reused(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (tmp_path / "state.json").write_text(json.dumps({
            "links": [], "processes": [{"kind": "holder", "pid": bystander.pid, "started": 1}]}))
        rig.sweep(str(tmp_path), "lbk")
        assert rig.start_time(bystander.pid)
        bystander.kill()


def test_hosts_see_each_other_and_their_own_names(machine):
    other = machine.add_host("h2", "198.18.1.2", {"control.demo": rig.CONTROL_ADDRESS})
    assert " 0% packet loss" in machine.hosts["h1"].enter("ping", "-c1", "-W2", "198.18.1.2").stdout
    assert other.enter("hostname").stdout == "h2\n"
    assert other.enter("getent", "hosts", "control.demo").stdout.split() == [rig.CONTROL_ADDRESS, "control.demo"]
    assert other.enter("ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]


def test_a_reboot_loses_run_and_keeps_the_disk(machine):
    host = machine.hosts["h1"]
    host.start(NETD)
    host.enter("sh", "-c", "touch /run/volatile /var/lib/loopback/netd/stable; ip link add lb0 type bridge")
    for sure in (False, True):
        host.reboot(sure)
        assert host.pid("netd")
        shown = host.enter("ls", "/run/volatile", "/var/lib/loopback/netd/stable", "/sys/class/net/lb0", check=False)
        assert shown.stdout == "/var/lib/loopback/netd/stable\n"
    host.stop()
