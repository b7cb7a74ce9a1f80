/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/types.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

bool id_equal(const struct id *a, const struct id *b)
{
	return memcmp(a->b, b->b, ID_BYTES) == 0;
}

bool id_is_zero(const struct id *id)
{
	return sodium_is_zero(id->b, ID_BYTES) != 0;
}

bool hash_equal(const struct hash *a, const struct hash *b)
{
	return memcmp(a->b, b->b, HASH_BYTES) == 0;
}

bool prefix_equal(const struct prefix *a, const struct prefix *b)
{
	return a->family == b->family && a->length == b->length && memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->family == b->family && a->port == b->port && memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

unsigned family_bits(uint8_t family)
{
	return family == 4 ? 32 : family == 6 ? 128 : 0;
}

/* Do the first bits of two addresses agree? */
static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) & (0xff00U >> rest) & 0xffU) == 0;
}

bool prefix_contains(const struct prefix *outer, const struct prefix *inner)
{
	return outer->family == inner->family && inner->length >= outer->length && bits_equal(outer->b, inner->b, outer->length);
}

bool prefix_overlaps(const struct prefix *a, const struct prefix *b)
{
	return prefix_contains(a, b) || prefix_contains(b, a);
}

bool prefix_valid(const struct prefix *prefix)
{
	static const uint8_t zero[17];
	unsigned bits = family_bits(prefix->family);
	unsigned whole = prefix->length / 8, rest = prefix->length % 8;

	if (bits == 0 || prefix->length > bits)
		return false;
	if (rest) {
		if (prefix->b[whole] & (0xffU >> rest))
			return false;
		whole++;
	}
	return memcmp(prefix->b + whole, zero, sizeof(prefix->b) - whole) == 0;
}

/* "192.0.2.1" or "2001:db8::1", exactly n characters of text. */
static uint8_t address_parse(const char *text, size_t n, uint8_t out[16])
{
	char copy[INET6_ADDRSTRLEN];

	memset(out, 0, 16);
	if (n >= sizeof(copy))
		return 0;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (inet_pton(AF_INET, copy, out) == 1)
		return 4;
	return inet_pton(AF_INET6, copy, out) == 1 ? 6 : 0;
}

/* A decimal number without sign or blanks that ends the text. */
static int number_parse(const char *text, unsigned max, unsigned *out)
{
	unsigned value = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		value = value * 10 + (unsigned)(*text - '0');
		if (value > max)
			return -EINVAL;
	}
	*out = value;
	return 0;
}

int prefix_parse(const char *text, struct prefix *prefix)
{
	struct prefix parsed = { 0 };
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	unsigned length;

	parsed.family = address_parse(text, n, parsed.b);
	length = family_bits(parsed.family);
	if (length == 0)
		return -EINVAL;
	if (slash && number_parse(slash + 1, length, &length) < 0)
		return -EINVAL;
	parsed.length = (uint8_t)length;
	if (!prefix_valid(&parsed))
		return -EINVAL;
	*prefix = parsed;
	return 0;
}

const char *prefix_format(const struct prefix *prefix, char out[static PREFIX_TEXT])
{
	char address[INET6_ADDRSTRLEN] = "?";

	(void)inet_ntop(prefix->family == 4 ? AF_INET : AF_INET6, prefix->b, address, sizeof(address));
	(void)snprintf(out, PREFIX_TEXT, "%s/%u", address, prefix->length);
	return out;
}

int endpoint_parse(const char *text, struct endpoint *endpoint)
{
	struct endpoint parsed = { 0 };
	const char *colon = strrchr(text, ':');
	size_t n;
	unsigned port;

	if (!colon || number_parse(colon + 1, UINT16_MAX, &port) < 0 || port == 0)
		return -EINVAL;
	n = (size_t)(colon - text);
	if (text[0] == '[') {
		if (n < 2 || text[n - 1] != ']')
			return -EINVAL;
		parsed.family = address_parse(text + 1, n - 2, parsed.b);
		if (parsed.family != 6)
			return -EINVAL;
	} else {
		parsed.family = address_parse(text, n, parsed.b);
		if (parsed.family != 4)
			return -EINVAL;
	}
	parsed.port = (uint16_t)port;
	*endpoint = parsed;
	return 0;
}

const char *endpoint_format(const struct endpoint *endpoint, char out[static ENDPOINT_TEXT])
{
	char address[INET6_ADDRSTRLEN] = "?";

	if (family_bits(endpoint->family) == 0)
		return strcpy(out, "none");
	(void)inet_ntop(endpoint->family == 4 ? AF_INET : AF_INET6, endpoint->b, address, sizeof(address));
	(void)snprintf(out, ENDPOINT_TEXT, endpoint->family == 4 ? "%s:%u" : "[%s]:%u", address, endpoint->port);
	return out;
}

const char *hex_format(const void *bytes, size_t n, char *out)
{
	return sodium_bin2hex(out, 2 * n + 1, bytes, n);
}

int hex_parse(const char *text, void *bytes, size_t n)
{
	size_t parsed;

	if (strlen(text) != 2 * n)
		return -EINVAL;
	if (sodium_hex2bin(bytes, n, text, 2 * n, NULL, &parsed, NULL) != 0 || parsed != n)
		return -EINVAL;
	return 0;
}

const char *id_format(const struct id *id, char out[static ID_TEXT])
{
	return hex_format(id->b, ID_BYTES, out);
}

int id_parse(const char *text, struct id *id)
{
	struct id parsed;
	int r = hex_parse(text, parsed.b, ID_BYTES);

	if (r == 0)
		*id = parsed;
	return r;
}

const char *key_format(const uint8_t key[static KEY_BYTES], char out[static KEY_BASE64_TEXT])
{
	return sodium_bin2base64(out, KEY_BASE64_TEXT, key, KEY_BYTES, sodium_base64_VARIANT_ORIGINAL);
}

int key_parse(const char *text, uint8_t key[static KEY_BYTES])
{
	uint8_t parsed[KEY_BYTES];
	size_t n;

	if (sodium_base642bin(parsed, sizeof(parsed), text, strlen(text), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) != 0 ||
	    n != KEY_BYTES)
		return -EINVAL;
	memcpy(key, parsed, KEY_BYTES);
	return 0;
}

void hash_of(const void *bytes, size_t n, struct hash *hash)
{
	(void)crypto_generichash(hash->b, HASH_BYTES, bytes, n, NULL, 0);
}

void host_id_of(const uint8_t host_key[static KEY_BYTES], struct id *id)
{
	struct hash hash;

	hash_of(host_key, KEY_BYTES, &hash);
	memcpy(id->b, hash.b, ID_BYTES);
}
