/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/envelope.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "libdoc/pae.h"

static const struct pack_limits limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 3, .elements = 3 + ENVELOPE_SIGNATURES_MAX * 3 };

static const char *const type_names[] = {
#define D(name, number, signer) [(number)] = "loopback/" #name "/1",
	DOCUMENT_TYPES(D)
#undef D
};

const char *document_type_name(enum document_type type)
{
	return (size_t)type < ARRAY_SIZE(type_names) ? type_names[type] : NULL;
}

static int type_of(struct view name, enum document_type *type)
{
	for (size_t i = 1; i < ARRAY_SIZE(type_names); i++)
		if (strlen(type_names[i]) == name.n && memcmp(type_names[i], name.p, name.n) == 0) {
			*type = (enum document_type)i;
			return 0;
		}
	return -EBADMSG;
}

int envelope_open(const void *bytes, size_t n, struct envelope *envelope)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole, signatures, one;
	struct envelope opened = { 0 };
	int r;

	r = pack_open(&reader, bytes, n, &limits, &whole);
	if (r < 0)
		return r == -EMSGSIZE ? r : -EBADMSG;
	if (type_of(pack_text(&whole, 64), &opened.type) < 0)
		return -EBADMSG;
	opened.payload = pack_bytes(&whole, ENVELOPE_BYTES_MAX);
	opened.signature_count = pack_array(&whole, 1, ENVELOPE_SIGNATURES_MAX, &signatures);
	for (unsigned i = 0; i < opened.signature_count; i++) {
		struct view hint, signature;

		pack_array(&signatures, 2, 2, &one);
		hint = pack_bytes(&one, KEY_HINT_BYTES);
		signature = pack_bytes(&one, SIGNATURE_BYTES);
		pack_close(&signatures, &one);
		if (signatures.error < 0 || hint.n != KEY_HINT_BYTES || signature.n != SIGNATURE_BYTES)
			return -EBADMSG;
		opened.signatures[i].hint = hint.p;
		opened.signatures[i].signature = signature.p;
	}
	pack_close(&whole, &signatures);
	if (pack_done(&whole) < 0)
		return -EBADMSG;
	*envelope = opened;
	return 0;
}

int envelope_verify(const struct envelope *envelope, const uint8_t key[static KEY_BYTES])
{
	const char *type = document_type_name(envelope->type);

	for (unsigned i = 0; i < envelope->signature_count; i++) {
		/* The hint saves the check of signatures by others; it decides nothing. */
		if (memcmp(envelope->signatures[i].hint, key, KEY_HINT_BYTES) != 0)
			continue;
		if (pae_verify(type, envelope->payload.p, envelope->payload.n, envelope->signatures[i].signature, key) == 0)
			return 0;
	}
	return -EKEYREJECTED;
}

struct made_signature {
	uint8_t hint[KEY_HINT_BYTES];
	uint8_t signature[SIGNATURE_BYTES];
};

static int make_signature(enum document_type type, const void *payload, size_t n, const uint8_t *secret, struct made_signature *made)
{
	/* libsodium's secret key ends with the public key. */
	memcpy(made->hint, secret + SECRET_KEY_BYTES - KEY_BYTES, KEY_HINT_BYTES);
	return pae_sign(document_type_name(type), payload, n, secret, made->signature);
}

static void put_signature(struct pack_writer *out, const uint8_t *hint, const uint8_t *signature)
{
	pack_put_array(out, 2);
	pack_put_bytes(out, hint, KEY_HINT_BYTES);
	pack_put_bytes(out, signature, SIGNATURE_BYTES);
}

static int finish(const struct pack_writer *out, size_t from)
{
	if (out->error < 0)
		return out->error;
	return out->n - from > ENVELOPE_BYTES_MAX ? -EMSGSIZE : 0;
}

int envelope_sign(enum document_type type, const void *payload, size_t n, const uint8_t secret[static SECRET_KEY_BYTES],
		  struct pack_writer *out)
{
	struct made_signature made;
	size_t from = out->n;
	int r = make_signature(type, payload, n, secret, &made);

	if (r < 0)
		return r;
	pack_put_array(out, 3);
	pack_put_text(out, document_type_name(type));
	pack_put_bytes(out, payload, n);
	pack_put_array(out, 1);
	put_signature(out, made.hint, made.signature);
	return finish(out, from);
}

int envelope_add_signature(const void *bytes, size_t n, const uint8_t secret[static SECRET_KEY_BYTES], struct pack_writer *out)
{
	struct made_signature made;
	struct envelope envelope;
	size_t from = out->n;
	int r = envelope_open(bytes, n, &envelope);

	if (r < 0)
		return r;
	if (envelope.signature_count == ENVELOPE_SIGNATURES_MAX)
		return -EMSGSIZE;
	r = make_signature(envelope.type, envelope.payload.p, envelope.payload.n, secret, &made);
	if (r < 0)
		return r;
	pack_put_array(out, 3);
	pack_put_text(out, document_type_name(envelope.type));
	pack_put_bytes(out, envelope.payload.p, envelope.payload.n);
	pack_put_array(out, envelope.signature_count + 1);
	for (unsigned i = 0; i < envelope.signature_count; i++)
		put_signature(out, envelope.signatures[i].hint, envelope.signatures[i].signature);
	put_signature(out, made.hint, made.signature);
	return finish(out, from);
}

void document_header_read(struct pack_cursor *payload, struct document_header *header)
{
	struct pack_cursor inner;

	*header = (struct document_header){ 0 };
	pack_array(payload, 6, 6, &inner);
	pack_fixed(&inner, header->deployment.b, ID_BYTES);
	pack_fixed(&inner, header->organization.b, ID_BYTES);
	pack_fixed(&inner, header->id.b, ID_BYTES);
	header->epoch = (uint32_t)pack_u64(&inner, UINT32_MAX);
	header->generation = pack_u64(&inner, UINT64_MAX >> 8);
	header->issued = pack_u64(&inner, UINT64_MAX >> 8);
	pack_close(payload, &inner);
}

void document_header_write(struct pack_writer *payload, const struct document_header *header)
{
	pack_put_array(payload, 6);
	pack_put_bytes(payload, header->deployment.b, ID_BYTES);
	pack_put_bytes(payload, header->organization.b, ID_BYTES);
	pack_put_bytes(payload, header->id.b, ID_BYTES);
	pack_put_u64(payload, header->epoch);
	pack_put_u64(payload, header->generation);
	pack_put_u64(payload, header->issued);
}

bool document_newer(const struct document_header *a, const struct document_header *b)
{
	return a->epoch != b->epoch ? a->epoch > b->epoch : a->generation > b->generation;
}
