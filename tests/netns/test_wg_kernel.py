# SPDX-License-Identifier: Apache-2.0
"""libwg's kernel backend against a kernel that has WireGuard, driven by wgprobe and witnessed by wg(8).

Skipped where the kernel has none; test_wg_backend.py reads the same messages by another hand there. What was seen with these tests, and on
what, is told in docs/design/kernel-backend.md.
"""

import random
import subprocess
import threading
import time

import pytest
from test_wg_backend import Namespace, lines_of, new_key, programs_fixture, public_of, run, shown  # noqa: F401

NAMESPACE, OTHER = "lbwk", "lbwk2"
NO_KEY = "A" * 43 + "="
ENDPOINTS = ("192.0.2.{}:51820", "[2001:db8::{}]:51820")


class Kernel(Namespace):
    """A network namespace with a kernel WireGuard device, lbk0."""

    def dump(self, interface="lbk0"):
        """(device, {key: peer}) of a dump that was not interrupted, or whose last restart was not."""
        *lines, last = self.probe("dump", "kernel", interface)
        assert last["result"] == 0, last
        begins = [number for number, line in enumerate(lines) if "listen_port" in line]
        device, *peers = lines[begins[-1]:]
        found = {peer["peer"]: peer for peer in peers}
        assert len(found) == len(peers), "a peer came twice"
        return device, found

    def apply(self, interface, *changes):
        """As of Namespace, with the kernel's backend."""
        text = "".join(f"device {device}\n" + "".join(f"{peer}\n" for peer in peers) + "commit\n" for device, peers in changes)
        return self.probe("apply", "kernel", interface, input=text)

    def agrees(self, interface="lbk0"):
        """wgprobe and wg(8) must say the same of the device. Returns the peers."""
        (public, port), witnessed = shown(self, interface)
        device, dumped = self.dump(interface)
        assert device == {"public_key": NO_KEY if public == "(none)" else public, "listen_port": int(port)}
        assert {key: (peer["endpoint"] or "(none)", sorted(peer["allowed"]) or ["(none)"], str(peer["keepalive"] or "off"))
                for key, peer in dumped.items() if not peer["cut"]} == {
                    key: peer for key, peer in witnessed.items() if not dumped[key]["cut"]}
        return witnessed


def make(programs, name):
    """A namespace with its device; skips on a kernel without WireGuard."""
    namespace = Kernel(name, programs)
    if namespace.result("available") != 1:
        namespace.take_down()
        pytest.skip("this kernel has no WireGuard")
    assert namespace.result("link", "lbk0", "wireguard") == 0
    return namespace


@pytest.fixture(name="here")
def here_fixture(programs):
    namespace = make(programs, NAMESPACE)
    yield namespace
    namespace.take_down()


@pytest.fixture(name="there")
def there_fixture(programs):
    namespace = make(programs, OTHER)
    yield namespace
    namespace.take_down()


def address(number):
    """An overlay address of its own for each number."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def test_the_interface_is_made_seen_and_removed(here):
    assert here.result("link", "lbk0", "wireguard") == -17  # EEXIST
    assert here.result("link", "lbk0", "1380", "up") == 0
    (link,) = [line for line in here.probe("links") if line.get("name") == "lbk0"]
    assert (link["kind"], link["mtu"], link["up"]) == ("wireguard", 1380, True)
    assert here.result("dump", "kernel", "lo") == -19  # another kind: ENODEV
    assert here.result("link", "lbk0", "delete") == 0 and here.result("dump", "kernel", "lbk0") == -19


def test_a_new_device_has_neither_key_nor_port(here):
    device, peers = here.dump()
    assert device == {"public_key": NO_KEY, "listen_port": 0} and not peers


def test_peers_are_what_wg_shows(here):
    private, a, b, c = (new_key() for _ in range(4))
    (answer,) = here.apply("lbk0", (f"private={private} port=5100", [
        f"{a} replace endpoint=192.0.2.1:51820 keepalive=25 allowed=100.64.0.1/32",
        f"{b} replace endpoint=[2001:db8::1]:51820 allowed=100.64.0.2/32 allowed=fd00::2/128",
        f"{c} replace allowed=100.64.0.3/32 allowed=10.9.0.0/16 allowed=0.0.0.0/0 allowed=::/0",
    ]))
    assert answer["result"] == 0 and answer["sets"] == 1
    assert shown(here, "lbk0")[0] == [public_of(private), "5100"]
    assert here.agrees() == {
        a: ("192.0.2.1:51820", ["100.64.0.1/32"], "25"),
        b: ("[2001:db8::1]:51820", ["100.64.0.2/32", "fd00::2/128"], "off"),
        c: ("(none)", ["0.0.0.0/0", "10.9.0.0/16", "100.64.0.3/32", "::/0"], "off"),
    }


def test_a_change_touches_only_the_peers_it_names(here):
    a, b, c, d = (new_key() for _ in range(4))
    before = [f"{key} replace endpoint=192.0.2.{i}:1 keepalive=5 allowed=100.64.0.{i}/32" for i, key in enumerate((a, b, c, d), 1)]
    answers = here.apply(
        "lbk0",
        (f"private={new_key()} port=5100", before),
        ("", []),
        ("", [f"{c} remove", f"{a} endpoint=192.0.2.9:9", f"{b} replace allowed=100.64.0.22/32 keepalive=0",
              f"{d} allowed=100.64.0.44/32"]),
        ("", [f"{c} remove"]),
        ("", [f"{b} replace"]),
    )
    assert [(answer["result"], answer["sets"]) for answer in answers] == [(0, 1), (0, 1), (0, 2), (0, 3), (0, 4)]
    assert shown(here, "lbk0")[0][1] == "5100"
    assert here.agrees() == {
        a: ("192.0.2.9:9", ["100.64.0.1/32"], "5"),
        b: ("192.0.2.2:1", ["(none)"], "off"),
        d: ("192.0.2.4:1", ["100.64.0.4/32", "100.64.0.44/32"], "5"),
    }


def test_an_address_moves_to_the_peer_that_names_it_last(here):
    a, b = new_key(), new_key()
    here.apply("lbk0", ("port=5100", [f"{a} replace allowed=100.64.0.1/32 allowed=100.64.0.2/32"]),
               ("", [f"{b} replace allowed=100.64.0.2/32"]))
    assert {key: peer[1] for key, peer in here.agrees().items()} == {a: ["100.64.0.1/32"], b: ["100.64.0.2/32"]}


def test_an_error_of_the_device_is_told_and_the_next_change_works(here):
    run("ip", "-n", here.name, "link", "add", "lbk1", "type", "wireguard")
    here.enter("wg", "set", "lbk1", "listen-port", "5101")
    for name in ("lbk0", "lbk1"):
        here.ip("link", "set", name, "up")
    key = new_key()
    answers = here.apply(
        "lbk0",
        ("port=5101", [f"{new_key()} allowed=100.64.0.{i}/32" for i in range(1, 250)]),
        ("port=5102", [f"{key} replace allowed=100.64.0.1/32"]),
    )
    assert [answer["result"] for answer in answers] == [-98, 0]  # EADDRINUSE
    assert shown(here, "lbk0")[0][1] == "5102" and list(here.agrees()) == [key]
    here.ip("link", "del", "lbk0")
    assert here.result("dump", "kernel", "lbk0") == -19


def test_a_device_that_goes_while_it_is_open_is_no_device(here):
    probe = here.start(here.programs["wgprobe"], "apply", "kernel", "lbk0", stdin=subprocess.PIPE)
    probe.stdin.write("device port=5100\ncommit\n")
    probe.stdin.flush()
    assert '"result": 0' in probe.stdout.readline()
    here.ip("link", "del", "lbk0")
    rest, _ = probe.communicate(f"device\n{new_key()} replace\ncommit\n", timeout=20)
    assert [line["result"] for line in lines_of(rest)] == [-19]


@pytest.mark.parametrize("count", (200, 256, 1000, 3000))
def test_many_allowed_ips_of_one_peer(here, count):
    a, b, c = (new_key() for _ in range(3))
    many = [f"10.1.{i // 256}.{i % 256}/32" for i in range(count // 2)] + [f"fd00::{i:x}/128" for i in range(1, count - count // 2 + 1)]
    random.Random(count).shuffle(many)
    (answer,) = here.apply("lbk0", ("port=5100", [
        f"{a} replace allowed=192.0.2.1/32", f"{b} replace endpoint=192.0.2.9:9 keepalive=7 " + " ".join(f"allowed={p}" for p in many),
        f"{c} replace allowed=192.0.2.3/32"]))
    assert answer["result"] == 0 and (answer["sets"] > 1) == (count > 700), answer
    peers = here.agrees()
    assert peers[b] == ("192.0.2.9:9", sorted(many), "7")
    _, dumped = here.dump()
    assert not dumped[a]["cut"] and not dumped[c]["cut"]
    assert dumped[b]["cut"] == (count > 256) and len(dumped[b]["allowed"]) == min(count, 256)
    assert set(dumped[b]["allowed"]) <= set(many) and dumped[b]["keepalive"] == 7
    # All of them replaced by one, then by none.
    here.apply("lbk0", ("", [f"{b} replace allowed={many[0]}"]))
    assert here.agrees()[b] == ("192.0.2.9:9", [many[0]], "7")


@pytest.mark.parametrize("count", (1000, 10000))
def test_many_peers_are_dumped_back_as_they_were_set(here, count):
    wanted = {new_key(): (ENDPOINTS[i % 2].format(i % 200 + 1), [address(i) + "/32"], str(i % 30) if i % 30 else "off")
              for i in range(count)}
    change = [f"{key} replace endpoint={endpoint} keepalive={keepalive if keepalive != 'off' else 0} allowed={allowed[0]}"
              for key, (endpoint, allowed, keepalive) in wanted.items()]
    (answer,) = here.apply("lbk0", (f"private={new_key()} port=5100", change))
    assert answer["result"] == 0
    began = time.monotonic()
    *_, last = here.probe("dump", "kernel", "lbk0")
    took = time.monotonic() - began
    print(f"{count} peers: set {answer['seconds']:.2f} s in {answer['sets']} messages; dump {took:.2f} s, {last['peak_kib']} KiB")
    assert here.agrees() == wanted
    keys = list(wanted)
    (answer,) = here.apply("lbk0", ("", [f"{key} remove" for key in keys[::2]]))
    print(f"{count // 2} removed: {answer['seconds']:.2f} s in {answer['sets']} messages")
    assert answer["result"] == 0 and here.agrees() == {key: wanted[key] for key in keys[1::2]}


def change_for_ever(here, keys, pause, stop, done):
    """Of two peers exactly one is there, after each change: one is added behind all others, while the other goes from before them."""
    probe = here.start(here.programs["wgprobe"], "apply", "kernel", "lbk0", stdin=subprocess.PIPE)
    turn = 0
    while not stop.is_set():
        gone, come = keys if turn % 2 == 0 else keys[::-1]
        probe.stdin.write(f"device\n{gone} remove\n{come} replace allowed=192.0.2.1/32\ncommit\n")
        probe.stdin.flush()
        assert '"result": 0' in probe.stdout.readline()
        turn += 1
        time.sleep(pause)
    probe.communicate(timeout=20)
    done.append(turn)


@pytest.mark.parametrize("pause", (0.5, 0.2, 0.0))
def test_an_interrupted_dump_begins_again(here, pause):
    """What a dump gives is one state of the device, or the refusal to tell."""
    lasting, keys = [new_key() for _ in range(1500)], [new_key(), new_key()]
    here.apply("lbk0", ("port=5100", [f"{keys[0]} replace allowed=192.0.2.1/32"] +
                        [f"{key} replace allowed={address(i)}/32" for i, key in enumerate(lasting)]))
    stop, done, restarts, results = threading.Event(), [], 0, []
    changer = threading.Thread(target=change_for_ever, args=(here, keys, pause, stop, done))
    changer.start()
    try:
        for _ in range(12):
            *lines, last = here.probe("dump", "kernel", "lbk0")
            begins = [number for number, line in enumerate(lines) if "listen_port" in line]
            restarts += len(begins) - 1
            results.append(last["result"])
            assert last["result"] in (0, -11) and 1 <= len(begins) <= 8  # EAGAIN: it never stood still
            found = [line["peer"] for line in lines[begins[-1]:] if "peer" in line]
            if last["result"] == 0:
                assert len(found) == len(set(found)) == 1501 and set(lasting) < set(found)
    finally:
        stop.set()
        changer.join()
    print(f"pause {pause} s: {done[0]} changes, 12 dumps, {restarts} restarts, results {results}")
    assert restarts or pause
    assert here.dump()[1].keys() == set(lasting) | {keys[done[0] % 2]}


def test_handshakes_and_traffic_are_what_wg_shows(here, there):
    here.ip("link", "add", "lbkv0", "type", "veth", "peer", "name", "lbkv1", "netns", there.name)
    private = {}
    for number, host in enumerate((here, there), 1):
        host.ip("address", "add", f"198.18.7.{number}/24", "dev", f"lbkv{number - 1}")
        host.ip("link", "set", f"lbkv{number - 1}", "up")
        private[host] = new_key()
    for number, (host, other) in enumerate(((here, there), (there, here)), 1):
        key = public_of(private[other])
        assert host.apply("lbk0", (f"private={private[host]} port=5100", [
            f"{key} replace endpoint=198.18.7.{3 - number}:5100 allowed=100.64.0.{3 - number}/32"]))[-1]["result"] == 0
        assert host.result("link", "lbk0", "1380", "up") == 0
        assert host.result("address", "add", "lbk0", f"100.64.0.{number}/32") == 0
        assert host.result("route", "add", "lbk0", "100.64.0.0/24", f"100.64.0.{number}") == 0
    assert here.dump()[1][public_of(private[there])]["handshake"] == 0
    here.enter("ping", "-q", "-c", "5", "-i", "0.2", "100.64.0.2")
    for host, other in ((here, there), (there, here)):
        (peer,) = host.dump()[1].values()
        fields = host.enter("wg", "show", "lbk0", "dump").splitlines()[1].split("\t")
        assert peer["peer"] == fields[0] == public_of(private[other])
        assert (peer["handshake"], peer["rx"], peer["tx"]) == tuple(map(int, fields[4:7]))
        assert abs(peer["handshake"] - time.time()) < 30 and peer["rx"] > 500 and peer["tx"] > 500
    # A change that names the peer without its endpoint or key leaves the session alone.
    before = here.dump()[1][public_of(private[there])]
    here.apply("lbk0", ("", [f"{public_of(private[there])} keepalive=20 replace allowed=100.64.0.2/32"]))
    here.enter("ping", "-q", "-c", "2", "-i", "0.2", "100.64.0.2")
    after = here.dump()[1][public_of(private[there])]
    assert after["handshake"] == before["handshake"] and after["rx"] > before["rx"]
