# SPDX-License-Identifier: Apache-2.0
"""A database that stalls, a disk that is full, a controld that is killed: hosts get an error, no answer, or a set that is whole; never a shorter list."""

import http.client
import os
import pwd
import random
import sqlite3
import subprocess
import threading
import time

import pytest
from agent import Agent
from plane import USER, Plane

HOSTS = 20
KILLS = 8
PAUSE_S = 0.05  # 20 requests a second, of the 48 that a host may make
PATIENCE_S = 20


class Worker(threading.Thread):
    """Does one thing again and again until it is told to end; what goes wrong is raised by whoever waits for it."""

    def __init__(self):
        super().__init__()
        self.trouble = None
        self.ended = threading.Event()

    def run(self):
        try:
            while not self.ended.wait(PAUSE_S):
                self.once()
        except BaseException as error:  # pylint: disable=broad-except
            self.trouble = error

    def until(self, condition):
        """Wait for something that it has come to."""
        until = time.monotonic() + PATIENCE_S
        while not condition(self):
            if self.trouble:
                raise self.trouble
            assert time.monotonic() < until, self.state()
            time.sleep(0.01)


class Watcher(Worker):
    """A host that polls all the time. What it is told is verified as netd does it, and nobody may be missing who was there before."""

    def __init__(self, agent, network):
        super().__init__()
        self.agent, self.network, self.known = agent, network, set()
        self.told = self.refused = self.silent = 0
        self.due = False  # a receipt: for what is new, once

    def state(self):
        """For a person."""
        return f"told {self.told}, refused {self.refused}, without an answer {self.silent}, peers {len(self.known)}"

    def once(self):
        """A poll. The first tells all; the others what is new."""
        body = self.agent.poll_body(receipts=[self.agent.receipt()] if self.due else [])
        try:
            answer = self.agent.post("/v1/agent/poll", body)
        except (OSError, http.client.HTTPException):
            self.silent += 1
            return
        if answer.status != 200:
            assert answer.status in (401, 409, 500, 503), f"{answer.status} {answer.body}"  # 401: made before this controld was
            self.refused += 1
            return
        self.due = self.agent.take(answer.msgpack, body[0]) > 0
        peers = set(self.agent.peers(self.network))
        assert peers >= self.known, f"{len(self.known - peers)} peers of {len(self.known)} are missing"
        self.known = peers
        self.told += 1


class Joining(Worker):
    """One host after the other joins."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def state(self):
        """For a person."""
        return f"{len(self.watch.members)} members"

    def once(self):
        """One more."""
        self.watch.join()


class Watch:
    """Three watchers in a network of twenty, and who joins meanwhile. A context manager."""

    def __init__(self, plane):
        self.plane, self.token, self.members = plane, plane.token(), set()
        agents = [Agent(plane, number).enrolled(self.token) for number in range(HOSTS)]
        self.members.update(agent.id for agent in agents)
        self.number = HOSTS
        self.watchers = [Watcher(agent, plane.network) for agent in agents[:3]]
        self.cold = agents[3]

    def __enter__(self):
        for watcher in self.watchers:
            watcher.start()
        self.all(lambda watcher: watcher.known == self.members)
        return self

    def __exit__(self, *what):
        for watcher in self.watchers:
            watcher.ended.set()
        for watcher in self.watchers:
            watcher.join()
        for watcher in self.watchers:
            if watcher.trouble and not what[0]:
                raise watcher.trouble

    def all(self, condition):
        """Wait until it holds for each."""
        for watcher in self.watchers:
            watcher.until(condition)

    def settled(self):
        """Each is told of all who were let in, more than once."""
        counts = {watcher: watcher.told for watcher in self.watchers}
        self.all(lambda watcher: watcher.known >= self.members and watcher.told > counts[watcher] + 1)

    def join(self):
        """One more tries to come in. Returns whether it was let in."""
        self.number += 1
        agent = Agent(self.plane, self.number)
        try:
            answer = agent.enroll(self.token)
        except (OSError, http.client.HTTPException):
            return False
        if answer.status == 200:
            self.members.add(agent.id)
        else:
            assert answer.status >= 500, answer.body
        return answer.status == 200


def test_another_writer_holds_the_database(plane):
    with Watch(plane) as watch:
        other = sqlite3.connect(f"{plane.state}/control.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            assert not watch.join(), "nothing can be written"
            watch.cold.apply()  # what is known is told all the same
            assert set(watch.cold.peers(plane.network)) == watch.members
            counts = {watcher: watcher.told + watcher.refused for watcher in watch.watchers}
            watch.all(lambda watcher: watcher.told + watcher.refused > counts[watcher] + 5)  # and nobody waits for the lock but the first
        finally:
            other.execute("ROLLBACK")
            other.close()
        watch.settled()
        assert watch.join()
        watch.settled()


@pytest.fixture(name="wide_plane")
def plane_with_room(folder):
    made = Plane(folder)
    made.start()
    made.network = bytes.fromhex(made.furnish(["10.0.0.0/16"])["id"])
    yield made
    made.stop()


@pytest.fixture(name="small_plane")
def plane_on_a_small_disk(folder):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=16m,mode=700,uid={pwd.getpwnam(USER).pw_uid}", "none", folder], check=True)
    try:
        made = Plane(folder)
        try:
            made.start()
            made.network = bytes.fromhex(made.furnish()["id"])
            yield made
        finally:
            made.stop()
    finally:
        subprocess.run(["umount", folder], check=True)


def test_the_disk_is_full(small_plane):
    with Watch(small_plane) as watch:
        filler = os.path.join(small_plane.folder, "filler")
        with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
            while file.write(bytes(4096)) == 4096:
                pass
        refused = [not watch.join() for _ in range(20)]
        assert any(refused), "the disk is not full"
        before = {watcher: watcher.told + watcher.refused for watcher in watch.watchers}
        watch.all(lambda watcher: watcher.told + watcher.refused > before[watcher] + 5)
        os.remove(filler)
        watch.settled()
        assert watch.join()
        watch.settled()


def test_killed_while_hosts_join(wide_plane):
    with Watch(wide_plane) as watch:
        joining = Joining(watch)
        joining.start()
        try:
            for _ in range(KILLS):
                members = len(watch.members)
                joining.until(lambda _, members=members: len(watch.members) > members)
                time.sleep(random.uniform(0, 0.3))  # the moment is what is tried, nothing is waited for
                wide_plane.controld.kill()
                wide_plane.start_controld()
        finally:
            joining.ended.set()
            joining.join()
        assert not joining.trouble, joining.trouble
        watch.settled()
        assert len(watch.members) >= HOSTS + KILLS
        assert wide_plane.status()["generation"] == watch.watchers[0].agent.generation(wide_plane.network)
