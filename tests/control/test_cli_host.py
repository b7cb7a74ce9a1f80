# SPDX-License-Identifier: Apache-2.0
"""loopback, the host's program, with real daemons on two hosts of the rig and a real control plane. As root."""

import json
import os
import shutil
import sys

import pytest

from cli_console import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

import fleet as fleets  # noqa: E402  (needs the path above)
import rig  # noqa: E402

FOLDER = os.path.join(ROOT, "build/cli-host")
NOBODY = ["setpriv", "--reuid", "65534", "--clear-groups"]


@pytest.fixture(scope="module", name="fleet")
def fleet_fixture():
    """A control plane, h1 enrolled, h2 with daemons alone."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    shutil.rmtree(FOLDER, ignore_errors=True)
    made = fleets.Fleet(FOLDER, "lbcli")
    try:
        made.make_certificates()
        made.start_control_plane()
        made.create_network()
        made.boot_host("h1")
        made.boot_host("h2")
        made.enroll("h1")
        yield made
    finally:
        made.take_down()


@pytest.fixture(name="fresh")
def fresh_fixture(fleet):
    """h2, not enrolled, and still not enrolled after the test."""
    yield fleet.host("h2")
    fleet.host("h2").enter("loopback", "leave")


def token(fleet, *more):
    """A new token for the fleet's network."""
    return fleet.ctl("token", "create", "--workspace", "prod", "--network", fleets.NETWORK, *more)["token"]


def enroll(fleet, host, text, *more):
    """loopback enroll with this token; @return what it did"""
    for name, content in (("token", text + "\n"), ("ca.pem", fleet.read("ca.pem"))):
        with open(os.path.join(host.folder, "etc", name), "w", encoding="utf-8") as file:
            file.write(content)
    return host.enter("loopback", "enroll", "--url", f"https://{fleets.CONTROL_NAME}:8443", "--token-file", "/etc/loopback/token",
                      "--ca", "/etc/loopback/ca.pem", *more, check=False)


def status(host, *more):
    """loopback status --json"""
    return json.loads(host.enter("loopback", "status", "--json", *more, check=False).stdout)


def test_status_of_an_enrolled_host(fleet):
    host = fleet.host("h1")
    shown = status(host)
    assert (shown["state"], shown["stale"], shown["interface"]) == ("running", False, "lb0")
    assert shown["networks"][0]["addresses"] == [fleet.overlay("h1") + "/32"] and shown["networks"][0]["cidrs"] == [fleets.CIDR]
    assert shown["control_plane"]["online"] is True and shown["host"] == fleet.ctl("host", "show", "h1")["id"]
    text = host.enter("loopback", "status").stdout
    assert fleet.overlay("h1") in text and "running" in text and "online" in text


def test_everybody_may_ask_and_only_root_may_change(fleet):
    host = fleet.host("h1")
    done = host.enter(*NOBODY, "loopback", "status", "--json")
    assert json.loads(done.stdout)["control_plane"] is None and done.stderr == ""
    for words in (["leave"], ["leave", "--force"]):
        done = host.enter(*NOBODY, "loopback", *words, check=False)
        assert done.returncode == 1 and "only root" in done.stderr
    assert status(host)["state"] == "running"


def test_peers_are_listed_as_wg_shows_them(fleet, fresh):
    assert enroll(fleet, fresh, token(fleet), "--name", "h2").returncode == 0
    fleet.wait_converged()
    host = fleet.host("h1")
    assert fleet.reaches("h1", fleet.overlay("h2"), count=5)
    # Of two hosts that meet, one gets its keepalive a moment later (netd/apply.c).
    rig.wait_until("a keepalive", lambda: "\toff" not in host.enter("wg", "show", "lb0", "persistent-keepalive").stdout)
    listed = status(host, "--peers")["peer_list"]
    line = host.enter("wg", "show", "lb0", "dump").stdout.splitlines()[1].split("\t")
    assert len(listed) == 1
    assert (listed[0]["public_key"], listed[0]["endpoint"], listed[0]["allowed_ips"]) == (line[0], line[2], [line[3]])
    assert (listed[0]["handshake"], listed[0]["keepalive"]) == (int(line[4]), int(line[7]))
    assert listed[0]["host"] == status(fresh)["host"]
    assert "peer_list" not in status(host) and status(host)["peers"]["handshake_fresh"] == 1


def test_a_token_of_another_root_leaves_the_host_as_it_was(fleet, fresh):
    before = status(fresh)
    done = enroll(fleet, fresh, token(fleet).rsplit(".", 1)[0] + "." + "ab" * 32)
    assert done.returncode == 1 and "root" in done.stderr and "forgotten again" in done.stderr
    assert status(fresh)["state"] == "unpinned" and status(fresh)["host"] == before["host"]
    assert enroll(fleet, fresh, token(fleet), "--name", "h2").returncode == 0


def test_a_wrong_secret_is_told_and_forgotten(fleet, fresh):
    number, _, root = token(fleet).split(".")
    done = enroll(fleet, fresh, f"{number}.wrong.{root}", "--json")
    problem = json.loads(done.stderr)
    assert done.returncode == 1 and done.stdout == "" and problem["code"] == "enroll" and "token" in problem["detail"]
    assert status(fresh)["state"] == "unpinned"


def test_an_enrolled_host_does_not_change_its_root(fleet):
    host = fleet.host("h1")
    done = enroll(fleet, host, token(fleet).rsplit(".", 1)[0] + "." + "cd" * 32)
    assert done.returncode == 1 and "another root" in done.stderr and "loopback leave" in done.stderr
    assert status(host)["state"] == "running"


def test_leaving_keeps_the_identity_unless_told_otherwise(fleet, fresh):
    first = json.loads(enroll(fleet, fresh, token(fleet), "--name", "h2", "--json").stdout)
    address = fleet.overlay("h2")
    assert first["enrolled"] is True
    assert fresh.enter("loopback", "leave").returncode == 0
    assert status(fresh)["state"] == "unpinned"
    assert address not in fresh.enter("ip", "-o", "addr").stdout
    assert json.loads(enroll(fleet, fresh, token(fleet), "--name", "h2", "--json").stdout)["host"] == first["host"]
    assert fleet.overlay("h2") == address
    done = fresh.enter("loopback", "leave", "--forget-keys", "--json")
    assert json.loads(done.stdout) == {"enrolled": False, "keys_forgotten": True}
    assert status(fresh)["host"] != first["host"]


def test_leaving_needs_the_control_plane_or_force(fleet, fresh):
    assert enroll(fleet, fresh, token(fleet), "--name", "h2b").returncode == 0
    fleet.host("cp").launch("stop", "loopback-controld")
    try:
        done = fresh.enter("loopback", "leave", check=False, timeout=90)
        assert done.returncode == 1 and "not left" in done.stderr
        assert status(fresh)["state"] == "running"
        assert fresh.enter("loopback", "leave", "--force", timeout=90).returncode == 0
        assert status(fresh)["state"] == "unpinned"
    finally:
        fleet.host("cp").launch("start", "loopback-controld")


def test_the_token_is_never_an_argument_nor_in_a_log(fleet, fresh):
    text = token(fleet)
    assert enroll(fleet, fresh, text, "--name", "h2").returncode == 0
    secret = text.split(".")[1]
    for folder, _, names in os.walk(os.path.join(FOLDER)):
        for name in names:
            path = os.path.join(folder, name)
            if path.endswith(".log"):
                with open(path, encoding="utf-8", errors="replace") as file:
                    assert secret not in file.read(), path
