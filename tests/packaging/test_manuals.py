# SPDX-License-Identifier: Apache-2.0
"""Manual pages: of every program and every file that people touch, well-formed, and complete by what the programs' --help says."""

import glob
import os
import re
import subprocess

import machine as machines
import pytest

BIN = os.path.join(machines.ROOT, "build/bin")
PAGES = sorted(glob.glob(os.path.join(machines.ROOT, "docs/man/*.[1-8]")))
SECTION = {"loopbackctl": 1}  # all others are in 8
FORMATS = ["netd.env", "fetchd.env", "controld.env", "loopbackctl.json", "loopback-token", "loopback-root-key", "loopback-keyset"]
# of rigs and of every command; the page tells them once, in words
UNSAID = {"--help", "--version"}


@pytest.fixture(scope="module", autouse=True)
def programs_fixture():
    """Built; they tell what there is."""
    subprocess.run(["make", "--no-print-directory", "all"], cwd=machines.ROOT, check=True, capture_output=True)


def programs():
    """Their names, from the Makefile."""
    with open(os.path.join(machines.ROOT, "Makefile"), encoding="utf-8") as file:
        return re.search(r"^PROGRAMS := (.*)$", file.read(), re.M).group(1).split()


def page(program):
    """The source of a program's page."""
    with open(os.path.join(machines.ROOT, f"docs/man/{program}.{SECTION.get(program, 8)}"), encoding="utf-8") as file:
        return file.read()


def said(program, *words):
    """--help."""
    return subprocess.run([os.path.join(BIN, program), *words, "--help"], check=True, capture_output=True, text=True).stdout


def commands(program):
    """Those of a program that lists them with what they do."""
    listed = said(program).split("Commands:\n")[1].split("\n\n")[0]
    return [re.match(r"  ([a-z][a-z -]*[a-z])(?= [A-Z\[]| {2,})", line).group(1) for line in listed.splitlines()]


def options(text):
    """Every --option that a help text names."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - UNSAID


def missing(program, wanted):
    """Options that the page does not have."""
    there = {"-" + match for match in re.findall(r"Fl\s+(-[a-z-]+)", page(program))}
    return wanted - there


@pytest.mark.parametrize("path", PAGES, ids=os.path.basename)
def test_page_is_well_formed(path):
    """groff and mandoc have nothing to say."""
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", path], capture_output=True, text=True, check=True,
                          env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80"})
    assert done.stderr == ""
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("program", [name for name in programs() if not name.startswith("loopback")])
def test_page_of_a_daemon_names_all_its_options(program):
    """What --help names."""
    assert missing(program, options(said(program))) == set()


@pytest.mark.parametrize("program", ["loopback", "loopbackctl"])
def test_page_of_a_command_names_all_its_commands_and_their_options(program):
    """What --help of each command names."""
    plain = re.sub(r"\s+", " ", re.sub(r"\b(Cm|Oo|Oc|Nm)\b", "", page(program)))
    found = commands(program)
    assert len(found) > 3
    for command in found:
        assert f". {command}" in plain.replace(".It ", ". ").replace(".  ", ". "), f"{program} {command}: not in its page"
        assert missing(program, options(said(program, *command.split()))) == set(), f"{program} {command}"


def test_every_file_format_has_its_page():
    """Files that users or administrators touch; every file of settings is among them."""
    there = {os.path.basename(path) for path in PAGES}
    assert {f"{name}.5" for name in FORMATS} == {name for name in there if name.endswith(".5")}
    for path in glob.glob(os.path.join(machines.ROOT, "packaging/etc/*")):
        assert os.path.basename(path) in FORMATS


def test_pages_refer_to_pages_that_exist():
    """Ours among themselves; others are named by a list here, so that a slip shows."""
    others = {"curl(1)", "ptrace(2)", "wireguard-go(1)", "systemd.exec(5)", "sha512sum(1)"}
    ours = {re.sub(r"\.([1-8])$", r"(\1)", os.path.basename(path)) for path in PAGES}
    for path in PAGES:
        with open(path, encoding="utf-8") as file:
            for name, section in re.findall(r"\bXr (\S+) ([1-8])", file.read()):
                assert f"{name}({section})" in ours | others, f"{path}: {name}({section})"
