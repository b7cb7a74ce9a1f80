# SPDX-License-Identifier: Apache-2.0
"""The install script on a fresh machine with a booted systemd (U1, U2): from the control plane, from a mirror, from a folder; and everything that
may go wrong on the way, after which the machine is as it was."""

import http.server
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from conftest import NAMES
from test_deb_upgrade import CONTROL, ctl, start_control_plane, status

AGENT = "loopback-agent"
SCRIPT = "/root/install.sh"


def lend(machine, path):
    """A stock program of this computer, which is a Debian 12 as well."""
    with open(path, "rb") as file:
        subprocess.run(machine.inside("sh", "-c", 'cat >"$1" && chmod 755 "$1"', "-", path), stdin=file, check=True)


@pytest.fixture(scope="module", name="site")
def site_fixture(pair, packages, tmp_path_factory):
    """(control, host): a control plane that has the agent's package, and a host with the script and a CA, without anything of ours."""
    control, host = pair
    control.install(*[packages.deb(name) for name in NAMES])
    start_control_plane(control)
    control.run("/usr/libexec/loopback/controld", "package", "add", "/run/packages/" + os.path.basename(packages.deb(AGENT)), "--state",
                "/var/lib/loopback/controld")
    lend(host, "/usr/bin/curl")
    host.write("/root/ca.pem", control.run("cat", "/etc/loopback/tls/cert.pem"))
    host.write(SCRIPT, host.run("curl", "--fail", "--silent", "--cacert", "/root/ca.pem", CONTROL + "/v1/agent/install.sh"))
    control.run("loopbackctl", "mirror", "export", "/root/mirror")
    site = tmp_path_factory.mktemp("mirror")
    archive = subprocess.run(control.inside("tar", "-C", "/root/mirror", "-c", "."), capture_output=True, check=True).stdout
    subprocess.run(["tar", "-C", str(site), "-x"], input=archive, check=True)
    subprocess.run(host.inside("sh", "-c", "mkdir /root/mirror && tar -C /root/mirror -x"), input=archive, check=True)
    host.mirror = str(site)
    return control, host


@pytest.fixture(name="fresh")
def fresh_host(site):
    """The host with nothing of ours on it, before and after."""
    control, host = site
    host.run("dpkg", "--purge", AGENT)
    host.before = host.files()
    yield control, host
    host.run("ip", "link", "set", host.interface, "up")
    host.run("dpkg", "--purge", AGENT)


def install(host, *arguments, script=SCRIPT, text="", **variables):
    """Run the script; subprocess.CompletedProcess."""
    given = [f"{name}={value}" for name, value in dict({"LOOPBACK_CA": "/root/ca.pem"}, **variables).items() if value]
    return subprocess.run(host.inside("env", *given, "sh", script, *arguments), input=text, capture_output=True, text=True, timeout=180, check=False)


def token(control):
    """A new token."""
    return ctl(control, "token", "create", "--workspace", "servers", "--network", "mesh")["token"]


def gone(host):
    """dpkg knows of nothing of ours, and of nothing half way."""
    return host.run("dpkg-query", "-W", "-f", "${db:Status-Status}", AGENT, check=False) in ("", "not-installed") and host.run("dpkg", "--audit") == ""


def untouched(host, done, says):
    """It failed and said why; no file is there that was not, none is gone, nothing of ours is installed."""
    assert done.returncode == 1 and says in done.stderr, (done.stdout, done.stderr)
    assert host.files() == host.before
    assert gone(host)
    assert host.run("sh", "-c", "ls /var/tmp /tmp") == "/tmp:\n\n/var/tmp:\n" or "loopback." not in host.run("sh", "-c", "ls /var/tmp /tmp")


class Web:
    """A folder behind a web server, in the network of a machine: Python's own, or one that misbehaves."""

    def __init__(self, machine, folder, handler=http.server.SimpleHTTPRequestHandler):
        self.netns, self.folder, self.handler = machine.name, folder, handler
        self.ready, self.server = threading.Event(), None
        self.thread = threading.Thread(target=self.run)
        self.url = f"http://{machine.address}:8000"

    def run(self):
        """In a thread of its own, which alone enters the machine's network."""
        folder = self.folder
        with open(f"/run/netns/{self.netns}", "rb") as file:
            import ctypes
            assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000) == 0

        class Handler(self.handler):
            """Says nothing of its requests."""

            def __init__(self, *arguments):
                super().__init__(*arguments, directory=folder)

            def log_message(self, *_):
                """Nothing."""
        self.server = http.server.ThreadingHTTPServer(("", 8000), Handler)
        self.ready.set()
        self.server.serve_forever(poll_interval=0.05)

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


# -- how it is meant

def test_from_the_control_plane_and_again(fresh):
    """One command installs and enrols; the second and third change nothing, not even a process."""
    control, host = fresh
    host.write("/root/token", token(control) + "\n", "600")
    done = install(host, LOOPBACK_TOKEN_FILE="/root/token", LOOPBACK_NAME="web-1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.active("loopback-netd.service") and status(host)["control_plane"]["enrolled"]
    assert "web-1" in [entry["name"] for entry in ctl(control, "host", "list")]
    pids = {unit: host.properties(unit, "MainPID") for unit in ("loopback-netd", "loopback-fetchd")}
    for variables in ({"LOOPBACK_TOKEN_FILE": "/root/token"}, {}):
        done = install(host, **variables)
        assert done.returncode == 0 and "is enrolled, and stays so" in done.stdout, done.stdout + done.stderr
    assert {unit: host.properties(unit, "MainPID") for unit in pids} == pids
    assert "loopback." not in host.run("ls", "/var/tmp")
    ctl(control, "host", "retire", "web-1")
    host.run("rm", "/root/token")


def test_through_a_pipe_without_a_token(fresh):
    """curl | sh: installed, not enrolled, and it says what comes next."""
    _, host = fresh
    done = subprocess.run(host.inside("sh", "-c", f"curl -fsS --cacert /root/ca.pem {CONTROL}/v1/agent/install.sh | LOOPBACK_CA=/root/ca.pem sh"),
                          capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and "next: loopback enroll" in done.stdout, done.stdout + done.stderr
    assert host.active("loopback-netd.service") and status(host)["state"] == "unpinned"


def test_the_token_on_stdin_is_no_argument(fresh):
    """Nothing that runs meanwhile has it among its arguments, or in its environment."""
    control, host = fresh
    made, seen = token(control), []
    done = threading.Event()

    def watch():
        while not done.is_set():
            for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
                for what in ("cmdline", "environ"):
                    try:
                        with open(f"/proc/{pid}/{what}", "rb") as file:
                            if made.split(".")[1].encode() in file.read():
                                seen.append(pid)
                    except OSError:
                        pass
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        result = install(host, LOOPBACK_TOKEN_FILE="-", LOOPBACK_NAME="web-2", text=made + "\n")
    finally:
        done.set()
        thread.join()
    assert result.returncode == 0 and status(host)["control_plane"]["enrolled"], result.stderr
    assert seen == []
    ctl(control, "host", "retire", "web-2")


def test_from_a_mirror(fresh):
    """Nothing is asked of the control plane: it may be out of reach."""
    control, host = fresh
    control.run("systemctl", "stop", "loopback-controld")
    try:
        with Web(control, host.mirror) as web:
            done = install(host, LOOPBACK_MIRROR=web.url, LOOPBACK_CA="")
    finally:
        control.run("systemctl", "start", "loopback-controld")
    assert done.returncode == 0 and host.active("loopback-netd.service"), done.stdout + done.stderr


def test_from_a_folder_without_a_network(fresh):
    """As the README of the mirror has it, word for word, but for the token: the cable is out."""
    _, host = fresh
    host.run("ip", "link", "set", host.interface, "down")
    text = host.run("cat", "/root/mirror/README")
    verify, command = re.findall(r"^    (sha512sum .*|.*--offline.*)$", text, re.M)
    host.run("sh", "-c", "cd /root/mirror && " + verify)
    done = subprocess.run(host.inside("sh", "-c", "cd /root/mirror && " + command.replace("LOOPBACK_TOKEN_FILE=/root/token ", "")), capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0 and host.active("loopback-netd.service"), done.stdout + done.stderr


def test_a_newer_version_stays(fresh, packages, tmp_path):
    """What is installed and newer is not downgraded; what is older is brought up."""
    _, host = fresh
    for version, stays in (("99.0", True), ("0.0.1", False)):
        folder = tmp_path / version
        subprocess.run(["dpkg-deb", "-R", packages.deb(AGENT), folder], check=True)
        control = (folder / "DEBIAN/control").read_text()
        (folder / "DEBIAN/control").write_text(re.sub(r"^Version: .*$", "Version: " + version, control, flags=re.M))
        subprocess.run(["dpkg-deb", "-b", folder, f"{folder}.deb"], check=True, capture_output=True)
        host.install(f"{folder}.deb")
        done = install(host)
        assert done.returncode == 0, done.stderr
        shown = host.run("dpkg-query", "-W", "-f", "${Version}", AGENT)
        assert shown == (version if stays else packages.version)
        host.run("dpkg", "--purge", AGENT)


# -- what may go wrong

def test_arguments(fresh):
    _, host = fresh
    for arguments, variables, says in (
            (("--offline",), {}, "expected a folder"), (("--offline", "/nonexistent"), {}, "expected a folder"), (("--help",), {}, "not understood"),
            (("--offline", "/root", "more"), {}, "expected a folder"), ((), {"LOOPBACK_MIRROR": "ftp://x"}, "LOOPBACK_MIRROR"),
            ((), {"LOOPBACK_MIRROR": "-o/etc/x"}, "LOOPBACK_MIRROR"), ((), {"LOOPBACK_TOKEN_FILE": "/nonexistent"}, "No such file"),
            ((), {"LOOPBACK_CA": "/nonexistent"}, "of which 0 came"), (("--offline", "/root"), {}, "is not there")):
        done = install(host, *arguments, **variables)
        assert done.returncode == 1 and says in done.stderr, (arguments, variables, done)
    untouched(host, done, "is not there")


def test_tokens_that_cannot_be_this_deployments(fresh):
    """Refused before anything is fetched; the secret is not repeated."""
    control, host = fresh
    made = token(control)
    half = made.rsplit(".", 1)[0]
    for text in (half + "." + "5a" * 32, made[:-5], half, "", "let me in", made + "\nx"):
        done = install(host, LOOPBACK_TOKEN_FILE="-", text=text)
        assert done.returncode == 1 and "no token of this deployment" in done.stderr and "Nothing was changed" in done.stderr, (text, done)
        assert half.split(".")[1] not in done.stdout + done.stderr
    untouched(host, done, "no token")


def test_a_token_that_does_not_stand(fresh):
    """The package stays, the host is not enrolled, and the script says so; with a good one it goes on from there."""
    control, host = fresh
    made = token(control)
    number, secret, root = made.split(".")
    done = install(host, LOOPBACK_TOKEN_FILE="-", text=".".join((number, secret[:-2] + ("AA" if secret[-2:] != "AA" else "BB"), root)))
    assert done.returncode == 1 and "is installed, but this host is not enrolled" in done.stderr, done.stderr
    assert status(host)["state"] == "unpinned"
    done = install(host, LOOPBACK_TOKEN_FILE="-", LOOPBACK_NAME="web-3", text=made)
    assert done.returncode == 0 and status(host)["control_plane"]["enrolled"], done.stderr
    ctl(control, "host", "retire", "web-3")


class Wrong(http.server.SimpleHTTPRequestHandler):
    """What a mirror may do instead of what it should: the wish is a file named "how" beside the packages."""

    def do_GET(self):
        """A package, wrong in some way."""
        with open(os.path.join(self.directory, "how"), encoding="ascii") as file:
            how = file.read()
        path = os.path.join(self.directory, os.path.basename(self.path))
        with open(path, "rb") as file:
            content = file.read()
        if how == "another file":
            content = b"!<arch>\n" + os.urandom(len(content) - 8)
        elif how == "one bit":
            content = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
        elif how == "truncated":
            content = content[:-1]
        elif how == "a page":
            content = b"<html>please log in</html>"
        elif how == "nothing":
            content = b""
        self.send_response(404 if how == "missing" else 200)
        if how == "cut off":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            if how == "endless":
                for _ in range(4000):  # 256 MiB
                    self.wfile.write(bytes(65536))
            elif how == "stalls":
                self.wfile.write(content[:1000])
                time.sleep(8)
            elif how == "cut off":
                self.wfile.write(content[:1000])
            else:
                self.wfile.write(content)
        except OSError:
            pass


@pytest.fixture(name="liar")
def lying_mirror(fresh, tmp_path):
    """(host, how): how("...") says what the mirror does, and returns its URL."""
    control, host = fresh
    subprocess.run(["cp", "-a", host.mirror + "/.", str(tmp_path)], check=True)
    with Web(control, str(tmp_path), Wrong) as web:
        def how(what):
            (tmp_path / "how").write_text(what)
            return web.url
        yield host, how


def test_a_mirror_that_serves_something_else(liar):
    host, how = liar
    for what, says in (("another file", "is not the file that was vouched for"), ("one bit", "is not the file that was vouched for"),
                       ("truncated", "of which"), ("a page", "of which 26 came"), ("nothing", "of which 0 came"), ("missing", "of which 0 came"),
                       ("cut off", "of which 1000 came"), ("endless", "is not the file that was vouched for")):
        done = install(host, LOOPBACK_MIRROR=how(what))
        assert done.returncode == 1 and says in done.stderr and "Nothing was installed" in done.stderr, (what, done)
    untouched(host, done, "vouched")


def test_wrong_files_in_a_folder(fresh):
    """Offline, the same holds; and a link out of the folder is only a file like others."""
    _, host = fresh
    for make, says in (("head -c 1000 mirror/*.deb >wrong/$(ls mirror | grep deb$)", "of which 1000 came"), (":", "is not there"),
                       ("head -c 3000000 /dev/urandom >wrong/$(ls mirror | grep deb$)", "is not"), ("mkdir wrong/$(ls mirror | grep deb$)", "is not there")):
        host.run("sh", "-c", "cd /root && rm -rf wrong && mkdir wrong && " + make)
        host.before = host.files()
        untouched(host, install(host, "--offline", "/root/wrong"), says)
    host.run("rm", "-rf", "/root/wrong")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_while_it_fetches(liar, number):
    """Ctrl-C, kill, a lost terminal: what was fetched is gone, the exit status says so."""
    host, how = liar
    process = subprocess.Popen(host.inside("setsid", "env", f"LOOPBACK_MIRROR={how('stalls')}", "sh", SCRIPT), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    host.wait("fetching", lambda: "loopback." in host.run("ls", "/var/tmp"))
    # To the group at once, as a terminal does: pkill goes from one to the next, and the shell may see curl end before it hears of anything itself.
    host.run("kill", f"-{int(number)}", "--", "-" + host.run("pgrep", "-o", "-f", SCRIPT).strip())
    words = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "Nothing was installed" in words, words
    assert host.files() == host.before and "loopback." not in host.run("ls", "/var/tmp")
    assert install(host, "--offline", "/root/mirror").returncode == 0


def test_a_full_disk_while_it_fetches(fresh):
    _, host = fresh
    host.run("sh", "-c", "mkdir /root/small && mount -t tmpfs -o size=64k none /root/small")
    host.before = host.files()
    try:
        untouched(host, install(host, TMPDIR="/root/small"), "No space left")
    finally:
        host.run("sh", "-c", "umount /root/small && rmdir /root/small")


def test_a_full_disk_while_dpkg_unpacks(fresh):
    """dpkg stops half way; the package is taken away again, whole, and the next run works."""
    _, host = fresh
    host.run("mount", "-t", "tmpfs", "-o", "size=64k", "none", "/usr/libexec")
    try:
        done = install(host)
    finally:
        host.run("umount", "/usr/libexec")
    assert done.returncode != 0 and "is not installed. Mend what is said above" in done.stderr, done.stdout + done.stderr
    assert gone(host)
    assert install(host).returncode == 0 and host.active("loopback-netd.service")


def test_a_package_whose_own_script_fails(fresh, packages, tmp_path):
    """dpkg leaves it half configured, and does not go back by itself: the script takes it away. Over a version that was there, it stays as dpkg left it."""
    control, host = fresh
    folder, name = tmp_path / "broken", "loopback-agent_0.9.9_amd64.deb"
    subprocess.run(["dpkg-deb", "-R", packages.deb(AGENT), folder], check=True)
    text = (folder / "DEBIAN/control").read_text()
    (folder / "DEBIAN/control").write_text(re.sub(r"^Version: .*$", "Version: 0.9.9", text, flags=re.M))
    (folder / "DEBIAN/postinst").write_text("#!/bin/sh\necho 'no daemon today' >&2\nexit 7\n")
    subprocess.run(["dpkg-deb", "-b", folder, tmp_path / name], check=True, capture_output=True)
    with open(tmp_path / name, "rb") as file:
        subprocess.run(control.inside("sh", "-c", 'cat >"$1"', "-", "/run/packages/" + name), stdin=file, check=True)
    keeper = ["/usr/libexec/loopback/controld", "package"], ["--state", "/var/lib/loopback/controld"]
    control.run(*keeper[0], "add", "/run/packages/" + name, *keeper[1])
    try:
        host.write("/root/broken.sh", host.run("curl", "-fsS", "--cacert", "/root/ca.pem", CONTROL + "/v1/agent/install.sh?version=0.9.9"))
        done = install(host, script="/root/broken.sh")
        assert done.returncode == 100 and "no daemon today" in done.stdout and "is not installed. Mend" in done.stderr, done.stdout + done.stderr
        assert gone(host) and host.status("test", "-e", "/usr/libexec/loopback/netd") == 1
        assert install(host).returncode == 0
        done = install(host, script="/root/broken.sh")
        assert done.returncode == 100 and f"was {packages.version} and may be half way to 0.9.9" in done.stderr, done.stderr
    finally:
        control.run(*keeper[0], "remove", name, *keeper[1])
        host.run("sh", "-c", "rm /root/broken.sh; dpkg --purge --force-remove-reinstreq loopback-agent")


def test_a_dependency_that_is_not_to_be_had(fresh):
    """apt finds out before it unpacks anything: nothing of ours is left."""
    _, host = fresh
    host.run("sh", "-c", "dpkg-query -W -f '${db:Status-Abbrev}' libmnl0 && cp -a /var/lib/dpkg/status /root/dpkg-status && "
             "sed -i '/^Package: libmnl0$/,/^$/s/^Version: .*/Version: 0.1/' /var/lib/dpkg/status")
    try:
        done = install(host)
    finally:
        host.run("mv", "/root/dpkg-status", "/var/lib/dpkg/status")
    assert done.returncode != 0 and "libmnl0" in done.stdout + done.stderr and "is not installed" in done.stderr, done.stdout + done.stderr
    assert gone(host)


def test_not_root_and_without_curl(fresh):
    _, host = fresh
    done = subprocess.run(host.inside("setpriv", "--reuid", "65534", "--clear-groups", "sh", "-c", "sh -s", "-"), input=host.run("cat", SCRIPT),
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "run this as root" in done.stderr
    host.run("mv", "/usr/bin/curl", "/usr/bin/curl.away")
    try:
        done = install(host)
        assert done.returncode == 1 and "expected curl or wget" in done.stderr
    finally:
        host.run("mv", "/usr/bin/curl.away", "/usr/bin/curl")
