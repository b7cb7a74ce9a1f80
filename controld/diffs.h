/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trie nodes that lead from one root to another. When a network changes, thousands of hosts ask for the same difference: it is
 * computed once and kept while it is asked for.
 */
#pragma once

#include "controld/controld.h"
#include "controld/shared.h"

_must_check_ int diffs_new(struct diff_cache **cache);
void diffs_free(struct diff_cache *cache);

/**
 * The nodes that a host with the old root lacks, each as one binary, parents first.
 * @param old 32 zero bytes, or a root that is not kept any more: all nodes
 * @param nodes receives them, held for the caller: shared_drop()
 * @return 0; negative errno
 */
_must_check_ int diffs_get(struct controld *controld, const struct id *network, const struct hash *old, const struct hash *new,
			   struct shared **nodes);
