# SPDX-License-Identifier: Apache-2.0
"""A host with netd and a forged control plane, one a module; each test begins with the same mesh. PEERS in the module sets how many it has."""

import pytest

import rig as rigs

pytest.register_assert_rewrite("netd_rig")
from netd_rig import FOLDER, PREFIX, PROGRAMS, NetdHost  # noqa: E402  (the line above comes first)


@pytest.fixture(scope="module", name="net")
def make_rig():
    """The network that the module's hosts are on."""
    rig = rigs.Rig(FOLDER, PREFIX, PROGRAMS)
    yield rig
    rig.take_down()


@pytest.fixture(scope="module", name="shared")
def make_host(net, request):
    """The host; what a test left behind is still there."""
    peers = getattr(request.module, "PEERS", None)
    host = NetdHost(net, peers=peers) if peers else NetdHost(net)
    yield host
    host.close()


@pytest.fixture(name="whole")
def whole_host(shared):
    """The host in the state that every test begins with; its logs, should the test fail."""
    shared.make_mesh()
    assert shared.device() == shared.published()
    yield shared
    print(shared.host.log_tails(20))


@pytest.fixture(name="host")
def any_host(whole):
    """whole, for modules that want nothing more of it."""
    return whole
