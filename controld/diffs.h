/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trie nodes that lead from one root to another. When a network changes, thousands of hosts ask for the same difference: it is
 * computed once and kept while it is asked for.
 */
#pragma once

#include "controld/controld.h"

_must_check_ int diffs_new(struct diff_cache **cache);
void diffs_free(struct diff_cache *cache);

/**
 * Append the nodes that a host with the old root lacks, each as one binary, parents first.
 * @param old 32 zero bytes, or a root that is not kept any more: all nodes
 * @param room how many bytes may be appended; what does not fit the host asks for by name
 * @param count grows by their number
 */
_must_check_ int diffs_append(struct controld *controld, const struct id *network, const struct hash *old, const struct hash *new,
			      size_t room, struct pack_writer *out, uint32_t *count);
