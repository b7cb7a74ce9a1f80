/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/answer.h"

#include <errno.h>
#include <string.h>

#include "fetchd/link.h"
#include "libdoc/envelope.h"
#include "libipc/log.h"
#include "libipc/pack.h"

static const struct pack_limits blobs_limits = { .bytes = ANSWER_BYTES_MAX, .depth = 2, .elements = BLOBS_MAX + 3 };
static const struct pack_limits small_limits = { .bytes = 8192, .depth = 1, .elements = 2 };

static int by_name(const void *a, const void *b)
{
	return memcmp(((const struct named_blob *)a)->name.b, ((const struct named_blob *)b)->name.b, HASH_BYTES);
}

void stash_free(struct stash *stash)
{
	free(stash->blobs);
	free(stash->body);
	*stash = (struct stash){ 0 };
}

const struct named_blob *stash_find(const struct stash *stash, const struct hash *name)
{
	struct named_blob wanted = { .name = *name };

	return stash->count ? bsearch(&wanted, stash->blobs, stash->count, sizeof(wanted), by_name) : NULL;
}

static int blobs_read(struct pack_cursor *cursor, struct stash *stash)
{
	struct pack_cursor inner;
	uint32_t count = pack_array(cursor, 0, BLOBS_MAX, &inner);

	if (count > 0) {
		stash->blobs = calloc(count, sizeof(*stash->blobs));
		if (!stash->blobs)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct named_blob *blob = &stash->blobs[i];

		blob->bytes = pack_bytes(&inner, BLOB_BYTES_MAX);
		if (inner.error < 0)
			break;
		hash_of(blob->bytes.p, blob->bytes.n, &blob->name);
	}
	pack_close(cursor, &inner);
	if (cursor->error < 0)
		return cursor->error;
	stash->count = count;
	if (count > 0)
		qsort(stash->blobs, count, sizeof(*stash->blobs), by_name);
	return 0;
}

/* keyset and head NULL: an answer that has blobs alone. */
static int answer_open(uint8_t **body, size_t n, struct view *keyset, struct view *head, struct stash *out)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	CLEANUP(stash_free) struct stash stash = { 0 };
	struct view found_keyset = { 0 }, found_head = { 0 };
	struct pack_cursor cursor;
	int r = pack_open(&reader, *body, n, &blobs_limits, &cursor);

	if (r < 0)
		return r;
	if (keyset) {
		found_keyset = pack_bytes(&cursor, ENVELOPE_BYTES_MAX);
		found_head = pack_bytes(&cursor, ENVELOPE_BYTES_MAX);
	}
	r = blobs_read(&cursor, &stash);
	if (r == 0)
		r = pack_done(&cursor);
	if (r < 0)
		return r;
	if (keyset) {
		*keyset = found_keyset;
		*head = found_head;
	}
	*out = stash;
	out->body = TAKE_PTR(*body);
	stash = (struct stash){ 0 };
	return 0;
}

int poll_answer_open(uint8_t **body, size_t n, struct view *keyset, struct view *head, struct stash *stash)
{
	return answer_open(body, n, keyset, head, stash);
}

int blobs_answer_open(uint8_t **body, size_t n, struct stash *stash)
{
	return answer_open(body, n, NULL, NULL, stash);
}

int enroll_answer_open(const void *bytes, size_t n, struct id *host)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	struct pack_cursor cursor;
	struct id id = { { 0 } };
	int r = pack_open(&reader, bytes, n, &small_limits, &cursor);

	if (r < 0)
		return r;
	pack_fixed(&cursor, id.b, ID_BYTES);
	r = pack_done(&cursor);
	if (r == 0)
		*host = id;
	return r;
}

int error_answer_open(const void *bytes, size_t n, char *code, size_t code_room, char *detail, size_t detail_room)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	struct pack_cursor cursor;
	struct view word, sentence;
	int r;

	if (!bytes)
		return -EBADMSG;
	r = pack_open(&reader, bytes, n, &small_limits, &cursor);
	if (r < 0)
		return r;
	word = pack_text(&cursor, code_room - 1);
	sentence = pack_text(&cursor, small_limits.bytes);
	r = pack_done(&cursor);
	if (r < 0)
		return r;
	(void)log_clean(code, code_room, word.p, word.n);
	(void)log_clean(detail, detail_room, sentence.p, sentence.n);
	return 0;
}
