# SPDX-License-Identifier: Apache-2.0
"""A locked network against a control plane that was taken over whole.

forge has the online key and everything that controld and signd know: its heads, manifests, tries and host documents are valid. It has the operator's key
too, but only what a test calls the operator signs with it: the control plane may show what an operator signed once, and sign with the keys that it has.
Each attack is refused, is told as such, and nothing on the host moves.
"""

import os

import pytest

import rig as rigs

pytest.register_assert_rewrite("netd_rig")
from netd_fixtures import make_rig, whole_host  # noqa: E402,F401
from netd_rig import CIDR, ENDPOINT, OWN, PEERS, SOCKETS, NetdHost  # noqa: E402  (the line above comes first)

LISTED = "self,0-19"
generations = {"list": 0}


def operator(host, words):
    """An operator signs a list for "mesh"."""
    generations["list"] += 1
    host.forge(f"admission mesh generation={generations['list']} {words}")


def lock(host):
    """The network of all tests, locked: its 20 peers and this host are on the list."""
    operator(host, f"hosts={LISTED}")
    host.forge("network mesh locked=1 bridges=none mine=1")
    host.apply()


@pytest.fixture(scope="module", name="shared")
def make_host(net):
    host = NetdHost(net)
    host.keyset("operator=operator,second")
    yield host
    host.close()


@pytest.fixture(name="host")
def locked_host(shared):
    """Begin anew as operators could: the network is unlocked, filled again, and locked."""
    shared.connect()
    for command in ("empty", f"network mesh cidr={CIDR} mtu=1380 keepalive=0", f"self mesh address={OWN}",
                    f"peers mesh count=20 base={PEERS} endpoint={ENDPOINT}"):
        shared.forge(command)
    operator(shared, f"hosts={LISTED} locked=0")
    shared.apply()
    lock(shared)
    assert shared.device() == shared.published() and len(shared.device()) == 20
    yield shared
    print(shared.host.log_tails(20))


def test_admitted_and_evicted(host):
    """What operators sign happens: a host is admitted, it is a peer; it is evicted, it is none."""
    host.forge(f"peer mesh 30 address=100.64.1.30 endpoint={ENDPOINT}")
    host.publish()
    host.refused("not-admitted")
    operator(host, f"hosts={LISTED},30")
    assert host.offer()["outcome"] == "applied"
    assert len(host.device()) == 21
    operator(host, f"hosts={LISTED}")
    host.forge("unpeer mesh 30")
    host.apply()
    assert len(host.device()) == 20


# Valid documents of a control plane that wants more than its operators do: what it does, and the code of the refusal.
ATTACKS = {
    "adds a peer": ("not-admitted", ["peer mesh 30 address=100.64.1.30"]),
    "replaces a host by one of its own": ("not-admitted", ["unpeer mesh 7", "peer mesh 30 address=100.64.1.8"]),
    "keeps a host that operators took off": ("not-admitted", ["operator hosts=self,0-18"]),
    "gives a host's address to a stranger's key": ("statement", ["peer mesh 7 address=100.64.1.8 wg=30 unsigned=1"]),
    "brings back an evicted host with the list from before": ("admission", ["operator hosts=self,0-18", "unpeer mesh 19", "apply",
                                                                            "peer mesh 19 address=100.64.1.20", "admission mesh back=1"]),
    "does so by way of a time without the network": ("admission", [
        "operator hosts=self,0-18", "unpeer mesh 19", "apply", "network aside cidr=10.77.0.0/16", "self aside address=10.77.0.1",
        "network mesh mine=0", "host networks=aside", "apply", "host", "network mesh mine=1", "peer mesh 19 address=100.64.1.20",
        "admission mesh back=1"]),
    "signs a list itself": ("forged", ["peer mesh 30 address=100.64.1.30", "admission mesh hosts=self,0-19,30 sign=online generation=9000"]),
    "has a list signed by a key that no keyset lists": ("forged", ["peer mesh 30 address=100.64.1.30",
                                                                   "admission mesh hosts=self,0-19,30 sign=stranger generation=9000"]),
    "shows a list of another deployment": ("deployment", ["admission mesh hosts=self,0-19 deployment=elsewhere generation=9000"]),
    "passes a manifest off as a list": ("malformed", ["admission mesh hosts=self,0-19 sign=online type=network/1 generation=9000"]),
    "names no list": ("locked", ["peer mesh 30 address=100.64.1.30", "admission mesh none=1"]),
    "says that the network is not locked": ("locked", ["network mesh locked=0"]),
    "says so and names no list": ("locked", ["network mesh locked=0", "peer mesh 30 address=100.64.1.30", "admission mesh none=1"]),
    "lets the network go and comes back with it unlocked": ("locked", ["network aside cidr=10.77.0.0/16", "self aside address=10.77.0.1",
                                                                       "network mesh mine=0", "host networks=aside", "apply", "host",
                                                                       "network mesh locked=0 mine=1", "admission mesh none=1"]),
    "bridges a network in": ("locked", ["network two cidr=10.77.0.0/16 bridges=mesh", "network mesh bridges=two mine=1",
                                        "peer two 40 address=10.77.0.40", "network two mine=1", "host networks=mesh"]),
    "gives its range to another network of this host": ("locked", ["network twin cidr=100.64.1.0/24", "self twin address=100.64.1.200",
                                                                   "peer twin 40 address=100.64.1.40"]),
    "gives its range to another network once this host is out of it": ("locked", ["network twin cidr=100.64.1.0/24",
                                                                                  "self twin address=100.64.1.200", "network mesh mine=0",
                                                                                  "host networks=twin"]),
    "takes a range away to give it to another": ("locked", ["network mesh cidr=100.64.0.0/17 mine=1", "network twin cidr=100.64.128.0/17",
                                                            "self twin address=100.64.128.1"]),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_control_plane_taken_over(host, name):
    code, steps = ATTACKS[name]
    peers, pid = 20, host.pid()
    for step in steps:
        if step == "apply":
            host.apply()
            peers = len(host.device())
        elif step.startswith("operator "):
            operator(host, step.removeprefix("operator "))
        else:
            host.forge(step)
    host.publish()
    told = host.refused(code)
    assert code != "locked" or "locked" in told["reason"], told
    assert len(host.device()) == peers and host.pid() == pid
    assert (host.host.enter("ping", "-c1", "-W2", OWN, check=False).returncode == 0) == (peers > 0)


def test_operators_list_names_the_bridge(host):
    """Over a bridge that the list names come the hosts on the list; where the other network is locked too, those on its own."""
    for command in ("network two cidr=10.78.0.0/16 bridges=mesh mine=1", "network mesh bridges=two mine=1",
                    f"peer two 40 address=10.78.0.40 endpoint={ENDPOINT}", "host networks=mesh"):
        host.forge(command)
    operator(host, f"hosts={LISTED} bridges=two")
    host.publish()
    assert "host" in host.refused("not-admitted")["reason"]
    operator(host, f"hosts={LISTED},40 bridges=two")
    assert host.offer()["outcome"] == "applied"
    assert len(host.device()) == 21
    # The other network's operators lock it: their list counts for its hosts, and must name the bridge as well.
    host.forge("network two locked=1 mine=1")
    host.forge("admission two hosts=40 generation=1")
    host.publish()
    host.refused("locked")
    host.forge("admission two hosts=40 bridges=mesh generation=2")
    assert host.offer()["outcome"] == "applied"
    operator(host, f"hosts={LISTED} bridges=two")
    assert host.offer()["outcome"] == "applied"
    host.forge("peer two 41 address=10.78.0.41")
    host.publish()
    host.refused("not-admitted")


def test_a_list_made_of_one_from_before(host):
    """An operator who was shown the list from before an eviction signs two more on top of it: all of them valid, the second newer than any that the host has seen.
    Whoever was evicted is not on it by a later word, so it is refused; an operator who means it can admit him anew."""
    operator(host, "hosts=self,0-18")
    host.forge("unpeer mesh 19")
    host.apply()
    generations["list"] += 2
    host.forge(f"admission mesh generation={generations['list']} hosts=self,0-19,30 since=1")
    for peer, address in ((19, 20), (30, 30)):
        host.forge(f"peer mesh {peer} address=100.64.1.{address} endpoint={ENDPOINT}")
    host.publish()
    assert "was not admitted since" in host.refused("admission")["reason"]
    host.forge(f"admission mesh generation={generations['list']} hosts=self,0-18,30 since={generations['list'] - 2}")
    host.forge("unpeer mesh 19")
    host.publish()
    host.refused("admission")
    operator(host, f"hosts={LISTED},30")
    host.forge("peer mesh 19 address=100.64.1.20")
    host.apply()
    assert len(host.device()) == 21


def test_two_lists_of_one_generation(host):
    """Whoever signed the second one: what was seen first counts."""
    host.forge(f"admission mesh generation={generations['list']} hosts={LISTED},30")
    host.forge("peer mesh 30 address=100.64.1.30")
    host.publish()
    host.refused("admission")


def test_a_list_of_a_key_that_is_no_operators_any_more(host):
    """A keyset without the key that signed: the list must be signed anew before anything changes."""
    operator(host, f"hosts={LISTED} sign=second")
    assert host.offer()["outcome"] == "applied"
    host.keyset("operator=operator")
    host.forge("network mesh mtu=1400")
    host.publish()
    host.refused("forged")
    operator(host, f"hosts={LISTED}")
    assert host.offer()["outcome"] == "applied"
    host.keyset("operator=operator,second")


def offer_and_die(host, call):
    """One offer, in which netd is killed as it begins this system call ("fsync:when=2": the second one)."""
    pid = host.pid()
    name, _, when = call.partition(":")
    tracer = host.host.popen("strace", "-f", "-qq", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:{when}", "-o",
                             os.path.join(host.host.folder, "strace"), "-p", str(pid))
    try:
        rigs.wait_until("strace", lambda: "TracerPid:\t0\n" not in read_status(pid))
        host.forge.send("offer")
        rigs.wait_until("the end of netd", lambda: host.host.units()["loopback-netd"]["pid"] != pid, interval=0.01)
        assert host.forge.answer()["closed"]
    finally:
        tracer.terminate()
        tracer.wait(timeout=10)
    host.start()
    host.connect()


def read_status(pid):
    """/proc of it."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return file.read()


def test_a_list_is_not_forgotten_with_a_change_that_did_not_happen(host):
    """netd dies when the list is on the disk and the journal knows nothing yet: the old configuration is in force, the old list is not good any more."""
    host.forge(f"peer mesh 30 address=100.64.1.30 endpoint={ENDPOINT}")
    operator(host, f"hosts={LISTED},30")
    host.apply()
    operator(host, f"hosts={LISTED}")  # 30 is evicted, and netd does not get to do it
    host.forge("unpeer mesh 30")
    host.publish()
    offer_and_die(host, "fsync:when=2")
    assert len(host.device()) == 21, "what was in force is in force"
    host.forge("admission mesh back=1")
    host.forge(f"peer mesh 30 address=100.64.1.30 endpoint={ENDPOINT}")
    host.publish()
    host.refused("admission")
    operator(host, f"hosts={LISTED}")
    host.forge("unpeer mesh 30")
    host.apply()
    assert len(host.device()) == 20


def test_leaving_forgets_the_lock(net):
    """A host that left the deployment knows of no lock; until then it does."""
    host = NetdHost(net, "h2", peers=3)
    try:
        host.keyset("operator=operator")
        host.forge("admission mesh hosts=self,0-2 generation=7")
        host.forge("network mesh locked=1 mine=1")
        host.apply()
        path = f"{host.host.folder}/lib/netd/locks"
        assert os.path.getsize(path) > 50
        assert host.host.enter("loopback", "leave", "--force", check=False).returncode == 0
        assert not os.path.exists(path)
        assert host.forge(f"pin {SOCKETS}/admin.sock")["pinned"]
        host.connect()
        host.generation = 0
        host.keyset("operator=operator")
        host.forge("network mesh locked=0 mine=1")
        host.forge("admission mesh none=1")
        host.apply()
    finally:
        host.close()


def test_restart_and_epoch_forget_nothing(host):
    """netd dies, and the root starts a new epoch: what it has seen of lists stays."""
    host.restart()
    host.connect()
    assert len(host.device()) == 20
    host.forge("network mesh locked=0")
    host.forge("admission mesh none=1")
    host.publish()
    host.refused("locked")
    host.generation += 1
    host.forge(f"keyset generation={host.generation} epoch=2 operator=operator,second")
    assert host.forge("hand-over")["taken"]
    host.forge("network mesh locked=0")
    host.publish()
    host.refused("locked")
    host.forge("admission mesh back=1")
    host.forge("network mesh locked=1")
    host.publish()
    result = host.offer()
    assert result["outcome"] == "applied", result
    host.forge("peer mesh 30 address=100.64.1.30")
    host.publish()
    host.refused("not-admitted")
