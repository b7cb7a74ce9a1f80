/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile host may send to the control plane: it holds its own key, so whatever it writes is validly signed. Byte 0 chooses the document, the
 * rest is its payload, signed here by a key that seeds and target agree on.
 */
#include <stdlib.h>
#include <string.h>

#include "libdoc/host.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Whoever is let in must be who his key says he is. */
static void must_be(const struct id *id, const struct fuzz_actor *actor)
{
	struct id expected;

	host_id_of(actor->key, &expected);
	if (!id_equal(id, &expected))
		abort();
}

static void registration_of(const uint8_t *bytes, size_t n, const struct fuzz_actor *actor)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct registration registration;

	if (registration_open(bytes, n, &registration) < 0)
		return;
	must_be(&registration.header.id, actor);
	if (memcmp(registration.statement.host_key, actor->key, KEY_BYTES) != 0 ||
	    statement_verify(&registration.statement, &registration.header.deployment) < 0)
		abort();
	if (strlen(registration.backend) >= sizeof(registration.backend) || strlen(registration.version) >= sizeof(registration.version))
		abort();
	if (registration.address_count > REGISTRATION_ADDRESSES_MAX || registration_encode(&registration, &payload) < 0)
		abort();
}

static void receipt_of(const uint8_t *bytes, size_t n, const struct fuzz_actor *actor)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct head_entry entries[HEAD_ENTRIES_MAX];
	struct receipt receipt = { .entries = entries };

	if (receipt_open(bytes, n, actor->key, &receipt) < 0)
		return;
	must_be(&receipt.header.id, actor);
	if (receipt.count > HEAD_ENTRIES_MAX || strcmp(outcome_name(receipt.outcome), "unknown") == 0)
		abort();
	if (strlen(receipt.code) >= sizeof(receipt.code) || strlen(receipt.reason) > REASON_BYTES_MAX)
		abort();
	if (receipt_encode(&receipt, &payload) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const enum document_type types[] = { DOC_registration, DOC_receipt, DOC_departure };
	_cleanup_writer_ struct pack_writer envelope = { .bytes = NULL };
	struct fuzz_actor actor = fuzz_actor();
	struct document_header header;

	if (n == 0)
		return 0;
	if (envelope_sign(types[bytes[0] % 3], bytes + 1, n - 1, actor.secret, &envelope) < 0)
		return 0;
	registration_of(envelope.bytes, envelope.n, &actor);
	receipt_of(envelope.bytes, envelope.n, &actor);
	if (departure_open(envelope.bytes, envelope.n, actor.key, &header) == 0)
		must_be(&header.id, &actor);
	/* And as it came, for those who sign nothing. */
	registration_of(bytes, n, &actor);
	receipt_of(bytes, n, &actor);
	(void)departure_open(bytes, n, actor.key, &header);
	return 0;
}
