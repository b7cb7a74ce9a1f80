/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/shared.h"

#include <stdlib.h>
#include <string.h>

struct shared *shared_of(struct pack_writer *written, uint32_t count)
{
	struct shared *shared = malloc(sizeof(*shared) + written->n);

	if (shared) {
		*shared = (struct shared){ .holders = 1, .count = count, .n = written->n };
		memcpy(shared->bytes, written->bytes, written->n);
	}
	pack_writer_free(written);
	return shared;
}

struct shared *shared_hold(struct shared *shared)
{
	shared->holders++;
	return shared;
}

void shared_drop(struct shared *shared)
{
	if (shared && --shared->holders == 0)
		free(shared);
}
