/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane's answers: those that are right, and what is made of those that are not. */
#include "fetchd/answer.h"
#include "libipc/pack.h"
#include "tests/unit/unit.h"

#define _cleanup_stash_ CLEANUP(stash_free)
#define BLOBS 300

static const char *const heads[] = { "keyset", "head" };

static struct pack_writer poll_answer(uint32_t blobs)
{
	struct pack_writer writer = { 0 };

	pack_put_array(&writer, 3);
	pack_put_bytes(&writer, heads[0], strlen(heads[0]));
	pack_put_bytes(&writer, heads[1], strlen(heads[1]));
	pack_put_array(&writer, blobs);
	for (uint32_t i = 0; i < blobs; i++)
		pack_put_bytes(&writer, &i, sizeof(i));
	ck_assert_int_eq(writer.error, 0);
	return writer;
}

START_TEST(blobs_are_found_by_name)
{
	struct pack_writer writer = poll_answer(BLOBS);
	_cleanup_stash_ struct stash stash = { 0 };
	struct view keyset, head;
	struct hash name;

	ck_assert_int_eq(poll_answer_open(&writer.bytes, writer.n, &keyset, &head, &stash), 0);
	ck_assert_ptr_null(writer.bytes); /* it is the stash's now */
	ck_assert_uint_eq(keyset.n, 6);
	ck_assert_mem_eq(head.p, "head", 4);
	ck_assert_uint_eq(stash.count, BLOBS);
	for (uint32_t i = 0; i < BLOBS; i++) {
		const struct named_blob *blob;

		hash_of(&i, sizeof(i), &name);
		blob = stash_find(&stash, &name);
		ck_assert_ptr_nonnull(blob);
		ck_assert_mem_eq(blob->bytes.p, &i, sizeof(i));
	}
	hash_of("x", 1, &name);
	ck_assert_ptr_null(stash_find(&stash, &name));
}
END_TEST

START_TEST(an_answer_without_blobs)
{
	struct pack_writer writer = poll_answer(0);
	_cleanup_stash_ struct stash stash = { 0 };
	struct view keyset, head;
	struct hash name = { { 0 } };

	ck_assert_int_eq(poll_answer_open(&writer.bytes, writer.n, &keyset, &head, &stash), 0);
	ck_assert_ptr_null(stash_find(&stash, &name));
}
END_TEST

START_TEST(every_truncation_is_refused_and_leaves_things_alone)
{
	_cleanup_writer_ struct pack_writer writer = poll_answer(20);

	for (size_t n = 0; n < writer.n; n++) {
		_cleanup_stash_ struct stash stash = { 0 };
		struct view keyset = { 0 }, head = { 0 };

		ck_assert_int_lt(poll_answer_open(&writer.bytes, n, &keyset, &head, &stash), 0);
		ck_assert_ptr_nonnull(writer.bytes);
		ck_assert_ptr_null(stash.body);
		ck_assert_ptr_null(head.p);
	}
}
END_TEST

/* What is accepted of bytes turned at random points into the answer; the sanitizers watch. */
START_TEST(bytes_turned_at_random_do_no_harm)
{
	struct dice dice = dice_of(7);

	for (unsigned round = 0; round < 20000; round++) {
		struct pack_writer writer = poll_answer(5);
		_cleanup_stash_ struct stash stash = { 0 };
		struct view keyset, head;

		for (unsigned turns = 1 + dice_below(&dice, 4); turns > 0; turns--)
			writer.bytes[dice_below(&dice, (uint32_t)writer.n)] = (uint8_t)dice_below(&dice, 256);
		if (poll_answer_open(&writer.bytes, writer.n, &keyset, &head, &stash) == 0)
			ck_assert_ptr_nonnull(stash.body);
		pack_writer_free(&writer);
	}
}
END_TEST

START_TEST(a_blob_over_the_bound_is_refused)
{
	static const uint8_t large[BLOB_BYTES_MAX + 1];
	_cleanup_writer_ struct pack_writer writer = { 0 };
	_cleanup_stash_ struct stash stash = { 0 };

	pack_put_array(&writer, 1);
	pack_put_array(&writer, 1);
	pack_put_bytes(&writer, large, sizeof(large));
	ck_assert_int_eq(blobs_answer_open(&writer.bytes, writer.n, &stash), -EBADMSG);
}
END_TEST

START_TEST(errors_are_cleaned)
{
	_cleanup_writer_ struct pack_writer writer = { 0 };
	char code[32] = "before", detail[40] = "before";

	ck_assert_int_lt(error_answer_open("<html>", 6, code, sizeof(code), detail, sizeof(detail)), 0);
	ck_assert_int_lt(error_answer_open(NULL, 0, code, sizeof(code), detail, sizeof(detail)), 0);
	ck_assert_str_eq(code, "before");
	pack_put_array(&writer, 2);
	pack_put_text(&writer, "busy\n");
	pack_put_text(&writer, "\x1b[31m and much longer than the room that there is for it");
	ck_assert_int_eq(error_answer_open(writer.bytes, writer.n, code, sizeof(code), detail, sizeof(detail)), 0);
	ck_assert_str_eq(code, "busy?");
	ck_assert_str_eq(detail, "?[31m and much longer than the room tha");
}
END_TEST

START_TEST(a_host_id_is_sixteen_bytes)
{
	static const uint8_t id[ID_BYTES + 1] = { 9 };
	struct id host;

	for (size_t n = 0; n <= sizeof(id); n++) {
		_cleanup_writer_ struct pack_writer writer = { 0 };

		pack_put_array(&writer, 1);
		pack_put_bytes(&writer, id, n);
		ck_assert_int_eq(enroll_answer_open(writer.bytes, writer.n, &host) == 0, n == ID_BYTES);
	}
	ck_assert_mem_eq(host.b, id, ID_BYTES);
}
END_TEST

UNIT_MAIN("fetchd answer", blobs_are_found_by_name, an_answer_without_blobs, every_truncation_is_refused_and_leaves_things_alone,
	  bytes_turned_at_random_do_no_harm, a_blob_over_the_bound_is_refused, errors_are_cleaned, a_host_id_is_sixteen_bytes)
