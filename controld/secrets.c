/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/secrets.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>

#define SECRET_TEXT_MIN 43 /* 256 bits */
#define SECRET_TEXT_MAX 128

void secret_mint(struct id *id, struct hash *hash, char text[static BEARER_TEXT])
{
	uint8_t secret[SECRET_BYTES];
	char *at = text + 2 * ID_BYTES + 1;

	randombytes_buf(id->b, sizeof(id->b));
	randombytes_buf(secret, sizeof(secret));
	(void)id_format(id, text);
	text[2 * ID_BYTES] = '.';
	(void)sodium_bin2base64(at, BEARER_TEXT - (2 * ID_BYTES + 1), secret, sizeof(secret), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	sodium_memzero(secret, sizeof(secret));
	hash_of(at, strlen(at), hash);
}

int secret_parse(const char *text, struct id *id, struct hash *hash)
{
	char id_text[ID_TEXT];
	size_t n;

	if (strnlen(text, ID_TEXT) < ID_TEXT || text[2 * ID_BYTES] != '.')
		return -EINVAL;
	memcpy(id_text, text, 2 * ID_BYTES);
	id_text[2 * ID_BYTES] = '\0';
	text += 2 * ID_BYTES + 1;
	n = strlen(text);
	if (n < SECRET_TEXT_MIN || n > SECRET_TEXT_MAX || id_parse(id_text, id) < 0)
		return -EINVAL;
	hash_of(text, n, hash);
	return 0;
}

const char *bearer_of(const char *header)
{
	return header && strncasecmp(header, "Bearer ", 7) == 0 ? header + 7 : NULL;
}

bool secret_matches(const struct hash *a, struct view stored)
{
	return stored.n == HASH_BYTES && sodium_memcmp(a->b, stored.p, HASH_BYTES) == 0;
}
