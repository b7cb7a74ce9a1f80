/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/common/voice.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/common/emit.h"

#define DETAIL_BYTES_MAX 4096

size_t utf8_sequence(const char *text, size_t n)
{
	const unsigned char *c = (const unsigned char *)text;
	size_t length;
	unsigned point;

	if (n == 0)
		return 0;
	if (c[0] < 0x80)
		return 1;
	if (c[0] >= 0xc2 && c[0] <= 0xdf)
		length = 2;
	else if ((c[0] & 0xf0) == 0xe0)
		length = 3;
	else if (c[0] >= 0xf0 && c[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (n < length)
		return 0;
	point = c[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (c[i] & 0x3fu);
	}
	/* overlong forms, surrogates, beyond Unicode */
	if ((length == 3 && (point < 0x800 || (point >= 0xd800 && point <= 0xdfff))) ||
	    (length == 4 && (point < 0x10000 || point > 0x10ffff)))
		return 0;
	return length;
}

static bool is_control(const char *text, size_t length)
{
	unsigned char first = (unsigned char)text[0];

	if (length == 1)
		return first < 0x20 || first == 0x7f;
	return length == 2 && first == 0xc2 && (unsigned char)text[1] < 0xa0;
}

const char *cli_clean(char *out, size_t size, const char *text, size_t n)
{
	size_t at = 0;

	while (n > 0) {
		size_t length = utf8_sequence(text, n);
		size_t step = length > 0 ? length : 1;
		bool bad = length == 0 || is_control(text, length);

		if (at + (bad ? 1 : length) >= size)
			break;
		if (bad) {
			out[at++] = '?';
		} else {
			memcpy(out + at, text, length);
			at += length;
		}
		text += step;
		n -= step;
	}
	out[at] = '\0';
	return out;
}

static const char *title_of(int exit_code)
{
	switch (exit_code) {
	case CLI_USAGE:
		return "Usage";
	case CLI_UNREACHABLE:
		return "Unreachable";
	default:
		return "Refused";
	}
}

int cli_fail(const struct cli_voice *voice, int exit_code, const char *code, const char *format, ...)
{
	char detail[DETAIL_BYTES_MAX];
	char clean[DETAIL_BYTES_MAX];
	va_list args;

	if (voice->mute)
		return exit_code;
	va_start(args, format);
	(void)vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);

	/* results that are already told come first, whatever stdout's buffer thinks */
	(void)fflush(stdout);
	if (voice->json) {
		struct emit emit = emit_to(stderr);

		emit_object(&emit, NULL);
		emit_text(&emit, "type", "about:blank");
		emit_text(&emit, "title", title_of(exit_code));
		emit_text(&emit, "code", code);
		emit_text(&emit, "detail", detail);
		emit_end(&emit);
	} else {
		(void)fprintf(stderr, "%s: %s\n", voice->program, cli_clean(clean, sizeof(clean), detail, strlen(detail)));
	}
	return exit_code;
}

void cli_note(const struct cli_voice *voice, const char *format, ...)
{
	char text[DETAIL_BYTES_MAX];
	char clean[DETAIL_BYTES_MAX];
	va_list args;

	if (voice->json)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)fflush(stdout);
	(void)fprintf(stderr, "%s\n", cli_clean(clean, sizeof(clean), text, strlen(text)));
}
