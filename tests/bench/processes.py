# SPDX-License-Identifier: Apache-2.0
"""What a running process uses: CPU time, memory, wake-ups; read from /proc."""

import collections
import os
import re

MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ (\S+) \S+ \d+\s*(.*)")


def _status(path, *keys):
    """The numbers of these lines of a status file."""
    with open(path, encoding="ascii") as file:
        text = file.read()
    return tuple(int(re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE).group(1)) for key in keys)


def cpu_ns(pid):
    """CPU time of a process so far, all of its threads."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total


def memory_mb(pid):
    """(VmRSS, VmHWM) in MB."""
    return tuple(kb / 1000 for kb in _status(f"/proc/{pid}/status", "VmRSS", "VmHWM"))


def switches(pid):
    """Context switches of all threads so far, voluntary or not."""
    return sum(sum(_status(f"/proc/{pid}/task/{task}/status", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"))
               for task in os.listdir(f"/proc/{pid}/task"))


def pss_mb(pid):
    """Proportional set size in MB, as the kernel counts it: what is shared, divided by all who share it at this moment."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return int(re.search(r"^Pss:\s+(\d+)", file.read(), re.MULTILINE).group(1)) / 1000


def _mappings(pid):
    """[(name, offset, resident kB, of it the process's own kB)]"""
    found = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        for line in file:
            start = MAPPING.match(line)
            if start:
                found.append([start[2], start[1], 0, 0])
                continue
            key, _, value = line.partition(":")
            if key == "Rss":
                found[-1][2] = int(value.split()[0])
            elif key == "Anonymous":
                found[-1][3] = int(value.split()[0])
    return found


def pss_alone_mb(pids):
    """
    What these processes' proportional set sizes would add up to on a machine where nobody else runs their programs or libraries, in MB: no less than
    on any real one. (Several hosts on one machine share their programs, and the kernel's own figure is flattered by it.)
    """
    total, files = 0, collections.defaultdict(int)
    for pid in pids:
        for name, offset, resident, own in _mappings(pid):
            total += own
            if name.startswith("/"):
                files[name, offset] = max(files[name, offset], resident - own)
            else:
                total += resident - own
    return (total + sum(files.values())) / 1000
