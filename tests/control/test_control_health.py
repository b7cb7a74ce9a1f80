# SPDX-License-Identifier: Apache-2.0
"""States of hosts: what they follow from, that they say why and since when, and that they are logged once."""

import time

import pytest
from plane import Plane
from agent import Agent
from test_control_bridges import acknowledge, wait_for


@pytest.fixture
def plane(folder):
    """One that is impatient."""
    made = Plane(folder, controld_options=("--offline-after", "3", "--degraded-after", "1"))
    made.start()
    made.network = bytes.fromhex(made.furnish()["id"])
    yield made
    made.stop()


def shown(plane, host):
    """As the API shows it."""
    return plane.ok("GET", f"/hosts/{host.id.hex()}")


def becomes(plane, host, state):
    """Wait until its state is this; returns the host. It polls all the while, unless it is to be offline."""
    def look():
        if state != "offline":
            host.apply()
        now = shown(plane, host)
        return now if now["state"] == state else None
    return wait_for(look)


def test_a_host_that_is_not_heard_is_offline_until_it_is(plane, enrolled):
    host = enrolled(1)
    assert shown(plane, host)["state"] == "enrolling"
    acknowledge(host)
    online = shown(plane, host)
    assert (online["state"], online["state_reason"]) == ("online", "")
    offline = becomes(plane, host, "offline")
    assert "heard last" in offline["state_reason"] and offline["state_since"] > online["state_since"]
    wait_for(lambda: "offline, was online" in plane.controld.text())
    time.sleep(1.2)  # two rounds more
    assert shown(plane, host)["state_since"] <= offline["state_since"] + 1500
    assert plane.controld.text().count("offline, was online") == 1, "told once"
    host.apply()
    assert shown(plane, host)["state"] == "online"
    never = enrolled(2)
    assert "never" in becomes(plane, never, "offline")["state_reason"]
    plane.ok("POST", f"/hosts/{never.id.hex()}/retire")
    assert shown(plane, never)["state"] == "retired"


def test_the_time_that_the_control_plane_was_down_is_held_against_nobody(plane, enrolled):
    host = enrolled(1)
    acknowledge(host)
    since = shown(plane, host)["state_since"]
    plane.controld.stop()
    time.sleep(3.2)
    plane.start_controld()
    assert shown(plane, host)["state"] == "online" and shown(plane, host)["state_since"] == since
    becomes(plane, host, "offline")
    wait_for(lambda: "offline, was online" in plane.controld.text())  # written down
    plane.controld.stop()
    plane.start_controld()
    assert shown(plane, host)["state"] == "offline"


@pytest.mark.parametrize("receipt, words", [
    ({"outcome": 3, "code": "overlap", "reason": "100.64.0.7/32 is twice in it"}, ["refused", "overlap", "twice"]),
    ({"outcome": 4, "code": "apply", "reason": "no room"}, ["reverted", "no room"]),
    ({"outcome": 5, "code": "apply", "reason": "no way back"}, ["broken", "no way back"]),
    ({"confirm": 2, "code": "unconfirmed", "reason": "no word for 30 s"}, ["unconfirmed", "no word"]),
    ({"confirm": 3, "code": "restored", "reason": "no word for 30 s"}, ["restored", "no word"]),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_what_a_receipt_says_degrades_a_host_until_the_next_says_better(plane, enrolled, receipt, words):
    host = enrolled(1)
    acknowledge(host)
    host.apply(receipts=[host.receipt(**receipt)])
    degraded = shown(plane, host)
    assert degraded["state"] == "degraded" and all(word in degraded["state_reason"] for word in words), degraded
    member = plane.status()["hosts"][0]
    assert member["state"] == "degraded" and words[0] in member["state_reason"]
    host.apply(receipts=[host.receipt()])
    assert shown(plane, host)["state"] == "online"


def test_staged_and_not_acknowledged_shows_though_the_host_polls(plane, enrolled):
    """A frozen mirror, or a netd that is stopped: polls come, receipts do not."""
    host, other = enrolled(1), Agent(plane, 2).enrolled(plane.token())
    acknowledge(host, other)
    plane.ok("PATCH", "/networks/mesh", {"mtu": 1400})
    acknowledge(other)
    degraded = becomes(plane, host, "degraded")
    assert "network mesh" in degraded["state_reason"] and "not acknowledged" in degraded["state_reason"]
    other.apply()
    assert shown(plane, other)["state"] == "online"
    acknowledge(host)
    assert shown(plane, host)["state"] == "online"


def test_drift_is_counted_over_restarts_of_netd(plane, enrolled):
    host = enrolled(1)
    acknowledge(host)
    assert shown(plane, host)["drift"] == {"mended": 0, "at": None}
    for mended, total in ((2, 2), (3, 3), (3, 3), (1, 4), (0, 4)):  # netd was started anew between 3 and 1
        host.apply(receipts=[host.receipt(outcome=2, mended=mended)])
        assert shown(plane, host)["drift"]["mended"] == total
    assert shown(plane, host)["drift"]["at"] and shown(plane, host)["receipt"]["confirm"] == "confirmed"
    assert plane.status()["hosts"][0]["mended"] == 4 and shown(plane, host)["state"] == "online"
