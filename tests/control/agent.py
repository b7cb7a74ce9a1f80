# SPDX-License-Identifier: Apache-2.0
"""A host as the control plane sees it: netd's keys and documents, fetchd's requests; no interface, no daemons."""

import base64
import hashlib
import os
import time

import wire
from plane import Answer  # noqa: F401  (what requests return)


class Agent:
    """One host. What it holds is checked as netd checks it."""

    def __init__(self, plane, seed, name=None):
        self.plane, self.name = plane, name or f"h{seed}"
        self.host, self.transport = wire.Key(f"host {seed}"), wire.Key(f"transport {seed}")
        self.wg_key = hashlib.sha256(f"wg {seed}".encode()).digest()
        self.counter, self.registrations, self.receipts = 1, 0, 0
        self.next_key = None  # (key, counter) that is to follow
        self.deployment = plane.deployment
        self.port = 51820
        self.addresses = []           # underlay, "192.0.2.1:51820"
        self.entries = {}             # what is in force: (type, id) -> [type, id, epoch, generation, hash]
        self.roots = {}               # of networks
        self.lists = {}               # roots of their admission lists
        self.nodes, self.documents = {}, {}
        self.clock_offset = 0
        self.from_address = None      # what a proxy says of it
        self.assignable = False       # takes keys that the control plane makes
        self.mark = ""                # of the process of fetchd: 16 characters

    @property
    def id(self):
        """The host's id."""
        return wire.host_id(self.host.public)

    # -- documents of its own

    def registration(self, new=True):
        """A signed registration, of a new generation unless new is false."""
        self.registrations += 1 if new else 0
        payload = [wire.header(self.deployment, wire.ZERO_ID, self.id, 1, self.registrations), self.host.public,
                   [self.wg_key, self.counter, wire.statement(self.host, self.wg_key, self.counter, self.deployment)],
                   wire.next_of(self.host, self.next_key, self.deployment), self.transport.public, self.port, "userspace", "0.1.0", [wire.endpoint(text) for text in self.addresses],
                   int(self.assignable)]
        return wire.envelope(wire.REGISTRATION, payload, self.host)

    def rekey(self, word="new"):
        """A new WireGuard key."""
        self.wg_key = hashlib.sha256(self.wg_key + word.encode()).digest()
        self.counter += 1

    def receipt(self, outcome=1, code="", reason="", entries=None, confirm=1, mended=0, moving=0):
        """A signed receipt for what is in force, or for these entries. confirm: as enum confirm of libdoc/host.h"""
        self.receipts += 1
        payload = [wire.header(self.deployment, wire.ZERO_ID, self.id, 1, self.receipts), outcome, code, reason,
                   [entry[:5] for entry in (entries if entries is not None else self.entries.values())], 1500, len(self.entries),
                   confirm, mended, moving]
        return wire.envelope(wire.RECEIPT, payload, self.host)

    # -- requests

    def signed_headers(self, path, body, **wrong):
        """RFC 9421 as docs/design/agent-api.md has it. wrong: parts to replace."""
        digest = wrong.get("digest", "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":")
        created = wrong.get("created", int(time.time()) + self.clock_offset)
        nonce = wrong.get("nonce") or (self.mark and self.mark + ".") + base64.b64encode(os.urandom(16)).decode()
        key = wrong.get("key", self.transport)
        parameters = (f'("@method" "@path" "content-digest");created={created};keyid="{wrong.get("keyid", self.id.hex())}"'
                      f';nonce="{nonce}";alg="ed25519";tag="{wrong.get("tag", "loopback-agent")}"')
        parameters = wrong.get("parameters", parameters)
        base = f'"@method": POST\n"@path": {path}\n"content-digest": {digest}\n"@signature-params": {parameters}'
        return {"Content-Digest": digest, "Signature-Input": "loopback=" + parameters,
                "Signature": "loopback=:" + base64.b64encode(key.sign(base.encode())).decode() + ":",
                "Content-Type": "application/msgpack"}

    def post(self, path, value, **wrong):
        """A signed request with a msgpack body."""
        body = value if isinstance(value, bytes) else wire.pack(value)
        return self.plane.request("POST", path, body, dict(self.signed_headers(path, body, **wrong), **self.forwarded()))

    def forwarded(self):
        """The header that a proxy adds."""
        return {"X-Forwarded-For": self.from_address} if self.from_address else {}

    def enroll(self, token, registration=None, name=None):
        """Returns the answer."""
        body = wire.pack([registration or self.registration(), self.name if name is None else name])
        return self.plane.request("POST", "/v1/agent/enroll", body,
                                  dict(self.forwarded(), Authorization="Bearer " + token))

    def enrolled(self, token):
        """Enrol; must succeed. Returns self."""
        answer = self.enroll(token)
        assert answer.status == 200, answer.body
        assert answer.msgpack == [self.id]
        return self

    def have(self):
        """What is in force, as a poll tells it."""
        return wire.pack([entry + [self.lists.get(key[1], b"") if key[0] == wire.ADMISSION else
                          self.roots.get(key[1], b"") if key[0] == wire.NETWORK else b""]
                          for key, entry in self.entries.items()])

    def poll_body(self, wait=0, receipts=(), registration=b"", nonce=None, have=None):
        """The body of a poll."""
        return [nonce or os.urandom(32), self.have() if have is None else have, list(receipts), registration, wait]

    def poll(self, wait=0, receipts=(), registration=b"", **wrong):
        """Poll; the raw answer."""
        return self.post("/v1/agent/poll", self.poll_body(wait, receipts, registration), **wrong)

    def apply(self, wait=0, receipts=(), registration=b""):
        """Poll, verify everything as netd does, and hold it. Returns how many blobs came."""
        body = self.poll_body(wait, receipts, registration)
        answer = self.post("/v1/agent/poll", body)
        assert answer.status == 200, f"{answer.status} {answer.body}"
        return self.take(answer.msgpack, body[0])

    def take(self, answer, nonce):
        """Verify an answer to a poll and hold what it names."""
        keyset, head_bytes, blobs = answer
        if keyset:
            wire.opened(keyset, wire.KEYSET, self.plane.root.public)
            self.documents[wire.hash_of(keyset)] = keyset
        header, host, named_nonce, entries = wire.opened(head_bytes, wire.HEAD, self.plane.signd.public)
        assert host == self.id and named_nonce == nonce and header[0] == self.deployment
        for blob in blobs:
            self.documents[wire.hash_of(blob)] = blob
        self.entries = {(entry[0], entry[1]): entry for entry in entries}
        self.roots, self.lists = {}, {}
        signers = {wire.KEYSET: self.plane.root, wire.ADMISSION: self.plane.operator}
        for kind, object_id, epoch, generation, name in entries:
            payload = unpacked = wire.opened(self.documents[name], kind, signers.get(kind, self.plane.signd).public)
            assert unpacked[0][2:5] == [object_id, epoch, generation]
            if kind == wire.NETWORK:
                self.roots[object_id] = payload[8]
                assert len(self.peers(object_id)) == payload[7], "the manifest counts peers"
            if kind == wire.ADMISSION:
                self.lists[object_id] = payload[3]
                assert len(self.admitted(object_id)) == payload[2], "the list counts hosts"
                assert not payload[1] & 1 or set(self.peers(object_id)) <= self.admitted(object_id), "only admitted hosts are peers"
        return len(blobs)

    def blobs(self, names):
        """Fetch blobs by name."""
        return self.post("/v1/agent/blobs", [list(names)])

    def departure(self, signer=None, host_id=None, generation=None):
        """What netd signs for root when this host leaves: numbered with all that it signs."""
        if generation is None:
            self.registrations += 1
            generation = self.registrations
        header = wire.header(self.deployment, wire.ZERO_ID, host_id or self.id, 1, generation)
        return wire.envelope(wire.DEPARTURE, [header, (signer or self.host).public], signer or self.host)

    def leave(self, departure=None):
        """Leave."""
        return self.post("/v1/agent/leave", [self.departure() if departure is None else departure])

    # -- what it knows

    def peers(self, network):
        """host id -> entry, each one's statement verified."""
        peers = wire.trie_peers(self.roots[network], self.documents)
        for entry in peers.values():
            body = wire.pack([self.deployment, entry[0], entry[1], entry[2]])
            assert wire.verifies(entry[3], wire.pae("loopback/statement/1", body), entry[0])
        return peers

    def own_document(self):
        """Its host document, unpacked."""
        return wire.unpack(wire.unpack(self.documents[self.entries[wire.HOST, self.id][4]])[1])

    def admitted(self, network):
        """The ids on a network's list."""
        return set(wire.listed(self.lists[network], self.documents))

    def network_ids(self):
        """Of the networks that it is in."""
        return [key[1] for key in self.entries if key[0] == wire.NETWORK]

    def own_addresses(self):
        """Of its host document, as text."""
        import ipaddress
        return [str(ipaddress.ip_address(address)) for _, addresses in self.own_document()[2] for _, address in addresses]

    def generation(self, network):
        """Of a network, as it is in force here."""
        return self.entries[wire.NETWORK, network][3]
