/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#define LINE_MAX_BYTES 1024

static struct {
	const char *name;
	enum log_level level;
	bool journal;
} sink = { .name = "loopback", .level = LOG_INFO };

void log_open(const char *name)
{
	static const struct {
		const char *word;
		enum log_level level;
	} levels[] = { { "error", LOG_ERROR },
		       { "warning", LOG_WARNING },
		       { "notice", LOG_NOTICE },
		       { "info", LOG_INFO },
		       { "debug", LOG_DEBUG } };
	const char *wanted = getenv("LOOPBACK_LOG_LEVEL");

	sink.name = name;
	sink.journal = getenv("JOURNAL_STREAM") != NULL;
	for (size_t i = 0; wanted && i < ARRAY_SIZE(levels); i++)
		if (strcmp(levels[i].word, wanted) == 0)
			sink.level = levels[i].level;
}

void log_level_set(enum log_level level)
{
	sink.level = level;
}

/* Format into one buffer and write it with one call, so that lines of several processes on one pipe do not mix. */
static void write_line(enum log_level level, const char *suffix, const char *format, va_list args)
{
	char line[LINE_MAX_BYTES];
	size_t room = sizeof(line) - 1;
	size_t at;
	int n;

	if (sink.journal)
		n = snprintf(line, room, "<%d>", (int)level);
	else
		n = snprintf(line, room, "%s: ", sink.name);
	at = n < 0 ? 0 : (size_t)n;

	n = vsnprintf(line + at, room - at, format, args);
	if (n > 0)
		at += (size_t)n < room - at ? (size_t)n : room - at - 1;
	if (suffix) {
		n = snprintf(line + at, room - at, ": %s", suffix);
		if (n > 0)
			at += (size_t)n < room - at ? (size_t)n : room - at - 1;
	}
	line[at++] = '\n';
	if (write(STDERR_FILENO, line, at) < 0)
		return; /* nobody left to tell */
}

void log_line(enum log_level level, const char *format, ...)
{
	int saved = errno;
	va_list args;

	if (level > sink.level)
		return;
	va_start(args, format);
	write_line(level, NULL, format, args);
	va_end(args);
	errno = saved;
}

int log_errno(int error, const char *format, ...)
{
	int saved = errno;
	int positive = error < 0 ? -error : error;
	va_list args;

	va_start(args, format);
	write_line(LOG_ERROR, strerror(positive), format, args);
	va_end(args);
	errno = saved;
	return -positive;
}

const char *log_clean(char *out, size_t size, const void *text, size_t len)
{
	const unsigned char *from = text;
	size_t i;

	if (size == 0)
		return "";
	for (i = 0; i < len && i + 1 < size; i++)
		out[i] = from[i] >= 0x20 && from[i] < 0x7f ? (char)from[i] : '?';
	out[i] = '\0';
	return out;
}
