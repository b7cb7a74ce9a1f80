# SPDX-License-Identifier: Apache-2.0
"""first_answer.py ADDRESS FILE: ask for an echo every 20 ms, from before there is a way; write down when the first answer came.

FILE gets {"asked": when asking began, "answered": when the first answer came}, both CLOCK_MONOTONIC in microseconds, as systemd's
own time stamps. Gives up after 120 s. Tells systemd that it is ready when it begins.
"""

import json
import os
import select
import socket
import struct
import sys
import time

ECHO, REPLY, NUMBER = 8, 0, 0x4C42


def checksum(data):
    """RFC 1071, of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def now():
    """Microseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def main():
    address, path = sys.argv[1:]
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    asked, sequence = now(), 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.connect(os.environ["NOTIFY_SOCKET"])
        systemd.send(b"READY=1")
    while now() - asked < 120e6:
        sequence += 1
        header = struct.pack("!BBHHH", ECHO, 0, 0, NUMBER, sequence & 0xFFFF)
        header = header[:2] + struct.pack("!H", checksum(header)) + header[4:]
        try:
            raw.sendto(header, (address, 0))
        except OSError:
            pass  # no way yet
        if not select.select([raw], [], [], 0.02)[0]:
            continue
        packet, (source, _) = raw.recvfrom(2048)
        kind, _, _, number = struct.unpack("!BBHH", packet[20:26])
        if source == address and kind == REPLY and number == NUMBER:
            with open(path, "w", encoding="ascii") as out:
                json.dump({"asked": asked, "answered": now()}, out)
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
