/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/controld.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "libipc/log.h"

int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int keyset_set(struct controld *controld, struct view bytes, const struct keyset *keyset)
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

/* What the database holds was taken in by an administrator, or by a keyset before it; it still has to verify by the root that it names. */
int controld_keyset_load(struct controld *controld)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct keyset keyset;
	uint8_t root[KEY_BYTES];
	size_t n;
	int r = store_meta(controld->store, "keyset", &bytes, &n);

	if (r == 0)
		r = keyset_root_claimed((struct view){ bytes, n }, root);
	if (r == 0)
		r = keyset_open(bytes, n, root, &keyset);
	if (r < 0)
		return log_errno(r, "control.db: no keyset that verifies; `controld init` takes the first one");
	return keyset_set(controld, (struct view){ bytes, n }, &keyset);
}
