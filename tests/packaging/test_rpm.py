# SPDX-License-Identifier: Apache-2.0
"""The RPM packages: rpmbuild takes the spec, and they hold what the Debian ones hold."""

import glob
import os
import re
import subprocess

import machine as machines
import pytest
from conftest import NAMES, OUT

# Where the two families of distributions put the same file.
MOVED = [
    (r"^/lib/systemd/system/", "/usr/lib/systemd/system/"),
    (r"^/usr/share/zsh/vendor-completions/", "/usr/share/zsh/site-functions/"),
    (r"^(/usr/share/man/.*)\.gz$", r"\1"),
]
# What one family asks for and the other does not: licence, changelog, notes.
OWN = re.compile(r"^/usr/share/(doc|licenses|lintian)/|^/usr/lib/\.build-id")


@pytest.fixture(scope="module", name="rpms")
def rpms_fixture(packages):
    """{package: file}"""
    folder = machines.tidy(os.path.join(OUT, "rpm"))
    subprocess.run([os.path.join(machines.ROOT, "packaging/mkrpm"), packages.version, folder], check=True)
    found = {}
    for name in NAMES:
        (found[name],) = glob.glob(f"{folder}/{name}-{packages.version}-*.x86_64.rpm")
    return found


def query(path, *arguments):
    """rpm of a package file, in lines."""
    return subprocess.run(["rpm", "-qp", *arguments, path], check=True, capture_output=True, text=True).stdout.splitlines()


def same(path):
    """One name for a file of both."""
    for pattern, instead in MOVED:
        path = re.sub(pattern, instead, path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_the_same_files_as_the_debian_package(name, packages, rpms):
    """Every file but folders, with its mode."""
    debian = {same(path): words[0] for path, words in packages.contents(name).items() if not path.endswith("/") and not OWN.match(path)}
    lines = [line.split("\t") for line in query(rpms[name], "--queryformat", "[%{FILENAMES}\\t%{FILEMODES:perms}\\t%{FILEUSERNAME}\\n]")]
    red_hat = {same(path): mode for path, mode, _ in lines if not mode.startswith("d") and not OWN.match(path)}
    assert red_hat == debian
    assert {owner for _, _, owner in lines} == {"root"}


@pytest.mark.parametrize("name", NAMES)
def test_edited_configuration_is_kept(name, packages, rpms):
    """What dpkg treats as a conffile, rpm does not write over."""
    fields = subprocess.run(["dpkg-deb", "-I", packages.deb(name), "conffiles"], capture_output=True, text=True, check=False).stdout
    assert set(query(rpms[name], "--configfiles")) == set(fields.split())
    flags = query(rpms[name], "--queryformat", "[%{FILEFLAGS:fflags} %{FILENAMES}\\n]")
    assert all(line.split()[0] == "cn" for line in flags if line.split()[-1] in fields.split()), flags


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_shell_and_hold_no_macro(name, rpms, tmp_path):
    """A macro that is not known stays as it stands, and would be run."""
    text = "\n".join(query(rpms[name], "--scripts"))
    parts = re.split(r"^\w+ scriptlet \(using (/bin/sh)\):$", text, flags=re.M)[2::2]
    assert len(parts) == (0 if name == "loopback-cli" else 2)
    for number, part in enumerate(parts):
        assert not re.search(r"%\w|%\{", part), part
        script = tmp_path / f"{number}"
        script.write_text("#!/bin/sh\n" + part)
        done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
