# SPDX-License-Identifier: Apache-2.0
"""The formats of what is signed and sent, written a second time from docs/design and the headers: what tests compare with.

msgpack of the few types that are used, Ed25519 by libsodium, documents, tries, the frames of the sign socket.
"""

import ctypes
import hashlib
import ipaddress
import struct

_SODIUM = ctypes.CDLL("libsodium.so.23")
if _SODIUM.sodium_init() < 0:
    raise RuntimeError("libsodium does not start")

KEYSET, HEAD, NETWORK, HOST, REGISTRATION, RECEIPT, DEPARTURE, ADMISSION, COSIGN = 1, 2, 3, 4, 5, 6, 7, 8, 9
TYPE_NAMES = {KEYSET: "loopback/keyset/1", HEAD: "loopback/head/1", NETWORK: "loopback/network/1", HOST: "loopback/host/1",
              REGISTRATION: "loopback/registration/1", RECEIPT: "loopback/receipt/1", DEPARTURE: "loopback/departure/1",
              ADMISSION: "loopback/admission/1", COSIGN: "loopback/cosign/1"}
KEY_ONLINE, KEY_OPERATOR = 1, 2
ZERO_ID = bytes(16)


# -- msgpack ------------------------------------------------------------------------------------------------------------------

def _head(n, fix, fix_max, codes):
    if fix is not None and n <= fix_max:
        return bytes([fix | n])
    for code, form, top in codes:
        if n <= top:
            return bytes([code]) + struct.pack(form, n)
    raise ValueError("too long")


def pack(value):
    """msgpack of None, booleans, unsigned integers, str, bytes, lists."""
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _head(value, 0, 127, [(0xcc, ">B", 0xff), (0xcd, ">H", 0xffff), (0xce, ">I", 0xffffffff),
                                     (0xcf, ">Q", 0xffffffffffffffff)])
    if isinstance(value, str):
        raw = value.encode()
        return _head(len(raw), 0xa0, 31, [(0xd9, ">B", 0xff), (0xda, ">H", 0xffff), (0xdb, ">I", 0xffffffff)]) + raw
    if isinstance(value, (bytes, bytearray)):
        return _head(len(value), None, 0, [(0xc4, ">B", 0xff), (0xc5, ">H", 0xffff), (0xc6, ">I", 0xffffffff)]) + bytes(value)
    if isinstance(value, (list, tuple)):
        return (_head(len(value), 0x90, 15, [(0xdc, ">H", 0xffff), (0xdd, ">I", 0xffffffff)])
                + b"".join(pack(element) for element in value))
    raise TypeError(f"no msgpack for {type(value)}")


def _unpack_at(data, at):
    code = data[at]
    at += 1
    if code <= 0x7f:
        return code, at
    if 0x90 <= code <= 0x9f:
        return _unpack_list(data, at, code & 15)
    if 0xa0 <= code <= 0xbf:
        return data[at:at + (code & 31)].decode(), at + (code & 31)
    if code in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[code], at
    width = {0xc4: 1, 0xc5: 2, 0xc6: 4, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4}[code]
    n = int.from_bytes(data[at:at + width], "big")
    at += width
    if code in (0xcc, 0xcd, 0xce, 0xcf):
        return n, at
    if code in (0xdc, 0xdd):
        return _unpack_list(data, at, n)
    if at + n > len(data):
        raise ValueError("truncated")
    return (bytes(data[at:at + n]) if code in (0xc4, 0xc5, 0xc6) else data[at:at + n].decode()), at + n


def _unpack_list(data, at, n):
    values = []
    for _ in range(n):
        value, at = _unpack_at(data, at)
        values.append(value)
    return values, at


def unpack(data):
    """The one value that these bytes are."""
    value, at = _unpack_at(data, 0)
    if at != len(data):
        raise ValueError("trailing bytes")
    return value


# -- keys ---------------------------------------------------------------------------------------------------------------------

class Key:
    """An Ed25519 key pair, made from a seed."""

    def __init__(self, seed):
        seed = seed if isinstance(seed, bytes) and len(seed) == 32 else hashlib.sha256(str(seed).encode()).digest()
        self.public = bytes(32)
        public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
        _SODIUM.crypto_sign_seed_keypair(public, secret, seed)
        self.public, self._secret = public.raw, secret.raw

    def seal_open(self, box):
        """What is in a sealed box to this key's X25519 form; None if it is not for this key."""
        public, secret, content = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32), ctypes.create_string_buffer(len(box) - 48)
        _SODIUM.crypto_sign_ed25519_sk_to_curve25519(secret, self._secret)
        _SODIUM.crypto_scalarmult_base(public, secret)
        r = _SODIUM.crypto_box_seal_open(content, box, ctypes.c_ulonglong(len(box)), public, secret)
        return content.raw if r == 0 else None

    def sign(self, message):
        """A detached signature."""
        signature = ctypes.create_string_buffer(64)
        _SODIUM.crypto_sign_detached(signature, None, message, ctypes.c_ulonglong(len(message)), self._secret)
        return signature.raw


def verifies(signature, message, public):
    """Does this signature verify?"""
    return _SODIUM.crypto_sign_verify_detached(signature, message, ctypes.c_ulonglong(len(message)), public) == 0


def hash_of(data):
    """How every blob is named."""
    return hashlib.blake2b(data, digest_size=32).digest()


def host_id(host_key):
    """A host's id."""
    return hash_of(host_key)[:16]


# -- documents -----------------------------------------------------------------------------------------------------------------

def pae(kind, body):
    """DSSE v1 pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def envelope(kind, payload, *keys):
    """Sign a payload."""
    body = pack(payload) if isinstance(payload, list) else payload
    name = TYPE_NAMES[kind]
    return pack([name, body, [[key.public[:8], key.sign(pae(name, body))] for key in keys]])


def opened(data, kind, public):
    """Verify an envelope and unpack its payload."""
    name, body, signatures = unpack(data)
    assert name == TYPE_NAMES[kind], name
    assert any(verifies(signature, pae(name, body), public) for hint, signature in signatures if hint == public[:8]), "signature"
    return unpack(body)


def header(deployment, organization, object_id, epoch, generation, issued=1700000000):
    """What every payload begins with."""
    return [deployment, organization, object_id, epoch, generation, issued]


def prefix(text):
    """An address or range as it stands in documents."""
    network = ipaddress.ip_network(text)
    return [network.prefixlen, network.network_address.packed]


def endpoint(text):
    """ADDRESS:PORT as it stands in documents."""
    address, port = text.rsplit(":", 1)
    return [int(port), ipaddress.ip_address(address.strip("[]")).packed]


def wg_public(private):
    """The public half of a WireGuard key."""
    public = ctypes.create_string_buffer(32)
    _SODIUM.crypto_scalarmult_base(public, private)
    return public.raw


def statement(host, wg_key, counter, deployment):
    """A host vouches for its WireGuard key: the signature."""
    return host.sign(pae("loopback/statement/1", pack([deployment, host.public, wg_key, counter])))


def next_of(host, next_key, deployment):
    """(key, counter) of the key that is to follow, as registrations and peer entries have it; None: none."""
    return [next_key[0], next_key[1], statement(host, next_key[0], next_key[1], deployment)] if next_key else []


def peer(host, wg_key, counter, deployment, addresses, endpoints=(), next_key=None):
    """A peer's entry in a trie."""
    return [host.public, wg_key, counter, statement(host, wg_key, counter, deployment), next_of(host, next_key, deployment), [prefix(text) for text in addresses],
            [endpoint(text) for text in endpoints]]


# -- tries ---------------------------------------------------------------------------------------------------------------------

def digit(place, depth):
    """Which of four children a place is below, at a depth."""
    return place[depth // 4] >> (6 - 2 * (depth % 4)) & 3


def trie(peers):
    """(root, {name: bytes}) of these peers; built from nothing, without regard to speed."""
    nodes = {}

    def place(entry):
        return hash_of(host_id(entry[0]))

    def build(entries, depth):
        if len(entries) <= 4:
            data = pack([0, sorted(entries, key=place)])
        else:
            children = [[entry for entry in entries if digit(place(entry), depth) == i] for i in range(4)]
            data = pack([1, [build(child, depth + 1) if child else b"" for child in children]])
        nodes[hash_of(data)] = data
        return hash_of(data)

    root = build(list(peers), 0)
    return root, nodes


def listing(hosts):
    """(root, {name: bytes}) of an admission list {id: generation by which it came}; built from nothing, without regard to speed."""
    nodes = {}

    def build(some, depth):
        if len(some) <= 16:
            data = pack([0, b"".join(one + hosts[one].to_bytes(8, "big") for one in sorted(some))])
        else:
            children = [[one for one in some if digit(one, depth) == i] for i in range(4)]
            data = pack([1, [build(child, depth + 1) if child else b"" for child in children]])
        nodes[hash_of(data)] = data
        return hash_of(data)

    return build(list(hosts), 0), nodes


def listed(root, nodes):
    """The list below a root, {id: generation by which it came}; KeyError if a node is missing."""
    kind, content = unpack(nodes[root])
    if kind == 0:
        return {content[i:i + 16]: int.from_bytes(content[i + 16:i + 24], "big") for i in range(0, len(content), 24)}
    found = {}
    for child in content:
        if child:
            found.update(listed(child, nodes))
    return found


def trie_peers(root, nodes):
    """All peers below a root, by host id; KeyError if a node is missing."""
    kind, content = unpack(nodes[root])
    if kind == 0:
        return {host_id(entry[0]): entry for entry in content}
    found = {}
    for child in content:
        if child:
            found.update(trie_peers(child, nodes))
    return found
