/* SPDX-License-Identifier: Apache-2.0 */
/* What the builder and the walker of tries share: how nodes are written. Not for others. */
#pragma once

#include "libdoc/trie.h"

/** Write a leaf. peers are in the order of their places. */
void trie_leaf_write(struct pack_writer *writer, const struct peer *const *peers, unsigned count);
/** Write a branch; a child that is NULL is empty. */
void trie_branch_write(struct pack_writer *writer, const struct hash *const children[static TRIE_FANOUT]);

/** Is this a leaf, by its first two bytes? Says nothing of the rest: trie_node_decode() does. */
bool trie_node_is_leaf(struct view bytes);
