/* SPDX-License-Identifier: Apache-2.0 */
/* The cache is a convenience: whatever stands in its folder, what comes out is what the name says, or nothing. */
#include "fetchd/cache.h"
#include "tests/unit/unit.h"

#define _cleanup_cache_ CLEANUP(cache_close)
#define BLOCK 4096

static struct hash put(struct cache *cache, uint32_t number, size_t n)
{
	uint8_t bytes[BLOB_BYTES_MAX];
	struct hash name;

	memset(bytes, (int)number, n);
	memcpy(bytes, &number, sizeof(number));
	hash_of(bytes, n, &name);
	cache_put(cache, &name, bytes, n);
	return name;
}

static ssize_t get(struct cache *cache, const struct hash *name)
{
	uint8_t bytes[BLOB_BYTES_MAX];

	return cache_get(cache, name, bytes);
}

START_TEST(what_was_put_comes_back_also_after_a_restart)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_cache_ struct cache cache = { .dir = -1 }, again = { .dir = -1 };
	struct hash name;

	cache_open(folder.path, CACHE_BYTES_MAX, &cache);
	name = put(&cache, 1, 500);
	ck_assert_int_eq(get(&cache, &name), 500);
	cache_open(folder.path, CACHE_BYTES_MAX, &again);
	ck_assert_int_eq(get(&again, &name), 500);
	ck_assert_uint_eq(again.used, BLOCK);
}
END_TEST

START_TEST(what_is_not_what_its_name_says_is_dropped)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_cache_ struct cache cache = { .dir = -1 };
	char text[HASH_TEXT];
	struct hash name;

	cache_open(folder.path, CACHE_BYTES_MAX, &cache);
	name = put(&cache, 1, 500);
	hex_format(name.b, HASH_BYTES, text);
	file_put(&folder, text, "other", 5);
	ck_assert_int_eq(get(&cache, &name), -ENOENT);
	ck_assert_int_eq(faccessat(folder.fd, text, F_OK, 0), -1);
	name = put(&cache, 1, 500);
	ck_assert_int_eq(get(&cache, &name), 500);
}
END_TEST

START_TEST(it_stays_within_its_limit_and_the_oldest_go)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_cache_ struct cache cache = { .dir = -1 };
	struct hash names[100];
	unsigned there = 0;

	cache_open(folder.path, 40 * BLOCK, &cache);
	for (uint32_t i = 0; i < 100; i++) {
		struct timespec times[2] = { { .tv_sec = 1000 + i }, { .tv_sec = 1000 + i } };
		char text[HASH_TEXT];

		names[i] = put(&cache, i, 100);
		(void)utimensat(folder.fd, hex_format(names[i].b, HASH_BYTES, text), times, 0);
		ck_assert_uint_le(cache.used, 40 * BLOCK);
	}
	for (uint32_t i = 0; i < 100; i++) {
		bool here = get(&cache, &names[i]) == 100;

		there += here;
		ck_assert_msg(here || i < 75, "blob %u is gone, younger than what stayed", i);
	}
	ck_assert_uint_le(there, 40);
	ck_assert_uint_ge(there, 25);
}
END_TEST

START_TEST(what_is_not_ours_is_removed_from_the_folder)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_cache_ struct cache cache = { .dir = -1 };

	file_put(&folder, "README", "hello", 5);
	ck_assert_int_eq(symlinkat("/etc/passwd", folder.fd, "0000000000000000000000000000000000000000000000000000000000000000"), 0);
	cache_open(folder.path, CACHE_BYTES_MAX, &cache);
	ck_assert_uint_eq(cache.used, 0);
	ck_assert_int_eq(faccessat(folder.fd, "README", F_OK, 0), -1);
}
END_TEST

START_TEST(without_a_folder_it_does_nothing)
{
	struct cache cache;
	struct hash name;

	cache_open("/nonexistent", CACHE_BYTES_MAX, &cache);
	ck_assert_int_eq(cache.dir, -1);
	name = put(&cache, 1, 500);
	ck_assert_int_eq(get(&cache, &name), -ENOENT);
	cache_close(&cache);
}
END_TEST

START_TEST(the_largest_blob_fits_and_no_larger)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_cache_ struct cache cache = { .dir = -1 };
	static uint8_t large[BLOB_BYTES_MAX + 1];
	struct hash name;

	cache_open(folder.path, CACHE_BYTES_MAX, &cache);
	name = put(&cache, 1, BLOB_BYTES_MAX);
	ck_assert_int_eq(get(&cache, &name), BLOB_BYTES_MAX);
	hash_of(large, sizeof(large), &name);
	cache_put(&cache, &name, large, sizeof(large));
	ck_assert_int_eq(get(&cache, &name), -ENOENT);
}
END_TEST

UNIT_MAIN("fetchd cache", what_was_put_comes_back_also_after_a_restart, what_is_not_what_its_name_says_is_dropped,
	  it_stays_within_its_limit_and_the_oldest_go, what_is_not_ours_is_removed_from_the_folder, without_a_folder_it_does_nothing,
	  the_largest_blob_fits_and_no_larger)
