/* SPDX-License-Identifier: Apache-2.0 */
/* The small parts that everything else leans on: the map of ids, secrets, permissions, names, nonces, the store. */
#include "controld/agent.h"
#include "controld/call.h"
#include "controld/permissions.h"
#include "controld/secrets.h"
#include "tests/unit/unit.h"

#include <time.h>

#define KEYS 400

/* Few distinct homes, so that runs of collisions are long and removal has something to move. */
static struct id crowded_id(unsigned number)
{
	struct id id = { .b = { (uint8_t)(number % 7) } };

	memcpy(id.b + 8, &number, sizeof(number));
	return id;
}

START_TEST(a_map_does_as_an_array_does)
{
	static int values[KEYS];
	int *expected[KEYS] = { NULL };
	struct dice dice = dice_of(99);
	struct idmap map = { 0 };

	for (unsigned round = 0; round < 40000; round++) {
		unsigned number = dice_below(&dice, KEYS);
		struct id id = crowded_id(number);
		size_t count = 0, at = 0;

		ck_assert_ptr_eq(idmap_get(&map, &id), expected[number]);
		if (dice_below(&dice, 2)) {
			ck_assert_int_eq(idmap_put(&map, &id, &values[number]), 0);
			expected[number] = &values[number];
		} else {
			ck_assert_ptr_eq(idmap_remove(&map, &id), expected[number]);
			expected[number] = NULL;
		}
		if (round % 1000)
			continue;
		while (idmap_next(&map, &at, &id))
			count++;
		ck_assert_uint_eq(count, map.count);
		for (unsigned i = 0; i < KEYS; i++)
			count -= expected[i] != NULL;
		ck_assert_uint_eq(count, 0);
	}
	idmap_free(&map);
}
END_TEST

START_TEST(secrets_round_trip_and_nothing_else_does)
{
	char text[BEARER_TEXT], wrong[256];
	struct hash hash, again;
	struct id id, parsed;

	secret_mint(&id, &hash, text);
	ck_assert_uint_eq(strlen(text), BEARER_TEXT - 1);
	ck_assert_int_eq(secret_parse(text, &parsed, &again), 0);
	ck_assert(id_equal(&id, &parsed));
	ck_assert(secret_matches(&hash, (struct view){ again.b, HASH_BYTES }));
	ck_assert(!secret_matches(&hash, (struct view){ again.b, HASH_BYTES - 1 }));
	for (size_t i = 0; i < strlen(text); i++) {
		memcpy(wrong, text, sizeof(text));
		wrong[i] = wrong[i] == 'x' ? 'y' : 'x';
		if (secret_parse(wrong, &parsed, &again) < 0)
			continue;
		ck_assert(!id_equal(&id, &parsed) || !secret_matches(&hash, (struct view){ again.b, HASH_BYTES }));
	}
	for (size_t n = 0; n < strlen(text); n++) {
		memcpy(wrong, text, n);
		wrong[n] = '\0';
		ck_assert_int_eq(secret_parse(wrong, &parsed, &again), -EINVAL);
	}
	memset(wrong, 'a', sizeof(wrong) - 1);
	memcpy(wrong, text, 2 * ID_BYTES + 1);
	wrong[sizeof(wrong) - 1] = '\0';
	ck_assert_int_eq(secret_parse(wrong, &parsed, &again), -EINVAL);
	ck_assert_ptr_null(bearer_of(NULL));
	ck_assert_ptr_null(bearer_of("Basic x"));
	ck_assert_str_eq(bearer_of("bearer x"), "x");
}
END_TEST

START_TEST(permissions_are_whole_words)
{
	ck_assert(permission_granted("read hosts.write", "read"));
	ck_assert(permission_granted("read hosts.write", "hosts.write"));
	ck_assert(!permission_granted("read hosts.write", "hosts"));
	ck_assert(!permission_granted("reader", "read"));
	ck_assert(!permission_granted("", "read"));
	ck_assert(!permission_granted("read", "admin"));
	ck_assert(!permission_granted("administrator", "read"));
	ck_assert(permission_granted("admin", "tokens.mint"));
	ck_assert(permission_known("tokens.revoke") && !permission_known("") && !permission_known("tokens"));
}
END_TEST

START_TEST(names_are_dns_labels)
{
	char longest[NAME_BYTES_MAX + 2];

	memset(longest, 'a', sizeof(longest) - 1);
	longest[NAME_BYTES_MAX + 1] = '\0';
	ck_assert(!name_valid(longest));
	longest[NAME_BYTES_MAX] = '\0';
	ck_assert(name_valid(longest));
	ck_assert(name_valid("a") && name_valid("0") && name_valid("a-b"));
	ck_assert(!name_valid("") && !name_valid("-a") && !name_valid("a-") && !name_valid("A") && !name_valid("a.b") && !name_valid("a_b"));
}
END_TEST

START_TEST(a_nonce_is_good_once_and_memory_is_bounded)
{
	const uint64_t now = (uint64_t)time(NULL); /* what the clock still lets in is what is kept */
	struct controld controld = { .started = now };
	struct id host = { .b = { 1 } }, other = { .b = { 2 } };
	char nonce[32];

	ck_assert_int_eq(caller_nonce(&controld, &host, now - 1, "before the start", 16), -EALREADY);
	for (unsigned i = 0; i < 5000; i++) {
		int n = snprintf(nonce, sizeof(nonce), "nonce %u", i);

		ck_assert_int_eq(caller_nonce(&controld, &host, now + i, nonce, (size_t)n), 0);
		ck_assert_int_eq(caller_nonce(&controld, &host, now + i, nonce, (size_t)n), -EALREADY);
		ck_assert_int_eq(caller_nonce(&controld, &other, now + i, nonce, (size_t)n), 0);
	}
	for (unsigned i = 0; i < 5000; i++) {
		int n = snprintf(nonce, sizeof(nonce), "nonce %u", i);

		ck_assert_int_eq(caller_nonce(&controld, &host, now + i, nonce, (size_t)n), -EALREADY);
	}
	ck_assert_int_eq(caller_nonce(&controld, &host, now + 4990, "late but new", 12), 0);
	callers_free(&controld);
}
END_TEST

START_TEST(the_same_answer_again_and_again_comes_later_and_later)
{
	struct controld controld = { .started = 0 };
	struct hash one = { .b = { 1 } }, two = { .b = { 2 } };
	struct id host = { .b = { 1 } };
	unsigned last = 0;

	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(caller_delay(&controld, &host, &one), 0);
	for (unsigned i = 0; i < 20; i++) {
		unsigned delay = caller_delay(&controld, &host, &one);

		ck_assert_uint_ge(delay, last);
		ck_assert_uint_ge(delay, 1000);
		ck_assert_uint_le(delay, 30000);
		last = delay;
	}
	ck_assert_uint_eq(last, 30000);
	ck_assert_uint_eq(caller_delay(&controld, &host, &two), 0);
	callers_free(&controld);
}
END_TEST

START_TEST(a_query_within_its_own_rows_has_rows_of_its_own)
{
	static const char sql[] = "SELECT name FROM organizations WHERE name > $1 ORDER BY name";
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_(store_free) struct store *store = NULL;
	_cleanup_rows_ struct rows outer = { 0 }, inner = { 0 };
	unsigned pairs = 0;

	ck_assert_int_eq(store_open(&control_store, folder.path, true, &store), 0);
	ck_assert_int_eq(store_exec(store, "INSERT INTO organizations (id, name, created) VALUES ('1', 'a', 0), ('2', 'b', 0), ('3', 'c', 0)", ""), 3);
	ck_assert_int_eq(store_exec(store, "INSERT INTO organizations (id, name, created) VALUES ('4', 'a', 0)", ""), -EEXIST);
	ck_assert_int_eq(store_exec(store, "INSERT INTO workspaces (id, organization, name, created) VALUES ('1', 'none', 'a', 0)", ""), -EXDEV);
	ck_assert_int_eq(store_query(store, &outer, sql, "t", ""), 0);
	while (rows_next(&outer) > 0) {
		ck_assert_int_eq(store_query(store, &inner, sql, "t", row_text(&outer, 0)), 0);
		while (rows_next(&inner) > 0)
			pairs++;
	}
	ck_assert_uint_eq(pairs, 3);
}
END_TEST

START_TEST(a_transaction_that_is_rolled_back_was_not)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_(store_free) struct store *store = NULL;
	_cleanup_free_ uint8_t *value = NULL;
	size_t n = 0;

	ck_assert_int_eq(store_open(&control_store, folder.path, true, &store), 0);
	for (unsigned durable = 0; durable < 2; durable++) {
		ck_assert_int_eq(store_begin(store, durable), 0);
		ck_assert_int_eq(store_meta_put(store, "word", "x", 1), 0);
		store_rollback(store);
		ck_assert_int_eq(store_meta(store, "word", &value, &n), -ENOENT);
	}
	ck_assert_int_eq(store_begin(store, true), 0);
	ck_assert_int_eq(store_meta_put(store, "word", "xyz", 3), 0);
	ck_assert_int_eq(store_commit(store), 0);
	ck_assert_int_eq(store_meta(store, "word", &value, &n), 0);
	ck_assert_uint_eq(n, 3);
}
END_TEST

UNIT_MAIN("words of controld", a_map_does_as_an_array_does, secrets_round_trip_and_nothing_else_does, permissions_are_whole_words,
	  names_are_dns_labels, a_nonce_is_good_once_and_memory_is_bounded, the_same_answer_again_and_again_comes_later_and_later,
	  a_query_within_its_own_rows_has_rows_of_its_own, a_transaction_that_is_rolled_back_was_not)
