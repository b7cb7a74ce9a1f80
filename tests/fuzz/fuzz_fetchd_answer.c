/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a control plane may answer: each of fetchd's readers gets the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "fetchd/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static uint8_t *copy_of(const uint8_t *bytes, size_t n)
{
	uint8_t *copy = malloc(n + 1);

	if (!copy)
		abort();
	memcpy(copy, bytes, n);
	return copy;
}

/* Every byte of what was accepted must be readable, and every blob found under its name. */
static void stash_check(const struct stash *stash)
{
	for (size_t i = 0; i < stash->count; i++) {
		struct hash name;

		hash_of(stash->blobs[i].bytes.p, stash->blobs[i].bytes.n, &name);
		if (!stash_find(stash, &name))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	_cleanup_free_ uint8_t *poll = copy_of(bytes, n), *blobs = copy_of(bytes, n);
	CLEANUP(stash_free) struct stash poll_stash = { 0 }, blobs_stash = { 0 };
	struct view keyset, head;
	char code[32], detail[400];
	struct hash hash;
	struct id host;

	if (poll_answer_open(&poll, n, &keyset, &head, &poll_stash) == 0) {
		stash_check(&poll_stash);
		hash_of(keyset.p, keyset.n, &hash);
		hash_of(head.p, head.n, &hash);
	}
	if (blobs_answer_open(&blobs, n, &blobs_stash) == 0)
		stash_check(&blobs_stash);
	if (error_answer_open(bytes, n, code, sizeof(code), detail, sizeof(detail)) == 0 && strlen(detail) >= sizeof(detail))
		abort();
	return enroll_answer_open(bytes, n, &host) > 0;
}
