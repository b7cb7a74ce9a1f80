# SPDX-License-Identifier: Apache-2.0
"""Both sides of a real fetchd: a netd that asks, and a control plane as good or as hostile as a test wants it.

Nothing here is verified as the real ones would: what is tested is fetchd, which judges none of it.
"""

import base64
import datetime
import email.utils
import fcntl
import hashlib
import http.server
import ipaddress
import os
import queue
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
FETCHD = os.environ.get("FETCHD", os.path.join(ROOT, "build/bin/fetchd"))
USER = "nobody"

# libipc/messages.def
HELLO, IDENTITY, KEYSET, ASK, OFFER, WANT, BLOBS, LACK, RESULT = range(1, 10)
ENROLL, ENROLL_STATE, LEAVE, LINK_GET, LINK = range(50, 55)
APPLIED, UNCHANGED, REFUSED = 1, 2, 3


# -- msgpack, the part that we use ---------------------------------------------------------------------------------------------------

def pack(value):
    """nil, booleans, unsigned integers, str, bytes, lists."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value < 0x80:
            return bytes([value])
        for tag, form, limit in ((0xcc, ">B", 8), (0xcd, ">H", 16), (0xce, ">I", 32), (0xcf, ">Q", 64)):
            if value < 1 << limit:
                return bytes([tag]) + struct.pack(form, value)
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(pack(item) for item in value)
    text = value.encode() if isinstance(value, str) else value
    return (b"\xdb" if isinstance(value, str) else b"\xc6") + struct.pack(">I", len(text)) + text


def _unpack(data, at):
    tag = data[at]
    at += 1
    if tag < 0x80:
        return tag, at
    if tag in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[tag], at
    if 0xcc <= tag <= 0xcf:
        width = 1 << (tag - 0xcc)
        return int.from_bytes(data[at:at + width], "big"), at + width
    if 0x90 <= tag <= 0x9f:
        kind, length = list, tag & 15
    elif 0xa0 <= tag <= 0xbf:
        kind, length = str, tag & 31
    else:
        kind, width = {0xc4: (bytes, 1), 0xc5: (bytes, 2), 0xc6: (bytes, 4), 0xd9: (str, 1), 0xda: (str, 2), 0xdb: (str, 4),
                       0xdc: (list, 2), 0xdd: (list, 4)}[tag]
        length = int.from_bytes(data[at:at + width], "big")
        at += width
    if kind is list:
        items = []
        for _ in range(length):
            item, at = _unpack(data, at)
            items.append(item)
        return items, at
    part = bytes(data[at:at + length])
    return (part.decode() if kind is str else part), at + length


def unpack(data):
    """The whole of data as one value."""
    value, at = _unpack(data, 0)
    assert at == len(data), "trailing bytes"
    return value


def name_of(blob):
    """A blob's name: BLAKE2b-256."""
    return hashlib.blake2b(blob, digest_size=32).digest()


def envelope(kind, payload=b"payload"):
    """Of the right shape; the signature is nobody's."""
    return pack([f"loopback/{kind}/1", payload, [[b"\0" * 8, b"\0" * 64]]])


# -- netd ----------------------------------------------------------------------------------------------------------------------------

class Netd:
    """Listens where netd would. The test reads what fetchd sends and answers as it likes."""

    def __init__(self, path):
        self.path = path
        self.host_key = bytes(range(32))
        self.host = hashlib.blake2b(self.host_key, digest_size=32).digest()[:16]
        self.registration = envelope("registration", b"r1")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen(4)
        self.listener.settimeout(15)
        self.peer = None
        self.transport_key = None
        self.nonces = 0

    def accept(self, **identity):
        """Take fetchd's connection, read its hello, say who we are."""
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(15)
        number, self.transport_key = self.receive()
        assert number == HELLO
        self.identify(**identity)

    def identify(self, pinned=True, deployed=True):
        """Send an identity."""
        self.send(IDENTITY, pinned, deployed, self.host_key, b"\x11" * 32, self.registration if deployed else b"")

    def send(self, *fields):
        """One frame."""
        self.peer.send(pack(list(fields)))

    def receive(self, timeout=15):
        """One frame as a list; for BLOBS the list ends with the blobs themselves."""
        self.peer.settimeout(timeout)
        data, ancillary, flags, _ = self.peer.recvmsg(65536, socket.CMSG_SPACE(8))
        assert data, "fetchd hung up"
        assert not flags & socket.MSG_CTRUNC
        message = unpack(data)
        for _, _, raw in ancillary:
            fd = struct.unpack("i", raw[:4])[0]
            with os.fdopen(fd, "rb") as memfd:
                assert fcntl.fcntl(fd, 1034) & 0xe == 0xe  # F_GET_SEALS: shrink, grow, write
                memfd.seek(0)
                content = memfd.read()
            blobs, at = [], 0
            while at < len(content):
                length = int.from_bytes(content[at:at + 4], "big")
                blobs.append(content[at + 4:at + 4 + length])
                at += 4 + length
            message.append(blobs)
        return message

    def expect(self, number, timeout=15):
        """The next frame, which has to be this one."""
        message = self.receive(timeout)
        assert message[0] == number, f"expected message {number}, found {message[0]}"
        return message

    def ask(self, have=b""):
        """Want a head; returns the nonce."""
        self.nonces += 1
        nonce = self.nonces.to_bytes(32, "big")
        self.send(ASK, nonce, have)
        return nonce

    def result(self, outcome=APPLIED, receipt=b"", reason=""):
        """Say what became of the offer."""
        self.send(RESULT, outcome, receipt, reason)

    def close(self):
        """Gone."""
        if self.peer:
            self.peer.close()
        self.listener.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


# -- The control plane ---------------------------------------------------------------------------------------------------------------

class Answer(Exception):
    """Raised by a route: this status and body."""

    def __init__(self, status, code, detail):
        super().__init__(code)
        self.status, self.body = status, pack([code, detail])


class Control:
    """An HTTP server whose routes a test sets. Signed requests are verified as agent-api.md says."""

    def __init__(self, tls=None, address="127.0.0.1"):
        self.requests = queue.Queue()   # (path, headers, decoded body)
        self.seen = []
        self.routes = {}
        self.transport_key = None       # of fetchd, to verify signatures; None: not verified
        self.clock_ahead = 0            # of the server, in seconds
        self.raw = None                 # callable(handler): does everything itself
        self.connections = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                outer.connections += 1

            def log_message(self, *_):
                pass

            def date_time_string(self, timestamp=None):
                return email.utils.formatdate(time.time() + outer.clock_ahead, usegmt=True)

            def do_GET(self):
                self.do_POST()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.seen.append((self.path, dict(self.headers.items()), body))
                if outer.raw:
                    outer.raw(self)
                    return
                try:
                    outer.verify(self, body)
                    decoded = unpack(body) if body else None
                    outer.requests.put((self.path, dict(self.headers.items()), decoded))
                    status, answer = 200, outer.routes[self.path](decoded)
                except Answer as error:
                    status, answer = error.status, error.body
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/msgpack")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                    pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass  # a refused handshake, a connection that fetchd broke off: the test sees what matters

        self.server = Server((address, 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https" if tls else "http"
        host = f"[{address}]" if ":" in address else address
        self.url = f"{scheme}://{host}:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def verify(self, handler, body):
        """RFC 9421 as the contract has it."""
        if not self.transport_key or handler.path in ("/v1/agent/keyset", "/v1/agent/enroll"):
            return
        digest = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
        label, _, params = handler.headers["Signature-Input"].partition("=")
        base = (f'"@method": {handler.command}\n"@path": {handler.path}\n"content-digest": {digest}\n'
                f'"@signature-params": {params}')
        assert label == "loopback" and handler.headers["Content-Digest"] == digest
        signature = base64.b64decode(handler.headers["Signature"][len("loopback=:"):-1])
        try:
            Ed25519PublicKey.from_public_bytes(self.transport_key).verify(signature, base.encode())
        except InvalidSignature:
            raise Answer(401, "signature", "the signature does not verify") from None
        created = int(params.split("created=")[1].split(";")[0])
        if abs(created - (time.time() + self.clock_ahead)) > 300:
            raise Answer(401, "clock", "the request's time is off by more than 300 s")

    def next(self, path, timeout=15):
        """The next request, which has to be for this path; returns its decoded body."""
        got, _, body = self.requests.get(timeout=timeout)
        assert got == path, f"expected {path}, found {got}"
        return body

    def close(self):
        """Gone; requests that are parked die with their threads' sockets."""
        self.server.shutdown()
        self.server.server_close()


def certificate(folder, name="control", begins=-1, ends=30):
    """A self-signed certificate with its key in one PEM file, valid from and to so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost"), x509.DNSName("control.test")]
    now = datetime.datetime.utcnow()
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now + datetime.timedelta(days=begins))
            .not_valid_after(now + datetime.timedelta(days=ends)).add_extension(x509.SubjectAlternativeName(names), False)
            .add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256()))
    path = os.path.join(folder, name + ".pem")
    with open(path, "wb") as out:
        out.write(made.public_bytes(serialization.Encoding.PEM))
        out.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path


def certificate_only(path):
    """The PEM of the certificate without its key."""
    with open(path, encoding="ascii") as file:
        text = file.read()
    return text[:text.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"


# -- fetchd --------------------------------------------------------------------------------------------------------------------------

class Fetchd:
    """The real program, dropped to an unprivileged user, filter and all."""

    living = []  # so that a test that fails leaves none behind

    def __init__(self, folder, environment=None, wrap=None, options=()):
        self.folder = folder
        self.state, self.cache = os.path.join(folder, "state"), os.path.join(folder, "cache")
        self.netd_path, self.admin_path = os.path.join(folder, "netd.sock"), os.path.join(folder, "admin.sock")
        self.log_path = os.path.join(folder, "fetchd.log")
        for path in (self.state, self.cache):
            if not os.path.exists(path):
                os.mkdir(path, 0o700)
                shutil.chown(path, USER, "nogroup")
        self.environment = dict({"PATH": "/usr/bin", "LOOPBACK_LOG_LEVEL": "debug", "ASAN_OPTIONS": "detect_leaks=0"}, **(environment or {}))
        self.wrap, self.options = wrap or [], list(options)
        self.process = None
        Fetchd.living.append(self)
        self.start()

    @classmethod
    def end_all(cls, folder):
        """End those of this folder that a test did not."""
        for fetchd in [each for each in cls.living if each.folder == folder]:
            cls.living.remove(fetchd)
            if fetchd.process and fetchd.process.poll() is None:
                fetchd.kill()

    def start(self):
        """Start it, and wait until its admin socket answers."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.wrap + [FETCHD, "--user", USER, "--state", self.state, "--cache", self.cache, "--netd", self.netd_path,
                             "--admin", self.admin_path] + self.options,
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        self.link()

    def log(self):
        """All that it has written."""
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_log(self, text, timeout=15, after=0):
        """Until it has written this, beyond so many characters of its log."""
        end = time.monotonic() + timeout
        while text not in self.log()[after:]:
            assert time.monotonic() < end, f"fetchd did not say {text!r} within {timeout} s:\n{self.log()}"
            assert self.process.poll() is None, f"fetchd ended with {self.process.returncode}:\n{self.log()}"
            time.sleep(0.02)

    def dial(self, timeout=15):
        """A connection to its admin socket."""
        end = time.monotonic() + timeout
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            client.settimeout(timeout)
            try:
                client.connect(self.admin_path)
                return client
            except OSError:
                client.close()
                if time.monotonic() > end or self.process.poll() is not None:
                    raise AssertionError(f"fetchd does not serve {self.admin_path}:\n{self.log()}") from None
                time.sleep(0.02)

    def link(self):
        """How it says things stand."""
        end = time.monotonic() + 15
        while True:
            with self.dial() as client:
                try:
                    client.send(pack([LINK_GET]))
                    data = client.recv(65536)
                except OSError:
                    data = b""
            if data:
                break
            assert time.monotonic() < end and self.process.poll() is None, self.log()
            time.sleep(0.02)  # the socket of the process before it
        fields = unpack(data)
        return dict(zip(("number", "enrolled", "online", "url", "last_answer", "last_error", "ahead", "behind", "code"), fields))

    def enroll(self, url, token="ID.SECRET", ca="", name="web-3"):
        """Begin an enrolment; returns the client's socket."""
        client = self.dial()
        client.send(pack([ENROLL, url, token, ca, name]))
        return client

    @staticmethod
    def progress(client, timeout=20):
        """Read until it is done: (ok, [texts])."""
        texts = []
        client.settimeout(timeout)
        while True:
            data = client.recv(65536)
            assert data, "fetchd hung up"
            number, done, ok, text = unpack(data)
            assert number == ENROLL_STATE
            texts.append(text)
            if done:
                client.close()
                return ok, texts

    def leave(self, force=False, departure=b"signed by netd"):
        """(ok, texts)"""
        client = self.dial()
        client.send(pack([LEAVE, force, departure]))
        return self.progress(client)

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM; it has to end well."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()

    def status(self, key):
        """A line of /proc/PID/status."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith(key + ":"))
