/* SPDX-License-Identifier: Apache-2.0 */
/* What fuzz targets share: memory, and one key pair that seeds and targets agree on. */
#pragma once

#include <sodium.h>
#include <stdlib.h>

#include "libipc/types.h"

static inline void *fuzz_alloc(size_t n)
{
	void *memory = calloc(1, n ? n : 1);

	if (!memory)
		abort();
	return memory;
}

struct fuzz_actor {
	uint8_t key[KEY_BYTES];
	uint8_t secret[SECRET_KEY_BYTES];
};

/** The key pair of the seed of all zeros: no secret to anybody. */
static inline struct fuzz_actor fuzz_actor(void)
{
	static const uint8_t seed[crypto_sign_SEEDBYTES];
	struct fuzz_actor actor;

	(void)crypto_sign_seed_keypair(actor.key, actor.secret, seed);
	return actor;
}
