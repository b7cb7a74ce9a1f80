# SPDX-License-Identifier: Apache-2.0
"""What bash and zsh offer, asked of the shells themselves."""

import os
import subprocess
import time

import machine as machines
import pytest

BIN = os.path.join(machines.ROOT, "build/bin")
COMPLETIONS = os.path.join(machines.ROOT, "packaging/completions")
QUESTIONS = [
    ("loopback", "en", {"enroll"}),
    ("loopback", "enroll --u", {"--url"}),
    ("loopback", "doctor --p", {"--peer"}),
    ("loopbackctl", "netw", {"network"}),
    ("loopbackctl", "host ret", {"retire"}),
    ("loopbackctl", "token create --desc", {"--description"}),
    ("loopbackctl", "root sign-keyset --root root.k", {"root.key"}),
    ("loopbackctl", "network lock --operator-key root.k", {"root.key"}),
]


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Built; they tell what there is."""
    subprocess.run(["make", "--no-print-directory", "build/bin/loopback", "build/bin/loopbackctl"], cwd=machines.ROOT, check=True)


@pytest.mark.parametrize("program, typed, offered", QUESTIONS, ids=lambda value: str(value))
def test_bash_offers(program, typed, offered, tmp_path):
    """The function that bash would call, with what bash would tell it."""
    (tmp_path / "root.key").write_text("")
    script = f"""
        . {COMPLETIONS}/{program}.bash
        COMP_WORDS=({program} {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _{program} {BIN}/{program} "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered and done.stderr == ""


@pytest.mark.parametrize("program, typed, offered", QUESTIONS, ids=lambda value: str(value))
def test_zsh_completes(program, typed, offered, tmp_path):
    """In an interactive shell on a terminal of its own, Tab makes the whole word of it."""
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / f"_{program}").symlink_to(f"{COMPLETIONS}/{program}.zsh")
    (tmp_path / "root.key").write_text("")
    (word,) = offered
    with open(tmp_path / "asked", "w", encoding="ascii") as file:
        file.write(f"{program} {typed}")
    script = f"""
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'cd {tmp_path}; PATH={BIN}:$PATH; fpath=({functions} $fpath); autoload -U compinit; compinit -u -d {tmp_path}/dump'
        zpty -w shell 'show() {{ print -r -- "$BUFFER" >{tmp_path}/answer.new; mv {tmp_path}/answer.new {tmp_path}/answer }}'
        zpty -w shell 'zle -N show; bindkey "^X" show; print READY > {tmp_path}/ready'
        until [[ -e {tmp_path}/ready ]]; do sleep 0.05; done
        zpty -w -n shell "$(<{tmp_path}/asked)"$'\\t'
        sleep 0.5
        zpty -w -n shell $'\\x18'
        for i in {{1..100}}; do [[ -e {tmp_path}/answer ]] && break; sleep 0.05; done
        zpty -d shell
        """
    subprocess.run(["zsh", "-fc", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    until = time.monotonic() + 5
    while not (tmp_path / "answer").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert (tmp_path / "answer").read_text().split()[-1] == word
