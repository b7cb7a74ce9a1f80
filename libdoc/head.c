/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/head.h"

#include <errno.h>
#include <string.h>

static const struct pack_limits limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 3, .elements = 16 + HEAD_ENTRIES_MAX * 7 };

void head_entry_write(struct pack_writer *writer, const struct head_entry *entry)
{
	pack_put_array(writer, 5);
	pack_put_u64(writer, (uint64_t)entry->type);
	pack_put_bytes(writer, entry->id.b, ID_BYTES);
	pack_put_u64(writer, entry->epoch);
	pack_put_u64(writer, entry->generation);
	pack_put_bytes(writer, entry->hash.b, HASH_BYTES);
}

static void entry_fields(struct pack_cursor *inner, struct head_entry *entry)
{
	uint64_t type = pack_u64(inner, UINT8_MAX);

	*entry = (struct head_entry){ .type = (enum document_type)type };
	if (type != DOC_keyset && type != DOC_host && type != DOC_network && type != DOC_admission)
		inner->error = -EBADMSG;
	pack_fixed(inner, entry->id.b, ID_BYTES);
	entry->epoch = (uint32_t)pack_u64(inner, UINT32_MAX);
	entry->generation = pack_u64(inner, UINT64_MAX >> 8);
	pack_fixed(inner, entry->hash.b, HASH_BYTES);
}

void head_entry_read(struct pack_cursor *cursor, struct head_entry *entry)
{
	struct pack_cursor inner;

	pack_array(cursor, 5, 5, &inner);
	entry_fields(&inner, entry);
	pack_close(cursor, &inner);
}

int head_encode(const struct head *head, struct pack_writer *payload)
{
	if (head->count > HEAD_ENTRIES_MAX)
		return -EINVAL;
	pack_put_array(payload, 4);
	document_header_write(payload, &head->header);
	pack_put_bytes(payload, head->host.b, ID_BYTES);
	pack_put_bytes(payload, head->nonce, sizeof(head->nonce));
	pack_put_array(payload, head->count);
	for (unsigned i = 0; i < head->count; i++)
		head_entry_write(payload, &head->entries[i]);
	return payload->error;
}

int head_decode(struct view payload, struct head *head)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole, entries;
	int r = pack_open(&reader, payload.p, payload.n, &limits, &whole);

	if (r < 0)
		return -EBADMSG;
	head->count = 0;
	document_header_read(&whole, &head->header);
	pack_fixed(&whole, head->host.b, ID_BYTES);
	pack_fixed(&whole, head->nonce, sizeof(head->nonce));
	r = (int)pack_array(&whole, 0, HEAD_ENTRIES_MAX, &entries);
	for (int i = 0; i < r; i++) {
		struct head_entry *entry = &head->entries[i];

		head_entry_read(&entries, entry);
		if (entries.error == 0 && head_find(head, entry->type, &entry->id))
			return -EBADMSG;
		head->count++;
	}
	pack_close(&whole, &entries);
	return pack_done(&whole);
}

const struct head_entry *head_find(const struct head *head, enum document_type type, const struct id *id)
{
	for (unsigned i = 0; i < head->count; i++)
		if (head->entries[i].type == type && id_equal(&head->entries[i].id, id))
			return &head->entries[i];
	return NULL;
}

/* Of documents that have no trie; it is not carried. */
static const struct hash none;

int have_encode(const struct head_entry *entries, unsigned count, struct pack_writer *out)
{
	pack_put_array(out, count);
	for (unsigned i = 0; i < count; i++) {
		const struct head_entry *entry = &entries[i];

		pack_put_array(out, 6);
		pack_put_u64(out, (uint64_t)entry->type);
		pack_put_bytes(out, entry->id.b, ID_BYTES);
		pack_put_u64(out, entry->epoch);
		pack_put_u64(out, entry->generation);
		pack_put_bytes(out, entry->hash.b, HASH_BYTES);
		pack_put_bytes(out, entry->root.b, hash_equal(&entry->root, &none) ? 0 : HASH_BYTES);
	}
	return out->error;
}

int have_decode(const void *bytes, size_t n, struct head_entry *entries)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole;
	unsigned count;
	int r = pack_open(&reader, bytes, n, &limits, &whole);

	if (r < 0)
		return -EBADMSG;
	count = whole.left;
	if (count > HEAD_ENTRIES_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < count; i++) {
		struct pack_cursor inner;
		struct view root;

		pack_array(&whole, 6, 6, &inner);
		entry_fields(&inner, &entries[i]);
		root = pack_bytes(&inner, HASH_BYTES);
		pack_close(&whole, &inner);
		entries[i].root = none;
		if (root.n == HASH_BYTES)
			memcpy(entries[i].root.b, root.p, HASH_BYTES);
		if (whole.error == 0 && root.n && (root.n != HASH_BYTES || hash_equal(&entries[i].root, &none)))
			return -EBADMSG;
	}
	r = pack_done(&whole);
	return r < 0 ? r : (int)count;
}
