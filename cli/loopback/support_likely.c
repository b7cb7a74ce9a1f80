/* SPDX-License-Identifier: Apache-2.0 */
/* What looks like a secret, whoever's it may be. */
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "cli/loopback/support_scrub.h"

#define TOKEN_SECRET_BYTES_MIN 40 /* 32 bytes in base64 are 43 */
#define CREDENTIAL_BYTES_MIN 8
/* How far a name goes on, and how long the first line of a PEM is: a journal of nothing else must not take us hours. */
#define NAME_REST_MAX 64
#define SPACES_MAX 16
#define PEM_LINE_MAX 100

/* Bytes of a span, seen as text that need not be terminated. */
struct span {
	char *at;
	size_t n;
};

static size_t blank(char *from, const char *to)
{
	if (from >= to)
		return 0;
	memset(from, '*', (size_t)(to - from));
	return 1;
}

static bool ends_word(char c)
{
	return (unsigned char)c <= ' ' || strchr("\"'<>`", c);
}

static char *word_end(char *at, const char *end)
{
	while (at < end && !ends_word(*at))
		at++;
	return at;
}

/* scheme://NAME:PASSWORD@: to the last @, for a password may hold one that nobody escaped. */
static size_t urls(struct span text)
{
	char *end = text.at + text.n, *at = text.at;
	size_t found = 0;

	while ((at = memmem(at, (size_t)(end - at), "://", 3))) {
		char *stop, *user = at + 3;

		stop = word_end(user, end);
		for (at = stop; at > user && at[-1] != '@'; at--)
			;
		if (at > user)
			found += blank(user, at - 1);
		at = stop;
	}
	return found;
}

static bool is_base64(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("+/-_=", c));
}

/* "Bearer " and "Basic ", and what follows. */
static size_t authorizations(struct span text)
{
	static const char *const schemes[] = { "bearer ", "basic " };
	size_t found = 0;

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		size_t length = strlen(schemes[i]);

		for (size_t at = 0; at + length < text.n; at++) {
			char *begin = text.at + at + length, *end = begin;

			if (strncasecmp(text.at + at, schemes[i], length) != 0)
				continue;
			while (end < text.at + text.n && (is_base64(*end) || *end == '.'))
				end++;
			if (end - begin >= CREDENTIAL_BYTES_MIN)
				found += blank(begin, end);
		}
	}
	return found;
}

/* ID.SECRET, with or without .ROOT: what follows a dot and is as long as 32 bytes in base64. */
static size_t tokens(struct span text)
{
	size_t found = 0;

	for (size_t at = 1; at < text.n;) {
		size_t end = at;

		while (end < text.n && is_base64(text.at[end]))
			end++;
		if (text.at[at - 1] == '.' && end - at >= TOKEN_SECRET_BYTES_MIN)
			found += blank(text.at + at, text.at + end);
		at = end + 1;
	}
	return found;
}

/* From the end of a name to its value: quotes and spaces, = or :, spaces and a quote. @return NULL: this is no assignment */
static char *value_after(char *at, const char *end, char *quote)
{
	const char *name_end = end - at < NAME_REST_MAX ? end : at + NAME_REST_MAX, *spaces_end;

	while (at < name_end && (isalnum((unsigned char)*at) || *at == '_' || *at == '-'))
		at++;
	spaces_end = end - at < SPACES_MAX ? end : at + SPACES_MAX;
	while (at < spaces_end && (*at == '"' || *at == '\'' || *at == ' '))
		at++;
	if (at >= end || (*at != '=' && *at != ':'))
		return NULL;
	at++;
	spaces_end = end - at < SPACES_MAX ? end : at + SPACES_MAX;
	while (at < spaces_end && *at == ' ')
		at++;
	*quote = at < end && (*at == '"' || *at == '\'') ? *at++ : '\0';
	return at;
}

static size_t assignments(struct span text)
{
	static const char *const names[] = { "password",   "passwd", "passphrase", "secret",	    "token", "private",
					     "credential", "apikey", "api_key",	   "authorization", "psk",   "pwd" };
	char *end = text.at + text.n;
	size_t found = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t length = strlen(names[i]);

		for (char *at = text.at; at + length < end; at++) {
			char quote, *value, *stop;

			if (tolower((unsigned char)*at) != names[i][0] || strncasecmp(at, names[i], length) != 0)
				continue;
			value = value_after(at + length, end, &quote);
			if (!value || (end - value >= 9 && memcmp(value, "[left out", 9) == 0))
				continue;
			for (stop = value;
			     stop < end && *stop != '\n' && (quote ? *stop != quote : !ends_word(*stop) && *stop != ','); stop++)
				;
			found += blank(value, stop);
		}
	}
	return found;
}

static size_t private_keys(struct span text)
{
	static const char begin[] = "-----BEGIN ", private[] = "PRIVATE KEY-----", finish[] = "-----END ";
	char *end = text.at + text.n, *at = text.at;
	size_t found = 0;

	while ((at = memmem(at, (size_t)(end - at), begin, sizeof(begin) - 1))) {
		size_t room = end - at < PEM_LINE_MAX ? (size_t)(end - at) : PEM_LINE_MAX;
		const char *line = memchr(at, '\n', room);
		char *body = memmem(at, line ? (size_t)(line - at) : room, private, sizeof(private) - 1);

		at += sizeof(begin) - 1;
		if (!body)
			continue;
		body += sizeof(private) - 1;
		at = memmem(body, (size_t)(end - body), finish, sizeof(finish) - 1);
		if (!at)
			at = end;
		found += blank(body, at);
	}
	return found;
}

size_t scrub_likely(char *bytes, size_t n)
{
	struct span text = { bytes, n };

	return private_keys(text) + urls(text) + authorizations(text) + tokens(text) + assignments(text);
}
