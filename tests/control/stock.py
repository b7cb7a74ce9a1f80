# SPDX-License-Identifier: Apache-2.0
"""Packages for a control plane to serve, which begin as packages do, and an administrator who adds them."""

import os
import subprocess

from cli_console import program

DEB = b"!<arch>\n" + bytes(range(256)) * 4000  # a megabyte
RPM = bytes.fromhex("edabeedb") + b"\x03\x00" * 5000
AMD64, ARM64, RPM64 = "loopback-agent_0.1.0_amd64.deb", "loopback-agent_0.1.0_arm64.deb", "loopback-agent-0.1.0-1.x86_64.rpm"
CONTENT = {AMD64: DEB, ARM64: DEB + b"arm", RPM64: RPM}


def administrate(plane, *words, check=True):
    """controld as root runs it on its machine; returns subprocess.CompletedProcess."""
    done = subprocess.run([program("controld"), *words, "--state", plane.state], capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, done.stderr
    return done


def write(folder, name, content):
    """A file that only root may read, as a download of an administrator may be."""
    path = os.path.join(str(folder), name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    return path


def stock(plane, folder):
    """Add the agent for two architectures of Debian and one of an rpm distribution."""
    administrate(plane, "package", "add", *(write(folder, name, content) for name, content in CONTENT.items()))
    return plane
