/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/pae.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define SMALL 1024 /* statements and heads: no allocation */

/* Ed25519 reads its message twice, so the encoding is laid out in one piece; libsodium offers no other way for pure Ed25519. */
struct pae {
	uint8_t small[SMALL];
	uint8_t *large;
	uint8_t *bytes;
	size_t n;
};

static int pae_encode(struct pae *pae, const char *type, const void *body, size_t n)
{
	char head[160];
	int length = snprintf(head, sizeof(head), "DSSEv1 %zu %s %zu ", strlen(type), type, n);

	pae->large = NULL;
	if (length < 0 || (size_t)length >= sizeof(head))
		return -ENOMEM;
	pae->n = (size_t)length + n;
	pae->bytes = pae->small;
	if (pae->n > SMALL) {
		pae->large = malloc(pae->n);
		if (!pae->large)
			return -ENOMEM;
		pae->bytes = pae->large;
	}
	memcpy(pae->bytes, head, (size_t)length);
	if (n)
		memcpy(pae->bytes + length, body, n);
	return 0;
}

int pae_sign(const char *type, const void *body, size_t n, const uint8_t secret[static SECRET_KEY_BYTES],
	     uint8_t signature[static SIGNATURE_BYTES])
{
	struct pae pae;
	int r = pae_encode(&pae, type, body, n);

	if (r < 0)
		return r;
	(void)crypto_sign_detached(signature, NULL, pae.bytes, pae.n, secret);
	free(pae.large);
	return 0;
}

int pae_verify(const char *type, const void *body, size_t n, const uint8_t signature[static SIGNATURE_BYTES],
	       const uint8_t key[static KEY_BYTES])
{
	struct pae pae;
	int r = pae_encode(&pae, type, body, n);

	if (r < 0)
		return r;
	r = crypto_sign_verify_detached(signature, pae.bytes, pae.n, key) == 0 ? 0 : -EKEYREJECTED;
	free(pae.large);
	return r;
}
