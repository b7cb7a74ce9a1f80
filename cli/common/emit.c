/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/common/emit.h"

#include <inttypes.h>
#include <string.h>

#include "cli/common/voice.h"

struct emit emit_to(FILE *out)
{
	return (struct emit){ .out = out };
}

static void write_string(FILE *out, const char *text)
{
	size_t n = strlen(text);

	(void)fputc('"', out);
	while (n > 0) {
		size_t length = utf8_sequence(text, n);
		unsigned char c = (unsigned char)text[0];

		if (length == 0) {
			(void)fputs("\\ufffd", out);
			length = 1;
		} else if (c == '"' || c == '\\') {
			(void)fprintf(out, "\\%c", c);
		} else if (c < 0x20 || c == 0x7f) {
			(void)fprintf(out, "\\u%04x", c);
		} else {
			(void)fwrite(text, 1, length, out);
		}
		text += length;
		n -= length;
	}
	(void)fputc('"', out);
}

/* What stands before a value: the comma of the one before, a new line, the key. */
static void lead_in(struct emit *emit, const char *key)
{
	if (emit->depth == 0)
		return;
	if (emit->levels[emit->depth].filled)
		(void)fputc(',', emit->out);
	emit->levels[emit->depth].filled = true;
	(void)fprintf(emit->out, "\n%*s", (int)(2 * emit->depth), "");
	if (key) {
		write_string(emit->out, key);
		(void)fputs(": ", emit->out);
	}
}

static void begin(struct emit *emit, const char *key, bool array)
{
	lead_in(emit, key);
	(void)fputc(array ? '[' : '{', emit->out);
	if (emit->depth < EMIT_DEPTH_MAX)
		emit->depth++;
	emit->levels[emit->depth].array = array;
	emit->levels[emit->depth].filled = false;
}

void emit_object(struct emit *emit, const char *key)
{
	begin(emit, key, false);
}

void emit_array(struct emit *emit, const char *key)
{
	begin(emit, key, true);
}

void emit_end(struct emit *emit)
{
	bool array = emit->levels[emit->depth].array;
	bool filled = emit->levels[emit->depth].filled;

	emit->depth--;
	if (filled)
		(void)fprintf(emit->out, "\n%*s", (int)(2 * emit->depth), "");
	(void)fputc(array ? ']' : '}', emit->out);
	if (emit->depth == 0)
		(void)fputc('\n', emit->out);
}

void emit_text(struct emit *emit, const char *key, const char *text)
{
	if (!text) {
		emit_null(emit, key);
		return;
	}
	lead_in(emit, key);
	write_string(emit->out, text);
}

void emit_u64(struct emit *emit, const char *key, uint64_t value)
{
	lead_in(emit, key);
	(void)fprintf(emit->out, "%" PRIu64, value);
}

void emit_bool(struct emit *emit, const char *key, bool value)
{
	lead_in(emit, key);
	(void)fputs(value ? "true" : "false", emit->out);
}

void emit_null(struct emit *emit, const char *key)
{
	lead_in(emit, key);
	(void)fputs("null", emit->out);
}
