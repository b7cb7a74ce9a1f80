/* SPDX-License-Identifier: Apache-2.0 */
/* The trie as the control plane builds it: its shape, its cost, what it refuses. */
#include "libdoc/trie_node.h"
#include "tests/unit/documents.h"

static struct hash committed(struct trie *trie, struct store *store)
{
	struct hash root;

	ck_assert_int_eq(trie_commit(trie, store ? store_emit : NULL, store, &root), 0);
	return root;
}

static void put(struct trie *trie, uint32_t number)
{
	struct peer peer = peer_unsigned(number);

	ck_assert_int_eq(trie_put(trie, &peer), 0);
}

static void take(struct trie *trie, uint32_t number)
{
	struct peer peer = peer_unsigned(number);

	ck_assert_int_eq(trie_remove(trie, &peer.host), 0);
}

static struct trie *trie_of(const uint32_t *numbers, size_t count)
{
	struct trie *trie = NULL;

	ck_assert_int_eq(trie_new(&trie), 0);
	for (size_t i = 0; i < count; i++)
		put(trie, numbers[i]);
	return trie;
}

/* Numbers from..from + count - 1 in an order of the dice's. */
static void shuffled(struct dice *dice, uint32_t from, uint32_t *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		numbers[i] = from + (uint32_t)i;
	for (size_t i = count; i > 1; i--) {
		size_t j = dice_below(dice, (uint32_t)i);
		uint32_t kept = numbers[i - 1];

		numbers[i - 1] = numbers[j];
		numbers[j] = kept;
	}
}

/* Peers whose places share their first digits with that of number 0. */
static size_t neighbours(unsigned digits, uint32_t *numbers, size_t count)
{
	struct peer first = peer_unsigned(0);
	struct hash place;
	size_t found = 0;

	trie_place(&first.host, &place);
	for (uint32_t number = 0; found < count && number < 2000000; number++) {
		struct peer peer = peer_unsigned(number);
		struct hash other;
		bool shared = true;

		trie_place(&peer.host, &other);
		for (unsigned i = 0; i < digits; i++)
			shared = shared && trie_digit(place.b, i) == trie_digit(other.b, i);
		if (shared)
			numbers[found++] = number;
	}
	return found;
}

/* -- Shape -------------------------------------------------------------------------------------------------------------------------- */

START_TEST(an_empty_network_is_a_leaf_without_peers)
{
	static const uint8_t empty[] = { 0x92, 0x00, 0x90 };
	_cleanup_(trie_free) struct trie *trie = trie_of(NULL, 0);
	_cleanup_(store_free) struct store *store = store_new();
	struct hash root = committed(trie, store), expected;
	struct view bytes;

	hash_of(empty, sizeof(empty), &expected);
	ck_assert_mem_eq(root.b, expected.b, HASH_BYTES);
	ck_assert_uint_eq(trie_count(trie), 0);
	ck_assert_int_eq(store_lookup(&root, &bytes, store), 0);
	ck_assert_uint_eq(bytes.n, sizeof(empty));
	ck_assert_mem_eq(bytes.p, empty, sizeof(empty));
}
END_TEST

START_TEST(the_shape_follows_from_the_contents_alone)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct dice dice = dice_of(seed);
		uint32_t wanted = seed <= 40 ? dice_below(&dice, 48) : dice_below(&dice, 600);
		uint32_t passing = dice_below(&dice, 200);
		uint32_t numbers[800];
		struct hash root, fresh_root;

		/* One that was built in some order, had others come and go, and was committed in between ... */
		shuffled(&dice, 0, numbers, wanted + passing);
		_cleanup_(trie_free) struct trie *trie = trie_of(numbers, wanted + passing / 2);
		(void)committed(trie, NULL);
		for (uint32_t i = wanted + passing / 2; i < wanted + passing; i++)
			put(trie, numbers[i]);
		shuffled(&dice, wanted, numbers, passing);
		for (uint32_t i = 0; i < passing; i++) {
			take(trie, numbers[i]);
			if (dice_below(&dice, 8) == 0)
				(void)committed(trie, NULL);
		}
		/* ... equals one that only ever saw what is in it now. */
		shuffled(&dice, 0, numbers, wanted);
		_cleanup_(trie_free) struct trie *fresh = trie_of(numbers, wanted);
		root = committed(trie, NULL);
		fresh_root = committed(fresh, NULL);
		ck_assert_uint_eq(trie_count(trie), wanted);
		ck_assert_msg(hash_equal(&root, &fresh_root), "seed %u: the roots of the same %u peers differ", (unsigned)seed, wanted);
	}
}
END_TEST

START_TEST(one_over_a_leaf_splits_and_one_less_collapses)
{
	uint32_t numbers[TRIE_LEAF_MAX + 1];

	/* Neighbours share the beginning of their places: the split goes down several levels, the collapse all the way up. */
	for (unsigned digits = 0; digits <= 6; digits++) {
		size_t count = neighbours(digits, numbers, ARRAY_SIZE(numbers));
		_cleanup_(trie_free) struct trie *trie = trie_of(numbers, TRIE_LEAF_MAX);
		_cleanup_(store_free) struct store *store = store_new();
		struct trie_node node;
		struct hash leaf = committed(trie, store), branch, again;
		struct view bytes;

		ck_assert_uint_eq(count, TRIE_LEAF_MAX + 1);
		ck_assert_uint_eq(store->count, 1);
		put(trie, numbers[TRIE_LEAF_MAX]);
		branch = committed(trie, store);
		ck_assert(!hash_equal(&leaf, &branch));
		ck_assert_int_eq(store_lookup(&branch, &bytes, store), 0);
		ck_assert_int_eq(trie_node_decode(bytes.p, bytes.n, NULL, 0, &node), 0);
		ck_assert(!node.leaf);
		/* The chain down to the first level where they part, and the leaves there. */
		ck_assert_uint_ge(store->count, 1 + digits + 1 + 2);
		take(trie, numbers[TRIE_LEAF_MAX]);
		again = committed(trie, store);
		ck_assert(hash_equal(&leaf, &again));
	}
}
END_TEST

START_TEST(replacing_a_peer_keeps_the_count_and_changes_the_root)
{
	uint32_t numbers[100];
	struct dice dice = dice_of(1);

	shuffled(&dice, 0, numbers, ARRAY_SIZE(numbers));
	_cleanup_(trie_free) struct trie *trie = trie_of(numbers, ARRAY_SIZE(numbers));
	struct hash before = committed(trie, NULL), after;
	struct peer peer = peer_unsigned(42);

	peer.endpoints[0].port = 4711;
	ck_assert_int_eq(trie_put(trie, &peer), 0);
	after = committed(trie, NULL);
	ck_assert_uint_eq(trie_count(trie), ARRAY_SIZE(numbers));
	ck_assert(!hash_equal(&before, &after));
	ck_assert_uint_eq(trie_find(trie, &peer.host)->endpoints[0].port, 4711);
	peer = peer_unsigned(42);
	ck_assert_int_eq(trie_put(trie, &peer), 0);
	after = committed(trie, NULL);
	ck_assert(hash_equal(&before, &after));
}
END_TEST

START_TEST(a_host_id_is_computed_not_believed)
{
	_cleanup_(trie_free) struct trie *trie = trie_of(NULL, 0);
	struct peer peer = peer_unsigned(1);
	struct id real = peer.host;

	peer.host = id_of(99);
	ck_assert_int_eq(trie_put(trie, &peer), 0);
	ck_assert_ptr_null(trie_find(trie, &peer.host));
	ck_assert_ptr_nonnull(trie_find(trie, &real));
	ck_assert_int_eq(trie_remove(trie, &peer.host), -ENOENT);
	ck_assert_int_eq(trie_remove(trie, &real), 0);
	ck_assert_int_eq(trie_remove(trie, &real), -ENOENT);
}
END_TEST

START_TEST(a_malformed_peer_is_not_put)
{
	_cleanup_(trie_free) struct trie *trie = trie_of(NULL, 0);
	struct peer good = peer_unsigned(1), peer;

	ck_assert_int_eq(trie_put(trie, &good), 0);
#define REFUSED(change)                                            \
	peer = good;                                               \
	change;                                                    \
	ck_assert_int_eq(trie_put(trie, &peer), -EINVAL)
	REFUSED(peer.address_count = 0);
	REFUSED(peer.address_count = ADDRESSES_MAX + 1);
	REFUSED(peer.endpoint_count = ENDPOINTS_MAX + 1);
	REFUSED(peer.addresses[0].length = 31);
	REFUSED(peer.addresses[0].family = 5);
	REFUSED(peer.addresses[0].b[4] = 1);
	REFUSED(peer.endpoints[0].port = 0);
	REFUSED(peer.endpoints[0].family = 0);
#undef REFUSED
	ck_assert_uint_eq(trie_count(trie), 1);
	ck_assert(peer_equal(trie_find(trie, &good.host), &good));
}
END_TEST

/* -- Size and cost ------------------------------------------------------------------------------------------------------------------ */

#define MANY 10000

static struct trie *trie_of_many(void)
{
	struct trie *trie = NULL;

	ck_assert_int_eq(trie_new(&trie), 0);
	for (uint32_t i = 0; i < MANY; i++)
		put(trie, i);
	return trie;
}

START_TEST(ten_thousand_peers_are_all_there)
{
	_cleanup_(trie_free) struct trie *trie = trie_of_many();
	_cleanup_(store_free) struct store *store = store_new();
	struct hash root = committed(trie, store);

	ck_assert_uint_eq(trie_count(trie), MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		struct peer wanted = peer_unsigned(i), found;
		bool missing;

		ck_assert(peer_equal(trie_find(trie, &wanted.host), &wanted));
		ck_assert_int_eq(trie_get(&root, &wanted.host, store_lookup, store, &found, &missing), 0);
		ck_assert(peer_equal(&found, &wanted));
	}
	for (unsigned i = 0; i < STORE_BUCKETS; i++)
		for (const struct stored *node = store->buckets[i]; node; node = node->next)
			ck_assert_uint_le(node->n, TRIE_NODE_BYTES_MAX);
}
END_TEST

START_TEST(the_largest_leaf_fits_its_bound)
{
	_cleanup_(trie_free) struct trie *trie = trie_of(NULL, 0);
	_cleanup_(store_free) struct store *store = store_new();
	struct hash root;
	struct trie_node node;
	struct view bytes;

	for (uint32_t i = 0; i < TRIE_LEAF_MAX; i++) {
		struct peer peer = peer_unsigned(i);

		peer.statement.counter = UINT64_MAX >> 8;
		peer.address_count = ADDRESSES_MAX;
		for (uint32_t j = 0; j < ADDRESSES_MAX; j++) {
			peer.addresses[j] = prefix_of("fd00::1");
			peer.addresses[j].b[15] = (uint8_t)(i * ADDRESSES_MAX + j);
		}
		peer.endpoint_count = ENDPOINTS_MAX;
		peer.endpoints[0] = peer.endpoints[1] = endpoint_of("[2001:db8::ffff]:65535");
		ck_assert_int_eq(trie_put(trie, &peer), 0);
	}
	root = committed(trie, store);
	ck_assert_int_eq(store_lookup(&root, &bytes, store), 0);
	ck_assert_uint_le(bytes.n, TRIE_NODE_BYTES_MAX);
	ck_assert_int_eq(trie_node_decode(bytes.p, bytes.n, NULL, 0, &node), 0);
	ck_assert_uint_eq(node.count, TRIE_LEAF_MAX);
}
END_TEST

START_TEST(a_change_of_one_peer_emits_its_path_and_no_more)
{
	_cleanup_(trie_free) struct trie *trie = trie_of_many();
	struct dice dice = dice_of(7);

	(void)committed(trie, NULL);
	for (unsigned round = 0; round < 50; round++) {
		_cleanup_(store_free) struct store *emitted = store_new();
		struct peer peer = peer_unsigned(dice_below(&dice, MANY));

		peer.endpoints[0].port = (uint16_t)(1 + dice_below(&dice, 65535));
		ck_assert_int_eq(trie_put(trie, &peer), 0);
		(void)committed(trie, emitted);
		/* 4^6 places hold 10,000 peers at about 2.4 each: a path is some seven nodes, less than 2 KB with the leaf. */
		ck_assert_uint_ge(emitted->count, 6);
		ck_assert_uint_le(emitted->count, 10);
		ck_assert_uint_le(emitted->bytes, 2 * 1024);
	}
}
END_TEST

START_TEST(an_untouched_trie_emits_nothing)
{
	_cleanup_(trie_free) struct trie *trie = trie_of_many();
	_cleanup_(store_free) struct store *emitted = store_new();
	struct peer peer = peer_unsigned(17);

	(void)committed(trie, NULL);
	(void)committed(trie, emitted);
	ck_assert_int_eq(trie_put(trie, &peer), 0); /* touched, but the same */
	(void)committed(trie, emitted);
	ck_assert_uint_eq(emitted->count, 0);
}
END_TEST

static int refuse_emit(const struct hash *name _unused_, const void *bytes _unused_, size_t n _unused_, void *arg)
{
	unsigned *left = arg;

	return (*left)-- == 0 ? -EIO : 0;
}

START_TEST(a_commit_that_failed_can_be_done_again)
{
	uint32_t numbers[300];
	struct dice dice = dice_of(3);
	unsigned left = 5;

	shuffled(&dice, 0, numbers, ARRAY_SIZE(numbers));
	_cleanup_(trie_free) struct trie *trie = trie_of(numbers, ARRAY_SIZE(numbers));
	_cleanup_(trie_free) struct trie *other = trie_of(numbers, ARRAY_SIZE(numbers));
	struct hash root = { { 0 } }, expected = committed(other, NULL);

	ck_assert_int_eq(trie_commit(trie, refuse_emit, &left, &root), -EIO);
	ck_assert(sodium_is_zero(root.b, HASH_BYTES));
	root = committed(trie, NULL);
	ck_assert(hash_equal(&root, &expected));
}
END_TEST

/* -- Nodes that are refused --------------------------------------------------------------------------------------------------------- */

/* Peers of numbers 0..count-1 in the order of their places. */
static void sorted(struct peer *peers, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct peer peer = peer_unsigned(i);
		struct hash place, other;
		unsigned j = i;

		trie_place(&peer.host, &place);
		for (; j > 0; j--) {
			trie_place(&peers[j - 1].host, &other);
			if (memcmp(other.b, place.b, HASH_BYTES) < 0)
				break;
			peers[j] = peers[j - 1];
		}
		peers[j] = peer;
	}
}

static int decode_leaf(const struct peer *const *peers, unsigned count, const uint8_t *path, unsigned depth)
{
	_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };
	struct trie_node node;

	trie_leaf_write(&writer, peers, count);
	ck_assert_int_eq(writer.error, 0);
	return trie_node_decode(writer.bytes, writer.n, path, depth, &node);
}

START_TEST(a_leaf_out_of_order_is_refused)
{
	struct peer peers[3];
	const struct peer *right[] = { &peers[0], &peers[1], &peers[2] };
	const struct peer *swapped[] = { &peers[1], &peers[0], &peers[2] };
	const struct peer *twice[] = { &peers[0], &peers[1], &peers[1] };

	sorted(peers, 3);
	ck_assert_int_eq(decode_leaf(right, 3, NULL, 0), 0);
	ck_assert_int_eq(decode_leaf(swapped, 3, NULL, 0), -EBADMSG);
	ck_assert_int_eq(decode_leaf(twice, 3, NULL, 0), -EBADMSG);
}
END_TEST

START_TEST(a_peer_out_of_place_is_refused)
{
	struct peer peer = peer_unsigned(5);
	const struct peer *one[] = { &peer };
	uint8_t path[TRIE_DEPTH_MAX];
	struct hash place;

	trie_place(&peer.host, &place);
	for (unsigned i = 0; i < TRIE_DEPTH_MAX; i++)
		path[i] = (uint8_t)trie_digit(place.b, i);
	for (unsigned depth = 0; depth <= TRIE_DEPTH_MAX; depth++)
		ck_assert_int_eq(decode_leaf(one, 1, path, depth), 0);
	for (unsigned i = 0; i < TRIE_DEPTH_MAX; i++) {
		path[i] ^= 1;
		ck_assert_int_eq(decode_leaf(one, 1, path, TRIE_DEPTH_MAX), -EXDEV);
		path[i] ^= 1;
	}
}
END_TEST

START_TEST(a_leaf_with_one_peer_too_many_is_refused)
{
	struct peer peers[TRIE_LEAF_MAX + 1];
	const struct peer *all[TRIE_LEAF_MAX + 1];

	sorted(peers, ARRAY_SIZE(peers));
	for (unsigned i = 0; i < ARRAY_SIZE(peers); i++)
		all[i] = &peers[i];
	ck_assert_int_eq(decode_leaf(all, TRIE_LEAF_MAX, NULL, 0), 0);
	ck_assert_int_eq(decode_leaf(all, TRIE_LEAF_MAX + 1, NULL, 0), -EBADMSG);
}
END_TEST

START_TEST(a_malformed_peer_is_refused)
{
	struct peer peer;
	const struct peer *one[] = { &peer };

#define REFUSED(change)                                               \
	peer = peer_unsigned(1);                                      \
	change;                                                       \
	ck_assert_int_eq(decode_leaf(one, 1, NULL, 0), -EBADMSG)
	REFUSED(peer.address_count = 0);
	REFUSED((peer.addresses[0].length = 24, peer.addresses[0].b[3] = 0)); /* well formed, but a range */
	REFUSED(peer.addresses[0].length = 33);
	REFUSED(peer.endpoints[0].port = 0);
	REFUSED(peer.statement.counter = (UINT64_MAX >> 8) + 1);
#undef REFUSED
}
END_TEST

static int decode_branch(unsigned children, size_t name_bytes, unsigned present, unsigned depth)
{
	_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };
	static const uint8_t name[HASH_BYTES + 1] = { 1 }, path[TRIE_DEPTH_MAX + 1];
	struct trie_node node;

	pack_put_array(&writer, 2);
	pack_put_u64(&writer, 1);
	pack_put_array(&writer, children);
	for (unsigned i = 0; i < children; i++)
		pack_put_bytes(&writer, name, i < present ? name_bytes : 0);
	return trie_node_decode(writer.bytes, writer.n, path, depth, &node);
}

START_TEST(a_malformed_branch_is_refused)
{
	ck_assert_int_eq(decode_branch(TRIE_FANOUT, HASH_BYTES, 1, 0), 0);
	ck_assert_int_eq(decode_branch(TRIE_FANOUT, HASH_BYTES, TRIE_FANOUT, 0), 0);
	ck_assert_int_eq(decode_branch(TRIE_FANOUT, HASH_BYTES, 0, 0), -EBADMSG);
	ck_assert_int_eq(decode_branch(TRIE_FANOUT - 1, HASH_BYTES, 1, 0), -EBADMSG);
	ck_assert_int_eq(decode_branch(TRIE_FANOUT + 1, HASH_BYTES, 1, 0), -EBADMSG);
	ck_assert_int_eq(decode_branch(TRIE_FANOUT, HASH_BYTES - 1, 1, 0), -EBADMSG);
	ck_assert_int_eq(decode_branch(TRIE_FANOUT, HASH_BYTES + 1, 1, 0), -EBADMSG);
	ck_assert_int_eq(decode_branch(TRIE_FANOUT, HASH_BYTES, 1, TRIE_DEPTH_MAX - 1), 0);
	ck_assert_int_eq(decode_branch(TRIE_FANOUT, HASH_BYTES, 1, TRIE_DEPTH_MAX), -EBADMSG);
}
END_TEST

START_TEST(what_is_no_node_is_refused)
{
	static const struct {
		uint8_t bytes[6];
		size_t n;
	} nodes[] = {
		{ { 0 }, 0 },
		{ { 0x90 }, 1 },
		{ { 0x92, 0x02, 0x90 }, 3 },       /* a third kind of node */
		{ { 0x92, 0x00, 0x90, 0x00 }, 4 }, /* trailing */
		{ { 0x93, 0x00, 0x90, 0x00 }, 4 }, /* one more */
		{ { 0x92, 0x00, 0x91 }, 3 },       /* torn */
		{ { 0x92, 0x00, 0x91, 0x90 }, 4 }, /* a peer of nothing */
	};
	struct trie_node node;

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		ck_assert_int_eq(trie_node_decode(nodes[i].bytes, nodes[i].n, NULL, 0, &node), -EBADMSG);
}
END_TEST

START_TEST(a_node_cut_anywhere_is_refused)
{
	struct peer peers[3];
	const struct peer *all[] = { &peers[0], &peers[1], &peers[2] };
	_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };
	struct trie_node node;

	sorted(peers, 3);
	trie_leaf_write(&writer, all, 3);
	for (size_t n = 0; n < writer.n; n++) {
		/* A copy of exactly n bytes: reading beyond them is seen. */
		_cleanup_free_ uint8_t *cut = malloc(n ? n : 1);

		memcpy(cut, writer.bytes, n);
		ck_assert_int_eq(trie_node_decode(cut, n, NULL, 0, &node), -EBADMSG);
	}
}
END_TEST

UNIT_MAIN("doc: trie", an_empty_network_is_a_leaf_without_peers, the_shape_follows_from_the_contents_alone,
	  one_over_a_leaf_splits_and_one_less_collapses, replacing_a_peer_keeps_the_count_and_changes_the_root,
	  a_host_id_is_computed_not_believed, a_malformed_peer_is_not_put, ten_thousand_peers_are_all_there,
	  the_largest_leaf_fits_its_bound, a_change_of_one_peer_emits_its_path_and_no_more, an_untouched_trie_emits_nothing,
	  a_commit_that_failed_can_be_done_again, a_leaf_out_of_order_is_refused, a_peer_out_of_place_is_refused,
	  a_leaf_with_one_peer_too_many_is_refused, a_malformed_peer_is_refused, a_malformed_branch_is_refused,
	  what_is_no_node_is_refused, a_node_cut_anywhere_is_refused)
