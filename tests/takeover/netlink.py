# SPDX-License-Identifier: Apache-2.0
"""Netlink requests as lines of script.h (linux/rtnetlink.h, linux/genetlink.h)."""

import socket
import struct

ROUTE, GENERIC = 0, 16
REQUEST, ACK, REPLACE, EXCL, CREATE, DUMP = 1, 4, 0x100, 0x200, 0x400, 0x300
NEWLINK, DELLINK, GETLINK, SETLINK, NEWADDR, DELADDR = 16, 17, 18, 19, 20, 21
NEWROUTE, DELROUTE, NEWNEIGH, NEWRULE, NEWQDISC, NEWTFILTER = 24, 25, 28, 32, 36, 44
SETNEIGHTBL, NEWADDRLABEL, NEWNSID, NEWNEXTHOP, NEWLINKPROP = 67, 72, 88, 104, 108
IFLA = {"address": 1, "ifname": 3, "mtu": 4, "master": 10, "linkinfo": 18, "net_ns_pid": 19, "af_spec": 26, "xdp": 43, "target_netnsid": 46,
        "prop_list": 52, "alt_ifname": 53, "link": 5}
_NESTED = 0x8000

# A program that lets every connection pass: what it could do instead needs no saying.
CONNECT4_PROGRAM = ["data code x:b700000001000000 x:9500000000000000", "data licence s:GPL z:1",
                    "data load u32:18 u32:2 p:code p:licence u32:0 u32:0 u64:0 u32:0 u32:0 z:16 u32:0 u32:10"]
XDP_PROGRAM = ["data code x:b700000002000000 x:9500000000000000", "data licence s:GPL z:1",
               "data load u32:6 u32:2 p:code p:licence u32:0 u32:0 u64:0 u32:0 u32:0 z:16 u32:0 u32:0"]


def attribute(kind, value):
    """One attribute, padded; value: bytes, text, or a number of 32 bits."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = struct.pack("I", value)
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nest(kind, *attributes):
    """Attributes in an attribute."""
    return attribute(kind | _NESTED, b"".join(attributes))


def message(kind, flags, body):
    """One request that asks for an acknowledgement."""
    return struct.pack("IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body


def send(protocol, *requests, first=0, tail=""):
    """Lines that make a socket, send each request and read each answer. first: the number of the first line's step."""
    lines = [f"call socket 16 3 {protocol}"]
    for number, request in enumerate(requests):
        name = f"request{first}-{number}"
        lines += [f"data {name} x:{request.hex()} {tail}".strip(), f"call sendto ${first} @{name} {len(request)} 0 0 0", f"ack ${first}"]
    return lines


def link(index=0, flags=0, change=0, family=0, attributes=()):
    """struct ifinfomsg and what follows."""
    return struct.pack("BxHiII", family, 0, index, flags, change) + b"".join(attributes)


def named(name, *attributes):
    """A link by name."""
    return link(attributes=(attribute(IFLA["ifname"], name), *attributes))


def new_link(kind, name, *attributes, data=None):
    """Make an interface."""
    info = nest(IFLA["linkinfo"], attribute(1, kind), *([nest(2, data)] if data is not None else []))
    return message(NEWLINK, ACK | CREATE | EXCL, named(name, info, *attributes))


def veth(name, peer, *attributes):
    """Make a pair of interfaces."""
    inside = link(attributes=(attribute(IFLA["ifname"], peer),))
    return new_link("veth", name, *attributes, data=attribute(1, inside))


def change_link(name, *attributes):
    """Change what the attributes say."""
    return message(NEWLINK, ACK, named(name, *attributes))


def set_up(index, up):
    """Set an interface up or down."""
    return message(NEWLINK, ACK, link(index, flags=int(up), change=1))


def address(index, text, length=32, remove=False):
    """Add or remove an IPv4 address."""
    value = socket.inet_aton(text)
    return message(DELADDR if remove else NEWADDR, ACK | (0 if remove else CREATE | REPLACE),
                   struct.pack("BBBBi", 2, length, 0, 0, index) + attribute(2, value) + attribute(1, value))


def route(text, length, index, table=254, remove=False, *attributes):
    """Add or remove an IPv4 route; the most specific wins, so it takes over what others have."""
    body = struct.pack("BBBBBBBBI", 2, length, 0, 0, table, 0 if remove else 4, 253, 1, 0)
    parts = [attribute(1, socket.inet_aton(text))] if length else []
    return message(DELROUTE if remove else NEWROUTE, ACK | (0 if remove else CREATE | REPLACE),
                   body + b"".join([*parts, attribute(4, index), *attributes]))


def rule(table, priority):
    """Look into a table first."""
    return message(NEWRULE, ACK | CREATE | EXCL, struct.pack("BBBBBBBBI", 2, 0, 0, 0, table, 0, 0, 1, 0) + attribute(6, priority))


def neighbour(index, text, mac):
    """Say who has an address."""
    return message(NEWNEIGH, ACK | CREATE | REPLACE, struct.pack("BxHiHBB", 2, 0, index, 0x80, 0, 0) + attribute(1, socket.inet_aton(text)) +
                   attribute(2, mac))


def nexthop(number, index):
    """A next hop object."""
    return message(NEWNEXTHOP, ACK | CREATE | REPLACE, struct.pack("BBBBI", 2, 0, 4, 0, 0) + attribute(1, number) + attribute(5, index))


def qdisc(index, kind, parent, handle=0, options=b""):
    """A queueing discipline."""
    return message(NEWQDISC, ACK | CREATE | REPLACE, struct.pack("BxHiIII", 0, 0, index, handle, parent, 0) + attribute(1, kind) +
                   (attribute(2 | _NESTED, options) if options else b""))


def mirror_filter(index, parent, to, redirect):
    """Every packet of an interface goes (redirect) or is copied (mirror) to another; the classifier is classic BPF that matches all."""
    parms = struct.pack("IIiiiii", 0, 0, 4 if redirect else 3, 0, 0, 1 if redirect else 2, to)
    action = nest(1, attribute(1, "mirred"), nest(2, attribute(2, parms)))
    ops = attribute(5, struct.pack("HBBI", 6, 0, 0, 0xFFFFFFFF))
    options = nest(2, attribute(4, struct.pack("H", 1)), ops, nest(1, action))
    return message(NEWTFILTER, ACK | CREATE | EXCL, struct.pack("BxHiIII", 0, 0, index, 0, parent, 1 << 16 | 0x0300) + attribute(1, "bpf") + options)


def ebpf_filter(index, parent, fd):
    """A filter that is an eBPF program, by descriptor."""
    options = nest(2, attribute(6, fd), attribute(7, "takeover"))
    return message(NEWTFILTER, ACK | CREATE | EXCL, struct.pack("BxHiIII", 0, 0, index, 0, parent, 1 << 16 | 0x0300) + attribute(1, "bpf") + options)


def generic(family, command, *attributes, version=1, flags=ACK):
    """A request of a generic family, by its number."""
    return message(family, flags, struct.pack("BBH", command, version, 0) + b"".join(attributes))


def family(name):
    """The number of a generic family: as taken from this machine, since numbers are given at boot; None if there is no such family."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC) as line:
        line.send(generic(16, 3, attribute(2, name), flags=0))
        answer = line.recv(65536)
    if struct.unpack_from("H", answer, 4)[0] != 16:
        return None
    at = 20
    while at < len(answer):
        length, kind = struct.unpack_from("HH", answer, at)
        if kind == 1:
            return struct.unpack_from("H", answer, at + 4)[0]
        at += (length + 3) & ~3
    return None
