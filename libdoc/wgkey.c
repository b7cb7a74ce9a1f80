/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/wgkey.h"

#include <sodium.h>

void wg_key_clamp(uint8_t private[static KEY_BYTES])
{
	private[0] &= 248;
	private[31] = (uint8_t)((private[31] & 127) | 64);
}

void wg_key_make(uint8_t private[static KEY_BYTES], uint8_t public[static KEY_BYTES])
{
	randombytes_buf(private, KEY_BYTES);
	wg_key_clamp(private);
	(void)crypto_scalarmult_base(public, private);
}
