# SPDX-License-Identifier: Apache-2.0
"""What a taken-over netd does to this host's packets with CAP_NET_ADMIN over the two protocols of netlink that it may use, and what it cannot.

docs/audit/netd-take-over.md is the page about it; a test holds its lines against this table. tenant0 is an interface of somebody else's on the host, box a
network namespace of somebody else's (a container), tap an interface of the intruder's own.
"""

import socket
import struct

import netlink as nl
from attempts import Attempt
from netlink import IFLA, attribute, change_link, generic, named, nest, new_link, send, veth

INGRESS, CLSACT_INGRESS, CLSACT_EGRESS = 0xFFFFFFF1, 0xFFFFFFF2, 0xFFFFFFF3


class Packet(Attempt):
    """Tried by netd alone. requests: function of the place (interface numbers by name, "box": pid of a process in box) that gives lines."""

    def __init__(self, name, tries, requests, outcome="done", **more):
        super().__init__(name, tries, requests, {"netd": outcome}, **more)


def route(*requests):
    """Lines of requests by ROUTE. Each is a function of the place or bytes."""
    return lambda place: send(nl.ROUTE, *[each(place) if callable(each) else each for each in requests])


def genl(name, *requests):
    """Lines of requests to a generic family; its number is the first argument of each."""
    def lines(_place):
        number = nl.family(name)
        return None if number is None else send(nl.GENERIC, *[each(number) for each in requests])
    return lines


_TAP = ["data tun s:/dev/net/tun z:1", "data which s:tap-lb z:10 u16:0x1002 z:22", "call openat -100 @tun 2 0", "call ioctl $0 0x400454ca @which"]


def _with_tap(*requests, then=()):
    """Make a tap; its number is 4,242 (IFLA_NEW_IFINDEX has no ioctl: TUNSETIFINDEX is not allowed), so the kernel is asked by name."""
    def lines(place):
        return _TAP + send(nl.ROUTE, *[each(place) if callable(each) else each for each in requests], first=2) + list(then)
    return lines


def _xdp(place):
    """Lines that put the program whose descriptor step 0 returned on tenant0."""
    request = nl.message(nl.NEWLINK, nl.ACK, nl.link(place["tenant0"], attributes=(nest(IFLA["xdp"], attribute(1, 0)),)))
    return ["call socket 16 3 0", f"data xdp x:{request[:-4].hex()} r:0", f"call sendto $1 @xdp {len(request)} 0 0 0", "ack $1"]


def _mirror(place):
    return nl.mirror_filter(place["tenant0"], CLSACT_INGRESS, place["lo"], False)


PACKETS = [
    # interfaces
    Packet("link-down", "set somebody's interface down", route(lambda at: nl.set_up(at["tenant0"], False))),
    Packet("link-rename", "rename it", route(lambda at: nl.set_up(at["tenant0"], False),
           lambda at: nl.message(nl.NEWLINK, nl.ACK, nl.link(at["tenant0"], attributes=(attribute(IFLA["ifname"], "renamed0"),))))),
    Packet("link-altname", "give it a second name", route(lambda at: nl.message(nl.NEWLINKPROP, nl.ACK | nl.CREATE | nl.EXCL,
           nl.link(at["tenant0"], attributes=(nest(IFLA["prop_list"], attribute(IFLA["alt_ifname"], "second0")),))))),
    Packet("link-mtu", "change its MTU", route(change_link("tenant0", attribute(IFLA["mtu"], 1000)))),
    Packet("link-mac", "change its hardware address", route(change_link("tenant0", attribute(IFLA["address"], b"\x02\x00\x00\x00\x00\x77")))),
    Packet("link-delete", "delete it", route(nl.message(nl.DELLINK, nl.ACK, named("tenant0")))),
    Packet("link-bridge", "put it into a bridge of its own", route(new_link("bridge", "bridge-lb"), lambda at: change_link(
           "tenant0", attribute(IFLA["master"], at["next"])))),
    Packet("link-make", "make interfaces of any kind that the kernel has or can load: veth", route(veth("made0", "made1"))),
    Packet("link-make-ifb", "ifb", route(new_link("ifb", "made0"))),
    Packet("link-make-vxlan", "vxlan: frames to any address of the internet, by the kernel's own socket",
           route(new_link("vxlan", "made0", data=attribute(1, 7) + attribute(2, socket.inet_aton("198.18.1.2"))))),
    Packet("link-make-macvlan", "macvlan on somebody's interface",
           route(lambda at: new_link("macvlan", "made0", attribute(IFLA["link"], at["tenant0"])))),
    Packet("link-forwarding", "forward what comes in by an interface, whatever net.ipv4.ip_forward says", route(lambda at: change_link(
           "tenant0", nest(IFLA["af_spec"], nest(2, nest(1, attribute(1, 1))))))),
    # other network namespaces of the host: its capability is of the first user namespace, which owns them
    Packet("netns-move", "move somebody's interface into another network namespace", route(
           lambda at: change_link("tenant0", attribute(IFLA["net_ns_pid"], at["box"])))),
    Packet("netns-make", "make an interface inside a container's network", route(lambda at: veth("made0", "made1", attribute(IFLA["net_ns_pid"], at["box"])))),
    Packet("netns-delete", "delete an interface inside a container's network", route(
           lambda at: nl.message(nl.DELLINK, nl.ACK, nl.link(at["tenant1"], attributes=(attribute(IFLA["target_netnsid"], at["nsid"]),))))),
    Packet("netns-enter", "have a socket inside a container's network", ["call setns 0 0x40000000"], "SIGSYS",
           control=["data path s:/proc/self/ns/net z:1", "call openat -100 @path 0 0", "call setns $0 0x40000000"]),
    # addresses, routes, neighbours
    Packet("address-add", "add an address to somebody's interface", route(lambda at: nl.address(at["tenant0"], "10.77.0.9"))),
    Packet("address-remove", "remove its address", route(lambda at: nl.address(at["tenant0"], "10.77.0.1", 24, remove=True))),
    Packet("route-add", "redirect anybody's packets by a more specific route", route(lambda at: nl.route("10.77.0.128", 25, at["lo"]))),
    Packet("route-remove", "remove a route", route(lambda at: nl.route("10.77.0.0", 24, at["tenant0"], remove=True))),
    Packet("rule-add", "another routing table for all packets", route(nl.rule(77, 7))),
    Packet("neighbour-set", "say who has an address", route(lambda at: nl.neighbour(at["tenant0"], "10.77.0.2", b"\x02\x00\x00\x00\x00\x78"))),
    Packet("nexthop-add", "a next hop", route(lambda at: nl.nexthop(77, at["tenant0"]))),
    Packet("address-label", "prefer other source addresses", route(lambda at: nl.message(nl.NEWADDRLABEL, nl.ACK | nl.CREATE,
           struct.pack("BxBxiI", 10, 128, 0, 0) + attribute(1, socket.inet_pton(10, "2001:db8::77")) + attribute(2, 77)))),
    # what passes an interface
    Packet("shape", "slow an interface down", route(lambda at: nl.qdisc(at["tenant0"], "tbf", 0xFFFFFFFF, 0x10000, attribute(1, struct.pack(
           "BBHhHI", 0, 0, 0, 0, 0, 1000) + struct.pack("BBHhHI", 0, 0, 0, 0, 0, 0) + struct.pack("III", 10000, 100000, 1000))))),
    Packet("mirror", "copy all that comes in by somebody's interface to another", route(lambda at: nl.qdisc(at["tenant0"], "clsact", INGRESS, 0xFFFF0000),
           _mirror)),
    Packet("redirect", "take away all that leaves by it", route(lambda at: nl.qdisc(at["tenant0"], "clsact", INGRESS, 0xFFFF0000),
           lambda at: nl.mirror_filter(at["tenant0"], CLSACT_EGRESS, at["lo"], True))),
    Packet("read-packets", "read the packets of others: copies go to a tap of its own, which is a descriptor", _with_tap(
           lambda at: nl.set_up(at["next"], True), lambda at: nl.qdisc(at["tenant0"], "clsact", INGRESS, 0xFFFF0000),
           lambda at: nl.mirror_filter(at["tenant0"], CLSACT_INGRESS, at["next"], False), then=("data frame z:2048", "call read $0 @frame 2048"))),
    Packet("write-packets", "send packets of any making out by an interface, though it can have no internet socket: what is written to a tap is redirected",
           _with_tap(lambda at: nl.set_up(at["next"], True), lambda at: nl.qdisc(at["next"], "clsact", INGRESS, 0xFFFF0000),
                     lambda at: nl.mirror_filter(at["next"], CLSACT_INGRESS, at["tenant0"], True),
                     then=("data frame x:ffffffffffff020000000077 be16:0x88b5 s:takeover z:40", "call write $0 @frame 62"))),
    # programs: it holds CAP_BPF and CAP_NET_ADMIN, but no descriptor of a program can come to it
    Packet("xdp-attach", "attach a program to an interface (XDP)", lambda at: ["data empty z:1", "call memfd_create @empty 0", *_xdp(at)], "EINVAL",
           control=lambda at: [*nl.XDP_PROGRAM, "call bpf 5 @load 72", *_xdp(at)]),
    Packet("tc-program", "attach a program to an interface (tc)", route(lambda at: nl.qdisc(at["tenant0"], "clsact", INGRESS, 0xFFFF0000),
           lambda at: nl.ebpf_filter(at["tenant0"], CLSACT_INGRESS, 0)), "EINVAL", exempt="as xdp-attach"),
    # the tun device
    Packet("tap", "a tap, whose packets are its own to read and write", _TAP),
    Packet("tun-persist", "leave it behind", _TAP + ["call ioctl $0 0x400454cb 1"], "SIGSYS"),
    Packet("tun-owner", "give it to another user", _TAP + ["call ioctl $0 0x400454cc 1000"], "SIGSYS"),
    Packet("tun-program", "a program on it", _TAP + ["data fd u32:0", "call ioctl $0 0x800454e0 @fd"], "SIGSYS",
           control=[*_TAP, "data code x:b700000000000000 x:9500000000000000", "data licence s:GPL z:1",
                    "data load u32:1 u32:2 p:code p:licence u32:0 u32:0 u64:0 u32:0 u32:0 z:16 u32:0 u32:0", "call bpf 5 @load 72", "data fd r:2",
                    "call ioctl $0 0x800454e0 @fd"]),
    Packet("tun-socket-filter", "a filter on it", _TAP + ["data none z:16", "call ioctl $0 0x401054d5 @none"], "SIGSYS",
           control=[*_TAP, "data accept u16:6 z:2 u32:0xffff", "data filter u16:1 z:6 p:accept", "call ioctl $0 0x401054d5 @filter"]),
    # its own sockets: options that CAP_NET_ADMIN allows
    Packet("socket-filter", "a classic BPF filter on a socket of its own, which netd itself sets on its netlink socket",
           ["data accept u16:6 z:2 u32:0xffff", "data filter u16:1 z:6 p:accept", "call socket 1 1 0", "call setsockopt $0 1 26 @filter 16"]),
    Packet("socket-mark", "mark what a socket of its own sends", ["data mark u32:7", "call socket 1 1 0", "call setsockopt $0 1 36 @mark 4"], "SIGSYS"),
    Packet("socket-program", "an eBPF program on a socket", ["data fd u32:0", "call socket 1 1 0", "call setsockopt $0 1 50 @fd 4"], "SIGSYS",
           control=["data code x:b700000000000000 x:9500000000000000", "data licence s:GPL z:1",
                    "data load u32:1 u32:2 p:code p:licence u32:0 u32:0 u64:0 u32:0 u32:0 z:16 u32:0 u32:0", "call bpf 5 @load 72", "data fd r:0",
                    "call socket 1 1 0", "call setsockopt $1 1 50 @fd 4"]),
    Packet("socket-memory", "as much of the kernel's memory for a socket as it likes", ["data size u32:0x40000000", "call socket 16 3 0",
           "call setsockopt $0 1 33 @size 4"], "SIGSYS"),
    # generic netlink: every family of the kernel's that asks for no more than CAP_NET_ADMIN
    Packet("generic-ethtool", "an interface's settings: offloads, rings, Wake-on-LAN, firmware (ethtool): here its features", genl(
           "ethtool", lambda number: generic(number, 12, nest(1, attribute(2, "tenant0")), nest(3, nest(3, nest(1, attribute(2, "tx-checksum-ip-generic"))))))),
    Packet("generic-tcp-metrics", "forget what TCP learned about a destination (tcp_metrics): here of all", genl(
           "tcp_metrics", lambda number: generic(number, 2))),
    Packet("generic-mptcp", "announce addresses to MPTCP peers (mptcp_pm)", genl("mptcp_pm", lambda number: generic(
           number, 1, nest(1, attribute(1, struct.pack("H", 2)), attribute(3, socket.inet_aton("10.77.0.1")), attribute(6, 4))))),
    Packet("generic-seg6", "the source address of segment routing (SEG6)", genl("SEG6", lambda number: generic(
           number, 3, attribute(1, socket.inet_pton(10, "2001:db8::77"))))),
    Packet("generic-taskstats", "what any process of the host has used of processor, memory and disk, and its name (TASKSTATS): no memory, but news of it",
           lambda at: None if nl.family("TASKSTATS") is None else send(
               nl.GENERIC, generic(nl.family("TASKSTATS"), 1, attribute(1, at["box"]), flags=0))),
]
