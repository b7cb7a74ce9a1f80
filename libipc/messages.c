/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/messages.h"

#include <errno.h>
#include <string.h>

#include "libipc/pack.h"

/* -- The table ---------------------------------------------------------------------------------------------------------------- */

#define F(kind, member, bound) visitor->field(visitor, FIELD_##kind, &body->member, #member, (bound));
#define M(name, number, from, to, phase, bytes, fds, fields)                          \
	static void walk_##name(struct field_visitor *visitor _unused_, void *object) \
	{                                                                             \
		struct msg_##name *body _unused_ = object;                            \
		fields                                                                \
	}
#include "libipc/messages.def"
#undef M
#undef F

#define F(kind, member, bound) +1
#define M(name, number, from, to, phase, bytes, fds, fields)                                                              \
	{ #name, MSG_##name, PARTY_##from, PARTY_##to, PHASE_##phase, (bytes), (fds), (uint32_t)(0 fields), walk_##name },
const struct message_type message_types[] = {
#include "libipc/messages.def"
};
#undef M
#undef F

const size_t message_type_count = ARRAY_SIZE(message_types);

const struct message_type *message_type_of(uint64_t number)
{
	for (size_t i = 0; i < message_type_count; i++)
		if ((uint64_t)message_types[i].number == number)
			return &message_types[i];
	return NULL;
}

const char *party_name(enum party party)
{
	static const char *const names[] = { "netd", "fetchd", "admin", "viewer", "wg-launch", "controld", "signd" };

	return (size_t)party < ARRAY_SIZE(names) ? names[party] : "nobody";
}

const char *phase_name(enum phase phase)
{
	static const char *const names[] = { "any", "start", "ready", "wanted" };

	return (size_t)phase < ARRAY_SIZE(names) ? names[phase] : "none";
}

/* -- Encoding ----------------------------------------------------------------------------------------------------------------- */

struct encoder {
	struct field_visitor visitor;
	struct pack_writer writer;
};

static void encode_field(struct field_visitor *visitor, enum field_kind kind, void *field, const char *name _unused_, uint64_t bound)
{
	struct encoder *encoder = (struct encoder *)visitor;
	struct pack_writer *writer = &encoder->writer;

	switch (kind) {
	case FIELD_u64: {
		const uint64_t *value = field;

		if (*value > bound)
			writer->error = -EMSGSIZE;
		pack_put_u64(writer, *value);
		return;
	}
	case FIELD_flag:
		pack_put_bool(writer, *(const bool *)field);
		return;
	case FIELD_key:
		pack_put_bytes(writer, *(const uint8_t *const *)field, KEY_BYTES);
		return;
	case FIELD_bytes:
	case FIELD_text: {
		const struct view *view = field;

		if (view->n > bound)
			writer->error = -EMSGSIZE;
		if (kind == FIELD_bytes)
			pack_put_bytes(writer, view->p, view->n);
		else
			pack_put_text_n(writer, (const char *)view->p, view->n);
		return;
	}
	}
}

int message_encode(enum message_number number, const void *body, uint8_t *frame, size_t room, size_t *n)
{
	const struct message_type *type = message_type_of(number);
	struct encoder encoder = { .visitor.field = encode_field };

	if (!type)
		return -EINVAL;
	encoder.writer = pack_writer_over(frame, room < type->bytes ? room : type->bytes);
	pack_put_array(&encoder.writer, 1 + type->field_count);
	pack_put_u64(&encoder.writer, (uint64_t)number);
	/* The walk only reads when it encodes; it takes a plain pointer because decoding writes through it. */
	type->walk(&encoder.visitor, (void *)(uintptr_t)body);
	if (encoder.writer.error < 0)
		return encoder.writer.error;
	*n = encoder.writer.n;
	return 0;
}

/* -- Decoding ----------------------------------------------------------------------------------------------------------------- */

struct decoder {
	struct field_visitor visitor;
	struct pack_cursor cursor;
};

static void decode_field(struct field_visitor *visitor, enum field_kind kind, void *field, const char *name _unused_, uint64_t bound)
{
	struct pack_cursor *cursor = &((struct decoder *)visitor)->cursor;

	switch (kind) {
	case FIELD_u64:
		*(uint64_t *)field = pack_u64(cursor, bound);
		return;
	case FIELD_flag:
		*(bool *)field = pack_bool(cursor);
		return;
	case FIELD_key: {
		struct view view = pack_bytes(cursor, KEY_BYTES);

		if (cursor->error == 0 && view.n != KEY_BYTES)
			cursor->error = -EBADMSG;
		*(const uint8_t **)field = view.p;
		return;
	}
	case FIELD_bytes:
		*(struct view *)field = pack_bytes(cursor, (size_t)bound);
		return;
	case FIELD_text:
		*(struct view *)field = pack_text(cursor, (size_t)bound);
		return;
	}
}

int message_decode(struct pack_reader *reader, const uint8_t *frame, size_t n, enum party from, enum party to, struct message *message,
		   const struct message_type **type, const char **why)
{
	/* Flat by construction: one array, no array within. */
	static const struct pack_limits limits = { .bytes = FRAME_BYTES_MAX, .depth = 1, .elements = 16 };
	struct decoder decoder = { .visitor.field = decode_field };
	struct message decoded = { .fds = { -1, -1 } };
	const struct message_type *row;
	uint64_t number;
	int r;

	*why = "not a bounded msgpack array";
	r = pack_open(reader, frame, n, &limits, &decoder.cursor);
	if (r < 0)
		return r;
	number = pack_u64(&decoder.cursor, UINT64_MAX);
	row = message_type_of(number);
	*why = "no such message";
	if (decoder.cursor.error < 0 || !row)
		return -EBADMSG;
	*why = "longer than this message may be";
	if (n > row->bytes)
		return -EMSGSIZE;
	*why = "this peer may not send this message";
	if (row->from != from || row->to != to)
		return -EPROTO;
	*why = "a field is missing, of the wrong type, out of bounds, or one too many";
	row->walk(&decoder.visitor, &decoded.body);
	r = pack_done(&decoder.cursor);
	if (r < 0)
		return r;
	decoded.number = row->number;
	*message = decoded;
	*type = row;
	return 0;
}

struct view text_view(const char *text)
{
	return (struct view){ (const uint8_t *)text, strlen(text) };
}

const char *text_copy(char *out, size_t size, struct view text)
{
	size_t n = text.n < size - 1 ? text.n : size - 1;

	if (n)
		memcpy(out, text.p, n);
	out[n] = '\0';
	return out;
}
