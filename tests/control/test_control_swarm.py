# SPDX-License-Identifier: Apache-2.0
"""The swarm of the bench, small: hundreds of agents in one process that verify what they are told, lose their connections, and are told again."""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "bench"))

import swarm as swarms  # noqa: E402  (needs the path above)

AGENTS = 300


@pytest.fixture(name="place", params=["plain", "tls"])
def swarm_place(request):
    with swarms.Place(tls=request.param == "tls") as place:
        place.begin()(f"enroll {AGENTS} 8")
        yield place


def test_all_are_told_and_come_back(place):
    """A host more: each of the others has head, manifest and nodes and its receipt is taken. All connections lost: all come back. A cold host needs one request."""
    assert place.swarm("park 60")["parked"] == AGENTS
    place.swarm("anew")
    cold = place.swarm("cold")
    assert cold["requests"] <= 4 and cold["bytes"] > 170 * AGENTS
    answer = place.swarm(f"news 60 {cold['since']}")
    assert answer["told"] == AGENTS == answer["parked"] and answer["bytes_max"] <= 8000, answer
    status = place.plane.status("wide")
    assert len(status["hosts"]) == AGENTS + 1
    assert sum(entry["acknowledged_generation"] == status["generation"] for entry in status["hosts"]) >= AGENTS
    place.swarm("drop")
    assert place.swarm("park 60")["parked"] == AGENTS


def test_many_join_while_others_wait(place):
    """Changes by the hundred a second: whoever waits is told of them in batches, and nobody is sent away."""
    place.swarm("active 20")
    assert place.swarm("park 60")["parked"] == 20
    place.swarm("enroll 200 8")  # it asserts that no request of anybody failed
    assert place.swarm("park 60")["parked"] == AGENTS + 200
    assert len(place.plane.status("wide")["hosts"]) == AGENTS + 200
