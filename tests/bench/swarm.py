# SPDX-License-Identifier: Apache-2.0
"""A real control plane and a swarm of agents (tests/bench/swarm), for the bench's area "scale" and for the test that keeps the swarm alive."""

import json
import os
import pwd
import shutil
import ssl
import subprocess
import sys
import tempfile
import time

TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(TESTS, "control"))

import plane as planes  # noqa: E402  (needs the path above)
from cli_console import program  # noqa: E402

SWARM = os.path.join(os.path.dirname(TESTS), "build/tests/tools/swarm")


class Swarm:
    """The child; a command a line, an answer a line."""

    def __init__(self, plane, token, tls=False):
        command = [SWARM, str(plane.port), plane.root.public.hex(), plane.deployment.hex(), token] + (["tls"] if tls else [])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the swarm has died"
        answer = json.loads(line)
        assert answer["failures"] == 0 and "error" not in answer, answer
        return answer

    def close(self):
        """The end of its input is its own."""
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


class Place:
    """signd and controld in a folder, with a network for tens of thousands, and a swarm for it. A context manager."""

    def __init__(self, tls=False):
        self.tls = tls
        self.folder = tempfile.mkdtemp(prefix="loopback-scale.")
        self.plane = self.swarm = None

    def __enter__(self):
        user = pwd.getpwnam(planes.USER)
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        programs = os.path.join(self.folder, "bin")
        shutil.copytree(program(""), programs)
        os.environ["LOOPBACK_BIN"] = programs
        options = self._certificate(user) if self.tls else ()
        self.plane = planes.Plane(self.folder, controld_options=options)
        for daemon in (self.plane.signd, self.plane.controld):
            daemon.environment = {"LOOPBACK_LOG_LEVEL": "info"}
        return self

    def begin(self):
        """Start both, make the network. Returns the swarm."""
        self.plane.tls = ssl._create_unverified_context() if self.tls else None  # pylint: disable=protected-access
        self.plane.start()
        self.plane.furnish(["10.0.0.0/12"], "wide")
        self.swarm = Swarm(self.plane, self.plane.token(["wide"]), self.tls)
        return self.swarm

    def _certificate(self, user):
        paths = [os.path.join(self.folder, name) for name in ("tls.crt", "tls.key")]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-keyout", paths[1], "-out", paths[0]], check=True, capture_output=True)
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)
        return ("--tls-cert", paths[0], "--tls-key", paths[1])

    def __exit__(self, *what):
        if self.swarm:
            self.swarm.close()
        self.plane.stop()
        shutil.rmtree(self.folder)
        os.environ.pop("LOOPBACK_BIN", None)
