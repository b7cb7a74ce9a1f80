# SPDX-License-Identifier: Apache-2.0
"""What the programs say of themselves: every option of every command, from --help."""

import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BIN = os.environ.get("LOOPBACK_BIN") or os.path.join(ROOT, "build/bin")
DAEMONS = ("netd", "fetchd", "wg-launch", "controld", "signd")
TOOLS = ("loopback", "loopbackctl")
MANUAL = {"netd": "netd.8", "fetchd": "fetchd.8", "wg-launch": "wg-launch.8", "controld": "controld.8", "signd": "signd.8",
          "loopback": "loopback.8", "loopbackctl": "loopbackctl.1"}
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])")


def help_of(program, *command):
    """--help, of a command of it."""
    return subprocess.run([os.path.join(BIN, program), *command, "--help"], capture_output=True, text=True, check=True).stdout


def commands(program):
    """Noun and verb of each of its commands; for a daemon the empty one alone."""
    if program not in TOOLS:
        return [()]
    listed = help_of(program).split("\nCommands:\n")[1].split("\n\n")[0].splitlines()
    return [tuple(word for word in re.split(r"\s{2,}", line.strip())[0].split() if word.islower()) for line in listed]


def options(program, command=()):
    """Names of its options; those of every command are left out of a command's."""
    text = help_of(program, *command)
    if program in TOOLS:
        begin = "Options of every command:" if not command else "Options:"
        text = text.split("\n" + begin + "\n")[1].split("\n\n")[0] if "\n" + begin + "\n" in text else ""
        return [line.split()[0][2:] for line in text.splitlines() if line.startswith("  --")]
    return sorted(set(_OPTION.findall(text)))
