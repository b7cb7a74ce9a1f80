/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "libdoc/trie_node.h"

/* One peer with its place, which is asked for at every level. */
struct entry {
	struct hash place;
	struct peer peer;
};

struct node {
	bool leaf;
	bool dirty;     /* changed since its hash was computed */
	bool named;     /* has a hash at all */
	uint32_t count; /* peers in the whole subtrie */
	struct hash hash;
	union {
		struct entry *entries[TRIE_LEAF_MAX + 1]; /* one too many just before a split */
		struct node *children[TRIE_FANOUT];
	};
};

struct trie {
	struct node *root;
};

static struct node *leaf_new(void)
{
	struct node *node = calloc(1, sizeof(*node));

	if (node)
		node->leaf = node->dirty = true;
	return node;
}

static void node_free(struct node *node)
{
	if (!node)
		return;
	for (unsigned i = 0; node->leaf && i < node->count; i++)
		free(node->entries[i]);
	for (unsigned i = 0; !node->leaf && i < TRIE_FANOUT; i++)
		node_free(node->children[i]);
	free(node);
}

int trie_new(struct trie **out)
{
	_cleanup_free_ struct trie *trie = calloc(1, sizeof(*trie));

	if (!trie)
		return -ENOMEM;
	trie->root = leaf_new();
	if (!trie->root)
		return -ENOMEM;
	*out = TAKE_PTR(trie);
	return 0;
}

void trie_free(struct trie *trie)
{
	if (!trie)
		return;
	node_free(trie->root);
	free(trie);
}

uint32_t trie_count(const struct trie *trie)
{
	return trie->root->count;
}

/* Index of the first entry of a leaf that is not before this place. */
static unsigned leaf_position(const struct node *leaf, const struct hash *place)
{
	unsigned i = 0;

	while (i < leaf->count && memcmp(leaf->entries[i]->place.b, place->b, HASH_BYTES) < 0)
		i++;
	return i;
}

static bool stands_at(const struct node *leaf, unsigned i, const struct hash *place)
{
	return i < leaf->count && hash_equal(&leaf->entries[i]->place, place);
}

static void leaf_insert(struct node *leaf, struct entry *entry)
{
	unsigned i = leaf_position(leaf, &entry->place);

	memmove(&leaf->entries[i + 1], &leaf->entries[i], (leaf->count - i) * sizeof(leaf->entries[0]));
	leaf->entries[i] = entry;
	leaf->count++;
	leaf->dirty = true;
}

/* The nodes of a branch that did not come to be; its entries are still in the leaf that it was to replace. */
static void branch_discard(struct node *branch)
{
	for (unsigned i = 0; i < TRIE_FANOUT; i++)
		free(branch->children[i]);
	free(branch);
}

/*
 * Replace a leaf that holds one too many by a branch. When memory runs out, everything is as it was: the leaf goes only once all nodes are
 * there, also those of the next level, for all may fall into one child.
 */
static int split(struct node **place_of_leaf, unsigned depth)
{
	struct node *leaf = *place_of_leaf;
	struct node *branch = calloc(1, sizeof(*branch));
	int r = 0;

	if (!branch)
		return -ENOMEM;
	branch->dirty = true;
	branch->count = leaf->count;
	for (unsigned i = 0; r == 0 && i < leaf->count; i++) {
		struct node **child = &branch->children[trie_digit(leaf->entries[i]->place.b, depth)];

		if (!*child)
			*child = leaf_new();
		if (*child)
			leaf_insert(*child, leaf->entries[i]);
		else
			r = -ENOMEM;
	}
	for (unsigned i = 0; r == 0 && i < TRIE_FANOUT; i++)
		if (branch->children[i] && branch->children[i]->count > TRIE_LEAF_MAX)
			r = split(&branch->children[i], depth + 1);
	if (r < 0) {
		branch_discard(branch);
		return r;
	}
	free(leaf);
	*place_of_leaf = branch;
	return 0;
}

static struct entry *find(const struct trie *trie, const struct hash *place)
{
	const struct node *node = trie->root;
	unsigned depth = 0;
	unsigned i;

	while (node && !node->leaf)
		node = node->children[trie_digit(place->b, depth++)];
	if (!node)
		return NULL;
	i = leaf_position(node, place);
	return stands_at(node, i, place) ? node->entries[i] : NULL;
}

const struct peer *trie_find(const struct trie *trie, const struct id *host)
{
	struct entry *entry;
	struct hash place;

	trie_place(host, &place);
	entry = find(trie, &place);
	return entry ? &entry->peer : NULL;
}

static void mark_path(struct trie *trie, const struct hash *place, int difference)
{
	struct node *node = trie->root;
	unsigned depth = 0;

	while (node && !node->leaf) {
		node->dirty = true;
		node->count = (uint32_t)((int64_t)node->count + difference);
		node = node->children[trie_digit(place->b, depth++)];
	}
	if (node)
		node->dirty = true;
}

static bool peer_valid(const struct peer *peer)
{
	if (peer->address_count == 0 || peer->address_count > ADDRESSES_MAX || peer->endpoint_count > ENDPOINTS_MAX)
		return false;
	for (unsigned i = 0; i < peer->address_count; i++)
		if (!prefix_valid(&peer->addresses[i]) || peer->addresses[i].length != family_bits(peer->addresses[i].family))
			return false;
	for (unsigned i = 0; i < peer->endpoint_count; i++)
		if (family_bits(peer->endpoints[i].family) == 0 || peer->endpoints[i].port == 0)
			return false;
	return true;
}

static int insert(struct trie *trie, struct entry *entry)
{
	struct node **link = &trie->root;
	unsigned depth = 0;
	struct node *leaf;
	int r;

	while (*link && !(*link)->leaf)
		link = &(*link)->children[trie_digit(entry->place.b, depth++)];
	if (!*link) {
		*link = leaf_new();
		if (!*link)
			return -ENOMEM;
	}
	leaf = *link;
	leaf_insert(leaf, entry);
	if (leaf->count <= TRIE_LEAF_MAX)
		return 0;
	r = split(link, depth);
	if (r < 0) { /* the leaf is as it was: take it out again */
		unsigned i = leaf_position(leaf, &entry->place);

		leaf->count--;
		memmove(&leaf->entries[i], &leaf->entries[i + 1], (leaf->count - i) * sizeof(leaf->entries[0]));
	}
	return r;
}

int trie_put(struct trie *trie, const struct peer *peer)
{
	struct entry *entry;
	struct entry *standing;
	int r;

	if (!peer_valid(peer))
		return -EINVAL;
	entry = malloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->peer = *peer;
	host_id_of(peer->statement.host_key, &entry->peer.host);
	trie_place(&entry->peer.host, &entry->place);
	standing = find(trie, &entry->place);
	if (standing) {
		standing->peer = entry->peer;
		mark_path(trie, &standing->place, 0);
		free(entry);
		return 0;
	}
	mark_path(trie, &entry->place, 1);
	r = insert(trie, entry);
	if (r < 0) {
		mark_path(trie, &entry->place, -1);
		free(entry);
	}
	return r;
}

/* Move all entries of a subtrie to a leaf, in order, and free the rest of it. */
static void gather(struct node *node, struct node *leaf)
{
	if (!node)
		return;
	for (unsigned i = 0; node->leaf && i < node->count; i++)
		leaf->entries[leaf->count++] = node->entries[i];
	for (unsigned i = 0; !node->leaf && i < TRIE_FANOUT; i++)
		gather(node->children[i], leaf);
	free(node);
}

static int remove_at(struct node **link, const struct hash *place, unsigned depth)
{
	struct node *node = *link;
	int r;

	if (node->leaf) {
		unsigned i = leaf_position(node, place);

		free(node->entries[i]);
		node->count--;
		node->dirty = true;
		memmove(&node->entries[i], &node->entries[i + 1], (node->count - i) * sizeof(node->entries[0]));
		if (node->count == 0 && depth > 0) {
			free(node);
			*link = NULL;
		}
		return 0;
	}
	if (node->count - 1 <= TRIE_LEAF_MAX) { /* the shape follows from the contents: few enough for a leaf is a leaf */
		struct node *leaf = leaf_new();

		if (!leaf)
			return -ENOMEM;
		gather(node, leaf); /* room for TRIE_LEAF_MAX + 1: the one to remove is still among them */
		*link = leaf;
		return remove_at(link, place, depth);
	}
	r = remove_at(&node->children[trie_digit(place->b, depth)], place, depth + 1);
	if (r == 0) {
		node->count--;
		node->dirty = true;
	}
	return r;
}

int trie_remove(struct trie *trie, const struct id *host)
{
	struct hash place;

	trie_place(host, &place);
	if (!find(trie, &place))
		return -ENOENT;
	return remove_at(&trie->root, &place, 0);
}

static void node_write(const struct node *node, struct pack_writer *writer)
{
	const struct hash *children[TRIE_FANOUT];
	const struct peer *peers[TRIE_LEAF_MAX];

	if (node->leaf) {
		for (unsigned i = 0; i < node->count; i++)
			peers[i] = &node->entries[i]->peer;
		trie_leaf_write(writer, peers, node->count);
		return;
	}
	for (unsigned i = 0; i < TRIE_FANOUT; i++)
		children[i] = node->children[i] ? &node->children[i]->hash : NULL;
	trie_branch_write(writer, children);
}

/* Children first; a node that was touched but came out the same is not new. */
static int commit(struct node *node, trie_emit_fn *emit, void *arg)
{
	uint8_t buffer[TRIE_NODE_BYTES_MAX];
	struct pack_writer writer = pack_writer_over(buffer, sizeof(buffer));
	struct hash hash;
	int r = 0;

	if (!node->dirty)
		return 0;
	for (unsigned i = 0; !node->leaf && r == 0 && i < TRIE_FANOUT; i++)
		if (node->children[i])
			r = commit(node->children[i], emit, arg);
	if (r < 0)
		return r;
	node_write(node, &writer);
	if (writer.error < 0)
		return writer.error;
	hash_of(buffer, writer.n, &hash);
	if (emit && !(node->named && hash_equal(&hash, &node->hash))) {
		r = emit(&hash, buffer, writer.n, arg);
		if (r < 0)
			return r;
	}
	node->hash = hash;
	node->named = true;
	node->dirty = false;
	return 0;
}

int trie_commit(struct trie *trie, trie_emit_fn *emit, void *arg, struct hash *root)
{
	int r = commit(trie->root, emit, arg);

	if (r == 0)
		*root = trie->root->hash;
	return r;
}
