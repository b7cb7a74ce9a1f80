/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that many answers have in common, held by each while it is sent. Ten thousand hosts that come for a whole network at once take its nodes ten thousand
 * times over the network, and once in memory.
 */
#pragma once

#include "libipc/pack.h"

struct shared {
	unsigned holders;
	uint32_t count; /* of blobs in it */
	size_t n;
	uint8_t bytes[];
};

/** Make one of what was written, held once. @param written consumed, also on failure @return NULL: no memory */
struct shared *shared_of(struct pack_writer *written, uint32_t count);
struct shared *shared_hold(struct shared *shared);
/** The last holder frees it. NULL is fine. */
void shared_drop(struct shared *shared);
