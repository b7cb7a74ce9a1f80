/* SPDX-License-Identifier: Apache-2.0 */
/* Who has what, against a list that a child could keep; and blobs with their references. */
#include "libjournal/blobs.h"
#include "libdoc/owners.h"
#include "tests/unit/documents.h"

/* -- Owners against a naive model ----------------------------------------------------------------------------------------------------- */

#define HOSTS 40
#define THINGS 60

/* A small world, so that hosts meet: a peer entry is a host, a key and one to four addresses, all numbers. */
struct claim {
	unsigned host, key, address_count, addresses[ADDRESSES_MAX];
};

struct model {
	unsigned key_count[THINGS], key_host[THINGS];
	unsigned address_count[THINGS], address_host[THINGS];
};

static struct peer peer_of_claim(const struct claim *claim)
{
	struct peer peer = { .host = id_of(claim->host), .address_count = claim->address_count };

	memset(peer.statement.wg_key, 0x30 + (int)claim->key, KEY_BYTES);
	for (unsigned i = 0; i < claim->address_count; i++)
		peer.addresses[i] = address_of_number(claim->addresses[i]);
	return peer;
}

static struct claim roll_claim(struct dice *dice)
{
	struct claim claim = { .host = dice_below(dice, HOSTS), .key = dice_below(dice, THINGS), .address_count = 1 + dice_below(dice, 4) };

	for (unsigned i = 0; i < claim.address_count; i++)
		claim.addresses[i] = dice_below(dice, THINGS);
	return claim;
}

static bool taken(const unsigned *counts, const unsigned *hosts, unsigned thing, unsigned host)
{
	return counts[thing] && hosts[thing] != host;
}

static bool fits(const struct model *model, const struct claim *claim)
{
	bool conflict = taken(model->key_count, model->key_host, claim->key, claim->host);

	for (unsigned i = 0; i < claim->address_count; i++)
		conflict = conflict || taken(model->address_count, model->address_host, claim->addresses[i], claim->host);
	return !conflict;
}

static void model_change(struct model *model, const struct claim *claim, int by)
{
	model->key_count[claim->key] += (unsigned)by;
	model->key_host[claim->key] = claim->host;
	for (unsigned i = 0; i < claim->address_count; i++) {
		model->address_count[claim->addresses[i]] += (unsigned)by;
		model->address_host[claim->addresses[i]] = claim->host;
	}
}

static void assert_agree(const struct owners *owners, const struct model *model)
{
	for (unsigned key = 0; key < THINGS; key++) {
		uint8_t bytes[KEY_BYTES];
		const struct id *owner;
		struct id expected;

		memset(bytes, 0x30 + (int)key, sizeof(bytes));
		owner = owners_of_key(owners, bytes);
		ck_assert_int_eq(owner != NULL, model->key_count[key] > 0);
		if (!owner)
			continue;
		expected = id_of(model->key_host[key]);
		ck_assert(id_equal(owner, &expected));
	}
}

START_TEST(owners_agree_with_a_naive_list)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		_cleanup_(owners_free) struct owners *owners = NULL;
		struct dice dice = dice_of(seed);
		struct model model = { .key_count = { 0 } };
		struct claim claims[200];
		unsigned count = 0;

		ck_assert_int_eq(owners_new(&owners), 0);
		for (unsigned step = 0; step < 1500; step++) {
			struct claim claim = roll_claim(&dice);
			struct peer peer = peer_of_claim(&claim);
			const struct prefix *address;
			struct id conflict;

			if (count > 0 && (count == ARRAY_SIZE(claims) || dice_below(&dice, 2))) {
				unsigned i = dice_below(&dice, count);

				peer = peer_of_claim(&claims[i]);
				owners_remove(owners, &peer);
				model_change(&model, &claims[i], -1);
				claims[i] = claims[--count];
			} else if (fits(&model, &claim)) {
				ck_assert_int_eq(owners_add(owners, &peer, &conflict, &address), 0);
				model_change(&model, &claim, 1);
				claims[count++] = claim;
			} else {
				ck_assert_int_eq(owners_add(owners, &peer, &conflict, &address), -EEXIST);
				ck_assert(!id_equal(&conflict, &peer.host));
				/* As the contract says: what was noted before the conflict has to be taken back by noting all anew. */
				owners_clear(owners);
				for (unsigned i = 0; i < count; i++) {
					peer = peer_of_claim(&claims[i]);
					ck_assert_int_eq(owners_add(owners, &peer, &conflict, &address), 0);
				}
			}
			if (step % 50 == 0)
				assert_agree(owners, &model);
		}
		assert_agree(owners, &model);
		while (count > 0) {
			struct peer peer = peer_of_claim(&claims[--count]);

			owners_remove(owners, &peer);
			model_change(&model, &claims[count], -1);
			assert_agree(owners, &model);
		}
	}
}
END_TEST

START_TEST(a_conflict_names_the_other_host_and_the_address)
{
	_cleanup_(owners_free) struct owners *owners = NULL;
	struct claim first = { 1, 1, 2, { 10, 11 } }, second = { 2, 2, 2, { 12, 11 } }, third = { 3, 1, 1, { 13 } };
	struct peer one = peer_of_claim(&first), two = peer_of_claim(&second), three = peer_of_claim(&third);
	const struct prefix *address = NULL;
	struct id conflict;

	ck_assert_int_eq(owners_new(&owners), 0);
	ck_assert_int_eq(owners_add(owners, &one, &conflict, &address), 0);
	ck_assert_int_eq(owners_add(owners, &two, &conflict, &address), -EEXIST);
	ck_assert(id_equal(&conflict, &one.host));
	ck_assert_ptr_eq(address, &two.addresses[1]);
	ck_assert_int_eq(owners_add(owners, &three, &conflict, &address), -EEXIST);
	ck_assert(id_equal(&conflict, &one.host));
	ck_assert_ptr_null(address);
}
END_TEST

START_TEST(ten_thousand_owners_come_and_go)
{
	_cleanup_(owners_free) struct owners *owners = NULL;
	const struct prefix *address;
	struct id conflict;

	ck_assert_int_eq(owners_new(&owners), 0);
	for (uint32_t i = 0; i < 10000; i++) {
		struct peer peer = peer_unsigned(i);

		ck_assert_int_eq(owners_add(owners, &peer, &conflict, &address), 0);
	}
	for (uint32_t i = 0; i < 10000; i += 2) {
		struct peer peer = peer_unsigned(i);

		owners_remove(owners, &peer);
	}
	for (uint32_t i = 0; i < 10000; i++) {
		struct peer peer = peer_unsigned(i);
		const struct id *owner = owners_of_key(owners, peer.statement.wg_key);

		ck_assert(i % 2 ? owner && id_equal(owner, &peer.host) : !owner);
	}
}
END_TEST

START_TEST(a_version_six_address_is_not_the_same_as_version_four)
{
	_cleanup_(owners_free) struct owners *owners = NULL;
	struct claim first = { 1, 1, 1, { 0 } }, second = { 2, 2, 1, { 0 } };
	struct peer four = peer_of_claim(&first), six = peer_of_claim(&second);
	const struct prefix *address;
	struct id conflict;

	six.addresses[0] = prefix_of("6440::"); /* begins with the bytes of 100.64.0.0 */
	ck_assert_mem_eq(six.addresses[0].b, four.addresses[0].b, 16);
	ck_assert_int_eq(owners_new(&owners), 0);
	ck_assert_int_eq(owners_add(owners, &four, &conflict, &address), 0);
	ck_assert_int_eq(owners_add(owners, &six, &conflict, &address), 0);
}
END_TEST

START_TEST(marks_are_of_known_keys_only)
{
	_cleanup_(owners_free) struct owners *owners = NULL;
	struct peer one = peer_unsigned(1), two = peer_unsigned(2), stranger = peer_unsigned(3);
	const struct prefix *address;
	struct id conflict;

	ck_assert_int_eq(owners_new(&owners), 0);
	ck_assert_int_eq(owners_add(owners, &one, &conflict, &address), 0);
	ck_assert_int_eq(owners_add(owners, &two, &conflict, &address), 0);
	owners_mark(owners, one.statement.wg_key);
	owners_mark(owners, stranger.statement.wg_key);
	ck_assert(owners_marked(owners, one.statement.wg_key));
	ck_assert(!owners_marked(owners, two.statement.wg_key));
	ck_assert(!owners_marked(owners, stranger.statement.wg_key));
	owners_unmark(owners);
	ck_assert(!owners_marked(owners, one.statement.wg_key));
}
END_TEST

/* -- Blobs ---------------------------------------------------------------------------------------------------------------------------- */

static struct hash name_of(uint32_t number)
{
	struct hash name;

	hash_of(&number, sizeof(number), &name);
	return name;
}

static bool has(const struct blobs *blobs, uint32_t number)
{
	struct hash name = name_of(number);
	struct view bytes;

	return blobs_get(blobs, &name, &bytes) == 0 && bytes.n == sizeof(number) && memcmp(bytes.p, &number, sizeof(number)) == 0;
}

static void keep(struct blobs *blobs, uint32_t number, unsigned references)
{
	struct hash name = name_of(number);

	ck_assert_int_eq(blobs_put(blobs, &name, &number, sizeof(number)), 0);
	while (references--)
		blobs_hold(blobs, &name);
}

START_TEST(a_blob_lives_as_long_as_its_last_reference)
{
	_cleanup_(blobs_free) struct blobs *blobs = NULL;
	struct hash one = name_of(1), two = name_of(2), unknown = name_of(3);

	ck_assert_int_eq(blobs_new(&blobs), 0);
	keep(blobs, 1, 2);
	keep(blobs, 2, 0);
	keep(blobs, 1, 0); /* known already: its references stay */
	ck_assert_uint_eq(blobs_bytes(blobs), 8);
	blobs_drop(blobs, &one);
	ck_assert(has(blobs, 1));
	blobs_hold(blobs, &unknown);
	blobs_drop(blobs, &unknown);
	blobs_drop(blobs, &two); /* without a reference it goes at once */
	ck_assert(!has(blobs, 2));
	blobs_drop(blobs, &one);
	ck_assert(!has(blobs, 1));
	ck_assert_uint_eq(blobs_bytes(blobs), 0);
}
END_TEST

START_TEST(a_sweep_takes_what_nobody_holds)
{
	_cleanup_(blobs_free) struct blobs *blobs = NULL;

	ck_assert_int_eq(blobs_new(&blobs), 0);
	for (uint32_t i = 0; i < 5000; i++)
		keep(blobs, i, i % 3);
	for (uint32_t i = 0; i < 5000; i++)
		ck_assert(has(blobs, i));
	blobs_sweep(blobs);
	for (uint32_t i = 0; i < 5000; i++)
		ck_assert_int_eq(has(blobs, i), i % 3 != 0);
	ck_assert_uint_eq(blobs_bytes(blobs), sizeof(uint32_t) * (5000 - 1667));
}
END_TEST

static int count_to(const struct hash *name _unused_, struct view bytes _unused_, void *arg)
{
	unsigned *left = arg;

	return --*left == 0 ? -ECANCELED : 0;
}

START_TEST(each_blob_is_told_once)
{
	_cleanup_(blobs_free) struct blobs *blobs = NULL;
	unsigned left = 1001, few = 10;

	ck_assert_int_eq(blobs_new(&blobs), 0);
	for (uint32_t i = 0; i < 1000; i++)
		keep(blobs, i, 1);
	ck_assert_int_eq(blobs_each(blobs, count_to, &left), 0);
	ck_assert_uint_eq(left, 1);
	ck_assert_int_eq(blobs_each(blobs, count_to, &few), -ECANCELED);
}
END_TEST

UNIT_MAIN("netd: owners, blobs", owners_agree_with_a_naive_list, a_conflict_names_the_other_host_and_the_address,
	  ten_thousand_owners_come_and_go, a_version_six_address_is_not_the_same_as_version_four, marks_are_of_known_keys_only,
	  a_blob_lives_as_long_as_its_last_reference, a_sweep_takes_what_nobody_holds, each_blob_is_told_once)
