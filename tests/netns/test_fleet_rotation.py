# SPDX-License-Identifier: Apache-2.0
"""WireGuard keys are replaced under traffic (M10): no packet is lost, one interface before and after, and what is interrupted ends in a working mesh.

One story on a fleet of its own, whose hosts run the second wg-launch as well.
"""

import os
import shutil
import signal
import time

import pytest

import fleet as fleets
import fleetview
import rig as rigs

PREFIX = os.environ.get("FLEET_PREFIX", "lbt") + "o"
FOLDER = os.path.join(rigs.ROOT, "build/netns-" + PREFIX)
NAMES = ("h1", "h2", "h3")


@pytest.fixture(scope="module", name="own")
def own_fleet():
    """Three hosts."""
    made = fleets.Fleet(FOLDER, PREFIX)
    made.services += ("loopback-wg-next",)
    try:
        made.make_certificates()
        made.start_control_plane()
        made.create_network()
        for name in NAMES:
            made.add(name, options={"netd": "--interface lb0 --listen-port 51820" + (" --assigned-keys" if name == "h3" else "")})
        made.wait_converged()
        yield made
    finally:
        made.take_down()
        shutil.rmtree(FOLDER, ignore_errors=True)


def key(fleet, name):
    """The public key of a host's lb0, as wg(8) shows it."""
    return fleet.host(name).enter("wg", "show", "lb0", "public-key").stdout.strip()


def interfaces(fleet, name):
    """A host's tunnels."""
    return sorted(fleet.host(name).enter("wg", "show", "interfaces").stdout.split())


def known(fleet, name, others):
    """Do these hosts have a host's present key, and no other of it?"""
    address = fleet.overlay(name) + "/32"
    return all([peer for peer, entry in fleetview.peers(fleet, other).items() if address in entry[1].split(",")] == [key(fleet, name)]
               for other in others if other != name)


def wait_over(fleet, names=NAMES):
    """Until each has its one interface again, no route through another, and the others' present keys."""
    for name in names:
        rigs.wait_until(f"one interface at {name}", lambda name=name: interfaces(fleet, name) == ["lb0"], 60, interval=0.1)
        assert "lb0n" not in fleet.host(name).enter("ip", "route", "show", "table", "all").stdout
        rigs.wait_until(f"the key of {name} at its peers", lambda name=name: known(fleet, name, names), 10)


def rotating(fleet, name="h1"):
    """Has a host moved to the second interface with somebody?"""
    return "lb0n" in fleet.host(name).enter("ip", "route").stdout


def job_of(fleet, job):
    """A job as it is now."""
    return fleet.ctl("job", "show", job["id"])


def wait_job(fleet, job, timeout=60):
    """Until a job is over; returns it."""
    rigs.wait_until("the job's end", lambda: job_of(fleet, job)["state"] == "done", timeout, interval=0.2)
    return job_of(fleet, job)


def test_a_host_gets_a_new_key_under_traffic(own):
    before = {name: key(own, name) for name in NAMES}
    pings = fleetview.Pings(own, NAMES, interval=0.005)
    job = own.ctl("host", "rotate-key", "h1", "--wait", "45s")
    assert (job["state"], job["done"], job["outstanding_count"]) == ("done", 1, 0), job
    rigs.wait_until("the new key", lambda: key(own, "h1") != before["h1"], 20)
    wait_over(own)
    sent, lost = pings.stop(at_least=500)
    assert lost == 0, f"{lost} of {sent}"
    assert {name: key(own, name) for name in ("h2", "h3")} == {name: before[name] for name in ("h2", "h3")}


def test_all_hosts_of_a_network_get_new_keys_under_traffic(own):
    before = {name: key(own, name) for name in NAMES}
    pings = fleetview.Pings(own, NAMES, interval=0.005)
    job = own.ctl("network", "rotate-keys", fleets.NETWORK)
    again = own.ctl_text("host", "rotate-key", "h2", check=False)
    assert again.returncode == 1 and "getting a new key already" in again.stderr, again.stderr
    job = wait_job(own, job)
    assert (job["done"], job["outstanding_count"]) == (3, 0), job
    rigs.wait_until("new keys", lambda: not {key(own, name) for name in NAMES} & set(before.values()), 20)
    wait_over(own)
    sent, lost = pings.stop(at_least=500)
    assert lost == 0, f"{lost} of {sent}"


def test_one_wave_at_a_time(own):
    """A second interface is in use on both ends when the next job comes: another key of its own would drop what is on it, so that job waits."""
    before = {name: key(own, name) for name in NAMES}
    pings = fleetview.Pings(own, NAMES, interval=0.005)
    slow = own.host("h2").pid("loopback-fetchd")
    os.kill(slow, signal.SIGSTOP)
    try:
        first = own.ctl("host", "rotate-key", "h1")
        rigs.wait_until("the second interface in use", lambda: rotating(own) and rotating(own, "h3"), 20)
        assert fleetview.status(own, "h3")["rotation"] == {"hosts": 1, "this_host": False, "moving": 0, "second_tunnel": True}
        assert "of 1 hosts are being replaced, this one's among them" in own.host("h1").enter("loopback", "status").stdout
        second = own.ctl("host", "rotate-key", "h3")
        time.sleep(3)
    finally:
        os.kill(slow, signal.SIGCONT)
    for job in (first, second):
        job = wait_job(own, job)
        assert (job["done"], job["outstanding_count"]) == (1, 0), job
    wait_over(own)
    assert key(own, "h1") != before["h1"] and key(own, "h3") != before["h3"] and key(own, "h2") == before["h2"]
    sent, lost = pings.stop(at_least=500)
    assert lost == 0, f"{lost} of {sent}"


def test_who_is_slow_to_move_back_is_waited_for(own):
    """A peer's netd that has the new keys and does not get to run: what it sends still comes over the second interface, so that stays."""
    before = key(own, "h2")
    pings = fleetview.Pings(own, NAMES, interval=0.005)
    netd = own.host("h2").pid("loopback-netd")
    job = own.ctl("network", "rotate-keys", fleets.NETWORK)
    rigs.wait_until("the second interface in use", lambda: rotating(own, "h2"), 20)
    rigs.wait_until("the new key", lambda: key(own, "h2") != before, 20, interval=0.01)
    os.kill(netd, signal.SIGSTOP)
    try:
        assert rotating(own, "h2"), "it was too quick for this test"
        rigs.wait_until("the others to move back", lambda: not rotating(own, "h1") and not rotating(own, "h3"), 20)
        time.sleep(7)
    finally:
        os.kill(netd, signal.SIGCONT)
    job = wait_job(own, job)
    assert (job["done"], job["outstanding_count"]) == (3, 0), job
    wait_over(own)
    sent, lost = pings.stop(at_least=500)
    assert lost == 0, f"{lost} of {sent}"


def test_a_key_of_the_control_planes_under_traffic(own):
    """Only for the host whose owner lets it; nobody loses a packet."""
    said = own.ctl_text("host", "rotate-key", "h1", "--assigned", check=False)
    assert said.returncode == 1 and "--assigned-keys" in said.stderr, said.stderr
    before = key(own, "h3")
    pings = fleetview.Pings(own, NAMES, interval=0.005)
    job = own.ctl("host", "rotate-key", "h3", "--assigned", "--wait", "45s")
    assert (job["state"], job["done"], job["outstanding_count"]) == ("done", 1, 0), job
    rigs.wait_until("the new key", lambda: key(own, "h3") != before, 20)
    wait_over(own)
    sent, lost = pings.stop(at_least=500)
    assert lost == 0, f"{lost} of {sent}"
    shown = own.ctl("host", "show", "h3")
    assert (shown["key_made_by"], shown["public_key"]) == ("control-plane", key(own, "h3"))
    assert "was made by the control plane" in own.host("h3").log("netd")


def test_killed_half_way_it_goes_on(own):
    """netd of the host itself and of a peer, signd and controld, each without warning while routes are on the second interface."""
    before = key(own, "h1")
    pings = fleetview.Pings(own, NAMES, interval=0.02)
    job = own.ctl("host", "rotate-key", "h1")
    rigs.wait_until("the second interface in use", lambda: rotating(own), 20)
    for name, service in (("h1", "loopback-netd"), ("h2", "loopback-netd"), ("cp", "loopback-controld"), ("cp", "loopback-signd")):
        fleetview.kill(own.host(name), service)
    for name in ("cp", "h1", "h2"):
        own.host(name).launch("wait")
    job = wait_job(own, job)
    assert (job["done"], job["outstanding_count"]) == (1, 0), job
    rigs.wait_until("the new key", lambda: key(own, "h1") != before, 20)
    fleetview.kill(own.host("h1"), "loopback-netd")
    wait_over(own)
    sent, lost = pings.stop(at_least=100)
    assert lost == 0, f"{lost} of {sent}"


def test_with_a_peer_away_the_deadline_ends_it(own):
    """h3 is off: the others move, the keys are swapped when the time is up, and h3 finds the new one when it is back."""
    before = key(own, "h1")
    own.host("h3").stop()
    pings = fleetview.Pings(own, ("h1", "h2"), interval=0.02)
    job = own.ctl("host", "rotate-key", "h1", "--deadline", "5s")
    rigs.wait_until("the second interface in use", lambda: rotating(own), 20)
    job = wait_job(own, job)
    assert job["done"] == 1, job
    rigs.wait_until("the new key", lambda: key(own, "h1") != before, 20)
    wait_over(own, ("h1", "h2"))
    sent, lost = pings.stop(at_least=100)
    assert lost == 0, f"{lost} of {sent}"
    own.host("h3").reboot()
    own.wait_converged(timeout=40)
    wait_over(own)
    fleetview.reach(own, fleetview.all_pairs(own, NAMES))


def test_a_host_out_of_reach_keeps_its_key(own):
    """Its control plane does not hear of it: nothing is swapped behind its back, and the mesh works on. Asked again, it follows."""
    before = key(own, "h2")
    own.host("h2").launch("stop", "loopback-fetchd")
    pings = fleetview.Pings(own, NAMES, interval=0.02)
    job = wait_job(own, own.ctl("host", "rotate-key", "h2", "--deadline", "5s"))
    assert (job["done"], [entry["name"] for entry in job["outstanding"]]) == (0, ["h2"]), job
    own.host("h2").launch("start", "loopback-fetchd")
    own.wait_converged(timeout=40)
    sent, lost = pings.stop(at_least=100)
    assert (lost, key(own, "h2")) == (0, before), f"{lost} of {sent}"
    wait_over(own)


def test_one_that_announced_its_next_key_and_vanished_keeps_the_old_one(own):
    """h3 is not heard of, so that it lasts; then h2 is not: the others give its next key up at the deadline, and go on with it as it is."""
    before = key(own, "h2")
    own.host("h3").launch("stop", "loopback-fetchd")
    job = own.ctl("host", "rotate-key", "h2", "--deadline", "5s")
    rigs.wait_until("the second interface in use", lambda: rotating(own, "h1") and rotating(own, "h2"), 20)
    own.host("h2").launch("stop", "loopback-fetchd")
    own.ctl("network", "set", fleets.NETWORK, "--keepalive", "24")  # one more generation, which h2 does not hear of
    job = wait_job(own, job)
    assert (job["done"], key(own, "h2")) == (0, before), job
    for name in ("h2", "h3"):
        own.host(name).launch("start", "loopback-fetchd")
    own.ctl("network", "set", fleets.NETWORK, "--keepalive", "25")
    own.wait_converged(timeout=40)
    wait_over(own)
    assert key(own, "h2") == before
    fleetview.reach(own, fleetview.all_pairs(own, NAMES))
