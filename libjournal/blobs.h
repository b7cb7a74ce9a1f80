/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents and trie nodes by name. Each is kept as long as something that is in force refers to it.
 */
#pragma once

#include "libdoc/trie.h"

struct blobs;

_must_check_ int blobs_new(struct blobs **blobs);
void blobs_free(struct blobs *blobs);
DEFINE_CLEANUP(struct blobs *, blobs_free)

/** Keep a copy under the name that the caller computed from the bytes; it begins with no reference. Known already: nothing happens. @return 0; -ENOMEM */
_must_check_ int blobs_put(struct blobs *blobs, const struct hash *name, const void *bytes, size_t n);
/** @return 0 with a view that is valid until the blob goes; -ENOENT */
_must_check_ int blobs_get(const struct blobs *blobs, const struct hash *name, struct view *bytes);
/** blobs_get() in the form that tries want; arg is the struct blobs. */
trie_lookup_fn blobs_lookup;

/** One reference more. Unknown names are ignored. */
void blobs_hold(struct blobs *blobs, const struct hash *name);
/** One less; at none the blob goes. */
void blobs_drop(struct blobs *blobs, const struct hash *name);
/** Drop everything that nobody refers to. O(all): at start and after a refusal only. */
void blobs_sweep(struct blobs *blobs);

size_t blobs_bytes(const struct blobs *blobs);
/** Call for each blob. @return 0 or the callback's negative result */
_must_check_ int blobs_each(const struct blobs *blobs, int (*each)(const struct hash *name, struct view bytes, void *arg), void *arg);
