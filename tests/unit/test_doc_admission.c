/* SPDX-License-Identifier: Apache-2.0 */
/* Admission lists: the one shape of a list, what a change costs, bad nodes and documents, and the census of a network by a list. */
#include "libdoc/admission.h"
#include "libdoc/locks.h"
#include "tests/unit/documents.h"

static int order(const void *a, const void *b)
{
	return memcmp(a, b, ID_BYTES);
}

/* Peers from..from + count - 1, ascending by id, who came by the first list. The caller's. */
static struct admitted *ids_of(uint32_t from, size_t count)
{
	struct admitted *ids = calloc(count + 1, sizeof(*ids));

	ck_assert_ptr_nonnull(ids);
	for (size_t i = 0; i < count; i++)
		ids[i] = (struct admitted){ peer_unsigned(from + (uint32_t)i).host, 1 };
	qsort(ids, count, sizeof(*ids), order);
	return ids;
}

static struct admission built(const struct admitted *ids, size_t count, struct store *store)
{
	struct admission admission = { .flags = ADMISSION_LOCKED, .count = (uint32_t)count };

	ck_assert_int_eq(admission_build(ids, count, store ? store_emit : NULL, store, &admission.root), 0);
	return admission;
}

static int loaded(const struct admission *admission, struct store *store, struct admitted **ids)
{
	return admission_load(&admission->root, admission->count, store_lookup, store, ids);
}

START_TEST(a_list_comes_back_as_it_was)
{
	static const size_t sizes[] = { 0, 1, ADMISSION_LEAF_MAX - 1, ADMISSION_LEAF_MAX, ADMISSION_LEAF_MAX + 1, 1000, 20000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		_cleanup_(store_free) struct store *store = store_new();
		_cleanup_free_ struct admitted *ids = ids_of(7, sizes[i]), *again = NULL;
		struct admission admission = built(ids, sizes[i], store);

		ck_assert_int_eq(loaded(&admission, store, &again), 0);
		ck_assert_int_eq(memcmp(ids, again, sizes[i] * sizeof(*ids)), 0);
		for (size_t j = 0; j < sizes[i]; j += 97)
			ck_assert_ptr_nonnull(admitted_find(again, sizes[i], &ids[j].host));
		ck_assert_ptr_null(admitted_find(again, sizes[i], &(struct id){ { 0 } }));
	}
}
END_TEST

/* Ids that agree in all but their last digits are as deep as it gets. */
START_TEST(crowded_ids_have_a_place)
{
	_cleanup_(store_free) struct store *store = store_new();
	_cleanup_free_ struct admitted *again = NULL;
	struct admitted ids[256];
	struct admission admission;

	for (unsigned i = 0; i < 256; i++) {
		memset(ids[i].host.b, 0xab, ID_BYTES);
		ids[i].host.b[ID_BYTES - 1] = (uint8_t)i;
		ids[i].since = UINT64_MAX - i;
	}
	admission = built(ids, 256, store);
	ck_assert_int_eq(loaded(&admission, store, &again), 0);
	ck_assert_int_eq(memcmp(ids, again, sizeof(ids)), 0);
}
END_TEST

START_TEST(one_host_more_costs_a_path)
{
	static const size_t sizes[] = { 100, 10000, 50000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		_cleanup_(store_free) struct store *store = store_new();
		_cleanup_free_ struct admitted *ids = ids_of(1, sizes[i] + 1);
		size_t before;

		(void)built(ids, sizes[i], store); /* all but the last in order */
		before = store->bytes;
		(void)built(ids, sizes[i] + 1, store);
		ck_assert_uint_lt(store->bytes - before, 1600);
		ck_assert_uint_gt(store->bytes - before, 16);
	}
}
END_TEST

START_TEST(only_ascending_ids_are_a_list)
{
	_cleanup_free_ struct admitted *ids = ids_of(1, 100);
	struct admitted kept = ids[50];
	struct hash root;

	ids[50] = ids[49];
	ck_assert_int_eq(admission_build(ids, 100, NULL, NULL, &root), -EINVAL);
	ids[50] = ids[99];
	ck_assert_int_eq(admission_build(ids, 100, NULL, NULL, &root), -EINVAL);
	ids[50] = kept;
	ck_assert_int_eq(admission_build(ids, 100, NULL, NULL, &root), 0);
	ck_assert_int_eq(admission_build(ids, PEERS_MAX + 1, NULL, NULL, &root), -E2BIG);
}
END_TEST

/* A root made of these bytes. */
static struct admission root_of(struct pack_writer *node, uint32_t count, struct store *store)
{
	struct admission admission = { .flags = ADMISSION_LOCKED, .count = count };

	ck_assert_int_eq(node->error, 0);
	hash_of(node->bytes, node->n, &admission.root);
	ck_assert_int_eq(store_emit(&admission.root, node->bytes, node->n, store), 0);
	pack_writer_free(node);
	return admission;
}

static void leaf(struct pack_writer *node, const struct admitted *ids, size_t count, size_t less)
{
	uint8_t bytes[80 * ADMITTED_BYTES];

	for (size_t i = 0; i < count; i++)
		admitted_write(&ids[i], bytes + i * ADMITTED_BYTES);
	pack_put_array(node, 2);
	pack_put_u64(node, 0);
	pack_put_bytes(node, bytes, count * ADMITTED_BYTES - less);
}

static void branch(struct pack_writer *node, unsigned at, const struct hash *child)
{
	pack_put_array(node, 2);
	pack_put_u64(node, 1);
	pack_put_array(node, TRIE_FANOUT);
	for (unsigned i = 0; i < TRIE_FANOUT; i++)
		pack_put_bytes(node, child->b, i == at ? HASH_BYTES : 0);
}

START_TEST(nodes_of_another_shape_are_no_list)
{
	_cleanup_(store_free) struct store *store = store_new();
	_cleanup_free_ struct admitted *ids = ids_of(1, 17), *again = NULL;
	struct admitted turned[2] = { ids[1], ids[0] }, twice[2] = { ids[0], ids[0] };
	struct pack_writer node = { .bytes = NULL };
	struct admission admission, few = built(ids, 3, store), whole = built(ids, 17, store);

	leaf(&node, turned, 2, 0);
	admission = root_of(&node, 2, store);
	ck_assert_int_eq(loaded(&admission, store, &again), -EBADMSG);
	leaf(&node, twice, 2, 0);
	admission = root_of(&node, 2, store);
	ck_assert_int_eq(loaded(&admission, store, &again), -EBADMSG);
	leaf(&node, ids, 3, 1);
	admission = root_of(&node, 3, store);
	ck_assert_int_eq(loaded(&admission, store, &again), -EBADMSG);
	leaf(&node, ids, 17, 0); /* should be a branch */
	admission = root_of(&node, 17, store);
	ck_assert_int_eq(loaded(&admission, store, &again), -EBADMSG);
	branch(&node, trie_digit(ids[0].host.b, 0), &few.root); /* should be a leaf */
	admission = root_of(&node, 3, store);
	ck_assert_int_eq(loaded(&admission, store, &again), -EBADMSG);
	branch(&node, 3, &whole.root); /* in a place that is not theirs */
	admission = root_of(&node, 17, store);
	ck_assert_int_eq(loaded(&admission, store, &again), -EBADMSG);
	ck_assert_ptr_null(again);
}
END_TEST

START_TEST(a_list_has_as_many_hosts_as_it_says)
{
	_cleanup_(store_free) struct store *store = store_new();
	_cleanup_free_ struct admitted *ids = ids_of(1, 70), *again = NULL;
	struct admission admission = built(ids, 70, store);

	admission.count = 69;
	ck_assert_int_eq(loaded(&admission, store, &again), -EBADMSG);
	admission.count = 71;
	ck_assert_int_eq(loaded(&admission, store, &again), -EBADMSG);
	admission.count = 70;
	store_free(TAKE_PTR(store));
	store = store_new();
	ck_assert_int_eq(loaded(&admission, store, &again), -ENOENT);
}
END_TEST

/* -- The document -------------------------------------------------------------------------------------------------------------------- */

static struct admission document(void)
{
	struct id deployment = id_of(1);
	struct admission admission = { .header = header_of(deployment, id_of(2), 1, 9), .flags = ADMISSION_LOCKED, .count = 3, .bridge_count = 2 };

	memset(admission.root.b, 7, HASH_BYTES);
	memset(admission.bridges[0].b, 1, ID_BYTES);
	memset(admission.bridges[1].b, 2, ID_BYTES);
	return admission;
}

static struct pack_writer signed_by(const struct admission *admission, const struct actor *by)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	ck_assert_int_eq(admission_encode(admission, &payload), 0);
	return sealed(DOC_admission, &payload, by);
}

START_TEST(only_an_operator_signs_one)
{
	struct actor root = actor_of(1), online = actor_of(2), operator = actor_of(3), stranger = actor_of(4);
	struct keyset keyset = keyset_of(&root, &online, id_of(1), 1);
	const struct actor *signers[] = { &root, &online, &stranger, &operator };
	struct admission admission = document(), again;

	keyset.count = 2;
	keyset.keys[1].usage = KEY_OPERATOR;
	memcpy(keyset.keys[1].key, operator.key, KEY_BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(signers); i++) {
		_cleanup_writer_ struct pack_writer envelope = signed_by(&admission, signers[i]);

		ck_assert_int_eq(admission_open(envelope.bytes, envelope.n, &keyset, &again), signers[i] == &operator ? 0 : -EKEYREJECTED);
	}
	ck_assert_uint_eq(again.header.generation, 9);
	ck_assert_uint_eq(again.count, 3);
	ck_assert(admission_bridges(&again, &admission.bridges[1]));
	ck_assert(!admission_bridges(&again, &admission.header.id));
}
END_TEST

START_TEST(bridges_are_ascending_and_few)
{
	struct admission admission = document(), again;
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	admission.bridges[1] = admission.bridges[0];
	ck_assert_int_eq(admission_encode(&admission, &payload), -EINVAL);
	admission.bridge_count = BRIDGES_MAX + 1;
	ck_assert_int_eq(admission_encode(&admission, &payload), -EINVAL);
	admission.bridge_count = 1;
	ck_assert_int_eq(admission_encode(&admission, &payload), 0);
	for (size_t n = 0; n < payload.n; n++)
		ck_assert_int_eq(admission_decode((struct view){ payload.bytes, n }, &again), -EBADMSG);
	ck_assert_int_eq(admission_decode((struct view){ payload.bytes, payload.n }, &again), 0);
}
END_TEST

/* -- The census ---------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_stranger_is_found_wherever_it_stands)
{
	_cleanup_(store_free) struct store *store = store_new();
	_cleanup_free_ struct admitted *ids = ids_of(0, 300);
	struct admission admission = built(ids, 300, store);
	struct hash before, after, more;
	struct id stranger;
	struct peer peer;
	struct trie *trie;

	ck_assert_int_eq(trie_new(&trie), 0);
	for (uint32_t i = 0; i < 299; i++) {
		peer = peer_unsigned(i);
		ck_assert_int_eq(trie_put(trie, &peer), 0);
	}
	ck_assert_int_eq(trie_commit(trie, store_emit, store, &before), 0);
	ck_assert_int_eq(admission_check(&admission, NULL, &before, store_lookup, store, &stranger), 0);
	peer = peer_unsigned(299);
	ck_assert_int_eq(trie_put(trie, &peer), 0);
	ck_assert_int_eq(trie_commit(trie, store_emit, store, &after), 0);
	ck_assert_int_eq(admission_check(&admission, &before, &after, store_lookup, store, &stranger), 0);
	peer = peer_unsigned(300);
	ck_assert_int_eq(trie_put(trie, &peer), 0);
	ck_assert_int_eq(trie_commit(trie, store_emit, store, &more), 0);
	ck_assert_int_eq(admission_check(&admission, &after, &more, store_lookup, store, &stranger), -EACCES);
	ck_assert(id_equal(&stranger, &peer.host));
	ck_assert_int_eq(admission_check(&admission, NULL, &more, store_lookup, store, &stranger), -EACCES);
	/* A host that was taken off the list stands in the trie as before: only a whole walk finds it. */
	admission = built(ids + 1, 299, store);
	ck_assert_int_eq(admission_check(&admission, NULL, &after, store_lookup, store, &stranger), -EACCES);
	ck_assert(id_equal(&stranger, &ids[0].host));
	trie_free(trie);
}
END_TEST

START_TEST(who_was_off_a_list_comes_back_by_a_later_one)
{
	_cleanup_(store_free) struct store *store = store_new();
	_cleanup_free_ struct admitted *ids = ids_of(0, 300);
	struct admission before = built(ids, 299, store), after;
	struct id stranger;

	before.header.generation = 6;
	after = built(ids, 299, store);
	ck_assert_int_eq(admission_follows(&before, &after, store_lookup, store, &stranger), 0); /* the same */
	after = built(ids + 5, 200, store);
	ck_assert_int_eq(admission_follows(&before, &after, store_lookup, store, &stranger), 0); /* fewer */
	for (uint64_t since = 1; since <= 7; since++) {
		ids[299].since = since;
		after = built(ids, 300, store);
		ck_assert_int_eq(admission_follows(&before, &after, store_lookup, store, &stranger), since > 6 ? 0 : -EACCES);
		ck_assert(since > 6 || id_equal(&stranger, &ids[299].host));
	}
	ids[7].since = 4; /* was taken off and is on again: fine, and known */
	after = built(ids, 300, store);
	ck_assert_int_eq(admission_follows(&before, &after, store_lookup, store, &stranger), 0);
	before = after;
	before.header.generation = 8;
	ids[7].since = 1; /* but not the other way round */
	after = built(ids, 300, store);
	ck_assert_int_eq(admission_follows(&before, &after, store_lookup, store, &stranger), -EACCES);
	ck_assert(id_equal(&stranger, &ids[7].host));
}
END_TEST

/* -- What hosts remember --------------------------------------------------------------------------------------------------------------- */

START_TEST(locks_are_remembered)
{
	_cleanup_writer_ struct pack_writer out = { .bytes = NULL };
	struct locks locks = { .count = 0 }, again;
	struct lock lock = { .network = id_of(1), .generation = 4, .flags = ADMISSION_LOCKED, .cidr_count = 1 };

	lock.cidrs[0] = prefix_of("100.64.0.0/16");
	ck_assert_int_eq(locks_note(&locks, &lock), 1);
	ck_assert_int_eq(locks_note(&locks, &lock), 0);
	lock.generation = 5;
	ck_assert_int_eq(locks_note(&locks, &lock), 1);
	ck_assert_uint_eq(locks.count, 1);
	for (uint64_t i = 2; i <= LOCKS_MAX; i++) {
		lock.network = id_of(i);
		ck_assert_int_eq(locks_note(&locks, &lock), 1);
	}
	lock.network = id_of(1000);
	ck_assert_int_eq(locks_note(&locks, &lock), -ENOSPC);
	ck_assert_int_eq(locks_encode(&locks, &out), 0);
	ck_assert_uint_le(out.n, LOCKS_BYTES_MAX);
	for (size_t n = 0; n < out.n; n++)
		ck_assert_int_eq(locks_decode(out.bytes, n, &again), -EBADMSG);
	ck_assert_int_eq(locks_decode(out.bytes, out.n, &again), 0);
	ck_assert_uint_eq(again.count, LOCKS_MAX);
	lock.network = id_of(1);
	ck_assert_uint_eq(locks_find(&again, &lock.network)->generation, 5);
	ck_assert_int_eq(memcmp(&locks_find(&again, &lock.network)->cidrs[0], &lock.cidrs[0], sizeof(lock.cidrs[0])), 0);
}
END_TEST

UNIT_MAIN("doc_admission", a_list_comes_back_as_it_was, crowded_ids_have_a_place, one_host_more_costs_a_path, only_ascending_ids_are_a_list,
	  nodes_of_another_shape_are_no_list, a_list_has_as_many_hosts_as_it_says, only_an_operator_signs_one, bridges_are_ascending_and_few,
	  a_stranger_is_found_wherever_it_stands, who_was_off_a_list_comes_back_by_a_later_one,
	  locks_are_remembered)
