# SPDX-License-Identifier: Apache-2.0
"""Two machines and a control plane, all from packages: a fleet that pings while its packages change."""

import json
import re

import pytest
from conftest import NAMES
from steady_ping import SteadyPing

CONTROL = "https://198.18.70.2:8443"


def ctl(machine, *arguments):
    """loopbackctl, its JSON."""
    out = machine.run("loopbackctl", *arguments, "--json")
    return json.loads(out) if out.strip() else None


def start_control_plane(machine):
    """Certificates, the ceremony, both daemons, and a network."""
    machine.run("sh", "-ec", """
        mkdir -p /etc/loopback/tls /root/ceremony
        cd /root/ceremony
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=control -addext subjectAltName=IP:198.18.70.2 \\
            -keyout /etc/loopback/tls/key.pem -out /etc/loopback/tls/cert.pem 2>/dev/null
        chown _lb-controld /etc/loopback/tls/key.pem
        loopbackctl root create --out root --name prod
        key=$(/usr/libexec/loopback/signd init --state /var/lib/loopback/signd --root-pub root/root.pub)
        loopbackctl root sign-keyset --root root/root.key --online "$key" --epoch 1 --generation 1 --out keyset
        /usr/libexec/loopback/controld init --state /var/lib/loopback/controld --keyset keyset
        cp /var/lib/loopback/controld/admin.credential .
        chmod 600 admin.credential
        """)
    machine.write("/etc/loopback/controld.env", "CONTROLD_OPTIONS=--tls-cert /etc/loopback/tls/cert.pem --tls-key /etc/loopback/tls/key.pem\n")
    machine.run("systemctl", "start", "loopback-signd.socket", "loopback-controld.service")
    machine.run("loopbackctl", "context", "set", "prod", "--url", CONTROL, "--credential-file", "/root/ceremony/admin.credential",
                "--ca", "/etc/loopback/tls/cert.pem", "--root-pub", "/root/ceremony/root/root.pub")
    ctl(machine, "organization", "create", "acme")
    ctl(machine, "workspace", "create", "servers", "--organization", "acme")
    ctl(machine, "network", "create", "mesh", "--workspace", "servers", "--cidr", "100.64.0.0/16")


def enrol(control, machine):
    """Enrol with a token of its own."""
    token = ctl(control, "token", "create", "--workspace", "servers", "--network", "mesh")["token"]
    machine.write("/root/ca.pem", control.run("cat", "/etc/loopback/tls/cert.pem"))
    machine.run("loopback", "enroll", "--url", CONTROL, "--ca", "/root/ca.pem", "--token-file", "-", text=token + "\n")


def status(machine):
    """Of the agent."""
    return json.loads(machine.run("loopback", "status", "--json", check=False))


@pytest.fixture(scope="module", name="fleet")
def fleet_fixture(pair, packages):
    """(control, other): both in the mesh, the control plane on one of them."""
    control, other = pair
    control.install(*[packages.deb(name) for name in NAMES])
    other.install(packages.deb("loopback-agent"))
    start_control_plane(control)
    for machine in pair:
        enrol(control, machine)
    ctl(control, "network", "status", "mesh", "--wait", "30s")
    control.run("ping", "-c", "1", "-w", "20", overlay(other))
    return pair


def overlay(machine):
    """Its overlay address."""
    return re.search(r"inet ([0-9.]+)/", machine.run("ip", "-4", "address", "show", "dev", "lb0")).group(1)


def pids(machine):
    """Of the services of the agent."""
    return {unit: machine.properties(f"loopback-{unit}.service", "MainPID")["MainPID"] for unit in ("netd", "fetchd", "wg")}


def change(machine, debs, version):
    """Install other versions of what is installed. Nobody is sent away: pings run both ways meanwhile, and none is lost."""
    before = pids(machine)
    machine.install(*debs)
    assert f"loopback {version}" in machine.run("loopback", "--version")
    after = pids(machine)
    assert before["netd"] != after["netd"] and before["fetchd"] != after["fetchd"]
    assert before["wg"] == after["wg"], "the userspace tunnel was started anew"
    machine.wait("netd serves what it served before", lambda: status(machine)["state"] == "running")


def test_upgrade_and_downgrade_lose_no_ping(fleet, packages, newer):
    """The agent of a host is upgraded, and downgraded again, and its control plane too; 20 pings a second both ways are answered."""
    control, other = fleet
    pings = [SteadyPing(control, overlay(other)), SteadyPing(other, overlay(control))]
    change(other, [newer.deb("loopback-agent")], "9.9.9")
    change(control, [newer.deb(name) for name in NAMES], "9.9.9")
    change(other, [packages.deb("loopback-agent")], packages.version)
    change(control, [packages.deb(name) for name in NAMES], packages.version)
    for ping in pings:
        sent, lost = ping.stop()
        assert sent > 50 and lost == 0, f"{ping.source}: {lost} of {sent} lost"
    for machine in fleet:
        assert machine.properties("loopback-netd", "NRestarts")["NRestarts"] == "0"


def test_changes_still_arrive_after_the_upgrades(fleet):
    """The control plane's database, the host's identity and its link outlived both changes."""
    control, other = fleet
    host = control.run("hostname").strip()
    before = status(other)["generation"] if "generation" in status(other) else None
    ctl(control, "host", "leave", host, "mesh")
    other.wait("the peer goes", lambda: not other.run("wg", "show", "lb0", "peers").strip())
    ctl(control, "host", "join", host, "mesh")
    other.wait("the peer comes back", lambda: other.run("wg", "show", "lb0", "peers").strip())
    ctl(control, "network", "status", "mesh", "--wait", "30s")
    other.run("ping", "-c", "1", "-w", "20", overlay(control))
    assert before is None or status(other)["generation"] > before


def test_edited_configuration_outlives_an_upgrade(fleet, newer):
    """A conffile that was edited stays as edited, and nobody is asked."""
    _, other = fleet
    text = "# ours\nNETD_OPTIONS=--interface lb0 --listen-port 51820\n"
    other.write("/etc/loopback/netd.env", text)
    other.install(newer.deb("loopback-agent"))
    assert other.run("cat", "/etc/loopback/netd.env") == text
    assert other.status("test", "-e", "/etc/loopback/netd.env.dpkg-dist") == 1


def test_remove_ends_the_tunnel_and_install_brings_it_back(fleet, packages):
    """Without netd nobody would take away the access of hosts that leave: the interface goes; state brings it back."""
    _, other = fleet
    address = overlay(other)
    other.apt("remove", "loopback-agent")
    assert other.status("test", "-e", "/run/wireguard/lb0.sock") == 1
    assert other.status("ip", "link", "show", "lb0") == 1
    other.install(packages.deb("loopback-agent"))
    other.wait("it is back", lambda: status(other)["state"] == "running")
    assert overlay(other) == address


def test_purge_of_an_enrolled_agent_leaves_nothing(fleet):
    """Keys, documents, journal, cache, run files, interface."""
    _, other = fleet
    other.apt("purge", "loopback-agent")
    left = other.run("sh", "-c", "find / -xdev \\( -path /proc -o -path /sys -o -path /run/packages \\) -prune -o -name '*loopback*' -print")
    assert left.split() == []
    assert other.status("ip", "link", "show", "lb0") == 1
    assert other.run("find", "/run/wireguard", "/var/lib/loopback", "/etc/loopback", check=False) == ""
