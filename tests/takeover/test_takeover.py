# SPDX-License-Identifier: Apache-2.0
"""Each daemon in somebody else's hands, with its own sandbox and descriptors, beside the others that are real (P1-P4): everything in attempts.py, one at a
time, with the outcome that stands there; the same without a sandbox works; and nothing has changed.
"""

import hashlib
import os
import re

import pytest

import attempts
import fleetview
import rig as rigs
import place as places

GROUPS = attempts.GROUPS
INSTALLED = ("/usr/libexec/loopback", "/usr/bin/wireguard-go", "/etc/loopback", "/usr/lib/systemd", "/etc/passwd", "/etc/shadow", "/etc/group")
# Of each daemon, what it does not write by itself while nothing happens: keys, the pinned root, the database's schema and objects are seen by the API.
KEPT = {"h1": ("netd", "fetchd"), "cp": ("signd",)}
FLEET_HOSTS = ("h1", "h2", "h3")


def lines_of(steps, words):
    """The steps, filled in."""
    return [re.sub(r"\{(\w+)\}", lambda found: str(words[found.group(1)]), line) for line in steps]


def digests(host, paths, without=""):
    """What files hold, as the host sees them; but for the one that the stand-in is mounted on."""
    found = host.enter("find", "-H", *paths, "-type", "f", "-exec", "sha256sum", "{}", "+").stdout if paths else ""
    return sorted(line for line in found.splitlines() if line.split()[1] != without)


class Witness:
    """All that must be as before: the mesh on every host, what is installed, other daemons' processes and files."""

    def __init__(self, fleet, daemon):
        self.fleet, self.daemon = fleet, daemon
        self.before = self.look()

    def look(self):
        """What there is while it is taken over: the tunnel of h1 is wireguard-go's, and what generation it is controld tells; the two are seen after."""
        hosts = [name for name in FLEET_HOSTS if not (self.daemon == "wg" and name == "h1")]
        seen = {f"mesh of {name}": fleetview.overlay_view(self.fleet, name) for name in hosts}
        seen.update({f"rest of {name}": fleetview.others_view(self.fleet, name) for name in FLEET_HOSTS})
        for name in ("h1", "cp"):
            host = self.fleet.host(name)
            seen[f"installed on {name}"] = digests(host, INSTALLED, places.PROGRAMS[self.daemon])
            folders = [f"/var/lib/loopback/{other}" for other in KEPT[name] if other != self.daemon]
            seen[f"state on {name}"] = digests(host, folders)
            seen[f"users on {name}"] = host.enter("cat", "/etc/passwd", "/etc/group").stdout
        seen["processes"] = {name: pid for name, pid in places.daemons(self.fleet).items() if name != self.daemon}
        seen["restarts"] = {(name, service): unit["restarts"] for name in ("h1", "h2", "cp") for service, unit in self.fleet.host(name).units().items()
                            if not (name == places.WHERE[self.daemon] and service == f"loopback-{self.daemon}")}
        return seen

    def compare(self):
        """Assert that nothing differs."""
        now = self.look()
        for what, before in self.before.items():
            assert now[what] == before, f"{what} is not what it was before the take-over of {self.daemon}"

    def all(self):
        """What there is once the daemon is the real one again: its own program, the whole mesh, what the control plane says."""
        seen = {}
        for name in FLEET_HOSTS:  # without what an interface that was made anew has anew: its number and its link-local address
            seen[f"mesh of {name}"] = [fleetview.settled_peers(self.fleet, name)] + [self.fleet.host(name).enter("ip", *words).stdout for words in (
                ("-br", "-4", "address", "show", "lb0"), ("-4", "route", "show", "dev", "lb0"))]
        seen["programs"] = [digests(self.fleet.host(name), INSTALLED) for name in ("h1", "cp")]
        seen["network"] = {key: value for key, value in self.fleet.status().items() if key in ("generation", "converged")}
        return seen


@pytest.fixture(name="tenants", scope="module")
def tenants_fixture(deployment):
    """Somebody else on h1 and on the control plane's host."""
    for name in FLEET_HOSTS:
        host = deployment.host(name)
        rigs.wait_until(f"{name}: addresses", lambda host=host: "tentative" not in host.enter("ip", "-6", "address").stdout)
    made = [places.Tenant(deployment.host(name)) for name in ("h1", "cp")]
    network = places.Network(deployment.host("h1"))
    network.make()
    yield made
    network.end()
    for each in made:
        each.end()


@pytest.fixture(name="siege")
def siege_fixture(fleet, tenants, request):
    """A daemon in other hands while pings run; afterwards nothing has changed and no ping was lost."""
    del tenants
    daemon = request.param
    pings = fleetview.Pings(fleet, ("h2", "h3") if daemon == "wg" else ("h1", "h2", "h3"), interval=0.05)
    witness = Witness(fleet, daemon)
    whole = witness.all()
    place = places.StandIn(fleet, daemon)
    try:
        yield place
        witness.compare()
        assert pings.stop()[1] == 0
    finally:
        place.end()
        fleet.host(places.WHERE[daemon]).launch("wait")
        own = os.path.join(fleet.host(places.WHERE[daemon]).folder, "lib", daemon)
        for name in ("takeover", "takeover-link"):
            if os.path.lexists(os.path.join(own, name)):
                os.unlink(os.path.join(own, name))
    fleet.wait_converged()
    fleetview.reach(fleet, fleetview.all_pairs(fleet, FLEET_HOSTS))
    assert witness.all() == whole


@pytest.mark.parametrize("siege", attempts.DAEMONS, indirect=True)
def test_attempts(siege):
    """Every attempt ends as the table says, and for the reason that it says."""
    wrong, count = [], 0
    for entry in (entry for entries in GROUPS.values() for entry in entries):
        for target, words in places.targets(siege.fleet, siege.daemon, entry.over).items():
            wanted = entry.outcome(siege.daemon, target)
            if wanted is None:
                continue
            result = siege.attempt(entry.name, lines_of(entry.steps, words))
            count += 1
            if result.short() not in wanted.split(" or "):
                wrong.append(f"{entry.name}" + (f" on {target}" if target else "") +
                             f": expected {wanted}, found {result.short()} ({result.text.strip()[-200:]})")
    assert count > 500 and not wrong, f"{len(wrong)} of {count} attempts of a taken-over {siege.daemon}:\n" + "\n".join(wrong)


def all_targets(fleet, over):
    """{(host, target): words} of everything that an attempt of any daemon is tried on."""
    found = {}
    for daemon in attempts.DAEMONS:
        for target, words in places.targets(fleet, daemon, over).items():
            found[(places.WHERE[daemon] if over not in (None, "daemons") else "h1"), target] = words
    return found


def clean(host, words):
    """Take away what a control run of the files' group made, as if somebody from outside had done it."""
    for folder in ("/run/tenant", "/run/tenant/folder", words.get("path", "/nonexistent")):
        for name in ("takeover", "takeover-link", "copy", "own", "copy-link"):
            path = f"/proc/{host.holder}/root{folder}/{name}"
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            elif os.path.lexists(path):
                os.unlink(path)


@pytest.mark.parametrize("group", GROUPS)
def test_control_runs(fleet, tenants, group):
    """What is refused in the sandbox is possible without: so each attempt has a target, and is refused for no other reason."""
    del tenants
    wrong = []
    for entry in GROUPS[group]:
        if isinstance(entry.exempt, str) and not entry.control:
            continue
        for (host, target), words in all_targets(fleet, entry.over).items():
            words = dict(words, own="/run/tenant/folder")
            clean(fleet.host(host), words)
            result = places.control(fleet, host, entry.name, lines_of(entry.control or entry.steps, words))
            if result.outcome != "done" and not (isinstance(entry.exempt, set) and result.outcome in entry.exempt):
                wrong.append(f"{entry.name}" + (f" on {target}" if target else "") + f": {result.short()} {result.ended} ({result.text.strip()[-200:]})")
            clean(fleet.host(host), words)
    assert not wrong, "without a sandbox these do not work either, and prove nothing:\n" + "\n".join(wrong)
    fleet.wait_converged()


def test_the_page_is_the_table():
    """docs/audit/take-over.md is what auditors read."""
    with open(os.path.join(rigs.ROOT, "docs/audit/take-over.md"), encoding="utf-8") as file:
        assert file.read() == attempts.page(), "run make take-over-page"
