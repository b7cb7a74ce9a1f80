# SPDX-License-Identifier: Apache-2.0
"""loopbackctl against a real control plane on this machine: signd and controld on plain HTTP, without hosts."""

import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time

import pytest

from cli_console import Console, program


def free_port():
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, ready, processes, seconds=10.0):
    """Wait for a daemon, which must not end meanwhile."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert all(process.poll() is None for process in processes), f"a daemon ended before {what}"
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.02)


def answers(port):
    """Does somebody listen there?"""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


DAEMONS = {"user": "nobody", "group": "nogroup", "extra_groups": []}  # nothing of ours runs as root


@pytest.fixture(scope="module", name="folder")
def folder_fixture():
    """A folder that the daemons' user can reach; pytest's own are root's alone."""
    folder = tempfile.mkdtemp(prefix="loopback-cli.")
    os.chmod(folder, 0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", name="console")
def console_fixture(folder):
    """An operator with a context, and the control plane behind it."""
    console = Console(folder)
    console.ok("root", "create", "--out", "root", "--name", "lab")
    os.mkdir(console.file("signd"), 0o700)
    os.mkdir(console.file("controld"), 0o700)
    for name in ("signd", "controld"):  # init makes its files those of the folder's owner
        shutil.chown(console.file(name), DAEMONS["user"], DAEMONS["group"])
    online = console.run("signd", "init", "--state", "signd", "--root-pub", "root/root.pub").stdout.split()[-1]
    console.ok("root", "sign-keyset", "--root", "root/root.key", "--online", online, "--epoch", "1", "--generation", "1", "--out", "keyset")
    assert console.run("controld", "init", "--state", "controld", "--keyset", "keyset").returncode == 0
    port = free_port()
    processes = []
    with open(console.file("daemons.log"), "wb") as log:
        try:
            for name, words in (("signd", ["--listen", console.file("signd/sign.sock")]),
                                ("controld", ["--listen", f"127.0.0.1:{port}", "--signd", console.file("signd/sign.sock")])):
                processes.append(subprocess.Popen([program(name), "--state", console.file(name), *words], stderr=log, stdout=log, **DAEMONS))
                wait_for(name, (lambda: os.path.exists(console.file("signd/sign.sock"))) if name == "signd" else (lambda: answers(port)), processes)
            console.ok("context", "set", "lab", "--url", f"http://127.0.0.1:{port}", "--credential-file", "controld/admin.credential",
                       "--root-pub", "root/root.pub")
            console.online = online
            yield console
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(timeout=10)


@pytest.fixture(scope="module", name="objects")
def objects_fixture(console):
    """An organization, a workspace and a network."""
    return {"organization": console.json("organization", "create", "acme"),
            "workspace": console.json("workspace", "create", "prod", "--organization", "acme"),
            "network": console.json("network", "create", "mesh", "--workspace", "prod", "--cidr", "100.64.0.0/16", "--mtu", "1400")}


def test_version_and_keyset(console):
    assert console.json("server", "version")["name"] == "lab"
    shown = console.json("keyset", "show")
    assert shown["verified"] is True and shown["keys"][0]["key"] == console.online


def test_objects_go_by_name_and_by_id(console, objects):
    network = objects["network"]
    assert (network["cidrs"], network["mtu"], network["keepalive"]) == (["100.64.0.0/16"], 1400, 25)
    assert console.json("network", "show", "mesh") == console.json("network", "show", network["id"])
    assert network["workspace"] == objects["workspace"]["id"]


def test_tables_have_names_where_programs_get_ids(console, objects):
    lines = console.ok("network", "list").splitlines()
    assert lines[0].split()[:2] == ["NAME", "CIDRS"]
    row = lines[1].split()
    assert row[0] == "mesh" and "acme" in row and "prod" in row and objects["workspace"]["id"] not in row
    assert lines[0].index("ORGANIZATION") == lines[1].index("acme")
    assert console.json("network", "list")[0]["workspace"] == objects["workspace"]["id"]


def test_control_planes_words_reach_the_operator(console, objects):
    assert objects
    assert "nowhere" in console.refuses(1, "network", "show", "nowhere")
    assert "acme" in console.refuses(1, "organization", "create", "acme")
    problem = json.loads(console.refuses(1, "network", "show", "nowhere", "--json"))
    assert (problem["status"], problem["code"]) == (404, "not-found")


def test_names_cannot_reach_other_paths(console, objects):
    assert objects
    for name in ("../organizations", "mesh/status", "mesh?x=1", "mesh#", "%6desh", "", "a" * 3000):
        assert "neither a name" in console.refuses(2, "network", "show", name)


def test_token_carries_the_operators_root(console, objects):
    assert objects
    token = console.ok("token", "create", "--workspace", "prod", "--network", "mesh", "--ttl", "30m", "--description", "web \u00e9").strip()
    with open(console.file("root/root.pub"), encoding="utf-8") as file:
        assert token.split(".")[2] == file.read().strip()
    assert len(token.split(".")) == 3
    listed = [row for row in console.json("token", "list") if row["id"] == token.split(".")[0]]
    assert listed[0]["description"] == "web \u00e9" and token.split(".")[1] not in json.dumps(console.json("token", "list"))
    table = console.ok("token", "list")
    assert "prod" in table and "mesh" in table and "web \u00e9" in table


def test_token_to_a_private_file(console, objects):
    assert objects
    answer = console.json("token", "create", "--workspace", "prod", "--out", "token")
    with open(console.file("token"), encoding="utf-8") as file:
        text = file.read().strip()
    assert stat.S_IMODE(os.stat(console.file("token")).st_mode) == 0o600
    assert text.split(".")[0] == answer["id"] and "token" not in answer
    assert "revoke" in console.refuses(1, "token", "create", "--workspace", "prod", "--out", "token")
    with open(console.file("token"), encoding="utf-8") as file:
        assert file.read().strip() == text


def test_token_is_revoked(console, objects):
    assert objects
    made = console.json("token", "create", "--workspace", "prod")
    console.ok("token", "revoke", made["id"])
    assert [row["revoked"] is not None for row in console.json("token", "list") if row["id"] == made["id"]] == [True]


def test_credential_with_less_permission(console, objects):
    assert objects
    made = console.json("credential", "create", "--permission", "read", "--permission", "tokens.list", "--description", "viewer",
                        "--out", "viewer")
    assert made["permissions"] == ["read", "tokens.list"]
    url = console.json("context", "show")["url"]
    console.ok("context", "set", "viewer", "--url", url, "--credential-file", "viewer")
    assert "mesh" in console.ok("network", "list", "--context", "viewer")
    assert "networks.write" in console.refuses(1, "network", "delete", "mesh", "--context", "viewer")
    console.ok("credential", "revoke", made["id"])
    assert "revoked" in console.refuses(1, "network", "list", "--context", "viewer")


def test_empty_network_is_converged_and_can_be_deleted(console, objects):
    assert objects
    console.ok("network", "create", "spare", "--organization", "acme", "--cidr", "100.65.0.0/24", "--cidr", "fd00:5::/64")
    status = console.json("network", "status", "spare", "--wait", "5")
    assert status["hosts"] == []
    assert "No host is in it" in console.ctl("network", "status", "spare").stderr
    console.ok("network", "delete", "spare")
    assert "spare" not in console.ok("network", "list")


def test_lists_are_read_to_their_end(console, objects):
    assert objects
    made = {console.json("token", "create", "--workspace", "prod")["id"] for _ in range(5)}
    assert made <= {row["id"] for row in console.json("token", "list")}


def test_keyset_is_published_and_only_forward(console, objects):
    assert objects
    sign = ["root", "sign-keyset", "--root", "root/root.key", "--online", console.online, "--after", "keyset", "--epoch", "1"]
    console.ok(*sign, "--generation", "2", "--out", "keyset2")
    assert console.json("keyset", "publish", "keyset2")["generation"] == 2
    assert console.json("keyset", "show")["generation"] == 2
    assert console.refuses(1, "keyset", "publish", "keyset")
    console.ok("root", "create", "--out", "stranger", "--name", "lab")
    console.ok("root", "sign-keyset", "--root", "stranger/root.key", "--online", console.online, "--epoch", "9", "--generation", "9",
               "--out", "foreign")
    assert "is not signed by the root" in console.refuses(1, "keyset", "publish", "foreign")


def test_changes_are_in_the_audit_log(console, objects):
    assert objects
    whats = [row["what"] for row in console.json("audit", "list")]
    assert "POST /v1/organizations" in whats
    assert "POST /v1/organizations" in console.ok("audit", "list")


def test_secrets_are_not_in_what_was_run(console, objects):
    """No process of ours ever had the credential as an argument: loopbackctl refuses to have such an option at all."""
    assert objects
    with open(console.file("controld/admin.credential"), encoding="utf-8") as file:
        secret = file.read().strip().split(".")[1]
    assert secret not in console.ctl("host", "list", "--json").stderr
    with open(console.file("config/loopbackctl.json"), encoding="utf-8") as file:
        assert secret not in file.read()
    assert "unknown option --credential" in console.refuses(2, "host", "list", "--credential", "x")
