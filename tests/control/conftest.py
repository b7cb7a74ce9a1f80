# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a control plane of real controld and signd, and hosts for it."""

import os
import pwd
import shutil
import sys
import tempfile

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import agent as agents  # noqa: E402
import plane as planes  # noqa: E402
from cli_console import program  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def programs():
    """Copies that any user may execute, as installed programs are: the sources may be in a home that is root's alone."""
    with tempfile.TemporaryDirectory(prefix="loopback-bin.") as folder, pytest.MonkeyPatch.context() as patch:
        shutil.copytree(program(""), folder, dirs_exist_ok=True)
        os.chmod(folder, 0o755)
        patch.setenv("LOOPBACK_BIN", folder)
        yield


@pytest.fixture
def folder():
    """A folder that the daemons' user can reach and write; pytest's own are root's alone."""
    path = tempfile.mkdtemp(prefix="loopback-control.")
    user = pwd.getpwnam(planes.USER)
    os.chown(path, user.pw_uid, user.pw_gid)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def plane(folder):
    """Running, with an organization, a workspace and a network of 10.7.0.0/24."""
    made = planes.Plane(folder)
    made.start()
    made.network = bytes.fromhex(made.furnish()["id"])
    yield made
    made.stop()


@pytest.fixture
def bare_plane(folder):
    """Running, empty."""
    made = planes.Plane(folder)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def enrolled(plane):
    """Makes enrolled hosts: enrolled(1)."""
    token = plane.token()
    return lambda seed, **more: agents.Agent(plane, seed, **more).enrolled(token)
