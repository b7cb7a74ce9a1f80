# SPDX-License-Identifier: Apache-2.0
"""What a taken-over daemon says to the others on the sockets that it rightly has: netd to fetchd, signd to controld, the tunnel to netd (P4).

What fetchd may say is in tests/netns/test_fleet_takeover.py, what controld may say to signd in tests/control/test_signd_hostile.py. Here too the stand-in has the
real one's sandbox and descriptors: it takes the connection that the other daemon makes, says one thing, and what that brings must hang up and go on.
"""

import os
import re
import sys

import pytest

import fleetview
import place as places
import rig as rigs

sys.path.append(os.path.join(rigs.ROOT, "tests/control"))

import wire  # noqa: E402  (needs the path above)

# libipc/messages.def
HELLO, IDENTITY, ASK, OFFER, WANT, BLOBS, RESULT, PIN, VIEW, TUNNEL_REQUEST, ENROLL, LEAVE, SIGN, SIGN_DONE = 1, 2, 4, 5, 6, 7, 9, 20, 31, 40, 50, 52, 60, 63
_DOCUMENTS, _SIGN = 3, 3  # descriptor of the listener: the first of Sockets=


def _bad_frames(mine):
    """[(what, frame)]: other daemons' messages, out of turn, torn, too long, of the wrong types, unknown. mine: numbers that the sender may use."""
    fields = [("an order to enrol", [ENROLL, "https://203.0.113.1", "a.b", "", "h"]), ("an order to leave", [LEAVE, True, b""]), ("a root key", [PIN, b"\x01" * 32]),
              ("an offer", [OFFER, b"x"]), ("a request for a signature", [SIGN, 3, b"x"]), ("a request for the tunnel", [TUNNEL_REQUEST]),
              ("a greeting", [HELLO, b"\x01" * 32]), ("a message of no kind", [250]), ("no number", [])]
    frames = [(what, wire.pack(words)) for what, words in fields if not words or words[0] not in mine]
    frames += [("no frame", b"\x00"), ("msgpack that is torn", b"\x93\x04"), ("an array of 4,000 million", b"\xdd\xff\xff\xff\xff"), ("noise", os.urandom(60)),
               ("a frame of 65,000 bytes", b"\xc4" * 3000)]
    return frames


def _accept(listener):
    """Lines that wait for a connection and take it: step 1. The daemon before has made the listener non-blocking."""
    return [f"data there u32:{listener} u16:1 u16:0", "call poll @there 1 8000", f"call accept4 {listener} 0 0 0x80000"]


def _say(listener, frame, then=()):
    """Lines: take a connection, say it, see the other end hang up: read until there is nothing more."""
    name = f"data frame x:{frame.hex()}"
    return ["data in z:4096", *_accept(listener), name, f"call sendto $1 @frame {len(frame)} 0x4000 0 0", *then,
            "call recvfrom $1 @in 4096 0 0 0", "call recvfrom $1 @in 4096 0 0 0"]


def _descriptors(listener, frame, count):
    """The same with descriptors that nobody asked for (of the wrong kind: the log)."""
    control = f"u64:{16 + 4 * count} u32:1 u32:1 " + " ".join(["u32:1"] * count) + (" z:4" if count % 2 else "")
    return ["data in z:4096", *_accept(listener), f"data frame x:{frame.hex()}", f"data vector p:frame u64:{len(frame)}",
            f"data control {control}", f"data message u64:0 u64:0 p:vector u64:1 p:control u64:{16 + 4 * count + (4 if count % 2 else 0)} u64:0",
            "call sendmsg $1 @message 0x4000", "call recvfrom $1 @in 4096 0 0 0", "call recvfrom $1 @in 4096 0 0 0"]


def _flood(listener, frame, count):
    """Again and again without reading."""
    return [f"data frame x:{frame.hex()}", *_accept(listener), *[f"call sendto $1 @frame {len(frame)} 0x4040 0 0"] * count]


def _ended(result):
    """The other end hung up: the last read gave nothing, or was refused (ECONNRESET), or the write was (EPIPE)."""
    last = re.findall(r"recvfrom done (\d+)", result.text)
    return result.outcome in ("ECONNRESET", "EPIPE") or (last and last[-1] == "0") or (result.outcome == "done" and not last)


def _views(fleet):
    return {name: fleetview.overlay_view(fleet, name) for name in ("h1", "h2", "h3")}


def test_netd_to_fetchd(fleet):
    """fetchd dials netd and does not trust it: each bad frame ends the connection, fetchd runs on and dials again."""
    host, before = fleet.host("h1"), _views(fleet)
    tries = [(what, _say(3, frame)) for what, frame in _bad_frames((IDENTITY, ASK, WANT, RESULT))]
    tries += [(f"{count} descriptors too many", _descriptors(3, wire.pack([ASK, b"\x01" * 32, b""]), count)) for count in (1, 3)]
    tries += [("a flood", _flood(3, wire.pack([250]), 40)), ("silence", _accept(3))]
    pid, wrong, place = host.pid("fetchd"), [], places.StandIn(fleet, "netd")
    try:
        for what, lines in tries:
            result = place.attempt("message", lines, patience=20)
            if not _ended(result) and what not in ("silence", "a flood"):
                wrong.append(f"{what}: {result.short()} {result.text[-300:]}")
            assert host.pid("fetchd") == pid, f"{what}: fetchd died"
    finally:
        place.end()
    host.launch("wait")
    assert not wrong, "\n".join(wrong)
    fleet.wait_converged(timeout=40)
    assert _views(fleet) == before


def _dial(path, frame, descriptors=0):
    """Lines that dial, say it, and see the other end hang up."""
    lines = [f"data to u16:1 s:{path} z:1", "data in z:8000", "call socket 1 5 0", f"call connect $0 @to {3 + len(path)}", f"data frame x:{frame.hex()}"]
    if descriptors:
        size = 16 + (4 * descriptors + 7) // 8 * 8
        lines += [f"data vector p:frame u64:{len(frame)}", f"data control u64:{16 + 4 * descriptors} u32:1 u32:1 " + " ".join(["u32:1"] * descriptors) + " z:4",
                  f"data message u64:0 u64:0 p:vector u64:1 p:control u64:{size} u64:0", "call sendmsg $0 @message 0x4000"]
    else:
        lines.append(f"call sendto $0 @frame {len(frame)} 0x4000 0 0")
    return lines + ["call recvfrom $0 @in 8000 0 0 0"] * 6


@pytest.mark.parametrize("daemon,victim,path,mine", [("wg", "netd", "/run/loopback/netd/tunnel.sock", (TUNNEL_REQUEST,)),
                                                     ("wg", "netd", "/run/loopback/netd/view.sock", (30,)),
                                                     ("fetchd", "netd", "/run/loopback/netd/documents.sock", (HELLO,)),
                                                     ("controld", "signd", "/run/loopback/signd/sign.sock", (SIGN, 61, 62))])
def test_the_one_that_dials(fleet, daemon, victim, path, mine):
    """On a socket that it rightly has, it says what is not its to say: the other end hangs up without a word of consequence, and runs on."""
    host, before = fleet.host(places.WHERE[daemon]), _views(fleet)
    tries = [(what, _dial(path, frame)) for what, frame in _bad_frames(mine)]
    tries += [(f"{count} descriptors too many", _dial(path, wire.pack([mine[0]]), count)) for count in (1, 3)]
    if daemon == "wg":  # netd gives the new tunnel 10 s to answer before it hears anybody else, and this one does not
        tries = tries[::6]
    pid, wrong, place = host.pid(victim), [], places.StandIn(fleet, daemon)
    try:
        for what, lines in tries:
            result = place.attempt("message", lines, patience=20)
            reads = re.findall(r"recvfrom (?:done (\d+)|(E\w+))", result.text)
            if not reads or not (reads[-1][0] == "0" or reads[-1][1] == "ECONNRESET"):
                wrong.append(f"{what}: {result.short()} {result.text[-300:]}")
            assert host.pid(victim) == pid, f"{what}: {victim} died"
    finally:
        place.end()
    host.launch("wait")
    assert not wrong, "\n".join(wrong)
    fleet.wait_converged(timeout=40)
    if daemon != "wg":  # whose interface is made anew
        assert _views(fleet) == before
