# SPDX-License-Identifier: Apache-2.0
"""A control plane of real controld and signd in one folder, its root key in the test's hands, and an operator's HTTP client."""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import time

import wire
from cli_console import program

DEPLOYMENT = bytes(range(16))
USER = "nobody"  # nothing of ours runs as root; any other user will do


class Daemon:
    """A process and its log."""

    def __init__(self, folder, name, *arguments):
        self.folder, self.name, self.arguments = str(folder), name, arguments
        self.log = os.path.join(self.folder, name + ".log")
        self.process = None
        self.environment = {}

    def start(self, ready="ready"):
        """Start, and wait until it says that it is ready."""
        with open(self.log, "ab") as log:
            at = log.tell()
            variables = {"PATH": os.environ["PATH"], "LOOPBACK_LOG_LEVEL": "debug"}
            variables.update({name: text for name, text in os.environ.items() if name.endswith("SAN_OPTIONS")})
            variables.update(self.environment)
            self.process = subprocess.Popen([program(self.name), *self.arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=variables, user=USER, group="nogroup", extra_groups=[])
        self.wait_log(ready, at)

    def wait_log(self, pattern, at=0, seconds=10):
        """Wait for a line of the log; returns the match."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = re.search(pattern, self.text(at))
            if found:
                return found
            if self.process.poll() is not None:
                status, self.process = self.process.returncode, None
                raise AssertionError(f"{self.name} ended with {status}: {self.text(at)}")
            time.sleep(0.01)
        raise AssertionError(f"{self.name}: no \"{pattern}\" within {seconds} s: {self.text(at)}")

    def text(self, at=0):
        """The log from a place on."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(at)
            return log.read()

    def kill(self):
        """As a crash."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """As the service manager; returns the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode if self.process else None


class Answer:
    """What came back."""

    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def msgpack(self):
        """The body as msgpack."""
        return wire.unpack(self.body)


def keyset(root, online, epoch=1, generation=1, not_after=0, deployment=DEPLOYMENT, usage=wire.KEY_ONLINE, signers=None,
           operators=()):
    """A signed keyset."""
    payload = [wire.header(deployment, wire.ZERO_ID, deployment, epoch, generation), "test", root.public,
               [[key, usage, not_after] for key in online] + [[key, wire.KEY_OPERATOR, not_after] for key in operators]]
    return wire.envelope(wire.KEYSET, payload, *(signers or [root]))


class Signd(Daemon):
    """signd in its folder."""

    def __init__(self, folder, root, *options):
        self.state, self.socket = os.path.join(folder, "signd"), os.path.join(folder, "sign.sock")
        super().__init__(folder, "signd", "--state", self.state, "--listen", self.socket, *options)
        root_pub = os.path.join(folder, "root.pub")
        with open(root_pub, "w", encoding="ascii") as file:
            file.write(root.public.hex() + "\n")
        done = subprocess.run([program("signd"), "init", "--state", self.state, "--root-pub", root_pub], check=True, text=True,
                              capture_output=True, user=USER, group="nogroup", extra_groups=[])
        self.public = bytes.fromhex(done.stdout.strip())


class Plane:
    """signd and controld, and what an operator does with them."""

    def __init__(self, folder, signd_options=(), controld_options=()):
        self.folder = str(folder)
        self.root = wire.Key("root")
        self.deployment = DEPLOYMENT
        self.signd = Signd(self.folder, self.root, *signd_options)
        self.operator = wire.Key("operator")  # whose secret neither daemon has
        self.keyset = keyset(self.root, [self.signd.public], operators=[self.operator.public])
        self.state = os.path.join(self.folder, "controld")
        path = os.path.join(self.folder, "keyset")
        with open(path, "wb") as file:
            file.write(self.keyset)
        subprocess.run([program("controld"), "init", "--state", self.state, "--keyset", path], check=True, capture_output=True,
                       user=USER, group="nogroup", extra_groups=[])
        with open(os.path.join(self.state, "admin.credential"), encoding="ascii") as file:
            self.credential = file.read().strip()
        self.controld = Daemon(self.folder, "controld", "--state", self.state, "--listen", "127.0.0.1:0", "--signd", self.signd.socket,
                               *controld_options)
        self.port = None
        self.tls = None  # an ssl.SSLContext where controld speaks TLS itself
        self._key = 0

    def start(self):
        """Both."""
        self.signd.start()
        self.start_controld()

    def start_controld(self):
        """controld alone; its port may be another one than before."""
        at = os.path.getsize(self.controld.log) if os.path.exists(self.controld.log) else 0
        self.controld.start()
        self.port = int(self.controld.wait_log(r"port (\d+)", at).group(1))

    def stop(self):
        """Both."""
        statuses = [self.controld.stop(), self.signd.stop()]
        assert all(status in (0, None, -signal.SIGKILL) for status in statuses), \
            f"exit {statuses}: {self.controld.text()[-2000:]}{self.signd.text()[-2000:]}"

    def request(self, method, path, body=None, headers=None, timeout=70):
        """One request on a connection of its own."""
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def call(self, method, path, body=None, credential=None, headers=None):
        """A call of the operators' API."""
        sent = {"Authorization": "Bearer " + (credential or self.credential)}
        sent.update(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        return self.request(method, "/v1" + path, None if body is None else json.dumps(body), sent)

    def ok(self, method, path, body=None):
        """A call that must succeed; its JSON."""
        answer = self.call(method, path, body)
        assert answer.status in (200, 201, 204), f"{method} {path}: {answer.status} {answer.body}"
        return answer.json if answer.body else None

    def refuses(self, status, code, method, path, body=None, **more):
        """A call that must fail in this way; its detail."""
        answer = self.call(method, path, body, **more)
        assert (answer.status, answer.json["code"]) == (status, code), f"{method} {path}: {answer.status} {answer.body}"
        assert answer.headers["Content-Type"] == "application/problem+json"
        return answer.json["detail"]

    def furnish(self, cidrs=("10.7.0.0/24",), network="mesh"):
        """Organization, workspace, network."""
        self.ok("POST", "/organizations", {"name": "acme"})
        self.ok("POST", "/workspaces", {"name": "prod", "organization": "acme"})
        return self.ok("POST", "/networks", {"name": network, "workspace": "prod", "cidrs": list(cidrs)})

    def token(self, networks=("mesh",), workspace="prod", **more):
        """A new token's ID.SECRET."""
        return self.ok("POST", "/tokens", dict({"workspace": workspace, "networks": list(networks)}, **more))["token"]

    def publish(self, envelope):
        """PUT a keyset."""
        return self.call("PUT", "/keyset", {"envelope": base64.b64encode(envelope).decode()})

    def status(self, network="mesh"):
        """A network's status."""
        return self.ok("GET", f"/networks/{network}/status")
