#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""A service for test_launch.py: tells its log what it found itself to be, then does as STANDIN says.

STANDIN (from /etc/loopback/PROGRAM.env): words of ready, slow (ready after 0.3 s), mute (never ready), hungry (does not feed
the watchdog), deaf (ignores SIGTERM), fork (leaves a child behind).
"""

import json
import os
import signal
import socket
import sys
import time

words = os.environ.get("STANDIN", "ready").split()
passed = int(os.environ.get("LISTEN_FDS", "0"))
with open("/proc/self/status", encoding="utf-8") as status_file:
    status = dict(line.rstrip("\n").split(":\t", 1) for line in status_file if ":\t" in line)
print(json.dumps({
    "pid": os.getpid(), "argv": sys.argv[1:], "environment": dict(os.environ), "status": status, "cwd": os.getcwd(),
    "interfaces": sorted(os.listdir("/proc/self/net/dev_snmp6")) if os.path.isdir("/proc/self/net/dev_snmp6") else [],
    "sockets": [socket.socket(fileno=os.dup(fd)).getsockname() for fd in range(3, 3 + passed)],
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")),
}), flush=True)


def tell(text):
    """sd_notify(3), if somebody listens."""
    if "NOTIFY_SOCKET" in os.environ:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


if "deaf" in words:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "fork" in words:
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(60)
    print(json.dumps({"child": child}), flush=True)
if "slow" in words:
    time.sleep(0.3)
if "mute" not in words:
    tell("READY=1\nSTATUS=standing in")
while True:
    time.sleep(0.05)
    if "hungry" not in words:
        tell("WATCHDOG=1")
