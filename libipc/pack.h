/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md) behind our own limits.
 *
 * Everything that we exchange or sign is a msgpack array whose elements have fixed places, so that there is one way to write a
 * thing and no unknown keys. Reading is in two steps: pack_open() walks the raw bytes and refuses what is too deep, too
 * long, truncated, trailing or of a type that we never use, before msgpack-c allocates anything; then cursors read the elements
 * in order. Cursors and writers keep their first error, so that code reads straight and asks once at the end.
 */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libipc/types.h"

struct pack_limits {
	size_t bytes;    /* of the whole */
	unsigned depth;  /* of nested arrays; the outermost is 1 */
	size_t elements; /* of all arrays together */
};

/** Memory for one decoded object, reused from one to the next; nothing is allocated for what fits in its first chunk. */
struct pack_reader {
	msgpack_zone zone;
	msgpack_object root;
	bool ready;
};

/** Reads the elements of one array in order. error is 0 or -EBADMSG and sticks. */
struct pack_cursor {
	const msgpack_object *next;
	uint32_t left;
	int error;
};

/**
 * Check bytes against limits, without allocating. Allowed are: nil, booleans, unsigned integers, strings, binaries, arrays.
 * @return 0; -EMSGSIZE too long; -ELOOP too deep; -E2BIG too many elements; -EBADMSG truncated, trailing bytes or another type
 */
_must_check_ int pack_check(const void *bytes, size_t n, const struct pack_limits *limits);

/**
 * Check, decode, and place a cursor on the elements of the outermost object, which must be an array.
 * Views that the cursor gives out point into bytes: keep them as long as you read. A reader that was zeroed is ready for use.
 * @return as pack_check(); -ENOMEM
 */
_must_check_ int pack_open(struct pack_reader *reader, const void *bytes, size_t n, const struct pack_limits *limits,
			   struct pack_cursor *cursor);
void pack_reader_free(struct pack_reader *reader);
#define _cleanup_reader_ CLEANUP(pack_reader_free)

uint64_t pack_u64(struct pack_cursor *cursor, uint64_t max);
bool pack_bool(struct pack_cursor *cursor);
/** A binary of at most max bytes. */
struct view pack_bytes(struct pack_cursor *cursor, size_t max);
/** A binary of exactly n bytes, copied to out; out is zeroed on error. */
void pack_fixed(struct pack_cursor *cursor, void *out, size_t n);
/** A string of at most max bytes, not terminated, without NUL inside. */
struct view pack_text(struct pack_cursor *cursor, size_t max);
/** A string copied to out and terminated; at most size - 1 bytes. One with control characters is malformed: it would reach logs and terminals. */
void pack_text_copy(struct pack_cursor *cursor, char *out, size_t size);
/** An array of min to max elements; inner reads them. @return its length, 0 on error */
uint32_t pack_array(struct pack_cursor *cursor, uint32_t min, uint32_t max, struct pack_cursor *inner);
/** An array has been read to its end: anything left is an error, and so is inner's own; both go to outer. */
void pack_close(struct pack_cursor *outer, const struct pack_cursor *inner);
/** @return 0 if everything was read and nothing failed; -EBADMSG */
_must_check_ int pack_done(const struct pack_cursor *cursor);

void pack_prefix(struct pack_cursor *cursor, struct prefix *prefix);     /* [length, bytes of 4 or 16] */
void pack_endpoint(struct pack_cursor *cursor, struct endpoint *endpoint); /* [port, bytes of 4 or 16] */

/** Writes msgpack into a buffer that either grows (owned by the writer) or is the caller's and fixed. */
struct pack_writer {
	uint8_t *bytes;
	size_t n, room;
	bool fixed;
	int error; /* 0, -ENOMEM, -EMSGSIZE (a fixed buffer is full); sticks */
};

/** A writer over the caller's buffer: never allocates. */
struct pack_writer pack_writer_over(void *buffer, size_t room);
void pack_writer_free(struct pack_writer *writer);
#define _cleanup_writer_ CLEANUP(pack_writer_free)

void pack_put_array(struct pack_writer *writer, uint32_t n);
void pack_put_u64(struct pack_writer *writer, uint64_t value);
void pack_put_bool(struct pack_writer *writer, bool value);
void pack_put_bytes(struct pack_writer *writer, const void *bytes, size_t n);
void pack_put_text(struct pack_writer *writer, const char *text);
void pack_put_text_n(struct pack_writer *writer, const char *text, size_t n);
void pack_put_prefix(struct pack_writer *writer, const struct prefix *prefix);
void pack_put_endpoint(struct pack_writer *writer, const struct endpoint *endpoint);
/** Append bytes that are msgpack already. */
void pack_put_raw(struct pack_writer *writer, const void *bytes, size_t n);
