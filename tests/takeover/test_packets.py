# SPDX-License-Identifier: Apache-2.0
"""A taken-over netd owns this host's packets and no more: everything in packets.py, and the page that says so (docs/audit/netd-take-over.md).

Tried on h1, on somebody else's interface and container; the mesh of the other hosts runs on.
"""

import os
import re

import pytest

import fleetview
import packets
import place as places
import rig as rigs

PAGE = os.path.join(rigs.ROOT, "docs/audit/netd-take-over.md")
_ROW = re.compile(r"^\| `([a-z0-9-]+)` \|.*\| (possible|refused: \S+) \|$", re.MULTILINE)


@pytest.fixture(name="somebody")
def somebody_fixture(fleet):
    """Somebody else's network on h1, with packets coming in at tenant0 all the time."""
    made = places.Network(fleet.host("h1"))
    yield made
    made.end()


def lines_of(steps, at):
    """The lines of steps in a place; None if the kernel has not that part."""
    return steps(at) if callable(steps) else steps


def each_packet(host, somebody, run, skipped):
    """(entry, result) of every line; each finds the network as new."""
    for entry in packets.PACKETS:
        at = somebody.make()
        at["next"] = somebody.next_number()
        pings = host.popen("ip", "netns", "exec", "box", "ping", "-q", "-n", "-i", "0.05", "10.77.0.1", stdout=-3, stderr=-3)
        lines = lines_of(entry.steps, at)
        if lines is None:
            skipped.append(entry.name)
        else:
            yield entry, run(entry, lines, at)
        pings.kill()
        pings.wait()
        somebody.take_away()


def test_what_it_can_do_to_packets(fleet, somebody):
    """With its sandbox: what the table calls possible the kernel does, what it calls refused is refused for that reason."""
    host, skipped, wrong = fleet.host("h1"), [], []
    pings = fleetview.Pings(fleet, ("h2", "h3"), interval=0.05)
    before = {name: fleetview.overlay_view(fleet, name) for name in ("h1", "h2", "h3")}
    others = {name: pid for name, pid in places.daemons(fleet).items() if name != "netd"}
    stand_in = places.StandIn(fleet, "netd")
    try:
        for entry, result in each_packet(host, somebody, lambda entry, lines, _at: stand_in.attempt(entry.name, lines), skipped):
            if result.short() not in entry.expect["netd"].split(" or "):
                wrong.append(f"{entry.name}: expected {entry.expect['netd']}, found {result.short()} ({result.text.strip()[-300:]})")
        assert {name: pid for name, pid in places.daemons(fleet).items() if name != "netd"} == others
    finally:
        stand_in.end()
    host.launch("wait")
    assert not wrong, "\n".join(wrong)
    assert not skipped, f"this kernel has not the families of {skipped}"
    assert {name: fleetview.overlay_view(fleet, name) for name in ("h1", "h2", "h3")} == before
    assert pings.stop()[1] == 0


def test_what_it_cannot_do_works_without_its_sandbox(fleet, somebody):
    """As root without the sandbox all of it is possible."""
    wrong = []

    def run(entry, lines, at):
        if isinstance(entry.exempt, str):
            return None
        return places.control(fleet, "h1", entry.name, lines_of(entry.control, at) if entry.control else lines)

    for entry, result in each_packet(fleet.host("h1"), somebody, run, []):
        if result and result.outcome != "done":
            wrong.append(f"{entry.name}: {result.short()} {result.ended} ({result.text.strip()[-300:]})")
    assert not wrong, "\n".join(wrong)


def test_the_page_is_complete():
    """Every line of the table stands on the page, once, with its outcome, and no other line does."""
    with open(PAGE, encoding="utf-8") as file:
        found = _ROW.findall(file.read())
    assert dict(found) == {entry.name: "possible" if entry.expect["netd"] == "done" else f"refused: {entry.expect['netd']}" for entry in packets.PACKETS}
    assert len(found) == len(packets.PACKETS)
