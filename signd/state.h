/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What signd remembers: the last document that it signed for each id, the tries behind the networks, who is in them, and how far each
 * host's statements have come. It is signd's own memory: nothing in it comes from controld without having been checked.
 *
 * SQLite, WAL, synchronous=FULL: what is committed survives a power cut, and a signature leaves only after its commit.
 */
#pragma once

#include "libdoc/envelope.h"
#include "libdoc/trie.h"
#include "libstore/store.h"

struct state;

/** state.db, for backups. */
extern const struct store_kind signd_store;

/** Open, or create, DIR/state.db. @return 0; negative errno, logged */
_must_check_ int state_open(const char *dir, struct state **state);
void state_free(struct state *state);
DEFINE_CLEANUP(struct state *, state_free)

/** One transaction at a time. commit returns once the disk has it. */
_must_check_ int state_begin(struct state *state);
_must_check_ int state_commit(struct state *state);
void state_rollback(struct state *state);

/** The last document that was signed for an id. */
struct signed_document {
	enum document_type type;
	struct id id, organization;
	uint32_t epoch;
	uint64_t generation;
	struct hash hash; /* of the envelope */
	uint8_t *envelope; /* owned: signed_document_clear(); NULL when only the entry was asked for */
	size_t envelope_n;
};

void signed_document_clear(struct signed_document *document);
#define _cleanup_document_ CLEANUP(signed_document_clear)

/** @param whole with the envelope @return 0; -ENOENT nothing was signed for it yet */
_must_check_ int state_document(struct state *state, enum document_type type, const struct id *id, bool whole,
				struct signed_document *document);
/** Replaces the last one. Borrows document. */
_must_check_ int state_document_put(struct state *state, const struct signed_document *document);

/** Nodes of a network's last signed trie. Bytes are borrowed until the next lookup. @return 0; -ENOENT */
_must_check_ int state_node(struct state *state, const struct id *network, const struct hash *name, struct view *bytes);
_must_check_ int state_node_put(struct state *state, const struct id *network, const struct hash *name, struct view bytes);
_must_check_ int state_node_drop(struct state *state, const struct id *network, const struct hash *name);

/** Nodes of a network's admission list. Bytes are borrowed until the next lookup, of whatever kind. @return 0; -ENOENT */
_must_check_ int state_list_node(struct state *state, const struct id *network, const struct hash *name, struct view *bytes);
/** Another list: begin, put all of its nodes, end. What was not put is gone then. */
_must_check_ int state_list_begin(struct state *state, const struct id *network);
_must_check_ int state_list_node_put(struct state *state, const struct id *network, const struct hash *name, struct view bytes);
_must_check_ int state_list_end(struct state *state, const struct id *network);

/** Forget all nodes, members and addresses of a network, before it is taken in anew. */
_must_check_ int state_network_clear(struct state *state, const struct id *network);

/**
 * Note a member and its addresses.
 * @return 0; -ENOTUNIQ its WireGuard key is another member's; -EADDRINUSE one of its addresses is (then *taken names it)
 */
_must_check_ int state_member_put(struct state *state, const struct id *network, const struct peer *peer, const struct prefix **taken);
_must_check_ int state_member_drop(struct state *state, const struct id *network, const struct id *host);
/** Is this host a member? @return 1; 0; negative errno */
_must_check_ int state_member(struct state *state, const struct id *network, const struct id *host);
/** Does this member hold this address? @return 1; 0; negative errno */
_must_check_ int state_member_holds(struct state *state, const struct id *network, const struct id *host, const struct prefix *address);
/** How many addresses has this member? @return the number; negative errno */
_must_check_ int state_member_address_count(struct state *state, const struct id *network, const struct id *host);

/** The highest statement counter seen of a host and its key. @return 0; -ENOENT */
_must_check_ int state_counter(struct state *state, const struct id *host, uint64_t *counter, uint8_t wg_key[static KEY_BYTES]);
_must_check_ int state_counter_put(struct state *state, const struct id *host, uint64_t counter, const uint8_t wg_key[static KEY_BYTES]);

/**
 * The networks that a head must name to a host: those of its last document, and those that are bridged with one of them (each of the two manifests
 * names the other).
 * @return their number, written to networks[NETWORKS_MAX]; -E2BIG more than fit; negative errno
 */
_must_check_ int state_host_networks(struct state *state, const struct id *host, struct id *networks);
_must_check_ int state_host_networks_put(struct state *state, const struct id *host, const struct id *networks, unsigned count);

/** Note what a network's manifest names as bridged with it. */
_must_check_ int state_bridges_put(struct state *state, const struct id *network, const struct id *others, unsigned count);

/** Single values: "root", "keyset". *value is the caller's: free(). @return 0; -ENOENT */
_must_check_ int state_meta(struct state *state, const char *name, uint8_t **value, size_t *n);
_must_check_ int state_meta_put(struct state *state, const char *name, const void *value, size_t n);
