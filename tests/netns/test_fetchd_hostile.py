# SPDX-License-Identifier: Apache-2.0
"""fetchd between peers that mean harm, on a host where things break; with the filter on, as shipped."""

import os
import random
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest

from fetchd_fixtures import (BLOB_PATH, ENROLL_PATH, HEAD, POLL_PATH, enrolled, make_control, make_fetchd, make_folder, make_netd,
                             parking)
from fetchd_peers import (ASK, BLOBS, FETCHD, IDENTITY, LACK, OFFER, RESULT, UNCHANGED, USER, WANT, Answer, Control, Fetchd, certificate,
                          certificate_only, envelope, name_of, pack)

__all__ = ["make_control", "make_fetchd", "make_folder", "make_netd"]  # fixtures


# -- The server ---------------------------------------------------------------------------------------------------------------------

def reply(handler, status=200, headers=(), body=b"", length=None):
    """An answer by hand."""
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def refuse(_body):
    """A route that refuses."""
    raise Answer(401, "token-unknown", "no such token")


def stream(handler):
    """An answer without end."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"10000\r\n" + b"\xc6" * 65536 + b"\r\n")
    except OSError:
        handler.close_connection = True


def many_headers(handler):
    """Headers without end."""
    handler.send_response(200)
    handler.flush_headers()
    try:
        while True:
            handler.wfile.write(b"X-More: " + b"x" * 4000 + b"\r\n")
    except OSError:
        handler.close_connection = True


HOSTILE = {
    "says it is huge": (lambda h: reply(h, length=1 << 40), "longer than"),
    "is huge": (stream, "longer than"),
    "headers without end": (many_headers, "longer than"),
    "redirect": (lambda h: reply(h, 302, [("Location", "http://127.0.0.1:1/v1/agent/poll")]), "redirect"),
    "a web page": (lambda h: reply(h, 200, [("Content-Type", "text/html")], b"<html>Please log in</html>"), "control plane?"),
    "nothing": (lambda h: reply(h), "control plane?"),
    "truncated": (lambda h: reply(h, body=pack([b"", HEAD, [b"x" * 100]])[:-20]), "control plane?"),
    "trailing": (lambda h: reply(h, body=pack([b"", HEAD, []]) + b"\0"), "control plane?"),
    "of the wrong shape": (lambda h: reply(h, body=pack([b"", HEAD, "text"])), "control plane?"),
    "claims four billion elements": (lambda h: reply(h, body=b"\x93\xc4\0\xc4\0\xdd\xff\xff\xff\xff"), "control plane?"),
    "deep": (lambda h: reply(h, body=b"\x91" * 5000), "control plane?"),
    "a blob too large": (lambda h: reply(h, body=pack([b"", HEAD, [b"x" * 20000]])), "control plane?"),
    "no head": (lambda h: reply(h, body=pack([b"", b"", []])), "control plane?"),
    "an error with control characters": (lambda h: reply(h, 500, body=pack(["busy", "\x1b]0;owned\x07\n"])), "?]0;owned??"),
    "an error of nothing": (lambda h: reply(h, 418), "418"),
    "hangs up": (lambda h: h.connection.shutdown(socket.SHUT_RDWR), "127.0.0.1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_to_a_poll(fetchd, netd, control, name):
    """Said, survived, and over with the first good answer."""
    enrolled(fetchd, netd, control, settled=False)
    control.raw, hint = HOSTILE[name]
    nonce = netd.ask()
    end = time.monotonic() + 10
    while not fetchd.link()["last_error"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert hint in fetchd.link()["last_error"]
    assert int(fetchd.status("VmHWM").split()[0]) < 40 * 1024
    control.routes[POLL_PATH] = lambda body: pack([b"", HEAD, []])
    control.raw = None
    assert control.next(POLL_PATH)[0] == nonce
    netd.expect(OFFER)
    link = fetchd.link()
    assert link["online"] and link["last_error"] == ""


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "no head"])
def test_hostile_answers_to_an_enrolment(fetchd, netd, control, name):
    netd.accept(deployed=False)
    control.raw = HOSTILE[name][0]
    ok, texts = fetchd.progress(fetchd.enroll(control.url))
    assert not ok and all(31 < ord(letter) < 127 for text in texts for letter in text), texts
    assert fetchd.link()["url"] == "" and os.listdir(fetchd.state) == ["transport.key"]


def test_slow_answers_end(fetchd, netd, control):
    """One byte a second would never be silent: the whole answer has its time as well."""
    enrolled(fetchd, netd, control, settled=False)

    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"\xc6")
                time.sleep(1)
        except OSError:
            handler.close_connection = True

    control.raw = drip
    netd.ask()
    start = time.monotonic()
    fetchd.wait_log("too slowly", 45)
    assert time.monotonic() - start > 20


def test_a_silent_server_ends(fetchd, netd, control):
    enrolled(fetchd, netd, control, settled=False)
    control.raw = lambda handler: time.sleep(60)
    netd.ask()
    fetchd.wait_log("it says nothing", 80)


def test_blobs_that_nobody_asked_for(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    wanted = b"wanted" * 40
    control.routes[BLOB_PATH] = lambda body: pack([[b"unasked" * n for n in range(1, 200)] + [wanted]])
    netd.send(WANT, name_of(wanted) + b"\x66" * 32)
    number, count, _, blobs = netd.receive()
    assert (number, count, blobs) == (BLOBS, 1, [wanted])
    assert netd.expect(LACK)[1] == b"\x66" * 32


def test_a_server_that_never_parks_does_not_keep_us_busy(fetchd, netd, control):
    enrolled(fetchd, netd, control, settled=False)
    control.routes[POLL_PATH] = lambda body: pack([b"", HEAD, []])
    end, polls = time.monotonic() + 5, 0
    netd.ask()
    while time.monotonic() < end:
        try:
            netd.expect(OFFER, max(0.01, end - time.monotonic()))
        except TimeoutError:
            break
        polls += 1
        netd.result(UNCHANGED)
        netd.ask()
    assert polls <= 6


@pytest.mark.parametrize("pinned", [True, False])
def test_a_wrong_certificate(folder, netd, pinned):
    control = Control(tls=certificate(folder))
    other = certificate_only(certificate(folder, "other"))
    fetchd = Fetchd(folder)
    netd.accept()
    ok, texts = fetchd.progress(fetchd.enroll(control.url, ca=other if pinned else ""))
    assert not ok and "certificate is not from an authority" in texts[-1] and not control.seen
    assert fetchd.stop() == 0
    control.close()


@pytest.mark.parametrize("begins, ends, word", [(-30, -2, "expired"), (2, 30, "not valid yet")])
def test_a_certificate_out_of_its_time_points_at_the_clock(folder, netd, begins, ends, word):
    pem = certificate(folder, begins=begins, ends=ends)
    control = Control(tls=pem)
    fetchd = Fetchd(folder)
    netd.accept()
    ok, texts = fetchd.progress(fetchd.enroll(control.url, ca=certificate_only(pem)))
    assert not ok and word in texts[-1] and "clock" in texts[-1]
    assert fetchd.stop() == 0
    control.close()


def test_the_pin_replaces_the_systems_authorities(folder, netd):
    """Traced: with a pin, nothing of /etc/ssl/certs is opened."""
    pem = certificate(folder)
    control = Control(tls=pem)
    trace = os.path.join(folder, "trace")
    fetchd = Fetchd(folder, wrap=["strace", "-D", "-f", "-o", trace, "-e", "trace=openat,newfstatat"])
    netd.accept()
    control.routes["/v1/agent/keyset"] = refuse
    fetchd.progress(fetchd.enroll(control.url, ca=certificate_only(pem)))
    assert len(control.seen) == 1
    # Without a pin they are opened: the trace sees what it should.
    with open(trace, encoding="utf-8") as file:
        assert "/etc/ssl/certs" not in file.read()
    fetchd.progress(fetchd.enroll(control.url))
    with open(trace, encoding="utf-8") as file:
        assert "/etc/ssl/certs" in file.read()
    assert fetchd.stop() == 0 and len(control.seen) == 1
    control.close()


def test_a_clock_a_day_off(fetchd, netd, control):
    control.clock_ahead = 86400
    enrolled(fetchd, netd, control)
    assert abs(fetchd.link()["behind"] - 86400) <= 2
    # The clock jumps while the poll is parked; the one refused request is asked again at once, with what Date said.
    control.clock_ahead = -86400
    netd.result(UNCHANGED, envelope("receipt"))
    assert control.next(POLL_PATH, 3)[2] == [envelope("receipt")]
    assert abs(fetchd.link()["ahead"] - 86400) <= 2


# -- The cache ----------------------------------------------------------------------------------------------------------------------

def fill_cache(fetchd, netd, control, blobs):
    """Bring blobs into the cache through a want."""
    control.routes[BLOB_PATH] = lambda body: pack([[blob for blob in blobs if name_of(blob) in body[0]]])
    netd.send(WANT, b"".join(name_of(blob) for blob in blobs))
    assert netd.expect(BLOBS)[1] == len(blobs)
    control.next(BLOB_PATH)


def want_again(netd, control, blobs):
    """Want them again; returns the names that the control plane was asked for."""
    netd.send(WANT, b"".join(name_of(blob) for blob in blobs))
    got = []
    while len(got) < len(blobs):
        got += netd.expect(BLOBS)[-1]
    assert sorted(got) == sorted(blobs)
    return sorted(control.next(BLOB_PATH)[0]) if not control.requests.empty() else []


def test_a_cache_that_was_tampered_with(fetchd, netd, control):
    blobs = [b"%d" % n * 100 for n in range(10)]
    enrolled(fetchd, netd, control)
    fill_cache(fetchd, netd, control, blobs)
    assert want_again(netd, control, blobs) == []
    paths = [os.path.join(fetchd.cache, name_of(blob).hex()) for blob in blobs]
    assert sorted(os.listdir(fetchd.cache)) == sorted(os.path.basename(path) for path in paths)
    with open(paths[0], "wb") as file:
        file.write(b"changed")
    with open(paths[1], "r+b") as file:
        file.truncate(10)
    with open(paths[2], "ab") as file:
        file.write(b"x" * 100000)
    os.unlink(paths[3])
    for path, make in ((paths[4], os.mkfifo), (paths[5], os.mkdir), (paths[6], lambda path: os.symlink("/etc/passwd", path))):
        os.unlink(path)
        make(path)
    os.chmod(paths[7], 0)
    os.chown(paths[7], 0, 0)
    assert want_again(netd, control, blobs) == sorted(name_of(blob) for blob in blobs[:8])


def test_a_cache_that_is_gone(fetchd, netd, control):
    blobs = [b"%d" % n * 100 for n in range(10)]
    enrolled(fetchd, netd, control)
    fill_cache(fetchd, netd, control, blobs)
    shutil.rmtree(fetchd.cache)
    assert want_again(netd, control, blobs) == sorted(name_of(blob) for blob in blobs)
    assert "works without it" in fetchd.log()


def test_a_full_disk(folder, netd, control):
    blobs = [os.urandom(8000) for _ in range(40)]
    cache = os.path.join(folder, "cache")
    os.mkdir(cache)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=64k,mode=0700,uid={uid_of(USER)}", "fetchd-test", cache], check=True)
    try:
        fetchd = Fetchd(folder)
        enrolled(fetchd, netd, control)
        fill_cache(fetchd, netd, control, blobs)
        assert "works without it" in fetchd.log() and fetchd.log().count("works without it") == 1
        assert 0 < len(want_again(netd, control, blobs)) < 40
        assert fetchd.stop() == 0
    finally:
        subprocess.run(["umount", cache], check=True)


def uid_of(name):
    """A user's number."""
    return int(subprocess.run(["id", "-u", name], check=True, capture_output=True, text=True).stdout)


def test_ten_thousand_peers_from_nothing(fetchd, netd, control):
    """5,000 blobs, 2.5 MB: once with the poll, once from the cache after a restart."""
    blobs = [struct.pack(">I", n) * 125 for n in range(5000)]
    control.routes[POLL_PATH] = parking(HEAD, blobs)
    enrolled(fetchd, netd, control, settled=False)
    names = [name_of(blob) for blob in blobs]

    def want_all():
        start, got = time.monotonic(), 0
        for at in range(0, 5000, 1000):
            netd.send(WANT, b"".join(names[at:at + 1000]))
            while got < at + 1000:
                got += netd.expect(BLOBS)[1]
        return time.monotonic() - start

    netd.ask()
    control.next(POLL_PATH)
    cold = want_all()
    fetchd.kill()
    control.routes[POLL_PATH] = parking(HEAD)
    fetchd.start()
    netd.accept()
    cached = want_all()
    print(f"\n5,000 blobs: {cold * 1e3:.0f} ms, from the cache of a new process {cached * 1e3:.0f} ms; "
          f"VmHWM {fetchd.status('VmHWM')}, VmRSS {fetchd.status('VmRSS')}")
    assert cold < 3 and cached < 3
    assert not any(path == BLOB_PATH for path, _, _ in control.seen)


# -- kill -9, and a state folder in bad repair ----------------------------------------------------------------------------------------

def test_killed_at_any_time(fetchd, netd, control):
    """Whatever the moment: the next start finds a whole state, and the host gets enrolled."""
    chance = random.Random(4711)
    control.routes[ENROLL_PATH] = lambda body: pack([netd.host])
    netd.accept()
    keys = set()
    for _ in range(25):
        try:
            client = fetchd.enroll(control.url)
            netd.ask()
        except OSError:
            pass
        time.sleep(chance.random() * 0.03)
        fetchd.kill()
        client.close()
        fetchd.start()
        netd.accept()
        keys.add(netd.transport_key)
        assert "damaged" not in fetchd.log()
    assert len(keys) == 1
    while not control.requests.empty():
        control.requests.get()
    # An enrolment that was cut short has said the same: what counts is said from now on.
    said = len(fetchd.log())
    client = fetchd.enroll(control.url)
    fetchd.wait_log("waiting for the first configuration", after=said)
    netd.ask()
    netd.expect(OFFER)
    netd.result(UNCHANGED)
    assert fetchd.progress(client)[0]
    assert sorted(os.listdir(fetchd.state)) == ["link", "transport.key"]


def test_a_damaged_state_is_set_aside(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    key = netd.transport_key
    fetchd.kill()
    with open(os.path.join(fetchd.state, "link"), "r+b") as file:
        file.truncate(20)
    with open(os.path.join(fetchd.state, "transport.key"), "ab") as file:
        file.write(b"more")
    fetchd.start()
    netd.accept()
    assert netd.transport_key != key and not fetchd.link()["enrolled"]
    assert "link.damaged" in os.listdir(fetchd.state) and "set aside" in fetchd.log()


# -- netd -----------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("frame", [
    b"", b"\xff" * 100, pack([99]), pack([WANT, b"x" * 31]), pack([WANT, b""]), pack([WANT, b"x" * 33000]), pack([ASK, b"short", b""]),
    pack([IDENTITY, True]), pack([RESULT, 99, b"", ""]), pack([RESULT, 1, b"", "reason", "more"]), b"\x91" * 3000,
    pack([3, b"a keyset, which is ours to send"]),
])
def test_a_netd_that_misbehaves_is_hung_up_on(fetchd, netd, control, frame):
    netd.accept()
    netd.peer.send(frame)
    netd.peer.settimeout(10)
    try:
        assert netd.peer.recv(65536) == b""
    except ConnectionResetError:
        pass
    netd.accept()
    assert fetchd.link()["number"] == 54


def test_a_netd_that_asks_all_the_time(fetchd, netd, control):
    """Each question ends the poll before it; that must not become a storm of connections."""
    enrolled(fetchd, netd, control)
    before = len(control.seen)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        netd.ask()
        time.sleep(0.005)
    assert len(control.seen) - before < 20


def test_a_netd_that_reads_nothing(fetchd, netd, control):
    enrolled(fetchd, netd, control)
    blobs = [os.urandom(8000) for _ in range(500)]
    fill_cache(fetchd, netd, control, blobs)
    names = b"".join(name_of(blob) for blob in blobs)
    netd.peer.setblocking(False)
    before = int(fetchd.status("VmRSS").split()[0])
    try:
        while True:
            netd.send(WANT, names)
    except (BlockingIOError, ConnectionError):
        pass
    time.sleep(1)
    assert int(fetchd.status("VmRSS").split()[0]) - before < 8 * 1024
    netd.peer.close()
    netd.accept()


# -- The machine ------------------------------------------------------------------------------------------------------------------------

def dns_server(address, answers):
    """A name server on UDP: {name: {type: bytes}}; every other name does not exist."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    asked = []

    def serve():
        while True:
            try:
                query, peer = server.recvfrom(2048)
            except OSError:
                return
            at, labels = 12, []
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            kind = struct.unpack(">H", query[at + 1:at + 3])[0]
            name = ".".join(labels)
            asked.append((name, kind))
            records = answers.get(name)
            data = (records or {}).get(kind)
            flags = 0x8180 if records is not None else 0x8183
            answer = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if data else 0, 0, 0) + query[12:at + 5]
            if data:
                answer += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
            try:
                server.sendto(answer, peer)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    return server, asked


def with_resolver(folder, address):
    """A command prefix: a mount namespace whose resolv.conf names this server."""
    path = os.path.join(folder, "resolv.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"nameserver {address}\noptions timeout:1 attempts:2\n")
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
            f"mount --bind {path} /etc/resolv.conf && exec \"$@\"", "sh"]


def test_names_are_resolved_under_the_filter(folder, netd):
    """The real getaddrinfo(): DNS with A and AAAA, in libcurl's thread; then a name that is not there, then /etc/hosts."""
    pem = certificate(folder)
    control = Control(tls=pem)
    control.routes.update({"/v1/agent/keyset": lambda body: envelope("keyset"), ENROLL_PATH: refuse})
    port = control.url.rsplit(":", 1)[1]
    server, asked = dns_server("127.99.0.53", {"control.test": {1: socket.inet_aton("127.0.0.1")}})
    fetchd = Fetchd(folder, wrap=with_resolver(folder, "127.99.0.53"))
    netd.accept()
    for name, fetched in (("control.test", True), ("nowhere.test", False), ("localhost", True), ("control.test", True)):
        ok, texts = fetchd.progress(fetchd.enroll(f"https://{name}:{port}", ca=certificate_only(pem)))
        assert ok is False and ("keyset fetched" in texts) == fetched, (name, texts)
    assert ("control.test", 1) in asked and ("control.test", 28) in asked
    assert "resolve" in fetchd.log().lower()
    server.close()
    ok, texts = fetchd.progress(fetchd.enroll(f"https://gone.test:{port}", ca=certificate_only(pem)), 40)
    assert not ok and fetchd.process.poll() is None
    assert fetchd.stop() == 0
    control.close()


def test_a_resolver_that_hangs_does_not_hang_us(folder, netd):
    """A name server that never answers, and a client that gives up: the next is served at once."""
    black_hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    black_hole.bind(("127.99.0.54", 53))
    fetchd = Fetchd(folder, wrap=with_resolver(folder, "127.99.0.54"))
    netd.accept()
    for _ in range(3):
        client = fetchd.enroll("https://control.test")
        time.sleep(0.3)
        start = time.monotonic()
        client.close()
        fetchd.link()
        assert time.monotonic() - start < 0.3
    assert fetchd.stop() == 0
    black_hole.close()


def test_a_proxy_is_used_and_not_believed(folder, netd):
    """HTTPS goes through the proxy of the environment; its Date is not the control plane's; loopback http goes past it."""
    pem = certificate(folder)
    control, plain = Control(tls=pem), Control()
    for each in (control, plain):
        each.routes.update({"/v1/agent/keyset": lambda body: envelope("keyset"), ENROLL_PATH: refuse})
    proxy = socket.create_server(("127.0.0.1", 0))
    asked = []

    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve():
        while True:
            try:
                client, _ = proxy.accept()
            except OSError:
                return
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(4096)
            asked.append(request.split(b"\r\n")[0])
            server = socket.create_connection(("127.0.0.1", control.server.server_address[1]))
            client.sendall(b"HTTP/1.1 200 go on\r\nDate: Thu, 01 Jan 2015 00:00:00 GMT\r\n\r\n")
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    where = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    fetchd = Fetchd(folder, environment={"https_proxy": where, "http_proxy": where, "all_proxy": where})
    netd.accept()
    _, texts = fetchd.progress(fetchd.enroll(control.url.replace("127.0.0.1", "localhost"), ca=certificate_only(pem)))
    assert "keyset fetched" in texts, texts
    assert asked and all(line.startswith(b"CONNECT localhost:") for line in asked)
    link = fetchd.link()
    assert link["ahead"] <= 2 and link["behind"] <= 2
    asked.clear()
    _, texts = fetchd.progress(fetchd.enroll(plain.url))
    assert "keyset fetched" in texts and not asked
    assert fetchd.stop() == 0
    for each in (control, plain):
        each.close()
    proxy.close()


def test_a_parked_poll_costs_nothing(fetchd, netd, control):
    control.routes[POLL_PATH] = parking(HEAD)
    enrolled(fetchd, netd, control)
    time.sleep(1)

    def switches():
        return int(fetchd.status("voluntary_ctxt_switches")) + int(fetchd.status("nonvoluntary_ctxt_switches"))

    before = switches()
    time.sleep(15)
    woken = switches() - before
    print(f"\nwoken {woken} times in 15 s")
    assert woken <= 3


def test_it_is_what_it_says(fetchd, netd):
    """Nobody's uid, no capability, no way back, filter on."""
    netd.accept()
    assert set(fetchd.status("Uid").split()) == {str(uid_of(USER))} and fetchd.status("Groups") == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(fetchd.status(name), 16) == 0
    assert fetchd.status("NoNewPrivs") == "1" and fetchd.status("Seccomp") == "2"
    assert oct(os.stat(os.path.join(fetchd.state, "transport.key")).st_mode & 0o777) == "0o600"


def test_root_without_a_user_is_refused():
    done = subprocess.run([FETCHD], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "--user" in done.stderr
