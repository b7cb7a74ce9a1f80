/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes JSON (RFC 8259), indented, straight to a stream. The host's program links no JSON library: it only ever writes it.
 *
 * Keys are given inside objects and NULL inside arrays and for the outermost value.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define EMIT_DEPTH_MAX 15

struct emit {
	FILE *out;
	unsigned depth;
	struct {
		bool array, filled;
	} levels[EMIT_DEPTH_MAX + 1];
};

struct emit emit_to(FILE *out);

/** Begin an object or an array; emit_end() ends the innermost. The outermost end writes a newline. */
void emit_object(struct emit *emit, const char *key);
void emit_array(struct emit *emit, const char *key);
void emit_end(struct emit *emit);

/** Bytes that are not UTF-8 become U+FFFD. NULL text is null. */
void emit_text(struct emit *emit, const char *key, const char *text);
void emit_u64(struct emit *emit, const char *key, uint64_t value);
void emit_bool(struct emit *emit, const char *key, bool value);
void emit_null(struct emit *emit, const char *key);
