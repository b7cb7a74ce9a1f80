# SPDX-License-Identifier: Apache-2.0
"""An operator's console in a folder of its own: loopbackctl with a configuration that nobody else sees."""

import json
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def program(name):
    """Path of a built program; LOOPBACK_BIN or build/bin."""
    return os.path.join(os.environ.get("LOOPBACK_BIN") or os.path.join(ROOT, "build/bin"), name)


class Console:
    """Runs programs in one folder."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.variables = {"PATH": os.environ["PATH"], "HOME": self.folder, "LC_ALL": "C.UTF-8",
                          "LOOPBACKCTL_CONFIG": self.file("config/loopbackctl.json")}
        # sanitizers, where these tests run against a sanitized build
        self.variables.update({name: text for name, text in os.environ.items() if name.endswith("SAN_OPTIONS")})

    def file(self, name):
        """A path in the folder."""
        return os.path.join(self.folder, name)

    def write(self, name, text, mode=0o600):
        """A file with this text; returns its path."""
        path = self.file(name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def run(self, name, *arguments, stdin=""):
        """A program's CompletedProcess; never raises for its exit code."""
        return subprocess.run([program(name), *arguments], cwd=self.folder, env=self.variables, input=stdin, text=True,
                              capture_output=True, timeout=60, check=False)

    def ctl(self, *arguments, stdin=""):
        """loopbackctl."""
        return self.run("loopbackctl", *arguments, stdin=stdin)

    def ok(self, *arguments, stdin=""):
        """loopbackctl that must succeed; returns its stdout."""
        done = self.ctl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"loopbackctl {' '.join(arguments)}: {done.returncode}: {done.stderr}"
        return done.stdout

    def json(self, *arguments, stdin=""):
        """loopbackctl --json that must succeed; returns what it printed."""
        return json.loads(self.ok(*arguments, "--json", stdin=stdin))

    def refuses(self, code, *arguments, stdin=""):
        """loopbackctl that must end with this code; returns its stderr. Nothing may have gone to stdout."""
        done = self.ctl(*arguments, stdin=stdin)
        assert done.returncode == code, f"loopbackctl {' '.join(arguments)}: {done.returncode}: {done.stdout}{done.stderr}"
        assert done.stdout == ""
        return done.stderr
