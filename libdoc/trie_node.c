/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/trie_node.h"

#include <errno.h>
#include <string.h>

#define NODE_LEAF 0
#define NODE_BRANCH 1

static const struct pack_limits limits = {
	.bytes = TRIE_NODE_BYTES_MAX, .depth = 5, .elements = 32 + TRIE_LEAF_MAX * (11 + ADDRESSES_MAX * 3 + ENDPOINTS_MAX * 3)
};

bool peer_equal(const struct peer *a, const struct peer *b)
{
	if (!id_equal(&a->host, &b->host) || a->address_count != b->address_count || a->endpoint_count != b->endpoint_count)
		return false;
	if (memcmp(a->statement.wg_key, b->statement.wg_key, KEY_BYTES) != 0 || a->statement.counter != b->statement.counter ||
	    memcmp(a->statement.signature, b->statement.signature, SIGNATURE_BYTES) != 0)
		return false;
	if (a->next.counter != b->next.counter || memcmp(a->next.wg_key, b->next.wg_key, KEY_BYTES) != 0 ||
	    memcmp(a->next.signature, b->next.signature, SIGNATURE_BYTES) != 0)
		return false;
	for (unsigned i = 0; i < a->address_count; i++)
		if (!prefix_equal(&a->addresses[i], &b->addresses[i]))
			return false;
	for (unsigned i = 0; i < a->endpoint_count; i++)
		if (!endpoint_equal(&a->endpoints[i], &b->endpoints[i]))
			return false;
	return true;
}

void trie_place(const struct id *host, struct hash *place)
{
	hash_of(host->b, ID_BYTES, place);
}

unsigned trie_digit(const uint8_t *place, unsigned depth)
{
	return (unsigned)place[depth / 4] >> (6 - 2 * (depth % 4)) & 3U;
}

static void peer_write(struct pack_writer *writer, const struct peer *peer)
{
	pack_put_array(writer, 7);
	pack_put_bytes(writer, peer->statement.host_key, KEY_BYTES);
	pack_put_bytes(writer, peer->statement.wg_key, KEY_BYTES);
	pack_put_u64(writer, peer->statement.counter);
	pack_put_bytes(writer, peer->statement.signature, SIGNATURE_BYTES);
	statement_next_write(writer, &peer->next);
	pack_put_array(writer, peer->address_count);
	for (unsigned i = 0; i < peer->address_count; i++)
		pack_put_prefix(writer, &peer->addresses[i]);
	pack_put_array(writer, peer->endpoint_count);
	for (unsigned i = 0; i < peer->endpoint_count; i++)
		pack_put_endpoint(writer, &peer->endpoints[i]);
}

void trie_leaf_write(struct pack_writer *writer, const struct peer *const *peers, unsigned count)
{
	pack_put_array(writer, 2);
	pack_put_u64(writer, NODE_LEAF);
	pack_put_array(writer, count);
	for (unsigned i = 0; i < count; i++)
		peer_write(writer, peers[i]);
}

void trie_branch_write(struct pack_writer *writer, const struct hash *const children[static TRIE_FANOUT])
{
	pack_put_array(writer, 2);
	pack_put_u64(writer, NODE_BRANCH);
	pack_put_array(writer, TRIE_FANOUT);
	for (unsigned i = 0; i < TRIE_FANOUT; i++)
		pack_put_bytes(writer, children[i] ? children[i]->b : NULL, children[i] ? HASH_BYTES : 0);
}

static void peer_read(struct pack_cursor *cursor, struct peer *peer)
{
	struct pack_cursor one, inner;

	memset(peer, 0, sizeof(*peer));
	pack_array(cursor, 7, 7, &one);
	pack_fixed(&one, peer->statement.host_key, KEY_BYTES);
	pack_fixed(&one, peer->statement.wg_key, KEY_BYTES);
	peer->statement.counter = pack_u64(&one, UINT64_MAX >> 8);
	pack_fixed(&one, peer->statement.signature, SIGNATURE_BYTES);
	statement_next_read(&one, &peer->statement, &peer->next);
	peer->address_count = pack_array(&one, 1, ADDRESSES_MAX, &inner);
	for (unsigned i = 0; i < peer->address_count; i++) {
		pack_prefix(&inner, &peer->addresses[i]);
		if (inner.error == 0 && peer->addresses[i].length != family_bits(peer->addresses[i].family))
			inner.error = -EBADMSG;
	}
	pack_close(&one, &inner);
	peer->endpoint_count = pack_array(&one, 0, ENDPOINTS_MAX, &inner);
	for (unsigned i = 0; i < peer->endpoint_count; i++)
		pack_endpoint(&inner, &peer->endpoints[i]);
	pack_close(&one, &inner);
	pack_close(cursor, &one);
	if (cursor->error == 0)
		host_id_of(peer->statement.host_key, &peer->host);
}

/* Does this place lie below the path? */
static bool below(const struct hash *place, const uint8_t *path, unsigned depth)
{
	for (unsigned i = 0; i < depth; i++)
		if (trie_digit(place->b, i) != path[i])
			return false;
	return true;
}

static int leaf_read(struct pack_cursor *cursor, const uint8_t *path, unsigned depth, struct trie_node *node)
{
	struct hash place, previous;
	struct pack_cursor peers;

	node->count = pack_array(cursor, 0, TRIE_LEAF_MAX, &peers);
	for (unsigned i = 0; i < node->count; i++) {
		peer_read(&peers, &node->peers[i]);
		if (peers.error < 0)
			return -EBADMSG;
		trie_place(&node->peers[i].host, &place);
		if (!below(&place, path, depth))
			return -EXDEV;
		if (i > 0 && memcmp(previous.b, place.b, HASH_BYTES) >= 0)
			return -EBADMSG;
		previous = place;
	}
	pack_close(cursor, &peers);
	return pack_done(cursor);
}

static int branch_read(struct pack_cursor *cursor, unsigned depth, struct trie_node *node)
{
	struct pack_cursor children;
	unsigned present = 0;

	if (depth >= TRIE_DEPTH_MAX)
		return -EBADMSG;
	pack_array(cursor, TRIE_FANOUT, TRIE_FANOUT, &children);
	for (unsigned i = 0; i < TRIE_FANOUT; i++) {
		struct view name = pack_bytes(&children, HASH_BYTES);

		if (children.error < 0 || (name.n != 0 && name.n != HASH_BYTES))
			return -EBADMSG;
		node->present[i] = name.n != 0;
		if (name.n) {
			memcpy(node->children[i].b, name.p, HASH_BYTES);
			present++;
		}
	}
	pack_close(cursor, &children);
	return present == 0 ? -EBADMSG : pack_done(cursor);
}

bool trie_node_is_leaf(struct view bytes)
{
	return bytes.n >= 2 && bytes.p[0] == 0x92 && bytes.p[1] == NODE_LEAF; /* an array of two that begins with this small integer */
}

int trie_node_decode(const void *bytes, size_t n, const uint8_t *path, unsigned depth, struct trie_node *node)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole;
	uint64_t kind;
	int r = pack_open(&reader, bytes, n, &limits, &whole);

	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	memset(node->present, 0, sizeof(node->present));
	node->count = 0;
	kind = pack_u64(&whole, NODE_BRANCH);
	if (whole.error < 0)
		return -EBADMSG;
	node->leaf = kind == NODE_LEAF;
	return node->leaf ? leaf_read(&whole, path, depth, node) : branch_read(&whole, depth, node);
}
