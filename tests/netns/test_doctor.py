# SPDX-License-Identifier: Apache-2.0
"""loopback doctor: each cause is made for real, and it is named, on the right object, and nothing else is (M13)."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest

import faults
import fleetview
import rig as rigs

WELL, PROBLEM, UNKNOWN, INTERRUPTED = 0, 1, 2, 130
SETTLED_SECONDS = 6  # netd compares its device 5 s after it took it over; then not for 5 minutes
PORT = 51820


def doctor(fleet, name, *words):
    """(exit status, what --json says)"""
    done = fleet.host(name).enter("loopback", "doctor", "--json", *words, check=False, timeout=60)
    assert done.stdout and not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def problems(report):
    """Everything that is wrong: [finding], each complete."""
    found = [finding for check in report["checks"] for finding in check["problems"]]
    assert all(finding[key] for finding in found for key in ("code", "kind", "object", "means", "expected", "found", "do")), found
    assert all(bool(check["problems"]) == (check["result"] == "problem") for check in report["checks"])
    return found


def only(fleet, name, code, *words):
    """The one thing that is wrong on a host has this code; returns the finding and the results of all checks."""
    status, report = doctor(fleet, name, *words)
    found = problems(report)
    assert [finding["code"] for finding in found] == [code], json.dumps([found, report["checks"]], indent=1)
    assert (status, report["result"], report["problems"]) == (PROBLEM, "problem", 1)
    return found[0], {check["check"]: check["result"] for check in report["checks"]}


def host_id(fleet, name):
    """As netd tells it."""
    return fleetview.status(fleet, name)["host"]


def key(fleet, name):
    """The public key of a host."""
    return fleet.host(name).enter("wg", "show", "lb0", "public-key").stdout.strip()


def ages(host, *services):
    """For how many seconds processes have run."""
    ticks = os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime", encoding="utf-8") as file:
        now = float(file.read().split()[0])
    return [now - rigs.start_time(host.pid(service)) / ticks for service in services]


def settle(host):
    """Until netd has compared the device that it took over: what is done to it after that stays for minutes."""
    services = ["netd"] + ["wg"] * (host.units()["loopback-wg"]["state"] != "skipped")
    rigs.wait_until(f"{host.name}: a comparison with the device", lambda: min(ages(host, *services)) > SETTLED_SECONDS, 20, 0.1)


def restart(host, *services):
    """Services anew, and netd's mesh with them."""
    for service in services:
        host.launch("restart", service)
    host.launch("wait")
    rigs.wait_until("running", lambda: '"state": "running"' in host.enter("loopback", "status", "--json", check=False).stdout)


def without_sessions(fleet, *names):
    """Tunnels that have not shaken hands yet."""
    for name in names:
        host = fleet.host(name)
        if host.units()["loopback-wg"]["state"] == "skipped":
            host.enter("ip", "link", "delete", "lb0")
            restart(host, "loopback-netd")
        else:
            host.launch("restart", "loopback-wg")
    for name in names:
        fleet.host(name).launch("wait")
        rigs.wait_until(f"{name}: peers", lambda name=name: fleetview.status(fleet, name)["state"] == "running" and
                        len(fleet.host(name).enter("wg", "show", "lb0", "peers", check=False).stdout.split()) >= 2)


@contextlib.contextmanager
def rules(host, text):
    """Rules of nftables for a while."""
    host.enter("nft", "-f", "-", input="table inet doctor {\n" + text + "\n}\n")
    try:
        yield
    finally:
        host.enter("nft", "delete", "table", "inet", "doctor")


@pytest.fixture(name="well")
def well_fleet(fleet):
    """Every tunnel between the first three hosts carries packets, and they are in touch with the control plane."""
    names = ["h1", "h2", "h3"]
    where = {name: fleet.overlay(name) for name in names}
    fleetview.reach(fleet, [(one, where[other]) for one in names for other in names if one != other], 20)
    for name in names:
        rigs.wait_until(f"{name}: contact", lambda name=name: (fleetview.status(fleet, name)["control_plane"] or {}).get("online"), 40)
    return fleet


# ---- nothing is wrong


def test_a_healthy_host(well):
    """No problem, nothing that could not be seen, and nothing of the host is changed by asking."""
    rigs.wait_until("addresses that stay", lambda: "tentative" not in well.host("h1").enter("ip", "address").stdout)
    before = fleetview.overlay_view(well, "h1"), fleetview.others_view(well, "h1")
    status, report = doctor(well, "h1")
    assert (status, report["result"], problems(report), report["unknown"]) == (WELL, "ok", [], 0), report
    assert {check["result"] for check in report["checks"]} <= {"ok", "not-applicable"}
    assert report["host"] == host_id(well, "h1") and report["root"]
    assert {check["check"] for check in report["checks"] if check["result"] == "ok"} >= {"netd", "fetchd", "tunnel", "handshake", "path_mtu"}
    assert (fleetview.overlay_view(well, "h1"), fleetview.others_view(well, "h1")) == before
    words = well.host("h1").enter("loopback", "doctor").stdout
    assert "no problem found" in words and all(check["check"] in words for check in report["checks"])


def test_one_peer_by_each_of_its_names(well):
    """Its address, its endpoint, its host id, its key; what is none is said to be none."""
    peer = well.host("h2")
    for name in (well.overlay("h2"), peer.address, host_id(well, "h2"), key(well, "h2")):
        status, report = doctor(well, "h1", "--peer", name)
        handshake = next(check for check in report["checks"] if check["check"] == "handshake")
        assert status == WELL and handshake["found"] == "1 of 1 peers", name
    done = well.host("h1").enter("loopback", "doctor", "--peer", "192.0.2.77", check=False)
    assert done.returncode == UNKNOWN and "192.0.2.77" in done.stderr and "status --peers" in done.stderr and not done.stdout


def test_without_root(well):
    """It says so, sees what everybody may see, and does not call the rest well."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "loopback", "doctor")
    done = well.host("h1").enter(*nobody, "--json", check=False)
    report = json.loads(done.stdout)
    assert (done.returncode, report["result"], report["root"], problems(report)) == (UNKNOWN, "unknown", False, [])
    assert {check["check"] for check in report["checks"] if check["result"] == "unknown"} >= {"fetchd", "port", "path_mtu"}
    assert "sudo" in well.host("h1").enter(*nobody, check=False).stdout


# ---- keys


def test_keys_of_peers(well):
    """A peer's address with another key, a peer that is gone, a peer too many: each by its name; and what the other end can know of it."""
    host, peer, address = well.host("h1"), key(well, "h2"), well.overlay("h2")
    settle(host)
    fake = host.enter("sh", "-c", "wg genkey | wg pubkey").stdout.strip()
    host.enter("wg", "set", "lb0", "peer", peer, "remove", "peer", fake, "allowed-ips", address + "/32")
    found = only(well, "h1", "peer_key_differs")[0]
    assert (found["host"], found["kind"]) == (host_id(well, "h2"), "peer") and peer in found["expected"] and fake in found["found"]
    host.enter("wg", "set", "lb0", "peer", fake, "remove")
    found = only(well, "h1", "peer_missing")[0]
    assert found["host"] == host_id(well, "h2") and address in found["object"]
    without_sessions(well, "h2")
    there = only(well, "h2", "udp_blocked")[0]
    assert there["host"] == host_id(well, "h1") and "may not know this host" in there["do"]
    host.enter("wg", "set", "lb0", "peer", peer, "allowed-ips", address + "/32", "endpoint", f"198.18.1.2:{PORT}", "persistent-keepalive", "25",
               "peer", fake, "allowed-ips", "192.0.2.1/32")
    assert fake in only(well, "h1", "peer_foreign")[0]["object"]
    host.enter("wg", "set", "lb0", "peer", fake, "remove")


def test_another_private_key_on_the_interface(well):
    """The public key that is there, and the one that is signed."""
    host, signed = well.host("h1"), key(well, "h1")
    settle(host)
    host.enter("sh", "-c", "umask 077; wg genkey >/run/other.key; wg set lb0 private-key /run/other.key; rm /run/other.key")
    found, checks = only(well, "h1", "own_key_differs")
    other = key(well, "h1")
    restart(host, "loopback-netd")
    assert (found["kind"], found["object"]) == ("interface", "lb0") and other != signed
    assert signed in found["expected"] and other in found["found"] and checks["handshake"] == "not-asked"


# ---- daemons, state, control plane


@pytest.mark.parametrize("service,code", [("netd", "netd_down"), ("fetchd", "fetchd_down"), ("wg", "tunnel_missing")])
def test_a_daemon_that_does_not_run(well, service, code):
    """It is the one cause; what rests on it is not asked, and no check that was not asked is called well."""
    host = well.host("h1")
    if host.units()[f"loopback-{service}"]["state"] == "skipped":
        pytest.skip("this kernel has WireGuard; there is no process for the tunnel")
    host.launch("stop", f"loopback-{service}")
    try:
        found, checks = only(well, "h1", code)
    finally:
        host.launch("start", f"loopback-{service}")
    assert found["object"] == {"wg": "lb0"}.get(service, service) and f"loopback-{service}" in found["do"]
    assert "not-asked" in checks.values()


def test_a_daemon_that_hangs(well):
    """It is told from one that does not run."""
    pid = well.host("h1").pid("fetchd")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert only(well, "h1", "fetchd_silent")[0]["object"] == "fetchd"
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_control_plane_that_is_not_there(well):
    """Nobody listens at its port; status shows the same words."""
    well.host("cp").launch("stop", "loopback-controld")
    try:
        rigs.wait_until("loss of contact", lambda: fleetview.status(well, "h1")["control_plane"]["last_code"] == "connect")
        found = only(well, "h1", "control_unreachable")[0]
        told = fleetview.status(well, "h1")["control_plane"]
    finally:
        well.host("cp").launch("start", "loopback-controld")
    assert (found["kind"], found["object"]) == ("control plane", told["url"]) and told["last_error"] in found["found"]


def test_a_control_plane_with_a_certificate_of_somebody_else(well):
    """Its certificate is not from the CA of the enrolment."""
    control = well.host("cp")
    kept = [control.enter("cat", f"/etc/loopback/{name}").stdout for name in ("tls.crt", "tls.key")]

    def put(texts):
        for name, text in zip(("tls.crt", "tls.key"), texts):
            control.enter("tee", f"/etc/loopback/{name}", input=text)
        control.launch("restart", "loopback-controld")
        control.launch("wait")

    folder = well.file("other")
    os.mkdir(folder)
    rigs.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             "/CN=control.demo", "-addext", "subjectAltName=DNS:control.demo", "-keyout", folder + "/key", "-out", folder + "/crt")
    try:
        put([well.read("other/crt"), well.read("other/key")])
        rigs.wait_until("loss of contact", lambda: fleetview.status(well, "h1")["control_plane"]["last_code"] == "certificate", 30)
        found = only(well, "h1", "control_tls")[0]
    finally:
        put(kept)
    assert "--ca" in found["do"] and "authority" in found["found"]


def test_stale_membership(well):
    """The control plane hangs: fetchd still waits for it, and no proof of freshness has come since netd started."""
    pid = well.host("cp").pid("controld")
    os.kill(pid, signal.SIGSTOP)
    try:
        restart(well.host("h1"), "loopback-netd")
        found = only(well, "h1", "stale")[0]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "none since netd started" in found["found"]


def test_an_offer_that_is_refused(well):
    """netd's own code and reason are told."""
    host = well.host("h1")
    host.enter("ip", "route", "add", "10.99.0.0/16", "dev", "eth0")
    well.ctl("network", "create", "clash", "--workspace", "prod", "--cidr", "10.99.0.0/16")
    try:
        well.ctl("host", "join", "h1", "clash")
        rigs.wait_until("a refusal", lambda: (fleetview.status(well, "h1")["last_result"] or {}).get("outcome") == "refused")
        found = only(well, "h1", "refused")[0]
    finally:
        well.ctl("host", "leave", "h1", "clash")
        host.enter("ip", "route", "delete", "10.99.0.0/16", "dev", "eth0")
        well.wait_converged()
        well.ctl("network", "delete", "clash")
    assert "route-overlap" in found["found"] and "10.99.0.0/16" in found["found"]


def test_a_full_disk(well):
    """Before it is refused for it."""
    with faults.small_disk(well.host("h1")) as fill:
        well.wait_converged()
        fill(True)
        found = only(well, "h1", "disk_full")[0]
        fill(False)
        well.wait_converged()
    assert found["object"] == "/var/lib/loopback/netd"


def test_a_wrong_clock(well):
    """By how much, which way, and that the mesh does not care."""
    clock = faults.WrongClock(well.host("h1"), ("loopback-fetchd",), 20 * 3600)
    try:
        well.host("h1").launch("wait")
        rigs.wait_until("contact", lambda: (fleetview.status(well, "h1")["control_plane"] or {}).get("online"))
        found = only(well, "h1", "clock_skew")[0]
    finally:
        clock.mend()
    assert "ahead" in found["found"] and abs(int(found["found"].split()[0]) - 20 * 3600) < 60 and "mesh does not care" in found["means"]


def test_a_host_that_is_not_enrolled_and_one_that_was_retired(fleet):
    """Before its enrolment, and after an operator took it out for good."""
    host = fleet.boot_host("h71")
    try:
        assert only(fleet, "h71", "not_enrolled")[0]["do"].startswith("loopback enroll")
        fleet.enroll("h71")
        fleet.ctl("host", "retire", "h71")
        rigs.wait_until("the word", lambda: fleetview.status(fleet, "h71")["control_plane"]["last_code"] == "retired", 20)
        assert only(fleet, "h71", "control_retired")[0]["kind"] == "control plane"
    finally:
        host.stop()
        fleet.rig.hosts.pop("h71")


# ---- ways


def causes(fleet, name, expected):
    """What is wrong on a host is that its peers {name: code} do not answer, each for its own reason; returns {name: finding} and all checks."""
    status, report = doctor(fleet, name)
    found = {finding["host"]: finding for finding in problems(report)}
    names = {host_id(fleet, peer): peer for peer in expected}
    assert status == PROBLEM and {names.get(host): finding["code"] for host, finding in found.items()} == expected, report
    assert all(finding["kind"] == "peer" for finding in found.values())
    return {names[host]: finding for host, finding in found.items()}, {check["check"]: check["result"] for check in report["checks"]}


def test_udp_blocked_both_ways_and_a_host_that_is_off(well):
    """h2 answers a ping at its address and nothing over UDP; h3 answers nothing at all. A Ctrl-C in between leaves nothing behind."""
    well.rig.ip(well.rig.internet, "link set h3 down")
    try:
        with rules(well.host("h2"), f"chain i {{ type filter hook input priority 0; ip saddr 198.18.1.1 udp dport {PORT} drop; }};"
                   f"chain o {{ type filter hook output priority 0; ip daddr 198.18.1.1 udp dport {PORT} drop; }}"):
            without_sessions(well, "h1")
            found, checks = causes(well, "h1", {"h2": "udp_blocked", "h3": "peer_unreachable"})
            done = well.host("h1").enter("timeout", "--preserve-status", "--signal=INT", "1", "loopback", "doctor", check=False)
    finally:
        well.rig.ip(well.rig.internet, "link set h3 up")
    assert "198.18.1.2:51820" in found["h2"]["expected"] and "handshake: never" in found["h2"]["found"] and checks["path_mtu"] == "not-asked"
    assert "answers a ping" in found["h2"]["found"] and "does not answer a ping" in found["h3"]["found"]
    assert done.returncode == INTERRUPTED and not done.stdout and "nothing was changed" in done.stderr


def test_an_asymmetric_path_and_a_port_where_nobody_listens(well):
    """What h2 sends arrives at h1, and nothing of h1 arrives at h2. h3 is up, and its tunnel is not."""
    userspace = well.host("h3").units()["loopback-wg"]["state"] != "skipped"
    expected = {"h2": "asymmetric_path", "h3": "port_unreachable"} if userspace else {"h2": "asymmetric_path"}

    def heard():
        shown = well.host("h1").enter("wg", "show", "lb0", "transfer").stdout.splitlines()
        return any(line.startswith(peer) and line.split()[1] != "0" for line in shown)

    peer = key(well, "h2")
    if userspace:
        well.host("h3").launch("stop", "loopback-wg")
    try:
        with rules(well.host("h2"), f"chain i {{ type filter hook input priority 0; ip saddr 198.18.1.1 udp dport {PORT} drop; }}"):
            without_sessions(well, "h1", "h2")
            rigs.wait_until("h2's first word", heard)
            found = causes(well, "h1", expected)[0]
    finally:
        if userspace:
            well.host("h3").launch("start", "loopback-wg")
    without_sessions(well, "h1", "h2")
    assert "do not reach it" in found["h2"]["means"]


@pytest.mark.parametrize("rule", [f"chain i {{ type filter hook input priority 0; udp dport {PORT} drop; }}",
                                  f"chain o {{ type filter hook output priority 0; udp sport {PORT} drop; udp dport {PORT} drop; }}",
                                  "chain o { type filter hook output priority 0; oifname lb0 reject; }"],
                         ids=["port, inwards", "port, outwards", "interface"])
def test_a_firewall_of_this_host(well, rule):
    """The rule that drops is quoted, or the kernel said so itself."""
    with rules(well.host("h1"), rule):
        if "hook input" in rule:
            without_sessions(well, "h1")
        status, report = doctor(well, "h1")
    found = problems(report)
    assert status == PROBLEM and {finding["code"] for finding in found} == {"firewall_drops"}
    assert all("refuses to send" in finding["found"] or f"udp dport {PORT} drop" in finding["found"] for finding in found)
    assert ("hook output" in rule) == ("refuses to send" in found[0]["found"])


def test_an_mtu_black_hole(well):
    """The way to h2 drops large frames and nobody says so: the size that passes, the tunnel's, and what to set are named."""
    well.rig.ip(well.rig.internet, "link set h2 mtu 1400")
    try:
        found = only(well, "h1", "mtu_black_hole")[0]
    finally:
        well.rig.ip(well.rig.internet, "link set h2 mtu 1500")
    passes, fails = [int(word) for word in found["found"].replace(",", "").split() if word.isdigit()]
    assert found["host"] == host_id(well, "h2") and "1380 bytes" in found["expected"] and f"loopbackctl network set mesh --mtu {passes};" in found["do"]
    # 20 IPv4, 8 UDP, 32 WireGuard, and contents in steps of 16 bytes
    largest = (1400 - 60) // 16 * 16
    assert largest - 8 < passes <= largest < fails <= largest + 8


def test_another_route_and_another_rule(well):
    """A table of somebody's own takes the packets elsewhere; where to is told."""
    host, address = well.host("h1"), well.overlay("h2")
    host.enter("ip", "route", "add", address + "/32", "dev", "eth0", "table", "77")
    host.enter("ip", "rule", "add", "to", address, "table", "77", "priority", "77")
    try:
        found, checks = only(well, "h1", "route_hidden", "--peer", host_id(well, "h2"))
    finally:
        host.enter("ip", "rule", "delete", "priority", "77")
        host.enter("ip", "route", "flush", "table", "77")
    assert found["host"] == host_id(well, "h2") and "eth0" in found["found"] and "77" in found["found"] and checks["handshake"] == "not-asked"


def test_a_strict_reverse_path_filter(well):
    """h1 sends to h2 by a second interface; what h2 sends comes by the first, and is dropped there."""
    host = well.host("h1")
    well.rig.ip(well.rig.internet, f"link add h1b type veth peer name eth1 netns {host.netns}", "link set h1b master internet up")
    host.enter("ip", "link", "set", "eth1", "up")
    host.enter("ip", "route", "add", "198.18.1.2/32", "dev", "eth1", "src", host.address)
    host.enter("sysctl", "-q", "net.ipv4.conf.eth0.rp_filter=1")
    try:
        found, checks = only(well, "h1", "rp_filter_strict")
    finally:
        host.enter("sysctl", "-q", "net.ipv4.conf.eth0.rp_filter=0")
        well.rig.ip(well.rig.internet, "link delete h1b")
        for name in ("h1", "h2", "h3"):
            well.host(name).enter("ip", "neighbour", "flush", "all")
    without_sessions(well, "h1")  # wireguard-go remembers the interface for a while
    assert found["host"] == host_id(well, "h2") and "eth0" in found["expected"] and "rp_filter=2" in found["do"] and checks["handshake"] == "not-asked"


def test_an_address_that_this_host_does_not_have(well):
    """Peers are told of one in the host's own network: here by an operator's mistake, as well after it changed."""
    host = well.host("h1")
    well.ctl("host", "endpoint", "h1", f"198.18.9.9:{PORT}")
    try:
        well.wait_converged()
        fleetview.reach(well, [("h1", well.overlay("h2")), ("h1", well.overlay("h3"))])
        found = only(well, "h1", "address_untold")[0]
    finally:
        well.ctl("host", "endpoint", "h1", "--clear")
    assert "198.18.9.9" in found["found"] and host.address in found["expected"]


def test_another_program_has_the_port(well):
    """Which one."""
    host = well.host("h1")
    if host.units()["loopback-wg"]["state"] == "skipped":
        pytest.skip("the kernel's tunnel keeps its port")
    host.launch("stop", "loopback-wg")
    other = host.popen("/usr/bin/python3", "-c", "import socket, time\n"
                       "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                       f"s.bind(('0.0.0.0', {PORT}))\nprint('bound', flush=True)\ntime.sleep(60)", stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"bound\n"
        host.launch("start", "loopback-wg")
        time.sleep(0.2)
        found = only(well, "h1", "port_taken")[0]
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
        restart(host, "loopback-wg")
    assert found["object"] == f"UDP port {PORT}" and "python3" in found["found"] and str(other.pid) in found["found"]


def test_somebody_who_works_against_netd(well):
    """Mended again and again."""
    host = well.host("h1")

    def mtu():
        return json.loads(host.enter("ip", "-j", "link", "show", "lb0").stdout)[0]["mtu"]

    while fleetview.status(well, "h1")["drift_mended"] < 3:
        host.enter("ip", "link", "set", "lb0", "mtu", "1300")
        rigs.wait_until("netd mends it", lambda: mtu() == 1380)
    found = only(well, "h1", "drift")[0]
    restart(host, "loopback-netd")
    assert found["object"] == "lb0" and "mended 3 times" in found["found"]


def test_no_second_tunnel_for_the_next_keys(well):
    """Nobody waits here to become a second wireguard-go: said while keys are being replaced, and they are replaced all the same."""
    if fleetview.status(well, "h1")["backend"] != "userspace":
        pytest.skip("the kernel's WireGuard makes a second interface at any time")
    before = fleetview.status(well, "h1")["public_key"]
    job = well.ctl("host", "rotate-key", "h1", "--deadline", "25s")
    rigs.wait_until("the next key in force at its peer", lambda: fleetview.status(well, "h2")["rotation"], 20)
    assert fleetview.status(well, "h2")["rotation"] == {"hosts": 1, "this_host": False, "moving": 1, "second_tunnel": False}
    found = only(well, "h2", "second_missing")[0]
    assert found["object"] == "lb0n" and str(PORT + 1) in found["expected"]
    rigs.wait_until("the job's end", lambda: well.ctl("job", "show", job["id"])["state"] == "done", 60, interval=0.5)
    assert fleetview.status(well, "h1")["public_key"] != before and fleetview.status(well, "h2")["rotation"] is None
