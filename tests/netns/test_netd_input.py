# SPDX-License-Identifier: Apache-2.0
"""What netd is offered: good documents, and everything that it must not take.

A refusal has a code and a reason that say the same in result, receipt, log and `loopback status`, and moves nothing on the host: NetdHost.refused().
"""

import json

import pytest

import rig as rigs
from netd_rig import CIDR, ENDPOINT, FOLDER, OWN, PREFIX, PROGRAMS, SOCKETS, NetdHost


@pytest.fixture(scope="module", name="net")
def make_rig():
    rig = rigs.Rig(FOLDER, PREFIX, PROGRAMS)
    yield rig
    rig.take_down()


@pytest.fixture(scope="module", name="shared")
def make_host(net):
    host = NetdHost(net)
    yield host
    host.close()


@pytest.fixture(name="host")
def whole_host(shared):
    """The host in the state that every test begins with; its logs, should the test fail."""
    shared.make_mesh()
    pid = shared.pid()
    yield shared
    print(shared.host.log_tails())
    assert shared.pid() == pid, "netd has died"


def test_offer_is_applied(host):
    """The happy path, and what stock tools see of it."""
    assert host.device() == host.published()
    assert len(host.device()) == host.peers
    link = json.loads(host.host.enter("ip", "-j", "address", "show", "lb0").stdout)[0]
    assert link["mtu"] == 1380 and "UP" in link["flags"]
    assert [(entry["local"], entry["prefixlen"]) for entry in link["addr_info"] if entry["family"] == "inet"] == [(OWN, 32)]
    routes = json.loads(host.host.enter("ip", "-j", "route", "show", "dev", "lb0").stdout)
    assert [(entry["dst"], entry["protocol"], entry["prefsrc"]) for entry in routes] == [(CIDR, "158", OWN)]
    result = host.offer()
    assert result["outcome"] == "unchanged" and "receipt" not in result
