# SPDX-License-Identifier: Apache-2.0
"""WireGuard keys that the control plane makes (M10): netd takes one only where its owner said so, only from a box for this very host, and never once a network
was locked. forge is the control plane.
"""

import base64
import os
import subprocess

import pytest

import rig as rigs

pytest.register_assert_rewrite("netd_rig")
from netd_fixtures import make_rig  # noqa: E402,F401
from netd_rig import NetdHost  # noqa: E402  (the line above comes first)


@pytest.fixture(scope="module", name="willing")
def willing_host(net):
    host = NetdHost(net, name="h81", options="--assigned-keys")
    yield host
    host.close()


@pytest.fixture(scope="module", name="plain")
def plain_host(net):
    host = NetdHost(net, name="h82")
    yield host
    host.close()


def public(private):
    """The public half of a key, as wg(8) computes it."""
    return subprocess.run(["wg", "pubkey"], input=base64.b64encode(private), stdout=subprocess.PIPE, check=True).stdout.decode().strip()


def keys(host):
    """(public key in force, public key that is to follow or None), as wg.key has them."""
    with open(os.path.join(host.host.folder, "lib/netd/wg.key"), "rb") as file:
        content = file.read()
    assert len(content) in (48, 88)
    return public(content[8:40]), public(content[56:88]) if len(content) == 88 else None


def shown(host):
    """The key of the device, as wg(8) shows it."""
    return host.dump()[0][1]


def asked(host, words):
    """The host document asks for another key; returns the public half of what forge put in the box."""
    answer = host.forge(f"host rotate=1 {words}")
    host.apply()
    return base64.b64encode(bytes.fromhex(answer["assigned"])).decode()


def given_up(host):
    """The host document no longer does."""
    host.forge("host")
    host.apply()
    assert keys(host)[1] is None


def test_what_is_in_the_box_is_the_next_key(willing):
    before, device = keys(willing), shown(willing)
    made = asked(willing, "assigned=self")
    rigs.wait_until("the next key", lambda: keys(willing)[1] == made, 5)
    assert keys(willing)[0] == before[0] and shown(willing) == device, "it is not in force yet"
    assert "was made by the control plane" in willing.log()
    given_up(willing)


def test_another_hosts_box_opens_nothing(willing):
    before = keys(willing)
    asked(willing, "assigned=other")
    assert keys(willing) == (before[0], None)
    assert "cannot be opened" in willing.log()
    given_up(willing)


def test_a_host_whose_owner_did_not_ask_for_it_takes_none(plain):
    """That is the default: the private key never leaves the host."""
    before = keys(plain)
    asked(plain, "assigned=self")
    assert keys(plain) == (before[0], None)
    assert "--assigned-keys" in plain.log()
    given_up(plain)
    plain.forge("host rotate=1")
    plain.apply()
    rigs.wait_until("a next key of its own", lambda: keys(plain)[1], 5)
    given_up(plain)


def test_once_a_network_is_locked_it_takes_none(willing):
    """Whoever makes a member's key is a member; in a locked network the control plane must not be one."""
    willing.keyset("operator=operator")
    willing.forge("admission mesh hosts=self,0-19 sign=operator locked=1")
    willing.forge("network mesh locked=1 mine=1")
    willing.apply()
    before, said = keys(willing), willing.log().count("takes none")
    asked(willing, "assigned=self")
    assert keys(willing) == (before[0], None)
    assert willing.log().count("takes none") > said
    given_up(willing)
