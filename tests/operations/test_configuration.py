# SPDX-License-Identifier: Apache-2.0
"""The configuration reference and the manual pages, against the programs, the units and the sources."""

import glob
import os
import re

import pytest

import programs

ROOT = programs.ROOT
PAGE = os.path.join(ROOT, "docs/operations/configuration.md")
EVERYWHERE = {"help", "version", "json", "context"}


def read(*path):
    """A text file of the tree."""
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def table(program):
    """The rows below a program's head, each as its cells."""
    text = read("docs/operations/configuration.md")
    assert f"\n| {program} |" in text, f"no table of {program}"
    rows = text.split(f"\n| {program} |", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def named(text):
    """Names of options in a text."""
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]*[a-z])", text))


@pytest.mark.parametrize("program", programs.DAEMONS)
def test_the_page_has_every_option_of_a_daemon_and_no_other(program):
    found = set().union(*(named(row[0]) for row in table(program)))
    assert found == set(programs.options(program)) - EVERYWHERE


@pytest.mark.parametrize("program", programs.TOOLS)
def test_the_page_has_every_command_and_its_options_and_no_other(program):
    rows = {tuple(word for word in row[0].strip("`").split() if word.islower()): named(row[1]) for row in table(program)}
    assert rows == {command: set(programs.options(program, command)) for command in programs.commands(program)}
    text = read("docs/operations/configuration.md")
    assert all(f"--{name}" in text for name in programs.options(program))


@pytest.mark.parametrize("program", programs.DAEMONS + programs.TOOLS)
def test_the_manual_page_has_every_option_and_no_other(program):
    text = read("docs/man", programs.MANUAL[program])
    # mdoc(7): Fl -name is --name
    written = set(re.findall(r"Fl -([a-z][a-z-]*[a-z])", text))
    said = set(programs.options(program))
    for command in programs.commands(program):
        said |= set(programs.options(program, command))
    assert written - EVERYWHERE == said - EVERYWHERE


@pytest.mark.parametrize("program", programs.TOOLS)
def test_the_manual_page_has_every_command(program):
    text = read("docs/man", programs.MANUAL[program])
    for command in programs.commands(program):
        assert re.search(r"\b" + r"[ |a-z.A-Z-]*\b".join(re.escape(word) for word in command), text), " ".join(command)


def test_the_page_has_every_variable_that_a_program_asks_for():
    folders = ("libipc", "libjournal", "netd", "fetchd", "wg-launch", "controld", "signd", "cli/common", "cli/loopback", "cli/loopbackctl")
    sources = [path for folder in folders
               for path in glob.glob(os.path.join(ROOT, folder, "*.c"))]
    asked = set()
    for path in sources:
        text = read(path)
        asked |= set(re.findall(r'getenv\("(\w+)"\)', text))
        asked |= {name for name in re.findall(r'"(\w+)"', text)
                  if re.fullmatch(r"[a-zA-Z]+_(proxy|PROXY)|LISTEN_[A-Z]+|WATCHDOG_[A-Z]+", name)}
    assert {"LOOPBACK_LOG_LEVEL", "https_proxy", "LISTEN_FDS"} <= asked
    page = read("docs/operations/configuration.md")
    assert {name for name in asked if f"`{name}`" not in page} == set()


def test_the_page_has_every_unit_socket_and_environment_file():
    page = read("docs/operations/configuration.md")
    units = [os.path.basename(path).removesuffix(".in") for path in glob.glob(os.path.join(ROOT, "packaging/systemd/*"))]
    assert len(units) >= 11
    assert [name for name in units if f"`{name}`" not in page] == []
    for path in glob.glob(os.path.join(ROOT, "packaging/systemd/*")):
        text = read(path)
        for found in re.findall(r"^(?:ListenSequentialPacket=|EnvironmentFile=-)(.*)$", text, re.M):
            assert f"`{found}`" in page, found
        for variable in re.findall(r"\$([A-Z]+_OPTIONS)", text):
            assert f"`{variable}`" in page, variable


def test_links_between_the_pages_lead_somewhere():
    for path in glob.glob(os.path.join(ROOT, "docs/operations/*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", read(path)):
            assert "://" in target or os.path.exists(os.path.join(os.path.dirname(path), target)), f"{path}: {target}"


def test_the_runbook_has_every_state_and_every_refusal():
    page = read("docs/operations/runbook.md")
    states = set(re.findall(r'^\t\t\{ "([a-z-]+)", "', read("cli/loopback/report_text.c"), re.M))
    assert len(states) == 5 and {name for name in states if f"| `{name}` |" not in page} == set()
    codes = set()
    for path in glob.glob(os.path.join(ROOT, "netd/*.c")):
        codes |= set(re.findall(r'refus\w*\([^;"]*"([a-z]+(?:-[a-z]+)*)",\s*"', read(path)))
    assert {"overlap", "forged", "route-overlap", "disk"} <= codes and len(codes) >= 25
    assert {code for code in codes if f"`{code}`" not in page} == set()


def test_the_runbook_quotes_what_the_programs_say():
    """A line of the journal that is looked for is one that a program writes."""
    sources = "".join(read(path) for folder in ("libipc", "libjournal", "netd", "fetchd", "controld", "signd", "wg-launch")
                      for path in glob.glob(os.path.join(ROOT, folder, "*.c")))
    rows = read("docs/operations/runbook.md").split("## In the journal")[1]
    quoted = [line for row in rows.splitlines() if re.match(r"\| (netd|fetchd|controld|signd|any): ", row)
              for line in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(quoted) >= 10
    for line in quoted:
        assert all(part in sources for part in re.split(r"lb0|link(?= is)", line)), line
