# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy that speaks CONNECT, between two network namespaces: what is behind it is reached through it alone."""

import base64
import ctypes
import os
import socket
import ssl
import subprocess
import threading

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class Inside:
    """with Inside("name"): this thread's sockets are made in that network namespace."""

    def __init__(self, name):
        self.path, self.before = f"/run/netns/{name}", None

    def __enter__(self):
        self.before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self.path, os.O_RDONLY)
        try:
            self._enter(there)
        finally:
            os.close(there)

    def __exit__(self, *_):
        self._enter(self.before)
        os.close(self.before)

    @staticmethod
    def _enter(fd):
        if _LIBC.setns(fd, _CLONE_NEWNET) < 0:
            raise OSError(ctypes.get_errno(), "setns")


class Country:
    """agent (192.0.2.2) -- border (192.0.2.1, 198.51.100.1) -- world (198.51.100.2).

    Nobody forwards; agent knows no other route.
    """

    AGENT, BORDER, BORDER_OUTSIDE, WORLD = "192.0.2.2", "192.0.2.1", "198.51.100.1", "198.51.100.2"

    def __init__(self, prefix):
        self.agent, self.border, self.world = (f"{prefix}-{name}" for name in ("agent", "border", "world"))
        self.etc = f"/etc/netns/{self.agent}"
        self.close()
        for name in (self.agent, self.border, self.world):
            self._ip("netns", "add", name)
            self._ip("-n", name, "link", "set", "lo", "up")
        self._join(self.agent, self.AGENT, self.border, self.BORDER)
        self._join(self.border, self.BORDER_OUTSIDE, self.world, self.WORLD)
        os.makedirs(self.etc)
        with open(os.path.join(self.etc, "hosts"), "w", encoding="ascii") as out:  # `ip netns exec` puts it over /etc/hosts
            out.write(f"127.0.0.1 localhost\n{self.BORDER} proxy.test\n")

    @staticmethod
    def _ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def _join(self, left, left_address, right, right_address):
        one, other = f"to-{right[-6:]}", f"to-{left[-6:]}"
        self._ip("link", "add", "name", one, "netns", left, "type", "veth", "peer", "name", other, "netns", right)
        for name, address, link in ((left, left_address, one), (right, right_address, other)):
            self._ip("-n", name, "address", "add", address + "/24", "dev", link)
            self._ip("-n", name, "link", "set", link, "up")

    def close(self):
        """Nothing of it stays."""
        for name in (self.agent, self.border, self.world):
            if os.path.exists(f"/run/netns/{name}"):
                self._ip("netns", "delete", name)
        if os.path.isdir(self.etc):
            for name in os.listdir(self.etc):
                os.unlink(os.path.join(self.etc, name))
            os.rmdir(self.etc)
            if not os.listdir("/etc/netns"):
                os.rmdir("/etc/netns")


class Proxy:
    """One that listens at the border, towards the agent, and connects to the world.

    behave: "" serve; a number is the status that every CONNECT gets; "garbage", "silent", "hang up" are what they say
    """

    def __init__(self, country, port=0, credentials=None, certificate=None, names=None):
        self.country, self.credentials, self.names = country, credentials, names or {}
        self.behave, self.asked, self.offered = "", [], []  # request lines; Proxy-Authorization of each, or None
        self.headers = set()  # names of all that came, in lower case
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        self.open, self.sockets = True, []
        with Inside(country.border):
            self.listener = socket.create_server((country.BORDER, port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.open:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
                self.sockets.append(client)
            request = b""
            while b"\r\n\r\n" not in request:
                data = client.recv(4096)
                if not data:
                    return
                request += data
            self._answer(client, request.decode("latin-1"))
        except OSError:
            client.close()

    def _answer(self, client, request):
        lines = request.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.asked.append(lines[0])
        self.headers.update(headers)
        self.offered.append(headers.get("proxy-authorization"))
        if self.behave == "silent":
            return
        if self.behave == "hang up":
            client.close()
            return
        if self.behave == "garbage":
            client.sendall(b"\x00\xff220 mail.example ESMTP \x1b[31m\r\n\r\n")
            client.close()
            return
        wanted = self.credentials and "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()
        status = self.behave or (407 if wanted and self.offered[-1] != wanted else 200)
        method, target, _ = lines[0].split(" ")
        if method != "CONNECT":
            status = 405
        if status != 200:
            client.sendall(f"HTTP/1.1 {status} no\r\nProxy-Authenticate: Basic realm=\"border\"\r\nContent-Length: 4\r\n"
                           "Connection: close\r\n\r\nno\r\n".encode())
            client.close()
            return
        host, _, port = target.rpartition(":")
        with Inside(self.country.border):
            server = socket.create_connection((self.names.get(host, host), int(port)), timeout=5)
        server.settimeout(None)
        self.sockets.append(server)
        client.sendall(b"HTTP/1.1 200 go on\r\nDate: Thu, 01 Jan 2015 00:00:00 GMT\r\n\r\n")
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        client.close()
        server.close()

    @staticmethod
    def _pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        try:
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def url(self, credentials="", host=None, scheme="http"):
        """Where it is, for https_proxy."""
        return f"{scheme}://{credentials}{host or self.country.BORDER}:{self.port}"

    def close(self):
        """Gone, with every tunnel through it."""
        self.open = False
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for each in self.sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()
