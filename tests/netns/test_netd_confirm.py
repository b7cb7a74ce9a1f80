# SPDX-License-Identifier: Apache-2.0
"""A change after which the control plane is silent (M7): what brings reachability comes back, what gives rights does not.

forge is the control plane: it is silent when it offers no head. What netd says of it is seen in `loopback status` and in its signed receipts.
"""

import re

import pytest

import rig as rigs

pytest.register_assert_rewrite("netd_rig")
from netd_fixtures import make_rig  # noqa: E402,F401
from netd_rig import ENDPOINT, OWN, NetdHost  # noqa: E402  (the line above comes first)

PATIENCE = 1  # second


@pytest.fixture(scope="module", name="shared")
def impatient_host(net):
    host = NetdHost(net, options=f"--confirm {PATIENCE}", mesh=False)
    yield host
    host.close()


@pytest.fixture(name="host")
def confirmed_host(shared):
    """A mesh that has been confirmed."""
    shared.make_mesh()
    assert shared.offer()["outcome"] == "unchanged" and confirm(shared)["state"] == "confirmed"
    yield shared
    print(shared.host.log_tails(20))


def confirm(host):
    """What netd says of the change in force."""
    return host.status()["confirm"]


def silence(host, state):
    """Wait until netd has waited long enough. Returns its receipt of it."""
    rigs.wait_until(f"netd to say {state}", lambda: confirm(host)["code"] == state, PATIENCE + 10)
    assert confirm(host)["state"] == state
    receipt = host.forge("await until=in_force")["in_force"]
    assert (receipt["outcome"], receipt["confirm"], receipt["code"]) == ("applied", state, state), receipt
    return receipt


def reach(witness):
    """Of a witness: MTU, addresses and routes."""
    return witness[2]


def test_a_head_confirms(host):
    """The next one is enough; what was changed stays for good, and nobody is told twice."""
    host.forge("peer mesh 4 address=100.64.1.4 endpoint=192.0.2.9:4444")
    host.forge("network mesh mtu=1300")
    receipt = host.apply()["receipt"]
    assert receipt["confirm"] == "none" and confirm(host)["state"] == "unconfirmed" and confirm(host)["code"] == ""
    after = host.witness()
    assert host.offer().get("receipt") is None
    assert confirm(host)["state"] == "confirmed"
    rigs.wait_until("longer than the patience", lambda: confirm(host)["seconds_ago"] > PATIENCE + 1)
    host.unmoved(after)


def test_reachability_comes_back_and_authority_does_not(host):
    """In one change: endpoint, MTU, address and range move; a host goes, another changes its key, one loses an address."""
    host.forge("peer mesh 7 address=100.64.1.7,100.64.3.7 endpoint=192.0.2.9:51820")
    host.apply()
    assert host.offer()["outcome"] == "unchanged"
    before, old = host.witness(), host.device()
    moved = host.forge("peer mesh 4 address=100.64.1.4 endpoint=192.0.2.9:4444")["key"]
    gone = host.forge("peer mesh 5 address=100.64.1.5 endpoint=192.0.2.9:51820")["key"]
    host.forge("unpeer mesh 5")
    renewed = host.forge("peer mesh 6 address=100.64.1.6 endpoint=192.0.2.9:6666 wg=new:1 counter=2")["key"]
    narrowed = host.forge("peer mesh 7 address=100.64.1.7 endpoint=192.0.2.9:51820")["key"]
    host.forge("network mesh cidr=100.64.0.0/16,100.70.0.0/16 mtu=1300")
    host.forge("self mesh address=100.70.0.9")
    host.apply()
    assert host.device() == host.published() and host.device()[moved][0] == "192.0.2.9:4444"
    receipt = silence(host, "restored")
    assert "loopbackctl host reapply" in receipt["reason"]
    device = host.device()
    assert reach(host.witness()) == reach(before)
    assert device[moved][0] == ENDPOINT and device[renewed][0] == ENDPOINT
    assert gone in old and len(set(old) - set(device)) == 2  # the host that went, and the old key of the one that changed it
    assert gone not in device and renewed not in old
    assert device[narrowed][1] == "100.64.1.7/32" and old[narrowed][1] == "100.64.1.7/32,100.64.3.7/32"
    text = host.host.enter("loopback", "status").stdout
    assert re.search(r"^Confirm +restored", text, re.M), text

    # It is held: heads come again, drift is mended towards it, a restart finds it; once is enough.
    held = host.witness()
    assert host.offer()["outcome"] == "unchanged" and confirm(host)["state"] == "restored"
    host.host.enter("ip", "link", "set", "lb0", "mtu", "1300")
    rigs.wait_until("mending", lambda: "mtu 1380" in host.host.enter("ip", "link", "show", "lb0").stdout)
    host.restart()
    assert confirm(host)["state"] == "restored"
    host.unmoved(held)
    host.connect()
    assert host.offer()["outcome"] == "unchanged" and confirm(host)["state"] == "restored"

    # The same contents under a new generation are another try.
    host.forge("network mesh")
    host.apply()
    assert host.device() == host.published() and "mtu 1300" in host.host.enter("ip", "link", "show", "lb0").stdout
    assert host.offer()["outcome"] == "unchanged" and confirm(host)["state"] == "confirmed"
    host.forge("unpeer mesh 6")  # its key has a counter that the next test's would be below
    host.apply()


def test_who_cuts_the_line_undoes_nothing(host):
    """A host was removed, and it can keep heads from coming: there is nothing whose return would help it."""
    host.forge("unpeer mesh 8")
    host.apply()
    after = host.witness()
    silence(host, "unconfirmed")
    host.unmoved(after)
    assert len(host.device()) == host.peers - 1
    assert host.offer()["outcome"] == "unchanged" and confirm(host)["state"] == "confirmed"
    assert host.forge("await until=in_force")["in_force"]["confirm"] == "confirmed"  # the control plane had been told otherwise


@pytest.mark.parametrize("end", ["kill", "restart"])
def test_netd_ends_before_the_time_is_over(host, end):
    """The journal knows that the change is not confirmed; the time begins anew."""
    before = host.witness()
    host.forge("network mesh mtu=1290")
    host.forge("peer mesh 9 address=100.64.1.9 endpoint=192.0.2.9:999")
    host.apply()
    if end == "kill":
        host.kill()
        host.wait_state()
    else:
        host.restart()
    rigs.wait_until("restored", lambda: confirm(host)["state"] == "restored", PATIENCE + 10)
    host.unmoved(before)
    host.connect()


def test_two_changes_before_a_head(host):
    """A head that brings a change confirms the one before it: what comes back is what the control plane was last heard under."""
    host.forge("network mesh mtu=1340")
    host.apply()
    between = host.witness()
    host.forge("network mesh mtu=1290")
    host.apply()
    silence(host, "restored")
    host.unmoved(between)
    host.forge("network mesh mtu=1280")  # while restored: the way back stays the same one
    host.apply()
    assert "mtu 1280" in host.host.enter("ip", "link", "show", "lb0").stdout
    silence(host, "restored")
    host.unmoved(between)


def test_a_change_that_cannot_be_applied_leaves_what_was_restored(host):
    before = host.witness()
    host.forge("network mesh mtu=1290")
    host.apply()
    silence(host, "restored")
    host.unmoved(before)
    host.forge("peer mesh 31 address=100.65.0.1")
    host.publish()
    host.refused("address")
    assert confirm(host)["state"] == "restored"


def test_the_first_configuration(net, shared):
    """A host that a network cut off at once: without it, it reaches its control plane."""
    host = NetdHost(net, name="h2", options=f"--confirm {PATIENCE}", mesh=False)
    try:
        before = reach(host.witness())
        host.make_mesh()
        assert reach(host.witness()) != before
        silence(host, "restored")
        assert reach(host.witness()) == before and len(host.device()) == host.peers
        host.restart()
        assert confirm(host)["state"] == "restored" and reach(host.witness()) == before
        host.connect()
        host.forge("network mesh")
        host.apply()
        assert host.offer()["outcome"] == "unchanged" and confirm(host)["state"] == "confirmed"
        assert OWN in host.host.enter("ip", "address", "show", "lb0").stdout
    finally:
        host.close()


def test_leaving_while_restored(host):
    host.forge("network mesh mtu=1290")
    host.apply()
    silence(host, "restored")
    host.host.enter("loopback", "leave", "--force")
    assert host.device() == {} and OWN not in host.host.enter("ip", "address", "show", "lb0").stdout
    host.kill()
    host.host.launch("start", "loopback-netd")
    host.wait_state("unpinned")
    assert confirm(host)["state"] == "none" and host.device() == {}
