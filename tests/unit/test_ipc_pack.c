/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that nobody has verified: every limit of pack.h, and the writer. */
#include "libipc/pack.h"
#include "tests/unit/unit.h"

static const struct pack_limits wide = { .bytes = 65536, .depth = 8, .elements = 1000 };

/* -- The check of raw bytes ----------------------------------------------------------------------------------------------------------- */

/* A copy of exactly n bytes, so that a read beyond them is seen. */
static int check_copy(const void *bytes, size_t n, const struct pack_limits *limits)
{
	_cleanup_free_ uint8_t *copy = malloc(n ? n : 1);

	memcpy(copy, bytes, n);
	return pack_check(copy, n, limits);
}

START_TEST(types_that_we_use_pass)
{
	static const char *const good[] = {
		"\x90",                             /* [] */
		"\x91\x7f",                         /* small number */
		"\x91\xcc\xff",                     /* 8, 16, 32, 64 bits */
		"\x91\xcd\xff\xff",
		"\x91\xce\xff\xff\xff\xff",
		"\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
		"\x91\xc0",                         /* nil */
		"\x92\xc2\xc3",                     /* flags */
		"\x91\xa1x",                        /* strings: short, 8, 16, 32 bits of length */
		"\x91\xd9\x01x",
		"\x91\xc4\x01x",                    /* binaries */
	};
	static const size_t sizes[] = { 1, 2, 3, 4, 6, 10, 2, 3, 3, 4, 4 };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_msg(check_copy(good[i], sizes[i], &wide) == 0, "case %zu", i);
	ck_assert_int_eq(check_copy("\x91\xda\x00\x01x", 5, &wide), 0);
	ck_assert_int_eq(check_copy("\x91\xdb\x00\x00\x00\x01x", 7, &wide), 0);
	ck_assert_int_eq(check_copy("\x91\xc5\x00\x01x", 5, &wide), 0);
	ck_assert_int_eq(check_copy("\x91\xc6\x00\x00\x00\x01x", 7, &wide), 0);
	ck_assert_int_eq(check_copy("\xdc\x00\x01\x00", 4, &wide), 0);
	ck_assert_int_eq(check_copy("\xdd\x00\x00\x00\x01\x00", 6, &wide), 0);
}
END_TEST

START_TEST(types_that_we_never_use_are_refused)
{
	/* Maps, the unassigned tag, extensions, floats, signed numbers, negative small numbers: with all the bytes that they could want. */
	for (unsigned tag = 0x80; tag <= 0xff; tag++) {
		uint8_t bytes[32] = { 0x91, (uint8_t)tag };
		bool ours = (tag >= 0x90 && tag <= 0xc0) || (tag >= 0xc2 && tag <= 0xc6) || (tag >= 0xcc && tag <= 0xcf) ||
			    (tag >= 0xd9 && tag <= 0xdd);

		for (size_t n = 2; !ours && n <= sizeof(bytes); n++)
			ck_assert_msg(check_copy(bytes, n, &wide) == -EBADMSG, "tag %#x in %zu bytes", tag, n);
	}
}
END_TEST

START_TEST(a_cut_anywhere_is_refused)
{
	_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };
	uint8_t content[300] = { 0 };

	pack_put_array(&writer, 6);
	pack_put_u64(&writer, UINT64_MAX);
	pack_put_text(&writer, "overlay");
	pack_put_bytes(&writer, content, sizeof(content));
	pack_put_array(&writer, 20);
	for (unsigned i = 0; i < 20; i++)
		pack_put_u64(&writer, i * 1000);
	pack_put_bool(&writer, true);
	pack_put_array(&writer, 0);
	ck_assert_int_eq(check_copy(writer.bytes, writer.n, &wide), 0);
	for (size_t n = 0; n < writer.n; n++)
		ck_assert_int_eq(check_copy(writer.bytes, n, &wide), -EBADMSG);
	pack_put_bool(&writer, true); /* trailing */
	ck_assert_int_eq(check_copy(writer.bytes, writer.n, &wide), -EBADMSG);
}
END_TEST

START_TEST(lengths_without_data_are_refused)
{
	static const struct {
		uint8_t bytes[8];
		size_t n;
		int expected;
	} frames[] = {
		{ { 0xdd, 0xff, 0xff, 0xff, 0xff }, 5, -E2BIG },
		{ { 0xdc, 0xff, 0xff }, 3, -E2BIG },
		{ { 0x91, 0xc6, 0xff, 0xff, 0xff, 0xff }, 6, -EBADMSG },
		{ { 0x91, 0xdb, 0xff, 0xff, 0xff, 0xff, 'x' }, 7, -EBADMSG },
		{ { 0x91, 0xc5, 0xff, 0xff, 0 }, 5, -EBADMSG },
		{ { 0x91, 0xc4, 0x02, 0 }, 4, -EBADMSG },
		{ { 0x91, 0xdd, 0xff, 0xff, 0xff, 0xff }, 6, -E2BIG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(frames); i++)
		ck_assert_int_eq(check_copy(frames[i].bytes, frames[i].n, &wide), frames[i].expected);
}
END_TEST

START_TEST(bytes_are_bounded)
{
	struct pack_limits limits = { .bytes = 10, .depth = 1, .elements = 1 };
	uint8_t bytes[12] = { 0x91, 0xc4, 7 };

	ck_assert_int_eq(check_copy(bytes, 10, &limits), 0);
	bytes[2] = 8;
	ck_assert_int_eq(check_copy(bytes, 11, &limits), -EMSGSIZE);
}
END_TEST

START_TEST(depth_is_bounded)
{
	uint8_t nested[64];

	memset(nested, 0x91, sizeof(nested));
	for (unsigned depth = 1; depth <= 40; depth++) {
		struct pack_limits limits = { .bytes = 64, .depth = depth, .elements = 64 };

		nested[depth - 1] = 0x90;
		/* 16 is the ceiling, whatever the limits say. */
		ck_assert_int_eq(check_copy(nested, depth, &limits), depth <= 16 ? 0 : -ELOOP);
		limits.depth--;
		ck_assert_int_eq(check_copy(nested, depth, &limits), -ELOOP);
		nested[depth - 1] = 0x91;
	}
	/* A number alone is no array, but it is within depth 0. */
	ck_assert_int_eq(check_copy("\x01", 1, &(struct pack_limits){ .bytes = 1 }), 0);
}
END_TEST

START_TEST(elements_are_bounded_over_all_arrays)
{
	struct pack_limits limits = { .bytes = 64, .depth = 3, .elements = 6 };

	ck_assert_int_eq(check_copy("\x96\0\0\0\0\0\0", 7, &limits), 0);
	ck_assert_int_eq(check_copy("\x97\0\0\0\0\0\0\0", 8, &limits), -E2BIG);
	ck_assert_int_eq(check_copy("\x92\x92\0\0\x92\0\0", 7, &limits), 0);
	ck_assert_int_eq(check_copy("\x92\x92\0\0\x93\0\0\0", 8, &limits), -E2BIG);
	ck_assert_int_eq(check_copy("\x92\x90\x90", 3, &limits), 0);
}
END_TEST

/* Any bytes at all: the check and msgpack-c have to agree that they are readable, or the check says no. */
START_TEST(what_passes_the_check_can_be_read)
{
	unsigned passed = 0;

	for (uint64_t seed = 1; seed <= 20000; seed++) {
		_cleanup_reader_ struct pack_reader reader = { .ready = false };
		struct dice dice = dice_of(seed);
		struct pack_cursor cursor;
		uint8_t bytes[24];
		size_t n = 1 + dice_below(&dice, sizeof(bytes));
		int r;

		dice_fill(&dice, bytes, n);
		bytes[0] = (uint8_t)(0x90 | (bytes[0] & 7)); /* an array, else hardly any would pass */
		for (size_t i = 1; i < n; i++)
			if (dice_below(&dice, 3))
				bytes[i] &= 0x1f;
		r = pack_check(bytes, n, &wide);
		if (r == 0)
			passed++;
		ck_assert_int_eq(pack_open(&reader, bytes, n, &wide, &cursor), r);
	}
	ck_assert_uint_gt(passed, 100); /* else the dice are no good */
}
END_TEST

/* -- Cursors ---------------------------------------------------------------------------------------------------------------------------- */

static struct pack_cursor opened(struct pack_reader *reader, const struct pack_writer *writer)
{
	struct pack_cursor cursor;

	ck_assert_int_eq(pack_open(reader, writer->bytes, writer->n, &wide, &cursor), 0);
	return cursor;
}

START_TEST(what_is_written_is_read)
{
	_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	struct prefix prefix = { 6, 64, { 0xfd } }, prefix_again;
	struct endpoint endpoint = { 4, 51820, { 192, 0, 2, 1 } }, endpoint_again;
	struct pack_cursor cursor, inner;
	uint8_t fixed[4];
	char text[8];

	pack_put_array(&writer, 8);
	pack_put_u64(&writer, UINT64_MAX);
	pack_put_bool(&writer, true);
	pack_put_bytes(&writer, "\0\1\2\3", 4);
	pack_put_bytes(&writer, NULL, 0);
	pack_put_text(&writer, "overlay");
	pack_put_array(&writer, 1);
	pack_put_u64(&writer, 5);
	pack_put_prefix(&writer, &prefix);
	pack_put_endpoint(&writer, &endpoint);
	cursor = opened(&reader, &writer);
	ck_assert_uint_eq(pack_u64(&cursor, UINT64_MAX), UINT64_MAX);
	ck_assert(pack_bool(&cursor));
	pack_fixed(&cursor, fixed, 4);
	ck_assert_mem_eq(fixed, "\0\1\2\3", 4);
	ck_assert_uint_eq(pack_bytes(&cursor, 0).n, 0);
	pack_text_copy(&cursor, text, sizeof(text));
	ck_assert_str_eq(text, "overlay");
	ck_assert_uint_eq(pack_array(&cursor, 1, 1, &inner), 1);
	ck_assert_uint_eq(pack_u64(&inner, 5), 5);
	pack_close(&cursor, &inner);
	pack_prefix(&cursor, &prefix_again);
	pack_endpoint(&cursor, &endpoint_again);
	ck_assert_int_eq(pack_done(&cursor), 0);
	ck_assert(prefix_equal(&prefix, &prefix_again) && endpoint_equal(&endpoint, &endpoint_again));
}
END_TEST

START_TEST(the_first_error_sticks)
{
	_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	struct pack_cursor cursor, inner;
	uint8_t fixed[4] = { 9, 9, 9, 9 };
	char text[4] = "old";

	pack_put_array(&writer, 3);
	pack_put_u64(&writer, 8);
	pack_put_text(&writer, "abc");
	pack_put_bytes(&writer, "abcd", 4);
	cursor = opened(&reader, &writer);
	ck_assert_uint_eq(pack_u64(&cursor, 7), 0); /* one over */
	pack_text_copy(&cursor, text, sizeof(text));
	pack_fixed(&cursor, fixed, sizeof(fixed));
	ck_assert_str_eq(text, "");
	ck_assert_mem_eq(fixed, "\0\0\0\0", 4);
	ck_assert_uint_eq(pack_array(&cursor, 0, 9, &inner), 0);
	ck_assert_int_eq(inner.error, -EBADMSG);
	ck_assert_int_eq(pack_done(&cursor), -EBADMSG);
}
END_TEST

#define READ(write, read, expected)                                                          \
	do {                                                                                 \
		_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };              \
		_cleanup_reader_ struct pack_reader reader = { .ready = false };             \
		struct pack_cursor cursor;                                                   \
		pack_put_array(&writer, 1);                                                  \
		write;                                                                       \
		cursor = opened(&reader, &writer);                                           \
		read;                                                                        \
		ck_assert_int_eq(pack_done(&cursor), (expected));                            \
	} while (0)

START_TEST(each_kind_is_read_within_its_bound)
{
	struct pack_cursor inner;
	struct prefix prefix;
	struct endpoint endpoint;
	uint8_t fixed[4];
	char text[4];

	READ(pack_put_u64(&writer, 7), (void)pack_u64(&cursor, 7), 0);
	READ(pack_put_u64(&writer, 8), (void)pack_u64(&cursor, 7), -EBADMSG);
	READ(pack_put_u64(&writer, 1), (void)pack_bool(&cursor), -EBADMSG);
	READ(pack_put_bool(&writer, true), (void)pack_u64(&cursor, 7), -EBADMSG);
	READ(pack_put_bytes(&writer, "abcd", 4), (void)pack_bytes(&cursor, 4), 0);
	READ(pack_put_bytes(&writer, "abcd", 4), (void)pack_bytes(&cursor, 3), -EBADMSG);
	READ(pack_put_bytes(&writer, "abcd", 4), pack_fixed(&cursor, fixed, 4), 0);
	READ(pack_put_bytes(&writer, "abc", 3), pack_fixed(&cursor, fixed, 4), -EBADMSG);
	READ(pack_put_bytes(&writer, "abcde", 5), pack_fixed(&cursor, fixed, 4), -EBADMSG);
	READ(pack_put_text(&writer, "abc"), pack_text_copy(&cursor, text, sizeof(text)), 0);
	READ(pack_put_text(&writer, "abcd"), pack_text_copy(&cursor, text, sizeof(text)), -EBADMSG);
	READ(pack_put_text_n(&writer, "a\0c", 3), pack_text_copy(&cursor, text, sizeof(text)), -EBADMSG);
	READ(pack_put_text(&writer, "a\nb"), pack_text_copy(&cursor, text, sizeof(text)), -EBADMSG);
	READ(pack_put_text(&writer, "a\x7f"), pack_text_copy(&cursor, text, sizeof(text)), -EBADMSG);
	READ(pack_put_text(&writer, "abcd"), pack_fixed(&cursor, fixed, 4), -EBADMSG);
	READ(pack_put_bytes(&writer, "abc", 3), pack_text_copy(&cursor, text, sizeof(text)), -EBADMSG);
	READ(pack_put_array(&writer, 0), (void)pack_array(&cursor, 1, 2, &inner), -EBADMSG);
	READ((pack_put_array(&writer, 3), pack_put_raw(&writer, "\0\0\0", 3)), (void)pack_array(&cursor, 1, 2, &inner), -EBADMSG);
	READ((pack_put_array(&writer, 2), pack_put_raw(&writer, "\0\0", 2)),
	     ((void)pack_array(&cursor, 1, 2, &inner), pack_close(&cursor, &inner)), -EBADMSG); /* two are left in it */
	READ((pack_put_array(&writer, 2), pack_put_raw(&writer, "\x20\xc4\x04\x0a\x00\x00\x01", 7)), pack_prefix(&cursor, &prefix), 0);
	READ((pack_put_array(&writer, 2), pack_put_raw(&writer, "\x21\xc4\x04\x0a\x00\x00\x01", 7)), pack_prefix(&cursor, &prefix), -EBADMSG);
	READ((pack_put_array(&writer, 2), pack_put_raw(&writer, "\x08\xc4\x04\x0a\x00\x00\x01", 7)), pack_prefix(&cursor, &prefix), -EBADMSG);
	READ((pack_put_array(&writer, 2), pack_put_raw(&writer, "\x08\xc4\x03\x0a\x00\x00", 6)), pack_prefix(&cursor, &prefix), -EBADMSG);
	READ((pack_put_array(&writer, 2), pack_put_raw(&writer, "\x35\xc4\x04\x0a\x00\x00\x01", 7)), pack_endpoint(&cursor, &endpoint), 0);
	READ((pack_put_array(&writer, 2), pack_put_raw(&writer, "\x00\xc4\x04\x0a\x00\x00\x01", 7)), pack_endpoint(&cursor, &endpoint), -EBADMSG);
	READ((pack_put_array(&writer, 2), pack_put_raw(&writer, "\x35\xc4\x05\x0a\x00\x00\x01\x00", 8)), pack_endpoint(&cursor, &endpoint),
	     -EBADMSG);
}
END_TEST

START_TEST(what_is_no_array_is_not_opened)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	struct pack_cursor cursor;

	ck_assert_int_eq(pack_open(&reader, "\x01", 1, &wide, &cursor), -EBADMSG);
	ck_assert_int_eq(pack_open(&reader, "\xa1x", 2, &wide, &cursor), -EBADMSG);
	ck_assert_int_eq(pack_open(&reader, "\xc0", 1, &wide, &cursor), -EBADMSG);
}
END_TEST

START_TEST(a_reader_is_used_again)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };

	for (uint64_t i = 0; i < 1000; i++) {
		_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };
		struct pack_cursor cursor;

		pack_put_array(&writer, (uint32_t)i);
		for (uint64_t j = 0; j < i; j++)
			pack_put_u64(&writer, j);
		cursor = opened(&reader, &writer);
		for (uint64_t j = 0; j < i; j++)
			ck_assert_uint_eq(pack_u64(&cursor, j), j);
		ck_assert_int_eq(pack_done(&cursor), 0);
	}
	pack_reader_free(&reader);
	pack_reader_free(&reader);
}
END_TEST

/* -- Writers ---------------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_writer_grows)
{
	_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };
	static uint8_t content[100000];

	memset(content, 'c', sizeof(content));
	for (size_t n = 0; n < 5000; n += 7)
		pack_put_raw(&writer, content, n);
	pack_put_raw(&writer, content, sizeof(content));
	ck_assert_int_eq(writer.error, 0);
	ck_assert_uint_le(writer.n, writer.room);
	for (size_t i = 0; i < writer.n; i += sizeof(content))
		ck_assert_mem_eq(writer.bytes + i, content, writer.n - i < sizeof(content) ? writer.n - i : sizeof(content));
	pack_writer_free(&writer);
	ck_assert_ptr_null(writer.bytes);
	ck_assert_uint_eq(writer.n, 0);
}
END_TEST

START_TEST(a_fixed_writer_does_not_go_over_its_end)
{
	for (size_t room = 0; room < 10; room++) {
		_cleanup_free_ uint8_t *buffer = malloc(room ? room : 1);
		struct pack_writer writer = pack_writer_over(buffer, room);

		pack_put_array(&writer, 1);
		pack_put_bytes(&writer, "abcd", 4); /* 1 + 2 + 4 */
		ck_assert_int_eq(writer.error, room < 7 ? -EMSGSIZE : 0);
		ck_assert_uint_le(writer.n, room);
		pack_put_raw(&writer, "", 0);
		/* The error sticks: a short thing that would fit does not follow a long one that did not. */
		pack_put_bool(&writer, true);
		ck_assert_int_eq(writer.error, room < 8 ? -EMSGSIZE : 0);
		pack_writer_free(&writer); /* the buffer is ours */
	}
}
END_TEST

UNIT_MAIN("ipc: pack", types_that_we_use_pass, types_that_we_never_use_are_refused, a_cut_anywhere_is_refused,
	  lengths_without_data_are_refused, bytes_are_bounded, depth_is_bounded, elements_are_bounded_over_all_arrays,
	  what_passes_the_check_can_be_read, what_is_written_is_read, the_first_error_sticks, each_kind_is_read_within_its_bound,
	  what_is_no_array_is_not_opened, a_reader_is_used_again, a_writer_grows, a_fixed_writer_does_not_go_over_its_end)
