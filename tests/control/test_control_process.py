# SPDX-License-Identifier: Apache-2.0
"""controld and signd as processes: what they refuse to start with, what they may do once they run, how they end."""

import http.client
import os
import signal
import socket
import ssl
import subprocess

import pytest
import wire
from agent import Agent
from cli_console import program
from plane import Plane


def status_of(daemon):
    """/proc/PID/status as a dict."""
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


@pytest.mark.parametrize("name", ["controld", "signd"])
def test_runs_without_privileges(bare_plane, name):
    status = status_of(getattr(bare_plane, name))
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert "0" not in status["Uid"].split()


@pytest.mark.parametrize("name", ["controld", "signd"])
def test_help_and_version(name):
    assert "usage" in subprocess.run([program(name), "--help"], capture_output=True, text=True, check=True).stdout
    assert name in subprocess.run([program(name), "--version"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("arguments, says", [
    (["--state", "/nonexistent", "--listen", "0.0.0.0:0"], "TLS"),
    (["--state", "/nonexistent", "--listen", "[::]:0"], "TLS"),
    (["--state", "/nonexistent", "--listen", "nonsense"], "ADDRESS:PORT"),
    (["--state", "/nonexistent", "--listen", "127.0.0.1:0", "--tls-cert", "/x"], "go together"),
    (["--state", "/nonexistent"], "--listen"),
    (["--listen", "127.0.0.1:0"], "--state"),
    (["init", "--state", "/nonexistent"], "--keyset"),
    (["--state", "/nonexistent", "--listen", "127.0.0.1:0", "extra"], "extra"),
])
def test_controld_refuses_to_start(arguments, says):
    done = subprocess.run([program("controld"), *arguments], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 1 and says in done.stderr


def test_init_writes_the_credential_once_and_for_its_owner(bare_plane):
    path = os.path.join(bare_plane.state, "admin.credential")
    assert os.stat(path).st_mode & 0o7777 == 0o600
    before = open(path, encoding="ascii").read()
    done = subprocess.run([program("controld"), "init", "--state", bare_plane.state, "--keyset",
                           os.path.join(bare_plane.folder, "keyset")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "already" in done.stderr
    assert open(path, encoding="ascii").read() == before
    secret = before.strip().split(".")[1]
    assert secret not in bare_plane.controld.text()


def test_signd_init_keeps_its_key(bare_plane):
    done = subprocess.run([program("signd"), "init", "--state", bare_plane.signd.state, "--root-pub",
                           os.path.join(bare_plane.folder, "root.pub")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "already" in done.stderr
    assert os.stat(os.path.join(bare_plane.signd.state, "online.key")).st_mode & 0o7777 == 0o600


def test_signd_refuses_a_key_that_others_can_read(bare_plane):
    bare_plane.signd.stop()
    os.chmod(os.path.join(bare_plane.signd.state, "online.key"), 0o640)
    with pytest.raises(AssertionError, match="0600"):
        bare_plane.signd.start()


def test_database_of_a_later_version_is_not_touched(bare_plane):
    bare_plane.controld.stop()
    import sqlite3
    with sqlite3.connect(os.path.join(bare_plane.state, "control.db")) as database:
        database.execute("PRAGMA user_version = 999")
    with pytest.raises(AssertionError, match="999"):
        bare_plane.controld.start()


def test_sigterm_ends_parked_polls_and_the_process(plane, enrolled):
    host = enrolled(1)
    host.apply()
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=10)
    body = wire.pack(host.poll_body(wait=50))
    connection.request("POST", "/v1/agent/poll", body, host.signed_headers("/v1/agent/poll", body))
    plane.controld.process.send_signal(signal.SIGTERM)
    assert plane.controld.process.wait(10) == 0
    connection.close()


def make_certificate(folder):
    """A certificate of its own for 127.0.0.1; returns the two files."""
    key, cert = os.path.join(folder, "tls.key"), os.path.join(folder, "tls.crt")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    os.chmod(key, 0o644)
    return cert, key


def test_tls(folder):
    cert, key = make_certificate(folder)
    plane = Plane(folder, controld_options=("--tls-cert", cert, "--tls-key", key))
    plane.start()
    try:
        context = ssl.create_default_context(cafile=cert)
        connection = http.client.HTTPSConnection("127.0.0.1", plane.port, timeout=10, context=context)
        for _ in range(3):
            connection.request("GET", "/v1/version")
            answer = connection.getresponse()
            assert answer.status == 200 and b"deployment" in answer.read()
        connection.close()
    finally:
        plane.stop()


def test_certificate_and_key_that_do_not_fit(folder):
    cert, _ = make_certificate(folder)
    other = os.path.join(folder, "other")
    os.mkdir(other)
    _, key = make_certificate(other)
    plane = Plane(folder, controld_options=("--tls-cert", cert, "--tls-key", key))
    plane.signd.start()
    with pytest.raises(AssertionError, match="certificate and key"):
        plane.start_controld()
    plane.signd.stop()


def test_behind_a_proxy_the_last_forwarded_address_counts(folder):
    plane = Plane(folder, controld_options=("--behind-proxy",))
    plane.start()
    plane.furnish()
    host = Agent(plane, 1)
    body = wire.pack([host.registration(), host.name])
    answer = plane.request("POST", "/v1/agent/enroll", body, {"Authorization": "Bearer " + plane.token(),
                                                             "X-Forwarded-For": "203.0.113.99, 198.51.100.7"})
    assert answer.status == 200
    assert plane.ok("GET", f"/hosts/{host.name}")["endpoint"] == "198.51.100.7:51820"
    plane.stop()


def test_ready_is_told_to_the_service_manager(folder):
    path = os.path.join(folder, "notify")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    os.chmod(path, 0o777)
    listener.settimeout(10)
    plane = Plane(folder)
    try:
        for daemon in (plane.signd, plane.controld):
            daemon.environment["NOTIFY_SOCKET"] = path
            daemon.start()
            assert listener.recv(100) == b"READY=1"
    finally:
        plane.stop()
    listener.close()


def test_sockets_have_owners(bare_plane):
    assert os.stat(bare_plane.signd.socket).st_mode & 0o777 == 0o600
