# SPDX-License-Identifier: Apache-2.0
"""netd's kernel-facing functions, driven by wgprobe and witnessed by wg(8), ip(8) and a reader of netlink messages of our own.

wgprobe and wg-launch are built first (make all tools); WGPROBE and WG_LAUNCH name others.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
NAMESPACE = os.environ.get("FLEET_PREFIX", "lb") + "wg"  # as the fleet's (conftest.py): two runs at once need two
WIREGUARD_GO = "/usr/bin/wireguard-go"
IMMEDIATELY = dict(os.environ, WG_PROCESS_FOREGROUND="1", LOG_LEVEL="silent")


def run(*command, **options):
    return subprocess.run(command, text=True, check=True, capture_output=True, timeout=60, **options).stdout


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def new_key():
    key = bytearray(os.urandom(32))
    key[0] &= 248
    key[31] = (key[31] & 127) | 64
    return base64.b64encode(bytes(key)).decode()


def wait_for(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


class Namespace:
    """A network namespace and what runs in it."""

    def __init__(self, name, programs):
        self.name, self.programs, self.running = name, programs, []
        if os.path.exists(f"/run/netns/{name}"):  # of a run that was killed
            run("ip", "netns", "delete", name)
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def command(self, *words):
        return ("ip", "netns", "exec", self.name) + words

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def ip_json(self, *words):
        return json.loads(run("ip", "-n", self.name, "-j", "-d", *words) or "[]")

    def enter(self, *words, **options):
        return run(*self.command(*words), **options)

    def start(self, *words, **options):
        process = subprocess.Popen(self.command(*words), text=True, stdout=subprocess.PIPE, **options)
        self.running.append(process)
        return process

    def probe(self, *words, **options):
        """All objects that wgprobe prints; the last one is its result."""
        return lines_of(self.enter(self.programs["wgprobe"], *words, **options))

    def result(self, *words, **options):
        return self.probe(*words, **options)[-1]["result"]

    def dump(self, interface):
        device, *peers, last = self.probe("dump", "userspace", interface)
        assert last["result"] == 0
        return device, {peer["peer"]: peer for peer in peers}

    def apply(self, interface, *changes):
        """Each change is (device words, [peer lines]); one session of wgprobe for all."""
        text = "".join(f"device {device}\n" + "".join(f"{peer}\n" for peer in peers) + "commit\n" for device, peers in changes)
        return self.probe("apply", "userspace", interface, input=text)

    def wireguard_go(self, interface):
        process = self.start(WIREGUARD_GO, "-f", interface, env=IMMEDIATELY)
        wait_for(lambda: os.path.exists(f"/run/wireguard/{interface}.sock"), "wireguard-go's socket")
        return process

    def grant(self, interface, path, *words):
        """Be netd for one wg-launch."""
        process = self.start(self.programs["wgprobe"], "grant", interface, path, *words)
        first = json.loads(process.stdout.readline())
        if first["result"] == 0:
            os.chmod(path, 0o666)
        return process, first["result"]

    def launch(self, path, *words, **options):
        return self.start(self.programs["wg-launch"], "--socket", path, "--user", "nobody", *words, **options)

    def take_down(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()
        run("ip", "netns", "del", self.name)


@pytest.fixture(scope="module", name="programs")
def programs_fixture(tmp_path_factory):
    """Copies that any user may read and execute, as installed programs are."""
    folder = tmp_path_factory.mktemp("programs")
    for parent in [folder] + list(folder.parents)[:-2]:
        os.chmod(parent, 0o755)
    found = {
        "wgprobe": os.environ.get("WGPROBE", os.path.join(ROOT, "build/tests/tools/wgprobe")),
        "wg-launch": os.environ.get("WG_LAUNCH", os.path.join(ROOT, "build/bin/wg-launch")),
    }
    return {name: shutil.copy(path, folder / name) for name, path in found.items()}


@pytest.fixture(name="here")
def here_fixture(programs):
    namespace = Namespace(NAMESPACE, programs)
    yield namespace
    namespace.take_down()
    for name in os.listdir("/run/wireguard") if os.path.isdir("/run/wireguard") else []:
        if name.startswith("lbw"):
            os.unlink(f"/run/wireguard/{name}")


@pytest.fixture(name="socket_path")
def socket_path_fixture(tmp_path):
    for parent in [tmp_path] + list(tmp_path.parents)[:-2]:
        os.chmod(parent, 0o755)
    return str(tmp_path / "tunnel.sock")


def shown(namespace, interface):
    """What wg(8) says: the device's public key and port, and the peers."""
    first, *rest = namespace.enter("wg", "show", interface, "dump").splitlines()
    peers = {}
    for line in rest:
        key, _, endpoint, allowed, _, _, _, keepalive = line.split("\t")
        peers[key] = (endpoint, sorted(allowed.split(",")), keepalive)
    return first.split("\t")[1:3], peers


def public_of(key):
    return run("wg", "pubkey", input=key).strip()


# -- the userspace backend ------------------------------------------------------------------------------------------------------


def test_peers_are_what_wg_shows(here):
    here.wireguard_go("lbw0")
    private, a, b, c = (new_key() for _ in range(4))
    (answer,) = here.apply("lbw0", (f"private={private} port=5100", [
        f"{a} replace endpoint=192.0.2.1:51820 keepalive=25 allowed=100.64.0.1/32",
        f"{b} replace endpoint=[2001:db8::1]:51820 allowed=100.64.0.2/32 allowed=fd00::2/128",
        f"{c} replace allowed=100.64.0.3/32",
    ]))
    assert answer["result"] == 0 and answer["sets"] == 1
    device, peers = shown(here, "lbw0")
    assert device == [public_of(private), "5100"]
    assert peers == {
        a: ("192.0.2.1:51820", ["100.64.0.1/32"], "25"),
        b: ("[2001:db8::1]:51820", ["100.64.0.2/32", "fd00::2/128"], "off"),
        c: ("(none)", ["100.64.0.3/32"], "off"),
    }
    device, dumped = here.dump("lbw0")
    assert device == {"public_key": public_of(private), "listen_port": 5100}
    assert {key: (peer["endpoint"] or "(none)", sorted(peer["allowed"]), str(peer["keepalive"] or "off"))
            for key, peer in dumped.items()} == peers


def test_a_change_touches_only_the_peers_it_names(here):
    here.wireguard_go("lbw0")
    a, b, c = (new_key() for _ in range(3))
    before = [f"{key} replace endpoint=192.0.2.{i}:1 allowed=100.64.0.{i}/32" for i, key in enumerate((a, b, c), 1)]
    answers = here.apply(
        "lbw0",
        (f"private={new_key()} port=5100", before),
        ("", []),
        ("", [f"{c} remove", f"{a} endpoint=192.0.2.9:9", f"{b} replace allowed=100.64.0.22/32 keepalive=15"]),
    )
    assert [(answer["result"], answer["sets"]) for answer in answers] == [(0, 1), (0, 1), (0, 2)]
    device, peers = shown(here, "lbw0")
    assert device[1] == "5100"
    assert peers == {a: ("192.0.2.9:9", ["100.64.0.1/32"], "off"), b: ("192.0.2.2:1", ["100.64.0.22/32"], "15")}


def test_an_error_of_the_device_is_told_and_the_next_change_works(here):
    here.wireguard_go("lbw0")
    here.wireguard_go("lbw1")
    key = new_key()
    assert here.apply("lbw1", ("port=5101", []))[-1]["result"] == 0
    answers = here.apply(
        "lbw0",
        ("port=5101", [f"{new_key()} allowed=100.64.0.{i}/32" for i in range(1, 250)]),
        ("port=5102", [f"{key} replace allowed=100.64.0.1/32"]),
    )
    assert [answer["result"] for answer in answers] == [-98, 0]  # EADDRINUSE
    device, peers = shown(here, "lbw0")
    assert device[1] == "5102" and list(peers) == [key]


def test_many_allowed_ips_go_in_several_operations(here):
    here.wireguard_go("lbw0")
    a, b = new_key(), new_key()
    many = [f"10.1.{i // 256}.{i % 256}/32" for i in range(3000)]
    (answer,) = here.apply("lbw0", ("port=5100", [f"{a} replace " + " ".join(f"allowed={p}" for p in many),
                                                  f"{b} replace allowed=fd00::1/128"]))
    assert answer["result"] == 0 and answer["sets"] > 1
    _, peers = shown(here, "lbw0")
    assert peers[a][1] == sorted(many) and peers[b][1] == ["fd00::1/128"]
    _, dumped = here.dump("lbw0")
    assert dumped[a]["cut"] and len(dumped[a]["allowed"]) == 256 and not dumped[b]["cut"]


def test_a_dump_takes_no_memory_for_its_peers(here):
    here.wireguard_go("lbw0")
    few = here.probe("dump", "userspace", "lbw0")[-1]
    here.apply("lbw0", ("port=5100", [f"{new_key()} replace allowed=10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32" for i in range(10000)]))
    *_, many = dumped = here.probe("dump", "userspace", "lbw0")
    assert len(dumped) == 10002 and many["result"] == 0
    assert many["peak_kib"] - few["peak_kib"] < 512


def test_ten_thousand_peers_are_taken_as_by_wg_setconf(here, tmp_path):
    private, keys = new_key(), [new_key() for _ in range(10000)]
    peers = [(key, f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}") for i, key in enumerate(keys)]
    config = tmp_path / "wg.conf"
    config.write_text(f"[Interface]\nPrivateKey={private}\nListenPort=5100\n" + "".join(
        f"[Peer]\nPublicKey={key}\nEndpoint={address}:51820\nAllowedIPs={address}/32\n" for key, address in peers))
    change = [f"{key} replace endpoint={address}:51820 allowed={address}/32" for key, address in peers]
    ours, theirs = [], []
    for number in range(6):
        device = here.wireguard_go("lbw0")
        if number % 2:
            began = time.monotonic()
            here.enter("wg", "setconf", "lbw0", str(config))
            theirs.append(time.monotonic() - began)
        else:
            ours.append(here.apply("lbw0", (f"private={private} port=5100", change))[-1]["seconds"])
        assert len(here.enter("wg", "show", "lbw0", "peers").split()) == 10000
        here.ip("link", "del", "lbw0")
        device.wait(10)
    print(f"first apply of 10,000 peers: {min(ours):.3f} s, wg setconf {min(theirs):.3f} s")
    assert min(ours) <= 2 * min(theirs)  # the figure that is asked for stands in the bench; here both share the machine with other tests


def test_the_lifeline_tells_when_the_device_dies(here):
    device = here.wireguard_go("lbw0")
    watcher = here.start(here.programs["wgprobe"], "lifeline", "lbw0")
    assert json.loads(watcher.stdout.readline())["result"] == 0
    time.sleep(0.2)
    assert watcher.poll() is None
    device.kill()
    assert json.loads(watcher.stdout.readline())["result"] == 1
    device.wait()
    assert here.result("dump", "userspace", "lbw0") == -19  # ENODEV


def test_a_device_that_answers_nonsense_is_refused(here, tmp_path):
    os.makedirs("/run/wireguard", exist_ok=True)
    for nonsense, error in ((b"hello\n", -71), (b"x" * 20000, -71), (b"errno=zero\n\n", -71), (b"errno=0\nmore=1\n", -71),
                            (b"public_key=00\nerrno=0\n\n", -71), (b"errno=0\n\nerrno=0\n\n", -71), (b"", -104)):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("/run/wireguard/lbwn.sock")
            listener.listen(4)
            probe = here.start(here.programs["wgprobe"], "dump", "userspace", "lbwn")
            connections = [listener.accept()[0] for _ in range(2)]
            connections[1].recv(100)
            connections[1].sendall(nonsense)
            for connection in connections:
                connection.close()
            assert json.loads(probe.communicate()[0].splitlines()[-1])["result"] == error, nonsense
        os.unlink("/run/wireguard/lbwn.sock")


def stand_in(here, serve, verb, text=""):
    """Result and seconds of a probe whose device is serve(configuration connection)."""
    os.makedirs("/run/wireguard", exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryFile("w+") as changes:
        changes.write(text)
        changes.seek(0)
        listener.bind("/run/wireguard/lbwn.sock")
        try:
            listener.listen(4)
            begun = time.monotonic()
            probe = here.start(here.programs["wgprobe"], verb, "userspace", "lbwn", stdin=changes)
            lifeline, connection = (listener.accept()[0] for _ in range(2))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError), lifeline, connection:
                serve(connection)
            return json.loads(probe.stdout.read().splitlines()[-1])["result"], time.monotonic() - begun
        finally:
            os.unlink("/run/wireguard/lbwn.sock")


def test_a_device_that_answers_each_operation_late_is_not_waited_for_again_and_again(here):
    """A change of many operations, each answered within the time that one may take."""

    def late(connection):
        while connection.recv(1 << 20):
            time.sleep(3)
            while select.select([connection], [], [], 0)[0] and connection.recv(1 << 20):
                pass
            connection.sendall(b"errno=0\n\n")

    peers = "".join(f"{new_key()} replace allowed=10.0.{i >> 8}.{i & 255}/32\n" for i in range(4000))
    result, seconds = stand_in(here, late, "apply", f"device\n{peers}commit\n")
    assert result == -110 and 9 < seconds < 14  # ETIMEDOUT


def test_a_dump_without_end_ends(here):
    def endless(connection):
        connection.recv(100)
        connection.sendall(b"public_key=" + b"11" * 32 + b"\n")
        while True:
            connection.sendall(b"allowed_ip=10.0.0.1/32\n" * 1000)

    result, seconds = stand_in(here, endless, "dump")
    assert result == -71 and seconds < 8  # EPROTO


# -- the kernel backend: its messages, read by another hand ------------------------------------------------------------------------


def attributes(data):
    """(type, payload) of netlink attributes (netlink(7))."""
    while data:
        length, kind = struct.unpack("=HH", data[:4])
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3:]


def read_peer(data):
    peer = {"allowed": [], "flags": 0}
    for kind, value in attributes(data):
        if kind == 1:
            peer["key"] = base64.b64encode(value).decode()
        elif kind == 3:
            peer["flags"] = struct.unpack("=I", value)[0]
        elif kind == 4 and len(value) == 16:
            family, port, address = struct.unpack("!2sH4s8x", value)
            assert family == struct.pack("=H", socket.AF_INET)
            peer["endpoint"] = f"{socket.inet_ntop(socket.AF_INET, address)}:{port}"
        elif kind == 4:
            family, port, address = struct.unpack("!2sH4x16s4x", value)
            assert family == struct.pack("=H", socket.AF_INET6)
            peer["endpoint"] = f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"
        elif kind == 5:
            peer["keepalive"] = struct.unpack("=H", value)[0]
        elif kind == 9:
            for _, nest in attributes(value):
                part = dict(attributes(nest))
                family = struct.unpack("=H", part[1])[0]
                peer["allowed"].append(f"{socket.inet_ntop(family, part[2])}/{part[3][0]}")
        else:
            raise AssertionError(f"attribute {kind} of a peer")
    return peer


def read_message(data, family):
    """A WG_CMD_SET_DEVICE message (linux/wireguard.h) as its device attributes and its peers."""
    length, kind, flags, _, _, command, version = struct.unpack("=IHHIIBBxx", data[:20])
    assert (length, kind, flags, command, version) == (len(data), family, 1 | 4, 1, 1)
    device = dict(attributes(data[20:]))
    return device, [read_peer(value) for _, value in attributes(device.pop(8, b""))]


def test_messages_to_the_kernel_say_what_was_put(here):
    private, a, b, c = (new_key() for _ in range(4))
    many = [f"10.1.{i // 256}.{i % 256}/32" for i in range(2000)] + [f"fd00::{i:x}/128" for i in range(1, 500)]
    change = "\n".join((f"device private={private} port=5100",
                        f"{a} replace endpoint=192.0.2.1:51820 keepalive=25 allowed=100.64.0.1/32",
                        f"{b} replace endpoint=[2001:db8::1]:51820 " + " ".join(f"allowed={p}" for p in many),
                        f"{c} remove", "commit", ""))
    *printed, last = here.probe("messages", "7", "33", input=change)
    messages = [bytes.fromhex(line["message"]) for line in printed]
    assert last["result"] == 0 and len(messages) > 2 and max(map(len, messages)) <= 32768
    devices, peers = zip(*(read_message(message, 33) for message in messages))
    assert devices[0] == {1: struct.pack("=I", 7), 3: base64.b64decode(private), 6: struct.pack("=H", 5100)}
    assert all(device == {1: struct.pack("=I", 7)} for device in devices[1:])
    named = [peer for group in peers for peer in group]
    assert named[0] == {"key": a, "flags": 2, "endpoint": "192.0.2.1:51820", "keepalive": 25, "allowed": ["100.64.0.1/32"]}
    assert named[-1] == {"key": c, "flags": 1, "allowed": []}
    parts = named[1:-1]
    assert parts[0]["flags"] == 2 and parts[0]["endpoint"] == "[2001:db8::1]:51820"
    assert all(part.keys() == {"key", "flags", "allowed"} and part["flags"] == 0 for part in parts[1:])
    assert all(part["key"] == b for part in parts) and [p for part in parts for p in part["allowed"]] == many

    # The kernel dumps in the same form: our reader joins what was parted.
    device, *dumped, last = here.probe("read", input="".join(message.hex() + "\n" for message in messages))
    assert last["result"] == 0 and device["listen_port"] == 5100
    assert [(peer["peer"], peer["endpoint"], peer["keepalive"], peer["allowed"], peer["cut"]) for peer in dumped] == [
        (a, "192.0.2.1:51820", 25, ["100.64.0.1/32"], False), (b, "[2001:db8::1]:51820", 0, many[:256], True), (c, "", 0, [], False)]


def test_no_change_sends_no_message(here):
    assert [line["result"] for line in here.probe("messages", "7", "33", input="device\ncommit\n")] == [0]


def test_without_wireguard_in_the_kernel_both_say_so(here):
    if here.result("available") == 1:
        pytest.skip("this kernel has WireGuard")
    assert here.result("link", "lbw0", "wireguard") == -95  # EOPNOTSUPP
    assert here.result("dump", "kernel", "lbw0") == -19  # ENODEV


# -- rtnetlink --------------------------------------------------------------------------------------------------------------------


def test_links_are_what_ip_shows(here):
    here.ip("link", "add", "lbwv0", "type", "veth", "peer", "name", "lbwv1")
    assert here.result("link", "lbwv0", "1380", "up") == 0
    links = {link["name"]: link for link in here.probe("links")[:-1]}
    assert set(links) == {link["ifname"] for link in here.ip_json("link")}
    for link in here.ip_json("link"):
        ours = links[link["ifname"]]
        assert (ours["index"], ours["mtu"], ours["up"], ours["loopback"], ours["kind"]) == (
            link["ifindex"], link["mtu"], "UP" in link["flags"], "LOOPBACK" in link["flags"],
            link.get("linkinfo", {}).get("info_kind", ""))
    assert links["lbwv0"]["mtu"] == 1380 and links["lbwv0"]["up"] and not links["lbwv1"]["up"]
    assert here.result("link", "lbwv0", "0", "down") == 0
    (shown_link,) = here.ip_json("link", "show", "lbwv0")
    assert shown_link["mtu"] == 1380 and "UP" not in shown_link["flags"]
    assert here.result("link", "lbwv0", "delete") == 0 and here.result("link", "lbwv0", "delete") == -19


def test_addresses_and_routes_carry_our_protocol_and_others_stay(here):
    here.ip("link", "add", "lbwv0", "type", "veth", "peer", "name", "lbwv1")
    here.ip("link", "set", "lbwv0", "up")
    here.ip("address", "add", "192.0.2.1/24", "dev", "lbwv0")
    here.ip("route", "add", "198.51.100.0/24", "dev", "lbwv0")
    index = here.ip_json("link", "show", "lbwv0")[0]["ifindex"]

    for address in ("100.64.0.1/32", "fd00::1/128"):
        assert here.result("address", "add", "lbwv0", address) == 0
        assert here.result("address", "add", "lbwv0", address) == -17  # EEXIST
    assert here.result("address", "add", "lbwv0", "100.64.0.0/24") == -22  # not of full length
    listed = {(line["address"], line["ours"], line["usable"]) for line in here.probe("addresses")[:-1] if line["index"] == index}
    assert {("192.0.2.1/24", False, True), ("100.64.0.1/32", True, True), ("fd00::1/128", True, True)} <= listed
    seen = {a["local"]: a for a in here.ip_json("address", "show", "dev", "lbwv0")[0]["addr_info"]}
    assert seen["100.64.0.1"]["prefixlen"] == 32 and seen["fd00::1"]["prefixlen"] == 128 and seen["fd00::1"].get("nodad")

    assert here.result("route", "add", "lbwv0", "100.64.0.0/10", "100.64.0.1") == 0
    assert here.result("route", "add", "lbwv0", "fd00::/64", "fd00::1") == 0
    assert here.result("route", "add", "lbwv0", "100.64.0.0/10") == -17
    listed = {(line["destination"], line["protocol"], line["table"]) for line in here.probe("routes")[:-1]
              if line["index"] == index}
    assert {("100.64.0.0/10", 158, 254), ("fd00::/64", 158, 254), ("198.51.100.0/24", 3, 254), ("192.0.2.0/24", 2, 254)} <= listed
    assert not any(destination.startswith("127.") for destination, _, _ in listed)
    (four,) = here.ip_json("route", "show", "proto", "158")
    (six,) = here.ip_json("-6", "route", "show", "proto", "158")
    assert (four["dst"], four["dev"], four["prefsrc"], four["scope"]) == ("100.64.0.0/10", "lbwv0", "100.64.0.1", "link")
    assert (six["dst"], six["dev"], six["prefsrc"]) == ("fd00::/64", "lbwv0", "fd00::1")

    assert here.result("route", "delete", "lbwv0", "198.51.100.0/24") == -3  # ESRCH: not ours
    for route in ("100.64.0.0/10", "fd00::/64"):
        assert here.result("route", "delete", "lbwv0", route) == 0
        assert here.result("route", "delete", "lbwv0", route) == -3
    for address in ("100.64.0.1/32", "fd00::1/128"):
        assert here.result("address", "delete", "lbwv0", address) == 0
        assert here.result("address", "delete", "lbwv0", address) == -99  # EADDRNOTAVAIL
    assert [route["dst"] for route in here.ip_json("route")] == ["192.0.2.0/24", "198.51.100.0/24"]


# -- handing over to wireguard-go -----------------------------------------------------------------------------------------------------


def test_two_launched_tunnels_reach_each_other(here, programs, tmp_path, socket_path):
    there = Namespace(NAMESPACE + "2", programs)
    try:
        run("ip", "link", "add", "lbwv0", "netns", here.name, "type", "veth", "peer", "name", "lbwv1", "netns", there.name)
        keys = new_key(), new_key()
        for number, side in enumerate((here, there)):
            side.ip("address", "add", f"192.0.2.{number + 1}/24", "dev", f"lbwv{number}")
            side.ip("link", "set", f"lbwv{number}", "up")
        for number, side in enumerate((here, there)):
            tunnel, path = f"lbwt{number}", socket_path + str(number)
            assert side.grant(tunnel, path)[1] == 0
            side.launch(path)
            change = (f"private={keys[number]} port=5100", [
                f"{public_of(keys[1 - number])} replace endpoint=192.0.2.{2 - number}:5100 allowed=100.64.0.{2 - number}/32"])
            assert side.apply(tunnel, change)[-1]["result"] == 0
            assert side.result("address", "add", tunnel, f"100.64.0.{number + 1}/32") == 0
            assert side.result("link", tunnel, "1300", "up") == 0
            assert side.result("route", "add", tunnel, "100.64.0.0/10", f"100.64.0.{number + 1}") == 0
        here.enter("ping", "-c", "3", "-i", "0.2", "-W", "8", "100.64.0.2")
        here.enter("ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1272", "100.64.0.2")  # 1300 bytes
        _, dumped = here.dump("lbwt0")
        (peer,) = dumped.values()
        assert abs(peer["handshake"] - time.time()) < 30 and peer["rx"] > 1272 and peer["tx"] > 1272
    finally:
        there.take_down()


def test_the_launched_program_is_unprivileged_and_has_what_it_needs(here, socket_path):
    assert here.grant("lbwcwait", socket_path)[1] == 0
    process = here.launch(socket_path, "--program", here.programs["wgprobe"], stdin=subprocess.PIPE)
    found = json.loads(process.stdout.readline())
    assert found["fds"] == [0, 1, 2, 3, 4]
    assert sorted(found["environment"][1:]) == ["LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1", "WG_TUN_FD=3", "WG_UAPI_FD=4"]
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    assert set(status["Uid"].split()) == {"65534"} and set(status["Gid"].split()) == {"65534"} and status["Groups"].strip() == ""
    assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert os.stat(f"/proc/{process.pid}/fd/3").st_rdev == os.makedev(10, 200)  # /dev/net/tun


KILLED, NO_SUCH_CALL, DENIED = -signal.SIGSYS, 38, 13


@pytest.mark.parametrize("misdeed, outcome", [
    ("mtu", 0), ("up", NO_SUCH_CALL), ("exec", NO_SUCH_CALL), ("fork", NO_SUCH_CALL), ("packet", NO_SUCH_CALL),
    ("filter", NO_SUCH_CALL), ("read", DENIED), ("write", DENIED), ("ptrace", KILLED), ("mount", KILLED), ("unshare", KILLED),
    ("setuid", KILLED),
])
def test_a_taken_over_program_gets_nowhere(here, socket_path, misdeed, outcome):
    interface = "lbwc" + misdeed
    assert here.grant(interface, socket_path)[1] == 0
    before = here.ip_json("link", "show", interface)[0]["mtu"]
    process = here.launch(socket_path, "--program", here.programs["wgprobe"])
    output = process.communicate(timeout=10)[0]
    if outcome == KILLED:
        assert process.returncode == KILLED and output == ""
    else:
        assert json.loads(output)["result"] == -outcome
        assert before == 1500 and not os.path.exists("/tmp/lbwcwrite")


def test_root_is_refused_without_a_user(here, socket_path):
    refused = subprocess.run([here.programs["wg-launch"], "--socket", socket_path], text=True, capture_output=True, check=False)
    assert refused.returncode == 1 and "--user" in refused.stderr


@pytest.mark.parametrize("words", [("--nonsense",), ("extra",)])
def test_what_wg_launch_does_not_understand_it_refuses(here, words):
    assert subprocess.run([here.programs["wg-launch"], *words], capture_output=True, check=False).returncode == 2


def test_help_and_version(here):
    assert "--socket" in run(here.programs["wg-launch"], "--help")
    assert run(here.programs["wg-launch"], "--version").startswith("wg-launch ")


def test_descriptors_that_are_not_a_tunnel_are_refused(here, socket_path):
    assert here.grant("lbw0", socket_path, "swapped")[1] == 0
    process = here.launch(socket_path, stderr=subprocess.PIPE)
    errors = process.communicate(timeout=10)[1]
    assert process.returncode == 1 and "not the TUN interface lbw0" in errors


def test_a_socket_left_behind_is_replaced_and_a_live_one_is_not(here, programs, socket_path):
    there = Namespace(NAMESPACE + "2", programs)
    try:
        process, result = here.grant("lbw0", socket_path)
        assert result == 0
        assert there.grant("lbw0", socket_path + "2")[1] == -98  # EADDRINUSE
        assert here.grant("lbw0", socket_path + "3")[1] == -16  # EBUSY: the name is taken
        process.kill()
        process.wait()
        assert there.grant("lbw0", socket_path + "4")[1] == 0
    finally:
        there.take_down()


def test_only_the_owner_may_configure(here, socket_path):
    before = os.umask(0o077)
    try:
        assert here.grant("lbw0", socket_path)[1] == 0
    finally:
        os.umask(before)
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/wireguard/lbw0.sock')"
    command = ["/usr/bin/python3", "-c", connect]
    subprocess.run(command, check=True)
    refused = subprocess.run(command, user="nobody", group="nogroup", extra_groups=[], text=True, capture_output=True, check=False)
    assert "PermissionError" in refused.stderr
