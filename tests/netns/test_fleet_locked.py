# SPDX-License-Identifier: Apache-2.0
"""A locked network from end to end: an operator's key that the control plane never sees, real hosts, pings as witnesses."""

import os
import shutil
import sqlite3

import pytest

import fleet as fleets
import fleetview
import rig as rigs

PREFIX = os.environ.get("FLEET_PREFIX", "lbt") + "k"
FOLDER = os.path.join(rigs.ROOT, "build/netns-" + PREFIX)


def host_id(fleet, name):
    """As `loopback status` on the host shows it."""
    return fleetview.status(fleet, name)["host"]


@pytest.fixture(scope="module", name="locked")
def locked_fleet():
    """Three hosts in a network that is locked to them."""
    made = fleets.Fleet(FOLDER, PREFIX)
    try:
        made.make_certificates()
        made.start_control_plane()
        made.create_network()
        for number in range(1, 4):
            made.add(f"h{number}")
        made.wait_converged()
        public = made.ctl("operator", "create", "--out", made.file("operator.key"))["operator_public"]
        next_keyset(made, "--operator", public)
        made.sign = ("--operator-key", made.file("operator.key"))
        made.ctl("network", "lock", fleets.NETWORK, *made.sign, *(word for name in made.members() for word in ("--admit", host_id(made, name))))
        made.wait_converged()
        yield made
    finally:
        made.take_down()
        shutil.rmtree(FOLDER, ignore_errors=True)


def next_keyset(fleet, *words, epoch=0):
    """The keyset in force with something more, published."""
    keyset = fleet.ctl("keyset", "show")
    out = fleet.file(f"keyset-{keyset['generation'] + 1}")
    keys = [word for key in keyset["keys"] for word in (f"--{key['usage'][0]}", key["key"])]
    fleet.ctl_text("root", "sign-keyset", "--root", fleet.file("root/root.key"), *keys, *words, "--epoch", str(keyset["epoch"] + epoch),
                   "--generation", str(keyset["generation"] + 1), "--name", "demo", "--out", out)
    fleet.ctl_text("keyset", "publish", out)


def seen_lists(fleet, name):
    """The generation of the list that is in force on a host, and whether its network is locked."""
    network = fleetview.status(fleet, name)["networks"][0]
    return network["admission_generation"], network["locked"]


def test_lock_admit_evict_and_the_old_list(locked):
    """A host that comes waits; admitted, it joins; evicted, it is out; and the list from before does not bring it back, whoever serves it."""
    fleet, known = locked, locked.members()
    first, last = known[0], known[-1]
    assert all(seen_lists(fleet, name)[1] for name in known)
    assert "locked, list" in fleet.host(first).enter("loopback", "status").stdout
    # Of the hosts that are in it, the last is taken off.
    generation = fleet.ctl("host", "evict", host_id(fleet, last), "--network", fleets.NETWORK, *fleet.sign)["generation"]
    address = [entry for entry in fleet.ctl("host", "show", last)["networks"] if entry["name"] == fleets.NETWORK][0]["addresses"][0].split("/")[0]
    fleet.wait_converged([name for name in known if name != last])
    rigs.wait_until("the eviction on the host itself", lambda: not fleetview.status(fleet, last)["networks"])
    assert not fleet.reaches(first, address) and seen_lists(fleet, first) == (generation, True)
    waits = fleet.ctl("network", "admission", fleets.NETWORK)["awaiting"]
    assert [entry["name"] for entry in waits] == [last]
    # Admitted again, it is a peer again, under the address that it had.
    fleet.ctl("host", "admit", host_id(fleet, last), "--network", fleets.NETWORK, *fleet.sign)
    fleet.wait_converged(known)
    rigs.wait_until("a ping", lambda: fleet.reaches(first, address))

    # A control plane that was taken over brings it back after it was evicted once more: all of its database from the time when it was admitted, signd's too.
    control = fleet.host("cp")
    stop_control_plane(control)
    copies = {path: snapshot(path) for path in databases(control)}
    control.start("loopback-signd", "loopback-controld")
    fleet.ctl("host", "evict", host_id(fleet, last), "--network", fleets.NETWORK, *fleet.sign)
    fleet.wait_converged([name for name in known if name != last])
    stop_control_plane(control)
    for path, data in copies.items():
        restore(path, data)
    control.start("loopback-signd", "loopback-controld")
    pings = fleetview.Pings(fleet, interval=0.05)

    def refused():
        last_result = fleetview.status(fleet, first)["last_result"]
        return last_result and last_result["code"] in ("admission", "downgraded")
    rigs.wait_until("a refusal", refused, timeout=30)
    assert not fleet.reaches(first, address)
    assert host_id(fleet, last) not in str(fleetview.status(fleet, first, "--peers"))
    sent, lost = pings.stop(at_least=10)
    assert lost == 0, f"{lost} of {sent}: the others run on"
    # The operator sees it too, and signs a list that is newer than all that hosts have seen.
    assert "was seen here" in fleet.ctl_text("network", "lock", fleets.NETWORK, *fleet.sign, check=False).stderr
    # A new epoch, as after any restore: manifests are newer again; and the operators' next list is newer than the last that hosts saw.
    next_keyset(fleet, epoch=1)
    fleet.ctl("host", "evict", host_id(fleet, last), "--network", fleets.NETWORK, *fleet.sign, "--accept-older")
    fleet.wait_converged([name for name in known if name != last], timeout=60)
    assert seen_lists(fleet, first)[0] > generation and not fleet.reaches(first, address)


def stop_control_plane(control):
    """Both of its daemons."""
    for service in ("loopback-controld", "loopback-signd"):
        control.launch("stop", service)


def databases(control):
    """The files of both."""
    return [os.path.join(control.folder, "lib", *names) for names in (("controld", "control.db"), ("signd", "state.db"))]


def snapshot(path):
    """A database as one file, whatever its log still holds."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(path, "rb") as file:
        return file.read()


def restore(path, data):
    """The old one in the place of the new one."""
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(data)
