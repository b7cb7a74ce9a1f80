# SPDX-License-Identifier: Apache-2.0
"""One machine: what installing, removing and purging leave behind, and what runs in between."""

from conftest import NAMES

USERS = {"loopback-agent": {"_lb-netd", "_lb-fetchd", "_lb-wg"}, "loopback-controld": {"_lb-controld", "_lb-signd"}, "loopback-cli": set()}


def users(machine):
    """Ours, of those that there are."""
    return {line.split(":")[0] for line in machine.run("getent", "passwd").splitlines() if line.startswith("_lb-")}


def test_install_runs_the_agent_which_waits_to_be_enrolled(machine, packages):
    """netd and fetchd run at once, each as its own user; the tunnel's service waits for netd; loopback says that nothing is enrolled."""
    machine.install(packages.deb("loopback-agent"))
    assert machine.active("loopback-netd.service") and machine.active("loopback-fetchd.service")
    assert '"unpinned"' in machine.run("loopback", "status", "--json", check=False)
    for unit in ("loopback-netd", "loopback-fetchd"):
        assert machine.properties(unit, "NRestarts") == {"NRestarts": "0"}
        assert machine.run("systemctl", "is-enabled", unit).strip() == "enabled"
    assert users(machine) == USERS["loopback-agent"]


def test_control_plane_waits_to_be_initialised(machine, packages):
    """Installed and enabled, neither signd nor controld starts, or tries to, before it was initialised."""
    machine.install(packages.deb("loopback-controld"))
    for unit in ("loopback-signd.socket", "loopback-signd.service", "loopback-controld.service"):
        assert machine.run("systemctl", "is-enabled", unit).strip() == "enabled"
        machine.run("systemctl", "start", unit)
        found = machine.properties(unit, "ActiveState", "ConditionResult")
        assert found == {"ActiveState": "inactive", "ConditionResult": "no"}, unit
        assert "was skipped because of an unmet condition" in machine.journal(unit) or unit.endswith(".socket")
        assert machine.properties(unit, "NRestarts").get("NRestarts", "0") == "0", unit


def test_remove_leaves_state_and_purge_leaves_users_alone(machine, packages):
    """Before, after remove, after purge: file by file."""
    before, users_before = machine.files(), users(machine)
    machine.install(*[packages.deb(name) for name in NAMES])
    machine.write("/etc/loopback/netd.env", "NETD_OPTIONS=--listen-port 51999\n")
    machine.run("systemctl", "restart", "loopback-netd")
    machine.run("touch", "/var/lib/loopback/controld/control.db", "/var/lib/loopback/signd/online.key")
    machine.apt("remove", *NAMES)
    left = {path for path in machine.files() if path not in before}
    assert not [path for path in left if path.startswith(("/usr", "/lib"))], left
    assert machine.status("pgrep", "-f", "/usr/libexec/loopback") == 1, "something of ours still runs"
    assert {"/etc/loopback/netd.env", "/etc/loopback/fetchd.env", "/etc/loopback/controld.env", "/var/lib/loopback/netd/host.key",
            "/var/lib/loopback/controld/control.db", "/var/lib/loopback/signd/online.key"} <= left
    machine.write("/var/lib/loopback/someone-elses", "kept\n")
    machine.apt("purge", *NAMES)
    after = machine.files()
    assert {path for path in after if path not in before} == {"/var/lib/loopback", "/var/lib/loopback/someone-elses"}
    assert not [path for path in before if path not in after]
    assert users(machine) - users_before == set().union(*USERS.values())
