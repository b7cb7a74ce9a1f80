# SPDX-License-Identifier: Apache-2.0
"""What the units make of the processes, on a booted machine: their root folders hold what their tables name, and they work there."""

import pytest
from conftest import NAMES
from test_deb_upgrade import ctl, enrol, overlay, start_control_plane
from test_units import SERVICES, table

# What is in every one of these root folders, and holds nothing of the host: systemd's own, temporary folders, a /proc with the
# process alone in it.
OWN = {"/", "/dev", "/proc", "/run", "/run/systemd/incoming", "/sys", "/tmp", "/var/tmp", "/root"}
EMPTY = {"/dev/hugepages", "/dev/mqueue", "/dev/pts", "/dev/shm", "/home", "/root", "/run/systemd/incoming", "/run/user"}


@pytest.fixture(scope="module", name="fleet")
def fleet_fixture(pair, packages):
    """Both machines in the mesh; the first runs all five services."""
    control, other = pair
    control.install(*[packages.deb(name) for name in NAMES])
    other.install(packages.deb("loopback-agent"))
    start_control_plane(control)
    for machine in pair:
        enrol(control, machine)
    ctl(control, "network", "status", "mesh", "--wait", "30s")
    return control, other


def main_pid(machine, process):
    """Of its service."""
    return machine.properties(SERVICES[process], "MainPID")["MainPID"]


def mounts(machine, process):
    """{mount point: options} as the process sees them."""
    lines = machine.run("cat", f"/proc/{main_pid(machine, process)}/mountinfo").splitlines()
    return {line.split()[4]: set(line.split()[5].split(",")) for line in lines}


def names(machine, process, *tests):
    """What find finds in the root folder of a process, as the process calls it."""
    root = f"/proc/{main_pid(machine, process)}/root" if process else ""
    out = machine.run("find", root + "/", "-path", root + "/proc", "-prune", "-o", *tests, "-print", check=False)
    return {line.removeprefix(root) for line in out.splitlines()}


def test_the_mesh_works_in_these_units(fleet):
    control, other = fleet
    control.run("ping", "-c", "3", "-i", "0.2", "-w", "20", overlay(other))
    other.run("ping", "-c", "3", "-i", "0.2", "-w", "20", overlay(control))


@pytest.mark.parametrize("process", SERVICES)
def test_nothing_is_mounted_but_what_the_table_names(fleet, process):
    rows, found = table(process), mounts(fleet[0], process)
    program = {f"/usr/libexec/loopback/{process}"} | ({"/usr/bin/wireguard-go"} if process == "wg-launch" else set())
    named = rows.paths("RO") | rows.paths("RW") | rows.views("CONNECT", "CODE", "START", "NAME") | program
    stray = {point for point in found if point not in named | OWN | EMPTY and not point.startswith(("/proc/", "/sys/"))}
    assert stray == set()
    for point in rows.paths("RW") - {"/dev/net/tun"}:
        assert {"rw", "nosuid", "noexec"} <= found[point], point
    for point in found:
        if point not in rows.paths("RW") | {"/proc", "/run", "/tmp", "/var/tmp"}:
            assert "ro" in found[point], point


@pytest.mark.parametrize("process", SERVICES)
def test_it_sees_no_socket_of_others(fleet, process):
    """D-Bus, the service manager's, the other daemons': the host has them, under names that this process cannot say."""
    # A socket that was mounted on a file is a file to find, which believes the folder; to test it is a socket.
    look = ("(", "-path", "*/usr", "-o", "-path", "*/lib*", "-o", "-path", "*/etc", ")", "-prune", "-o",
            "(", "-type", "s", "-o", "-type", "f", ")", "-exec", "test", "-S", "{}", ";")
    host = names(fleet[0], None, "-path", "/run/*", "-type", "s")
    assert {"/run/dbus/system_bus_socket", "/run/systemd/private", "/run/loopback/netd/admin.sock"} <= host
    shown = {path.replace("/var/run/", "/run/") for path in table(process).views("CONNECT")} & host
    shown |= {"/run/wireguard/lb0.sock"} if process in ("netd", "wg-launch") else set()
    assert {path.replace("/var/run/", "/run/") for path in names(fleet[0], process, *look)} == shown


@pytest.mark.parametrize("process", SERVICES)
def test_it_sees_no_state_of_others(fleet, process):
    seen = names(fleet[0], process, "-path", "*/var/lib/loopback/*")
    assert all(path.startswith(f"/var/lib/loopback/{process}") for path in seen)
    assert bool(seen) == (process != "wg-launch")


@pytest.mark.parametrize("process", SERVICES)
def test_control_groups_and_kernel_settings_have_no_name(fleet, process):
    root = f"/proc/{main_pid(fleet[0], process)}/root"
    for folder in ("/sys/fs", "/sys/kernel", "/sys/class", "/sys/devices", "/dev/shm", "/dev/mqueue"):
        assert fleet[0].run("ls", "-A", root + folder) == "", folder
    assert fleet[0].run("ls", "-A", "/sys/fs/cgroup") != ""
    assert fleet[0].status("test", "-e", root + "/proc/sys") != 0


def test_nobody_was_killed_or_started_again(fleet):
    for process, service in SERVICES.items():
        properties = fleet[0].properties(service, "NRestarts", "Result", "ActiveState")
        assert properties == {"NRestarts": "0", "Result": "success", "ActiveState": "active"}, process
