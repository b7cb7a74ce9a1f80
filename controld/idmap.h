/* SPDX-License-Identifier: Apache-2.0 */
/* From an id to a pointer. Open addressing; ids are hashes or random, so their own bytes are the hash. */
#pragma once

#include "libipc/types.h"

struct idmap_slot {
	struct id id;
	void *value; /* NULL: free */
};

struct idmap {
	struct idmap_slot *slots;
	size_t room; /* a power of two */
	size_t count;
};

/** @return the value, NULL */
void *idmap_get(const struct idmap *map, const struct id *id);
/** Set, or replace. @param value not NULL @return 0; -ENOMEM */
_must_check_ int idmap_put(struct idmap *map, const struct id *id, void *value);
/** @return what was there, NULL */
void *idmap_remove(struct idmap *map, const struct id *id);
/** Visit all: *at starts at 0. @return the next value, NULL at the end. Nothing may be put or removed in between. */
void *idmap_next(const struct idmap *map, size_t *at, struct id *id);
void idmap_free(struct idmap *map);
