# SPDX-License-Identifier: Apache-2.0
"""Both programs without a server: contexts, usage, help, what cannot be reached."""

import json
import os
import stat

import pytest

from cli_console import Console


@pytest.fixture(name="console")
def console_fixture(tmp_path):
    """A console with a credential and a root."""
    console = Console(tmp_path)
    console.write("credential", "id.secret\n")
    console.ok("root", "create", "--out", "root")
    return console


def set_context(console, name="prod", url="https://127.0.0.1:1"):
    """A context that names a port where nobody listens."""
    return console.json("context", "set", name, "--url", url, "--credential-file", "credential", "--root-pub", "root/root.pub")


# ---- contexts

def test_contexts_are_set_used_shown_deleted(console):
    assert set_context(console)["current"] is True
    assert set_context(console, "lab", "https://lab.example/")["url"] == "https://lab.example"
    assert {row["name"]: row["current"] for row in console.json("context", "list")} == {"prod": True, "lab": False}
    assert console.json("context", "use", "lab")["current"] is True
    assert console.json("context", "show")["name"] == "lab"
    console.ok("context", "delete", "lab")
    assert "no context is set" in console.refuses(1, "host", "list")
    assert "127.0.0.1:1" in console.refuses(3, "host", "list", "--context", "prod")


def test_a_context_changes_only_in_what_is_given(console):
    before = set_context(console)
    after = console.json("context", "set", "prod", "--url", "https://other.example:8443")
    assert after["url"] == "https://other.example:8443"
    assert (after["credential_file"], after["root_public"]) == (before["credential_file"], before["root_public"])


def test_configuration_is_private_holds_no_secret_and_absolute_paths(console):
    set_context(console)
    path = console.file("config/loopbackctl.json")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "id.secret" not in text and console.file("credential") in text
    assert os.listdir(console.file("config")) == ["loopbackctl.json"]


def test_a_credential_that_others_can_read_is_not_used(console):
    set_context(console)
    os.chmod(console.file("credential"), 0o644)
    assert "chmod 600" in console.refuses(1, "host", "list")


@pytest.mark.parametrize("url", ["http://192.0.2.1", "ftp://x", "example.org", "https://", "http://127.0.0.1.example"])
def test_urls_that_would_leak_or_cannot_be_are_refused(console, url):
    assert url in console.refuses(2, "context", "set", "x", "--url", url, "--credential-file", "credential")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1", "https://192.0.2.1:8443"])
def test_plain_http_is_for_this_machine_alone(console, url):
    assert set_context(console, url=url)["url"] == url


def test_broken_configuration_is_reported_and_kept(console):
    os.mkdir(console.file("config"))
    console.write("config/loopbackctl.json", '{"contexts": [')
    assert "line 1" in console.refuses(1, "context", "list")
    assert "config" in console.refuses(1, "context", "set", "x", "--url", "https://x", "--credential-file", "credential")
    with open(console.file("config/loopbackctl.json"), encoding="utf-8") as file:
        assert file.read() == '{"contexts": ['


def test_a_token_needs_the_operators_own_root(console):
    console.ok("context", "set", "bare", "--url", "https://127.0.0.1:1", "--credential-file", "credential")
    text = console.refuses(1, "token", "create", "--workspace", "w")
    assert "context set bare --root-pub" in text and "control plane is not asked" in text


# ---- usage

@pytest.mark.parametrize("words, names", [
    (["network", "status", "x", "--bogus"], "--bogus"), (["bogus"], "'bogus'"), (["network", "bogus"], "'bogus'"),
    (["network", "status"], "NETWORK"), (["network", "status", "a", "b"], "'b'"), (["network"], "loopbackctl network --help"), ([], "--help"),
    (["token", "create"], "--workspace"), (["token", "create", "--workspace"], "needs a value"),
    (["token", "create", "--workspace", "a", "--workspace", "b"], "given twice"), (["host", "list", "--json=yes"], "takes no value"),
    (["host", "endpoint", "h", "1.2.3.4"], "'1.2.3.4'"), (["host", "endpoint", "h"], "--clear"),
    (["network", "create", "n", "--workspace", "w", "--cidr", "10.0.0.1/8"], "10.0.0.1/8"), (["network", "create", "n"], "--workspace"),
    (["network", "create", "n", "--workspace", "w", "--mtu", "100"], "--mtu"), (["network", "status", "n", "--wait", "5y"], "5y"),
])
def test_usage_errors_name_what_is_wrong(console, words, names):
    set_context(console)
    assert names in console.refuses(2, *words)


def test_ttl_is_bounded(console):
    set_context(console)
    for ttl in ("0", "367d", "1y", "-1h", "h", ""):
        console.refuses(2, "token", "create", "--workspace", "w", "--ttl", ttl)


def test_errors_are_problems_with_json(console):
    problem = json.loads(console.refuses(2, "--json", "bogus"))
    assert problem["code"] == "usage" and problem["type"] == "about:blank" and "bogus" in problem["detail"]
    set_context(console)
    assert json.loads(console.refuses(3, "host", "list", "--json"))["code"] == "unreachable"


@pytest.mark.parametrize("words", [[], ["network"], ["network", "status"], ["root", "sign-keyset"], ["token", "create"]])
def test_help_on_every_level(console, words):
    text = console.ok(*words, "--help")
    assert text.startswith(("Usage", "Operate", "Show", "Say", "Make")) and "--json" in text
    assert console.ok(*words, "-h") == text


def test_secrets_are_never_options(console):
    nouns = {line.split()[0] for line in console.ok("--help").splitlines() if line.startswith("  ") and not line.startswith("  --")}
    for noun in nouns:
        for line in console.ok(noun, "--help").splitlines():
            assert not line.strip().startswith(("--secret", "--password", "--passphrase ", "--credential "))


def test_hostile_text_does_not_reach_the_terminal(console):
    text = console.refuses(2, "net\x1b[2Jwork\u0085")
    assert "\x1b" not in text and "\u0085" not in text


# ---- loopback, the host's program

def test_host_program_without_daemons(console, tmp_path):
    run = str(tmp_path / "none")
    done = console.run("loopback", "status", "--run", run)
    assert done.returncode == 3 and "netd does not run" in done.stderr and run in done.stderr
    problem = json.loads(console.run("loopback", "status", "--run", run, "--json").stderr)
    assert problem["code"] == "not-running"


@pytest.mark.parametrize("token, says", [
    ("", "ID.SECRET.ROOT"), ("abc", "64 hexadecimal"), ("a.b", "no third part"), ("a.b." + "0" * 63, "64 hexadecimal"),
    ("a.b.c." + "0" * 64, "two dots"), (".b." + "0" * 64, "two dots"), ("a.b." + "0" * 64 + "\nmore", "one line"), ("x" * 600, "one line"),
])
def test_tokens_that_are_none_are_told_apart(console, token, says):
    done = console.run("loopback", "enroll", "--url", "https://x", "--token-file", "-", "--run", "none", stdin=token)
    assert done.returncode == 1 and says in done.stderr
    assert "b." + "0" * 64 not in done.stderr


@pytest.mark.parametrize("more", [["--name", "Web"], ["--name", "-a"], ["--name", "a" * 64], ["--url", "ftp://x"], []])
def test_enroll_checks_its_words_first(console, more):
    words = more if "--url" in more or not more else ["--url", "https://x", *more]
    assert console.run("loopback", "enroll", "--token-file", "-", *words).returncode == 2


def test_whole_token_needs_daemons(console):
    done = console.run("loopback", "enroll", "--url", "https://x", "--token-file", "-", "--run", "none", stdin="a.b." + "0" * 64)
    assert done.returncode == 3 and "fetchd does not run" in done.stderr
