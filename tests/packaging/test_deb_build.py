# SPDX-License-Identifier: Apache-2.0
"""What is in the packages, and that it is the same whoever builds it, where and when."""

import filecmp
import glob
import os
import re
import subprocess
import tempfile

import machine as machines
from conftest import NAMES


# Settings that may hold a password.
SECRET = {"/etc/loopback/fetchd.env": "-rw-------"}


def lintian(packages):
    """Its findings of these severities or worse fail the build."""
    return subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", "--pedantic",
                           f"{packages.folder}/loopback_{packages.version}_amd64.changes"], capture_output=True, text=True, check=False)


def test_lintian_is_content(packages):
    """No error, no warning; pedantic findings are shown if that fails."""
    done = lintian(packages)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_override_is_explained():
    """A comment stands before each."""
    for path in glob.glob(os.path.join(machines.ROOT, "packaging/debian/*lintian-overrides")):
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        for before, line in zip([""] + lines, lines):
            assert line.startswith("#") or not line or before.startswith("#"), f"{path}: {line}"


def test_files_are_roots_and_nobody_elses_to_write(packages):
    """Owner, mode; nothing is setuid, nothing is a device."""
    for name in NAMES:
        for path, (mode, owner) in packages.contents(name).items():
            assert owner == "root/root", path
            wanted = {"d": "drwxr-xr-x", "l": "lrwxrwxrwx"}.get(mode[0], "-rwxr-xr-x" if "/bin/" in path or "/libexec/" in path else "-rw-r--r--")
            assert mode == SECRET.get(path, wanted), f"{path}: {mode}"


def test_no_file_is_in_two_packages(packages):
    """Folders may be."""
    seen = {}
    for name in NAMES:
        for path in packages.contents(name):
            if not path.endswith("/"):
                assert path not in seen, f"{path}: in {seen.get(path)} and {name}"
                seen[path] = name


def test_programs_are_hardened(packages, tmp_path):
    """Position independent, relocations read-only, calls bound at start, no executable stack, fortified."""
    for name in NAMES:
        subprocess.run(["dpkg-deb", "-x", packages.deb(name), tmp_path], check=True)
    programs = glob.glob(f"{tmp_path}/usr/libexec/loopback/*") + glob.glob(f"{tmp_path}/usr/bin/*")
    assert len(programs) == 7
    for program in programs:
        headers = subprocess.run(["readelf", "-Wldh", program], check=True, capture_output=True, text=True).stdout
        assert "DYN (Position-Independent Executable" in headers and "GNU_RELRO" in headers and "BIND_NOW" in headers, program
        assert re.search(r"GNU_STACK.* RW ", headers), program
        symbols = subprocess.run(["readelf", "-W", "--dyn-syms", program], check=True, capture_output=True, text=True).stdout
        assert "_chk@" in symbols, f"{program}: not fortified"


def test_the_same_bytes_for_a_user_elsewhere_and_later(packages):
    """Built by a user from an exported tree in another folder, with another umask, locale and time zone, all files of another time."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C", "LANG": "de_DE.UTF-8", "TZ": "Pacific/Chatham",
                   "USER": "nobody", "DEB_BUILD_OPTIONS": "parallel=1"}
    with tempfile.TemporaryDirectory(prefix="another-folder-with-a-longer-name.") as tree:
        subprocess.run(f"tar -c --exclude-vcs --exclude=./build . | (umask 077; tar -x --touch --no-same-permissions -C {tree})",
                       shell=True, cwd=machines.ROOT, check=True)
        subprocess.run(["chown", "-R", "nobody:nogroup", tree], check=True)
        done = subprocess.run(["bash", "-c", 'umask 077 && exec make deb "VERSION=$1"', "-", packages.version], cwd=tree, env=environment,
                              user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        built = sorted(os.path.basename(path) for path in glob.glob(f"{packages.folder}/*_{packages.version}[_.]*[bz]"))
        assert len(built) == 7, built
        _, differ, absent = filecmp.cmpfiles(packages.folder, f"{tree}/build/packages", built, shallow=False)
    assert not differ and not absent, f"differ: {differ}; absent: {absent}"


def test_nothing_of_the_build_is_left_in_the_tree(packages):
    """debhelper worked in a copy."""
    assert packages.deb("loopback-agent")
    assert not os.path.exists(os.path.join(machines.ROOT, "debian"))
    assert not glob.glob(f"{packages.folder}/stage.*")
