# SPDX-License-Identifier: Apache-2.0
"""Every call by which netd changes anything fails once: each netlink message, each operation of wireguard-go's, each write to the disk and each wait for it.

Whatever fails, and also if everything fails from there on, or netd ends there: the host has the old configuration or the new one, whole; after a restart the
same; and the next offer is applied. What is injected comes from a library that is preloaded into netd (preload/failing.c).
"""

import difflib
import mmap
import os
import struct
import subprocess

import pytest

import rig as rigs

pytest.register_assert_rewrite("netd_rig")
from netd_fixtures import make_rig  # noqa: E402,F401
from netd_rig import ENDPOINT, OWN, NetdHost  # noqa: E402  (the line above comes first)

SOURCE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "preload/failing.c")
MODES = {"error, not carried out": 1, "error, carried out": 2, "everything from there on": 3, "killed before": 4, "killed after": 5}
ENOUGH = 60  # more calls than an apply makes


class Plan:
    """What netd's calls are to do, in memory that it shares with us."""

    def __init__(self, host):
        path = os.path.join(host.folder, "etc/plan")
        with open(path, "wb") as file:
            file.write(bytes(4096))
        os.chmod(path, 0o666)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", os.path.join(host.folder, "etc/failing.so"), SOURCE, "-ldl"], check=True)
        with open(os.path.join(host.folder, "etc/netd.env"), "w", encoding="utf-8") as file:
            file.write("LD_PRELOAD=/etc/loopback/failing.so\nFAILING_PLAN=/etc/loopback/plan\n")
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 4096)

    def arm(self, mode, at):
        """From now on."""
        self.memory[:32] = struct.pack("=4I16s", mode, at, 0, 0, b"")

    def disarm(self):
        """No more. Returns (how often it hit, which call first)."""
        _, _, _, hits, name = struct.unpack("=4I16s", self.memory[:32])
        self.arm(0, 0)
        return hits, name.rstrip(b"\0").decode()


class Sets:
    """Two configurations that differ in everything that netd can change."""

    def __init__(self, host):
        self.host, self.turn, self.reach = host, 0, {}

    def publish(self):
        """Sign the one that is not in force. Returns its name."""
        host, name = self.host, "ab"[self.turn % 2]
        self.turn += 1
        host.forge("empty")
        host.forge(f"network mesh cidr=100.64.0.0/16 mtu={1380 if name == 'a' else 1300} keepalive=0")
        host.forge(f"self mesh address={OWN if name == 'a' else '100.64.0.2'}")
        host.forge(f"peers mesh from={0 if name == 'a' else 3} count=8 base=100.64.1.0 endpoint={ENDPOINT if name == 'a' else '192.0.2.9:7'}")
        host.forge(f"peer mesh 40 address=100.64.1.40 wg=new:{self.turn} counter={self.turn + 1}")
        if name == "b":
            host.forge("network two cidr=10.77.0.0/16 mtu=1300 keepalive=0")
            host.forge("self two address=10.77.0.1")
            host.forge("peers two from=300 count=3 base=10.77.1.0")
        host.publish()
        return name

    def wanted(self, name):
        """{key: peer} of what was published last."""
        return {**self.host.published("mesh"), **(self.host.published("two") if name == "b" else {})}


@pytest.fixture(scope="module", name="subject")
def injected_host(net):
    """A host, its plan, its two configurations, each applied once without a fault."""
    plans = []
    host = NetdHost(net, name="h5", mesh=False, prepare=lambda host: plans.append(Plan(host)))
    sets = Sets(host)
    for _ in range(2):
        name = sets.publish()
        assert host.offer()["outcome"] == "applied"
        sets.reach[name] = reach_of(host)
        assert host.device() == sets.wanted(name)
    sets.name = name
    yield host, plans[0], sets
    host.close()


def reach_of(host):
    """MTU, addresses and routes, as ip(8) has them; their order is nobody's."""
    return sorted(line.strip() for text in host.witness()[2] for line in text.splitlines())


def difference(wanted, found):
    """Of (device, what ip(8) says), for a person."""
    lines = ["\n".join([f"{key} {peer}" for key, peer in sorted(device.items())] + reach).splitlines() for device, reach in (wanted, found)]
    return "\n".join(difflib.unified_diff(*lines, lineterm="", n=0))


def offer_with_fault(subject, mode, at):
    """One change, with a fault at one of its calls. Returns (how it ended, the call that failed or "")."""
    host, plan, sets = subject
    old, old_reach = host.device(), sets.reach[sets.name]
    name = sets.publish()
    plan.arm(MODES[mode], at)
    host.offer("timeout=20000")
    hits, call = plan.disarm()
    if "killed" in mode and hits:
        host.start()
        host.connect()
    elif host.status()["state"] == "broken" or at % 5 == 4:
        host.restart()  # or it would try again in 5 s
        host.connect()
    new, found = sets.wanted(name), (host.device(), reach_of(host))
    if found not in ((old, old_reach), (new, sets.reach[name])):
        wanted = (new, sets.reach[name]) if found[0] == new else (old, old_reach)
        pytest.fail(f"call {at} ({call}): neither old nor new\n{host.log()[-800:]}\n" + difference(wanted, found))
    assert host.status()["state"] == "running"
    if found[0] == old:
        again = host.offer()
        assert again["outcome"] == "applied", (call, again)
        assert (host.device(), reach_of(host)) == (new, sets.reach[name])
    sets.name = name
    return ("old" if found[0] == old else "new"), call


@pytest.mark.parametrize("mode", MODES)
def test_each_call_fails(subject, mode):
    """Old or new, whole, at every one of them, in both directions."""
    met, landed = {}, {"old": 0, "new": 0}
    for at in range(ENOUGH):
        calls = []
        for _ in range(2):
            went, call = offer_with_fault(subject, mode, at)
            landed[went] += 1
            met[call] = met.get(call, 0) + 1
            calls.append(call)
        if not any(calls):
            break
    else:
        pytest.fail(f"an apply makes more than {ENOUGH} calls")
    print(mode, met, landed)
    for call, least in {"netlink": 20, "wireguard-go": 2, "pwrite": 4, "fallocate": 2, "fdatasync": 2}.items():
        assert met.get(call, 0) >= least, (call, met)
    assert landed["old"] >= 3 and landed["new"] >= 1, landed
