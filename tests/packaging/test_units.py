# SPDX-License-Identifier: Apache-2.0
"""Units and profiles against the tables of privileges, which are read here a second time, by other means than the generator's."""

import glob
import os
import re
import shlex
import shutil
import subprocess

import pytest
import unitfile
from machine import ROOT

UNITS = os.path.join(ROOT, "build/packaging/systemd")
PROFILES = os.path.join(ROOT, "build/packaging/apparmor")
TOOL = os.path.join(ROOT, "build/tools/privileges")
SERVICES = {"netd": "loopback-netd", "fetchd": "loopback-fetchd", "wg-launch": "loopback-wg", "controld": "loopback-controld",
            "signd": "loopback-signd"}
BECOMES = {"wg-launch": "/usr/bin/wireguard-go"}
EXPOSURE = {"netd": 1.4, "fetchd": 1.3, "wg-launch": 1.3, "controld": 1.3, "signd": 0.6}
FEATURES = "/etc/apparmor.d/abi/3.0"


@pytest.fixture(scope="module", autouse=True)
def built_fixture():
    """What is shipped, as of now."""
    subprocess.run(["make", "--no-print-directory", "-C", ROOT, "units"], check=True, stdout=subprocess.DEVNULL)


class Table:
    """A privileges.def: the rows of each kind, as lists of their arguments."""

    def __init__(self, path):
        self.rows = {}
        self.read(path)

    def read(self, path):
        """Rows in file order; includes are followed."""
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        for include, kind, arguments in re.findall(r'^#include "([^"]+)"|^([A-Z_]+)\((.*)\)$', text, flags=re.M):
            if include:
                self.read(include)
            else:
                lexer = shlex.shlex(arguments, posix=True, punctuation_chars=",")
                lexer.whitespace_split = True
                self.rows.setdefault(kind, []).append([word for word in lexer if word != ","])

    def column(self, kind, index=0):
        """One argument of every row of a kind."""
        return [row[index] for row in self.rows.get(kind, [])]

    def families(self):
        """What it makes or holds; each process has its notification socket."""
        return {"AF_UNIX"} | set(self.column("SOCKET")) | {name for name in self.column("HOLD") if name.startswith("AF_")}

    def calls(self):
        """System calls by name."""
        found = {name for kind in ("SYS", "SYS_EQ", "SYS_MASK", "START") for name in self.column(kind)}
        return found | ({"socket"} if "SOCKET" in self.rows else set())

    def paths(self, mode):
        """PATH rows of a mode."""
        return {row[2] for row in self.rows.get("PATH", []) if row[0] == mode}

    def views(self, *modes):
        """VIEW rows of these modes."""
        return {row[1] for row in self.rows.get("VIEW", []) if row[0] in modes}


def table(process):
    """The table of a process."""
    return Table(f"{process}/privileges.def")


def plain(words):
    """Paths without their marks, as the process sees them: SOURCE:DESTINATION is shown at DESTINATION."""
    return {word.lstrip("-+").rpartition(":")[2] for word in words}


def differences(process, unit):
    """What a unit says that the table does not, or the other way round. Empty if they agree."""
    rows, found = table(process), []

    def compare(what, expected, actual):
        if set(expected) != set(actual):
            found.append(f"{what}: only the table has {sorted(set(expected) - set(actual))}, "
                         f"only the unit {sorted(set(actual) - set(expected))}")

    user = rows.rows["PROCESS"][0][1]
    program = {f"/usr/libexec/loopback/{process}"} | ({BECOMES[process]} if process in BECOMES else set())
    for key in ("User", "Group"):
        compare(key, [user], unit.all("Service", key))
    for key in ("CapabilityBoundingSet", "AmbientCapabilities"):
        compare(key, rows.column("CAP"), unit.words("Service", key))
    if not unit.assigned("Service", "CapabilityBoundingSet"):
        found.append("CapabilityBoundingSet: not set, so everything is in it")
    compare("RestrictAddressFamilies", rows.families(), unit.words("Service", "RestrictAddressFamilies"))
    compare("SystemCallFilter", rows.calls(), unit.words("Service", "SystemCallFilter"))
    compare("BindPaths", rows.paths("RW"), plain(unit.words("Service", "BindPaths")))
    compare("NoExecPaths", rows.paths("RW") | {"/", "/tmp", "/var/tmp"}, plain(unit.words("Service", "NoExecPaths")))
    compare("ExecPaths", rows.views("CODE") | program, plain(unit.words("Service", "ExecPaths")))
    compare("DeviceAllow", {path for path in rows.paths("RW") if path.startswith("/dev/")},
            {line.split()[0] for line in unit.all("Service", "DeviceAllow")})
    shown = rows.paths("RO") | rows.views("CONNECT", "CODE", "START", "NAME")
    needed = {path for path in shown if not any(path != other and path.startswith(other + "/") for other in shown)}
    compare("BindReadOnlyPaths", needed | program, plain(unit.words("Service", "BindReadOnlyPaths")))
    internet = rows.families() & {"AF_INET", "AF_INET6"}
    compare("IPAddressDeny", [] if internet else ["any"], unit.words("Service", "IPAddressDeny"))
    compare("PrivateNetwork", [not (rows.families() - {"AF_UNIX"})], [unit.flag("Service", "PrivateNetwork")])
    compare("PrivateUsers", ["CAP" not in rows.rows and "PEER" not in rows.rows], [unit.flag("Service", "PrivateUsers")])
    return found


def load(process, folder=UNITS):
    """Its unit, as the rig reads it."""
    return unitfile.parse(os.path.join(folder, SERVICES[process] + ".service"))


@pytest.mark.parametrize("process", SERVICES)
def test_a_unit_says_what_its_table_says(process):
    assert differences(process, load(process)) == []


@pytest.mark.parametrize("process", SERVICES)
def test_what_is_built_is_what_the_tables_write(process):
    template = os.path.join(ROOT, "packaging/systemd", SERVICES[process] + ".service.in")
    with open(os.path.join(UNITS, SERVICES[process] + ".service"), encoding="utf-8") as file:
        assert file.read() == subprocess.run([TOOL, "unit", template], check=True, capture_output=True, text=True).stdout
    with open(os.path.join(PROFILES, "loopback-" + process), encoding="utf-8") as file:
        assert file.read() == subprocess.run([TOOL, "apparmor", process], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("process", SERVICES)
def test_a_template_says_nothing_of_privileges(process):
    """A line in a template would add to what was generated, or undo it."""
    generated = subprocess.run([TOOL, "systemd", process], check=True, capture_output=True, text=True).stdout
    owned = set(re.findall(r"^(\w+)=", generated, flags=re.M))
    owned |= {"SupplementaryGroups", "DynamicUser", "ReadWritePaths", "SecureBits"}
    with open(os.path.join(ROOT, "packaging/systemd", SERVICES[process] + ".service.in"), encoding="utf-8") as file:
        template = file.read()
    assert template.count(f"\n@PRIVILEGES {process}@\n") == 1
    assert set(re.findall(r"^(\w+)=", template, flags=re.M)) & owned == set()


EDITS = {
    "a capability more": ("CapabilityBoundingSet=", "CapabilityBoundingSet=CAP_SYS_ADMIN ", "CapabilityBoundingSet"),
    "an ambient capability": ("NoNewPrivileges=yes", "AmbientCapabilities=CAP_NET_RAW", "AmbientCapabilities"),
    "a system call more": ("SystemCallFilter=", "SystemCallFilter=ptrace ", "SystemCallFilter"),
    "a system call less": (" close", " ", "SystemCallFilter"),
    "a family more": ("RestrictAddressFamilies=", "RestrictAddressFamilies=AF_PACKET ", "RestrictAddressFamilies"),
    "a folder more": ("\nBindReadOnlyPaths=", "\nBindReadOnlyPaths=/home ", "BindReadOnlyPaths"),
    "a folder to write to": ("NoNewPrivileges=yes", "BindPaths=/srv", "BindPaths"),
    "code from elsewhere": ("\nExecPaths=", "\nExecPaths=+/tmp ", "ExecPaths"),
    "another user": ("User=", "User=root\nUser=", "User"),
}


@pytest.mark.parametrize("process", SERVICES)
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_by_hand_is_named(process, edit, tmp_path):
    before, after, directive = EDITS[edit]
    with open(os.path.join(UNITS, SERVICES[process] + ".service"), encoding="utf-8") as file:
        text = file.read()
    assert before in text
    (tmp_path / (SERVICES[process] + ".service")).write_text(text.replace(before, after, 1))
    assert any(line.startswith(directive + ":") for line in differences(process, load(process, tmp_path)))


def sockets():
    """Every socket unit."""
    return [unitfile.parse(path) for path in sorted(glob.glob(os.path.join(UNITS, "*.socket")))]


@pytest.mark.parametrize("process", SERVICES)
def test_sockets_belong_to_whom_the_table_lets_in(process):
    mine = [unit for unit in sockets() if unit.one("Socket", "Service") == SERVICES[process] + ".service"]
    assert {unit.one("Socket", "SocketUser", "root") for unit in mine} - {"root"} == set(table(process).column("PEER"))
    for unit in mine:
        open_to_all = unit.octal("Socket", "SocketMode", "0666") & 0o077
        assert not open_to_all or "FileDescriptorName=view" in open(unit.path, encoding="utf-8").read(), unit.path


@pytest.mark.parametrize("process", SERVICES)
def test_a_process_is_shown_only_sockets_that_are_for_it(process):
    rows = table(process)
    user = rows.rows["PROCESS"][0][1]
    owners = {unit.one("Socket", "ListenSequentialPacket"): unit.one("Socket", "SocketUser") for unit in sockets()}
    for path in rows.views("CONNECT"):
        if path.startswith("/run/loopback/"):
            assert owners[path] == user
    for path in rows.paths("RO") | rows.paths("RW") | rows.views("CONNECT", "CODE", "START", "NAME"):
        for socket in owners:
            assert path == socket or not socket.startswith(path.rstrip("/") + "/"), f"{path} shows {socket}"


@pytest.mark.parametrize("process", SERVICES)
def test_folders_that_a_unit_makes_are_in_its_table(process):
    unit, rows = load(process), table(process)
    made = {os.path.join(parent, word) for key, parent in (("StateDirectory", "/var/lib"), ("CacheDirectory", "/var/cache"),
                                                           ("RuntimeDirectory", "/run")) for word in unit.words("Service", key)}
    assert made == {path for path in rows.paths("RW") if not path.startswith("/dev/")}


@pytest.mark.parametrize("process", SERVICES)
def test_its_root_folder_is_made_at_boot(process):
    package = "controld" if process in ("controld", "signd") else "agent"
    with open(os.path.join(ROOT, f"packaging/tmpfiles.d/loopback-{package}.conf"), encoding="utf-8") as file:
        assert f"d {load(process).one('Service', 'RootDirectory')} 0755 root root\n" in file.read()


@pytest.mark.parametrize("process", SERVICES)
def test_exposure(process):
    path = os.path.join(UNITS, SERVICES[process] + ".service")
    out = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", path], capture_output=True, text=True,
                         check=False)
    assert "Unknown" not in out.stderr and "ignoring" not in out.stderr
    assert float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", out.stdout)[1]) <= EXPOSURE[process], out.stdout


def test_systemd_finds_nothing_to_complain_about(tmp_path):
    """The units name programs where packages put them; this machine has them in build/bin."""
    for path in glob.glob(os.path.join(UNITS, "*")):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        text = re.sub(r"^ExecStart=/usr/libexec/loopback/\S+", "ExecStart=/bin/true", text, flags=re.M)
        (tmp_path / os.path.basename(path)).write_text(text)
    out = subprocess.run(["systemd-analyze", "verify", "--man=no", *sorted(glob.glob(f"{tmp_path}/*"))], capture_output=True,
                         text=True, check=False)
    assert (out.returncode, out.stdout + out.stderr) == (0, "")


@pytest.mark.parametrize("process", SERVICES)
def test_an_apparmor_profile_is_taken_by_the_parser(process, tmp_path):
    profile = os.path.join(PROFILES, "loopback-" + process)
    assert shutil.which("apparmor_parser"), "apparmor_parser is missing: make deps"
    with open(tmp_path / "binary", "wb") as out:
        subprocess.run(["apparmor_parser", "-S", "-Q", "-K", "--kernel-features", FEATURES, "--policy-features", FEATURES, profile],
                       check=True, stdout=out)
    assert (tmp_path / "binary").stat().st_size > 2000


@pytest.mark.parametrize("process", SERVICES)
def test_an_apparmor_profile_says_what_its_table_says(process):
    rows = table(process)
    with open(os.path.join(PROFILES, "loopback-" + process), encoding="utf-8") as file:
        rules = [line.strip() for line in file if line.startswith("  ") and not line.lstrip().startswith("#")]
    capabilities = {rule[:-1].split()[1] for rule in rules if rule.startswith("capability")}
    assert capabilities == {name[4:].lower() for name in rows.column("CAP")}
    assert {"AF_" + rule[:-1].split()[1].upper() for rule in rules if rule.startswith("network")} == rows.families()
    files = {rule[:-1].rsplit(" ", 1)[0]: rule[:-1].rsplit(" ", 1)[1] for rule in rules if rule.startswith(("/", "{"))}
    assert {path for path, access in files.items() if access == "rw" and not path.endswith("}")} == {
        name for name in rows.column("HOLD") if name.startswith("/")}
    writable = {path.removesuffix("{,/,/**}") for path, access in files.items() if access == "rwk"}
    assert writable == rows.paths("RW")
    assert {path for path, access in files.items() if "x" in access} == ({BECOMES[process]} if process in BECOMES else set())
    assert not any(rule.startswith(("ptrace", "mount", "dbus", "pivot_root", "change_profile")) for rule in rules)


def test_the_auditors_pages_are_what_the_tables_write(tmp_path):
    subprocess.run(["make", "--no-print-directory", "-s", "-C", ROOT, "audit-pages", f"AUDIT={tmp_path}"], check=True,
                   stdout=subprocess.DEVNULL)
    for path in sorted(tmp_path.iterdir()):
        with open(os.path.join(ROOT, "docs/audit", path.name), encoding="utf-8") as committed:
            assert committed.read() == path.read_text(), f"docs/audit/{path.name} is not current: make audit-pages"


@pytest.mark.parametrize("process", SERVICES)
def test_an_auditors_page_names_every_row(process):
    rows = table(process)
    with open(os.path.join(ROOT, "docs/audit", process + ".md"), encoding="utf-8") as file:
        page = file.read()
    for word in rows.column("CAP") + rows.column("HOLD") + rows.column("PEER") + rows.column("SOCKET"):
        assert f"| {word}" in page or f"| user {word} |" in page
    paths = rows.paths("RO") | rows.paths("RW") | rows.views("CONNECT", "CODE", "START", "NAME")
    for word in paths | rows.calls() - {"socket"}:
        assert f"| `{word}` |" in page
    assert [line for line in page.splitlines() if line.startswith("|") and line.rstrip()[-1] != "|"] == []
