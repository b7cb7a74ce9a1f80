# SPDX-License-Identifier: Apache-2.0
"""The sandboxes as they are in a running deployment: what the kernel says of every process, against our own tables (P1, P2, P3).

The programs are those that are shipped, with their filters in kill mode, started from the units that are shipped.
"""

import os
import pwd
import stat

import pytest

import procview
from hostview import FIRST_UID

HOST = ("loopback-netd", "loopback-fetchd", "loopback-wg")
CONTROL = ("loopback-controld", "loopback-signd")
WHERE = [("h1", service) for service in HOST] + [("cp", service) for service in CONTROL]
IPV6_LISTEN = "0A"  # TCP_LISTEN of include/net/tcp_states.h


def find(fleet, name, service):
    """(pid, declared) of a running service."""
    host = fleet.host(name)
    if service == "loopback-wg" and host.units()[service]["state"] == "skipped":
        pytest.skip("this kernel has WireGuard; there is no process for the tunnel")
    return host.pid(service), procview.Declared(service)


def uid_of(fleet, name, user):
    """The number of a user as the host knows it; that of the machine's own passwd must not exist."""
    assert user not in {entry.pw_name for entry in pwd.getpwall()}, "the rig's users are of the host alone"
    return int(fleet.host(name).enter("id", "-u", user).stdout)


@pytest.mark.parametrize("name,service", WHERE)
def test_identity_and_capabilities(fleet, name, service):
    """Its own uid and gid throughout, no group besides, exactly the declared capabilities, nothing to inherit or raise."""
    pid, declared = find(fleet, name, service)
    status = procview.status(pid)
    uid = uid_of(fleet, name, declared.user)
    assert uid >= FIRST_UID
    assert status["Uid"].split() == [str(uid)] * 4 and status["Gid"].split() == [str(uid)] * 4
    assert status["Groups"] == ""
    for part in ("CapPrm", "CapEff", "CapBnd"):
        assert procview.capability_set(status[part]) == declared.capabilities, part
    for part in ("CapInh", "CapAmb"):
        assert procview.capability_set(status[part]) == set(), part
    assert (service == "loopback-netd") == bool(declared.capabilities)


@pytest.mark.parametrize("name,service", WHERE)
def test_every_thread_is_filtered(fleet, name, service):
    """No new privileges and a seccomp filter, on each thread and not only on the first."""
    pid, _ = find(fleet, name, service)
    threads = os.listdir(f"/proc/{pid}/task")
    assert threads
    for thread in threads:
        status = procview.status(f"{pid}/task/{thread}")
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), thread
    assert procview.status(pid)["TracerPid"] == "0"


@pytest.mark.parametrize("name,service", WHERE)
def test_memory_is_closed(fleet, name, service):
    """No core dump, and none but root may look into it. wireguard-go, which is not ours, becomes dumpable by its own exec: of it only
    root and its own uid may look, and no other process has that uid."""
    pid, _ = find(fleet, name, service)
    owner = os.stat(f"/proc/{pid}/mem").st_uid
    assert procview.core_limit(pid) == ["0", "0"]
    if service == "loopback-wg":
        assert owner == int(procview.status(pid)["Uid"].split()[0])
    else:
        assert owner == 0


@pytest.mark.parametrize("name,service", WHERE)
def test_sockets(fleet, name, service):
    """No socket of a family that its table does not name. Those that it was handed or accepts are of no family but AF_UNIX, but for
    controld's, which listens before the filter and cannot make another."""
    pid, declared = find(fleet, name, service)
    found = procview.sockets(pid, fleet.host(name).holder)
    families = {family for family, _ in found}
    if service == "loopback-controld":
        listening = [words for family, words in found if family.startswith("AF_INET") and words[3] == IPV6_LISTEN]
        assert [words[1].rpartition(":")[2] for words in listening] == [f"{8443:04X}"]
        assert not declared.families & {"AF_INET", "AF_INET6"}
        families -= {"AF_INET", "AF_INET6"}
    assert families <= declared.families | {"AF_UNIX"}
    assert "AF_UNIX" in families


def test_internet_sockets(fleet):
    """On a host only fetchd and the tunnel can be reached by, or reach, a network; fetchd listens nowhere (P3)."""
    host = fleet.host("h1")
    table = [line.split() for line in host.enter("ss", "-HtuwanpO").stdout.splitlines()]
    listening = [line for line in table if line[1] in ("LISTEN", "UNCONN")]
    assert listening and all("wireguard-go" in line[-1] for line in listening), listening
    assert {line[4].rpartition(":")[2] for line in listening} == {"51820"}
    connected = [line for line in table if line[1] == "ESTAB"]
    assert all("fetchd" in line[-1] for line in connected), connected
    pid = host.pid("netd")
    assert not any(f"pid={pid}," in line[-1] for line in table)


def test_nobody_shares_a_uid(fleet):
    """All uids of the deployment's processes on one machine differ, and no other process of the machine has one of them."""
    pids = {find(fleet, name, service)[0]: service for name, service in WHERE}
    uids = {int(procview.status(pid)["Uid"].split()[0]): service for pid, service in pids.items()}
    assert len(uids) == len(pids) and 0 not in uids
    holders = {fleet.host(name).holder: os.stat(f"/proc/{fleet.host(name).holder}/ns/net").st_ino for name in ("h1", "cp")}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            uid, net = os.stat(f"/proc/{entry}").st_uid, os.stat(f"/proc/{entry}/ns/net").st_ino
            owner = int(procview.status(entry)["Uid"].split()[0])
        except OSError:
            continue  # ended meanwhile
        if owner in uids and net in holders.values():
            assert int(entry) in pids, f"process {entry} runs as the user of {uids[owner]} (owner {uid})"


def test_files(fleet):
    """State folders, and every file in them, are their owner's alone."""
    for name, services in (("h1", HOST[:2]), ("cp", CONTROL)):
        host = fleet.host(name)
        for service in services:
            program = procview.PROGRAMS[service]
            uid = uid_of(fleet, name, procview.Declared(service).user)
            top = os.path.join(host.folder, "lib", program)
            assert (os.stat(top).st_uid, stat.S_IMODE(os.stat(top).st_mode)) == (uid, 0o700)
            for folder, names, files in os.walk(top):
                for entry in names + files:
                    found = os.lstat(os.path.join(folder, entry))
                    assert found.st_uid == uid or (found.st_uid == 0 and entry == "admin.credential"), entry
                    assert stat.S_IMODE(found.st_mode) & 0o077 == 0, f"{entry}: {stat.S_IMODE(found.st_mode):o}"


def test_no_secret_in_logs_or_command_lines(fleet):
    """No private key of WireGuard, no host key, no token and no credential stands in any log or argument list of the deployment."""
    secrets = [fleet.read("admin.credential").strip()]
    for name in fleet.members():
        secrets.append(fleet.host(name).enter("wg", "show", "lb0", "private-key").stdout.strip())
    assert all(len(secret) > 20 for secret in secrets)
    texts = []
    for name, host in fleet.rig.hosts.items():
        texts += [host.log(log.removesuffix(".log")) for log in os.listdir(os.path.join(host.folder, "log"))]
        for service, unit in host.units().items():
            if unit["pid"]:
                for file in ("cmdline", "environ"):
                    with open(f"/proc/{unit['pid']}/{file}", "rb") as stream:
                        texts.append(stream.read().decode(errors="replace"))
        assert texts, name
    for text in texts:
        for secret in secrets:
            assert secret not in text and secret.rpartition(".")[2] not in text
