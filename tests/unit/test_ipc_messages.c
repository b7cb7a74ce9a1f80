/* SPDX-License-Identifier: Apache-2.0 */
/* Every row of messages.def, judged by what its receiver must accept and must not. */
#include <sodium.h>

#include "libipc/messages.h"
#include "libipc/pack.h"
#include "tests/unit/unit.h"

#define PARTIES 7
#define BOUND_BYTES_MAX 65536

static const uint8_t key[KEY_BYTES] = { 1, 2, 3 };
static uint8_t content[BOUND_BYTES_MAX + 1]; /* of every bytes and text field; no NUL, so that it passes for text */

/* -- Frames that are right, and frames that are wrong in one place ------------------------------------------------------------------ */

enum bend { STRAIGHT, MISSING, OVER, SHORT, AS_NIL, AS_NUMBER, AS_FLAG, AS_TEXT, AS_BYTES, AS_ARRAY, BENDS };

struct bender {
	struct field_visitor visitor;
	struct pack_writer writer;
	enum bend bend;
	uint32_t target, at;
	bool bent; /* the frame really is another one than the straight one */
};

static void put_straight(struct pack_writer *writer, enum field_kind kind, uint64_t bound)
{
	switch (kind) {
	case FIELD_u64:
		pack_put_u64(writer, bound);
		return;
	case FIELD_flag:
		pack_put_bool(writer, true);
		return;
	case FIELD_key:
		pack_put_bytes(writer, key, KEY_BYTES);
		return;
	case FIELD_bytes:
		pack_put_bytes(writer, content, (size_t)bound);
		return;
	case FIELD_text:
		pack_put_text_n(writer, (const char *)content, (size_t)bound);
		return;
	}
}

/* One over the bound, and for keys one under it. @return is there such a thing for this kind? */
static bool put_beside(struct pack_writer *writer, enum field_kind kind, uint64_t bound, enum bend bend)
{
	if (bend == SHORT) {
		if (kind == FIELD_key)
			pack_put_bytes(writer, key, KEY_BYTES - 1);
		return kind == FIELD_key;
	}
	if (kind == FIELD_key)
		pack_put_bytes(writer, content, KEY_BYTES + 1);
	else if (kind == FIELD_flag)
		return false;
	else
		put_straight(writer, kind, bound + 1);
	return true;
}

/* A value of another type. @return is it one? */
static bool put_other_type(struct pack_writer *writer, enum field_kind kind, enum bend bend)
{
	static const uint8_t nil = 0xc0;

	switch (bend) {
	case AS_NIL:
		pack_put_raw(writer, &nil, 1);
		return true;
	case AS_NUMBER:
		pack_put_u64(writer, 1);
		return kind != FIELD_u64;
	case AS_FLAG:
		pack_put_bool(writer, true);
		return kind != FIELD_flag;
	case AS_TEXT: /* of 32 bytes: a key by its length, but not by its type */
		pack_put_text_n(writer, (const char *)content, KEY_BYTES);
		return kind != FIELD_text;
	case AS_BYTES:
		pack_put_bytes(writer, key, KEY_BYTES);
		return kind != FIELD_bytes && kind != FIELD_key;
	default:
		pack_put_array(writer, 0);
		return true;
	}
}

static void bend_field(struct field_visitor *visitor, enum field_kind kind, void *field _unused_, const char *name _unused_, uint64_t bound)
{
	struct bender *bender = (struct bender *)visitor;

	if (bender->at++ != bender->target || bender->bend == STRAIGHT) {
		put_straight(&bender->writer, kind, bound);
		return;
	}
	if (bender->bend == MISSING)
		bender->bent = true;
	else if (bender->bend == OVER || bender->bend == SHORT)
		bender->bent = put_beside(&bender->writer, kind, bound, bender->bend);
	else
		bender->bent = put_other_type(&bender->writer, kind, bender->bend);
}

/* Write a frame of a row whose fields are all at their bounds, but for one that is bent. @return is it another frame? */
static bool bent_frame(const struct message_type *row, enum bend bend, uint32_t target, struct pack_writer *frame)
{
	struct bender bender = { .visitor.field = bend_field, .writer = *frame, .bend = bend, .target = target };
	union message_body body;

	pack_put_array(&bender.writer, 1 + row->field_count - (bend == MISSING ? 1 : 0));
	pack_put_u64(&bender.writer, (uint64_t)row->number);
	row->walk(&bender.visitor, &body);
	ck_assert_uint_eq(bender.at, row->field_count);
	*frame = bender.writer;
	return bender.bent;
}

static int judge_as(const uint8_t *frame, size_t n, enum party from, enum party to, struct message *message)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	const struct message_type *type;
	const char *why = NULL;
	int r = message_decode(&reader, frame, n, from, to, message, &type, &why);

	if (r < 0)
		ck_assert_ptr_nonnull(why);
	else
		ck_assert_uint_eq((unsigned)type->number, (unsigned)message->number);
	return r;
}

static void setup(void)
{
	memset(content, 'x', sizeof(content));
}

/* -- Tests -------------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_row_holds_its_fields_at_their_bounds)
{
	setup();
	for (size_t i = 0; i < message_type_count; i++) {
		const struct message_type *row = &message_types[i];
		_cleanup_writer_ struct pack_writer frame = { .bytes = NULL };
		uint8_t again[FRAME_BYTES_MAX];
		struct message message;
		size_t n = 0;

		(void)bent_frame(row, STRAIGHT, 0, &frame);
		ck_assert_msg(frame.n <= row->bytes, "%s: fields at their bounds make %zu bytes, the row allows %zu", row->name, frame.n,
			      row->bytes);
		ck_assert_msg(judge_as(frame.bytes, frame.n, row->from, row->to, &message) == 0, "%s is not accepted", row->name);
		ck_assert_int_eq(message.fds[0], -1);
		ck_assert_int_eq(message.fds[1], -1);
		/* What was decoded encodes to the same bytes: every field came through. */
		ck_assert_int_eq(message_encode(row->number, &message.body, again, sizeof(again), &n), 0);
		ck_assert_uint_eq(n, frame.n);
		ck_assert_mem_eq(again, frame.bytes, n);
		/* And to nothing at all where there is no room. */
		ck_assert_int_eq(message_encode(row->number, &message.body, again, n - 1, &n), -EMSGSIZE);
		ck_assert_uint_eq(n, frame.n);
	}
}
END_TEST

START_TEST(only_a_rows_own_pair_may_send_it)
{
	size_t accepted = 0, refused = 0;

	setup();
	for (size_t i = 0; i < message_type_count; i++) {
		const struct message_type *row = &message_types[i];
		_cleanup_writer_ struct pack_writer frame = { .bytes = NULL };

		(void)bent_frame(row, STRAIGHT, 0, &frame);
		/* One beyond the last as well: a party that does not exist. */
		for (unsigned from = 0; from <= PARTIES; from++)
			for (unsigned to = 0; to <= PARTIES; to++) {
				struct message message, untouched;
				bool own = from == (unsigned)row->from && to == (unsigned)row->to;
				int r;

				memset(&message, 0xa5, sizeof(message));
				untouched = message;
				r = judge_as(frame.bytes, frame.n, (enum party)from, (enum party)to, &message);
				ck_assert_msg(r == (own ? 0 : -EPROTO), "%s from %s to %s: %d", row->name, party_name((enum party)from),
					      party_name((enum party)to), r);
				if (!own)
					ck_assert_mem_eq(&message, &untouched, sizeof(message));
				*(own ? &accepted : &refused) += 1;
			}
	}
	ck_assert_uint_eq(accepted, message_type_count);
	ck_assert_uint_eq(refused, message_type_count * ((PARTIES + 1) * (PARTIES + 1) - 1));
}
END_TEST

START_TEST(a_bent_field_is_refused)
{
	size_t bent = 0;

	setup();
	for (size_t i = 0; i < message_type_count; i++)
		for (uint32_t target = 0; target < message_types[i].field_count; target++)
			for (enum bend bend = MISSING; bend < BENDS; bend++) {
				const struct message_type *row = &message_types[i];
				_cleanup_writer_ struct pack_writer frame = { .bytes = NULL };
				struct message message;
				int r;

				if (!bent_frame(row, bend, target, &frame))
					continue;
				r = judge_as(frame.bytes, frame.n, row->from, row->to, &message);
				ck_assert_msg(r < 0, "%s: field %u bent by %d is accepted", row->name, target, (int)bend);
				bent++;
			}
	ck_assert_uint_gt(bent, 5 * message_type_count);
}
END_TEST

START_TEST(one_field_more_is_refused)
{
	setup();
	for (size_t i = 0; i < message_type_count; i++) {
		const struct message_type *row = &message_types[i];
		_cleanup_writer_ struct pack_writer straight = { .bytes = NULL }, frame = { .bytes = NULL };
		struct message message;

		(void)bent_frame(row, STRAIGHT, 0, &straight);
		pack_put_array(&frame, 2 + row->field_count);
		ck_assert_uint_eq(frame.n, 1);
		pack_put_raw(&frame, straight.bytes + 1, straight.n - 1);
		pack_put_bool(&frame, true);
		ck_assert_int_lt(judge_as(frame.bytes, frame.n, row->from, row->to, &message), 0);
	}
}
END_TEST

START_TEST(a_frame_over_its_rows_bytes_is_refused_whoever_sends_it)
{
	setup();
	for (size_t i = 0; i < message_type_count; i++) {
		const struct message_type *row = &message_types[i];
		_cleanup_writer_ struct pack_writer frame = { .bytes = NULL };
		struct message message;

		ck_assert_uint_le(row->bytes, FRAME_BYTES_MAX);
		pack_put_array(&frame, 2);
		pack_put_u64(&frame, (uint64_t)row->number);
		pack_put_bytes(&frame, content, row->bytes);
		ck_assert_uint_gt(frame.n, row->bytes);
		ck_assert_int_eq(judge_as(frame.bytes, frame.n, row->from, row->to, &message), -EMSGSIZE);
		ck_assert_int_eq(judge_as(frame.bytes, frame.n, row->to, row->from, &message), -EMSGSIZE);
	}
}
END_TEST

START_TEST(a_sender_cannot_encode_what_its_receiver_refuses)
{
	struct msg_hello hello = { .transport_key = key };
	struct msg_result result = { .outcome = 16 };
	struct msg_view_get get = { .peers = true };
	struct msg_keyset keyset = { .envelope = { content, 16001 } };
	struct msg_tunnel_grant grant = { .interface = { content, 16 } };
	uint8_t frame[FRAME_BYTES_MAX];
	size_t n = 4711;

	setup();
	ck_assert_int_eq(message_encode(MSG_result, &result, frame, sizeof(frame), &n), -EMSGSIZE);
	ck_assert_int_eq(message_encode(MSG_keyset, &keyset, frame, sizeof(frame), &n), -EMSGSIZE);
	ck_assert_int_eq(message_encode(MSG_tunnel_grant, &grant, frame, sizeof(frame), &n), -EMSGSIZE);
	ck_assert_int_eq(message_encode((enum message_number)255, &hello, frame, sizeof(frame), &n), -EINVAL);
	ck_assert_uint_eq(n, 4711);
	ck_assert_int_eq(message_encode(MSG_view_get, &get, frame, sizeof(frame), &n), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert_mem_eq(frame, "\x92\x1e\xc3", 3);
}
END_TEST

START_TEST(a_number_that_no_row_has_is_refused)
{
	/* The last two are hello and pin, if somebody cut the number to 32 or 8 bits. */
	static const uint64_t numbers[] = { 0, 11, 19, 29, 255, 65535, 0x100000001, 0x114, UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		_cleanup_writer_ struct pack_writer frame = { .bytes = NULL };
		struct message message;

		ck_assert_ptr_null(message_type_of(numbers[i]));
		pack_put_array(&frame, 2);
		pack_put_u64(&frame, numbers[i]);
		pack_put_bytes(&frame, key, KEY_BYTES);
		ck_assert_int_eq(judge_as(frame.bytes, frame.n, PARTY_FETCHD, PARTY_NETD, &message), -EBADMSG);
		ck_assert_int_eq(judge_as(frame.bytes, frame.n, PARTY_ADMIN, PARTY_NETD, &message), -EBADMSG);
	}
}
END_TEST

START_TEST(what_is_no_message_is_refused)
{
	static const struct {
		uint8_t bytes[8];
		size_t n;
	} frames[] = {
		{ { 0 }, 0 },                                /* nothing */
		{ { 0x90 }, 1 },                             /* an array without a number */
		{ { 0x91, 0xa1, 'x' }, 3 },                  /* text for a number */
		{ { 30 }, 1 },                               /* a number alone */
		{ { 0x81, 30, 0xc3 }, 3 },                   /* a map */
		{ { 0x92, 30 }, 2 },                         /* torn */
		{ { 0x92, 30, 0xc3, 0xc3 }, 4 },             /* trailing */
		{ { 0x92, 0xd0, 30, 0xc3 }, 4 },             /* a signed number */
		{ { 0x92, 30, 0x91, 0xc3 }, 4 },             /* an array within */
		{ { 0xdd, 0xff, 0xff, 0xff, 0xff, 30 }, 6 }, /* four thousand million fields */
	};

	for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
		struct message message;

		ck_assert_int_lt(judge_as(frames[i].bytes, frames[i].n, PARTY_VIEWER, PARTY_NETD, &message), 0);
	}
}
END_TEST

START_TEST(text_with_a_nul_in_it_is_refused)
{
	struct msg_enroll enroll = { .url = { (const uint8_t *)"https\0//", 8 } };
	uint8_t frame[FRAME_BYTES_MAX];
	struct message message;
	size_t n;

	ck_assert_int_eq(message_encode(MSG_enroll, &enroll, frame, sizeof(frame), &n), 0);
	ck_assert_int_eq(judge_as(frame, n, PARTY_ADMIN, PARTY_FETCHD, &message), -EBADMSG);
}
END_TEST

START_TEST(numbers_and_names_are_unique)
{
	for (size_t i = 0; i < message_type_count; i++) {
		ck_assert_ptr_eq(message_type_of((uint64_t)message_types[i].number), &message_types[i]);
		ck_assert_uint_le(message_types[i].fds, FRAME_FDS_MAX);
		ck_assert_int_ne((int)message_types[i].from, (int)message_types[i].to);
		for (size_t j = 0; j < i; j++) {
			ck_assert_int_ne((int)message_types[i].number, (int)message_types[j].number);
			ck_assert_str_ne(message_types[i].name, message_types[j].name);
		}
	}
}
END_TEST

START_TEST(text_is_copied_cut_and_terminated)
{
	char out[5];

	ck_assert_str_eq(text_copy(out, sizeof(out), text_view("overlay")), "over");
	ck_assert_str_eq(text_copy(out, sizeof(out), text_view("lb0")), "lb0");
	ck_assert_str_eq(text_copy(out, sizeof(out), (struct view){ NULL, 0 }), "");
}
END_TEST

UNIT_MAIN("ipc: messages", a_row_holds_its_fields_at_their_bounds, only_a_rows_own_pair_may_send_it, a_bent_field_is_refused,
	  one_field_more_is_refused, a_frame_over_its_rows_bytes_is_refused_whoever_sends_it,
	  a_sender_cannot_encode_what_its_receiver_refuses, a_number_that_no_row_has_is_refused, what_is_no_message_is_refused,
	  text_with_a_nul_in_it_is_refused, numbers_and_names_are_unique, text_is_copied_cut_and_terminated)
