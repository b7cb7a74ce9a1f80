# SPDX-License-Identifier: Apache-2.0
"""A whole deployment inside one machine: the control plane and a host by our packages, under systemd; two more hosts in
namespaces of the rig (tests/netns/rig.py), which are in the place of other machines. All of them use the kernel's WireGuard."""

import json
import os
import shutil

import machine
import rig as rigs
from machine import run

FOLDER = "/var/tmp/deployment"
LINK = "internet0"
CONTROL_NAME = "control.test"
URL = f"https://{CONTROL_NAME}:8443"
NETWORK, CIDR = "mesh", "100.64.0.0/16"
OTHERS = {"h2": "198.18.1.2", "h3": "198.18.1.3"}


class Deployment:
    """What is set up step by step by test_packages.py and then used by the others."""

    def __init__(self):
        self.operator = os.path.join(FOLDER, "operator")
        # The rig gives its hosts a folder of programs: the installed ones.
        programs = os.path.join(FOLDER, "programs")
        os.makedirs(self.operator, mode=0o700)
        os.makedirs(programs)
        for name in machine.PROGRAMS:
            path = f"{machine.LIBEXEC}/{name}"
            shutil.copy(path if os.path.exists(path) else f"/usr/bin/{name}", programs)
        os.environ["LOOPBACKCTL_CONFIG"] = machine.ENVIRONMENT["LOOPBACKCTL_CONFIG"] = self.file("loopbackctl.json")
        self.rig = rigs.Rig(os.path.join(FOLDER, "rig"), "vm", programs)
        self.rig.connect_machine(LINK, OTHERS.values())
        with open("/etc/hosts", "a", encoding="utf-8") as hosts:
            hosts.write(f"{rigs.MACHINE_ADDRESS} {CONTROL_NAME}\n")

    def file(self, name):
        """A path in the operator's folder."""
        return os.path.join(self.operator, name)

    def ctl(self, *arguments):
        """loopbackctl --json; what it answered."""
        text = run("loopbackctl", *arguments, "--json")
        return json.loads(text) if text.strip() else None

    def make_certificates(self):
        """A CA of the deployment's own, and the server's certificate under it."""
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        run("openssl", "req", "-x509", *key, "-keyout", self.file("ca.key"), "-out", self.file("ca.pem"), "-subj", "/CN=Test CA",
            "-addext", "keyUsage=critical,keyCertSign")
        run("openssl", "req", "-x509", *key, "-CA", self.file("ca.pem"), "-CAkey", self.file("ca.key"), "-keyout",
            self.file("tls.key"), "-out", self.file("tls.crt"), "-subj", f"/CN={CONTROL_NAME}", "-addext",
            f"subjectAltName=DNS:{CONTROL_NAME}", "-addext", "basicConstraints=critical,CA:FALSE")

    def start_control_plane(self):
        """Root ceremony, both daemons by their units, the operator's context."""
        self.make_certificates()
        run("loopbackctl", "root", "create", "--out", self.file("root"))
        online = run(f"{machine.LIBEXEC}/signd", "init", "--state", f"{machine.STATE}/signd", "--root-pub",
                     self.file("root/root.pub")).split()[-1]
        run("loopbackctl", "root", "sign-keyset", "--root", self.file("root/root.key"), "--online", online, "--epoch", "1",
            "--generation", "1", "--name", "test", "--out", self.file("keyset"))
        run(f"{machine.LIBEXEC}/controld", "init", "--state", f"{machine.STATE}/controld", "--keyset", self.file("keyset"))
        for name in ("tls.crt", "tls.key"):
            run("install", "-o", "_lb-controld", "-m", "0400", self.file(name), f"{machine.CONFIG}/{name}")
        with open(f"{machine.CONFIG}/controld.env", "a", encoding="utf-8") as out:
            out.write(f'CONTROLD_OPTIONS="--tls-cert {machine.CONFIG}/tls.crt --tls-key {machine.CONFIG}/tls.key"\n')
        run("systemctl", "start", "loopback-signd.service", "loopback-controld.service")
        run("install", "-m", "0600", f"{machine.STATE}/controld/admin.credential", self.file("admin.credential"))
        run("loopbackctl", "context", "set", "test", "--url", URL, "--ca", self.file("ca.pem"), "--credential-file",
            self.file("admin.credential"), "--root-pub", self.file("root/root.pub"))
        self.ctl("organization", "create", "acme")
        self.ctl("workspace", "create", "prod", "--organization", "acme")
        self.ctl("network", "create", NETWORK, "--workspace", "prod", "--cidr", CIDR)

    def token(self):
        """A new agent token."""
        return self.ctl("token", "create", "--workspace", "prod", "--network", NETWORK, "--ttl", "1h")["token"] + "\n"

    def write_secret(self, path, text):
        """A file that root alone may read."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(text)

    def enroll_machine(self):
        """This machine, as its owner does it."""
        self.write_secret(self.file("token"), self.token())
        return run("loopback", "enroll", "--url", URL, "--token-file", self.file("token"), "--ca", self.file("ca.pem"), "--name", "vm")

    def add_other(self, name):
        """Another host of the rig, up and enrolled."""
        host = self.rig.add_host(name, OTHERS[name], {CONTROL_NAME: rigs.MACHINE_ADDRESS})
        host.start("loopback-netd", "loopback-fetchd", "loopback-wg", timeout=60)
        self.write_secret(os.path.join(host.folder, "etc/token"), self.token())
        shutil.copy(self.file("ca.pem"), os.path.join(host.folder, "etc/ca.pem"))
        host.enter("loopback", "enroll", "--url", URL, "--token-file", "/etc/loopback/token", "--ca", "/etc/loopback/ca.pem",
                   "--name", name)

    def wait_converged(self, *names):
        """All of these, and nobody else, have acknowledged the newest generation."""
        def converged():
            told = self.ctl("network", "status", NETWORK)
            return told["converged"] and {entry["name"] for entry in told["hosts"]} == set(names)
        machine.wait_until(f"convergence of {', '.join(names)}", converged)

    def overlay(self, name):
        """A host's overlay address."""
        return next(entry["addresses"][0].split("/")[0] for entry in self.ctl("network", "status", NETWORK)["hosts"]
                    if entry["name"] == name)

    def unreached(self, *names):
        """Pairs of hosts of which one does not reach the other over the overlay."""
        bad = []
        for source in names:
            for target in names:
                command = ("ping", "-n", "-q", "-c", "1", "-w", "10", self.overlay(target))
                if source == target:
                    continue
                host = self.rig.hosts.get(source)
                answered = host.enter(*command, check=False).returncode == 0 if host else " 1 received" in run(*command, check=False)
                if not answered:
                    bad.append((source, target))
        return bad
