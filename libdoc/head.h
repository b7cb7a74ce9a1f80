/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is current for one host, signed when that host asks. And what a host says it has, when it asks.
 *
 * Head payload: [header, host id, nonce, [entry ...]], entry: [type, id, epoch, generation, hash]. header.id is the host's. A head is good for
 * the one nonce that netd made for it, so it proves freshness, cannot be replayed and cannot be mixed with another.
 * Have: [[type, id, epoch, generation, hash, root] ...]: root is the root of a network's or an admission list's trie, 32 zero bytes otherwise.
 */
#pragma once

#include "libdoc/envelope.h"

#define ADMISSIONS_MAX 32 /* locked networks of one host, those that it reaches over bridges included */
#define HEAD_ENTRIES_MAX (NETWORKS_MAX + 4 + ADMISSIONS_MAX)

struct head_entry {
	enum document_type type; /* keyset, host, network, admission */
	struct id id;
	uint32_t epoch;
	uint64_t generation;
	struct hash hash; /* of the envelope */
	struct hash root; /* in a have: of the trie of a network's peers, of a list's hosts; not part of a head */
};

struct head {
	struct document_header header;
	struct id host;
	uint8_t nonce[32];
	unsigned count;
	struct head_entry entries[HEAD_ENTRIES_MAX]; /* no two of the same type and id */
};

_must_check_ int head_encode(const struct head *head, struct pack_writer *payload);
/** Decode a verified payload. @return 0; -EBADMSG (duplicate entries included) */
_must_check_ int head_decode(struct view payload, struct head *head);
/** @return the entry, NULL */
const struct head_entry *head_find(const struct head *head, enum document_type type, const struct id *id);

/** One entry, as it stands in heads and receipts (without root). */
void head_entry_write(struct pack_writer *writer, const struct head_entry *entry);
void head_entry_read(struct pack_cursor *cursor, struct head_entry *entry);

_must_check_ int have_encode(const struct head_entry *entries, unsigned count, struct pack_writer *out);
/** @return number of entries written to entries[HEAD_ENTRIES_MAX]; -EBADMSG */
_must_check_ int have_decode(const void *bytes, size_t n, struct head_entry *entries);
