/* SPDX-License-Identifier: Apache-2.0 */
/* The trie as hosts walk it: what differs, what is missing, at what cost. */
#include "libdoc/trie_node.h"
#include "tests/unit/documents.h"

/* What a walk told, and what it looks nodes up in. */
struct told {
	struct store *store;   /* where lookups go */
	struct store *fresh;   /* nodes told to be fresh */
	struct store *missing; /* names told to be missing */
	struct trie *before, *after;
	unsigned added, removed, replaced;
	unsigned wrong; /* told against what the two tries hold */
};

static int lookup(const struct hash *name, struct view *bytes, void *arg)
{
	return store_lookup(name, bytes, ((struct told *)arg)->store);
}

static int on_missing(const struct hash *name, void *arg)
{
	return store_emit(name, "", 0, ((struct told *)arg)->missing);
}

static int on_fresh(const struct hash *name, struct view bytes, void *arg)
{
	return store_emit(name, bytes.p, bytes.n, ((struct told *)arg)->fresh);
}

static bool holds(const struct trie *trie, const struct id *host, const struct peer *peer)
{
	const struct peer *held = trie ? trie_find(trie, host) : NULL;

	return held && peer ? peer_equal(held, peer) : !held && !peer;
}

static int on_peer(const struct peer *old, const struct peer *new, void *arg)
{
	struct told *told = arg;
	const struct id *host = old ? &old->host : &new->host;

	if (!holds(told->before, host, old) || !holds(told->after, host, new))
		told->wrong++;
	if (old && new)
		told->replaced++;
	else if (new)
		told->added++;
	else
		told->removed++;
	return 0;
}

static const struct trie_diff_events events = { .peer = on_peer, .missing = on_missing, .fresh = on_fresh };

/* Two tries over numbers below `among`: each peer in neither, one, both, or in both with another port. */
struct pair {
	struct trie *before, *after;
	struct hash old, new;
	struct store *old_nodes, *new_nodes;
	unsigned added, removed, replaced; /* by a naive comparison */
};

static void pair_free(struct pair *pair)
{
	trie_free(pair->before);
	trie_free(pair->after);
	store_free(pair->old_nodes);
	store_free(pair->new_nodes);
}

static void put(struct trie *trie, struct peer peer, uint16_t port)
{
	peer.endpoints[0].port = port;
	ck_assert_int_eq(trie_put(trie, &peer), 0);
}

/* alike: of 100 peers so many are the same in both */
static struct pair pair_of(uint64_t seed, uint32_t among, uint32_t alike)
{
	struct pair pair = { .old_nodes = store_new(), .new_nodes = store_new() };
	struct dice dice = dice_of(seed);

	ck_assert_int_eq(trie_new(&pair.before), 0);
	ck_assert_int_eq(trie_new(&pair.after), 0);
	for (uint32_t i = 0; i < among; i++) {
		uint32_t roll = dice_below(&dice, 100);
		bool same = roll < alike;
		uint32_t which = same ? 3 : dice_below(&dice, 4);

		if (which == 0)
			continue;
		if (which != 2)
			put(pair.before, peer_unsigned(i), 1000);
		if (which != 1)
			put(pair.after, peer_unsigned(i), same ? 1000 : 2000);
		pair.removed += which == 1;
		pair.added += which == 2;
		pair.replaced += which == 3 && !same;
	}
	ck_assert_int_eq(trie_commit(pair.before, store_emit, pair.old_nodes, &pair.old), 0);
	ck_assert_int_eq(trie_commit(pair.after, store_emit, pair.new_nodes, &pair.new), 0);
	return pair;
}

static void store_add(struct store *to, const struct store *from)
{
	for (unsigned i = 0; i < STORE_BUCKETS; i++)
		for (const struct stored *node = from->buckets[i]; node; node = node->next)
			ck_assert_int_eq(store_emit(&node->name, node->bytes, node->n, to), 0);
}

static void assert_told(const struct told *told, const struct pair *pair)
{
	ck_assert_uint_eq(told->wrong, 0);
	ck_assert_uint_eq(told->added, pair->added);
	ck_assert_uint_eq(told->removed, pair->removed);
	ck_assert_uint_eq(told->replaced, pair->replaced);
}

/* Sizes around the splits, and large ones; nothing alike, half, nearly all. */
static const struct {
	uint32_t among, alike;
} mixes[] = { { 1, 0 }, { 8, 0 }, { 24, 0 }, { 24, 50 }, { 40, 0 }, { 40, 90 }, { 200, 50 }, { 600, 0 }, { 1500, 97 } };

/* -- Tests -------------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_diff_is_the_difference_of_the_sets)
{
	for (size_t mix = 0; mix < ARRAY_SIZE(mixes); mix++)
		for (uint64_t seed = 1; seed <= 20; seed++) {
			CLEANUP(pair_free) struct pair pair = pair_of(seed, mixes[mix].among, mixes[mix].alike);
			_cleanup_(store_free) struct store *store = store_new(), *fresh = store_new(), *missing = store_new();
			struct told told = { store, fresh, missing, pair.before, pair.after, 0, 0, 0, 0 };

			store_add(store, pair.old_nodes);
			store_add(store, pair.new_nodes);
			ck_assert_int_eq(trie_diff(&pair.old, &pair.new, lookup, &events, &told), 0);
			assert_told(&told, &pair);
			ck_assert_uint_eq(missing->count, 0);
			/* Fresh nodes are of the new trie, and whoever has those of the old one then has all of it. */
			for (unsigned i = 0; i < STORE_BUCKETS; i++) {
				for (const struct stored *node = fresh->buckets[i]; node; node = node->next)
					ck_assert_ptr_nonnull(store_find(pair.new_nodes, &node->name));
				for (const struct stored *node = pair.new_nodes->buckets[i]; node; node = node->next)
					ck_assert(store_find(fresh, &node->name) || store_find(pair.old_nodes, &node->name));
			}
		}
}
END_TEST

START_TEST(a_walk_without_peers_names_the_same_nodes)
{
	for (size_t mix = 0; mix < ARRAY_SIZE(mixes); mix++)
		for (uint64_t seed = 1; seed <= 5; seed++) {
			CLEANUP(pair_free) struct pair pair = pair_of(seed, mixes[mix].among, mixes[mix].alike);
			_cleanup_(store_free) struct store *store = store_new();
			struct store *fresh[2], *missing[2];
			struct trie_diff_events names = { .missing = on_missing, .fresh = on_fresh };
			struct dice dice = dice_of(seed);

			/* All of the old one, some of the new one. */
			store_add(store, pair.old_nodes);
			for (unsigned i = 0; i < STORE_BUCKETS; i++)
				for (const struct stored *node = pair.new_nodes->buckets[i]; node; node = node->next)
					if (hash_equal(&node->name, &pair.new) || dice_below(&dice, 3))
						ck_assert_int_eq(store_emit(&node->name, node->bytes, node->n, store), 0);
			for (unsigned i = 0; i < 2; i++) {
				struct told told = { store, fresh[i] = store_new(), missing[i] = store_new(), NULL, NULL, 0, 0, 0, 0 };

				ck_assert_int_eq(trie_diff(&pair.old, &pair.new, lookup, i ? &names : &events, &told), 0);
			}
			ck_assert_uint_eq(fresh[0]->count, fresh[1]->count);
			ck_assert_uint_eq(missing[0]->count, missing[1]->count);
			for (unsigned i = 0; i < STORE_BUCKETS; i++) {
				for (const struct stored *node = fresh[0]->buckets[i]; node; node = node->next)
					ck_assert_ptr_nonnull(store_find(fresh[1], &node->name));
				for (const struct stored *node = missing[0]->buckets[i]; node; node = node->next)
					ck_assert_ptr_nonnull(store_find(missing[1], &node->name));
			}
			for (unsigned i = 0; i < 2; i++) {
				store_free(fresh[i]);
				store_free(missing[i]);
			}
		}
}
END_TEST

START_TEST(from_nothing_and_to_nothing)
{
	for (uint64_t seed = 1; seed <= 10; seed++) {
		CLEANUP(pair_free) struct pair pair = pair_of(seed, 300, 100);
		_cleanup_(store_free) struct store *fresh = store_new(), *missing = store_new();
		struct told up = { pair.new_nodes, fresh, missing, NULL, pair.after, 0, 0, 0, 0 };
		struct told down = { pair.old_nodes, fresh, missing, pair.before, NULL, 0, 0, 0, 0 };

		ck_assert_int_eq(trie_diff(NULL, &pair.new, lookup, &events, &up), 0);
		ck_assert_uint_eq(up.added, trie_count(pair.after));
		ck_assert_uint_eq(up.wrong + up.removed + up.replaced, 0);
		ck_assert_uint_eq(fresh->count, pair.new_nodes->count);
		ck_assert_int_eq(trie_diff(&pair.old, NULL, lookup, &events, &down), 0);
		ck_assert_uint_eq(down.removed, trie_count(pair.before));
		ck_assert_uint_eq(down.wrong + down.added + down.replaced, 0);
		ck_assert_int_eq(trie_diff(NULL, NULL, lookup, &events, &up), 0);
	}
}
END_TEST

START_TEST(what_is_missing_is_told_until_all_is_there)
{
	for (size_t mix = 0; mix < ARRAY_SIZE(mixes); mix++)
		for (uint64_t seed = 1; seed <= 5; seed++) {
			CLEANUP(pair_free) struct pair pair = pair_of(seed, mixes[mix].among, mixes[mix].alike);
			_cleanup_(store_free) struct store *store = store_new();
			unsigned rounds = 0;

			store_add(store, pair.old_nodes);
			for (;;) {
				_cleanup_(store_free) struct store *fresh = store_new(), *missing = store_new();
				struct told told = { store, fresh, missing, pair.before, pair.after, 0, 0, 0, 0 };

				ck_assert_int_eq(trie_diff(&pair.old, &pair.new, lookup, &events, &told), 0);
				if (missing->count == 0) {
					assert_told(&told, &pair);
					break;
				}
				/* One level more a round; nothing is asked for that the new trie does not have, or twice. */
				for (unsigned i = 0; i < STORE_BUCKETS; i++)
					for (const struct stored *name = missing->buckets[i]; name; name = name->next) {
						const struct stored *node = store_find(pair.new_nodes, &name->name);

						ck_assert_ptr_nonnull(node);
						ck_assert_ptr_null(store_find(store, &name->name));
						ck_assert_int_eq(store_emit(&node->name, node->bytes, node->n, store), 0);
					}
				ck_assert_uint_lt(++rounds, TRIE_DEPTH_MAX);
			}
		}
}
END_TEST

START_TEST(a_missing_node_without_a_listener_is_an_error)
{
	CLEANUP(pair_free) struct pair pair = pair_of(1, 200, 50);
	_cleanup_(store_free) struct store *fresh = store_new(), *missing = store_new();
	struct trie_diff_events deaf = { .peer = on_peer };
	struct told told = { pair.old_nodes, fresh, missing, pair.before, pair.after, 0, 0, 0, 0 };

	ck_assert_int_eq(trie_diff(&pair.old, &pair.new, lookup, &deaf, &told), -ENOENT);
	/* A node of the old trie is never "missing": the caller falls back to a full walk. */
	told.store = pair.new_nodes;
	ck_assert_int_eq(trie_diff(&pair.old, &pair.new, lookup, &events, &told), -ENOENT);
	ck_assert_uint_eq(missing->count, 0);
}
END_TEST

START_TEST(equal_roots_cost_nothing)
{
	CLEANUP(pair_free) struct pair pair = pair_of(1, 500, 100);
	_cleanup_(store_free) struct store *fresh = store_new(), *missing = store_new();
	struct told told = { pair.new_nodes, fresh, missing, pair.before, pair.after, 0, 0, 0, 0 };

	ck_assert(hash_equal(&pair.old, &pair.new));
	ck_assert_int_eq(trie_diff(&pair.old, &pair.new, lookup, &events, &told), 0);
	ck_assert_uint_eq(pair.new_nodes->lookups, 0);
	ck_assert_uint_eq(told.added + told.removed + told.replaced + fresh->count, 0);
}
END_TEST

START_TEST(one_change_among_ten_thousand_costs_its_path)
{
	_cleanup_(store_free) struct store *store = store_new();
	_cleanup_(trie_free) struct trie *trie = NULL;
	struct dice dice = dice_of(11);
	struct hash old, new;

	ck_assert_int_eq(trie_new(&trie), 0);
	for (uint32_t i = 0; i < 10000; i++)
		put(trie, peer_unsigned(i), 1000);
	ck_assert_int_eq(trie_commit(trie, store_emit, store, &old), 0);
	for (unsigned round = 0; round < 40; round++, old = new) {
		_cleanup_(store_free) struct store *fresh = store_new(), *missing = store_new();
		struct told told = { store, fresh, missing, NULL, NULL, 0, 0, 0, 0 };

		put(trie, peer_unsigned(dice_below(&dice, 10000)), (uint16_t)(1001 + round));
		ck_assert_int_eq(trie_commit(trie, store_emit, store, &new), 0);
		store->lookups = 0;
		ck_assert_int_eq(trie_diff(&old, &new, lookup, &events, &told), 0);
		ck_assert_uint_eq(told.replaced, 1);
		ck_assert_uint_eq(told.added + told.removed, 0);
		ck_assert_uint_le(store->lookups, 2 * 10); /* both paths, six to ten nodes each */
		ck_assert_uint_le(fresh->count, 10);
	}
}
END_TEST

static int stop_at_third(const struct peer *old _unused_, const struct peer *new _unused_, void *arg)
{
	return ++((struct told *)arg)->added == 3 ? -ECANCELED : 0;
}

START_TEST(a_callback_can_end_a_walk)
{
	CLEANUP(pair_free) struct pair pair = pair_of(1, 500, 0);
	struct trie_diff_events stop = { .peer = stop_at_third };
	struct told told = { .store = pair.new_nodes };

	ck_assert_int_eq(trie_diff(NULL, &pair.new, lookup, &stop, &told), -ECANCELED);
	ck_assert_uint_eq(told.added, 3);
}
END_TEST

START_TEST(a_misplaced_peer_ends_a_walk)
{
	_cleanup_(store_free) struct store *store = store_new();
	struct peer peer = peer_unsigned(1);
	const struct peer *peers[] = { &peer };
	const struct hash *children[TRIE_FANOUT] = { NULL };
	struct trie_diff_events quiet = { .peer = on_peer };
	struct told told = { .store = store };
	struct hash place, leaf_name, root;
	unsigned right;

	trie_place(&peer.host, &place);
	right = trie_digit(place.b, 0);
	for (unsigned i = 0; i < TRIE_FANOUT; i++) {
		_cleanup_writer_ struct pack_writer leaf = { .bytes = NULL }, branch = { .bytes = NULL };
		struct peer found;
		bool missing;

		trie_leaf_write(&leaf, peers, 1);
		hash_of(leaf.bytes, leaf.n, &leaf_name);
		memset(children, 0, sizeof(children));
		children[i] = &leaf_name;
		trie_branch_write(&branch, children);
		hash_of(branch.bytes, branch.n, &root);
		ck_assert_int_eq(store_emit(&leaf_name, leaf.bytes, leaf.n, store), 0);
		ck_assert_int_eq(store_emit(&root, branch.bytes, branch.n, store), 0);
		ck_assert_int_eq(trie_diff(NULL, &root, lookup, &quiet, &told), i == right ? 0 : -EXDEV);
		ck_assert_int_eq(trie_diff(&root, NULL, lookup, &quiet, &told), i == right ? 0 : -EXDEV);
		ck_assert_int_eq(trie_get(&root, &peer.host, store_lookup, store, &found, &missing), i == right ? 0 : -ENOENT);
	}
}
END_TEST

/* Four times the same child, level upon level: few bytes that unfold to a million nodes. */
START_TEST(a_trie_that_unfolds_without_end_is_given_up)
{
	_cleanup_(store_free) struct store *store = store_new();
	const struct hash *children[TRIE_FANOUT];
	struct trie_diff_events quiet = { .peer = on_peer };
	struct told told = { .store = store };
	struct hash names[14];
	_cleanup_writer_ struct pack_writer leaf = { .bytes = NULL };

	trie_leaf_write(&leaf, NULL, 0);
	hash_of(leaf.bytes, leaf.n, &names[0]);
	ck_assert_int_eq(store_emit(&names[0], leaf.bytes, leaf.n, store), 0);
	for (unsigned level = 1; level < ARRAY_SIZE(names); level++) {
		_cleanup_writer_ struct pack_writer branch = { .bytes = NULL };

		for (unsigned i = 0; i < TRIE_FANOUT; i++)
			children[i] = &names[level - 1];
		trie_branch_write(&branch, children);
		hash_of(branch.bytes, branch.n, &names[level]);
		ck_assert_int_eq(store_emit(&names[level], branch.bytes, branch.n, store), 0);
	}
	ck_assert_int_eq(trie_diff(NULL, &names[2], lookup, &quiet, &told), 0);
	ck_assert_int_eq(trie_diff(NULL, &names[13], lookup, &quiet, &told), -E2BIG);
	ck_assert_uint_le(store->lookups, 4 * PEERS_MAX);
}
END_TEST

START_TEST(a_lookup_tells_missing_from_absent)
{
	CLEANUP(pair_free) struct pair pair = pair_of(1, 500, 100);
	_cleanup_(store_free) struct store *empty = store_new();
	struct peer stranger = peer_unsigned(100000), found;
	bool missing = true;

	ck_assert_int_eq(trie_get(&pair.new, &stranger.host, store_lookup, pair.new_nodes, &found, &missing), -ENOENT);
	ck_assert(!missing);
	ck_assert_int_eq(trie_get(&pair.new, &stranger.host, store_lookup, empty, &found, &missing), -ENOENT);
	ck_assert(missing);
}
END_TEST

UNIT_MAIN("doc: trie walks", a_diff_is_the_difference_of_the_sets, a_walk_without_peers_names_the_same_nodes, from_nothing_and_to_nothing,
	  what_is_missing_is_told_until_all_is_there, a_missing_node_without_a_listener_is_an_error, equal_roots_cost_nothing,
	  one_change_among_ten_thousand_costs_its_path, a_callback_can_end_a_walk, a_misplaced_peer_ends_a_walk,
	  a_trie_that_unfolds_without_end_is_given_up, a_lookup_tells_missing_from_absent)
