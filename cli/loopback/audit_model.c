/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "cli/loopback/audit.h"

#define READ_BYTES_MAX (1U << 20)

static const struct {
	const char *name, *why, *todo;
} aspects[AUDIT_ASPECTS] = {
#define ASPECT(word, reason, advice) [AUDIT_##word] = { #word, reason, advice },
#include "cli/loopback/audit_aspects.def"
#undef ASPECT
};

const char *audit_aspect_name(enum audit_aspect aspect)
{
	return aspects[aspect].name;
}

const char *audit_aspect_why(enum audit_aspect aspect)
{
	return aspects[aspect].why;
}

const char *audit_aspect_todo(enum audit_aspect aspect)
{
	return aspects[aspect].todo;
}

const char *audit_result_name(enum audit_result result)
{
	static const char *const names[] = {
		[AUDIT_SAME] = "same",
		[AUDIT_NOT_SHOWN] = "not-shown",
		[AUDIT_UNKNOWN] = "unknown",
		[AUDIT_DIFFERS] = "differs",
	};

	return names[result];
}

/* -- Text -------------------------------------------------------------------------------------------------------------------- */

static void append(struct phrase *phrase, const char *before, const char *format, va_list args) _printf_(3, 0);

static void append(struct phrase *phrase, const char *before, const char *format, va_list args)
{
	_cleanup_free_ char *more = NULL;
	size_t prefix = strlen(before), length;
	char *grown;

	if (vasprintf(&more, format, args) < 0) {
		more = NULL;
		phrase->failed = true;
		return;
	}
	length = strlen(more);
	grown = realloc(phrase->text, phrase->n + prefix + length + 1);
	if (!grown) {
		phrase->failed = true;
		return;
	}
	memcpy(grown + phrase->n, before, prefix);
	memcpy(grown + phrase->n + prefix, more, length + 1);
	phrase->text = grown;
	phrase->n += prefix + length;
}

void phrase_add(struct phrase *phrase, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	append(phrase, "", format, args);
	va_end(args);
}

void phrase_item(struct phrase *phrase, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	append(phrase, phrase->n ? ", " : "", format, args);
	va_end(args);
}

const char *phrase_text(const struct phrase *phrase)
{
	return phrase->text ? phrase->text : "";
}

void phrase_free(struct phrase *phrase)
{
	free(phrase->text);
	*phrase = (struct phrase){ .text = NULL };
}

/* -- Checks ------------------------------------------------------------------------------------------------------------------ */

void audit_say(struct audited *audited, enum audit_aspect aspect, enum audit_result result, const char *declared,
	       const char *found)
{
	struct audit_check *check = &audited->checks[audited->count];

	*check = (struct audit_check){ .aspect = aspect, .result = result, .declared = strdup(declared), .found = strdup(found) };
	audited->count++;
	if (!check->declared || !check->found)
		audited->failed = true;
}

void audit_say_phrases(struct audited *audited, enum audit_aspect aspect, enum audit_result result, const struct phrase *declared,
		       const struct phrase *found)
{
	audit_say(audited, aspect, result, phrase_text(declared), phrase_text(found));
	if (declared->failed || found->failed)
		audited->failed = true;
}

void audit_unreadable(struct audited *audited, enum audit_aspect aspect, const char *declared, int error)
{
	_cleanup_phrase_ struct phrase found = { .text = NULL };

	phrase_add(&found, "not readable: %s",
		   error == -ENOENT || error == -ESRCH ? "the process ended while it was looked at" : strerror(-error));
	audit_say(audited, aspect, AUDIT_UNKNOWN, declared, phrase_text(&found));
}

enum audit_result audited_result(const struct audited *audited)
{
	enum audit_result worst = AUDIT_SAME;

	for (unsigned i = 0; i < audited->count; i++)
		if (audited->checks[i].result > worst)
			worst = audited->checks[i].result;
	return worst;
}

void audited_free(struct audited *audited)
{
	for (unsigned i = 0; i < audited->count; i++) {
		free(audited->checks[i].declared);
		free(audited->checks[i].found);
	}
	audited->count = 0;
	audited->pidfd = close_fd(audited->pidfd);
	audited->proc = close_fd(audited->proc);
}

/* -- Shared ------------------------------------------------------------------------------------------------------------------ */

ssize_t audit_read(int folder, const char *name, char **bytes)
{
	_cleanup_close_ int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *got = NULL;
	size_t n = 0, room = 0;
	ssize_t more = 1;

	if (fd < 0)
		return -errno;
	while (more > 0) {
		if (room - n < 4096) {
			char *grown = room < READ_BYTES_MAX ? realloc(got, room + 16384) : NULL;

			if (!grown)
				return room < READ_BYTES_MAX ? -ENOMEM : -EFBIG;
			got = grown;
			room += 16384;
		}
		more = read(fd, got + n, room - n - 1);
		if (more < 0)
			return -errno;
		n += (size_t)more;
	}
	got[n] = '\0';
	*bytes = TAKE_PTR(got);
	return (ssize_t)n;
}

/* The value of --KEY VALUE or --KEY=VALUE in a command line as /proc has it: words that end in a zero. The last one counts. */
static const char *option_value(const char *line, size_t n, const char *key)
{
	const char *value = NULL;
	size_t length = strlen(key);

	for (const char *word = line; word < line + n; word += strlen(word) + 1) {
		const char *next = word + strlen(word) + 1;

		if (strncmp(word, "--", 2) != 0 || strncmp(word + 2, key, length) != 0)
			continue;
		if (word[2 + length] == '=')
			value = word + 3 + length;
		else if (word[2 + length] == '\0' && next < line + n)
			value = next;
	}
	return value;
}

char *audit_place(const struct audited *audited, const struct privilege *row)
{
	_cleanup_free_ char *line = NULL;
	ssize_t n = audited->proc >= 0 && !audited->process->becomes ? audit_read(audited->proc, "cmdline", &line) : 0;
	const char *elsewhere = n > 0 ? option_value(line, (size_t)n, row->name) : NULL;

	return strdup(elsewhere ? elsewhere : row->path);
}

bool audit_path_within(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	while (n > 1 && folder[n - 1] == '/')
		n--;
	return strncmp(path, folder, n) == 0 && (path[n] == '\0' || path[n] == '/' || n == 1);
}

bool audit_call_declared(const struct privileges *privileges, const char *call)
{
	for (size_t i = 0; i < privileges->count; i++)
		if ((privileges->rows[i].kind == PRIVILEGE_START ||
		     (privileges->rows[i].kind == PRIVILEGE_SYS && privileges->rows[i].compare <= COMPARE_MASK)) &&
		    strcmp(privileges->rows[i].name, call) == 0)
			return true;
	return false;
}
