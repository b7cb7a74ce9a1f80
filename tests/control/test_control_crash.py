# SPDX-License-Identifier: Apache-2.0
"""kill -9 of controld or signd between any two messages of a change. Afterwards every host gets a state that is whole, and the change can be made."""

import http.client
import os
import pwd
import threading

import pytest
import wire
from agent import Agent
from plane import USER, Plane
from sign_socket import SIGN, SIGN_NETWORK, SignProxy


class Crasher:
    """Kills a daemon at the n-th moment that signatures of documents go through the proxy; heads are not counted."""

    def __init__(self, plane, victim, at):
        self.plane, self.victim, self.at, self.count, self.fired = plane, victim, at, 0, False
        self.done = threading.Event()

    def __call__(self, moment, number):
        if number not in (SIGN, SIGN_NETWORK) or self.fired:
            return None
        self.count += 1
        if self.count <= self.at:
            return None
        self.fired = True
        getattr(self.plane, self.victim).kill()
        self.done.set()
        return "drop"

    def over(self):
        """The change was tried: nothing is killed any more, and what was being killed is dead."""
        self.plane.proxy.hook = None
        if self.fired:
            assert self.done.wait(10)


@pytest.fixture
def crash_plane(folder):
    plane = Plane(folder, signd_options=("--peer-user", "root"))
    real = plane.signd.socket
    plane.proxy = SignProxy(os.path.join(folder, "proxy.sock"), real, pwd.getpwnam(USER).pw_uid)
    arguments = list(plane.controld.arguments)
    arguments[arguments.index(real)] = plane.proxy.path
    plane.controld.arguments = arguments
    plane.start()
    plane.network = bytes.fromhex(plane.furnish()["id"])
    yield plane
    plane.proxy.close()
    plane.stop()


def enroll(plane, hosts):
    """A third host comes. Returns a function that does it again, as fetchd would."""
    token = plane.token()
    host = Agent(plane, f"newcomer to {hosts[0].name}", "newcomer")
    hosts.append(host)
    registration = host.registration()
    return lambda: host.enroll(token, registration).status == 200


def leave(plane, hosts):
    return lambda: plane.call("DELETE", f"/hosts/{hosts[0].id.hex()}/networks/mesh").status == 200


def retire(plane, hosts):
    host = hosts.pop(0)
    return lambda: plane.call("POST", f"/hosts/{host.id.hex()}/retire").status == 200


def rejoin(plane, hosts):
    plane.ok("DELETE", f"/hosts/{hosts[0].id.hex()}/networks/mesh")
    return lambda: plane.call("POST", f"/hosts/{hosts[0].id.hex()}/networks", {"network": "mesh"}).status == 200


def rekey(plane, hosts):
    hosts[0].rekey()
    registration = hosts[0].registration()
    return lambda: hosts[0].poll(registration=registration).status == 200


def endpoint(plane, hosts):
    return lambda: plane.call("PUT", f"/hosts/{hosts[0].id.hex()}/endpoint", {"endpoint": "192.0.2.1:1"}).status == 200


def revive(plane):
    """What the service manager does."""
    if plane.signd.process.poll() is not None:
        plane.signd.start()
    if plane.controld.process.poll() is not None:
        plane.start_controld()


def attempt(operation):
    try:
        return operation()
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize("victim", ["controld", "signd"])
@pytest.mark.parametrize("operation", [enroll, leave, retire, rejoin, rekey, endpoint], ids=lambda function: function.__name__)
@pytest.mark.parametrize("again", ["the change again", "the others first"])
def test_crash_at_every_step(crash_plane, operation, victim, again):
    plane = crash_plane
    token = plane.token()
    for at in range(8):
        hosts = [Agent(plane, f"{at} {number}", f"h{number}-{at}").enrolled(token) for number in range(3)]
        run = operation(plane, hosts)
        others = hosts[1:]
        plane.proxy.hook = crasher = Crasher(plane, victim, at)
        attempt(run)
        crasher.over()
        revive(plane)
        if again == "the others first":
            for host in others[:2]:
                host.apply()
        if crasher.fired or again == "the change again":
            assert run(), f"step {at}: {plane.controld.text()[-1500:]} {plane.signd.text()[-1500:]}"
        for host in hosts:
            host.apply()
            assert host.generation(plane.network) == plane.status()["generation"] if host.network_ids() else True
        for host in hosts:
            if host.network_ids():
                assert host.id in host.peers(plane.network)
                assert host.peers(plane.network)[host.id][1] == host.wg_key
        for host in hosts:
            plane.ok("POST", f"/hosts/{host.id.hex()}/retire")
        if not crasher.fired:
            assert at > 0, "nothing was signed at all"
            return
    raise AssertionError("the change has more steps than were tried")


def test_a_new_key_survives_a_crash_though_its_host_stays_away(crash_plane):
    """signd never goes back to an older key: controld must not have forgotten the newer one."""
    plane = crash_plane
    token = plane.token()
    hosts = [Agent(plane, number).enrolled(token) for number in range(2)]
    hosts[0].rekey()
    plane.proxy.hook = crasher = Crasher(plane, "controld", 1)  # signd has signed, controld has not heard of it
    attempt(lambda: hosts[0].poll(registration=hosts[0].registration()))
    crasher.over()
    revive(plane)
    hosts[1].apply()
    assert hosts[1].peers(plane.network)[hosts[0].id][1] == hosts[0].wg_key


def test_signd_gone_rolls_everything_back(plane, enrolled):
    host = enrolled(1)
    host.apply()
    token = plane.token()
    plane.signd.kill()
    newcomer = Agent(plane, 2)
    answer = newcomer.enroll(token)
    assert (answer.status, answer.msgpack[0]) == (503, "signer-unavailable")
    plane.refuses(503, "signer-unavailable", "DELETE", f"/hosts/{host.name}/networks/mesh")
    answer = host.poll()
    assert (answer.status, answer.msgpack[0]) == (503, "signer-unavailable")
    assert len(plane.ok("GET", "/hosts")["items"]) == 1
    assert plane.status()["generation"] == 2
    plane.signd.start()
    newcomer.enrolled(token)
    host.apply()
    assert len(host.peers(plane.network)) == 2


def test_signd_killed_again_and_again_while_hosts_come(plane):
    token = plane.token()
    hosts = []
    for number in range(30):
        if number % 5 == 2:
            plane.signd.kill()
        host = Agent(plane, number)
        registration = host.registration()
        if host.enroll(token, registration).status != 200:
            plane.signd.start()
            assert host.enroll(token, registration).status == 200
        hosts.append(host)
    for host in hosts:
        host.apply()
        assert len(host.peers(plane.network)) == 30


def test_a_change_that_signd_refuses_leaves_no_trace(folder):
    plane = Plane(folder, signd_options=("--change-cap", "1"))
    plane.start()
    plane.furnish()
    token = plane.token()
    hosts = [Agent(plane, number).enrolled(token) for number in range(3)]
    generation = plane.status()["generation"]
    plane.signd.stop()
    # A signd that has lost its memory is behind: only a new epoch of the root helps, and controld says so.
    os.rename(os.path.join(plane.signd.state, "state.db"), os.path.join(folder, "lost.db"))
    for name in ("state.db-wal", "state.db-shm"):
        path = os.path.join(plane.signd.state, name)
        if os.path.exists(path):
            os.unlink(path)
    with pytest.raises(AssertionError, match="pinned root"):
        plane.signd.start()
    os.rename(os.path.join(folder, "lost.db"), os.path.join(plane.signd.state, "state.db"))
    plane.signd.start()
    hosts[0].apply()
    assert plane.status()["generation"] == generation
    plane.stop()


def test_documents_that_controld_stored_are_what_signd_signed(plane, enrolled):
    hosts = [enrolled(number) for number in range(20)]
    for host in hosts[:5]:
        plane.ok("DELETE", f"/hosts/{host.name}/networks/mesh")
    for host in hosts:
        host.apply()
    assert {len(host.peers(plane.network)) for host in hosts[5:]} == {15}
    assert wire.trie(hosts[5].peers(plane.network).values())[0] == hosts[5].roots[plane.network]
