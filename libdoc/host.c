/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/host.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "libdoc/pae.h"

/* -- The host document ---------------------------------------------------------------------------------------------------------- */

static const struct pack_limits host_limits = {
	.bytes = ENVELOPE_BYTES_MAX, .depth = 5, .elements = 16 + NETWORKS_MAX * (4 + ADDRESSES_MAX * 3)
};

int host_document_encode(const struct host_document *host, struct pack_writer *payload)
{
	if (host->network_count > NETWORKS_MAX)
		return -EINVAL;
	pack_put_array(payload, 5);
	document_header_write(payload, &host->header);
	pack_put_text(payload, host->name);
	pack_put_array(payload, host->network_count);
	for (unsigned i = 0; i < host->network_count; i++) {
		const struct host_network *network = &host->networks[i];

		pack_put_array(payload, 2);
		pack_put_bytes(payload, network->network.b, ID_BYTES);
		pack_put_array(payload, network->address_count);
		for (unsigned j = 0; j < network->address_count; j++)
			pack_put_prefix(payload, &network->addresses[j]);
	}
	pack_put_u64(payload, host->rotate);
	pack_put_bytes(payload, host->box, host->assigned ? ASSIGNED_BYTES : 0);
	return payload->error;
}

static void host_network_read(struct pack_cursor *cursor, struct host_network *network)
{
	struct pack_cursor one, addresses;

	pack_array(cursor, 2, 2, &one);
	pack_fixed(&one, network->network.b, ID_BYTES);
	network->address_count = pack_array(&one, 1, ADDRESSES_MAX, &addresses);
	for (unsigned i = 0; i < network->address_count; i++) {
		struct prefix *address = &network->addresses[i];

		pack_prefix(&addresses, address);
		if (addresses.error == 0 && address->length != family_bits(address->family))
			addresses.error = -EBADMSG;
	}
	pack_close(&one, &addresses);
	pack_close(cursor, &one);
}

int host_document_decode(struct view payload, struct host_document *host)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole, networks;
	struct view box;
	int r = pack_open(&reader, payload.p, payload.n, &host_limits, &whole);

	if (r < 0)
		return -EBADMSG;
	memset(host, 0, sizeof(*host));
	document_header_read(&whole, &host->header);
	pack_text_copy(&whole, host->name, sizeof(host->name));
	host->network_count = pack_array(&whole, 0, NETWORKS_MAX, &networks);
	for (unsigned i = 0; i < host->network_count; i++) {
		host_network_read(&networks, &host->networks[i]);
		for (unsigned j = 0; j < i; j++)
			if (id_equal(&host->networks[i].network, &host->networks[j].network))
				return -EBADMSG;
	}
	pack_close(&whole, &networks);
	host->rotate = pack_u64(&whole, UINT64_MAX >> 8);
	box = pack_bytes(&whole, ASSIGNED_BYTES);
	host->assigned = box.n != 0;
	if (host->assigned && (box.n != ASSIGNED_BYTES || host->rotate == 0))
		return -EBADMSG;
	if (host->assigned)
		memcpy(host->box, box.p, ASSIGNED_BYTES);
	return pack_done(&whole);
}

/* -- The statement ---------------------------------------------------------------------------------------------------------------- */

#define STATEMENT_TYPE "loopback/statement/1"
#define STATEMENT_BODY_MAX 128

static size_t statement_body(const struct statement *statement, const struct id *deployment, uint8_t body[STATEMENT_BODY_MAX])
{
	struct pack_writer writer = pack_writer_over(body, STATEMENT_BODY_MAX);

	pack_put_array(&writer, 4);
	pack_put_bytes(&writer, deployment->b, ID_BYTES);
	pack_put_bytes(&writer, statement->host_key, KEY_BYTES);
	pack_put_bytes(&writer, statement->wg_key, KEY_BYTES);
	pack_put_u64(&writer, statement->counter);
	return writer.n; /* 16 + 32 + 32 + 9 and their heads: it fits */
}

int statement_sign(struct statement *statement, const struct id *deployment, const uint8_t secret[static SECRET_KEY_BYTES])
{
	uint8_t body[STATEMENT_BODY_MAX];

	return pae_sign(STATEMENT_TYPE, body, statement_body(statement, deployment, body), secret, statement->signature);
}

int statement_verify(const struct statement *statement, const struct id *deployment)
{
	uint8_t body[STATEMENT_BODY_MAX];

	return pae_verify(STATEMENT_TYPE, body, statement_body(statement, deployment, body), statement->signature, statement->host_key);
}

void statement_next_write(struct pack_writer *writer, const struct statement *next)
{
	pack_put_array(writer, next->counter ? STATEMENT_NEXT_ELEMENTS : 0);
	if (next->counter == 0)
		return;
	pack_put_bytes(writer, next->wg_key, KEY_BYTES);
	pack_put_u64(writer, next->counter);
	pack_put_bytes(writer, next->signature, SIGNATURE_BYTES);
}

void statement_next_read(struct pack_cursor *cursor, const struct statement *statement, struct statement *next)
{
	struct pack_cursor inner;
	unsigned elements = pack_array(cursor, 0, STATEMENT_NEXT_ELEMENTS, &inner);

	if (elements) {
		memcpy(next->host_key, statement->host_key, KEY_BYTES);
		pack_fixed(&inner, next->wg_key, KEY_BYTES);
		next->counter = pack_u64(&inner, UINT64_MAX >> 8);
		pack_fixed(&inner, next->signature, SIGNATURE_BYTES);
		if (next->counter <= statement->counter && inner.error == 0)
			inner.error = -EBADMSG; /* nothing comes after a key but one with a greater counter */
	}
	pack_close(cursor, &inner);
}

/* -- The registration ------------------------------------------------------------------------------------------------------------- */

static const struct pack_limits registration_limits = {
	.bytes = ENVELOPE_BYTES_MAX, .depth = 4, .elements = 36 + REGISTRATION_ADDRESSES_MAX * 3
};

int registration_encode(const struct registration *registration, struct pack_writer *payload)
{
	const struct statement *statement = &registration->statement;

	if (registration->address_count > REGISTRATION_ADDRESSES_MAX)
		return -EINVAL;
	pack_put_array(payload, 10);
	document_header_write(payload, &registration->header);
	pack_put_bytes(payload, statement->host_key, KEY_BYTES);
	pack_put_array(payload, 3);
	pack_put_bytes(payload, statement->wg_key, KEY_BYTES);
	pack_put_u64(payload, statement->counter);
	pack_put_bytes(payload, statement->signature, SIGNATURE_BYTES);
	statement_next_write(payload, &registration->next);
	pack_put_bytes(payload, registration->transport_key, KEY_BYTES);
	pack_put_u64(payload, registration->listen_port);
	pack_put_text(payload, registration->backend);
	pack_put_text(payload, registration->version);
	pack_put_array(payload, registration->address_count);
	for (unsigned i = 0; i < registration->address_count; i++)
		pack_put_endpoint(payload, &registration->addresses[i]);
	pack_put_u64(payload, registration->flags);
	return payload->error;
}

static int registration_decode(struct view payload, struct registration *registration)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole, inner;
	int r = pack_open(&reader, payload.p, payload.n, &registration_limits, &whole);

	if (r < 0)
		return -EBADMSG;
	memset(registration, 0, sizeof(*registration));
	document_header_read(&whole, &registration->header);
	pack_fixed(&whole, registration->statement.host_key, KEY_BYTES);
	pack_array(&whole, 3, 3, &inner);
	pack_fixed(&inner, registration->statement.wg_key, KEY_BYTES);
	registration->statement.counter = pack_u64(&inner, UINT64_MAX >> 8);
	pack_fixed(&inner, registration->statement.signature, SIGNATURE_BYTES);
	pack_close(&whole, &inner);
	statement_next_read(&whole, &registration->statement, &registration->next);
	pack_fixed(&whole, registration->transport_key, KEY_BYTES);
	registration->listen_port = (uint16_t)pack_u64(&whole, UINT16_MAX);
	pack_text_copy(&whole, registration->backend, sizeof(registration->backend));
	pack_text_copy(&whole, registration->version, sizeof(registration->version));
	registration->address_count = pack_array(&whole, 0, REGISTRATION_ADDRESSES_MAX, &inner);
	for (unsigned i = 0; i < registration->address_count; i++)
		pack_endpoint(&inner, &registration->addresses[i]);
	pack_close(&whole, &inner);
	registration->flags = (uint32_t)pack_u64(&whole, UINT32_MAX);
	return pack_done(&whole);
}

int registration_open(const void *bytes, size_t n, struct registration *out)
{
	struct registration registration;
	struct envelope envelope;
	struct id host;
	int r = envelope_open(bytes, n, &envelope);

	if (r < 0)
		return r;
	if (envelope.type != DOC_registration)
		return -EBADMSG;
	/* The one document whose key stands in the payload: what it says is believed only if that very key signed it, and the key makes the id. */
	r = registration_decode(envelope.payload, &registration);
	if (r < 0)
		return r;
	r = envelope_verify(&envelope, registration.statement.host_key);
	if (r == 0)
		r = statement_verify(&registration.statement, &registration.header.deployment);
	if (r == 0 && registration.next.counter)
		r = statement_verify(&registration.next, &registration.header.deployment);
	if (r < 0)
		return r;
	host_id_of(registration.statement.host_key, &host);
	if (!id_equal(&host, &registration.header.id))
		return -EKEYREJECTED;
	*out = registration;
	return 0;
}

/* -- Receipt and departure -------------------------------------------------------------------------------------------------------- */

static const struct pack_limits receipt_limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 3, .elements = 32 + HEAD_ENTRIES_MAX * 6 };

const char *outcome_name(enum outcome outcome)
{
	static const char *const names[] = {
#define O(name, number) [(number)] = #name,
		OUTCOMES(O)
#undef O
	};

	return (size_t)outcome < ARRAY_SIZE(names) && names[outcome] ? names[outcome] : "unknown";
}

const char *confirm_name(enum confirm confirm)
{
	static const char *const names[] = {
#define C(name, number) [(number)] = #name,
		CONFIRMS(C)
#undef C
	};

	return (size_t)confirm < ARRAY_SIZE(names) ? names[confirm] : "unknown";
}

int receipt_encode(const struct receipt *receipt, struct pack_writer *payload)
{
	if (receipt->count > HEAD_ENTRIES_MAX)
		return -EINVAL;
	pack_put_array(payload, 10);
	document_header_write(payload, &receipt->header);
	pack_put_u64(payload, (uint64_t)receipt->outcome);
	pack_put_text(payload, receipt->code);
	pack_put_text(payload, receipt->reason);
	pack_put_array(payload, receipt->count);
	for (unsigned i = 0; i < receipt->count; i++)
		head_entry_write(payload, &receipt->entries[i]);
	pack_put_u64(payload, receipt->apply_us);
	pack_put_u64(payload, receipt->peers);
	pack_put_u64(payload, (uint64_t)receipt->confirm);
	pack_put_u64(payload, receipt->mended);
	pack_put_u64(payload, receipt->moving);
	return payload->error;
}

static int receipt_decode(struct view payload, struct receipt *receipt)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct pack_cursor whole, entries;
	int r = pack_open(&reader, payload.p, payload.n, &receipt_limits, &whole);

	if (r < 0)
		return -EBADMSG;
	document_header_read(&whole, &receipt->header);
	receipt->outcome = (enum outcome)pack_u64(&whole, OUTCOME_broken);
	pack_text_copy(&whole, receipt->code, sizeof(receipt->code));
	pack_text_copy(&whole, receipt->reason, sizeof(receipt->reason));
	receipt->count = pack_array(&whole, 0, HEAD_ENTRIES_MAX, &entries);
	for (unsigned i = 0; i < receipt->count; i++)
		head_entry_read(&entries, &receipt->entries[i]);
	pack_close(&whole, &entries);
	receipt->apply_us = pack_u64(&whole, UINT64_MAX >> 8);
	receipt->peers = pack_u64(&whole, UINT32_MAX);
	receipt->confirm = (enum confirm)pack_u64(&whole, CONFIRM_restored);
	receipt->mended = pack_u64(&whole, UINT32_MAX);
	receipt->moving = pack_u64(&whole, UINT32_MAX);
	if (receipt->outcome < OUTCOME_applied)
		return -EBADMSG;
	return pack_done(&whole);
}

/* Open an envelope of this type that this host key signed. */
static int open_signed(const void *bytes, size_t n, enum document_type type, const uint8_t *host_key, struct envelope *envelope)
{
	int r = envelope_open(bytes, n, envelope);

	if (r < 0)
		return r;
	if (envelope->type != type)
		return -EBADMSG;
	return envelope_verify(envelope, host_key);
}

static int check_signer(const struct document_header *header, const uint8_t *host_key)
{
	struct id host;

	host_id_of(host_key, &host);
	return id_equal(&host, &header->id) ? 0 : -EKEYREJECTED;
}

int receipt_open(const void *bytes, size_t n, const uint8_t host_key[static KEY_BYTES], struct receipt *receipt)
{
	struct envelope envelope;
	int r = open_signed(bytes, n, DOC_receipt, host_key, &envelope);

	if (r == 0)
		r = receipt_decode(envelope.payload, receipt);
	return r < 0 ? r : check_signer(&receipt->header, host_key);
}

int departure_encode(const struct document_header *header, const uint8_t host_key[static KEY_BYTES], struct pack_writer *payload)
{
	pack_put_array(payload, 2);
	document_header_write(payload, header);
	pack_put_bytes(payload, host_key, KEY_BYTES);
	return payload->error;
}

int departure_open(const void *bytes, size_t n, const uint8_t host_key[static KEY_BYTES], struct document_header *header)
{
	static const struct pack_limits limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 2, .elements = 16 };
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct document_header decoded;
	struct pack_cursor whole;
	struct envelope envelope;
	uint8_t key[KEY_BYTES];
	int r = open_signed(bytes, n, DOC_departure, host_key, &envelope);

	if (r < 0)
		return r;
	r = pack_open(&reader, envelope.payload.p, envelope.payload.n, &limits, &whole);
	if (r < 0)
		return -EBADMSG;
	document_header_read(&whole, &decoded);
	pack_fixed(&whole, key, KEY_BYTES);
	r = pack_done(&whole);
	if (r == 0 && memcmp(key, host_key, KEY_BYTES) != 0)
		r = -EKEYREJECTED;
	if (r == 0)
		r = check_signer(&decoded, host_key);
	if (r == 0)
		*header = decoded;
	return r;
}
