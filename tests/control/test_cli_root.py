# SPDX-License-Identifier: Apache-2.0
"""The ceremony of the root key (C6). What it signs is verified here by other code: OpenSSL's Ed25519 over an encoding written down anew."""

import os
import subprocess

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cli_console import Console

ONLINE = "ab" * 32
OPERATOR = "cd" * 32


@pytest.fixture(name="console")
def console_fixture(tmp_path):
    """A console with a root key in k/."""
    console = Console(tmp_path)
    console.ok("root", "create", "--out", "k", "--name", "prod")
    return console


def read(path):
    """A file's bytes."""
    with open(path, "rb") as file:
        return file.read()


def unpack(data):
    """One msgpack object of the kinds that documents are made of; all bytes must be used."""
    value, rest = unpack_one(data)
    assert rest == b""
    return value


def unpack_one(data):
    """@return an object and the bytes after it"""
    head, rest = data[0], data[1:]
    if head < 0x80:
        return head, rest
    if head == 0xC0:
        return None, rest
    if head in (0xC2, 0xC3):
        return head == 0xC3, rest
    if 0xCC <= head <= 0xCF:
        size = 1 << (head - 0xCC)
        return int.from_bytes(rest[:size], "big"), rest[size:]
    if 0xA0 <= head < 0xC0:
        return rest[:head & 31].decode(), rest[head & 31:]
    if 0xC4 <= head <= 0xC6 or 0xD9 <= head <= 0xDB:
        size = 1 << (head - (0xC4 if head <= 0xC6 else 0xD9))
        n = int.from_bytes(rest[:size], "big")
        body = rest[size:size + n]
        return (body if head <= 0xC6 else body.decode()), rest[size + n:]
    size = {0xDC: 2, 0xDD: 4}.get(head, 0)
    assert size or 0x90 <= head < 0xA0, hex(head)
    n = int.from_bytes(rest[:size], "big") if size else head & 15
    rest, items = rest[size:], []
    for _ in range(n):
        item, rest = unpack_one(rest)
        items.append(item)
    return items, rest


def signed_by(envelope, public):
    """Does one of the envelope's signatures verify by this key? DSSE v1 pre-authentication encoding."""
    kind, payload, signatures = unpack(envelope)
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    for hint, signature in signatures:
        if hint != bytes.fromhex(public)[:8]:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, encoded)
            return True
        except InvalidSignature:
            return False
    return False


def public_of(console, folder):
    """The hex in root.pub."""
    return read(console.file(f"{folder}/root.pub")).decode().strip()


def sign(console, *more, out="keyset", root="k", generation="1"):
    """root sign-keyset with what every keyset needs."""
    return console.json("root", "sign-keyset", "--root", f"{root}/root.key", "--online", ONLINE, "--operator", OPERATOR, "--epoch", "1",
                        "--generation", generation, "--out", out, *more)


# ---- create

def test_root_key_is_readable_by_its_owner_alone(console):
    assert os.stat(console.file("k/root.key")).st_mode & 0o777 == 0o600
    assert os.stat(console.file("k")).st_mode & 0o777 == 0o700


def test_root_key_is_never_written_over(console):
    before = read(console.file("k/root.key"))
    assert "never written over" in console.refuses(1, "root", "create", "--out", "k")
    os.unlink(console.file("k/root.pub"))
    assert "never written over" in console.refuses(1, "root", "create", "--out", "k")
    assert read(console.file("k/root.key")) == before
    assert sorted(os.listdir(console.file("k"))) == ["root.key"]


def test_deployment_id_is_what_b2sum_says_of_the_first_root(console):
    public = public_of(console, "k")
    summed = subprocess.run(["b2sum", "-l", "256"], input=bytes.fromhex(public), capture_output=True, check=True).stdout.decode()
    assert sign(console)["deployment"] == summed[:32]


def test_a_key_that_others_can_read_is_not_used(console):
    os.chmod(console.file("k/root.key"), 0o640)
    assert "chmod 600" in console.refuses(1, "root", "print", "k/root.key")


# ---- sign and show

def test_keyset_says_what_was_asked_and_verifies_elsewhere(console):
    sign(console, "--not-after", "2031-02-03")
    envelope = read(console.file("keyset"))
    public = public_of(console, "k")
    assert signed_by(envelope, public)
    kind, payload, signatures = unpack(envelope)
    header, name, root, keys = unpack(payload)
    assert (kind, len(signatures)) == ("loopback/keyset/1", 1)
    assert (name, root.hex()) == ("prod", public)
    assert header[0] == header[2] and header[1] == bytes(16) and header[3:5] == [1, 1]
    assert keys == [[bytes.fromhex(ONLINE), 1, 1927843200], [bytes.fromhex(OPERATOR), 2, 1927843200]]


def test_one_key_can_have_both_usages(console):
    shown = console.json("root", "sign-keyset", "--root", "k/root.key", "--online", ONLINE, "--operator", ONLINE, "--epoch", "1",
                         "--generation", "1", "--out", "both")
    assert [key["usage"] for key in shown["keys"]] == [["online", "operator"]]


def test_changed_bytes_do_not_verify(console):
    sign(console)
    envelope = read(console.file("keyset"))
    for at in range(0, len(envelope), 7):
        with open(console.file("bad"), "wb") as file:
            file.write(envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1:])
        console.refuses(1, "root", "show-keyset", "bad", "--root-pub", "k/root.pub")


def test_keyset_of_another_root_is_refused_and_an_unknown_root_is_said(console):
    sign(console)
    console.ok("root", "create", "--out", "other")
    assert "is not signed by the root" in console.refuses(1, "root", "show-keyset", "keyset", "--root-pub", "other/root.pub")
    assert console.json("root", "show-keyset", "keyset")["verified"] is False
    assert "NOT VERIFIED" in console.ctl("root", "show-keyset", "keyset").stderr
    assert console.json("root", "show-keyset", "keyset", "--root-pub", "k/root.pub")["verified"] is True


def test_signed_keyset_is_not_written_over(console):
    sign(console)
    before = read(console.file("keyset"))
    assert "exists" in console.refuses(1, "root", "sign-keyset", "--root", "k/root.key", "--online", ONLINE, "--epoch", "1",
                                       "--generation", "2", "--out", "keyset")
    assert read(console.file("keyset")) == before


@pytest.mark.parametrize("option, value", [("--online", "abc"), ("--epoch", "0"), ("--epoch", "4294967296"), ("--generation", "-1"),
                                           ("--not-after", "2027-02-30"), ("--not-after", "tomorrow"), ("--name", "Prod")])
def test_wrong_words_are_named(console, option, value):
    given = {"--online": ONLINE, "--epoch": "1", "--generation": "1", option: value}
    words = [word for pair in given.items() for word in pair]
    assert option in console.refuses(2, "root", "sign-keyset", "--root", "k/root.key", "--out", "x", *words)
    assert not os.path.exists(console.file("x"))


# ---- rotate

def test_rotation_is_signed_by_both_roots_and_keeps_the_deployment(console):
    first = sign(console)
    console.ok("root", "create", "--out", "new")
    rotated = console.json("root", "rotate", "--old", "k/root.key", "--new", "new/root.key", "--keyset", "keyset", "--out", "next")
    envelope = read(console.file("next"))
    assert signed_by(envelope, public_of(console, "k")) and signed_by(envelope, public_of(console, "new"))
    assert rotated["deployment"] == first["deployment"] and rotated["keys"] == first["keys"]
    assert (rotated["root"], rotated["generation"]) == (public_of(console, "new"), 2)
    # the old root does not go on by itself, the new one does
    assert "--after" in console.ok("root", "sign-keyset", "--help")
    console.refuses(1, "root", "rotate", "--old", "k/root.key", "--new", "new/root.key", "--keyset", "next", "--out", "again")
    third = sign(console, "--after", "next", out="third", root="new", generation="3")
    assert third["deployment"] == first["deployment"] and third["name"] == "prod"
    console.refuses(2, "root", "sign-keyset", "--root", "new/root.key", "--online", ONLINE, "--after", "third", "--epoch", "1",
                    "--generation", "3", "--out", "fourth")


# ---- paper and passphrase

def test_paper_brings_the_key_back(console):
    page = console.ok("root", "print", "k/root.key")
    restored = console.json("root", "restore", "--out", "again", stdin=page.upper().replace("PUBLIC:", "public:"))
    assert restored["root_public"] == public_of(console, "k")
    seed = [line for line in read(console.file("k/root.key")).splitlines() if line.startswith(b"seed")]
    assert seed[0] in read(console.file("again/root.key"))


def test_paper_names_the_line_that_is_wrong(console):
    page = console.ok("root", "print", "k/root.key").splitlines()
    lines = {line[0]: i for i, line in enumerate(page) if line[1:2] == ":"}
    for number, i in lines.items():
        wrong = list(page)
        wrong[i] = wrong[i][:3] + ("0" if wrong[i][3] != "0" else "1") + wrong[i][4:]
        assert f"line {number}:" in console.refuses(1, "root", "restore", "--out", "x", stdin="\n".join(wrong))
    swapped = list(page)
    swapped[lines["1"]], swapped[lines["3"]] = "1:" + page[lines["3"]][2:], "3:" + page[lines["1"]][2:]
    assert "line 1:" in console.refuses(1, "root", "restore", "--out", "x", stdin="\n".join(swapped))
    del page[lines["4"]]
    assert "line 4 is missing" in console.refuses(1, "root", "restore", "--out", "x", stdin="\n".join(page))
    assert not os.path.exists(console.file("x"))


def test_passphrase_keeps_the_seed_and_opens_it(console):
    console.write("pass", "correct horse\n")
    console.write("wrong", "battery staple\n")
    console.ok("root", "create", "--out", "locked", "--passphrase-file", "pass")
    page = console.ok("root", "print", "locked/root.key", "--passphrase-file", "-", stdin="correct horse\n")
    seed = "".join(word for line in page.splitlines() if line[1:2] == ":" for word in line[2:].split()[:4])
    assert len(seed) == 64 and seed not in read(console.file("locked/root.key")).decode()
    assert "wrong passphrase" in console.refuses(1, "root", "print", "locked/root.key", "--passphrase-file", "wrong")
    console.ok("root", "restore", "--out", "relocked", "--passphrase-file", "pass", stdin=page)
    assert public_of(console, "relocked") == public_of(console, "locked")


def test_damaged_key_files_are_refused(console):
    whole = read(console.file("k/root.key")).decode()
    for wrong in ("", "hello\n", whole.replace("seed", "seat"), whole.replace("public: ", "public: 0"),
                  whole[:whole.index("seed: ") + 6] + "00" * 32 + "\n", whole + "x" * 5000,
                  whole.replace(whole[whole.index("seed: "):], "argon2id: 3 99999999999999 " + "00" * 16 + "\nbox: " + "00" * 72 + "\n")):
        console.write("bad.key", wrong)
        assert "root key" in console.refuses(1, "root", "print", "bad.key", "--passphrase-file", "-", stdin="x\n")
