# SPDX-License-Identifier: Apache-2.0
"""Many hosts that wait: what each costs in memory and time. CONTROL_HOSTS=10000 for the full size; 1,000 otherwise."""

import http.client
import os
import re
import select
import socket
import sqlite3
import time

import wire
from agent import Agent

HOSTS = int(os.environ.get("CONTROL_HOSTS", "1000"))


def resident_kib(daemon):
    """Resident memory."""
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def cpu_seconds(daemon):
    """User and system time, exactly."""
    with open(f"/proc/{daemon.process.pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


def enroll_all(plane, agents):
    """On one connection. Seconds for the first and the last tenth."""
    token, times = plane.token(["wide"]), []
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=60)
    for agent in agents:
        connection.request("POST", "/v1/agent/enroll", wire.pack([agent.registration(), agent.name]), {"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        times.append(time.monotonic())
    connection.close()
    tenth = len(times) // 10
    return times[tenth] - times[0], times[-1] - times[-tenth - 1]


def park(plane, agents, like):
    """All of them in a long poll that has everything. like: one that applied; the others have what it has and their own document."""
    network = like.network_ids()[0]
    with sqlite3.connect(f"file:{plane.state}/control.db?mode=ro", uri=True) as database:
        own = {bytes.fromhex(row[0]): row[1:] for row in database.execute("SELECT id, generation, hash FROM documents WHERE type = 4")}
    database.close()
    keys, manifest = like.entries[wire.KEYSET, plane.deployment], like.entries[wire.NETWORK, network]
    sockets = {}
    for agent in agents:
        generation, name = own[agent.id]
        have = wire.pack([keys[:5] + [b""], [wire.HOST, agent.id, 1, generation, name, b""],
                          manifest[:5] + [like.roots[network]]])
        body = wire.pack([os.urandom(32), have, [], b"", 55])
        headers = dict(agent.signed_headers("/v1/agent/poll", body), Host="x")
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        client = socket.create_connection(("127.0.0.1", plane.port))
        client.sendall(f"POST /v1/agent/poll HTTP/1.1\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body)
        sockets[client.fileno()] = client
    return sockets


def wait_answers(sockets, seconds):
    """Wait until each has an answer; returns how many have."""
    waiting, answered = select.epoll(), set()
    for number in sockets:
        waiting.register(number, select.EPOLLIN)
    until = time.monotonic() + seconds
    while len(answered) < len(sockets) and time.monotonic() < until:
        for number, _ in waiting.poll(0.1, 4096):
            data = sockets[number].recv(65536)
            if number not in answered:
                assert data.startswith(b"HTTP/1.1 200"), data[:300]
                answered.add(number)
    waiting.close()
    return len(answered)


def test_hosts_that_wait_are_cheap_and_told_at_once(plane):
    plane.ok("POST", "/networks", {"name": "wide", "workspace": "prod", "cidrs": ["10.0.0.0/14"]})
    agents = [Agent(plane, number) for number in range(HOSTS)]
    first, last = enroll_all(plane, agents)
    assert last < 4 * first + 0.5, f"the last tenth took {last:.2f} s, the first {first:.2f} s: joining is not to grow with the network"
    agents[0].apply()
    before = resident_kib(plane.controld)
    sockets = park(plane, agents, agents[0])
    assert wait_answers(sockets, 1.5) == 0
    each = (resident_kib(plane.controld) - before) / HOSTS
    assert each < 16, f"{each:.1f} KiB for a parked poll"

    used, begun = cpu_seconds(plane.controld) + cpu_seconds(plane.signd), time.monotonic()
    plane.ok("PUT", f"/hosts/{agents[0].name}/endpoint", {"endpoint": "192.0.2.1:1"})
    assert wait_answers(sockets, 30) == HOSTS
    took = time.monotonic() - begun
    used = (cpu_seconds(plane.controld) + cpu_seconds(plane.signd) - used) / HOSTS * 1e6
    print(f"{HOSTS} hosts: {each:.1f} KiB each while parked; a change told to all in {took:.2f} s, {used:.0f} us of CPU time each")
    assert used < 2000
    for client in sockets.values():
        client.close()
