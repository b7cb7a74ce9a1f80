#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A daemon's process after somebody else has taken it over: its uid and its files, and code of the attacker's. Less is kept from it than from the real one,
for it has no filter.

Run on a host by TakenOver (below), which calls its methods from a test: pickled (method, arguments) come in, pickled (ok, result) go out.
"""

import base64
import ctypes
import errno
import fcntl
import hashlib
import http.client
import os
import pickle
import socket
import ssl
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "control"))

import wire  # noqa: E402  (needs the path above)

HELLO, IDENTITY, KEYSET, ASK, OFFER, WANT, BLOBS, LACK, RESULT = range(1, 10)  # libipc/messages.def
DOCUMENTS = "/run/loopback/netd/documents.sock"
_F_ADD_SEALS, _SEALS = 1033, 1 | 2 | 4 | 8  # linux/fcntl.h
_PTRACE_SEIZE = 0x4206                      # linux/ptrace.h


class Intruder:
    """What it can do. Every method is called from the test."""

    def __init__(self):
        self.line = self.key = self.host = None
        self.control, self.context = None, None

    # ---- netd

    def know(self, address, port, name, authority):
        """Learn what fetchd knows: its key, its control plane."""
        with open("/var/lib/loopback/fetchd/transport.key", "rb") as file:
            self.key = wire.Key(file.read())
        self.control, self.context = (address, port, name), ssl.create_default_context(cadata=authority)

    def greet(self):
        """Dial netd as fetchd does. Returns (identity, nonce, have)."""
        self.hang_up()
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.connect(DOCUMENTS)
        self.line.settimeout(5)
        self.send(HELLO, self.key.public)
        identity = self.await_number(IDENTITY)  # before it, a receipt of what is in force
        assert identity, "netd has hung up"
        self.host = wire.host_id(identity[3])
        question = self.receive()
        assert question[0] == ASK, question
        return identity, question[1], question[2]

    def hang_up(self):
        """Close the line."""
        if self.line:
            self.line.close()
        self.line = None

    def send(self, *fields):
        """A message. False: netd has hung up."""
        return self.send_raw(wire.pack(list(fields)))

    def send_raw(self, frame):
        """A frame, whatever it is."""
        try:
            self.line.send(frame)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def send_blobs(self, blobs, seal=True, count=None):
        """Bytes in a memfd, sealed unless somebody wants to go on writing."""
        data = b"".join(struct.pack(">I", len(blob)) + blob for blob in blobs)
        fd = os.memfd_create("blobs", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(fd, data)
            if seal:
                fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
            frame = wire.pack([BLOBS, len(blobs) if count is None else count, len(data)])
            socket.send_fds(self.line, [frame], [fd])
        except (BrokenPipeError, ConnectionResetError):
            return False
        finally:
            os.close(fd)
        return True

    def receive(self):
        """The next message of netd's; None if it has hung up."""
        try:
            frame = self.line.recv(1 << 17)
        except ConnectionResetError:
            return None
        return wire.unpack(frame) if frame else None

    def await_number(self, number):
        """The next message of a kind; None if netd hangs up before."""
        while True:
            message = self.receive()
            if message is None or message[0] == number:
                return message

    def flood(self, frames, rounds):
        """Dial, send everything, do not read, hang up; again and again. Returns how many frames netd took."""
        taken = 0
        for _ in range(rounds):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
                line.connect(DOCUMENTS)
                line.settimeout(5)
                try:
                    for frame in frames:
                        line.send(frame)
                        taken += 1
                except (BrokenPipeError, ConnectionResetError):
                    pass
        return taken

    # ---- the control plane

    def post(self, path, value, host=None):
        """A signed request. Returns (status, answer)."""
        body, created = wire.pack(value), int(time.time())
        digest = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
        parameters = (f'("@method" "@path" "content-digest");created={created};keyid="{(host or self.host).hex()}"'
                      f';nonce="{base64.b64encode(os.urandom(16)).decode()}";alg="ed25519";tag="loopback-agent"')
        base = f'"@method": POST\n"@path": {path}\n"content-digest": {digest}\n"@signature-params": {parameters}'
        address, port, name = self.control
        raw = socket.create_connection((address, port), timeout=10)
        connection = http.client.HTTPConnection(name, port)
        connection.sock = self.context.wrap_socket(raw, server_hostname=name)
        try:
            connection.request("POST", path, body, {
                "Content-Digest": digest, "Signature-Input": "loopback=" + parameters, "Content-Type": "application/msgpack",
                "Signature": "loopback=:" + base64.b64encode(self.key.sign(base.encode())).decode() + ":"})
            answer = connection.getresponse()
            return answer.status, wire.unpack(answer.read())
        finally:
            connection.close()

    def poll(self, nonce, have=b"", receipts=(), host=None):
        """Ask for a head at once. Returns (status, [keyset, head, blobs] or [code, detail])."""
        return self.post("/v1/agent/poll", [nonce, have, list(receipts), b"", 0], host)

    # ---- the host

    def attempt(self, what, target):
        """Try what must not be. Returns the name of the error, or "done"."""
        try:
            getattr(self, "try_" + what)(target)
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"

    @staticmethod
    def try_open(path):
        os.close(os.open(path, os.O_RDONLY))

    @staticmethod
    def try_write(path):
        os.close(os.open(path, os.O_WRONLY))

    @staticmethod
    def try_list(path):
        os.listdir(path)

    @staticmethod
    def try_make(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    @staticmethod
    def try_seqpacket(path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.connect(path)

    @staticmethod
    def try_stream(path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(path)

    @staticmethod
    def try_signal(pid):
        os.kill(pid, 15)

    @staticmethod
    def try_trace(pid):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(_PTRACE_SEIZE, pid, None, None) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    @staticmethod
    def try_run(words):
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermissionError(errno.EPERM, done.stderr)

    @staticmethod
    def try_packet_socket(_):
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def serve():
    """In the process that was taken over."""
    intruder = Intruder()
    while True:
        try:
            method, arguments, named = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = True, getattr(intruder, method)(*arguments, **named)
        except Exception as error:  # the test is told
            answer = False, f"{type(error).__name__}: {error}"
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


class TakenOver:
    """The test's end: methods of Intruder, run under a user of a host."""

    def __init__(self, host, user):
        group = host.enter("id", "-g", user).stdout.strip()
        self.process = host.popen("setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs", "--inh-caps=-all",
                                  "--bounding-set=-all", "/usr/bin/python3", os.path.realpath(__file__),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __getattr__(self, method):
        def call(*arguments, **named):
            pickle.dump((method, arguments, named), self.process.stdin)
            self.process.stdin.flush()
            ok, result = pickle.load(self.process.stdout)
            assert ok, result
            return result
        return call

    def end(self):
        """End it."""
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


if __name__ == "__main__":
    serve()
