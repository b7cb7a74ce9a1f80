# SPDX-License-Identifier: Apache-2.0
"""Who holds which key, as files and memory show it: controld has no key that signs, and no process has another's (P4)."""

import os

import pytest

import place as places

# On which host, whose, in which file of his, and behind how many bytes there (of wg.key: its counter).
KEYS = {"the online key": ("cp", "signd", "online.key", 0), "the host key": ("h1", "netd", "host.key", 0),
        "the WireGuard key": ("h1", "netd", "wg.key", 8), "the transport key": ("h1", "fetchd", "transport.key", 0)}


def secret(fleet, name):
    """The 32 bytes of a key (of an Ed25519 key: its seed)."""
    host, owner, path, at = KEYS[name]
    with open(os.path.join(fleet.host(host).folder, "lib", owner, path), "rb") as file:
        content = file.read()[at:at + 32]
    assert len(content) == 32
    return content


def read_all(memory, count):
    """So many bytes; the kernel may give them in pieces."""
    parts = []
    while count > 0 and (part := memory.read(min(count, 1 << 24))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def in_memory(pid, needle):
    """Is it anywhere in a process's memory? Searched by root."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if "r" not in line.split()[1] or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            try:
                memory.seek(start)
                if needle in read_all(memory, end - start):
                    return True
            except (OSError, OverflowError):
                continue  # guard pages of libsodium
    return False


def in_files(folder, needle):
    """Is it in any file below a folder?"""
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                if needle in file.read():
                    return True
    return False


@pytest.mark.parametrize("name", KEYS)
def test_nobody_else_has_it(fleet, name):
    """Neither in memory nor in files; and the search does find it with its owner. (wireguard-go needs the WireGuard key: it is the tunnel.)"""
    needle, (host, owner, _, _) = secret(fleet, name), KEYS[name]
    may = {owner} | ({"wg"} if name == "the WireGuard key" else set())
    pids = places.daemons(fleet)
    assert in_files(os.path.join(fleet.host(host).folder, "lib", owner), needle)
    assert any(in_memory(pids[daemon], needle) for daemon in may), f"the search does not find {name} where it must be"
    for daemon in set(pids) - may:
        assert not in_memory(pids[daemon], needle), f"{name} is in the memory of {daemon}"
        if os.path.isdir(os.path.join(fleet.host(places.WHERE[daemon]).folder, "lib", daemon)):
            assert not in_files(os.path.join(fleet.host(places.WHERE[daemon]).folder, "lib", daemon), needle), f"{name} is in a file of {daemon}"
