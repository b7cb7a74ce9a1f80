# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a running process, and what our own table says that it may have (PROGRAM/privileges.def)."""

import os
import re

import identity
import rig as rigs

PROGRAMS = {"loopback-netd": "netd", "loopback-fetchd": "fetchd", "loopback-wg": "wg-launch",
            "loopback-controld": "controld", "loopback-signd": "signd"}
_INODE_FIELD = {"unix": 6, "packet": 8}  # /proc/net/KIND; 9 for all others
_KINDS = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6", "unix", "netlink", "packet")
_FAMILY = {"unix": "AF_UNIX", "netlink": "AF_NETLINK", "packet": "AF_PACKET"}
_ROW = re.compile(r'^(PROCESS|CAP|SOCKET)\(([^)]*)\)', re.MULTILINE)


class Declared:
    """The rows of one privileges.def that this is about."""

    def __init__(self, service):
        path = os.path.join(rigs.ROOT, PROGRAMS[service], "privileges.def")
        with open(path, encoding="utf-8") as file:
            rows = [(kind, [word.strip().strip('"') for word in words.split(",")]) for kind, words in _ROW.findall(file.read())]
        self.user = next(words[1] for kind, words in rows if kind == "PROCESS")
        self.capabilities = identity.capability_numbers(words[0] for kind, words in rows if kind == "CAP")
        self.families = {words[0] for kind, words in rows if kind == "SOCKET"}


def status(pid):
    """/proc/PID/status as a dictionary of texts."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def capability_set(text):
    """{number} of one of status()'s hexadecimal sets."""
    return {number for number in range(64) if int(text, 16) >> number & 1}


def core_limit(pid):
    """Soft and hard limit of core dumps, in bytes, as text."""
    with open(f"/proc/{pid}/limits", encoding="utf-8") as file:
        return next(line for line in file if line.startswith("Max core file size")).split()[4:6]


def _inodes(pid):
    """{inode: (kind, the line's words)} of every socket in the network namespace of a process."""
    found = {}
    for kind in _KINDS:
        path = f"/proc/{pid}/net/{kind}"
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as lines:
            for words in [line.split() for line in lines][1:]:
                found[words[_INODE_FIELD.get(kind, 9)]] = (kind, words)
    return found


def sockets(pid, holder):
    """Every socket that a process has open: [(family, words of its line in /proc/net)].

    @param holder  a process in the namespace in which the sockets were made that the service manager passed. KeyError for a socket of a kind
                   that is in no table of the kernel's
    """
    known = {**_inodes(holder), **_inodes(pid)}
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue  # closed since
        if target.startswith("socket:["):
            kind, words = known[target[8:-1]]
            found.append((_FAMILY.get(kind) or ("AF_INET6" if kind.endswith("6") else "AF_INET"), words))
    return found
