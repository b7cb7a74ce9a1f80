# SPDX-License-Identifier: Apache-2.0
"""What netd is offered: good documents, and everything that it must not take.

A refusal has a code and a reason, the same in result, receipt, log and `loopback status`, and moves nothing on the host.
"""

import json

import pytest


pytest.register_assert_rewrite("netd_rig")
from netd_fixtures import make_host, make_rig, whole_host  # noqa: E402,F401
from netd_rig import CIDR, ENDPOINT, OWN, SOCKETS  # noqa: E402  (the line above comes first)


@pytest.fixture(name="host")
def unkillable_host(whole):
    pid = whole.pid()
    yield whole
    assert whole.pid() == pid, "netd has died"


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


def test_honest_in_any_order(host):
    """Blobs one by one and backwards: order and size of messages mean nothing."""
    host.forge("peer mesh 30 address=100.64.1.30")
    host.publish()
    assert host.offer("split=1 reverse=1")["outcome"] == "applied"
    assert host.device() == host.published()


# ---- the head

HEADS = {
    "of an unknown key": ("forged", "sign=stranger"),
    "of the root, which signs none": ("forged", "sign=root"),
    "of the right key as another type": ("malformed", "type=network/1"),
    "answered already": ("replayed", "nonce=used"),
    "for a nonce never made": ("replayed", "nonce=random"),
    "the one before, once more": ("replayed", "replay=1"),
    "for another host": ("other-host", "other-host=1"),
    "of another deployment": ("deployment", "deployment=elsewhere"),
    "naming another keyset": ("keyset", "other-keyset=1"),
    "naming something twice": ("malformed", "twice=1"),
    "without a host document": ("other-host", "host=0"),
    "without the network of the host document": ("mixed", "networks=none"),
    "naming another generation than the document": ("mixed", "claim=1"),
    "with a byte after its end": ("malformed", "tail=1"),
}


@pytest.mark.parametrize("name", HEADS)
def test_head(host, name):
    code, words = HEADS[name]
    host.forge("peer mesh 30 address=100.64.1.30")
    host.publish()
    host.refused(code, words)


def test_truncated_and_damaged_heads(host):
    """An envelope cut anywhere, and one with any bit flipped, is no head."""
    host.forge("peer mesh 30 address=100.64.1.30")
    host.publish()
    before = host.witness()
    length = host.offer("sign=stranger")["head"]
    for words in [f"truncate={n}" for n in (0, 1, 2, 17, 18, 20, 21, 100, length - 65, length - 1)] + \
                 [f"flip={n}" for n in range(0, length, 13)]:
        host.connect()  # netd asks more and more slowly after refusals; a new connection begins at once
        result = host.offer(words)
        assert result["outcome"] == "refused", words
        assert result["receipt"]["code"] in ("malformed", "forged"), result
    host.unmoved(before)
    assert host.offer()["outcome"] == "applied"


# ---- documents that the head names

DOCUMENTS = {
    "network of an unknown key": ("forged", ["network mesh sign=stranger"]),
    "network of the root": ("forged", ["network mesh sign=root"]),
    "network signed as another type": ("malformed", ["network mesh type=host/1"]),
    "host document of an unknown key": ("forged", ["host sign=stranger"]),
    "host document signed as another type": ("malformed", ["host type=network/1"]),
    "network of another deployment": ("deployment", ["network mesh deployment=elsewhere"]),
    "host document of another deployment": ("deployment", ["host deployment=elsewhere"]),
    "network older than in force": ("downgraded", ["network mesh generation=1"]),
    "host document older than in force": ("downgraded", ["host generation=1"]),
    "network of an epoch that is over": ("downgraded", ["network mesh epoch=0"]),
    "network of an epoch that never began": ("epoch", ["network mesh epoch=2"]),
    "two networks of one generation": ("equivocated", ["network mesh generation={generation} mtu=1400"]),
    "a host document that names more networks": ("mixed", ["network two cidr=10.77.0.0/16", "self two address=10.77.0.1",
                                                           "network two mine=0", "host networks=mesh,two"]),
    "a network that the host document does not name": ("not-bridged", ["network two cidr=10.77.0.0/16", "self two address=10.77.0.1",
                                                                       "host networks=mesh"]),
    "a bridge that this host's network does not name": ("not-bridged", ["network two cidr=10.77.0.0/16 bridges=mesh mine=1",
                                                                        "host networks=mesh"]),
    "a bridge that the other network does not name": ("not-bridged", ["network two cidr=10.77.0.0/16 mine=1", "network mesh bridges=two",
                                                                      "host networks=mesh"]),
    "a bridge of a bridge": ("not-bridged", ["network two cidr=10.77.0.0/16 bridges=mesh,three mine=1", "network mesh bridges=two",
                                             "network three cidr=10.79.0.0/16 bridges=two mine=1", "host networks=mesh"]),
    "a bridged peer that has an address of ours": ("address", ["network two cidr=10.77.0.0/16 bridges=mesh mine=1", "network mesh bridges=two",
                                                               "host networks=mesh", "peer two 40 address=100.64.1.3"]),
    "a bridged network within our range": ("overlap", ["network two cidr=100.64.0.0/16 bridges=mesh mine=1", "network mesh bridges=two",
                                                       "host networks=mesh", "peer two 40 address=100.64.1.3"]),
    "a network without this host": ("mixed", ["unpeer mesh self"]),
    "a node in another's place": ("misplaced", ["tamper mesh kind=swap"]),
    "a root that is no node": ("malformed", ["tamper mesh kind=garbage"]),
    "a trie without end": ("malformed", ["tamper mesh kind=deep"]),
    "a key that its host did not vouch for": ("statement", ["peer mesh 3 address=100.64.1.3 unsigned=1"]),
    "a new host's key that it did not vouch for": ("statement", ["peer mesh 31 address=100.64.1.31 unsigned=1"]),
    "an older statement": ("downgraded", ["peer mesh 3 address=100.64.1.3 counter=0"]),
    "another key by the same counter": ("downgraded", ["peer mesh 3 address=100.64.1.3 wg=new:1"]),
    "one address of two hosts": ("overlap", ["peer mesh 3 address=100.64.1.3,100.64.1.4"]),
    "one address of two hosts in two networks": ("overlap", ["network two cidr=100.64.0.0/16", f"self two address={OWN}",
                                                             "peer two 40 address=100.64.1.3"]),
    "one key of two hosts": ("duplicate-key", ["peer mesh 31 address=100.64.1.31 wg=3"]),
    "this host's key for another host": ("own-key", ["peer mesh 31 address=100.64.1.31 wg=self"]),
    "another key for this host": ("own-key", [f"self mesh address={OWN} wg=new:1"]),
    "two keys for this host": ("two-keys", ["network two cidr=10.77.0.0/16", "self two address=10.77.0.1 wg=new:1"]),
    "an address outside of the network": ("address", ["peer mesh 31 address=100.65.0.1"]),
    "an own address outside of the network": ("address", ["self mesh address=100.65.0.1"]),
    "a count that is too high": ("count", ["network mesh count=40"]),
    "a count that is too low": ("count", ["network mesh count=3"]),
    "65,537 peers": ("too-many-peers", ["network mesh count=65537"]),
    "65,537 peers over two networks": ("too-many-peers", ["network mesh count=65000", "network two cidr=10.77.0.0/16 count=537",
                                                          "self two address=10.77.0.1"]),
    "an MTU below IPv6's": ("malformed", ["network mesh mtu=1279"]),
    "an MTU above": ("malformed", ["network mesh mtu=9001"]),
    "ranges that overlap": ("malformed", [f"network mesh cidr={CIDR},100.64.8.0/24"]),
    "a range of the underlay": ("route-overlap", ["network two cidr=198.18.0.0/16", "self two address=198.18.7.7"]),
    "a range that holds a foreign route": ("route-overlap", ["network two cidr=10.78.0.0/16", "self two address=10.78.0.1"]),
    "a range within a foreign route": ("route-overlap", ["network two cidr=10.78.5.128/25", "self two address=10.78.5.129"]),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents(host, name):
    """Signed or not, netd does not take it, nothing moves, and the next good set is applied."""
    code, commands = DOCUMENTS[name]
    if code == "route-overlap":
        host.host.enter("ip", "route", "replace", "10.78.5.0/24", "via", "198.18.0.9")
    generation = host.publish("host=0")["mesh"]
    for command in commands:
        host.forge(command.format(generation=generation))
    host.publish()
    host.refused(code)
    host.make_mesh()


def test_route_of_the_host_that_comes_later(host):
    """What overlaps is asked when a range is new; a route that somebody adds later stays his."""
    host.host.enter("ip", "route", "replace", "100.64.77.0/24", "via", "198.18.0.9")
    host.forge("peer mesh 30 address=100.64.1.30")
    host.apply()
    assert "100.64.77.0/24 via 198.18.0.9" in host.host.enter("ip", "route").stdout
    host.host.enter("ip", "route", "delete", "100.64.77.0/24")


# ---- blobs

BLOBS = {
    "a node whose hash does not match": ("blob-mismatch", "corrupt=4"),
    "a document whose hash does not match": ("blob-mismatch", "corrupt=0"),
    "a valid document that no head names": ("blob-mismatch", "unwanted=1"),
    "the same blob twice": ("blob-mismatch", "twice-blob=1"),
    "a list that ends within a blob": ("blob-malformed", "torn=1"),
    "a node that cannot be had": ("missing-node", "withhold=4"),
    "a document that cannot be had": ("missing-node", "withhold=1"),
}


@pytest.mark.parametrize("name", BLOBS)
def test_blobs(host, name):
    code, words = BLOBS[name]
    host.forge(f"peers mesh from=100 count=200 base=100.64.9.0 endpoint={ENDPOINT}")
    host.publish()
    host.refused(code, words)
    assert host.offer()["outcome"] == "applied"  # the same set, brought as it should be


# ---- keysets

KEYSETS = {
    "of another root": "keyset by=stranger",
    "that names a root which has not signed": "keyset root=root2 by=root",
    "older than the one in use": "keyset generation=0 epoch=1",
    "of an epoch that is over": "keyset epoch=0",
    "of another deployment": "keyset deployment=elsewhere",
}


@pytest.mark.parametrize("name", KEYSETS)
def test_keyset_is_refused(host, name):
    before, generation = host.witness(), host.generation
    host.forge(KEYSETS[name])
    answer = host.forge("hand-over")
    assert not answer["taken"] and answer["reason"].startswith("a keyset was refused: "), answer
    assert host.status()["last_result"]["code"] == "keyset"
    host.unmoved(before)
    host.keyset(generation=generation)
    assert host.offer()["outcome"] == "unchanged"


def test_keys_are_rotated(host):
    """A new online key, then a new root: what the old ones sign is not taken any more."""
    host.keyset("online=online,second")
    host.apply()
    host.keyset("online=second")
    host.publish()
    host.refused("forged", "sign=online")
    for document in ("network mesh", "host"):
        host.forge(f"{document} sign=second")
    host.publish()
    assert host.offer("sign=second")["outcome"] == "applied"
    host.keyset("root=root2 by=root,root2")
    assert not host.keyset("root=root by=root", taken=False)["taken"]
    host.keyset("root=root by=root,root2")
    assert host.forge(f"pin {SOCKETS}/admin.sock root=root")["pinned"]
    assert not host.forge(f"pin {SOCKETS}/admin.sock root=stranger")["pinned"]
    host.forge("network mesh")
    host.apply()


# ---- the channel

def closes(host, *commands, words="offer", log="closing the channel to fetchd"):
    """These commands make netd hang up on us, and nothing else happens to the host."""
    before, length = host.witness(), len(host.log())
    for command in commands:
        host.forge(command)
    if words:
        assert host.offer(words)["closed"], words
    else:
        assert host.forge("listen for=2000")["closed"]
    assert log in host.log()[length:]
    host.unmoved(before)
    host.connect()
    host.forge("peer mesh 30 address=100.64.1.30")
    host.apply()


FRAMES = {
    "longer than a frame": "hello bytes=65537",
    "much longer than a frame": "hello bytes=131072",
    "longer than that message": "hello bytes=200",
    "garbage": "garbage",
    "an array of nothing": "empty",
    "nested too deep": "nested",
    "a number that no message has": "unknown",
    "a field too many": "field",
    "a byte after its end": "tail",
    "with a descriptor that it does not carry": "hello descriptors=1",
    "with more descriptors than any carries": "hello descriptors=5",
    "netd's own message": "ask",
    "root's message": "pin",
    "wg-launch's message": "tunnel",
    "a viewer's message": "view",
    "an offer that is none": "offer descriptors=1",
    "a second hello": "hello",
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames(host, name):
    closes(host, f"send {FRAMES[name]}", words=None)


@pytest.mark.parametrize("words", ["unsealed=1", "descriptors=0", "descriptors=2", "descriptors=5"])
def test_descriptors_of_blobs(host, words):
    host.forge("peer mesh 31 address=100.64.1.31")
    host.publish()
    closes(host, words=words, log="fetchd is gone")


def test_more_blobs_than_fit(host):
    host.forge("peer mesh 31 address=100.64.1.31")
    host.publish()
    closes(host, words="large=1", log="fetchd is gone")


def test_offer_before_hello(host):
    host.forge(f"connect {SOCKETS}/documents.sock as=_lb-fetchd")
    closes(host, "send offer", words=None)


def test_second_offer_within_one(host):
    host.forge("peer mesh 31 address=100.64.1.31")
    host.publish()
    assert host.offer("until=want")["wanted"]
    closes(host, "send offer", words=None)


def test_blobs_that_nobody_wants(host):
    """A message in the wrong phase: nothing was offered."""
    host.forge("peer mesh 31 address=100.64.1.31")
    host.publish()
    assert host.offer("until=want")["wanted"]
    host.connect()
    closes(host, "bring", words=None)


def test_other_users_are_turned_away(host):
    """By the socket's mode, and where root could pass that, by SO_PEERCRED."""
    length = len(host.log())
    for path, user in (("documents", "root"), ("tunnel", "root")):
        host.forge(f"connect {SOCKETS}/{path}.sock on=other as={user}")
        assert host.forge("listen on=other for=2000")["closed"]
    for path, user in (("documents", "nobody"), ("documents", "_lb-wg"), ("tunnel", "_lb-fetchd"), ("admin", "_lb-fetchd")):
        with pytest.raises(AssertionError, match="Permission denied"):
            host.forge(f"connect {SOCKETS}/{path}.sock on=other as={user}")
    assert host.log()[length:].count("turned away") == 2
    assert host.offer()["outcome"] == "unchanged"  # ours lives on


def test_newer_fetchd_replaces_the_older(host):
    """A restarted fetchd is served at once; the offer of the one before is forgotten."""
    host.forge("peer mesh 31 address=100.64.1.31")
    host.publish()
    assert host.offer("until=want")["wanted"]
    host.forge(f"connect {SOCKETS}/documents.sock as=_lb-fetchd on=newer")
    host.forge("hello on=newer")
    assert host.forge("listen for=2000")["closed"]
    assert host.forge("offer on=newer")["outcome"] == "applied"
    host.forge("disconnect on=newer")
    host.connect()
    assert host.offer()["outcome"] == "unchanged"
