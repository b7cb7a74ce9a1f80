# SPDX-License-Identifier: Apache-2.0
"""docs/operations/five-minutes.md, then lifecycle.md, word for word.

Three machines with a booted Debian 12, our packages in root's home, nothing else of ours.
"""

import os
import subprocess
import sys
import time

import pytest

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(ROOT, "tests/packaging"))

sys.path.insert(0, os.path.join(ROOT, "tests/netns"))

import connect_proxy  # noqa: E402  (needs the paths above)
import guide  # noqa: E402
import machine as machines  # noqa: E402

PAGE = os.path.join(ROOT, "docs/operations/five-minutes.md")
LIFECYCLE = os.path.join(ROOT, "docs/operations/lifecycle.md")
ROOTFS = os.path.join(ROOT, "build/vm/nspawn-guide")
PREFIX = os.environ.get("GUIDE_PREFIX", "lbgd")
ADDRESSES = {"control": "192.0.2.10", "web-1": "192.0.2.21", "web-2": "192.0.2.22"}
PACKAGES = {"control": ("loopback-controld", "loopback-cli"), "web-1": ("loopback-agent",), "web-2": ("loopback-agent",)}
# The page says so; most of them are its reader's.
SECONDS = 300


@pytest.fixture(scope="session", name="debs")
def make_debs():
    """{package: path}, of this tree. GUIDE_PACKAGES: a folder where they have just been made."""
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        version = next(line.split()[-1] for line in file if line.startswith("VERSION :="))
    folder = os.environ.get("GUIDE_PACKAGES")
    if not folder:
        folder = machines.tidy(os.path.join(ROOT, "build/check-guide"))
        subprocess.run([os.path.join(ROOT, "packaging/mkdeb"), version, folder], check=True)
    return {name.partition("_")[0]: os.path.join(folder, name) for name in os.listdir(folder)
            if name.endswith(".deb") and name.split("_")[1] == version}


def ip(*words):
    """ip(8)"""
    subprocess.run(["ip", *words], check=True)


class Site:
    """The machines of the page and the switch between them.

    An SSH key of control's root is known to the others, as the page's reader has it.
    """

    def __init__(self):
        self.machines, self.switch = {}, PREFIX + "-sw"
        ip("netns", "add", self.switch)

    def boot(self, debs):
        """All of it."""
        subprocess.run([os.path.join(HERE, "rootfs"), ROOTFS], check=True)
        machines.ROOTFS = ROOTFS
        ip("-n", self.switch, "link", "add", "name", "sw0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "sw0", "up")
        for name, address in ADDRESSES.items():
            self.add(name, address, debs)
        self.trust()

    def add(self, name, address, debs):
        """Boot one and plug it in."""
        made = machines.Machine(f"{PREFIX}-{name}", address + "/24")
        self.machines[name] = made
        ip("link", "add", "eth0", "netns", made.name, "type", "veth", "peer", "name", "to-" + name, "netns", self.switch)
        ip("-n", self.switch, "link", "set", "to-" + name, "master", "sw0", "up")
        made.run("ip", "link", "set", "lo", "up")
        made.plug()
        made.run("hostname", name)
        for package in PACKAGES[name]:
            with open(debs[package], "rb") as file:
                subprocess.run(made.inside("sh", "-c", 'cat >"/root/$1"', "-", os.path.basename(debs[package])),
                               stdin=file, check=True)

    def trust(self):
        """root@control may log in on the others."""
        control = self.machines["control"]
        control.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        key = control.run("cat", "/root/.ssh/id_ed25519.pub")
        for name, made in self.machines.items():
            if name != "control":
                made.write("/root/.ssh/authorized_keys", key, "600")
                control.run("sh", "-c", f"ssh-keyscan -t ed25519 {ADDRESSES[name]} >>/root/.ssh/known_hosts")

    def type(self, name, command):
        """A line that somebody types; (status, what is on the screen then)."""
        done = subprocess.run(self.machines[name].inside("bash", "-c", "cd; " + command), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False)
        return done.returncode, done.stdout

    def end(self):
        """Nothing of it stays."""
        for made in self.machines.values():
            made.end()
        ip("netns", "delete", self.switch)


@pytest.fixture(scope="module", name="site")
def make_site(debs):
    made = Site()
    try:
        made.boot(debs)
        yield made
    finally:
        made.end()


def read_out(site, page):
    """Type what a page says. Each command succeeds and prints what the page says. @return the machines it was typed on"""
    begun, typed = time.monotonic(), set()
    for step in guide.steps(page):
        started = time.monotonic()
        status, output = site.type(step.machine, step.command)
        typed.add(step.machine)
        print(f"{time.monotonic() - started:6.2f} s  {step.machine}: {step.command}\n{output}")
        assert status == 0, f"{page}:{step.line}: {step.command}: status {status}\n{output}"
        complaint = step.check(output)
        assert not complaint, f"{page}:{step.line}: {step.command}: {complaint}"
    assert time.monotonic() - begun < SECONDS
    return typed


def test_the_guide_word_for_word(site):
    assert read_out(site, PAGE) == set(ADDRESSES)


def test_a_bundle_of_a_real_journal_holds_no_token(site):
    """A token of nobody's, a real host's keys, in lines that journald keeps for fetchd's unit."""
    web = site.machines["web-1"]
    secret = "c3VwcG9ydC1idW5kbGUtdGVzdC1zZWNyZXQtb2YtNDMtYnl0ZXM"
    key = web.run("sh", "-c", "od -An -v -tx1 /var/lib/loopback/netd/host.key | tr -d ' \\n'").strip()
    assert len(key) == 64
    for line in (f"enrolling with 0123456789abcdef0123456789abcdef.{secret}.cm9vdA", f"host key {key}",
                 f"Authorization: Bearer {secret}", "harmless"):
        web.run("logger", "--journald", text=f"MESSAGE={line}\nPRIORITY=6\nOBJECT_SYSTEMD_UNIT=loopback-fetchd.service\n")
    web.wait("the lines are in the journal", lambda: "harmless" in web.journal("loopback-fetchd"))
    assert secret in web.journal("loopback-fetchd") and key in web.journal("loopback-fetchd")
    web.run("loopback", "support-bundle", "--output", "/root/bundle.tar")
    assert web.run("stat", "-c", "%a %U", "/root/bundle.tar").strip() == "600 root"
    shown = web.run("tar", "-xOf", "/root/bundle.tar")
    assert secret not in shown and key not in shown
    assert "harmless" in shown and "enrolled and its first configuration is in force" in shown and "ActiveState=active" in shown
    manifest = web.run("tar", "-xOf", "/root/bundle.tar", "loopback-support/MANIFEST.txt")
    assert "NOT WHOLE" not in manifest


def test_a_proxy_from_the_environment_file(site):
    """As the unit reads it: status names the proxy while it is not there, and not when it is excepted; no password is shown."""
    web = site.machines["web-2"]
    web.write("/etc/loopback/fetchd.env", "https_proxy=http://office:p%40ss%25%22word@192.0.2.10:3128\n", "600")
    web.run("systemctl", "restart", "loopback-fetchd")
    said = "192.0.2.10:8443 cannot be reached: no way through the proxy http://192.0.2.10:3128 (https_proxy)"
    web.wait("status names the proxy", lambda: said in web.run("loopback", "status"))
    pid = web.properties("loopback-fetchd", "MainPID")["MainPID"]
    for text in (web.run("loopback", "status"), web.journal("loopback-fetchd"),
                 web.run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline"),
                 web.run("systemctl", "show", "loopback-fetchd")):
        assert "ss%25" not in text and 'ss%"word' not in text
    assert web.status("setpriv", "--reuid=_lb-fetchd", "--clear-groups", "cat", f"/proc/{pid}/environ") != 0
    assert "can be read by others than root" not in web.journal("loopback-fetchd")
    web.write("/etc/loopback/fetchd.env",
              "https_proxy=http://office:p%40ss%25%22word@192.0.2.10:3128\nno_proxy=192.0.2.0/24\n", "644")
    web.run("systemctl", "restart", "loopback-fetchd")
    web.wait("the control plane is back", lambda: ", online," in web.run("loopback", "status"))
    said = "/etc/loopback/fetchd.env holds the proxy's password and can be read by others than root"
    assert said in web.journal("loopback-fetchd")
    web.write("/etc/loopback/fetchd.env", "", "600")
    web.run("systemctl", "restart", "loopback-fetchd")


def test_a_host_that_leaves_and_enrols_through_a_proxy(site):
    """A real proxy, which wants a password, at the switch; the host has no other way to the control plane."""
    web, control = site.machines["web-2"], site.machines["control"]
    ip("-n", site.switch, "address", "add", "192.0.2.1/24", "dev", "sw0")
    site.border, site.BORDER = site.switch, "192.0.2.1"
    proxy = connect_proxy.Proxy(site, credentials=("office", 'p@ss%"word'))
    try:
        web.run("ip", "route", "add", "blackhole", "192.0.2.10/32")
        web.write("/etc/loopback/fetchd.env", f"https_proxy=http://office:p%40ss%25%22word@192.0.2.1:{proxy.port}\n", "600")
        web.run("systemctl", "restart", "loopback-fetchd")
        web.wait("online through the proxy", lambda: ", online," in web.run("loopback", "status"))
        web.run("loopback", "leave")
        token = control.run("loopbackctl", "token", "create", "--workspace", "prod", "--network", "mesh")
        web.run("loopback", "enroll", "--url", "https://192.0.2.10:8443", "--ca", "/root/tls.crt", "--token-file", "-",
                text=token)
        assert "State          running" in web.run("loopback", "status")
        assert set(proxy.asked) == {"CONNECT 192.0.2.10:8443 HTTP/1.1"} and "ss%25" not in web.journal("loopback-fetchd")
        # The mesh itself goes from host to host.
        assert web.status("ping", "-c", "1", "-W", "5", "100.64.0.1") == 0
    finally:
        proxy.close()
        web.run("ip", "route", "del", "blackhole", "192.0.2.10/32")
        web.write("/etc/loopback/fetchd.env", "", "600")
        web.run("systemctl", "restart", "loopback-fetchd")


def test_backup_restore_leave_and_a_site_without_internet_word_for_word(site):
    assert read_out(site, LIFECYCLE) == set(ADDRESSES)


@pytest.mark.parametrize("page, printed, same", [
    (["one", "two"], "one\ntwo\n", True), (["one", "two"], "one\ntwo  \n\n", True), (["one", "two"], "one\n", False),
    (["one"], "one\ntwo\n", False),
    (["a ... c"], "a b c\n", True), (["a ... c"], "a b d\n", False), (["a ... c"], "a b\n c\n", False),
    (["...", "z"], "x\ny\nz\n", True),
    (["...", "z"], "z\n", True), (["...", "z"], "x\nz\ny\n", False), (["one", "..."], "one\n", True), ([], "anything\n", True),
    (["1.2.3.4"], "1x2x3x4\n", False),
])
def test_what_the_page_says_is_compared(page, printed, same):
    step = guide.Step(1, "control", "true")
    step.expected = page
    assert (step.check(printed) is None) == same
