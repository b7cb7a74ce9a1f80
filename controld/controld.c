/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/controld.h"

#include <errno.h>
#include <string.h>
#include <time.h>

int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int controld_keyset_set(struct controld *controld, struct view bytes, const struct keyset *keyset)
{
	uint8_t *copy = malloc(bytes.n);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, bytes.p, bytes.n);
	free(controld->keyset_bytes);
	controld->keyset_bytes = copy;
	controld->keyset_n = bytes.n;
	controld->keyset = *keyset;
	hash_of(bytes.p, bytes.n, &controld->keyset_hash);
	return 0;
}
