# SPDX-License-Identifier: Apache-2.0
"""From packages to a mesh, as a user does it: apt, systemd, enrolment. The tests stand in this order."""

import os
import re

import machine
import pytest
from machine import run

DAEMONS = {"netd": "_lb-netd", "fetchd": "_lb-fetchd", "controld": "_lb-controld", "signd": "_lb-signd"}
NAMES = ("vm", "h2", "h3")


def files_of_system():
    """Every path on the disk, but for what dpkg, apt, the journal and these tests keep."""
    skip = re.compile(r"/(root|opt/vm|var/(log|tmp|lib/(apt|dpkg)|cache/apt|cache/ldconfig)|tmp)(/|$)|.*__pycache__")
    return sorted(path for path in run("find", "/", "-xdev").splitlines() if not skip.match(path))


def test_apt_installs_them():
    os.makedirs(machine.NOTES, exist_ok=True)
    with open(f"{machine.NOTES}/files-before", "w", encoding="utf-8") as out:
        out.write("\n".join(files_of_system()))
    machine.offer_packages("first")
    said = machine.apt("install", machine.AGENT, machine.CONTROL, machine.OPERATOR)
    assert not re.search(r"(?im)^(warning|error|E:|W:|dpkg: )|failed", said), said
    wanted = machine.offered_version("first")
    assert [machine.version_of(name) for name in (machine.AGENT, machine.CONTROL, machine.OPERATOR)] == [wanted] * 3


def test_nothing_of_them_has_been_changed_since():
    assert run("dpkg", "--verify", machine.AGENT, machine.CONTROL, machine.OPERATOR) == ""


def dependencies(package):
    """Every package that this one needs, and those need in turn, as dpkg knows them."""
    needs, provided = {}, {}
    for line in run("dpkg-query", "-W", "-f", "${Package}\\t${Pre-Depends}, ${Depends}\\t${Provides}\\n").splitlines():
        name, wanted, also = line.split("\t")
        needs[name] = re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]*)", wanted)
        for other in re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9.+-]*)", also):
            provided.setdefault(other, []).append(name)
    found, todo = set(), [package]
    while todo:
        name = todo.pop()
        for real in [name] if name in needs else provided.get(name, []):
            if real not in found:
                found.add(real)
                todo += needs[real]
    return found


def test_every_library_is_of_a_package_that_is_depended_on():
    """What the image happens to have is not what a user's machine has."""
    missing = []
    for package, programs in ((machine.AGENT, ("netd", "fetchd", "wg-launch", "loopback")), (machine.CONTROL, ("controld", "signd")),
                              (machine.OPERATOR, ("loopbackctl",))):
        paths = [f"{machine.LIBEXEC}/{name}" if os.path.exists(f"{machine.LIBEXEC}/{name}") else f"/usr/bin/{name}" for name in programs]
        libraries = set(re.findall(r"=> (?:/\S*/)?([^/\s]+) \(", run("ldd", *paths)))
        owners = {line.split(":")[0] for line in run("dpkg", "-S", *(f"*/{name}" for name in libraries)).splitlines()
                  if re.search(r"/lib/x86_64-linux-gnu/[^/]+$", line)}
        assert len(libraries) > 3 and len(owners) > 2
        missing += [(package, owner) for owner in owners - dependencies(package)]
    assert not missing


def test_the_agent_runs_and_comes_again_at_boot():
    for name in ("netd", "fetchd"):
        assert machine.active(f"loopback-{name}.service"), name
        assert run("systemctl", "is-enabled", f"loopback-{name}.service").strip() == "enabled"
    assert machine.wait_until("netd without a root key", lambda: machine.status().get("state") == "unpinned")


def test_the_control_plane_waits_to_be_initialised():
    assert not machine.active("loopback-controld.service") and not machine.active("loopback-signd.service")
    assert machine.failed_units() == []


def test_the_control_plane_starts(site):
    site.start_control_plane()
    machine.wait_until("controld and signd", lambda: all(machine.active(f"loopback-{name}.service") for name in ("controld", "signd")))


def test_three_hosts_enrol(site):
    site.enroll_machine()
    for name in NAMES[1:]:
        site.add_other(name)
    site.wait_converged(*NAMES)


def test_the_tunnels_are_the_kernels(site):
    assert "wireguard" in run("ip", "-d", "link", "show", "lb0")
    assert machine.main_pid("wg") == 0 and machine.failed_units() == []
    assert {entry["backend"] for entry in site.ctl("network", "status", "mesh")["hosts"]} == {"kernel"}


def test_every_host_reaches_every_other(site):
    assert site.unreached(*NAMES) == []


@pytest.mark.parametrize("name", DAEMONS)
def test_each_daemon_has_the_rights_it_should(name):
    pid = machine.main_pid(name)
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    held = {status[key] for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
    wanted = (1 << 12) | (1 << 39) if name == "netd" else 0
    assert int(status["CapEff"], 16) == wanted and all(int(one, 16) | wanted == wanted for one in held)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == [run("id", "-u", DAEMONS[name]).strip()] * 4
    assert os.readlink(f"/proc/{pid}/exe") == f"{machine.LIBEXEC}/{name}"


def test_systemd_finds_no_fault_with_the_units():
    units = sorted(name for name in os.listdir("/lib/systemd/system") if name.startswith("loopback-"))
    assert len(units) >= 11
    assert run("systemd-analyze", "verify", *(f"/lib/systemd/system/{name}" for name in units)) == ""


def test_a_killed_netd_changes_nothing_on_the_device():
    def device():
        dump = [line.split("\t") for line in run("wg", "show", "lb0", "dump").splitlines()]
        return [fields[:4] + fields[7:] for fields in dump], run("ip", "-d", "address", "show", "lb0"), run("ip", "route")
    before, pid = device(), machine.main_pid("netd")
    run("kill", "-KILL", str(pid))
    machine.wait_until("a new netd", lambda: machine.main_pid("netd") not in (0, pid))
    machine.wait_until("netd running", lambda: machine.status().get("state") == "running")
    assert device() == before


def test_the_journal_has_nothing_to_complain_of():
    assert machine.complaints(("Main process exited, code=killed, status=9/KILL", "Failed with result 'signal'")) == []
    assert machine.failed_units() == []
