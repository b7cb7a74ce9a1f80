#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Speed and memory, as ratios against named rivals measured in the same run.

  bench.py            all areas
  bench.py AREA...    some of them: ipc netd mesh rest scale

Prints a table and writes build/bench/results.jsonl, one object a line; raw samples stay beside it in samples.jsonl. CPU time is user + system
from /proc/PID/schedstat; memory is VmRSS of the release build 10 s after the work, VmHWM beside it. Exit status 1 if a limit does not hold.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(TESTS, "netns"))

import rig as rigs  # noqa: E402
import fleet as fleets  # noqa: E402
import netd_rig  # noqa: E402
import swarm as swarms  # noqa: E402
from processes import cpu_ns, memory_mb, pss_alone_mb, pss_mb, switches  # noqa: E402

FOLDER = os.path.join(rigs.ROOT, "build/bench")
TOOLS = os.path.join(rigs.ROOT, "build/tests/tools")
PREFIX = "lbb"
SETTLE_SECONDS = 10
REST_SECONDS = 60
MANY = 10000
NEWCOMERS = 9


class Results:
    """The table, and the same for programs."""

    def __init__(self):
        os.makedirs(FOLDER, exist_ok=True)
        self.rows = []
        self.machine = f"{os.cpu_count()} cores, Linux {platform.release()}"
        self.samples = open(os.path.join(FOLDER, "samples.jsonl"), "w", encoding="utf-8")

    def sample(self, name, **values):
        """One raw measurement."""
        self.samples.write(json.dumps({"name": name, **values}) + "\n")

    def add(self, name, value, unit, limit, against=None, against_value=None, exact=False):
        """One line: limit is for the ratio if there is a rival, else for the value, which must be just that if exact."""
        ratio = value / against_value if against_value else None
        row = {"name": name, "value": round(value, 3), "unit": unit, "against": against,
               "against_value": round(against_value, 3) if against_value else None,
               "ratio": round(ratio, 3) if ratio else None, "limit": limit,
               "ok": value == limit if exact else (ratio if ratio is not None else value) <= limit, "on": self.machine}
        self.rows.append(row)
        rival = f"{row['against_value']:>10} {against}" if against else ""
        print(f"{'ok  ' if row['ok'] else 'OVER'} {name:<28} {row['value']:>10} {unit:<5} "
              f"{'ratio ' + str(row['ratio']) if ratio else '':<14} limit {limit:<6} {rival}", flush=True)

    def close(self):
        """Write what was measured. @return did all limits hold?"""
        self.samples.close()
        with open(os.path.join(FOLDER, "results.jsonl"), "w", encoding="utf-8") as out:
            for row in self.rows:
                out.write(json.dumps(row) + "\n")
        return all(row["ok"] for row in self.rows)


def bench_ipc(results):
    """A round trip between two processes pinned to one CPU."""
    lines = subprocess.run([os.path.join(TOOLS, "ipcbench"), "21", "20000"], check=True, capture_output=True, text=True).stdout
    rounds = [json.loads(line) for line in lines.splitlines()]
    for one in rounds:
        results.sample("ipc.roundtrip", **one)
    results.add("ipc.roundtrip", statistics.median(one["libipc_ns"] for one in rounds) / 1000, "us", 1.5,
                "bare SOCK_SEQPACKET ping-pong, one CPU", statistics.median(one["bare_ns"] for one in rounds) / 1000)


def rival_setconf(rig, number, path):
    """Seconds that `wg setconf` takes to give a fresh wireguard-go, whose interface is down, a configuration."""
    host = rig.add_host(f"h{50 + number}", f"198.18.0.{120 + number}")
    tunnel = host.popen("wireguard-go", "-f", "lbr0", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        rigs.wait_until("wireguard-go", lambda: host.enter("wg", "show", "lbr0", check=False).returncode == 0)
        copy = os.path.join(host.folder, "etc/rival.conf")
        with open(path, encoding="utf-8") as source, open(copy, "w", encoding="utf-8") as target:
            target.write(source.read())
        begun = time.monotonic()
        host.enter("wg", "setconf", "lbr0", "/etc/loopback/rival.conf", timeout=60)
        return time.monotonic() - begun
    finally:
        tunnel.terminate()
        tunnel.wait(timeout=10)
        host.stop()


def cold(rig, number, peers, keepalive=25):
    """
    A new host that is offered its first configuration. Its peers' endpoints are a live host's discard port: with endpoints that nobody has, wireguard-go
    waits for their neighbour entries to fail, and nothing else is measured.
    @return (host, microseconds from OFFER to RESULT)
    """
    host = netd_rig.NetdHost(rig, f"h{number}", mesh=False)
    host.forge(f"network mesh cidr={netd_rig.CIDR} mtu=1380 keepalive={keepalive}")
    host.forge(f"self mesh address={netd_rig.OWN}")
    host.forge(f"peers mesh count={peers} base={netd_rig.PEERS} endpoint=198.18.0.{20 + number}:9")
    host.publish()
    result = host.offer("timeout=60000")
    assert result.get("outcome") == "applied", result
    return host, result["us"]


def first_apply(results, rig, name, keepalive, first):
    """Three pairs, interleaved; the last host stays for what follows."""
    pairs, host = [], None
    for number in range(first, first + 3):
        if host:
            host.close()
            host.host.stop()
        host, ours_us = cold(rig, number, MANY, keepalive)
        path = os.path.join(host.host.folder, "etc/wanted.conf")
        # wg(8) wants a key, as ours has one: a private key is set before the peers, which is when wireguard-go does its work for them.
        key = subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout.strip()
        host.forge(f"setconf mesh path=/etc/loopback/wanted.conf private={key}")
        pairs.append((ours_us / 1e6, rival_setconf(rig, number, path)))
        results.sample(name, ours_s=pairs[-1][0], setconf_s=pairs[-1][1])
    results.add(name, statistics.median(pair[0] for pair in pairs), "s", 1.15,
                "wg setconf of the same to wireguard-go, interface down", statistics.median(pair[1] for pair in pairs))
    return host


def one_of_many(results, host):
    """One peer of many changes, again and again; then nothing changes."""
    samples = []
    for number in range(21):
        host.forge(f"peer mesh {4711 + number} address=100.64.{1 + (4711 + number) // 256}.{(4711 + number) % 256} "
                   f"endpoint=198.18.0.77:{40000 + number}")
        host.publish()
        before = cpu_ns(host.pid())
        result = host.offer()
        assert result.get("outcome") == "applied", result
        samples.append((cpu_ns(host.pid()) - before) / 1e6)
        results.sample("mesh.one_of_10k", cpu_ms=samples[-1], wall_us=result["us"])
    results.add("mesh.one_of_10k_cpu", statistics.median(samples), "ms", 1.0)
    host.forge(f"peer mesh 4000 address=100.64.{1 + 4000 // 256}.{4000 % 256} endpoint=198.18.0.78:1")
    host.publish()
    _, lines = host.trace(host.offer)
    results.add("mesh.one_of_10k_named", sum(line.count("public_key=") for line in lines), "peers", 1, exact=True)
    _, lines = host.trace(host.offer)
    sets = [line for line in lines if "set=1" in line or "nlmsg" in line]
    results.add("mesh.unchanged_sets", len(sets), "sets", 0, exact=True)


def bench_netd(results):
    """netd with many peers, and with a few."""
    rig = rigs.Rig(os.path.join(FOLDER, "netd"), PREFIX, os.path.join(rigs.ROOT, "build/bin"))
    try:
        host = first_apply(results, rig, "mesh.first_apply_10k", 25, 1)
        host.close()
        host.host.stop()
        host = first_apply(results, rig, "mesh.first_apply_10k_quiet", 0, 11)
        one_of_many(results, host)
        time.sleep(SETTLE_SECONDS)
        rss, hwm = memory_mb(host.pid())
        results.sample("netd.rss_10k", rss_mb=rss, hwm_mb=hwm)
        results.add("netd.rss_10k", rss, "MB", 12)
        host.close()
        host.host.stop()
        few, _ = cold(rig, 21, 4)
        time.sleep(SETTLE_SECONDS)
        rss, hwm = memory_mb(few.pid())
        results.sample("netd.rss_4", rss_mb=rss, hwm_mb=hwm)
        results.add("netd.rss_4", rss, "MB", 4)
        few.close()
    finally:
        rig.take_down()


def converged_fleet(folder, hosts):
    """A control plane and so many hosts, as in the demo."""
    fleet = fleets.Fleet(os.path.join(FOLDER, folder), PREFIX)
    try:
        fleet.make_certificates()
        fleet.start_control_plane()
        fleet.create_network()
        for number in range(1, hosts + 1):
            fleet.boot_host(f"h{number}")
        for name in fleet.members():
            fleet.enroll(name)
        fleet.wait_converged()
    except BaseException:
        fleet.take_down()
        raise
    return fleet


def bench_mesh(results):
    """Four hosts: memory of fetchd, and how soon all have what changed."""
    fleet = converged_fleet("mesh", 4)
    try:
        samples = []
        for round_ in range(11):
            fleet.ctl("host", "endpoint", "h1", f"198.18.0.250:{51000 + round_}")
            samples.append(fleet.wait_converged()["convergence_ms"])
            results.sample("mesh.convergence_4", ms=samples[-1])
        results.add("mesh.convergence_4", statistics.median(samples) / 1000, "s", 1.0)
        time.sleep(SETTLE_SECONDS)
        rss, hwm = memory_mb(fleet.host("h2").pid("fetchd"))
        results.sample("fetchd.rss_tls", rss_mb=rss, hwm_mb=hwm)
        results.add("fetchd.rss_tls", rss, "MB", 16)
    finally:
        fleet.take_down()


def bench_rest(results):
    """An agent with four peers that has nothing to do: what it holds, and how often it wakes."""
    fleet = converged_fleet("rest", 5)
    try:
        host = fleet.host("h2")
        agent = {name: host.pid(name) for name in ("netd", "fetchd")}
        time.sleep(SETTLE_SECONDS)
        before = {name: switches(pid) for name, pid in agent.items()}
        time.sleep(REST_SECONDS)
        for name, pid in agent.items():
            results.add(f"rest.{name}_switches", (switches(pid) - before[name]) / REST_SECONDS, "1/s", 1.0)
        results.sample("rest.agent_pss", kernel_mb={name: pss_mb(pid) for name, pid in agent.items()})
        results.add("rest.agent_pss", pss_alone_mb(agent.values()), "MB", 14)
        if "loopback-wg" in host.units():
            tunnel, _ = memory_mb(host.pid("wg"))
            results.sample("rest.wireguard_go", rss_mb=tunnel)
            print(f"     rest: wireguard-go beside it, where the kernel has no WireGuard: {tunnel:.1f} MB")
    finally:
        fleet.take_down()


def told(place, swarm, patience):
    """One host more: when each of the others has it, and when its receipt was taken."""
    swarm("anew")
    since = swarm("cold")["since"]
    return swarm(f"news {patience} {since}")


def scale_many(results, tls):
    """10,000 agents in long polls: memory, a host more, all connections lost at once, a cold host."""
    name, limits = ("tls", (256, 20)) if tls else ("plain", (128, 10))
    with swarms.Place(tls) as place:
        swarm = place.begin()
        results.sample("scale.enroll_10k", **swarm(f"enroll {MANY} 8"))
        swarm("park 120")
        time.sleep(SETTLE_SECONDS)
        rss, hwm = memory_mb(place.plane.controld.process.pid)
        results.sample(f"scale.rss_10k_{name}", rss_mb=rss, hwm_mb=hwm)
        results.add(f"scale.rss_10k_{name}", rss, "MB", limits[0])
        learned, busy = [], []
        for _ in range(5):
            before, begun = cpu_ns(place.plane.controld.process.pid), time.monotonic()
            answer = told(place, swarm, 60)
            busy.append((cpu_ns(place.plane.controld.process.pid) - before) / 1e9 / (time.monotonic() - begun))
            results.sample(f"scale.told_10k_{name}", busy=busy[-1], **answer)
            assert answer["told"] == MANY, answer
            learned.append(answer["learned"]["max"])
        results.add(f"scale.told_10k_{name}", statistics.median(learned), "s", 3.0)
        results.add(f"scale.cores_10k_{name}", max(busy), "cores", 1.0)
        storms = []
        for _ in range(3):
            swarm("drop")
            storms.append(swarm("park 120")["seconds"])
            results.sample(f"scale.storm_10k_{name}", seconds=storms[-1])
        results.add(f"scale.storm_10k_{name}", statistics.median(storms), "s", limits[1])
        results.add(f"scale.cold_requests_{name}", swarm("cold")["requests"], "", 4)


def scale_bytes(results):
    """What one membership change costs a host in bodies, receipt and confirming poll included, in networks of all sizes: nine newcomers, for the path in the trie is luck."""
    medians, most, members = {}, {}, 0
    with swarms.Place() as place:
        swarm = place.begin()
        for size in (100, 1000, 10000, 50000):
            swarm("drop")  # a host that polls for each of thousands of changes a second is asked to slow down
            swarm(f"enroll {size - members} 8")
            members = size
            swarm("active 20")
            swarm("park 60")
            seen = []
            for _ in range(NEWCOMERS):
                answer = told(place, swarm, 60)
                results.sample("scale.change_bytes", size=size, **answer)
                seen.append(answer["bytes_max"])
                members += 1
            medians[size], most[size] = statistics.median(seen), max(seen)
            results.add(f"scale.change_bytes_{size}", most[size], "B", 4096)
    results.add("scale.change_bytes_growth", max(medians.values()), "B", 2.0, "the least median of all sizes", min(medians.values()))


def bench_scale(results):
    """A swarm of agents against a real control plane."""
    with swarms.Place() as place:
        swarm = place.begin()
        swarm("enroll 1000 8")
        swarm("park 60")
        p99 = []
        for _ in range(11):
            answer = told(place, swarm, 30)
            results.sample("scale.receipt_1k", **answer)
            p99.append(answer["receipt"]["p99"])
        results.add("scale.receipt_1k_p99", statistics.median(p99), "s", 1.0)
    scale_many(results, False)
    scale_many(results, True)
    scale_bytes(results)


AREAS = {"ipc": bench_ipc, "netd": bench_netd, "mesh": bench_mesh, "rest": bench_rest, "scale": bench_scale}


def main():
    wanted = sys.argv[1:] or list(AREAS)
    for area in wanted:
        if area not in AREAS:
            sys.exit(f"bench: there is no area {area}; there are {', '.join(AREAS)}")
    results = Results()
    for area in wanted:
        AREAS[area](results)
    sys.exit(0 if results.close() else 1)


if __name__ == "__main__":
    main()
