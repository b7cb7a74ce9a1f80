# SPDX-License-Identifier: Apache-2.0
"""A netd on a host of the rig, with forge (tests/tools/forge.c) in the place of all others: no fetchd, no control plane.

  host = NetdHost(rig, "h1")         netd and wireguard-go are up, root pinned, keyset known
  host.forge("peers mesh count=300 base=100.64.1.0 endpoint=192.0.2.9:51820")
  host.publish(); host.offer()       {"outcome": "applied", "receipt": {...}, "us": ...}
  host.witness()                     what wg(8) and ip(8) say, to be compared
"""

import difflib
import json
import os
import re
import signal
import subprocess

import rig as rigs

PREFIX = os.environ.get("FLEET_PREFIX", "lb") + "n"  # as the fleet's (conftest.py): two runs at once need two
FOLDER = os.path.join(rigs.ROOT, "build/netns-" + PREFIX)
FORGE = os.environ.get("FORGE") or os.path.join(rigs.ROOT, "build/tests/tools/forge")
PROGRAMS = os.environ.get("LOOPBACK_BIN") or os.path.join(rigs.ROOT, "build/bin")
SOCKETS = "/run/loopback/netd"
CIDR, OWN, PEERS = "100.64.0.0/16", "100.64.0.1", "100.64.1.0"
# There is no route to it: a handshake fails at once. One on the link that is not there would hold wireguard-go up for 3 s (ARP).
ENDPOINT = "192.0.2.9:51820"
SERVICES = ("loopback-netd", "loopback-wg")


class Forge:
    """forge as a child: a command a line, an answer a line."""

    def __init__(self, host):
        self.process = host.popen(FORGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, command):
        """Write a command whose answer is read later."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self):
        """The answer to the oldest command that has none; AssertionError if forge could not do it."""
        line = self.process.stdout.readline()
        assert line, "forge has died"
        answer = json.loads(line)
        assert answer["ok"], answer["error"]
        return answer

    def __call__(self, command):
        self.send(command)
        return self.answer()

    def close(self):
        """End it, in the middle of an offer perhaps; it has nothing to lose."""
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=10)


class NetdHost:
    """One host: netd, a tunnel, and a forge that netd takes for its fetchd."""

    def __init__(self, rig, name="h1", peers=20, options="", mesh=True, prepare=None):
        """
        @param peers    how many others are in the network "mesh" at first
        @param options  more for netd's command line
        @param mesh     False: nothing is offered yet
        @param prepare  called with the rig's host before anything runs on it
        """
        self.name, self.peers, self.generation = name, peers, 0
        self.host = rig.add_host(name, f"198.18.0.{20 + int(name[1:])}")
        if prepare:
            prepare(self.host)
        self.host.start(*SERVICES, options={"netd": f"--interface lb0 --listen-port 51820 --confirm 3600 {options}"})
        self.forge = Forge(self.host)
        assert self.forge(f"pin {SOCKETS}/admin.sock")["pinned"]
        self.connect()
        self.keyset()
        rigs.wait_until("the tunnel", lambda: self.status()["state"] == "unenrolled")
        if mesh:
            self.make_mesh()
        # Until duplicate address detection is over, addresses and routes of eth0 change by themselves.
        rigs.wait_until("addresses", lambda: "tentative" not in self.host.enter("ip", "address").stdout)

    def make_mesh(self):
        """The network that all tests start from: this host and some peers."""
        self.forge("empty")
        self.forge(f"network mesh cidr={CIDR} mtu=1380 keepalive=0")
        self.forge(f"self mesh address={OWN}")
        self.forge(f"peers mesh count={self.peers} base={PEERS} endpoint={ENDPOINT}")
        self.apply()

    # ---- being fetchd

    def connect(self):
        """A new connection, with fetchd's first words. Returns netd's."""
        self.forge(f"connect {SOCKETS}/documents.sock as=_lb-fetchd")
        return self.forge("hello")

    def keyset(self, words="", generation=None, taken=True):
        """A new keyset of the root, handed over."""
        self.generation = (self.generation if generation is None else generation) + 1
        self.forge(f"keyset generation={self.generation} epoch=1 {words}")
        answer = self.forge("hand-over")
        assert answer["taken"] or not taken, answer
        return answer

    def publish(self, words=""):
        """Sign what changed."""
        return self.forge(f"publish {words}")

    def offer(self, words=""):
        """Offer what was published; see cmd_offer() for the words."""
        return self.forge(f"offer {words}")

    def apply(self):
        """Publish and offer; it must be applied."""
        self.publish()
        result = self.offer()
        assert result.get("outcome") == "applied", result
        return result

    def refused(self, code, words="", outcome="refused"):
        """Offer something that must not be taken: told in result, receipt, log and status, and nothing on the host moves."""
        before, log = self.witness(), len(self.log())
        result = self.offer(words)
        assert result.get("outcome") == outcome, result
        receipt = result["receipt"]
        assert (receipt["outcome"], receipt["code"], receipt["reason"]) == (outcome, code, result["reason"]), result
        assert len(result["reason"]) > 20 and f"({code})" in self.log()[log:], self.log()[log:]
        last = self.status()["last_result"]
        assert (last["outcome"], last["code"], last["reason"]) == (outcome, code, result["reason"]), last
        self.unmoved(before)
        return result

    def unmoved(self, before):
        """Nothing on the host has changed since this witness()."""
        now = self.witness()
        assert now == before, "\n".join(difflib.unified_diff(*(json.dumps(state, indent=0).replace("\\n", "\n").splitlines()
                                                               for state in (before, now)), lineterm="", n=0))

    # ---- witnesses

    def pid(self, service="netd"):
        """The pid of netd, or of "wg"."""
        return self.host.pid(service)

    def log(self):
        """What netd has said so far."""
        return self.host.log("netd")

    def status(self):
        """`loopback status --json`."""
        return json.loads(self.host.enter("loopback", "status", "--json", check=False).stdout)

    def device(self):
        """{public key: (endpoint, allowed ips, keepalive)} as wg(8) reads the device."""
        return {key: (endpoint, ",".join(sorted(allowed.split(","))), keepalive)
                for key, _, endpoint, allowed, _, _, _, keepalive in self.dump()[1:]}

    def dump(self):
        """`wg show lb0 dump` in fields."""
        return [line.split("\t") for line in self.host.enter("wg", "show", "lb0", "dump").stdout.splitlines()]

    def witness(self):
        """All that netd could have changed on this host, as stock tools see it; counters of traffic left out."""
        dump = self.dump()
        peers = sorted(tuple(fields[:4] + fields[7:]) for fields in dump[1:])
        ip = [self.host.enter("ip", "-d", *words.split()).stdout
              for words in ("-4 address", "-6 address", "-4 route show table all", "-6 route show table all")]
        return [tuple(dump[0]), peers, [re.sub(r"(valid_lft|preferred_lft|expires) \d+sec|used \d+", "", text) for text in ip]]

    def published(self, network="mesh"):
        """What the device should have of a network, as forge tells wg(8): the same form as device()."""
        path = os.path.join(self.host.folder, "etc/wanted.conf")
        self.forge(f"setconf {network} path=/etc/loopback/wanted.conf")
        wanted, fields = {}, {}
        with open(path, encoding="utf-8") as lines:
            for line in list(lines) + ["[Peer]\n"]:
                if line.startswith("["):
                    if "PublicKey" in fields:
                        allowed = ",".join(sorted(fields["AllowedIPs"].split(", ")))
                        wanted[fields["PublicKey"]] = (fields.get("Endpoint", "(none)"), allowed,
                                                       fields.get("PersistentKeepalive", "off"))
                    fields = {}
                elif "=" in line:
                    key, _, value = line.partition(" = ")
                    fields[key] = value.strip()
        return wanted

    # ---- what happens to hosts

    def kill(self, service="netd"):
        """SIGKILL a service, and wait until launch knows. It starts it again after its back-off."""
        pid = self.pid(service)
        os.kill(pid, signal.SIGKILL)
        rigs.wait_until(f"end of {service}", lambda: self.host.units()[f"loopback-{service}"]["pid"] != pid, interval=0.002)

    def start(self):
        """Have netd started now, not when launch's back-off is over, and wait until the device is as it wants it."""
        self.host.launch("start", "loopback-netd")
        self.wait_state()

    def restart(self):
        """SIGKILL netd and start it again. forge's connection is lost: connect()."""
        self.kill()
        self.start()

    def reboot(self):
        """Pull the plug, boot. forge's keys and documents are gone with it: only for a host's last test."""
        self.close()
        self.host.reboot(sure=True)
        self.wait_state()

    def wait_state(self, state="running", timeout=15.0):
        """Wait until netd says that it is in this state."""
        def there():
            done = self.host.enter("loopback", "status", "--json", check=False)
            return done.stdout and json.loads(done.stdout).get("state") == state
        rigs.wait_until(f"netd {state}", there, timeout)

    def trace(self, run, service="netd", calls="sendmsg,sendto"):
        """Run something while strace watches netd; returns its result and what strace wrote of it.

        @param service  "launch": netd is watched from its first step, should it be started meanwhile
        """
        path = os.path.join(self.host.folder, "strace")
        pid = self.host.launch_pid if service == "launch" else self.pid(service)
        # In the host's network namespace: there it finds out which sockets are netlink, and of what kind.
        tracer = self.host.popen("strace", "-f", "-qq", "-s", "65536", "-e", f"trace={calls}", "-e", "signal=none", "-o", path,
                                 "-p", str(pid))
        try:
            rigs.wait_until("strace", lambda: "TracerPid:\t0\n" not in _status(pid))
            result = run()
        finally:
            tracer.terminate()
            tracer.wait(timeout=10)
        with open(path, encoding="utf-8") as lines:
            return result, lines.read().splitlines()

    def close(self):
        """End forge; the rig ends the rest."""
        self.forge.close()


def _status(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return file.read()
