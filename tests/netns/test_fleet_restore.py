# SPDX-License-Identifier: Apache-2.0
"""A control plane that is lost whole and comes back from a backup, under a fleet that runs on (C3); then a rotated root (C6).

One story, told in order, on a fleet of its own: hosts that the backup knows keep address and traffic throughout; one that was enrolled since enrols
again; one that was retired since stays out.
"""

import os
import shutil

import pytest

import fleet as fleets
import fleetview
import rig as rigs

PREFIX = os.environ.get("FLEET_PREFIX", "lbt") + "r"
FOLDER = os.path.join(rigs.ROOT, "build/netns-" + PREFIX)
STATES = {"controld": "/var/lib/loopback/controld", "signd": "/var/lib/loopback/signd"}


@pytest.fixture(scope="module", name="own")
def own_fleet():
    """Three hosts and a fourth."""
    made = fleets.Fleet(FOLDER, PREFIX)
    try:
        made.make_certificates()
        made.start_control_plane()
        made.create_network()
        for number in range(1, 5):
            made.add(f"h{number}")
        made.wait_converged()
        yield made
    finally:
        made.take_down()
        shutil.rmtree(FOLDER, ignore_errors=True)


def addresses(fleet):
    """{host: its addresses} of the network."""
    return {entry["name"]: entry["addresses"] for entry in fleet.status()["hosts"]}


def in_force(fleet, name):
    """What a host's netd said last of the keyset."""
    return [line for line in fleet.host(name).log("netd").splitlines() if "is in force" in line][-1]


def wait_keyset(fleet, names, generation, epoch):
    """Until these hosts have a keyset."""
    for name in names:
        rigs.wait_until(f"keyset generation {generation}, epoch {epoch} at {name}",
                        lambda name=name: f"keyset generation {generation}, epoch {epoch} is in force" in in_force(fleet, name), 20)


def sign(fleet, root, online, epoch, generation, after, out):
    """A keyset for one online key."""
    fleet.ctl_text("root", "sign-keyset", "--root", fleet.file(root + "/root.key"), "--online", online, "--epoch", str(epoch), "--generation",
                   str(generation), "--after", fleet.file(after), "--out", fleet.file(out))
    return fleet.file(out)


def test_restored_from_a_backup(own):
    control, stay = own.host("cp"), ["h1", "h2", "h3"]
    before = addresses(own)
    pings = fleetview.Pings(own, stay, interval=0.02)
    for program, state in STATES.items():
        control.enter(program, "backup", own.file(program + ".backup"), "--state", state)
    own.add("h5")
    own.ctl("host", "retire", "h4")
    own.rig.hosts["h4"].stop()
    own.rig.hosts.pop("h4")
    own.wait_converged()

    # both disks are gone
    for program, state in STATES.items():
        control.launch("stop", "loopback-" + program)
        control.enter("find", state, "-mindepth", "1", "-delete")
    control.enter("controld", "restore", own.file("controld.backup"), "--state", STATES["controld"], "--retire", "h4")
    online = control.enter("signd", "restore", own.file("signd.backup"), "--state", STATES["signd"]).stdout.strip()
    for program in ("signd", "controld"):
        control.launch("start", "loopback-" + program)
    control.launch("wait")

    # nothing goes out before the root has spoken: hosts run on with what they have
    done = own.ctl_text("host", "leave", "h3", fleets.NETWORK, check=False)
    assert done.returncode == 1 and "online key" in done.stderr, done.stderr
    assert {name for name in stay if own.reaches(name, own.overlay("h1"))} >= {"h2", "h3"}

    own.ctl_text("keyset", "publish", sign(own, "root", online, 2, 1, "keyset", "keyset2"))
    own.host("h5").launch("stop", "loopback-fetchd")  # it is unknown now; it would ask in vain
    own.wait_converged(stay, timeout=40)
    wait_keyset(own, stay, 1, 2)
    assert addresses(own) == {name: before[name] for name in stay}
    h4 = before["h4"][0].split("/")[0]
    assert not own.reaches("h1", h4, wait=1.0)
    assert all(h4 not in peer[1] for peer in fleetview.peers(own, "h1").values())

    # the host that the backup does not know comes again, as itself
    own.host("h5").launch("start", "loopback-fetchd")
    own.enroll("h5")
    own.wait_converged()
    fleetview.reach(own, fleetview.all_pairs(own, stay + ["h5"]))
    sent, lost = pings.stop(at_least=100)
    assert lost == 0, f"{lost} of {sent}"


def test_a_host_that_was_away_comes_to_the_restored_fleet(own):
    """It slept through backup, loss and restore, with documents of epoch 1 in force: it takes the new epoch when it is back."""
    own.host("h2").reboot(sure=True)
    own.wait_converged(timeout=40)
    assert "epoch 2" in in_force(own, "h2")


def test_a_rotated_root_reaches_a_running_fleet(own):
    names, online = own.members(), own.host("cp").enter("cat", STATES["signd"] + "/online.pub").stdout.strip()
    pings = fleetview.Pings(own, names[:3], interval=0.02)
    own.ctl_text("root", "create", "--out", own.file("root2"))
    own.ctl_text("root", "rotate", "--old", own.file("root/root.key"), "--new", own.file("root2/root.key"), "--keyset", own.file("keyset2"), "--out",
                 own.file("keyset3"))
    own.ctl_text("keyset", "publish", own.file("keyset3"))
    wait_keyset(own, names, 2, 2)
    # the old root's word is worth nothing any more, the new root's alone is enough
    own.ctl_text("root", "sign-keyset", "--root", own.file("root/root.key"), "--online", online, "--epoch", "2", "--generation", "9", "--name", "demo",
                 "--out", own.file("stale"))
    done = own.ctl_text("keyset", "publish", own.file("stale"), check=False)
    assert done.returncode == 1 and "not signed by the root key" in done.stderr, done.stderr
    own.ctl_text("context", "set", "demo", "--root-pub", own.file("root2/root.pub"))
    own.ctl_text("keyset", "publish", sign(own, "root2", online, 2, 3, "keyset3", "keyset4"))
    wait_keyset(own, names, 3, 2)
    # it is what hosts pin now: over a restart, and for those that come
    for service in ("loopback-netd", "loopback-fetchd"):
        own.host("h1").launch("restart", service)
    own.root_public = own.file("root2/root.pub")
    own.add("h6")
    own.wait_converged(timeout=40)
    fleetview.reach(own, [("h6", own.overlay("h1")), ("h1", own.overlay("h6"))])
    sent, lost = pings.stop(at_least=40)
    assert lost == 0, f"{lost} of {sent}"
