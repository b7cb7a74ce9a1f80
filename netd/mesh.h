/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of documents that belong together, verified: what is in force, or what is about to be.
 *
 * The tries are the model: no second list of peers is kept. What a host's peer entry amounts to on the device is merged from the networks
 * that this host shares with it (M5), when it is asked for.
 */
#pragma once

#include "libdoc/admission.h"
#include "libdoc/head.h"
#include "libdoc/host.h"
#include "libdoc/network.h"
#include "libjournal/blobs.h"
#include "libdoc/owners.h"
#include "libjournal/state.h"
#include "libwg/wg.h"

struct mesh {
	unsigned count; /* of entries: the documents, as the head named them */
	struct head_entry entries[HEAD_ENTRIES_MAX];
	struct host_document host;
	unsigned network_count;
	struct network_document *networks; /* in the order of host.networks, then those that are bridged with one of them */
	unsigned list_count;
	struct admission *lists;           /* of those networks that have one (netd/lock.h) */
	uint16_t mtu;                      /* the smallest of all networks; 0 without any */
	uint64_t peers;                    /* entries of all tries together, this host's own included */
	struct hash keyset;                /* by which its documents were verified */
};

/** Why documents were not accepted: a word for programs, a sentence for a person. */
struct refusal {
	char code[32];
	char reason[REASON_BYTES_MAX + 1];
};
/** Fill in a refusal. @return -EBADMSG, so that a check can `return refuse(...)` */
int refuse(struct refusal *refusal, const char *code, const char *format, ...) _printf_(3, 4);

void mesh_free(struct mesh *mesh);
DEFINE_CLEANUP(struct mesh *, mesh_free)

/**
 * Verify and decode the documents that entries name, all of which must be in blobs; check that they are for this host, of the keyset's
 * epoch, exactly what was named, and fit each other: networks are those of the host document, addresses lie in their networks, not more than
 * PEERS_MAX peers. A network that the host document does not name must be bridged with one that it names. Tries are not looked at.
 * @param old a mesh that was opened before, or NULL: a document that stands in both, under the same keyset, is not verified twice
 * @return 0; -EBADMSG with refusal filled in; -ENOMEM
 */
_must_check_ int mesh_open(const struct state *state, const struct blobs *blobs, const struct mesh *old, const struct head_entry *entries,
			   unsigned count, struct mesh **mesh, struct refusal *refusal);

/** The network, of those that the host document names, with which this one is bridged; NULL. */
const struct network_document *mesh_bridged_with(const struct mesh *mesh, const struct network_document *network);
/** The manifest of a network in a mesh, NULL. mesh may be NULL. */
const struct network_document *mesh_network(const struct mesh *mesh, const struct id *network);

/** The admission list of a network in a mesh, NULL. mesh may be NULL. */
const struct admission *mesh_list(const struct mesh *mesh, const struct id *network);
/** The entry by which the head named a document, NULL. */
const struct head_entry *mesh_entry(const struct mesh *mesh, enum document_type type, const struct id *id);
/** The root of what an entry's document names by hash: peers, or admitted hosts; zero if it names none. */
struct hash mesh_root(const struct mesh *mesh, const struct head_entry *entry);

/** For each network of either mesh, walk what differs. Either may be NULL. each: as in struct trie_diff_events. arg of all callbacks is a struct mesh_walk. */
struct mesh_walk {
	const struct blobs *blobs;
	struct trie_diff_events events;
	const struct network_document *network; /* under way; of the new mesh if it has it */
	const struct mesh *old, *new;
	void *arg; /* the caller's */
};
_must_check_ int mesh_diff(struct mesh_walk *walk);

/** An entry of the new mesh passed its own checks (the mesh as a whole may still fail). Return a negative errno to end the check with it. */
typedef int mesh_accepted_fn(const struct network_document *network, const struct peer *peer, void *arg);

/**
 * Check what is new in the tries against everything else, and note it in owners: statements verify and do not go back, addresses are in their network and nobody
 * else's, no key is this host's own or another host's, this host's own entries agree with each other and with its key, counts are right.
 * @param old what is in force and noted in owners; may be NULL with owners empty
 * @param accepted may be NULL
 * @return 0; -EBADMSG with refusal: owners is then half noted, mesh_note_all() puts it right; what accepted returned, with an empty refusal
 */
_must_check_ int mesh_check(const struct state *state, const struct blobs *blobs, const struct mesh *old, const struct mesh *new,
			    struct owners *owners, mesh_accepted_fn *accepted, void *arg, struct refusal *refusal);
/** Note a whole mesh (NULL: nothing) in owners, which is cleared before. @return 0; -EEXIST; -ENOMEM; errors of a walk */
_must_check_ int mesh_note_all(const struct blobs *blobs, const struct mesh *mesh, struct owners *owners);

/** What a host amounts to on the device. */
struct merged_peer {
	bool present; /* in at least one network */
	uint8_t wg_key[KEY_BYTES];
	struct endpoint endpoint; /* family 0: none */
	uint16_t keepalive;
	uint16_t allowed_count;
	struct prefix allowed[WG_ALLOWED_MAX];
};

/**
 * Merge a host's entries over all networks of a mesh (NULL: none).
 * @param known an entry that the caller has in hand already, of network `of`; NULL: none
 * @param families bit 4 and bit 6: which underlay families this host has; the first endpoint of one of them is taken
 * @return 0; -EKEYREJECTED the networks disagree on its key; -ENOENT a node is missing; -EBADMSG or is malformed
 */
_must_check_ int mesh_merge(const struct mesh *mesh, const struct blobs *blobs, const struct id *host, const struct peer *known,
			    const struct id *of, unsigned families, struct merged_peer *merged);
