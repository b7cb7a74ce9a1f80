# SPDX-License-Identifier: Apache-2.0
"""Somebody else runs the code of fetchd, or of another daemon without privileges (P1, P4): it can delay, and that shows; it changes nothing.

h1's fetchd is stopped and a stand-in (taken_over.py) has its uid, its socket to netd and its transport key. The control plane has a newer generation that
h1 should get. Whatever the stand-in does, the mesh of h1 stays, as wg(8) and ip(8) show it; the API tells what h1 has and not what fetchd says that it
has; and once the real fetchd is back, h1 has what it should.
"""

import os
import time

import pytest

import fleetview
import procview
import rig as rigs
import taken_over
from taken_over import BLOBS, HELLO, KEYSET, LACK, OFFER, RESULT, WANT

REFUSED = 3  # enum outcome of libdoc/receipt.h
NETD_GROWTH_KIB = 4096


class Siege:
    """h1 behind a fetchd that was taken over."""

    def __init__(self, fleet):
        self.fleet, self.host = fleet, fleet.host("h1")
        self.gone = fleetview.status(fleet, "h3")["public_key"]
        self.host.launch("stop", "loopback-fetchd")
        fleet.ctl("host", "leave", "h3", "mesh")
        self.behind = self.entry()["acknowledged_generation"]
        assert self.behind < fleet.status()["generation"]
        self.intruder = self.take_over("h1")
        self.before, self.pid = fleetview.overlay_view(fleet, "h1"), self.host.pid("netd")
        assert self.gone in self.before[0]

    def take_over(self, name):
        """A stand-in for the fetchd of a host, with what that knew."""
        intruder = taken_over.TakenOver(self.fleet.host(name), "_lb-fetchd")
        intruder.know(rigs.CONTROL_ADDRESS, 8443, "control.demo", self.fleet.read("ca.pem"))
        return intruder

    def entry(self, name="h1"):
        """What the API says of a host in the network."""
        return next(entry for entry in self.fleet.status()["hosts"] if entry["name"] == name)

    def receipt(self, name="h1"):
        """What the API says of a host's last receipt."""
        return self.fleet.ctl("host", "show", name)["receipt"]

    def honest_head(self):
        """Greet netd and get what it should be told: (nonce, head, blobs)."""
        _, nonce, have = self.intruder.greet()
        status, (_, head, blobs) = self.intruder.poll(nonce, have)
        assert status == 200
        return nonce, head, blobs

    def nothing_moved(self):
        """The mesh of h1 is what it was, its netd is the same process, and the API says so."""
        assert fleetview.overlay_view(self.fleet, "h1") == self.before
        assert self.host.pid("netd") == self.pid
        assert self.entry()["acknowledged_generation"] == self.behind and not self.fleet.status()["converged"]

    def refused(self, code):
        """netd's answer to what was just sent: refused, for this reason, and nothing moved. Returns the receipt."""
        result = self.intruder.await_number(RESULT)
        assert result and result[1] == REFUSED, result
        told = fleetview.netd_status(self.fleet, "h1")["last_result"]
        assert (told["outcome"], told["code"], told["reason"]) == ("refused", code, result[3])
        self.nothing_moved()
        return result[2]

    def hung_up_on(self):
        """netd has closed the line, and nothing moved."""
        assert self.intruder.receive() is None
        self.nothing_moved()


@pytest.fixture(name="siege")
def siege_fixture(fleet):
    pings = fleetview.Pings(fleet)
    siege = Siege(fleet)
    yield siege
    siege.nothing_moved()
    siege.intruder.end()
    siege.host.launch("start", "loopback-fetchd")
    fleet.wait_converged([name for name in fleet.members() if name != "h3"], timeout=40)
    assert siege.gone not in fleetview.peers(fleet, "h1")
    assert pings.stop()[1] == 0
    fleetview.set_membership(fleet, "h3", True)


# ---- what it gives to netd

def test_withholds(siege):
    """Nothing is passed on: h1 tells that its last proof of freshness grows old, the API that h1 lacks the newest generation."""
    siege.intruder.greet()
    first = fleetview.netd_status(siege.fleet, "h1")
    time.sleep(2.1)
    assert fleetview.netd_status(siege.fleet, "h1")["seconds_since_fresh"] >= first["seconds_since_fresh"] + 2
    siege.nothing_moved()


def test_replays_an_old_head(siege):
    """A head for a nonce that is over, though all else in it is right."""
    _, old, _ = siege.honest_head()
    siege.intruder.greet()
    assert siege.intruder.send(OFFER, old)
    siege.refused("replayed")


def test_makes_a_head(siege):
    """A head with one bit changed, one cut short, one of its own key's signing, and no head at all."""
    _, head, _ = siege.honest_head()
    made = taken_over.wire.envelope(taken_over.wire.HEAD, taken_over.wire.unpack(head)[1], taken_over.wire.Key("intruder"))
    for words, code in ((head[:-1], "malformed"), (head[:-1] + bytes([head[-1] ^ 1]), "forged"), (made, "forged"), (b"", "malformed"),
                        (b"\xff" * 16000, "malformed")):
        siege.intruder.greet()
        assert siege.intruder.send(OFFER, words)
        siege.refused(code)


def test_mixes_in_the_head_of_another_host(siege):
    """Two hosts' fetchds in one hand: h2's head for h1's nonce is no good to h1."""
    other = siege.take_over("h2")
    try:
        _, nonce, _ = siege.intruder.greet()
        status, (_, head, _) = other.poll(nonce, b"", host=bytes.fromhex(siege.fleet.ctl("host", "show", "h2")["id"]))
        assert status == 200
    finally:
        other.end()
    assert siege.intruder.send(OFFER, head)
    siege.refused("other-host")


def test_brings_other_documents(siege):
    """The right head, and then documents of the generation before, bytes that nobody asked for, nothing, or a list that is torn."""
    for blobs in (lambda wanted: [b"x" * 100], lambda wanted: wanted + [b"x"], lambda wanted: wanted + wanted[:1], lambda wanted: [b""]):
        _, head, wanted = siege.honest_head()
        assert siege.intruder.send(OFFER, head) and siege.intruder.await_number(WANT)
        brought = blobs(wanted[:-1] or wanted)
        assert siege.intruder.send_blobs(brought)
        siege.refused("blob-mismatch")
    _, head, wanted = siege.honest_head()
    assert siege.intruder.send(OFFER, head) and siege.intruder.await_number(WANT)
    assert siege.intruder.send(LACK, taken_over.wire.hash_of(b"x"), "they are all gone, believe me")
    siege.refused("missing-node")


def test_keeps_a_hand_on_the_bytes(siege):
    """Blobs in a memfd that can still be written to, a number of bytes that is not so, or no descriptor at all: netd hangs up."""
    for act in (lambda blobs: siege.intruder.send_blobs(blobs, seal=False), lambda blobs: siege.intruder.send(BLOBS, 1, 100)):
        _, head, blobs = siege.honest_head()
        assert siege.intruder.send(OFFER, head) and siege.intruder.await_number(WANT)
        act(blobs)
        siege.hung_up_on()


def test_makes_a_keyset(siege):
    """A keyset of its own making, with its own key as the online key, would let it sign everything: refused."""
    wire = taken_over.wire
    _, nonce, _ = siege.intruder.greet()
    status, (keyset, _, _) = siege.intruder.poll(nonce)
    assert status == 200 and keyset
    own = wire.Key("intruder")
    payload = wire.unpack(keyset)[1].replace(wire.unpack(keyset)[2][0][0], own.public[:8])
    for made in (wire.envelope(wire.KEYSET, payload, own), keyset[:-1] + bytes([keyset[-1] ^ 1]), b"\x00"):
        siege.intruder.greet()
        assert siege.intruder.send(KEYSET, made)
        siege.refused("keyset")


def test_wrong_messages(siege):
    """Messages that are not its to send, out of turn, too long, torn or unknown: netd hangs up at once and goes on with the next caller."""
    wire = taken_over.wire
    frames = [wire.pack(fields) for fields in (
        [2, True, True, b"\x01" * 32, b"\x02" * 32, b""], [4, b"\x01" * 32, b""], [6, b"\x01" * 32], [9, 1, b"", ""],  # netd's
        [20, b"\x01" * 32], [21, True], [30, False], [40], [50, "https://x", "a.b", "", "h"], [60, 3, b"x"],     # of other sockets
        [HELLO, b"\x01" * 32], [LACK, b"", ""], [0], [10], [255], [OFFER], [OFFER, b"", b""], [OFFER, 7], [OFFER, b"x" * 16001])]
    frames += [b"", b"\x00", b"\xc1", b"\x91", wire.pack([OFFER, b"x"]) + b"\x00", b"\xdd\xff\xff\xff\xff" + bytes(60), os.urandom(65000)]
    for frame in frames:
        siege.intruder.greet()
        siege.intruder.send_raw(frame)
        while (answer := siege.intruder.receive()) is not None:
            assert answer[0] != RESULT, frame[:40]
    siege.nothing_moved()


def test_floods_netd(siege):
    """More than netd can take, without reading a word: netd stays small, tells everybody else how things are, and then takes the real one."""
    wire = taken_over.wire
    before = int(procview.status(siege.pid)["VmRSS"].split()[0])
    hello = wire.pack([HELLO, b"\x07" * 32])
    offer = wire.pack([OFFER, os.urandom(15000)])
    taken = siege.intruder.flood([hello] + [offer] * 200, 20) + siege.intruder.flood([hello] * 3, 200) + siege.intruder.flood([], 300)
    assert taken > 500
    began = time.monotonic()
    assert fleetview.netd_status(siege.fleet, "h1")["state"] == "running"
    assert time.monotonic() - began < 2
    growth = int(procview.status(siege.pid)["VmRSS"].split()[0]) - before
    assert growth < NETD_GROWTH_KIB, f"netd grew by {growth} KiB"
    siege.nothing_moved()


# ---- what it tells the control plane

def test_lies_about_what_h1_has(siege):
    """have names the newest generation as if netd had it: the API goes by netd's receipts alone."""
    nonce, head, _ = siege.honest_head()
    wire = taken_over.wire
    entries = wire.unpack(wire.unpack(head)[1])[3]
    roots = [entry + [b""] for entry in entries]
    for have in (wire.pack(roots), b""):
        assert siege.intruder.poll(nonce, have)[0] == 200
        siege.nothing_moved()


def test_lies_about_receipts(siege):
    """Receipts of its own making, a changed one, an old one, and h1's as h2's: taken by nobody. The genuine one of a refusal is, because netd signed it."""
    wire = taken_over.wire
    nonce, head, _ = siege.honest_head()
    assert siege.intruder.send(OFFER, head[:-1] + bytes([head[-1] ^ 1]))
    genuine = siege.refused("forged")
    _, nonce, have = siege.intruder.greet()
    entries = wire.unpack(wire.unpack(head)[1])[3]
    payload = wire.unpack(wire.unpack(genuine)[1])
    payload[1:5] = [1, "", "", entries]  # applied, all of it
    payload[0][4] += 1
    false = [wire.envelope(wire.RECEIPT, payload, wire.Key("intruder")), genuine[:-1] + bytes([genuine[-1] ^ 1]), b"", b"\xc0", b"x" * 4000]
    before = siege.receipt()
    for receipt in false:
        assert siege.intruder.poll(nonce, have, [receipt])[0] in (200, 400)
        assert siege.receipt() == before
        siege.nothing_moved()
    assert siege.intruder.poll(nonce, have, [genuine])[0] == 200
    told = siege.receipt()
    assert (told["outcome"], told["code"]) == ("refused", "forged")
    assert siege.intruder.poll(nonce, have, [genuine])[0] == 200
    assert siege.receipt() == told
    other = siege.take_over("h2")
    try:
        before = siege.receipt("h2")
        host = bytes.fromhex(siege.fleet.ctl("host", "show", "h2")["id"])
        assert other.poll(nonce, b"", [genuine], host=host)[0] == 200
        assert siege.receipt("h2") == before
    finally:
        other.end()


def test_speaks_for_another_host(siege):
    """A request under h2's name with h1's key is no request."""
    siege.intruder.greet()
    before = siege.fleet.ctl("host", "show", "h2")
    status, answer = siege.intruder.poll(os.urandom(32), host=bytes.fromhex(before["id"]))
    assert (status, answer[0]) == (401, "signature")
    status, answer = siege.intruder.post("/v1/agent/leave", [b""], host=bytes.fromhex(before["id"]))
    assert (status, answer[0]) == (401, "signature")
    assert siege.fleet.ctl("host", "show", "h2")["state"] == "online"


# ---- what it does on the host

SECRETS = ("/var/lib/loopback/netd", "/var/lib/loopback/fetchd")
WRITABLE = ("/etc/loopback", "/usr/libexec/loopback", "/run/loopback", "/run/loopback/netd", "/run/wireguard", "/var/lib/loopback", "/etc")


@pytest.mark.parametrize("user,own", [("_lb-fetchd", "fetchd"), ("_lb-wg", "wg"), ("nobody", None)])
def test_reaches_nobody_else(fleet, user, own):
    """The uid of any daemon but netd (and of anybody else) opens no file of another, connects to no socket that is not for it, and can neither trace nor
    signal another; it cannot touch the interface, the addresses, the routes, nor open a raw socket."""
    host = fleet.host("h1")
    intruder = taken_over.TakenOver(host, user)
    before = fleetview.overlay_view(fleet, "h1")
    try:
        for path in SECRETS:
            if own == os.path.basename(path):
                continue
            assert intruder.attempt("list", path) == "EACCES"
            for name in os.listdir(os.path.join(host.folder, "lib", os.path.basename(path))):
                assert intruder.attempt("open", f"{path}/{name}") == "EACCES"
        for path in WRITABLE:
            assert intruder.attempt("make", f"{path}/intruder") in ("EACCES", "EROFS"), path
        allowed = {"documents": ["_lb-fetchd"], "tunnel": ["_lb-wg"], "admin": []}
        for name, users in allowed.items():
            if user not in users:
                assert intruder.attempt("seqpacket", f"/run/loopback/netd/{name}.sock") == "EACCES", name
        assert intruder.attempt("seqpacket", "/run/loopback/fetchd/admin.sock") == "EACCES"
        if host.units()["loopback-wg"]["pid"]:
            assert intruder.attempt("stream", "/run/wireguard/lb0.sock") == "EACCES"
        for service, unit in host.units().items():
            if not unit["pid"] or service == f"loopback-{own}":
                continue
            assert intruder.attempt("signal", unit["pid"]) == "EPERM", service
            assert intruder.attempt("trace", unit["pid"]) == "EPERM", service
            for file in ("mem", "maps", "environ", "fd/3"):
                assert intruder.attempt("open", f"/proc/{unit['pid']}/{file}") == "EACCES", f"{service} {file}"
        for words in (["ip", "link", "set", "lb0", "down"], ["ip", "address", "add", "10.9.9.9/32", "dev", "lb0"],
                      ["ip", "route", "add", "10.9.9.0/24", "dev", "lb0"], ["wg", "set", "lb0", "listen-port", "1"]):
            assert intruder.attempt("run", words) == "EPERM", words
        assert intruder.attempt("packet_socket", None) == "EPERM"
    finally:
        intruder.end()
    assert fleetview.overlay_view(fleet, "h1") == before
    fleet.wait_converged()
