/* SPDX-License-Identifier: Apache-2.0 */
/* Frames as a hostile peer may send them: byte 0 chooses whom it plays (a row of messages.def), the rest is the frame. */
#include <stdlib.h>
#include <string.h>

#include "libipc/memfd.h"
#include "libipc/messages.h"
#include "libipc/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* What was accepted encodes, within its row's bytes, and says the same once more. */
static void round_trip(const struct message_type *row, struct message *message)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	uint8_t frame[FRAME_BYTES_MAX], again[FRAME_BYTES_MAX];
	const struct message_type *type;
	struct message copy;
	const char *why;
	size_t frame_n, again_n;

	if (message_encode(row->number, &message->body, frame, sizeof(frame), &frame_n) < 0 || frame_n > row->bytes)
		abort();
	if (message_decode(&reader, frame, frame_n, row->from, row->to, &copy, &type, &why) < 0 || type != row)
		abort();
	if (message_encode(row->number, &copy.body, again, sizeof(again), &again_n) < 0 || again_n != frame_n ||
	    memcmp(frame, again, frame_n) != 0)
		abort();
}

/* The lists of blobs that come in a memfd, too: the whole input is one. */
static void walk_blobs(const uint8_t *bytes, size_t n)
{
	struct view blob;
	size_t at = 0, sum = 0;

	while (blob_next(bytes, n, &at, &blob) > 0) {
		struct hash name;

		hash_of(blob.p, blob.n, &name);
		sum += 4 + blob.n;
		if (at != sum || at > n)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	const struct message_type *row, *type;
	struct message message;
	const char *why;

	walk_blobs(bytes, n);
	if (n == 0)
		return 0;
	row = &message_types[bytes[0] % message_type_count];
	if (message_decode(&reader, bytes + 1, n - 1, row->from, row->to, &message, &type, &why) < 0)
		return 0;
	/* Several rows may share a pair; whichever it was, it is one of that pair's. */
	if (type->from != row->from || type->to != row->to || n - 1 > type->bytes)
		abort();
	round_trip(type, &message);
	return 0;
}
