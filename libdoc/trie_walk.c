/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "libdoc/trie_node.h"

#define NODES_MAX (3 * PEERS_MAX)

struct walk {
	trie_lookup_fn *lookup;
	const struct trie_diff_events *events;
	void *arg;
	uint32_t nodes; /* looked at so far */
	uint8_t path[TRIE_DEPTH_MAX + 1];
};

enum side { OLD, NEW };

/* One peer of one side only. */
static int report_single(struct walk *walk, enum side side, const struct peer *peer)
{
	if (!walk->events->peer)
		return 0;
	return side == OLD ? walk->events->peer(peer, NULL, walk->arg) : walk->events->peer(NULL, peer, walk->arg);
}

static int report_pair(struct walk *walk, const struct peer *old, const struct peer *new)
{
	if (!walk->events->peer || peer_equal(old, new))
		return 0;
	return walk->events->peer(old, new, walk->arg);
}

/*
 * Get and decode a node.
 * @return 1 it is here; 0 it is missing from the new trie and that was told
 */
static int visit(struct walk *walk, enum side side, const struct hash *name, unsigned depth, struct trie_node *node)
{
	struct view bytes;
	int r;

	if (++walk->nodes > NODES_MAX)
		return -E2BIG;
	r = walk->lookup(name, &bytes, walk->arg);
	if (r == -ENOENT && side == NEW && walk->events->missing) {
		r = walk->events->missing(name, walk->arg);
		return r < 0 ? r : 0;
	}
	if (r < 0)
		return r;
	if (!walk->events->peer && trie_node_is_leaf(bytes)) {
		node->leaf = true; /* nobody asks for its peers: names are all that this walk is about */
		node->count = 0;
	} else {
		r = trie_node_decode(bytes.p, bytes.n, walk->path, depth, node);
		if (r < 0)
			return r;
	}
	if (side == NEW && walk->events->fresh)
		r = walk->events->fresh(name, bytes, walk->arg);
	return r < 0 ? r : 1;
}

/* Peers of one leaf that are waiting for their counterpart of the other side. */
struct waiting {
	const struct trie_node *leaf;
	enum side side; /* of the leaf */
	bool met[TRIE_LEAF_MAX];
};

static int meet(struct walk *walk, struct waiting *waiting, const struct peer *peer)
{
	for (unsigned i = 0; waiting && i < waiting->leaf->count; i++) {
		const struct peer *other = &waiting->leaf->peers[i];

		if (!id_equal(&other->host, &peer->host))
			continue;
		waiting->met[i] = true;
		return waiting->side == OLD ? report_pair(walk, other, peer) : report_pair(walk, peer, other);
	}
	return 1;
}

/* All peers of a subtrie of one side, each matched against those waiting. */
static int walk_all(struct walk *walk, enum side side, const struct hash *name, unsigned depth, struct waiting *waiting);

static int walk_node(struct walk *walk, enum side side, const struct trie_node *node, unsigned depth, struct waiting *waiting)
{
	int r = 0;

	for (unsigned i = 0; node->leaf && r >= 0 && i < node->count; i++) {
		r = meet(walk, waiting, &node->peers[i]);
		if (r > 0)
			r = report_single(walk, side, &node->peers[i]);
	}
	for (unsigned i = 0; !node->leaf && r >= 0 && i < TRIE_FANOUT; i++) {
		if (!node->present[i])
			continue;
		walk->path[depth] = (uint8_t)i;
		r = walk_all(walk, side, &node->children[i], depth + 1, waiting);
	}
	return r < 0 ? r : 0;
}

static int walk_all(struct walk *walk, enum side side, const struct hash *name, unsigned depth, struct waiting *waiting)
{
	struct trie_node node;
	int r = visit(walk, side, name, depth, &node);

	return r <= 0 ? r : walk_node(walk, side, &node, depth, waiting);
}

/* One side is a leaf here: its peers wait while the other side is walked. */
static int leaf_against(struct walk *walk, const struct trie_node *leaf, enum side leaf_side, const struct trie_node *other,
			unsigned depth)
{
	struct waiting waiting = { .leaf = leaf, .side = leaf_side };
	int r = walk_node(walk, leaf_side == OLD ? NEW : OLD, other, depth, &waiting);

	for (unsigned i = 0; r >= 0 && i < leaf->count; i++)
		if (!waiting.met[i])
			r = report_single(walk, leaf_side, &leaf->peers[i]);
	return r < 0 ? r : 0;
}

static int diff(struct walk *walk, const struct hash *old, const struct hash *new, unsigned depth)
{
	struct trie_node before, after;
	int r;

	if (!old || !new)
		return walk_all(walk, old ? OLD : NEW, old ? old : new, depth, NULL);
	if (hash_equal(old, new))
		return 0;
	r = visit(walk, NEW, new, depth, &after);
	if (r <= 0)
		return r;
	r = visit(walk, OLD, old, depth, &before);
	if (r <= 0)
		return r;
	if (before.leaf)
		return leaf_against(walk, &before, OLD, &after, depth);
	if (after.leaf)
		return leaf_against(walk, &after, NEW, &before, depth);
	for (unsigned i = 0; i < TRIE_FANOUT; i++) {
		if (!before.present[i] && !after.present[i])
			continue;
		walk->path[depth] = (uint8_t)i;
		r = diff(walk, before.present[i] ? &before.children[i] : NULL, after.present[i] ? &after.children[i] : NULL, depth + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

int trie_diff(const struct hash *old, const struct hash *new, trie_lookup_fn *lookup, const struct trie_diff_events *events, void *arg)
{
	struct walk walk = { .lookup = lookup, .events = events, .arg = arg };

	return old || new ? diff(&walk, old, new, 0) : 0;
}

int trie_get(const struct hash *root, const struct id *host, trie_lookup_fn *lookup, void *arg, struct peer *peer, bool *missing)
{
	uint8_t path[TRIE_DEPTH_MAX + 1];
	struct hash name = *root;
	struct hash place;
	struct trie_node node;

	*missing = false;
	trie_place(host, &place);
	for (unsigned depth = 0; depth <= TRIE_DEPTH_MAX; depth++) {
		struct view bytes;
		unsigned digit = trie_digit(place.b, depth);
		int r = lookup(&name, &bytes, arg);

		*missing = r == -ENOENT;
		if (r < 0)
			return r;
		r = trie_node_decode(bytes.p, bytes.n, path, depth, &node);
		if (r < 0)
			return r;
		for (unsigned i = 0; node.leaf && i < node.count; i++)
			if (id_equal(&node.peers[i].host, host)) {
				*peer = node.peers[i];
				return 0;
			}
		if (node.leaf || !node.present[digit])
			return -ENOENT;
		path[depth] = (uint8_t)digit;
		name = node.children[digit];
	}
	return -EBADMSG;
}
