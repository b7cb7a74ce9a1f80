# SPDX-License-Identifier: Apache-2.0
"""What tests of a whole fleet look at and do: stock tools as witnesses, changes of membership, deaths."""

import json
import os
import re
import signal
import threading
import time

import fleet as fleets
import rig as rigs
from steady_ping import SteadyPing

CREATED = re.compile(r"\b(valid_lft|preferred_lft|expires|used|cache) \S+")


def status(fleet, name, *words):
    """`loopback status --json` of a host, as root."""
    return json.loads(fleet.host(name).enter("loopback", "status", "--json", *words, check=False).stdout)


def netd_status(fleet, name):
    """The same from netd alone, as anybody may ask for it: nobody waits for a fetchd that does not answer."""
    done = fleet.host(name).enter("setpriv", "--reuid", "65534", "--clear-groups", "loopback", "status", "--json", check=False)
    return json.loads(done.stdout)


def peers(fleet, name):
    """{public key: (endpoint, allowed ips, keepalive)} as wg(8) shows them."""
    dump = [line.split("\t") for line in fleet.host(name).enter("wg", "show", "lb0", "dump").stdout.splitlines()]
    return {fields[0]: (fields[2], ",".join(sorted(fields[3].split(","))), fields[7]) for fields in dump[1:]}


def settled_peers(fleet, name):
    """peers(), once every one of them has the keepalive that it will keep: of two hosts that meet, the one that is not to shake hands first gets it later."""
    def settled():
        found = peers(fleet, name)
        return all(keepalive != "off" for _, _, keepalive in found.values()) and [found]
    return rigs.wait_until(f"{name}: keepalives", settled)[0]


def handshakes(fleet, name):
    """{public key: time of the latest handshake}"""
    return dict(line.split("\t") for line in fleet.host(name).enter("wg", "show", "lb0", "latest-handshakes").stdout.splitlines())


def overlay_view(fleet, name):
    """All that the mesh is on a host: peers, link, addresses, routes of lb0."""
    host = fleet.host(name)
    shown = [host.enter("ip", "-d", *words, check=False).stdout for words in (
        ("link", "show", "lb0"), ("address", "show", "lb0"), ("-4", "route", "show", "table", "all", "dev", "lb0"),
        ("-6", "route", "show", "table", "all", "dev", "lb0"))]
    return [settled_peers(fleet, name)] + [CREATED.sub("", text) for text in shown]


def others_view(fleet, name):
    """All that is not the mesh: other interfaces, other routes, rules, firewall, settings of the kernel."""
    host = fleet.host(name)
    texts = []
    for words in (("-o", "link"), ("-o", "address"), ("-4", "route", "show", "table", "all"), ("-6", "route", "show", "table", "all"),
                  ("-4", "rule"), ("-6", "rule")):
        lines = host.enter("ip", *words).stdout.splitlines()
        texts.append([CREATED.sub("", line) for line in lines if not re.search(r"\blb0\b", line)])
    texts.append(host.enter("nft", "list", "ruleset").stdout)
    settings = host.enter("sysctl", "-a", "-r", r"^net\.ipv[46]\.(ip_forward|conf\.(all|default|eth0|lo)\..*|fwmark.*)$").stdout
    if os.path.exists("/sys/module/wireguard"):
        # The module itself switches them off when an interface comes up (linux, drivers/net/wireguard/device.c, wg_open()).
        settings = re.sub(r"(?m)^net\.ipv4\.conf\.all\.send_redirects = .*\n", "", settings)
    texts.append(settings)
    return texts


def reach(fleet, pairs, patience=10.0):
    """Assert that every source host reaches every address. Returns the time of the slowest first answer, in seconds."""
    found = fleets.Reach(fleet, pairs, patience).result()
    assert None not in found.values(), f"no answer within {patience:g} s: {[pair for pair, took in found.items() if took is None]}"
    return max(found.values())


def all_pairs(fleet, names):
    """[(source, address)] of everybody to everybody else."""
    where = {entry["name"]: entry["addresses"][0].split("/")[0] for entry in fleet.status()["hosts"]}
    return [(source, where[target]) for source in names for target in names if source != target]


def kill(host, service, number=signal.SIGKILL):
    """Kill a service and wait until another process is up in its place. Returns the pid that died."""
    pid = host.pid(service)
    name = service if service.startswith("loopback-") else f"loopback-{service}"
    os.kill(pid, number)
    rigs.wait_until(f"another {service}", lambda: host.units()[name]["pid"] not in (0, pid), interval=0.005)
    host.launch("wait")
    return pid


class Pings:
    """Pings between hosts that stay, both ways, while something happens to others."""

    def __init__(self, fleet, names=("h1", "h2"), interval=0.01):
        pairs = all_pairs(fleet, names)
        reach(fleet, pairs)
        self.running = [SteadyPing(fleet.host(source), address, interval) for source, address in pairs]

    def stop(self, at_least=20):
        """End them. Returns (sent, lost); AssertionError if too few were sent to prove anything."""
        time.sleep(0.3)  # what came of the last moment
        counts = [ping.stop() for ping in self.running]
        sent, lost = sum(count[0] for count in counts), sum(count[1] for count in counts)
        assert min(count[0] for count in counts) >= at_least, f"only {counts}"
        return sent, lost


class Change(threading.Thread):
    """loopbackctl in the background, while something dies. done: its exit status and words."""

    def __init__(self, fleet, *arguments):
        super().__init__()
        self.fleet, self.arguments, self.done = fleet, arguments, None
        self.start()

    def run(self):
        self.done = self.fleet.ctl_text(*self.arguments, check=False)

    def result(self):
        """(exit status, stderr) once it has ended."""
        self.join(30)
        assert self.done, f"loopbackctl {' '.join(self.arguments)} hangs"
        return self.done.returncode, self.done.stderr


def set_membership(fleet, name, member):
    """Put a host into the network or take it out, whether or not it is there already; awaited."""
    there = name in {entry["name"] for entry in fleet.status()["hosts"]}
    if there != member:
        fleet.ctl("host", "join" if member else "leave", name, fleets.NETWORK)
    names = {entry["name"] for entry in fleet.status()["hosts"]}
    assert (name in names) == member
    return fleet.wait_converged(names)
