# SPDX-License-Identifier: Apache-2.0
"""A page of commands, read as a reader reads it.

In a block marked `console`, `root@MACHINE:~# COMMAND` is typed on that machine, and what stands below is what it prints. In what
is printed, `...` on a line of its own means any lines, or none; within a line, any characters. A command with nothing below it
may print what it likes.
"""

import re

PROMPT = re.compile(r"root@([a-z0-9-]+):~# (.+)")


class Step:
    """One command of the page."""

    def __init__(self, line, machine, command):
        self.line, self.machine, self.command, self.expected = line, machine, command, []

    def pattern(self):
        """What the output has to match, as a regular expression; None if the page does not say."""
        if not self.expected:
            return None
        parts = []
        while not self.expected[-1]:
            self.expected.pop()
        for line in self.expected:
            if line == "...":
                parts.append(r"(?:[^\n]*\n)*?")
            else:
                parts.append(".*?".join(re.escape(part) for part in line.split("...")) + r"[ \t]*\n")
        return "".join(parts)

    def check(self, output):
        """The complaint about an output that is another one; None if it is as the page says."""
        wanted = self.pattern()
        text = output.rstrip("\n") + "\n" if output.strip() else ""
        if wanted is None or re.fullmatch(wanted, text):
            return None
        return "the page says:\n" + "\n".join(self.expected) + "\nit printed:\n" + output


def steps(path):
    """The commands of a page, in their order."""
    found, inside = [], False
    with open(path, encoding="utf-8") as page:
        for number, line in enumerate(page, 1):
            line = line.rstrip("\n")
            if line.startswith("```"):
                inside = line == "```console"
                continue
            if not inside:
                continue
            prompt = PROMPT.fullmatch(line)
            if prompt:
                found.append(Step(number, *prompt.groups()))
            elif found:
                found[-1].expected.append(line)
            else:
                raise ValueError(f"{path}:{number}: a block begins with a prompt, root@MACHINE:~#, and a command")
    return found
