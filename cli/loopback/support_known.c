/* SPDX-License-Identifier: Apache-2.0 */
/* Known secrets, and the forms in which they turn up. */
#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#include "cli/loopback/support_scrub.h"

int secrets_add(struct secrets *secrets, const void *bytes, size_t n)
{
	struct secret *grown;
	uint8_t *copy;

	if (n > SECRET_BYTES_MAX)
		return -EMSGSIZE;
	if (n < SECRET_BYTES_MIN)
		return 0;
	for (size_t i = 0; i < secrets->count; i++)
		if (secrets->values[i].n == n && memcmp(secrets->values[i].bytes, bytes, n) == 0)
			return 0;
	if (secrets->count == secrets->room) {
		grown = realloc(secrets->values, (secrets->room + 16) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		secrets->values = grown;
		secrets->room += 16;
	}
	copy = malloc(n);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, bytes, n);
	secrets->values[secrets->count++] = (struct secret){ copy, n };
	return 0;
}

void secrets_free(struct secrets *secrets)
{
	for (size_t i = 0; i < secrets->count; i++) {
		sodium_memzero(secrets->values[i].bytes, secrets->values[i].n);
		free(secrets->values[i].bytes);
	}
	free(secrets->values);
	*secrets = (struct secrets){ 0 };
}

/* -- Forms that go byte by byte ---------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool hex_is(const char *at, uint8_t byte)
{
	return hex_digit(at[0]) == byte >> 4 && hex_digit(at[1]) == (byte & 15);
}

/* \uXXXX stands for one to three bytes of UTF-8. @return how many, if they are what comes next; 0: not */
static size_t unicode_escape(const char *at, size_t left, const uint8_t *want, size_t want_n)
{
	uint8_t bytes[3];
	unsigned unit = 0;
	size_t n;

	if (left < 6 || at[1] != 'u')
		return 0;
	for (size_t i = 2; i < 6; i++) {
		if (hex_digit(at[i]) < 0)
			return 0;
		unit = unit << 4 | (unsigned)hex_digit(at[i]);
	}
	n = unit < 0x80 ? 1 : unit < 0x800 ? 2 : 3;
	bytes[0] = (uint8_t)(n == 1 ? unit : n == 2 ? 0xc0 | unit >> 6 : 0xe0 | unit >> 12);
	bytes[1] = (uint8_t)(n == 2 ? 0x80 | (unit & 0x3f) : 0x80 | (unit >> 6 & 0x3f));
	bytes[2] = (uint8_t)(0x80 | (unit & 0x3f));
	return n <= want_n && memcmp(bytes, want, n) == 0 ? n : 0;
}

/* An escape that stands for the next byte, or bytes. @param used receives how many @return how long it is; 0: none */
static size_t escape(const char *at, size_t left, const uint8_t *want, size_t want_n, size_t *used)
{
	*used = 1;
	if (left >= 3 && at[0] == '%' && hex_is(at + 1, want[0]))
		return 3;
	if (left < 2 || at[0] != '\\')
		return 0;
	if (left >= 4 && at[1] == 'x' && hex_is(at + 2, want[0]))
		return 4;
	*used = unicode_escape(at, left, want, want_n);
	if (*used > 0)
		return 6;
	*used = 1;
	return (uint8_t)at[1] == want[0] ? 2 : 0;
}

/* What is a character and what begins an escape of one is told by what follows: both readings are tried. */
static size_t reading(const char *at, size_t left, const struct secret *secret, bool escapes_first)
{
	size_t n = 0;

	for (size_t i = 0; i < secret->n;) {
		bool plain = n < left && ((uint8_t)at[n] == secret->bytes[i] || (at[n] == '+' && secret->bytes[i] == ' '));
		size_t used = 1, one = 0;

		if (!plain || escapes_first)
			one = escape(at + n, left - n, secret->bytes + i, secret->n - i, &used);
		if (one == 0 && !plain)
			return 0;
		n += one ? one : 1;
		i += one ? used : 1;
	}
	return n;
}

static size_t escaped_form(const char *at, size_t left, const struct secret *secret)
{
	size_t n = reading(at, left, secret, true);

	return n ? n : reading(at, left, secret, false);
}

static size_t hex_form(const char *at, size_t left, const struct secret *secret)
{
	size_t n = 0;

	for (size_t i = 0; i < secret->n; i++) {
		if (i > 0 && left > n && (at[n] == ':' || at[n] == ' ' || at[n] == '-'))
			n++;
		if (left - n < 2 || !hex_is(at + n, secret->bytes[i]))
			return 0;
		n += 2;
	}
	return n;
}

static size_t walk(char *bytes, size_t n, const struct secret *secret,
		   size_t (*form)(const char *, size_t, const struct secret *))
{
	size_t found = 0;

	for (size_t at = 0; at < n;) {
		size_t length = form(bytes + at, n - at, secret);

		if (length > 0) {
			memset(bytes + at, '*', length);
			found++;
		}
		at += length ? length : 1;
	}
	return found;
}

/* -- Forms that are made once ------------------------------------------------------------------------------------------------ */

static size_t replace(char *bytes, size_t n, const void *form, size_t form_n)
{
	size_t found = 0;
	char *end = bytes + n, *at = bytes;

	while (form_n > 0 && (at = memmem(at, (size_t)(end - at), form, form_n))) {
		memset(at, '*', form_n);
		at += form_n;
		found++;
	}
	return found;
}

/* Only the digits that do not depend on what stands before and after the secret within what was encoded. */
static size_t base64_forms(char *bytes, size_t n, const struct secret *secret)
{
	static const int variants[] = { sodium_base64_VARIANT_ORIGINAL_NO_PADDING, sodium_base64_VARIANT_URLSAFE_NO_PADDING };
	static const size_t first_whole[] = { 0, 2, 3 };
	uint8_t shifted[SECRET_BYTES_MAX + 2] = { 0 };
	char text[SECRET_BYTES_MAX * 2];
	size_t found = 0;

	for (size_t shift = 0; shift < 3; shift++) {
		size_t whole = (shift + secret->n) * 8 / 6;

		memcpy(shifted + shift, secret->bytes, secret->n);
		for (size_t v = 0; v < ARRAY_SIZE(variants); v++) {
			(void)sodium_bin2base64(text, sizeof(text), shifted, shift + secret->n, variants[v]);
			found += replace(bytes, n, text + first_whole[shift], whole - first_whole[shift]);
		}
	}
	sodium_memzero(shifted, sizeof(shifted));
	sodium_memzero(text, sizeof(text));
	return found;
}

/* @return code units of the text in UTF-16; 0 if it is not UTF-8 of the basic plane */
static size_t utf16_of(const struct secret *secret, uint16_t *units)
{
	size_t count = 0;

	for (size_t i = 0; i < secret->n;) {
		uint8_t lead = secret->bytes[i];
		size_t more = lead < 0x80 ? 0 : lead >= 0xc2 && lead < 0xe0 ? 1 : lead >= 0xe0 && lead < 0xf0 ? 2 : 3;
		unsigned unit = more == 0 ? lead : lead & (0x3fu >> more);

		if (more == 3 || i + more >= secret->n)
			return 0;
		for (size_t k = 1; k <= more; k++)
			unit = unit << 6 | (secret->bytes[i + k] & 0x3f);
		units[count++] = (uint16_t)unit;
		i += more + 1;
	}
	return count;
}

static size_t utf16_forms(char *bytes, size_t n, const struct secret *secret)
{
	uint16_t units[SECRET_BYTES_MAX];
	uint8_t form[2][2 * SECRET_BYTES_MAX];
	size_t count = utf16_of(secret, units), found;

	for (size_t i = 0; i < count; i++) {
		form[0][2 * i] = form[1][2 * i + 1] = (uint8_t)(units[i] & 0xff);
		form[0][2 * i + 1] = form[1][2 * i] = (uint8_t)(units[i] >> 8);
	}
	found = replace(bytes, n, form[0], 2 * count) + replace(bytes, n, form[1], 2 * count);
	sodium_memzero(units, sizeof(units));
	sodium_memzero(form, sizeof(form));
	return found;
}

size_t scrub_known(char *bytes, size_t n, const struct secrets *secrets)
{
	size_t found = 0;

	for (size_t i = 0; i < secrets->count; i++) {
		const struct secret *secret = &secrets->values[i];

		found += walk(bytes, n, secret, escaped_form);
		found += walk(bytes, n, secret, hex_form);
		found += base64_forms(bytes, n, secret);
		found += utf16_forms(bytes, n, secret);
	}
	return found;
}
