/* SPDX-License-Identifier: Apache-2.0 */
/* What a host has seen of admission lists, and keeps whatever else it is told: [[network id, generation, list's name, flags, [prefix ...]] ...]. Not signed. */
#pragma once

#include "libdoc/admission.h"

#define LOCKS_MAX 64
#define LOCKS_BYTES_MAX 16000

struct lock {
	struct id network;
	uint64_t generation; /* of the last list */
	struct hash list;    /* its name */
	uint32_t flags;      /* its own (enum admission_flags) */
	unsigned cidr_count;
	struct prefix cidrs[CIDRS_MAX]; /* the network's */
};

struct locks {
	unsigned count;
	struct lock locks[LOCKS_MAX];
};

_must_check_ int locks_encode(const struct locks *locks, struct pack_writer *out);
/** @return 0; -EBADMSG */
_must_check_ int locks_decode(const void *bytes, size_t n, struct locks *locks);
/** @return the lock of a network, NULL */
const struct lock *locks_find(const struct locks *locks, const struct id *network);
/** Is any network locked, by what was heard last? */
bool locks_any(const struct locks *locks);
/** Note a lock, in the place of what was known of its network. @return 1; 0 it was known; -ENOSPC */
_must_check_ int locks_note(struct locks *locks, const struct lock *lock);
