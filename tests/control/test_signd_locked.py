# SPDX-License-Identifier: Apache-2.0
"""signd and what it must not do alone: locked networks, and changes above its cap. Its peer is a controld that was taken over, and has no key."""

import time

import pytest
import wire
from plane import DEPLOYMENT, keyset
from test_signd_hostile import NET, ORG, Host, refused, signed, start

OTHER = bytes([7]) * 16


class Operators:
    """Who sign lists."""

    def __init__(self):
        self.key, self.generation, self.known = wire.Key("operator"), {}, {}

    def list(self, ids, network=NET, **more):
        """What to send with a manifest: the list of these ids, signed."""
        generation = more.get("generation", self.generation.get(network, 0) + 1)
        known = self.known.get(network, {})
        hosts = {one: more.get("since", known.get(one, generation)) for one in ids}
        self.known[network] = hosts
        root, nodes = wire.listing(hosts)
        self.generation[network] = max(generation, self.generation.get(network, 0))
        payload = [wire.header(more.get("deployment", DEPLOYMENT), more.get("organization", ORG), more.get("id", network), 1, generation),
                   more.get("flags", 1), len(ids), root, sorted(more.get("bridges", []))]
        return {"admission": wire.envelope(wire.ADMISSION, payload, more.get("signer", self.key)), "list_nodes": list(nodes.values())}

    def cosign(self, payload, **more):
        """For a manifest's payload."""
        header = wire.header(DEPLOYMENT, ORG, NET, 1, more.get("generation", wire.unpack(payload)[0][4]))
        return wire.envelope(wire.COSIGN, [header, wire.hash_of(payload)], more.get("signer", self.key))


@pytest.fixture(name="operators")
def operators_fixture():
    return Operators()


@pytest.fixture(name="hostile", params=[()])
def hostile_fixture(folder, operators, request):
    """signd with a keyset that lists an operator, and a network of three hosts."""
    hostile = start(folder, *request.param)
    signed(hostile.client.keyset(keyset(hostile.root, [hostile.signd.public], operators=[operators.key.public])))
    hostile.hosts = [Host(number) for number in range(3)]
    signed(hostile.network(hostile.hosts))
    yield hostile
    hostile.client.close()
    assert hostile.signd.stop() in (0, None)


def ids(hosts):
    """Their ids."""
    return [host.id for host in hosts]


def test_no_host_of_a_locked_network_is_given_a_key(hostile, operators):
    """Who makes a host's key can be that host: in a locked network nobody but the host makes it, over a bridge neither."""
    member = hostile.hosts[0]
    signed(hostile.host(member, rotate=1, box=bytes(80)))
    signed(hostile.network(hostile.hosts, flags=1, **operators.list(ids(hostile.hosts), bridges=[OTHER])))
    refused(hostile.host(member, rotate=1, box=bytes(80)), "is locked")
    signed(hostile.host(member, rotate=1))
    far = [Host(40, "10.2.0.40")]
    signed(hostile.network(far, network=OTHER, cidrs=["10.2.0.0/16"]))
    signed(hostile.host(far[0], networks=((OTHER, None),), rotate=1, box=bytes(80)))
    signed(hostile.network(hostile.hosts, flags=1, bridges=[OTHER], **operators.list(ids(hostile.hosts + far), bridges=[OTHER])))
    signed(hostile.network(far, network=OTHER, cidrs=["10.2.0.0/16"], bridges=[NET]))
    refused(hostile.host(far[0], networks=((OTHER, None),), rotate=1, box=bytes(80)), "is locked")


@pytest.mark.parametrize("rotate, box", [(0, bytes(80)), (1, bytes(79)), (1, bytes(81)), (1, b"x")])
def test_boxes_that_are_none(hostile, rotate, box):
    refused(hostile.host(hostile.hosts[0], rotate=rotate, box=box), "malformed")


def test_only_the_list_lets_in(hostile, operators):
    hosts = hostile.hosts
    refused(hostile.network(hosts, flags=1), "admission list", "network lock")
    signed(hostile.network(hosts, flags=1, **operators.list(ids(hosts))))
    refused(hostile.network(hosts, flags=0), "says that it is locked")
    refused(hostile.network(hosts + [Host(4)], flags=1), "not on its admission list", "host admit")
    signed(hostile.network([Host(0, counter=2)] + hosts[1:], flags=1))  # a new key is its host's own business
    signed(hostile.network([Host(0, counter=2)] + hosts[1:] + [Host(4)], flags=1, **operators.list(ids(hosts + [Host(4)]))))
    refused(hostile.network([Host(0, counter=2)] + hosts[1:] + [Host(4)], flags=1, **operators.list(ids(hosts))), "not on its")
    signed(hostile.network([Host(0, counter=2)] + hosts[1:], flags=1, **operators.list(ids(hosts))))
    signed(hostile.network(hosts[1:], flags=1))  # who is on the list need not be there


WRONG = {
    "signd's own key": ({"signer": "signd"}, "operator key"),
    "the root": ({"signer": "root"}, "operator key"),
    "a stranger": ({"signer": "stranger"}, "operator key"),
    "another network's": ({"id": OTHER}, "another network"),
    "another organization's": ({"organization": OTHER}, "another network"),
    "another deployment's": ({"deployment": OTHER}, "another network"),
    "an older one": ({"generation": 1}, "not newer"),
    "another one of the same generation": ({"generation": 2}, "not newer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_lists_are_none(hostile, operators, name):
    hosts = hostile.hosts
    signed(hostile.network(hosts, flags=1, **operators.list(ids(hosts), generation=2)))
    more, word = WRONG[name]
    if "signer" in more:
        more = {"signer": hostile.root if more["signer"] == "root" else wire.Key(more["signer"])}
    refused(hostile.network(hosts + [Host(4)], flags=1, **operators.list(ids(hosts + [Host(4)]), **more)), word)


def test_a_list_made_of_one_from_before(hostile, operators):
    """Newer, and signed by an operator, who had been shown the list from before an eviction."""
    hosts = hostile.hosts
    signed(hostile.network(hosts, flags=1, **operators.list(ids(hosts))))
    before = dict(operators.known[NET])
    signed(hostile.network(hosts[1:], flags=1, **operators.list(ids(hosts[1:]))))
    operators.known[NET] = before
    refused(hostile.network(hosts[1:], flags=1, **operators.list(ids(hosts))), "was not admitted since")
    operators.known[NET] = {host.id: before[host.id] for host in hosts[1:]}
    signed(hostile.network(hosts, flags=1, **operators.list(ids(hosts))))  # admitted anew


def test_the_same_manifest_with_another_list_is_another_one(hostile, operators):
    """The same payload again has the same signature, but not if a list comes with it that signd has not taken."""
    hosts = hostile.hosts
    first = operators.list(ids(hosts))
    before = signed(hostile.network(hosts, flags=1, **first))
    generation = hostile.generations[NET]
    assert signed(hostile.network(hosts, flags=1, generation=generation, **first)) == before
    refused(hostile.network(hosts, flags=1, generation=generation, **operators.list(ids(hosts))), "does not follow", last=generation)
    signed(hostile.network(hosts, flags=1, generation=generation + 1, **operators.list(ids(hosts))))


def test_a_list_without_its_nodes(hostile, operators):
    many = [Host(number, address=f"10.1.{number // 200}.{number % 200 + 1}") for number in range(80)]
    sent = operators.list(ids(many))
    refused(hostile.network(hostile.hosts, flags=1, admission=sent["admission"]), "missing")
    refused(hostile.network(hostile.hosts, flags=1, admission=sent["admission"], list_nodes=sent["list_nodes"][1:]), "missing")
    signed(hostile.network(hostile.hosts, flags=1, **sent))
    hostile.again()
    signed(hostile.network(hostile.hosts[:2] + many[5:9], flags=1))  # the nodes are kept


def test_a_refused_list_is_not_taken(hostile, operators):
    """List and manifest go together: a list whose manifest is refused is as if it had never come."""
    hosts = hostile.hosts
    refused(hostile.network(hosts, flags=0, **operators.list(ids(hosts))), "locked")
    signed(hostile.network(hosts, flags=1, **operators.list(ids(hosts), generation=1)))


def test_heads_name_the_list(hostile, operators):
    host = hostile.hosts[0]
    signed(hostile.host(host))
    first = operators.list(ids(hostile.hosts))
    signed(hostile.network(hostile.hosts, flags=1, **first))
    entries = [hostile.keyset_entry(), hostile.entry(wire.HOST, host.id), hostile.entry(wire.NETWORK, NET)]
    entries[0][4] = wire.hash_of(keyset(hostile.root, [hostile.signd.public], operators=[operators.key.public]))
    named = [wire.ADMISSION, NET, 1, 1, wire.hash_of(first["admission"])]
    refused(hostile.head(host, entries), "without its admission list")
    signed(hostile.head(host, entries + [named]))
    refused(hostile.head(host, entries + [named[:3] + [2, named[4]]]), "not what was last signed")
    refused(hostile.head(host, entries + [named, [wire.ADMISSION, OTHER] + named[2:]]), "is not what was last signed")
    second = operators.list(ids(hostile.hosts))
    signed(hostile.network(hostile.hosts, flags=1, **second))
    entries[2] = hostile.entry(wire.NETWORK, NET)
    refused(hostile.head(host, entries + [named]), "not what was last signed")
    signed(hostile.head(host, entries + [[wire.ADMISSION, NET, 1, 2, wire.hash_of(second["admission"])]]))


def test_bridges_of_a_locked_network(hostile, operators):
    hosts, far = hostile.hosts, [Host(50, address="10.2.0.50")]
    signed(hostile.network(far, network=OTHER, cidrs=["10.2.0.0/16"]))
    signed(hostile.network(hosts, flags=1, **operators.list(ids(hosts))))
    refused(hostile.network(hosts, flags=1, bridges=[OTHER]), "names no bridge")
    refused(hostile.network(far, network=OTHER, cidrs=["10.2.0.0/16"], bridges=[NET]), "names no bridge")
    refused(hostile.network(hosts, flags=1, bridges=[OTHER], **operators.list(ids(hosts), bridges=[OTHER])), "not on its admission list")
    signed(hostile.network(hosts, flags=1, bridges=[OTHER], **operators.list(ids(hosts + far), bridges=[OTHER])))
    signed(hostile.network(far, network=OTHER, cidrs=["10.2.0.0/16"], bridges=[NET]))
    refused(hostile.network(far + [Host(51, address="10.2.0.51")], network=OTHER, cidrs=["10.2.0.0/16"], bridges=[NET]), "not on its")


def test_an_expired_operator(hostile, operators):
    signed(hostile.network(hostile.hosts, flags=1, **operators.list(ids(hostile.hosts))))
    past = int(time.time()) - 100
    payload = [wire.header(DEPLOYMENT, wire.ZERO_ID, DEPLOYMENT, 1, 2), "test", hostile.root.public,
               [[hostile.signd.public, wire.KEY_ONLINE, 0], [operators.key.public, wire.KEY_OPERATOR, past]]]
    signed(hostile.client.keyset(wire.envelope(wire.KEYSET, payload, hostile.root)))
    refused(hostile.network(hostile.hosts, flags=1, **operators.list(ids(hostile.hosts))), "expired")
    signed(hostile.network(hostile.hosts[:2], flags=1))  # what was signed before stays good


def test_an_operator_who_is_none_any_more(hostile, operators):
    signed(hostile.network(hostile.hosts, flags=1, **operators.list(ids(hostile.hosts))))
    payload = [wire.header(DEPLOYMENT, wire.ZERO_ID, DEPLOYMENT, 1, 2), "test", hostile.root.public,
               [[hostile.signd.public, wire.KEY_ONLINE, 0], [wire.Key("second").public, wire.KEY_OPERATOR, 0]]]
    signed(hostile.client.keyset(wire.envelope(wire.KEYSET, payload, hostile.root)))
    refused(hostile.network(hostile.hosts[:2], flags=1), "no operator's any more")
    operators.key = wire.Key("second")
    signed(hostile.network(hostile.hosts[:2], flags=1, **operators.list(ids(hostile.hosts))))


# -- the cap

def manifest(hostile, hosts, **more):
    """The payload that Hostile.network() would send."""
    sent = []
    client, hostile.client = hostile.client, type("Recorder", (), {"network": lambda self, payload, nodes, **rest: sent.append(payload)})()
    hostile.network(hosts, **more)
    hostile.client = client
    return wire.pack(sent[0])


@pytest.mark.parametrize("hostile", [("--change-cap", "2")], indirect=True)
def test_a_cosignature_lifts_the_cap_for_one_manifest(hostile, operators):
    more = hostile.hosts + [Host(number) for number in range(10, 14)]
    answer = hostile.network(more)
    assert "cosign" in refused(answer) and answer[3] is True, "and says that a co-signature would do"
    payload = manifest(hostile, more)
    other = manifest(hostile, more + [Host(20)])
    for wrong in (operators.cosign(payload, signer=wire.Key("stranger")), operators.cosign(payload, signer=hostile.root),
                  operators.cosign(other), operators.cosign(payload, generation=7), b"garbage"):
        refused(hostile.network(more, cosign=wrong), "co-signature")
    signed(hostile.network(more, cosign=operators.cosign(payload)))
    # The same word does not serve for the next one.
    refused(hostile.network(more[:3], cosign=operators.cosign(payload)), "co-signature")
    answer = hostile.network(more[:3])
    assert answer[3] is True
    refused(hostile.network(more[:3], count=77), "cosign")
    assert refused(hostile.network(hostile.hosts + [Host(10, counter=0)])) and hostile.network(more[:3], generation=99)[3] is False


@pytest.mark.parametrize("hostile", [("--change-cap", "2")], indirect=True)
def test_a_new_list_needs_no_cosignature(hostile, operators):
    """Whom operators take off, they need not say twice."""
    more = hostile.hosts + [Host(number) for number in range(10, 14)]
    signed(hostile.network(more, flags=1, **operators.list(ids(more))))
    refused(hostile.network(more[:3], flags=1), "cosign")
    signed(hostile.network(more[:3], flags=1, **operators.list(ids(more[:3]))))
