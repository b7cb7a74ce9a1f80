/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last known good, and what is under way: one append-only file, mesh.log.
 *
 * Records: kind (1 byte), length (4, big endian), bytes, and the first 16 bytes of BLAKE2b over all of these. Kinds: a blob; an intent (the documents
 * that are about to be put in force); a commit (they are; signed by the host, so that it counts whatever keyset comes after it); a mark (whether a fresh head has
 * confirmed that commit since: enum confirm of libdoc/host.h; a commit without one has nothing to confirm). The last commit counts. What follows it was never in force as a whole: it is cut off when the
 * change is given up, or at the next start, when the device is brought back to the commit. When less than half of the file is of use
 * it is written anew beside and renamed.
 */
#pragma once

#include "libdoc/head.h"
#include "libdoc/host.h"
#include "libjournal/blobs.h"

struct journal;

/** What a replay found. */
struct journal_end {
	unsigned count; /* entries of the last commit; 0: none */
	struct head_entry entries[HEAD_ENTRIES_MAX];
	bool interrupted; /* an intent came after it, and no commit */
	enum confirm confirm; /* the last commit's; none if it has no mark */
	unsigned before_count; /* unconfirmed, restored: the commit that was in force when the last confirmed one ended; 0: there was none */
	struct head_entry before[HEAD_ENTRIES_MAX];
};

/**
 * Open mesh.log, make it if need be, and replay it: every blob goes into blobs, without references.
 * @param secret the host's key, by which commits are signed; borrowed as long as the journal is open
 * @return 0; negative errno. A file that is damaged in its middle is used up to the damage.
 */
_must_check_ int journal_open(int folder, const uint8_t secret[static SECRET_KEY_BYTES], struct blobs *blobs, struct journal_end *end,
			       struct journal **journal);
void journal_close(struct journal *journal);
DEFINE_CLEANUP(struct journal *, journal_close)

/** Collect a blob for the next intent. @return 0; -ENOMEM */
_must_check_ int journal_add(struct journal *journal, struct view bytes);
/**
 * Write what was collected and the intent, with room set aside for its commit. What there is to go back to is on the disk since the commit before, so the disk is not
 * waited for. On failure the file is as before. @return 0; -ENOSPC ...
 */
_must_check_ int journal_intent(struct journal *journal, const struct head_entry *entries, unsigned count);
/**
 * The intent is in force: waits for the disk.
 * @param unconfirmed it is to be confirmed: marked so with the same write
 * @return 0; negative errno: it does not count, the caller goes back
 */
_must_check_ int journal_commit(struct journal *journal, const struct head_entry *entries, unsigned count, bool unconfirmed);
/** Mark the last commit. Not waited for: after a crash the mark before it may stand, and what led to this one happens again. Failure is logged. */
void journal_mark(struct journal *journal, enum confirm confirm);
/** It is not. What was written since the last commit and what was collected is forgotten: a device that refuses for ever does not fill the disk. */
void journal_abort(struct journal *journal);
/** Start over: with nothing in force (leaving a deployment). */
_must_check_ int journal_reset(struct journal *journal);
/** Only while nothing is unconfirmed: write the file anew if too much of it is of no use any more. Failure leaves the old one, logged. */
void journal_compact(struct journal *journal, const struct blobs *blobs, const struct head_entry *entries, unsigned count);
