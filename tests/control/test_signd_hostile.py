# SPDX-License-Identifier: Apache-2.0
"""A control plane that was taken over speaks to signd directly. Whatever it asks, signd signs only what follows from what it signed before."""

import hashlib
import os
import time

import pytest
import wire
from plane import DEPLOYMENT, Signd, keyset
from sign_socket import SIGN, SIGN_DONE, SIGN_KEYSET, SIGN_NETWORK, SIGN_REFUSED, SignClient

ORG, OTHER_ORG = b"o" * 16, b"p" * 16
NET, NET2 = b"n" * 16, b"m" * 16


class Host:
    """Keys of a host and its entry."""

    def __init__(self, number, address=None, counter=1, wg_key=None):
        self.key = wire.Key(f"host {number}")
        self.id = wire.host_id(self.key.public)
        self.wg_key = wg_key or hashlib.sha256(f"wg {number} {counter}".encode()).digest()
        self.address, self.counter = address or f"10.1.{number // 250}.{number % 250 + 1}/32", counter

    def peer(self, addresses=None, deployment=DEPLOYMENT):
        """Its entry in a trie."""
        return wire.peer(self.key, self.wg_key, self.counter, deployment, addresses or [self.address], ["192.0.2.1:51820"])


class Hostile:
    """Knows the formats and has the socket; has no key."""

    def __init__(self, signd, root):
        self.signd, self.root = signd, root
        self.client = SignClient(signd.socket)
        self.generations, self.nodes, self.last = {}, {}, {}

    def again(self):
        """A new connection."""
        self.client.close()
        self.client = SignClient(self.signd.socket)

    def network(self, hosts, network=NET, **more):
        """Ask for a network of these hosts (or peers); the raw answer."""
        peers = [host.peer() if isinstance(host, Host) else host for host in hosts]
        root, nodes = wire.trie(peers)
        fresh = [data for name, data in nodes.items() if name not in self.nodes.get(network, {})]
        generation = more.get("generation", self.generations.get(network, 0) + 1)
        payload = [wire.header(more.get("deployment", DEPLOYMENT), more.get("organization", ORG), network, more.get("epoch", 1), generation,
                               more.get("issued", 1700000000)),
                   "mesh", [wire.prefix(text) for text in more.get("cidrs", ["10.1.0.0/16"])], 1380, 25, more.get("flags", 0),
                   sorted(more.get("bridges", [])), more.get("count", len(peers)), more.get("root", root)]
        answer = self.client.network(payload, more.get("send", fresh) + more.get("list_nodes", []), admission=more.get("admission", b""),
                                     cosign=more.get("cosign", b""))
        if answer and answer[0] == SIGN_DONE:
            self.generations[network] = generation
            self.nodes[network] = nodes
            self.last[wire.NETWORK, network] = answer[1]
        return answer

    def host(self, host, networks=((NET, None),), **more):
        """Ask for a host's document."""
        generation = more.get("generation", self.generations.get(host.id, 0) + 1)
        payload = [wire.header(DEPLOYMENT, more.get("organization", ORG), host.id, 1, generation), "h",
                   [[network, [wire.prefix(text) for text in (addresses or [host.address])]] for network, addresses in networks], more.get("rotate", 0), more.get("box", b"")]
        answer = self.client.sign(wire.HOST, payload)
        if answer and answer[0] == SIGN_DONE:
            self.generations[host.id] = generation
            self.last[wire.HOST, host.id] = answer[1]
        return answer

    def entry(self, kind, object_id, **more):
        """An entry of a head for what was signed last."""
        return [kind, object_id, 1, more.get("generation", self.generations.get(object_id, 0)),
                more.get("hash", wire.hash_of(self.last.get((kind, object_id), b"")))]

    def keyset_entry(self):
        """Of the keyset."""
        return [wire.KEYSET, DEPLOYMENT, 1, 1, wire.hash_of(keyset(self.root, [self.signd.public]))]

    def head(self, host, entries, **more):
        """Ask for a head."""
        payload = [wire.header(DEPLOYMENT, more.get("organization", ORG), more.get("id", host.id), 1,
                               more.get("generation", self.generations.get(host.id, 0))), host.id, bytes(32), entries]
        return self.client.sign(wire.HEAD, payload)

    def good_head(self, host, networks=(NET,)):
        """The head that is right."""
        return self.head(host, [self.keyset_entry(), self.entry(wire.HOST, host.id)]
                         + [self.entry(wire.NETWORK, network) for network in networks])


def signed(answer):
    """Must be signed."""
    assert answer and answer[0] == SIGN_DONE, answer
    return answer[1]


def refused(answer, *words, last=None):
    """Must be refused, with these words in the reason."""
    assert answer and answer[0] == SIGN_REFUSED, answer
    for word in words:
        assert word in answer[2], answer[2]
    if last is not None:
        assert answer[1] == last
    return answer[2]


def start(folder, *options):
    root = wire.Key("root")
    made = Signd(folder, root, "--peer-user", "root", *options)
    made.start()
    return Hostile(made, root)


@pytest.fixture
def fresh(folder):
    """signd without a keyset."""
    hostile = start(folder)
    yield hostile
    hostile.client.close()
    assert hostile.signd.stop() in (0, None)


@pytest.fixture
def hostile(fresh):
    """signd with a keyset."""
    signed(fresh.client.keyset(keyset(fresh.root, [fresh.signd.public])))
    return fresh


@pytest.fixture
def meshed(hostile):
    """Three hosts in a network, with their documents."""
    hostile.hosts = [Host(number) for number in range(3)]
    signed(hostile.network(hostile.hosts))
    for host in hostile.hosts:
        signed(hostile.host(host))
    return hostile


# -- what is right

def test_what_is_right_is_signed(meshed):
    for host in meshed.hosts:
        payload = wire.opened(signed(meshed.good_head(host)), wire.HEAD, meshed.signd.public)
        assert payload[1] == host.id


def test_the_same_again_has_the_same_signature(meshed):
    before = meshed.last[wire.NETWORK, NET]
    assert signed(meshed.network(meshed.hosts, generation=1, send=[])) == before
    document = meshed.last[wire.HOST, meshed.hosts[0].id]
    assert signed(meshed.host(meshed.hosts[0], generation=1)) == document


def test_a_large_network_grows_and_shrinks_one_by_one(hostile):
    hosts = [Host(number) for number in range(120)]
    signed(hostile.network(hosts))
    for _ in range(30):
        hosts.pop(7)
        signed(hostile.network(hosts))
    hosts.append(Host(500))
    signed(hostile.network(hosts))


def test_shape_changes_between_leaf_and_branch(hostile):
    """Nodes move between paths with unchanged contents: none that is needed may be thrown away."""
    hosts = [Host(number) for number in range(40)]
    for count in (4, 5, 4, 6, 3, 5, 4, 1, 0, 5, 17, 5, 4, 16, 17, 33, 40, 25, 16, 4):
        signed(hostile.network(hosts[:count]))


def first_digit(host):
    """Which child of the root it is below."""
    return wire.digit(wire.hash_of(host.id), 0)


def test_a_leaf_that_becomes_the_root_and_back(hostile):
    """The very same node, named the same, at another path."""
    hosts = [Host(number) for number in range(600)]
    alike = [host for host in hosts if first_digit(host) == 0][:4]
    other = next(host for host in hosts if first_digit(host) == 1)
    assert len(alike) == 4
    for _ in range(3):
        signed(hostile.network(alike))
        signed(hostile.network(alike + [other]))
    signed(hostile.network(alike[:3] + [other]))


def test_addresses_and_keys_may_move_in_one_document(meshed):
    first, second, third = meshed.hosts
    signed(meshed.network([Host(0, second.address), Host(1, first.address), third]))


# -- keysets

def test_nothing_is_signed_without_a_keyset(fresh):
    refused(fresh.network([Host(1)]), "keyset")


@pytest.mark.parametrize("forge", [
    lambda h: keyset(wire.Key("another root"), [h.signd.public]),
    lambda h: keyset(h.root, [h.signd.public], signers=[wire.Key("another root")]),
    lambda h: keyset(h.root, [h.signd.public], generation=2, deployment=b"d" * 16),
    lambda h: keyset(h.root, [h.signd.public], generation=1, not_after=1),
    lambda h: keyset(h.root, [h.signd.public], generation=0),
    lambda h: keyset(h.root, [h.signd.public], epoch=0, generation=9),
    lambda h: b"garbage",
    lambda h: wire.envelope(wire.HOST, [1], h.root),
    lambda h: (lambda good: good[:-1] + bytes([good[-1] ^ 1]))(keyset(h.root, [h.signd.public], generation=2)),
])
def test_keysets_that_are_not_taken(hostile, forge):
    refused(hostile.client.keyset(forge(hostile)), "keyset")
    signed(hostile.network([Host(1)]))


def test_a_root_rotates_only_with_both_signatures(hostile):
    new = wire.Key("next root")

    def rotation(*signers):
        return wire.envelope(wire.KEYSET, [wire.header(DEPLOYMENT, wire.ZERO_ID, DEPLOYMENT, 1, 2), "test", new.public,
                                           [[hostile.signd.public, 1, 0]]], *signers)

    refused(hostile.client.keyset(rotation(hostile.root)))
    refused(hostile.client.keyset(rotation(new)))
    signed(hostile.client.keyset(rotation(hostile.root, new)))
    refused(hostile.client.keyset(keyset(hostile.root, [hostile.signd.public], generation=3)))
    signed(hostile.client.keyset(keyset(new, [hostile.signd.public], generation=3)))
    hostile.signd.stop()
    hostile.signd.start()
    hostile.again()
    refused(hostile.client.keyset(keyset(hostile.root, [hostile.signd.public], generation=4)))


@pytest.mark.parametrize("more, word", [({"usage": wire.KEY_OPERATOR}, "online key"), ({"not_after": 1600000000}, "expired")])
def test_a_keyset_that_does_not_let_signd_sign(meshed, more, word):
    signed(meshed.client.keyset(keyset(meshed.root, [meshed.signd.public], generation=2, **more)))
    refused(meshed.network(meshed.hosts + [Host(9)]), word)
    refused(meshed.host(meshed.hosts[0]), word)
    refused(meshed.good_head(meshed.hosts[0]), word)


def test_a_keyset_without_signds_key(meshed):
    signed(meshed.client.keyset(keyset(meshed.root, [wire.Key("other").public], generation=2)))
    refused(meshed.network(meshed.hosts + [Host(9)]), "online.pub")


def test_a_new_epoch_asks_for_documents_of_that_epoch(meshed):
    signed(meshed.client.keyset(keyset(meshed.root, [meshed.signd.public], epoch=2)))
    refused(meshed.network(meshed.hosts + [Host(9)]), "epoch")
    signed(meshed.network(meshed.hosts + [Host(9)], epoch=2))


# -- networks

@pytest.mark.parametrize("more, word", [
    ({"generation": 1, "issued": 1}, "does not follow"), ({"generation": 3}, "does not follow"), ({"generation": 0}, "does not follow"),
    ({"deployment": b"x" * 16}, "deployment"), ({"epoch": 2}, "epoch"), ({"epoch": 0}, "epoch"),
    ({"organization": OTHER_ORG}, "organization"), ({"organization": bytes(16)}, "organization"),
    ({"count": 3}, "counts"), ({"count": 5}, "counts"), ({"root": b"r" * 32}, "missing"), ({"send": []}, "missing"),
    ({"cidrs": ["10.1.0.0/24"]}, "range"), ({"cidrs": ["10.2.0.0/16"]}, "range"),
])
def test_networks_that_do_not_follow(meshed, more, word):
    refused(meshed.network(meshed.hosts + [Host(3)], **more), word, last=1)
    signed(meshed.network(meshed.hosts + [Host(3)]))


def test_ranges_that_overlap(meshed):
    refused(meshed.network(meshed.hosts, cidrs=["10.1.0.0/16", "10.1.5.0/24"]), "malformed")


def test_ranges_may_be_added(meshed):
    signed(meshed.network(meshed.hosts, cidrs=["10.1.0.0/16", "10.2.0.0/16"]))
    signed(meshed.network(meshed.hosts + [Host(9, "10.2.0.1/32")], cidrs=["10.1.0.0/16", "10.2.0.0/16"]))


def entry_with(host, **places):
    """A host's entry with some of its places exchanged."""
    entry = host.peer()
    for place, value in places.items():
        entry[int(place[1:])] = value
    return entry


FORGED = [
    ("the key of a peer exchanged", lambda: entry_with(Host(3), _1=bytes(32)), "did not sign"),
    ("a signature by nobody", lambda: entry_with(Host(3), _3=bytes(64)), "did not sign"),
    ("a statement for another deployment", lambda: Host(3).peer(deployment=b"x" * 16), "did not sign"),
    ("another host's statement", lambda: entry_with(Host(3), _3=Host(4).peer()[3]), "did not sign"),
    ("an address outside", lambda: Host(3, "10.2.0.1/32").peer(), "outside"),
    ("the address of another", lambda: Host(3, Host(1).address).peer(), "another host's"),
    ("one address too many, another's", lambda: Host(3).peer(["10.1.77.1/32", Host(1).address]), "another host's"),
    ("a range", lambda: Host(3).peer(["10.1.128.0/17"]), "malformed"),
    ("the whole world", lambda: Host(3).peer(["0.0.0.0/0"]), "malformed"),
    ("no address", lambda: entry_with(Host(3), _5=[]), "malformed"),
    ("a next key that nobody vouches for", lambda: entry_with(Host(3), _4=[bytes(32), 2, bytes(64)]), "did not sign the next"),
    ("another host's next key", lambda: entry_with(Host(3), _4=wire.next_of(wire.Key("other"), (bytes(32), 2), DEPLOYMENT)), "did not sign the next"),
    ("a next key that is no later", lambda: entry_with(Host(3), _4=wire.next_of(Host(3).key, (bytes(32), 1), DEPLOYMENT)), "malformed"),
    ("the WireGuard key of another", lambda: Host(3, wg_key=Host(1).wg_key).peer(), "WireGuard key of another"),
]


@pytest.mark.parametrize("forged, word", [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_forged_peers(meshed, forged, word):
    refused(meshed.network(meshed.hosts + [forged()]), word)
    signed(meshed.network(meshed.hosts + [Host(3)]))


@pytest.mark.parametrize("forged, word", [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_forged_peers_in_a_first_document(meshed, forged, word):
    refused(meshed.network([Host(1), forged()], network=NET2), word, last=0)


def test_a_peer_cannot_be_exchanged_under_its_host(meshed):
    """Same host key, a WireGuard key that the attacker holds."""
    victim = meshed.hosts[1]
    entry = victim.peer()
    entry[1] = wire.hash_of(b"mine")
    refused(meshed.network([meshed.hosts[0], entry, meshed.hosts[2]]), "did not sign")


def test_an_old_key_does_not_come_back(meshed):
    others = [meshed.hosts[0], meshed.hosts[2]]
    signed(meshed.network(others + [Host(1, counter=2)]))
    refused(meshed.network(others + [Host(1, counter=1)]), "older")
    signed(meshed.network(others))
    refused(meshed.network(others + [Host(1, counter=1)]), "older")  # not after it left
    refused(meshed.network([Host(1, counter=1)], network=NET2), "older")  # nor elsewhere
    refused(meshed.network(others + [Host(1, counter=2, wg_key=bytes(range(32)))]), "two WireGuard keys")


def test_peers_in_wrong_places(meshed):
    hosts = [Host(number) for number in range(3, 6)]
    entries = sorted((host.peer() for host in hosts), key=lambda entry: wire.hash_of(wire.host_id(entry[0])))
    for wrong in (list(reversed(entries)), [entries[0], entries[0]]):
        leaf = wire.pack([0, wrong])
        refused(meshed.network([], network=NET2, root=wire.hash_of(leaf), send=[leaf], count=len(wrong)), "malformed")


@pytest.mark.parametrize("node", [b"", b"\xc0", b"\x92\x02\x90", wire.pack([1, [b""] * 4]), wire.pack([1, [b"x" * 32] * 3]),
                                  wire.pack([0, [], 0]), wire.pack([0, [[1]]]), os.urandom(100), b"\x92\x00" + b"\x91" * 200])
def test_malformed_nodes(meshed, node):
    answer = meshed.network([], network=NET2, root=wire.hash_of(node), send=[node])
    assert answer is None or answer[0] == SIGN_REFUSED
    meshed.again()
    signed(meshed.network(meshed.hosts + [Host(3)]))


def test_a_node_that_leads_to_itself_cannot_be_made_but_deep_ones_can(meshed):
    name = wire.hash_of(wire.pack([0, []]))
    nodes = [wire.pack([0, []])]
    for _ in range(80):
        nodes.append(wire.pack([1, [name] + [b""] * 3]))
        name = wire.hash_of(nodes[-1])
    refused(meshed.network([], network=NET2, root=name, send=nodes), "network")


def test_one_branch_shared_by_all_children_is_bounded(meshed):
    """A small set of nodes that unfolds to 4^24 leaves."""
    nodes = [wire.pack([0, [Host(1).peer()]])]
    for _ in range(24):
        nodes.append(wire.pack([1, [wire.hash_of(nodes[-1])] * 4]))
    begun = time.monotonic()
    refused(meshed.network([], network=NET2, root=wire.hash_of(nodes[-1]), send=nodes), "network")
    assert time.monotonic() - begun < 5


def test_bridges(meshed):
    """A head names a bridged network when both manifests name each other, and then it must."""
    host, other = meshed.hosts[0], Host(9, address="10.2.0.9")
    signed(meshed.network([other], network=NET2, cidrs=["10.2.0.0/16"], bridges=[NET]))
    refused(meshed.good_head(host, [NET, NET2]), "bridged")  # so far one says so
    signed(meshed.good_head(host))
    signed(meshed.network(meshed.hosts, bridges=[NET2]))
    signed(meshed.good_head(host, [NET, NET2]))
    refused(meshed.good_head(host), "names 1 networks", "2")
    signed(meshed.host(other, networks=[(NET2, None)]))
    signed(meshed.good_head(other, [NET, NET2]))
    signed(meshed.network([other], network=NET2, cidrs=["10.2.0.0/16"]))  # the other one ends it
    signed(meshed.good_head(host))
    refused(meshed.good_head(host, [NET, NET2]), "bridged")


@pytest.mark.parametrize("what, word", [
    ({"bridges": [os.urandom(16)]}, "never been signed"), ({"bridges": [NET2]}, "malformed"), ({"bridges": [NET, NET]}, "malformed"),
    ({"bridges": [NET], "organization": bytes(15) + b"9"}, "another organization"), ({"bridges": [NET], "cidrs": ["10.1.9.0/24"]}, "overlaps"),
    ({"bridges": [bytes([number] * 16) for number in range(17)]}, "malformed"),
])
def test_a_bridge_that_may_not_be(meshed, what, word):
    refused(meshed.network([], network=NET2, **{"cidrs": ["10.2.0.0/16"], **what}), word)


def test_too_many_changes_at_once(hostile):
    hosts = [Host(number) for number in range(40)]
    signed(hostile.network(hosts))
    refused(hostile.network(hosts[:19]), "cosign", "operator")
    refused(hostile.network(hosts + [Host(number) for number in range(100, 121)]), "cosign")
    refused(hostile.network([Host(number, counter=2) for number in range(40)]), "cosign")
    signed(hostile.network(hosts[:20]))
    signed(hostile.network([]))  # 20: small enough


def test_the_cap_can_be_set(folder):
    hostile = start(folder, "--change-cap", "2")
    signed(hostile.client.keyset(keyset(hostile.root, [hostile.signd.public])))
    hosts = [Host(number) for number in range(5)]
    signed(hostile.network(hosts))
    refused(hostile.network(hosts[:2]), "3 of 5")
    signed(hostile.network(hosts[:3]))
    hostile.client.close()
    assert hostile.signd.stop() == 0


# -- host documents

@pytest.mark.parametrize("networks, word", [
    ([(NET, ["10.1.0.99/32"])], "not its address"), ([(NET, ["10.1.0.2/32"])], "not its address"), ([(NET2, None)], "never been signed"),
    ([(NET, ["10.1.0.1/32", "10.1.0.2/32"])], "addresses"), ([(NET, ["10.1.0.1/32", "10.1.0.1/32"])], "addresses"),
    ([(NET, ["10.1.0.0/24"])], "malformed"), ([(NET, None), (NET, None)], "malformed"),
])
def test_host_documents_that_do_not_belong_to_the_host(meshed, networks, word):
    refused(meshed.host(meshed.hosts[0], networks), word)


@pytest.mark.parametrize("more", [{"generation": 1}, {"generation": 3}, {"organization": OTHER_ORG}])
def test_host_documents_that_do_not_follow(meshed, more):
    refused(meshed.host(meshed.hosts[0], [] if more.get("generation") == 1 else ((NET, None),), **more), last=1)


def test_a_host_that_is_not_in_the_network(meshed):
    refused(meshed.host(Host(9)), "not among")


def test_a_network_of_another_organization(meshed):
    signed(meshed.network([Host(7)], network=NET2, organization=OTHER_ORG))
    refused(meshed.host(Host(7), [(NET2, None)]), "another organization")


# -- heads

def test_heads_that_name_what_is_not_current(meshed):
    host, other = meshed.hosts[0], meshed.hosts[1]
    keys, own, network = meshed.keyset_entry(), meshed.entry(wire.HOST, host.id), meshed.entry(wire.NETWORK, NET)
    old_network, old_own = network, own
    signed(meshed.network(meshed.hosts + [Host(3)]))
    network = meshed.entry(wire.NETWORK, NET)
    signed(meshed.network([Host(8)], network=NET2))
    foreign = meshed.entry(wire.NETWORK, NET2)
    wrong_keys = keys[:4] + [bytes(32)]
    for entries, word in [
            ([keys, own, old_network], "not what was last signed"), ([keys, own], "networks"), ([own, network], "keyset"),
            ([keys, network], "host document"), ([keys, own, network, foreign], "network"), ([keys, own, foreign], "network"),
            ([keys, meshed.entry(wire.HOST, other.id), network], "host document"),
            ([keys, own, meshed.entry(wire.HOST, other.id), network], "another host"),
            ([wrong_keys, own, network], "keyset"), ([keys, own, network[:4] + [bytes(32)]], "last signed"),
            ([keys, own[:4] + [bytes(32)], network], "last signed"), ([keys, own, network, network], "malformed"), ([], "")]:
        refused(meshed.head(host, entries), word)
    signed(meshed.head(host, [keys, own, network]))
    refused(meshed.head(host, [keys, own, network], organization=OTHER_ORG), "organization")
    refused(meshed.head(host, [keys, own, network], id=other.id), "header")
    refused(meshed.head(host, [keys, own, network], generation=7), "generation")
    signed(meshed.host(host, []))
    refused(meshed.head(host, [keys, old_own, network], generation=1), "last signed")
    signed(meshed.good_head(host, []))


@pytest.mark.parametrize("kind", [wire.KEYSET, wire.NETWORK, wire.REGISTRATION, wire.RECEIPT, wire.DEPARTURE, 0, 8, 255])
def test_other_types_are_not_signed(meshed, kind):
    refused(meshed.client.sign(kind, [wire.header(DEPLOYMENT, ORG, NET, 1, 2)]), "not for signd")


# -- the socket

@pytest.mark.parametrize("message", [
    b"", b"\xc0", b"\x90", b"\xff" * 100, [99], [SIGN], [SIGN, 3], [SIGN, 3, b"x", 1], [SIGN, "3", b"x"], [SIGN, 256, b"x"],
    [SIGN, 3, bytes(32001)], [SIGN_KEYSET, bytes(16001)], [SIGN_NETWORK, b"x", b"", b"", 1, 1], [SIGN_DONE, b"x"], [SIGN_REFUSED, 1, "x"], [1, bytes(32)],
])
def test_what_is_no_message_hangs_up(meshed, message):
    assert meshed.client.call(message) is None
    meshed.again()
    signed(meshed.good_head(meshed.hosts[0]))


def test_unsealed_memory_hangs_up(meshed):
    root, nodes = wire.trie([])
    payload = [wire.header(DEPLOYMENT, ORG, NET2, 1, 1), "x", [wire.prefix("10.1.0.0/16")], 1380, 25, 0, [], 0, root]
    assert meshed.client.network(payload, list(nodes.values()), seal=False) is None
    meshed.again()
    signed(meshed.good_head(meshed.hosts[0]))


def test_descriptors_that_nobody_asked_for_hang_up(meshed):
    with open("/dev/null", "rb") as file:
        assert meshed.client.call([SIGN, wire.HEAD, b"x"], [file.fileno()]) is None


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\x90", os.urandom(300), b"\x91" * 1000, wire.pack([1, 2, 3])])
@pytest.mark.parametrize("kind", [wire.HEAD, wire.HOST])
def test_malformed_documents(meshed, kind, payload):
    refused(meshed.client.call([SIGN, kind, payload]), "malformed")


def test_everything_survives_a_crash(meshed):
    meshed.signd.kill()
    meshed.signd.start()
    meshed.again()
    signed(meshed.good_head(meshed.hosts[0]))
    refused(meshed.network(meshed.hosts + [Host(4)], generation=1), "does not follow", last=1)
    signed(meshed.network(meshed.hosts + [Host(4)]))


def test_a_database_that_was_exchanged_does_not_verify(hostile):
    """The keyset on the disk is verified again."""
    import sqlite3
    hostile.signd.stop()
    with sqlite3.connect(os.path.join(hostile.signd.state, "state.db")) as database:
        database.execute("UPDATE meta SET value = ? WHERE name = 'keyset'", (keyset(wire.Key("another root"), [hostile.signd.public]),))
    with pytest.raises(AssertionError, match="does not verify"):
        hostile.signd.start()


def test_the_key_and_its_folder_are_closed_to_others(hostile):
    assert os.stat(os.path.join(hostile.signd.state, "state.db")).st_mode & 0o077 == 0 or os.stat(hostile.signd.state).st_mode & 0o077 == 0
    secret = open(os.path.join(hostile.signd.state, "online.key"), "rb").read()
    assert secret.hex() not in hostile.signd.text()
