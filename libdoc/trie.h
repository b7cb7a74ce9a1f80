/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Merkle trie of a network's peers: a change costs its path, not the network.
 *
 * A peer's place is given by BLAKE2b-256 of its host id, two bits a level from the high end. A node with at most 4 peers under it is a leaf;
 * with more it is a branch of 4 children. So the shape follows from the contents alone, and equal contents have an equal root.
 * Nodes this small make the path of a change short in bytes (docs/design/scale.md).
 *
 *   leaf:   [0, [peer ...]]          peers in the order of their places
 *   branch: [1, [child ...]]         4 binaries: the child's hash, or empty for no peer below
 *   peer:   [host key, WireGuard key, counter, signature, next, [address ...], [endpoint ...]]
 *   next:   [WireGuard key, counter, signature], the key that is to follow this one, while hosts move over to it; [] else
 *
 * A node's name is the hash of its bytes. An empty network is a leaf without peers: a signed fact, unlike a missing node.
 */
#pragma once

#include "libdoc/host.h"

#define TRIE_FANOUT 4
#define TRIE_LEAF_MAX 4
#define TRIE_DEPTH_MAX 64 /* 128 bits of a place: nobody finds five hosts that agree in more */
#define TRIE_NODE_BYTES_MAX 2048

struct peer {
	struct id host; /* computed from statement.host_key, not carried */
	struct statement statement;
	struct statement next; /* counter 0: none */
	unsigned address_count;
	struct prefix addresses[ADDRESSES_MAX]; /* of full length; AllowedIPs are exactly these (M3) */
	unsigned endpoint_count;
	struct endpoint endpoints[ENDPOINTS_MAX];
};

bool peer_equal(const struct peer *a, const struct peer *b);

/** Where a host stands. */
void trie_place(const struct id *host, struct hash *place);
/** Which child of the branch at a depth a place is below (0 is the root's). */
unsigned trie_digit(const uint8_t *place, unsigned depth);

/** A decoded node. */
struct trie_node {
	bool leaf;
	unsigned count;                            /* peers of a leaf */
	struct peer peers[TRIE_LEAF_MAX];
	bool present[TRIE_FANOUT];                 /* children of a branch */
	struct hash children[TRIE_FANOUT];
};

/**
 * Decode a node and check its shape: peers in order, no host twice, each one's place under this prefix, addresses well formed and of full length,
 * a branch with at least one child. Statements are NOT verified: statement_verify() is the caller's, once for each that is new.
 * @param path children taken from the root to here, depth of them
 * @return 0; -EBADMSG malformed; -EXDEV a peer stands where it does not belong
 */
_must_check_ int trie_node_decode(const void *bytes, size_t n, const uint8_t *path, unsigned depth, struct trie_node *node);

/* -- Building: the control plane's side. ------------------------------------------------------------------------------------------ */

struct trie; /* a whole trie in memory */

_must_check_ int trie_new(struct trie **trie);
void trie_free(struct trie *trie);
DEFINE_CLEANUP(struct trie *, trie_free)

/** Add a peer or replace the one of the same host (peer->host is computed here). @return 0; -ENOMEM; -EINVAL malformed */
_must_check_ int trie_put(struct trie *trie, const struct peer *peer);
/** @return 0; -ENOENT */
_must_check_ int trie_remove(struct trie *trie, const struct id *host);
/** @return the peer (borrowed until the next change), NULL */
const struct peer *trie_find(const struct trie *trie, const struct id *host);
uint32_t trie_count(const struct trie *trie);

/** Called for each node that is new since the last commit; bytes are borrowed for the call. */
typedef int trie_emit_fn(const struct hash *name, const void *bytes, size_t n, void *arg);
/** Compute hashes of what changed and name the root. @param emit may be NULL @return 0; emit's negative result; -ENOMEM */
_must_check_ int trie_commit(struct trie *trie, trie_emit_fn *emit, void *arg, struct hash *root);

/* -- Walking: anybody who has nodes by name. -------------------------------------------------------------------------------------- */

/** Look a node up by name. @return 0 with *bytes borrowed until the next lookup at the earliest; -ENOENT */
typedef int trie_lookup_fn(const struct hash *name, struct view *bytes, void *arg);

struct trie_diff_events {
	/** old NULL: added; new NULL: removed; both: replaced. Equal peers are not reported. Borrowed for the call. May be NULL: leaves are then not even decoded. */
	int (*peer)(const struct peer *old, const struct peer *new, void *arg);
	/** A node of the new trie that the lookup does not have; may be NULL, then it is -ENOENT. */
	int (*missing)(const struct hash *name, void *arg);
	/** Each node of the new trie that is not a node of the old one at the same path and that the lookup has; may be NULL. */
	int (*fresh)(const struct hash *name, struct view bytes, void *arg);
};

/**
 * What differs between two tries, in time proportional to the difference. Nodes' hashes are trusted: whoever fills the lookup checks them.
 * Subtries of the new trie that miss a node are not compared: call again when the missing are there, and act on peers only when none was missing.
 * A walk is bounded: more than 3 * PEERS_MAX nodes is -E2BIG.
 * @param old the root before; NULL: everything is new
 * @param new the root after; NULL: everything goes
 * @return 0; a callback's negative result; -EBADMSG, -EXDEV of a bad node; -ENOENT a node of the OLD trie is missing (caller falls back to old NULL)
 */
_must_check_ int trie_diff(const struct hash *old, const struct hash *new, trie_lookup_fn *lookup, const struct trie_diff_events *events,
			   void *arg);

/** Find one host. @return 0; -ENOENT no such host, or a node missing (then *missing is true); -EBADMSG */
_must_check_ int trie_get(const struct hash *root, const struct id *host, trie_lookup_fn *lookup, void *arg, struct peer *peer, bool *missing);
