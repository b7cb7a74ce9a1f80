# SPDX-License-Identifier: Apache-2.0
"""WireGuard keys are replaced (M10) on the kernel's WireGuard, by a netd under its unit and its AppArmor profile. After test_packages.py, in the same run of pytest."""

import machine
from machine import run
from steady_ping import SteadyPing

HOSTS = ("vm", "h2", "h3")


def enter(site, name, *command):
    """What a command in a host prints; "vm" is this machine."""
    host = site.rig.hosts.get(name)
    return host.enter(*command).stdout if host else run(*command)


def key(site, name):
    """The key of lb0, as wg(8) shows it."""
    return enter(site, name, "wg", "show", "lb0", "public-key").strip()


def interfaces(site, name):
    """WireGuard's, as wg(8) shows them."""
    return sorted(enter(site, name, "wg", "show", "interfaces").split())


def peers(site, name):
    """{public key: allowed ips} of lb0."""
    return dict(line.split("\t") for line in enter(site, name, "wg", "show", "lb0", "allowed-ips").splitlines())


def test_all_keys_are_replaced_and_no_ping_is_lost(site):
    before = {name: key(site, name) for name in HOSTS}
    at = {name: site.overlay(name) for name in HOSTS}
    pairs = [(source, target) for source in HOSTS for target in HOSTS if source != target]
    pings = [SteadyPing(site.rig.hosts.get(source, machine.Machine), at[target], 0.05) for source, target in pairs]
    job = site.ctl("network", "rotate-keys", "mesh")
    for name in HOSTS:
        machine.wait_until(f"the second interface at {name}", lambda name=name: interfaces(site, name) == ["lb0", "lb0n"], 60)
    machine.wait_until("the job's end", lambda: site.ctl("job", "show", job["id"])["state"] == "done", 120)
    for name in HOSTS:
        machine.wait_until(f"one interface at {name}", lambda name=name: interfaces(site, name) == ["lb0"], 60)
    accounts = [ping.stop() for ping in pings]
    now = {name: key(site, name) for name in HOSTS}
    assert site.ctl("job", "show", job["id"])["done"] == len(HOSTS)
    assert not set(now.values()) & set(before.values())
    assert all(sent >= 20 and lost == 0 for sent, lost in accounts), accounts
    for name in HOSTS:
        assert peers(site, name) == {now[other]: at[other] + "/32" for other in HOSTS if other != name}
    assert not machine.active("loopback-wg-next.service"), "the kernel has WireGuard: nobody waits to become wireguard-go"
