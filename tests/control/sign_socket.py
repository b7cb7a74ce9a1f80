# SPDX-License-Identifier: Apache-2.0
"""The sign socket from outside: a client that says to signd whatever a test wants, and a proxy that crashes one of the two between messages."""

import array
import os
import socket
import threading

import wire

SIGN, SIGN_NETWORK, SIGN_KEYSET, SIGN_DONE, SIGN_REFUSED = 60, 61, 62, 63, 64
SEALS = 0x1 | 0x2 | 0x4 | 0x8  # seal, shrink, grow, write


def sealed_memfd(data):
    """A memfd that nobody can change any more."""
    import fcntl
    fd = os.memfd_create("nodes", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, 1033, SEALS)  # F_ADD_SEALS
    return fd


def blob_bytes(nodes):
    """Nodes as they travel in a memfd."""
    return b"".join(len(node).to_bytes(4, "big") + node for node in nodes)


class SignClient:
    """controld as it could be once it is taken over."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(path)

    def close(self):
        """Hang up."""
        self.socket.close()

    def call(self, message, fds=()):
        """Send any message; (number, first field, second field if there is one); None if signd hung up."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([message if isinstance(message, bytes) else wire.pack(message)], ancillary)
            data = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return None
        return wire.unpack(data) if data else None

    def keyset(self, envelope):
        """Tell a keyset."""
        return self.call([SIGN_KEYSET, envelope])

    def sign(self, kind, payload):
        """Ask for a signature."""
        return self.call([SIGN, kind, wire.pack(payload)])

    def network(self, payload, nodes, seal=True, admission=b"", cosign=b""):
        """Ask for the signature of a network, with what operators signed."""
        data = blob_bytes(nodes)
        fd = sealed_memfd(data) if seal else os.memfd_create("nodes")
        try:
            return self.call([SIGN_NETWORK, payload if isinstance(payload, bytes) else wire.pack(payload), admission, cosign, len(nodes),
                              len(data)], [fd])
        finally:
            os.close(fd)


class SignProxy:
    """Between controld and signd. hook(number) is called with each message's number before ("ask") and after ("answer", "answered")."""

    def __init__(self, path, target, uid):
        self.path, self.target = path, target
        self.hook = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        os.chown(path, uid, -1)
        self.listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """No more connections."""
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _tell(self, moment, number):
        return self.hook(moment, number) if self.hook else None

    def _serve(self, client):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            server.connect(self.target)
            while True:
                data, fds, _, _ = socket.recv_fds(client, 65536, 2)
                if not data:
                    break
                number = wire.unpack(data)[0]
                try:
                    if self._tell("ask", number) == "drop":
                        break
                    socket.send_fds(server, [data], fds)
                finally:
                    for fd in fds:
                        os.close(fd)
                answer = server.recv(65536)
                if not answer or self._tell("answer", number) == "drop":
                    break
                client.send(answer)
                self._tell("answered", number)
        except OSError:
            pass
        finally:
            client.close()
            server.close()
