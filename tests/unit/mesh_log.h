/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions in a mesh.log whose contents follow from a number. */
#pragma once

#include "libjournal/journal.h"
#include "tests/unit/documents.h"

static inline struct head_entry entry_of(uint64_t number)
{
	struct head_entry entry = { .type = DOC_network, .id = id_of(number), .epoch = 1, .generation = number };

	hash_of(&number, sizeof(number), &entry.hash);
	return entry;
}

static inline bool entries_are(const struct journal_end *end, uint64_t number, unsigned count)
{
	if (end->count != count)
		return false;
	for (unsigned i = 0; i < count; i++) {
		struct head_entry entry = entry_of(number + i);

		if (end->entries[i].type != entry.type || end->entries[i].generation != entry.generation ||
		    !id_equal(&end->entries[i].id, &entry.id) || !hash_equal(&end->entries[i].hash, &entry.hash))
			return false;
	}
	return true;
}

/* The bytes that a number stands for, and their name. */
static inline struct hash blob_of(uint64_t number, uint8_t *bytes, size_t n)
{
	struct dice dice = dice_of(number);
	struct hash name;

	dice_fill(&dice, bytes, n);
	hash_of(bytes, n, &name);
	return name;
}

#define BLOB_BYTES 200

static inline void add_blob(struct journal *journal, uint64_t number, size_t n)
{
	_cleanup_free_ uint8_t *bytes = malloc(n);

	(void)blob_of(number, bytes, n);
	ck_assert_int_eq(journal_add(journal, (struct view){ bytes, n }), 0);
}

static inline bool has_blob(const struct blobs *blobs, uint64_t number, size_t n)
{
	_cleanup_free_ uint8_t *bytes = malloc(n);
	struct hash name = blob_of(number, bytes, n);
	struct view found;

	return blobs_get(blobs, &name, &found) == 0 && found.n == n && memcmp(found.p, bytes, n) == 0;
}

/* One transaction: `count` entries from `number` on, each with a blob; to be confirmed or not. */
static inline int transact_marked(struct journal *journal, uint64_t number, unsigned count, bool unconfirmed)
{
	struct head_entry entries[HEAD_ENTRIES_MAX];
	int r;

	for (unsigned i = 0; i < count; i++) {
		entries[i] = entry_of(number + i);
		add_blob(journal, number + i, BLOB_BYTES);
	}
	r = journal_intent(journal, entries, count);
	return r < 0 ? r : journal_commit(journal, entries, count, unconfirmed);
}

static inline int transact(struct journal *journal, uint64_t number, unsigned count)
{
	return transact_marked(journal, number, count, false);
}

/* Of the host whose log it is; a journal borrows it. */
static inline const uint8_t *host_secret(uint64_t number)
{
	static struct actor host;

	host = actor_of(number);
	return host.secret;
}

struct opened {
	struct blobs *blobs;
	struct journal *journal;
	struct journal_end end;
};

static inline struct opened reopened(const struct folder *folder)
{
	struct opened opened = { .blobs = NULL };

	ck_assert_int_eq(blobs_new(&opened.blobs), 0);
	ck_assert_int_eq(journal_open(folder->fd, host_secret(3), opened.blobs, &opened.end, &opened.journal), 0);
	return opened;
}

static inline void opened_end(struct opened *opened)
{
	journal_close(opened->journal);
	blobs_free(opened->blobs);
}
#define _cleanup_opened_ CLEANUP(opened_end)

static inline size_t log_bytes(const struct folder *folder)
{
	struct stat stat;

	ck_assert_int_eq(fstatat(folder->fd, "mesh.log", &stat, 0), 0);
	return (size_t)stat.st_size;
}
