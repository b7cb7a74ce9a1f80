# SPDX-License-Identifier: Apache-2.0
"""Packages of this tree, in two versions, and machines to install them on. Run as root: /usr/bin/python3 -m pytest tests/packaging"""

import glob
import os
import subprocess
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "netns"))

import machine as machines  # noqa: E402  (needs the path above)

OUT = os.path.join(machines.ROOT, "build/check-packages")
# of names that the kernel has once, so that two runs at a time do not meet
PREFIX = os.environ.get("PACKAGING_PREFIX", f"lbpkg{os.getpid()}")


def pytest_configure(config):
    """Say at once what would otherwise fail in every test."""
    if os.geteuid() != 0:
        raise pytest.UsageError("the tests in tests/packaging boot containers: run them as root")


class Packages:
    """The packages of one version."""

    def __init__(self, version, folder, built=False):
        self.version, self.folder = version, folder
        if not built:
            subprocess.run([os.path.join(machines.ROOT, "packaging/mkdeb"), version, machines.tidy(folder)], check=True)

    def deb(self, name):
        """The file of a package."""
        (path,) = glob.glob(f"{self.folder}/{name}_{self.version}_*.deb")
        return path

    def contents(self, name):
        """{path: (mode, owner)} of what is in a package, folders among it."""
        out = subprocess.run(["dpkg-deb", "--contents", self.deb(name)], check=True, capture_output=True, text=True).stdout
        lines = [line.split(None, 5) for line in out.splitlines()]
        return {words[5].split(" -> ")[0][1:]: (words[0], words[1]) for words in lines}


NAMES = ("loopback-agent", "loopback-controld", "loopback-cli")


@pytest.fixture(scope="session", name="packages")
def packages_fixture():
    """This tree's version."""
    text = open(os.path.join(machines.ROOT, "Makefile"), encoding="utf-8").read()
    version = next(line.split()[-1] for line in text.splitlines() if line.startswith("VERSION :="))
    if os.environ.get("PACKAGES_BUILT"):  # tests/check made them a moment ago
        return Packages(version, os.path.join(machines.ROOT, "build/packages"), built=True)
    return Packages(version, os.path.join(OUT, "this"))


@pytest.fixture(scope="session", name="newer")
def newer_fixture():
    """The same tree as a higher version."""
    return Packages("9.9.9", os.path.join(OUT, "newer"))


@pytest.fixture(name="machine")
def machine_fixture():
    """One machine with nothing of ours."""
    machines.rootfs()
    machine = machines.Machine(PREFIX + "-a", "198.18.70.1/24")
    try:
        yield machine
    finally:
        machine.end()


@pytest.fixture(scope="module", name="pair")
def pair_fixture():
    """Two machines, joined."""
    machines.rootfs()
    made = []
    try:
        made.append(machines.Machine(PREFIX + "-b", "198.18.70.2/24"))
        made.append(machines.Machine(PREFIX + "-c", "198.18.70.3/24"))
        machines.cable(*made)
        yield made
    finally:
        for machine in made:
            machine.end()
