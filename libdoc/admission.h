/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admission list of a locked network: who may be a peer in it, signed by an operator. The control plane can store and serve one, never make one.
 *
 * Payload: [header, flags, count, root, [bridged network id ...]]. header.id is the network's. The generation is the list's own and orders lists alone: an epoch
 * begins with what a control plane lost, and an operator's word is not among that. So nobody who is off a list comes back with an older one.
 *
 * The hosts are in blobs named by hash, so that one admission costs a path: a trie over the ids themselves, two bits a level from the high end. Up to 16 ids
 * are a leaf, more are a branch over the next two bits; equal lists have equal bytes.
 *
 *   leaf:   [0, hosts]          one binary, 24 bytes a host: its id, and the generation of the list by which it came (big endian); by id, ascending; only
 *                               the root may be empty
 *   branch: [1, [child ...]]    as in a trie of peers (libdoc/trie.h), whose walk goes over these nodes as well as long as nobody asks for peers
 */
#pragma once

#include "libdoc/keyset.h"
#include "libdoc/trie.h"

#define ADMISSION_LEAF_MAX 16
#define ADMITTED_BYTES (ID_BYTES + 8)

struct admitted {
	struct id host;
	uint64_t since; /* generation of the list by which it came, or came back: who is off a list needs a later one to be on it again */
};

enum admission_flags {
	ADMISSION_LOCKED = 1 << 0, /* without it: the operators unlock the network, or prepare its list */
};

struct admission {
	struct document_header header;
	uint32_t flags;
	uint32_t count; /* hosts on the list */
	struct hash root;
	unsigned bridge_count;
	struct id bridges[BRIDGES_MAX]; /* networks that may be bridged to this one; ascending */
};

/** @return 0; -EINVAL too many bridges, or not ascending; -ENOMEM */
_must_check_ int admission_encode(const struct admission *admission, struct pack_writer *payload);
/** Decode a verified payload. @return 0; -EBADMSG */
_must_check_ int admission_decode(struct view payload, struct admission *admission);
/** Verify by an operator key of the keyset, and decode. @return 0; -EKEYREJECTED; -EBADMSG; -EMSGSIZE */
_must_check_ int admission_open(const void *bytes, size_t n, const struct keyset *keyset, struct admission *admission);
/* Co-signature, signed by an operator: [header, hash of the payload of a network's manifest]. The header is of the network and of the manifest's generation. */
_must_check_ int cosign_encode(const struct document_header *header, const struct hash *manifest, struct pack_writer *payload);
/** Verify by an operator key, and that it is for this payload of this network and generation. @return 0; -EKEYREJECTED; -EBADMSG; -EMSGSIZE */
_must_check_ int cosign_open(const void *bytes, size_t n, const struct keyset *keyset, const struct document_header *manifest, struct view payload);

/** May this network be bridged to the one of the list? */
bool admission_bridges(const struct admission *admission, const struct id *network);

/** A host as bytes, ADMITTED_BYTES of them, and back. */
void admitted_write(const struct admitted *host, uint8_t *bytes);
void admitted_read(const uint8_t *bytes, struct admitted *host);

/**
 * Name the nodes of a list.
 * @param hosts ascending by id, none twice
 * @param emit called for each node, children first; may be NULL
 * @return 0; -EINVAL not ascending; -E2BIG more than PEERS_MAX; emit's negative result; -ENOMEM
 */
_must_check_ int admission_build(const struct admitted *hosts, size_t count, trie_emit_fn *emit, void *arg, struct hash *root);

/**
 * Read a whole list, and check that it has the one shape that it can have and as many hosts as its document says.
 * @param hosts receives the list, ascending; the caller's: free(). Untouched on failure
 * @return 0; -ENOENT a node is missing; -EBADMSG; -ENOMEM
 */
_must_check_ int admission_load(const struct hash *root, uint32_t count, trie_lookup_fn *lookup, void *arg, struct admitted **hosts);

/** @return the entry of a host among these, which are ascending; NULL */
const struct admitted *admitted_find(const struct admitted *hosts, size_t count, const struct id *host);
/** Is an id among these, which are ascending? */
bool id_listed(const struct id *ids, size_t count, const struct id *id);

/**
 * Look for a peer that is not on a list.
 * @param hosts ascending
 * @param before a trie of peers that were all looked up in the same list: only what differs is looked at; NULL: all
 * @param peers the trie
 * @param stranger receives the first that is not listed, on -EACCES
 * @return 0 everybody is listed; -EACCES; as trie_diff()
 */
_must_check_ int admission_strangers(const struct admitted *hosts, size_t count, const struct hash *before, const struct hash *peers,
				     trie_lookup_fn *lookup, void *arg, struct id *stranger);
/** The same, for who has the list's nodes in the same place as the peers'. @return as both */
_must_check_ int admission_check(const struct admission *admission, const struct hash *before, const struct hash *peers, trie_lookup_fn *lookup,
				 void *arg, struct id *stranger);

/**
 * Can a list follow another one that was seen? Whoever is on it and was not on that one must have been admitted since: else it was made of one from before, and
 * somebody who was taken off would be on it again.
 * @param stranger receives the first that must not be on it, on -EACCES
 * @return 0; -EACCES; as admission_load()
 */
_must_check_ int admission_follows(const struct admission *before, const struct admission *after, trie_lookup_fn *lookup, void *arg,
				   struct id *stranger);
