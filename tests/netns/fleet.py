# SPDX-License-Identifier: Apache-2.0
"""A whole deployment on a rig: root ceremony, control plane, hosts that enrol, and an operator with loopbackctl."""

import json
import os
import subprocess
import time

import rig
from rig import RigError

NETWORK = "mesh"
CIDR = "100.64.0.0/16"
CONTROL_NAME = "control.demo"
LISTEN_PORT = 51820


class Fleet:
    """The control plane on host cp and the hosts h1, h2 ... of one network."""

    services = ("loopback-netd", "loopback-fetchd", "loopback-wg")  # of each host

    def __init__(self, folder, prefix, programs=None, tied=True):
        """
        @param folder, prefix, tied  as for rig.Rig
        @param programs  folder of the built programs; LOOPBACK_BIN or build/bin
        """
        programs = programs or os.environ.get("LOOPBACK_BIN") or os.path.join(rig.ROOT, "build/bin")
        missing = [name for name in ("netd", "fetchd", "wg-launch", "controld", "signd", "loopback", "loopbackctl")
                   if not os.access(os.path.join(programs, name), os.X_OK)]
        if missing:
            raise RigError(f"{programs}: {', '.join(missing)} not there; run make first")
        self.rig = rig.Rig(folder, prefix, programs, tied=tied)
        self.operator = os.path.join(self.rig.folder, "operator")
        os.mkdir(self.operator, mode=0o700)
        self.config = os.path.join(self.operator, "loopbackctl.json")
        self.url = f"https://{rig.CONTROL_ADDRESS}:8443"
        self.root_public = self.file("root/root.pub")

    def file(self, name):
        """A path in the operator's folder."""
        return os.path.join(self.operator, name)

    # ---- the control plane

    def make_certificates(self):
        """A CA of the deployment's own, and the server's certificate under it."""
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        rig.run("openssl", "req", "-x509", *key, "-keyout", self.file("ca.key"), "-out", self.file("ca.pem"),
                "-subj", "/CN=Loopback demo CA", "-addext", "keyUsage=critical,keyCertSign")
        rig.run("openssl", "req", "-x509", *key, "-CA", self.file("ca.pem"), "-CAkey", self.file("ca.key"),
                "-keyout", self.file("tls.key"), "-out", self.file("tls.crt"), "-subj", f"/CN={CONTROL_NAME}",
                "-addext", f"subjectAltName=DNS:{CONTROL_NAME},IP:{rig.CONTROL_ADDRESS}",
                "-addext", "basicConstraints=critical,CA:FALSE")

    def start_control_plane(self):
        """Root ceremony, then signd and controld under their own uids, then the operator's context."""
        control = self.rig.add_host("cp", rig.CONTROL_ADDRESS, {CONTROL_NAME: rig.CONTROL_ADDRESS})
        self.ctl_text("root", "create", "--out", self.file("root"))
        online = control.enter("signd", "init", "--state", "/var/lib/loopback/signd",
                               "--root-pub", self.root_public).stdout.split()[-1]
        self.ctl_text("root", "sign-keyset", "--root", self.file("root/root.key"), "--online", online, "--epoch", "1",
                      "--generation", "1", "--name", "demo", "--out", self.file("keyset"))
        control.enter("controld", "init", "--state", "/var/lib/loopback/controld", "--keyset", self.file("keyset"))
        for name in ("tls.crt", "tls.key"):
            control.enter("install", "-g", "_lb-controld", "-m", "0440", self.file(name), f"/etc/loopback/{name}")
        with open(os.path.join(control.folder, "etc/controld.env"), "w", encoding="utf-8") as file:
            file.write('CONTROLD_OPTIONS="--tls-cert /etc/loopback/tls.crt --tls-key /etc/loopback/tls.key"\n')
        control.start("loopback-signd", "loopback-controld")
        control.enter("install", "-m", "0600", "/var/lib/loopback/controld/admin.credential", self.file("admin.credential"))
        self.ctl_text("context", "set", "demo", "--url", self.url, "--ca", self.file("ca.pem"), "--credential-file",
                      self.file("admin.credential"), "--root-pub", self.root_public)

    def create_network(self):
        """What an operator makes before the first host comes."""
        self.ctl("organization", "create", "acme")
        self.ctl("workspace", "create", "prod", "--organization", "acme")
        self.ctl("network", "create", NETWORK, "--workspace", "prod", "--cidr", CIDR)

    def ctl_text(self, *arguments, check=True):
        """loopbackctl at the operator's console (on cp), as a person sees it."""
        return self.host("cp").enter("loopbackctl", *arguments, check=check, variables={"LOOPBACKCTL_CONFIG": self.config})

    def ctl(self, *arguments):
        """loopbackctl --json; returns what it answered."""
        text = self.ctl_text(*arguments, "--json").stdout
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as error:
            raise RigError(f"loopbackctl {' '.join(arguments)} --json: not JSON ({error}): {text[:200]!r}") from error

    # ---- hosts

    def host(self, name):
        """A host by name."""
        return self.rig.hosts[name]

    def members(self):
        """The names of the hosts, without the control plane, in the order of their numbers."""
        return sorted((name for name in self.rig.hosts if name != "cp"), key=lambda name: int(name[1:]))

    def boot_host(self, name, options=None):
        """A host with its daemons up, not enrolled. options: as for Host.start()"""
        number = int(name[1:])
        address = f"198.18.{1 + (number - 1) // 250}.{1 + (number - 1) % 250}"
        host = self.rig.add_host(name, address, {CONTROL_NAME: rig.CONTROL_ADDRESS})
        wanted = {"netd": f"--interface lb0 --listen-port {LISTEN_PORT}"}
        wanted.update(options or {})
        host.start(*self.services, options=wanted)
        return host

    def enroll(self, name, token=None):
        """loopback enroll on a host, with a token of its own unless one is given. Returns its output."""
        host = self.host(name)
        token = token or self.ctl("token", "create", "--workspace", "prod", "--network", NETWORK, "--ttl", "1h")["token"]
        for path, text in (("token", token + "\n"), ("ca.pem", self.read("ca.pem"))):
            fd = os.open(os.path.join(host.folder, "etc", path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(text)
        done = host.enter("loopback", "enroll", "--url", f"https://{CONTROL_NAME}:8443", "--token-file", "/etc/loopback/token",
                          "--ca", "/etc/loopback/ca.pem", "--name", name)
        os.unlink(os.path.join(host.folder, "etc/token"))
        return done.stdout

    def add(self, name, options=None):
        """Boot a host and enrol it."""
        host = self.boot_host(name, options)
        self.enroll(name)
        return host

    def read(self, name):
        """A text file of the operator's."""
        with open(self.file(name), encoding="utf-8") as file:
            return file.read()

    # ---- what has come about

    def status(self, network=NETWORK):
        """The network's status as the API tells it."""
        return self.ctl("network", "status", network)

    def wait_converged(self, members=None, timeout=15.0, network=NETWORK):
        """Wait until exactly these hosts are in the network and all acknowledged its newest generation; returns the status."""
        members, last = set(members if members is not None else self.members()), {}

        def converged():
            last.clear()
            last.update(self.status(network))
            return last["converged"] and {entry["name"] for entry in last["hosts"]} == members

        try:
            rig.wait_until("convergence", converged, timeout, interval=0.05)
        except RigError as error:
            lines = [f"  {entry['name']}: acknowledged {entry['acknowledged_generation']}, {entry['outcome']}: {entry['reason']}"
                     for entry in last["hosts"]]
            tails = [self.host(name).log_tails() for name in sorted(members) if name in self.rig.hosts]
            raise RigError(f"{error}: network {network}, generation {last['generation']}, expected {sorted(members)}\n" +
                           "\n".join(lines + tails + [self.host("cp").log_tails()])) from None
        return last

    def overlay(self, name, network=NETWORK):
        """A host's overlay address, without a prefix length."""
        for entry in self.status(network)["hosts"]:
            if entry["name"] == name:
                return entry["addresses"][0].split("/")[0]
        raise RigError(f"{name} is not in network {network}")

    def reaches(self, source, address, count=1, wait=2.0):
        """Does a host reach an overlay address? count pings, each waited for; one answer is enough."""
        done = self.host(source).enter("ping", "-n", "-q", "-c", str(count), "-i", "0.1", "-W", str(wait), address, check=False)
        return done.returncode == 0

    def take_down(self):
        """End everything; @return as rig.sweep()"""
        return self.rig.take_down()


class Reach:
    """Many pings at once: does each source reach each address, and after how long?"""

    def __init__(self, fleet, pairs, patience=10.0):
        """
        @param pairs     [(source host, address)]
        @param patience  seconds to go on asking: more than the 5 s after which WireGuard repeats a handshake that was lost
        """
        self.fleet, self.patience, self.begun = fleet, patience, time.monotonic()
        self.running = {pair: self.ask(pair) for pair in pairs}

    def ask(self, pair):
        """One ping for the rest of the time, which ends at the first answer, or at once where there is no route yet."""
        left = self.patience - (time.monotonic() - self.begun)
        return self.fleet.host(pair[0]).popen("ping", "-n", "-q", "-c", "1", "-i", "0.1", "-w", str(max(1, round(left))), pair[1],
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def result(self):
        """{(source, address): seconds to the first answer, or None}"""
        found = {}
        while len(found) < len(self.running):
            time.sleep(0.005)
            took = time.monotonic() - self.begun
            for pair, process in self.running.items():
                if pair in found or process.poll() is None:
                    continue
                if process.returncode == 0:
                    found[pair] = took
                elif took >= self.patience:
                    found[pair] = None
                else:
                    time.sleep(0.02)
                    self.running[pair] = self.ask(pair)
        return found
