/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/assigned.h"

#include <errno.h>
#include <sodium.h>

#include "libdoc/wgkey.h"

_Static_assert(ASSIGNED_BYTES == KEY_BYTES + crypto_box_SEALBYTES, "what crypto_box_seal() makes of a key");

int assigned_make(const uint8_t host_key[static KEY_BYTES], uint8_t box[static ASSIGNED_BYTES], uint8_t public[static KEY_BYTES])
{
	uint8_t private[KEY_BYTES], to[crypto_box_PUBLICKEYBYTES];
	int r = crypto_sign_ed25519_pk_to_curve25519(to, host_key);

	if (r == 0) {
		wg_key_make(private, public);
		r = crypto_box_seal(box, private, sizeof(private), to);
	}
	sodium_memzero(private, sizeof(private));
	return r == 0 ? 0 : -EBADMSG;
}

int assigned_open(const uint8_t box[static ASSIGNED_BYTES], const uint8_t host_secret[static SECRET_KEY_BYTES],
		  uint8_t private[static KEY_BYTES])
{
	uint8_t mine[crypto_box_SECRETKEYBYTES], own[crypto_box_PUBLICKEYBYTES];
	int r = crypto_sign_ed25519_sk_to_curve25519(mine, host_secret);

	if (r == 0)
		r = crypto_scalarmult_base(own, mine);
	if (r == 0)
		r = crypto_box_seal_open(private, box, ASSIGNED_BYTES, own, mine);
	sodium_memzero(mine, sizeof(mine));
	if (r == 0)
		wg_key_clamp(private);
	return r == 0 ? 0 : -EBADMSG;
}
