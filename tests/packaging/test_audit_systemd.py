# SPDX-License-Identifier: Apache-2.0
"""loopback audit under a real systemd, on units as they are shipped: clean as they are, and each loosening of a unit named (P5)."""

import json
import os
import subprocess

import pytest

import machine as machines
from conftest import PREFIX

SAME, DIFFERS, UNKNOWN = 0, 1, 2
AGENT = ("netd", "fetchd", "wg-launch")


def installed(machine, folder):
    """This tree on a machine, as `make install` lists it, with its services up. The packages have tests of their own."""
    subprocess.run(["make", "-s", "install", f"DESTDIR={folder}"], cwd=machines.ROOT, check=True, stdout=subprocess.DEVNULL)
    tree = subprocess.run(["tar", "-C", folder, "-c", "--owner=0", "--group=0", "."], check=True, capture_output=True).stdout
    subprocess.run(machine.inside("tar", "-C", "/", "--no-overwrite-dir", "-x"), input=tree, check=True)
    machine.run("systemd-sysusers")
    machine.run("systemd-tmpfiles", "--create", "loopback-agent.conf", "loopback-controld.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", *[f"loopback-{name}.service" for name in ("netd", "fetchd", "wg")])


CONTROL_PLANE = """
    mkdir -p -m 755 /etc/loopback/tls
    mkdir -m 700 /root/ceremony
    cd /root/ceremony
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=control \\
        -addext subjectAltName=IP:198.18.70.4 -keyout /etc/loopback/tls/key.pem -out /etc/loopback/tls/cert.pem 2>/dev/null
    chown _lb-controld /etc/loopback/tls/key.pem
    loopbackctl root create --out root --name prod
    key=$(/usr/libexec/loopback/signd init --state /var/lib/loopback/signd --root-pub root/root.pub)
    loopbackctl root sign-keyset --root root/root.key --online "$key" --epoch 1 --generation 1 --out keyset
    /usr/libexec/loopback/controld init --state /var/lib/loopback/controld --keyset keyset
    echo "CONTROLD_OPTIONS=--tls-cert /etc/loopback/tls/cert.pem --tls-key /etc/loopback/tls/key.pem" >/etc/loopback/controld.env
    systemctl enable --now loopback-signd.socket loopback-controld.service
    install -m 600 /var/lib/loopback/controld/admin.credential .
    loopbackctl context set prod --url https://198.18.70.4:8443 --credential-file "$PWD/admin.credential" \\
        --ca /etc/loopback/tls/cert.pem --root-pub "$PWD/root/root.pub"
    loopbackctl organization create acme
    loopbackctl workspace create servers --organization acme
    loopbackctl network create mesh --workspace servers --cidr 100.64.0.0/16
    loopbackctl token create --workspace servers --network mesh --json | sed -n 's/.*"token": *"\\([^"]*\\)".*/\\1/p' >token
    loopback enroll --url https://198.18.70.4:8443 --ca /etc/loopback/tls/cert.pem --token-file token
"""


@pytest.fixture(scope="module", name="host")
def host_fixture(tmp_path_factory):
    """One machine for all of these tests, each of which leaves it as it was."""
    machines.rootfs()
    machine = machines.Machine(PREFIX + "-d", "198.18.70.4/24")
    try:
        installed(machine, str(tmp_path_factory.mktemp("tree")))
        machine.wait("the tunnel", lambda: audit(machine, "--process", "wg-launch")[0] != UNKNOWN)
        yield machine
    finally:
        machine.end()


def audit(machine, *arguments):
    """(exit status, {process: its part}, {process: {check: check}} of what is not as declared)"""
    done = subprocess.run(machine.inside("loopback", "audit", "--json", *arguments), capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["service_manager"] == "systemd"
    found = {process["name"]: {check["check"]: check for check in process["checks"] if check["result"] not in ("same", "not-shown")}
             for process in report["processes"]}
    return done.returncode, {process["name"]: process for process in report["processes"]}, found


def test_units_as_shipped(host):
    """All three daemons of an agent, found by their units, with the walls that systemd makes around them; nothing else is asked for."""
    status, processes, found = audit(host)
    assert (status, found) == (SAME, {name: {} for name in processes})
    for name in AGENT:
        pid = host.properties("loopback-wg" if name == "wg-launch" else f"loopback-{name}", "MainPID")["MainPID"]
        checks = {check["check"]: check for check in processes[name]["checks"]}
        assert processes[name]["pid"] == int(pid)
        assert {"unit", "unit_table", "unit_in_force", "user_alone"} <= set(checks)
        assert checks["ns_mount"]["found"].startswith("its own") and checks["ns_network"]["found"].startswith("the host's")
        assert "by the service manager, which can only take away" in checks["seccomp"]["found"]
    for name in ("controld", "signd"):
        assert processes[name]["pid"] is None and len(processes[name]["checks"]) == 1


LOOSENED = [
    # drop-in, words in what is found of the unit, further checks that the running process itself then fails
    ("PrivateUsers=no", "sets PrivateUsers=no; shipped: yes", {"ns_user"}),
    ("ProtectSystem=no", "sets ProtectSystem=no; shipped: strict", set()),
    ("BindPaths=/srv", "sets BindPaths=, which adds /srv", set()),
    ("SystemCallFilter=mount", "sets SystemCallFilter=, which adds mount", set()),
    ("RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX AF_INET", "which lacks AF_INET6 AF_NETLINK", set()),
    ("ExecStartPre=-+/usr/bin/true", "sets ExecStartPre=-+/usr/bin/true; shipped: not set", set()),
    ("Environment=LD_BIND_NOW=1", None, {"environment"}),
    ("LimitCORE=infinity", "sets LimitCORE=infinity; shipped: 0", set()),
    ("PrivateIPC=no\nProtectHostname=no", "PrivateIPC=no", {"ns_ipc", "ns_uts"}),
    ("PrivateNetwork=yes", "sets PrivateNetwork=yes; shipped: not set", {"ns_network"}),
]


@pytest.mark.parametrize("setting,words,besides", LOOSENED, ids=[setting.partition("\n")[0] for setting, _, _ in LOOSENED])
def test_loosened_unit(host, setting, words, besides):
    """A drop-in, and what the process that runs with it has too much."""
    path = "/etc/systemd/system/loopback-fetchd.service.d/50-loose.conf"
    host.write(path, f"[Service]\n{setting}\n")
    try:
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "loopback-fetchd.service")
        status, _, found = audit(host, "--process", "fetchd")
    finally:
        host.run("rm", "-r", os.path.dirname(path))
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "loopback-fetchd.service")
    assert status == DIFFERS and set(found["fetchd"]) == besides | ({"unit"} if words else set()), found
    if words:
        assert words in found["fetchd"]["unit"]["found"] and path in found["fetchd"]["unit"]["found"]
    assert audit(host, "--process", "fetchd")[0] == SAME


def test_resources_are_a_matter_of_taste(host):
    """What gives no right is no difference."""
    path = "/etc/systemd/system/loopback-fetchd.service.d/50-taste.conf"
    host.write(path, "[Service]\nMemoryMax=100M\nNice=5\nRestartSec=2\nEnvironment=https_proxy=http://proxy.example:3128\n")
    try:
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "loopback-fetchd.service")
        assert audit(host, "--process", "fetchd")[0] == SAME
    finally:
        host.run("rm", "-r", os.path.dirname(path))
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "loopback-fetchd.service")


def test_a_drop_in_that_waits(host):
    """Written, and not read by systemd yet: what runs is as declared, what will run next is not."""
    path = "/run/systemd/system/loopback-netd.service.d/50-later.conf"
    host.write(path, "[Service]\nAmbientCapabilities=CAP_SYS_ADMIN\n")
    try:
        status, _, found = audit(host, "--process", "netd")
    finally:
        host.run("rm", "-r", os.path.dirname(path))
    assert status == DIFFERS and set(found["netd"]) == {"unit_in_force"}
    assert path in found["netd"]["unit_in_force"]["found"]


def test_another_unit_in_its_place(host):
    """A whole unit in /etc that hides the shipped one."""
    path = "/etc/systemd/system/loopback-fetchd.service"
    text = host.run("cat", "/usr/lib/systemd/system/loopback-fetchd.service")
    host.write(path, text.replace("RestrictNamespaces=yes\n", ""))
    try:
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "loopback-fetchd.service")
        status, _, found = audit(host, "--process", "fetchd")
    finally:
        host.run("rm", path)
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "loopback-fetchd.service")
    assert status == DIFFERS and set(found["fetchd"]) == {"unit"}
    assert found["fetchd"]["unit"]["found"] == "RestrictNamespaces is not set; shipped: yes"


def test_a_shipped_unit_that_is_not_as_the_table(host):
    """Edited in place: what it gives is held against the table itself."""
    path = "/usr/lib/systemd/system/loopback-fetchd.service"
    text = host.run("cat", path)
    host.write(path, text.replace("CapabilityBoundingSet=\n", "CapabilityBoundingSet=CAP_SYS_ADMIN\n"))
    try:
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "loopback-fetchd.service")
        status, _, found = audit(host, "--process", "fetchd")
    finally:
        host.write(path, text)
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "loopback-fetchd.service")
    assert status == DIFFERS and set(found["fetchd"]) == {"unit_table", "cap_bounding"}
    assert found["fetchd"]["unit_table"]["found"] == "CapabilityBoundingSet=CAP_SYS_ADMIN, where the table has none"


def test_loosened_socket(host):
    """A drop-in of a socket that lets everybody bring documents."""
    path = "/etc/systemd/system/loopback-netd-documents.socket.d/50-loose.conf"
    host.write(path, "[Socket]\nSocketMode=0666\nBacklog=5\n")
    units = ("loopback-netd-documents.socket", "loopback-netd.service", "loopback-fetchd.service")
    try:
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "stop", *units)
        host.run("systemctl", "start", *units)
        status, _, found = audit(host, "--process", "netd")
    finally:
        host.run("rm", "-r", os.path.dirname(path))
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "stop", *units)
        host.run("systemctl", "start", *units)
    assert status == DIFFERS and set(found["netd"]) == {"listeners"}
    assert "documents.sock _lb-fetchd 0666" in found["netd"]["listeners"]["found"]
    assert f"{path} sets SocketMode=0666; shipped: 0600" in found["netd"]["listeners"]["found"]
    assert "Backlog" not in found["netd"]["listeners"]["found"]
    status, _, found = audit(host)
    assert status == SAME, found


def test_another_process_of_its_user(host):
    """Whatever it is: it may end the daemon, and write its files."""
    process = subprocess.Popen(host.inside("setpriv", "--reuid=_lb-fetchd", "--clear-groups", "sleep", "60"))
    try:
        host.wait("it", lambda: host.status("pgrep", "-u", "_lb-fetchd", "sleep") == 0)
        status, _, found = audit(host, "--process", "fetchd")
    finally:
        host.run("kill", *host.run("pgrep", "-u", "_lb-fetchd", "sleep").split())
        process.wait()
    assert status == DIFFERS and set(found["fetchd"]) == {"user_alone"}
    assert found["fetchd"]["user_alone"]["found"].endswith(" has it too")


def test_control_plane_and_an_enrolled_agent(host):
    """controld and signd behind their own walls, and the agent with a control plane to speak to."""
    host.run("ip", "address", "add", "198.18.70.4/24", "dev", "lo")
    host.run("sh", "-ec", CONTROL_PLANE)
    status, processes, found = audit(host)
    assert (status, found) == (SAME, {name: {} for name in (*AGENT, "controld", "signd")})
    checks = {name: {check["check"]: check["found"] for check in process["checks"]} for name, process in processes.items()}
    assert checks["signd"]["ns_network"].startswith("its own") and checks["controld"]["ns_network"].startswith("the host's")
    assert "AF_INET6" in checks["controld"]["socket_families"] and "AF_INET" in checks["fetchd"]["socket_families"]
    assert checks["signd"]["writable_paths"] == "/var/lib/loopback/signd"
    assert checks["controld"]["writable_paths"] == "/var/lib/loopback/controld"


def test_what_should_run_and_does_not(host):
    """Enabled and stopped is a difference; disabled is not."""
    host.run("systemctl", "stop", "loopback-fetchd.service")
    try:
        status, _, found = audit(host, "--process", "fetchd")
        assert status == DIFFERS and found == {"fetchd": {"running": found["fetchd"]["running"]}}
        assert found["fetchd"]["running"]["found"] == "inactive"
        host.run("systemctl", "disable", "loopback-fetchd.service")
        status, processes, _ = audit(host)
        assert status == SAME and processes["fetchd"]["checks"][0]["declared"].startswith("need not run")
    finally:
        host.run("systemctl", "enable", "--now", "loopback-fetchd.service")


def test_replaced_program(host):
    """After an upgrade without a restart an older program still runs, though its own root folder goes on showing it that file."""
    program = "/usr/libexec/loopback/fetchd"
    host.run("sh", "-c", f"cp -p {program} {program}.new && mv {program}.new {program}")
    status, _, found = audit(host, "--process", "fetchd")
    host.run("systemctl", "restart", "loopback-fetchd.service")
    assert status == DIFFERS and set(found["fetchd"]) == {"program"}
    assert "replaced since the start" in found["fetchd"]["program"]["found"]
    assert audit(host, "--process", "fetchd")[0] == SAME
