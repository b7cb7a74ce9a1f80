/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/pack.h"

#include <errno.h>
#include <string.h>

#define ZONE_CHUNK 8192
#define DEPTH_CEILING 16 /* no format of ours is deeper; also the room for counters below */

/* -- Checking raw bytes ------------------------------------------------------------------------------------------------------- */

static uint64_t big_endian(const uint8_t *p, size_t n)
{
	uint64_t value = 0;

	while (n--)
		value = value << 8 | *p++;
	return value;
}

struct item {
	bool array;
	uint64_t length; /* elements of an array; bytes of content otherwise */
	size_t head;     /* bytes before the content */
};

/* What begins at p, which has left bytes. Maps, signed integers, floats and extensions are in no format of ours. */
static int item_at(const uint8_t *p, size_t left, struct item *item)
{
	uint8_t tag = p[0];
	size_t width = 0;

	*item = (struct item){ .head = 1 };
	if (tag <= 0x7f || tag == 0xc0 || tag == 0xc2 || tag == 0xc3)
		return 0;
	if (tag >= 0x90 && tag <= 0x9f) {
		item->array = true;
		item->length = tag & 0x0fU;
		return 0;
	}
	if (tag >= 0xa0 && tag <= 0xbf) {
		item->length = tag & 0x1fU;
		return 0;
	}
	switch (tag) {
	case 0xcc: case 0xcd: case 0xce: case 0xcf: /* unsigned of 1, 2, 4, 8 bytes */
		item->length = 1ULL << (tag - 0xcc);
		return 0;
	case 0xc4: case 0xd9:
		width = 1;
		break;
	case 0xc5: case 0xda: case 0xdc:
		width = 2;
		break;
	case 0xc6: case 0xdb: case 0xdd:
		width = 4;
		break;
	default:
		return -EBADMSG;
	}
	if (left - 1 < width)
		return -EBADMSG;
	item->array = tag == 0xdc || tag == 0xdd;
	item->length = big_endian(p + 1, width);
	item->head = 1 + width;
	return 0;
}

int pack_check(const void *bytes, size_t n, const struct pack_limits *limits)
{
	uint64_t open[DEPTH_CEILING + 1] = { 1 }; /* elements still to come at each depth */
	const uint8_t *p = bytes;
	unsigned depth = 0;
	size_t elements = 0;
	size_t at = 0;

	if (n > limits->bytes)
		return -EMSGSIZE;
	for (;;) {
		struct item item;
		int r;

		while (depth > 0 && open[depth] == 0)
			depth--;
		if (depth == 0 && open[0] == 0)
			return at == n ? 0 : -EBADMSG;
		if (at >= n)
			return -EBADMSG;
		r = item_at(p + at, n - at, &item);
		if (r < 0)
			return r;
		at += item.head;
		open[depth]--;
		if (!item.array) {
			if (item.length > n - at)
				return -EBADMSG;
			at += (size_t)item.length;
			continue;
		}
		if (item.length > limits->elements - elements)
			return -E2BIG;
		elements += (size_t)item.length;
		if (depth >= limits->depth || depth >= DEPTH_CEILING)
			return -ELOOP;
		open[++depth] = item.length;
	}
}

/* -- Reading ------------------------------------------------------------------------------------------------------------------ */

int pack_open(struct pack_reader *reader, const void *bytes, size_t n, const struct pack_limits *limits, struct pack_cursor *cursor)
{
	size_t at = 0;
	int r = pack_check(bytes, n, limits);

	if (r < 0)
		return r;
	if (!reader->ready) {
		if (!msgpack_zone_init(&reader->zone, ZONE_CHUNK))
			return -ENOMEM;
		reader->ready = true;
	} else {
		msgpack_zone_clear(&reader->zone);
	}
	switch (msgpack_unpack(bytes, n, &at, &reader->zone, &reader->root)) {
	case MSGPACK_UNPACK_SUCCESS:
		break;
	case MSGPACK_UNPACK_NOMEM_ERROR:
		return -ENOMEM;
	default:
		return -EBADMSG;
	}
	if (reader->root.type != MSGPACK_OBJECT_ARRAY)
		return -EBADMSG;
	*cursor = (struct pack_cursor){ .next = reader->root.via.array.ptr, .left = reader->root.via.array.size };
	return 0;
}

void pack_reader_free(struct pack_reader *reader)
{
	if (reader->ready)
		msgpack_zone_destroy(&reader->zone);
	reader->ready = false;
}

/* The next element if it is of this type; NULL, and the cursor's error, otherwise. */
static const msgpack_object *take(struct pack_cursor *cursor, msgpack_object_type type)
{
	const msgpack_object *object = cursor->next;

	if (cursor->error < 0)
		return NULL;
	if (cursor->left == 0 || object->type != type) {
		cursor->error = -EBADMSG;
		return NULL;
	}
	cursor->next++;
	cursor->left--;
	return object;
}

uint64_t pack_u64(struct pack_cursor *cursor, uint64_t max)
{
	const msgpack_object *object = take(cursor, MSGPACK_OBJECT_POSITIVE_INTEGER);

	if (!object)
		return 0;
	if (object->via.u64 > max) {
		cursor->error = -EBADMSG;
		return 0;
	}
	return object->via.u64;
}

bool pack_bool(struct pack_cursor *cursor)
{
	const msgpack_object *object = take(cursor, MSGPACK_OBJECT_BOOLEAN);

	return object && object->via.boolean;
}

struct view pack_bytes(struct pack_cursor *cursor, size_t max)
{
	const msgpack_object *object = take(cursor, MSGPACK_OBJECT_BIN);

	if (!object)
		return (struct view){ 0 };
	if (object->via.bin.size > max) {
		cursor->error = -EBADMSG;
		return (struct view){ 0 };
	}
	return (struct view){ (const uint8_t *)object->via.bin.ptr, object->via.bin.size };
}

void pack_fixed(struct pack_cursor *cursor, void *out, size_t n)
{
	struct view view = pack_bytes(cursor, n);

	if (cursor->error == 0 && view.n != n)
		cursor->error = -EBADMSG;
	if (cursor->error < 0)
		memset(out, 0, n);
	else
		memcpy(out, view.p, n);
}

struct view pack_text(struct pack_cursor *cursor, size_t max)
{
	const msgpack_object *object = take(cursor, MSGPACK_OBJECT_STR);

	if (!object)
		return (struct view){ 0 };
	if (object->via.str.size > max || (object->via.str.size && memchr(object->via.str.ptr, 0, object->via.str.size))) {
		cursor->error = -EBADMSG;
		return (struct view){ 0 };
	}
	return (struct view){ (const uint8_t *)object->via.str.ptr, object->via.str.size };
}

void pack_text_copy(struct pack_cursor *cursor, char *out, size_t size)
{
	struct view view = pack_text(cursor, size - 1);

	out[0] = '\0';
	for (size_t i = 0; i < view.n; i++) {
		if (view.p[i] < ' ' || view.p[i] == 0x7f) {
			cursor->error = -EBADMSG;
			return;
		}
	}
	if (view.n)
		memcpy(out, view.p, view.n);
	out[view.n] = '\0';
}

uint32_t pack_array(struct pack_cursor *cursor, uint32_t min, uint32_t max, struct pack_cursor *inner)
{
	const msgpack_object *object = take(cursor, MSGPACK_OBJECT_ARRAY);

	*inner = (struct pack_cursor){ .error = cursor->error };
	if (!object)
		return 0;
	if (object->via.array.size < min || object->via.array.size > max) {
		cursor->error = inner->error = -EBADMSG;
		return 0;
	}
	inner->next = object->via.array.ptr;
	inner->left = object->via.array.size;
	return inner->left;
}

void pack_close(struct pack_cursor *outer, const struct pack_cursor *inner)
{
	if (outer->error == 0)
		outer->error = pack_done(inner);
}

int pack_done(const struct pack_cursor *cursor)
{
	if (cursor->error < 0)
		return cursor->error;
	return cursor->left == 0 ? 0 : -EBADMSG;
}

/* Address bytes say their family by their length. */
static uint8_t address_read(struct pack_cursor *cursor, uint8_t out[16])
{
	struct view view = pack_bytes(cursor, 16);

	memset(out, 0, 16);
	if (cursor->error < 0)
		return 0;
	if (view.n != 4 && view.n != 16) {
		cursor->error = -EBADMSG;
		return 0;
	}
	memcpy(out, view.p, view.n);
	return view.n == 4 ? 4 : 6;
}

void pack_prefix(struct pack_cursor *cursor, struct prefix *prefix)
{
	struct pack_cursor inner;

	memset(prefix, 0, sizeof(*prefix));
	pack_array(cursor, 2, 2, &inner);
	prefix->length = (uint8_t)pack_u64(&inner, 128);
	prefix->family = address_read(&inner, prefix->b);
	pack_close(cursor, &inner);
	if (cursor->error == 0 && !prefix_valid(prefix))
		cursor->error = -EBADMSG;
}

void pack_endpoint(struct pack_cursor *cursor, struct endpoint *endpoint)
{
	struct pack_cursor inner;

	memset(endpoint, 0, sizeof(*endpoint));
	pack_array(cursor, 2, 2, &inner);
	endpoint->port = (uint16_t)pack_u64(&inner, UINT16_MAX);
	endpoint->family = address_read(&inner, endpoint->b);
	pack_close(cursor, &inner);
	if (cursor->error == 0 && endpoint->port == 0)
		cursor->error = -EBADMSG;
}

/* -- Writing ------------------------------------------------------------------------------------------------------------------ */

struct pack_writer pack_writer_over(void *buffer, size_t room)
{
	return (struct pack_writer){ .bytes = buffer, .room = room, .fixed = true };
}

void pack_writer_free(struct pack_writer *writer)
{
	if (!writer->fixed)
		free(writer->bytes);
	*writer = (struct pack_writer){ 0 };
}

void pack_put_raw(struct pack_writer *writer, const void *bytes, size_t n)
{
	if (writer->error < 0 || n == 0)
		return;
	if (n > writer->room - writer->n) {
		size_t room = writer->room ? writer->room : 256;
		uint8_t *grown;

		if (writer->fixed) {
			writer->error = -EMSGSIZE;
			return;
		}
		while (room - writer->n < n)
			room *= 2;
		grown = realloc(writer->bytes, room);
		if (!grown) {
			writer->error = -ENOMEM;
			return;
		}
		writer->bytes = grown;
		writer->room = room;
	}
	memcpy(writer->bytes + writer->n, bytes, n);
	writer->n += n;
}

static int write_call(void *data, const char *bytes, size_t n)
{
	struct pack_writer *writer = data;

	pack_put_raw(writer, bytes, n);
	return writer->error;
}

/* Results are ignored below: the writer keeps its first error. */
static msgpack_packer packer_of(struct pack_writer *writer)
{
	msgpack_packer packer;

	msgpack_packer_init(&packer, writer, write_call);
	return packer;
}

void pack_put_array(struct pack_writer *writer, uint32_t n)
{
	msgpack_packer packer = packer_of(writer);

	(void)msgpack_pack_array(&packer, n);
}

void pack_put_u64(struct pack_writer *writer, uint64_t value)
{
	msgpack_packer packer = packer_of(writer);

	(void)msgpack_pack_uint64(&packer, value);
}

void pack_put_bool(struct pack_writer *writer, bool value)
{
	msgpack_packer packer = packer_of(writer);

	(void)(value ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer));
}

void pack_put_bytes(struct pack_writer *writer, const void *bytes, size_t n)
{
	msgpack_packer packer = packer_of(writer);

	(void)msgpack_pack_bin(&packer, n);
	pack_put_raw(writer, bytes, n);
}

void pack_put_text_n(struct pack_writer *writer, const char *text, size_t n)
{
	msgpack_packer packer = packer_of(writer);

	(void)msgpack_pack_str(&packer, n);
	pack_put_raw(writer, text, n);
}

void pack_put_text(struct pack_writer *writer, const char *text)
{
	pack_put_text_n(writer, text, strlen(text));
}

void pack_put_prefix(struct pack_writer *writer, const struct prefix *prefix)
{
	pack_put_array(writer, 2);
	pack_put_u64(writer, prefix->length);
	pack_put_bytes(writer, prefix->b, family_bits(prefix->family) / 8);
}

void pack_put_endpoint(struct pack_writer *writer, const struct endpoint *endpoint)
{
	pack_put_array(writer, 2);
	pack_put_u64(writer, endpoint->port);
	pack_put_bytes(writer, endpoint->b, family_bits(endpoint->family) / 8);
}
