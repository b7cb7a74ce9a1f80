#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The main job, end to end, on this machine: a control plane and some hosts mesh, one comes, one goes, nobody else notices.

  demo.py run    all of it, then everything is taken down; exit status 0 only if every step held
  demo.py up     leave the hosts running: build/demo/enter h1 COMMAND, and . build/demo/env for loopbackctl
  demo.py down   take down what up (or a killed run) left

DEMO_HOSTS=N sets the number of hosts (default 4, at least 3). Needs root.
"""

import os
import shutil
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import fleet as fleets  # noqa: E402  (needs the path above)
import rig  # noqa: E402
from steady_ping import SteadyPing  # noqa: E402

FOLDER = os.path.join(rig.ROOT, "build/demo")
PREFIX = "lb"
LINK = "lb-demo"


class Failed(Exception):
    """A step did not hold."""


class Steps:
    """One line for each step, with the time that it took."""

    def __init__(self):
        self.begun = self.last = time.monotonic()

    def done(self, text):
        """This step held."""
        now = time.monotonic()
        print(f"{now - self.begun:6.2f} s  (+{now - self.last:5.2f})  {text}", flush=True)
        self.last = now


def bring_up(steps, count, tied):
    """Control plane, network, count hosts, converged."""
    fleet = fleets.Fleet(FOLDER, PREFIX, tied=tied)
    fleet.make_certificates()
    steps.done("CA and server certificate")
    fleet.start_control_plane()
    steps.done(f"root ceremony; controld and signd up at {fleet.url}")
    fleet.create_network()
    steps.done(f"organization acme, workspace prod, network {fleets.NETWORK} {fleets.CIDR}")
    for number in range(1, count + 1):
        fleet.boot_host(f"h{number}")
    steps.done(f"{count} hosts up: netd, fetchd and wg-launch each")
    for name in fleet.members():
        fleet.enroll(name)
    steps.done(f"{count} hosts enrolled")
    status = fleet.wait_converged()
    steps.done(f"converged: all acknowledged generation {status['generation']}")
    return fleet, status


def addresses(status):
    """{host: overlay address}"""
    return {entry["name"]: entry["addresses"][0].split("/")[0] for entry in status["hosts"]}


def expect_reach(fleet, pairs, wanted):
    """Every pair (source, address) is reachable, or none is. Returns what to say of it."""
    found = fleets.Reach(fleet, pairs, patience=10.0 if wanted else 1.0).result()
    wrong = [f"{source} -> {address}" for (source, address), took in found.items() if (took is not None) != wanted]
    if wrong:
        raise Failed(f"{'no answer' if wanted else 'an answer'} on: {', '.join(wrong)}")
    if not wanted:
        return f"{len(found)} pairs"
    return f"{len(found)} pairs, the slowest first answer after {max(found.values()) * 1e3:.0f} ms"


def change_membership(steps, fleet, status):
    """One host comes and one goes while the others talk. Returns what the table says."""
    names = fleet.members()
    stay, gone, new = names[:-1], names[-1], f"h{len(names) + 1}"
    where = addresses(status)
    pings = [SteadyPing(fleet.host(source), where[target]) for source in stay for target in stay if source != target]
    time.sleep(0.5)
    steps.done(f"{len(pings)} pings run between {', '.join(stay)}, one every 50 ms each")

    fleet.boot_host(new)
    steps.done(f"{new} up")
    fleet.enroll(new)
    joined = fleet.wait_converged(names + [new])
    where = addresses(joined)
    steps.done(f"{new} joined as {where[new]}; all converged {joined['convergence_ms']} ms after the change")
    pairs = [(source, where[new]) for source in names] + [(new, where[target]) for target in names]
    steps.done(f"{new} reachable from all and reaches all: {expect_reach(fleet, pairs, True)}")

    fleet.ctl("host", "retire", gone)
    left = fleet.wait_converged(stay + [new])
    steps.done(f"{gone} retired; the others converged {left['convergence_ms']} ms after the change")
    pairs = [(source, where[gone]) for source in stay + [new]] + [(gone, where[target]) for target in stay + [new]]
    steps.done(f"{gone} unreachable, both ways: {expect_reach(fleet, pairs, False)}")

    lost = dict.fromkeys(stay, 0)
    sent = 0
    for ping in pings:
        count, missing = ping.stop()
        sent += count
        lost[ping.source] += missing
        if count < 10:
            raise Failed(f"{ping.source} -> {ping.address}: only {count} pings were sent, which proves nothing")
    steps.done(f"{sent} pings between those that stayed, {sum(lost.values())} lost")
    return joined, left, lost


def backends(status):
    """Which WireGuard the hosts run, for a person."""
    words = {"kernel": "the kernel's", "userspace": "wireguard-go"}
    return ", ".join(sorted({words.get(entry["backend"], str(entry["backend"])) for entry in status["hosts"]}))


def since(status, entry):
    """Milliseconds from the commit of the newest generation to this host's receipt."""
    return entry["acknowledged_at"] - status["changed_at"]


def print_table(joined, left, lost):
    """What a person wants to see at the end."""
    after_join = {entry["name"]: since(joined, entry) for entry in joined["hosts"]}
    print(f"\n{'host':6}{'overlay':18}{'endpoint':22}{'backend':12}{'generation':>11}{'join ms':>9}{'leave ms':>10}{'lost':>6}")
    for entry in sorted(left["hosts"], key=lambda entry: int(entry["name"][1:])):
        name = entry["name"]
        print(f"{name:6}{entry['addresses'][0]:18}{entry['endpoint'] or '-':22}{entry['backend'] or '-':12}"
              f"{entry['acknowledged_generation']:>11}{after_join[name]:>9}{since(left, entry):>10}{lost.get(name, '-'):>6}")
    print(f"\nWireGuard: {backends(left)}")


def command_run(count):
    """The whole demo. Returns the exit status."""
    steps, fleet, ok = Steps(), None, False
    try:
        fleet, status = bring_up(steps, count, tied=True)
        where = addresses(status)
        pairs = [(source, where[target]) for source in where for target in where if source != target]
        steps.done(f"every host reaches every other over the overlay: {expect_reach(fleet, pairs, True)}")
        joined, left, lost = change_membership(steps, fleet, status)
        print_table(joined, left, lost)
        if any(lost.values()):
            raise Failed(f"{sum(lost.values())} packets lost between hosts that no change concerned")
        ok = True
    except (Failed, rig.RigError) as error:
        print(f"demo: FAILED: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if fleet:
            fleet.take_down()
        command_down(keep_logs=not ok)
    if ok:
        print(f"demo: ok ({time.monotonic() - steps.begun:.1f} s, {count} hosts)")
    return 0 if ok else 1


ENTER = """#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# enter HOST COMMAND...: run a command as root on a host of the demo
case "$1" in
{cases}
*) echo "usage: $0 {names} COMMAND..." >&2; exit 2 ;;
esac
[ "$(ip netns identify $holder)" = "{prefix}-$1" ] || {{ echo "$0: the demo is down" >&2; exit 1; }}
shift
[ $# -gt 0 ] || set -- /bin/sh
PATH=/usr/libexec/loopback:$PATH
exec nsenter --target="$holder" --mount --net --uts -- "$@"
"""


def command_up(count):
    """Bring it up and leave it."""
    steps = Steps()
    try:
        fleet, status = bring_up(steps, count, tied=False)
        fleet.rig.connect_machine(LINK, [rig.CONTROL_ADDRESS])
    except (rig.RigError, KeyboardInterrupt) as error:
        print(f"demo: FAILED: {error or 'interrupted'}", file=sys.stderr)
        command_down(keep_logs=True)
        return 1
    cases = "\n".join(f"{name}) holder={host.holder} ;;" for name, host in fleet.rig.hosts.items())
    enter = os.path.join(FOLDER, "enter")
    with open(enter, "w", encoding="utf-8") as file:
        file.write(ENTER.format(cases=cases, names="|".join(fleet.rig.hosts), prefix=PREFIX))
    os.chmod(enter, 0o755)
    with open(os.path.join(FOLDER, "env"), "w", encoding="utf-8") as file:
        file.write(f"export LOOPBACKCTL_CONFIG='{fleet.config}'\nexport PATH='{fleet.rig.programs}':\"$PATH\"\n")
    print(f"\ndemo: up, WireGuard: {backends(status)}")
    for name, address in sorted(addresses(status).items()):
        print(f"  {name}  {address}")
    print("  build/demo/enter h1 loopback status\n  build/demo/enter h1 wg show lb0\n"
          "  . build/demo/env; loopbackctl network status mesh\n  make demo-down")
    return 0


def command_down(keep_logs=False):
    """Take everything down; the logs stay after a failure."""
    for note in rig.sweep(FOLDER, PREFIX):
        print(f"demo: {note}", file=sys.stderr)
    if not keep_logs:
        shutil.rmtree(FOLDER, ignore_errors=True)
    elif os.path.isdir(FOLDER):
        shutil.rmtree(os.path.join(FOLDER, "operator"), ignore_errors=True)
        print(f"demo: logs are in {os.path.relpath(FOLDER)}/HOST/log", file=sys.stderr)
    return 0


def main():
    """Command line."""
    count = int(os.environ.get("DEMO_HOSTS", "4"))
    if len(sys.argv) != 2 or sys.argv[1] not in ("run", "up", "down") or count < 3:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("demo: makes network namespaces and runs daemons under their own uids: run it as root", file=sys.stderr)
        return 1
    if sys.argv[1] != "down" and os.path.exists(os.path.join(FOLDER, "enter")) and rig.alive(FOLDER):
        print("demo: one is up already and would be lost; take it down first: make demo-down", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return {"run": lambda: command_run(count), "up": lambda: command_up(count), "down": command_down}[sys.argv[1]]()


if __name__ == "__main__":
    sys.exit(main())
