/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/locks.h"

#include <errno.h>
#include <string.h>

static const struct pack_limits limits = { .bytes = LOCKS_BYTES_MAX, .depth = 4, .elements = 1 + LOCKS_MAX * (6 + CIDRS_MAX * 3) };

int locks_encode(const struct locks *locks, struct pack_writer *out)
{
	pack_put_array(out, locks->count);
	for (const struct lock *lock = locks->locks; lock < locks->locks + locks->count; lock++) {
		pack_put_array(out, 5);
		pack_put_bytes(out, lock->network.b, ID_BYTES);
		pack_put_u64(out, lock->generation);
		pack_put_bytes(out, lock->list.b, HASH_BYTES);
		pack_put_u64(out, lock->flags);
		pack_put_array(out, lock->cidr_count);
		for (unsigned i = 0; i < lock->cidr_count; i++)
			pack_put_prefix(out, &lock->cidrs[i]);
	}
	return out->error;
}

int locks_decode(const void *bytes, size_t n, struct locks *locks)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole, one, cidrs;

	if (pack_open(&reader, bytes, n, &limits, &whole) < 0 || whole.left > LOCKS_MAX)
		return -EBADMSG;
	memset(locks, 0, sizeof(*locks));
	for (unsigned left = whole.left; left > 0; left--) {
		struct lock *lock = &locks->locks[locks->count++];

		pack_array(&whole, 5, 5, &one);
		pack_fixed(&one, lock->network.b, ID_BYTES);
		lock->generation = pack_u64(&one, UINT64_MAX >> 8);
		pack_fixed(&one, lock->list.b, HASH_BYTES);
		lock->flags = (uint32_t)pack_u64(&one, ADMISSION_LOCKED);
		lock->cidr_count = pack_array(&one, 0, CIDRS_MAX, &cidrs);
		for (unsigned i = 0; i < lock->cidr_count; i++)
			pack_prefix(&cidrs, &lock->cidrs[i]);
		pack_close(&one, &cidrs);
		pack_close(&whole, &one);
	}
	return pack_done(&whole);
}

const struct lock *locks_find(const struct locks *locks, const struct id *network)
{
	for (const struct lock *lock = locks->locks; lock < locks->locks + locks->count; lock++)
		if (id_equal(&lock->network, network))
			return lock;
	return NULL;
}

static bool lock_equal(const struct lock *a, const struct lock *b)
{
	if (a->generation != b->generation || !hash_equal(&a->list, &b->list) || a->flags != b->flags || a->cidr_count != b->cidr_count)
		return false;
	for (unsigned i = 0; i < a->cidr_count; i++)
		if (!prefix_equal(&a->cidrs[i], &b->cidrs[i]))
			return false;
	return true;
}

bool locks_any(const struct locks *locks)
{
	for (unsigned i = 0; i < locks->count; i++)
		if (locks->locks[i].flags & ADMISSION_LOCKED)
			return true;
	return false;
}

int locks_note(struct locks *locks, const struct lock *lock)
{
	const struct lock *known = locks_find(locks, &lock->network);

	if (known && lock_equal(known, lock))
		return 0;
	if (!known && locks->count == LOCKS_MAX)
		return -ENOSPC;
	locks->locks[known ? (size_t)(known - locks->locks) : locks->count++] = *lock;
	return 1;
}
