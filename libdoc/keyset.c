/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/keyset.h"

#include <errno.h>
#include <string.h>

static const struct pack_limits limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 3, .elements = 16 + KEYSET_KEYS_MAX * 4 };

int keyset_encode(const struct keyset *keyset, struct pack_writer *payload)
{
	if (keyset->count > KEYSET_KEYS_MAX)
		return -EINVAL;
	pack_put_array(payload, 4);
	document_header_write(payload, &keyset->header);
	pack_put_text(payload, keyset->name);
	pack_put_bytes(payload, keyset->root, KEY_BYTES);
	pack_put_array(payload, keyset->count);
	for (unsigned i = 0; i < keyset->count; i++) {
		pack_put_array(payload, 3);
		pack_put_bytes(payload, keyset->keys[i].key, KEY_BYTES);
		pack_put_u64(payload, keyset->keys[i].usage);
		pack_put_u64(payload, keyset->keys[i].not_after);
	}
	return payload->error;
}

static int keyset_decode(struct view payload, struct keyset *keyset)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole, keys, one;
	int r = pack_open(&reader, payload.p, payload.n, &limits, &whole);

	if (r < 0)
		return -EBADMSG;
	*keyset = (struct keyset){ 0 };
	document_header_read(&whole, &keyset->header);
	pack_text_copy(&whole, keyset->name, sizeof(keyset->name));
	pack_fixed(&whole, keyset->root, KEY_BYTES);
	keyset->count = pack_array(&whole, 0, KEYSET_KEYS_MAX, &keys);
	for (unsigned i = 0; i < keyset->count; i++) {
		pack_array(&keys, 3, 3, &one);
		pack_fixed(&one, keyset->keys[i].key, KEY_BYTES);
		keyset->keys[i].usage = (uint32_t)pack_u64(&one, UINT32_MAX);
		keyset->keys[i].not_after = pack_u64(&one, UINT64_MAX >> 8);
		pack_close(&keys, &one);
	}
	pack_close(&whole, &keys);
	return pack_done(&whole);
}

int keyset_open(const void *bytes, size_t n, const uint8_t root[static KEY_BYTES], struct keyset *keyset)
{
	struct envelope envelope;
	struct keyset opened;
	int r = envelope_open(bytes, n, &envelope);

	if (r < 0)
		return r;
	if (envelope.type != DOC_keyset)
		return -EBADMSG;
	r = envelope_verify(&envelope, root);
	if (r < 0)
		return r;
	r = keyset_decode(envelope.payload, &opened);
	if (r < 0)
		return r;
	/* A new root has to agree to be one: whoever holds it must have signed as well. */
	if (memcmp(opened.root, root, KEY_BYTES) != 0) {
		r = envelope_verify(&envelope, opened.root);
		if (r < 0)
			return r;
	}
	if (!id_equal(&opened.header.id, &opened.header.deployment))
		return -EBADMSG;
	*keyset = opened;
	return 0;
}

int keyset_verify(const struct keyset *keyset, const struct envelope *envelope, enum key_usage usage)
{
	for (unsigned i = 0; i < keyset->count; i++)
		if ((keyset->keys[i].usage & (uint32_t)usage) && envelope_verify(envelope, keyset->keys[i].key) == 0)
			return 0;
	return -EKEYREJECTED;
}
