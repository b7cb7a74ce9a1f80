# SPDX-License-Identifier: Apache-2.0
"""Every source file says its licence."""

import os

import machine as machines

HEAD = "SPDX-License-Identifier: Apache-2.0"
# What has no place for it: texts for readers, which the LICENSE beside them covers; forms that Debian prescribes; seeds of the fuzzers,
# which are bytes.
BARE_SUFFIXES = (".md",)
BARE_FILES = {".gitignore", "LICENSE"}
BARE_FOLDERS = ("packaging/debian", "tests/fuzz/corpus")
UNTRACKED = {".git", "build", "run", ".pytest_cache", "__pycache__"}


def sources():
    """Paths below the tree."""
    for folder, folders, files in os.walk(machines.ROOT):
        folders[:] = sorted(set(folders) - UNTRACKED)
        for name in files:
            yield os.path.relpath(os.path.join(folder, name), machines.ROOT)


def says(path):
    """In its first five lines (a script's interpreter, or a completion's command, comes first)."""
    with open(os.path.join(machines.ROOT, path), encoding="utf-8") as file:
        return any(HEAD in line for _, line in zip(range(5), file))


def test_every_source_file_says_its_licence():
    """But for those named above."""
    bare = []
    for path in sources():
        if path.endswith(BARE_SUFFIXES) or path in BARE_FILES or path.startswith(BARE_FOLDERS):
            continue
        if not says(path):
            bare.append(path)
    assert bare == []


def test_scripts_among_debians_forms_say_it_too():
    """rules and what dpkg runs."""
    folder = os.path.join(machines.ROOT, "packaging/debian")
    scripts = [name for name in os.listdir(folder) if name == "rules" or name.endswith(("inst", "rm"))]
    assert len(scripts) >= 5
    assert [name for name in scripts if not says(os.path.join("packaging/debian", name))] == []


def test_the_licence_is_there_whole():
    """As the Apache Software Foundation published it."""
    with open(os.path.join(machines.ROOT, "LICENSE"), encoding="utf-8") as file:
        text = file.read()
    assert "Apache License\n                           Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
