/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes of tries, and walks over them. The input is a list of blobs (a 32-bit big-endian length, bytes): nodes, the first two of which
 * are the old and the new root. A name leads to a node by its first byte, not by its hash, so that a node can be changed without losing
 * its parents: cycles and shared children come for free.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libdoc/trie_node.h"
#include "libipc/memfd.h"

#define NODES_MAX 32
#define LOOKUPS_MAX 400 /* so that one input stays quick */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

struct world {
	struct view nodes[NODES_MAX];
	unsigned count, lookups;
	unsigned added, removed, replaced;
};

static int lookup(const struct hash *name, struct view *bytes, void *arg)
{
	struct world *world = arg;
	unsigned i = name->b[0] % NODES_MAX;

	if (++world->lookups > LOOKUPS_MAX || i >= world->count)
		return -ENOENT;
	*bytes = world->nodes[i];
	return 0;
}

static int peer(const struct peer *old, const struct peer *new, void *arg)
{
	struct world *world = arg;

	if (!old && !new)
		abort();
	if (old && new && (!id_equal(&old->host, &new->host) || peer_equal(old, new)))
		abort();
	*(old && new ? &world->replaced : new ? &world->added : &world->removed) += 1;
	return 0;
}

static int missing(const struct hash *name, void *arg)
{
	struct view bytes;
	unsigned lookups = ((struct world *)arg)->lookups;

	if (lookups < LOOKUPS_MAX && lookup(name, &bytes, arg) == 0)
		abort();
	return 0;
}

static int fresh(const struct hash *name, struct view bytes, void *arg)
{
	(void)name, (void)arg;
	return bytes.n > TRIE_NODE_BYTES_MAX ? -EIO : 0;
}

/* A node that decodes at the root writes to the same bytes as it would be built from. */
static void rewrite(struct view bytes)
{
	_cleanup_writer_ struct pack_writer written = { .bytes = NULL };
	const struct peer *peers[TRIE_LEAF_MAX];
	const struct hash *children[TRIE_FANOUT];
	struct trie_node node, again;

	if (trie_node_decode(bytes.p, bytes.n, NULL, 0, &node) < 0)
		return;
	for (unsigned i = 0; i < node.count; i++)
		peers[i] = &node.peers[i];
	for (unsigned i = 0; i < TRIE_FANOUT; i++)
		children[i] = node.present[i] ? &node.children[i] : NULL;
	if (node.leaf)
		trie_leaf_write(&written, peers, node.count);
	else
		trie_branch_write(&written, children);
	if (written.error < 0 || trie_node_decode(written.bytes, written.n, NULL, 0, &again) < 0 || again.leaf != node.leaf ||
	    again.count != node.count)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const struct trie_diff_events events = { peer, missing, fresh };
	struct hash roots[2] = { { { 0 } }, { { 1 } } };
	struct world world = { .count = 0 }, back;
	struct peer found;
	struct id host;
	bool absent;
	size_t at = 0;
	int r;

	while (world.count < NODES_MAX && blob_next(bytes, n, &at, &world.nodes[world.count]) > 0)
		rewrite(world.nodes[world.count++]);
	back = world;
	if (trie_diff(&roots[0], &roots[1], lookup, &events, &world) == 0 && world.lookups <= LOOKUPS_MAX) {
		r = trie_diff(&roots[1], &roots[0], lookup, &events, &back);
		/* The way back is the same way, unless a node is missing: for the old side that is an error. */
		if (r == 0 && (world.added != back.removed || world.removed != back.added || world.replaced != back.replaced))
			abort();
	}
	world.lookups = 0;
	(void)trie_diff(NULL, &roots[1], lookup, &events, &world);
	memset(&host, 7, sizeof(host));
	world.lookups = 0;
	(void)trie_get(&roots[1], &host, lookup, &world, &found, &absent);
	return 0;
}
