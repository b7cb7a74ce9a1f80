/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of hosts: what a host says of itself must be signed by the very key that makes its id. */
#include "libipc/messages.h"
#include "tests/unit/documents.h"

static const struct document_header *any_header(struct document_header *header)
{
	*header = header_of(id_of(1), id_of(2), UINT32_MAX, UINT64_MAX >> 8);
	header->organization = id_of(3);
	header->issued = UINT64_MAX >> 8;
	return header;
}

/* -- The host document ---------------------------------------------------------------------------------------------------------------- */

static struct host_document host_document_largest(void)
{
	struct host_document host = { .network_count = NETWORKS_MAX, .rotate = UINT64_MAX >> 8, .assigned = true };

	(void)any_header(&host.header);
	memset(host.name, 'h', NAME_BYTES_MAX);
	for (unsigned i = 0; i < NETWORKS_MAX; i++) {
		host.networks[i].network = id_of(100 + i);
		host.networks[i].address_count = ADDRESSES_MAX;
		for (unsigned j = 0; j < ADDRESSES_MAX; j++) {
			host.networks[i].addresses[j] = prefix_of("fd00::1");
			host.networks[i].addresses[j].b[1] = (uint8_t)i;
			host.networks[i].addresses[j].b[2] = (uint8_t)j;
		}
	}
	return host;
}

static int recoded(const struct host_document *host, struct host_document *again)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	ck_assert_int_eq(host_document_encode(host, &payload), 0);
	return host_document_decode((struct view){ payload.bytes, payload.n }, again);
}

START_TEST(the_largest_host_document_fits_an_envelope)
{
	struct host_document host = host_document_largest(), again;
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct actor signer = actor_of(1);

	ck_assert_int_eq(recoded(&host, &again), 0);
	ck_assert_mem_eq(&host.header, &again.header, sizeof(host.header));
	ck_assert_str_eq(host.name, again.name);
	ck_assert_uint_eq(again.network_count, NETWORKS_MAX);
	for (unsigned i = 0; i < NETWORKS_MAX; i++) {
		ck_assert(id_equal(&host.networks[i].network, &again.networks[i].network));
		ck_assert_uint_eq(again.networks[i].address_count, ADDRESSES_MAX);
		for (unsigned j = 0; j < ADDRESSES_MAX; j++)
			ck_assert(prefix_equal(&host.networks[i].addresses[j], &again.networks[i].addresses[j]));
	}
	ck_assert_int_eq(host_document_encode(&host, &payload), 0);
	_cleanup_writer_ struct pack_writer envelope = sealed(DOC_host, &payload, &signer);
	ck_assert_uint_le(envelope.n, ENVELOPE_BYTES_MAX);
}
END_TEST

START_TEST(an_assigned_key_is_for_its_host_alone)
{
	struct host_document host = host_document_largest(), again;
	struct actor self = actor_of(1), other = actor_of(2);
	uint8_t private[KEY_BYTES], public[KEY_BYTES], wanted[KEY_BYTES];

	ck_assert_int_eq(assigned_make(self.key, host.box, wanted), 0);
	host.assigned = true;
	host.rotate = 7;
	ck_assert_int_eq(recoded(&host, &again), 0);
	ck_assert(again.assigned && again.rotate == 7);
	ck_assert_int_eq(assigned_open(again.box, self.secret, private), 0);
	(void)crypto_scalarmult_base(public, private);
	ck_assert_mem_eq(public, wanted, KEY_BYTES);
	ck_assert_int_eq(assigned_open(again.box, other.secret, private), -EBADMSG);
	for (unsigned i = 0; i < ASSIGNED_BYTES; i++) {
		again.box[i] ^= 1;
		ck_assert_int_eq(assigned_open(again.box, self.secret, private), -EBADMSG);
		again.box[i] ^= 1;
	}
	host.rotate = 0;
	ck_assert_int_eq(recoded(&host, &again), -EBADMSG);
	ck_assert_int_eq(assigned_make((uint8_t[KEY_BYTES]){ 2 }, host.box, wanted), -EBADMSG); /* no point of the curve */
}
END_TEST

START_TEST(a_host_document_out_of_bounds_is_refused)
{
	struct host_document good = host_document_largest(), host, again;
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

#define REFUSED(change)                                      \
	host = good;                                         \
	change;                                              \
	ck_assert_int_eq(recoded(&host, &again), -EBADMSG)
	REFUSED(host.networks[1].network = host.networks[0].network);
	REFUSED(host.networks[NETWORKS_MAX - 1].network = host.networks[0].network);
	REFUSED(host.networks[0].address_count = 0);
	REFUSED(host.networks[0].addresses[0].length = 64);
	REFUSED((host.networks[0].addresses[0].length = 64, memset(host.networks[0].addresses[0].b + 8, 0, 8)));
	REFUSED(host.header.generation = (UINT64_MAX >> 8) + 1);
	REFUSED(host.header.issued = (UINT64_MAX >> 8) + 1);
#undef REFUSED
	host = good;
	host.network_count++;
	ck_assert_int_eq(host_document_encode(&host, &payload), -EINVAL);
}
END_TEST

/* -- Statements ------------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_statement_holds_for_what_it_says_and_no_more)
{
	struct actor host = actor_of(1), other = actor_of(2);
	struct id here = id_of(1), there = id_of(2);
	struct statement statement = { .counter = 5 }, changed;

	memcpy(statement.host_key, host.key, KEY_BYTES);
	memset(statement.wg_key, 7, KEY_BYTES);
	ck_assert_int_eq(statement_sign(&statement, &here, host.secret), 0);
	ck_assert_int_eq(statement_verify(&statement, &here), 0);
	ck_assert_int_eq(statement_verify(&statement, &there), -EKEYREJECTED);
	for (size_t i = 0; i < sizeof(statement); i++) {
		changed = statement;
		((uint8_t *)&changed)[i] ^= 0x20; /* each key, the counter, the signature */
		ck_assert_int_eq(statement_verify(&changed, &here), -EKEYREJECTED);
	}
	changed = statement;
	memcpy(changed.host_key, other.key, KEY_BYTES);
	ck_assert_int_eq(statement_verify(&changed, &here), -EKEYREJECTED);
}
END_TEST

START_TEST(a_statement_is_no_document_and_no_document_a_statement)
{
	struct actor host = actor_of(1);
	struct id deployment = id_of(1);
	struct statement statement = { .counter = 5 };
	_cleanup_writer_ struct pack_writer body = { .bytes = NULL };

	memcpy(statement.host_key, host.key, KEY_BYTES);
	pack_put_array(&body, 4);
	pack_put_bytes(&body, deployment.b, ID_BYTES);
	pack_put_bytes(&body, statement.host_key, KEY_BYTES);
	pack_put_bytes(&body, statement.wg_key, KEY_BYTES);
	pack_put_u64(&body, 5);
	for (enum document_type type = DOC_keyset; document_type_name(type); type++) {
		ck_assert_int_eq(pae_sign(document_type_name(type), body.bytes, body.n, host.secret, statement.signature), 0);
		ck_assert_int_eq(statement_verify(&statement, &deployment), -EKEYREJECTED);
	}
	ck_assert_int_eq(pae_sign("loopback/statement/1", body.bytes, body.n, host.secret, statement.signature), 0);
	ck_assert_int_eq(statement_verify(&statement, &deployment), 0);
}
END_TEST

/* -- Registrations ------------------------------------------------------------------------------------------------------------------------ */

static struct registration registration_of(const struct actor *host)
{
	struct registration registration = { .listen_port = 51820, .backend = "userspace", .version = "0.1.0", .address_count = 2, .flags = REGISTRATION_ASSIGNABLE };

	(void)any_header(&registration.header);
	host_id_of(host->key, &registration.header.id);
	memcpy(registration.statement.host_key, host->key, KEY_BYTES);
	memset(registration.statement.wg_key, 9, KEY_BYTES);
	registration.statement.counter = UINT64_MAX >> 8;
	ck_assert_int_eq(statement_sign(&registration.statement, &registration.header.deployment, host->secret), 0);
	memset(registration.transport_key, 8, KEY_BYTES);
	registration.addresses[0] = endpoint_of("[2001:db8::1]:51820");
	registration.addresses[1] = endpoint_of("192.0.2.1:51820");
	return registration;
}

static struct pack_writer registration_sealed(const struct registration *registration, enum document_type type, const struct actor *by)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	ck_assert_int_eq(registration_encode(registration, &payload), 0);
	return sealed(type, &payload, by);
}

static int reopened(const struct registration *registration, enum document_type type, const struct actor *by, struct registration *again)
{
	_cleanup_writer_ struct pack_writer envelope = registration_sealed(registration, type, by);

	return registration_open(envelope.bytes, envelope.n, again);
}

START_TEST(a_registration_comes_back_as_it_was)
{
	struct actor host = actor_of(1);
	struct registration registration = registration_of(&host), again;

	ck_assert_int_eq(reopened(&registration, DOC_registration, &host, &again), 0);
	ck_assert_mem_eq(&registration.header, &again.header, sizeof(again.header));
	ck_assert_mem_eq(&registration.statement, &again.statement, sizeof(again.statement));
	ck_assert_mem_eq(registration.transport_key, again.transport_key, KEY_BYTES);
	ck_assert_uint_eq(again.listen_port, 51820);
	ck_assert_str_eq(again.backend, "userspace");
	ck_assert_str_eq(again.version, "0.1.0");
	ck_assert_uint_eq(again.flags, REGISTRATION_ASSIGNABLE);
	ck_assert_uint_eq(again.address_count, 2);
	ck_assert(endpoint_equal(&registration.addresses[0], &again.addresses[0]));
	ck_assert(endpoint_equal(&registration.addresses[1], &again.addresses[1]));
}
END_TEST

START_TEST(a_registration_is_signed_by_the_host_that_it_names)
{
	struct actor host = actor_of(1), other = actor_of(2);
	struct registration registration = registration_of(&host), opened = { .listen_port = 4711 };

	ck_assert_int_eq(reopened(&registration, DOC_registration, &other, &opened), -EKEYREJECTED);
	ck_assert_int_eq(reopened(&registration, DOC_receipt, &host, &opened), -EBADMSG);
	/* Somebody else's statement: the key is not his to register. */
	registration.statement = registration_of(&other).statement;
	ck_assert_int_eq(reopened(&registration, DOC_registration, &host, &opened), -EKEYREJECTED);
	/* A statement that does not verify, though the document does. */
	registration = registration_of(&host);
	registration.statement.counter--;
	ck_assert_int_eq(reopened(&registration, DOC_registration, &host, &opened), -EKEYREJECTED);
	/* Another host's id. */
	registration = registration_of(&host);
	host_id_of(other.key, &registration.header.id);
	ck_assert_int_eq(reopened(&registration, DOC_registration, &host, &opened), -EKEYREJECTED);
	/* A statement of another deployment. */
	registration = registration_of(&host);
	registration.header.deployment = id_of(99);
	ck_assert_int_eq(reopened(&registration, DOC_registration, &host, &opened), -EKEYREJECTED);
	ck_assert_uint_eq(opened.listen_port, 4711);
}
END_TEST

START_TEST(a_flipped_byte_of_a_registration_is_refused)
{
	struct actor host = actor_of(1);
	struct registration registration = registration_of(&host), opened;
	_cleanup_writer_ struct pack_writer envelope = registration_sealed(&registration, DOC_registration, &host);

	for (size_t i = 0; i < envelope.n; i++) {
		int r;

		envelope.bytes[i] ^= 0x11;
		r = registration_open(envelope.bytes, envelope.n, &opened);
		ck_assert_msg(r == -EBADMSG || r == -EKEYREJECTED, "byte %zu: %d", i, r);
		envelope.bytes[i] ^= 0x11;
	}
}
END_TEST

START_TEST(a_registration_out_of_bounds_is_refused)
{
	struct actor host = actor_of(1);
	struct registration good = registration_of(&host), registration, opened;
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	registration = good;
	registration.addresses[1].port = 0;
	ck_assert_int_eq(reopened(&registration, DOC_registration, &host, &opened), -EBADMSG);
	registration = good;
	registration.address_count = REGISTRATION_ADDRESSES_MAX + 1;
	ck_assert_int_eq(registration_encode(&registration, &payload), -EINVAL);
	/* The longest words that there is room for, and no addresses at all. */
	registration = good;
	memset(registration.backend, 'b', sizeof(registration.backend) - 1);
	memset(registration.version, 'v', sizeof(registration.version) - 1);
	registration.address_count = 0;
	ck_assert_int_eq(reopened(&registration, DOC_registration, &host, &opened), 0);
	ck_assert_uint_eq(strlen(opened.version), sizeof(opened.version) - 1);
}
END_TEST

/* -- Receipts and departures ------------------------------------------------------------------------------------------------------------------ */

struct receipt_case {
	struct receipt receipt;
	struct head_entry entries[HEAD_ENTRIES_MAX];
};

static void receipt_largest(struct receipt_case *made, const struct actor *host)
{
	*made = (struct receipt_case){ .receipt = { .outcome = OUTCOME_refused, .code = "overlap", .count = HEAD_ENTRIES_MAX,
						    .apply_us = UINT64_MAX >> 8, .peers = UINT32_MAX } };
	made->receipt.entries = made->entries;
	(void)any_header(&made->receipt.header);
	host_id_of(host->key, &made->receipt.header.id);
	memset(made->receipt.reason, 'r', REASON_BYTES_MAX);
	for (unsigned i = 0; i < HEAD_ENTRIES_MAX; i++)
		made->entries[i] = (struct head_entry){ .type = DOC_network, .id = id_of(i), .epoch = UINT32_MAX,
							.generation = UINT64_MAX >> 8 };
}

static struct pack_writer receipt_sealed(const struct receipt *receipt, const struct actor *by)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	ck_assert_int_eq(receipt_encode(receipt, &payload), 0);
	return sealed(DOC_receipt, &payload, by);
}

static int receipt_reopened(const struct receipt *receipt, const struct actor *by, const uint8_t *key, struct receipt_case *again)
{
	_cleanup_writer_ struct pack_writer envelope = receipt_sealed(receipt, by);

	again->receipt.entries = again->entries;
	return receipt_open(envelope.bytes, envelope.n, key, &again->receipt);
}

START_TEST(the_largest_receipt_comes_back_as_it_was)
{
	struct actor host = actor_of(1);
	struct receipt_case made, again;

	receipt_largest(&made, &host);
	ck_assert_int_eq(receipt_reopened(&made.receipt, &host, host.key, &again), 0);
	ck_assert_mem_eq(&made.receipt.header, &again.receipt.header, sizeof(again.receipt.header));
	ck_assert_int_eq((int)again.receipt.outcome, OUTCOME_refused);
	ck_assert_str_eq(again.receipt.code, "overlap");
	ck_assert_str_eq(again.receipt.reason, made.receipt.reason);
	ck_assert_uint_eq(again.receipt.apply_us, UINT64_MAX >> 8);
	ck_assert_uint_eq(again.receipt.peers, UINT32_MAX);
	ck_assert_uint_eq(again.receipt.count, HEAD_ENTRIES_MAX);
	for (unsigned i = 0; i < HEAD_ENTRIES_MAX; i++)
		ck_assert(id_equal(&made.entries[i].id, &again.entries[i].id));
}
END_TEST

/* A host in as many networks as there can be must be able to tell what became of them. */
START_TEST(the_largest_receipt_and_registration_fit_their_messages)
{
	struct actor host = actor_of(1);
	struct registration registration = registration_of(&host);
	struct receipt_case made;
	uint8_t frame[FRAME_BYTES_MAX];
	size_t n;

	receipt_largest(&made, &host);
	memset(made.receipt.code, 'c', sizeof(made.receipt.code) - 1);
	memset(registration.backend, 'b', sizeof(registration.backend) - 1);
	memset(registration.version, 'v', sizeof(registration.version) - 1);
	registration.address_count = REGISTRATION_ADDRESSES_MAX;
	for (unsigned i = 0; i < REGISTRATION_ADDRESSES_MAX; i++)
		registration.addresses[i] = endpoint_of("[2001:db8::1]:51820");
	_cleanup_writer_ struct pack_writer receipt = receipt_sealed(&made.receipt, &host);
	_cleanup_writer_ struct pack_writer envelope = registration_sealed(&registration, DOC_registration, &host);
	struct msg_result result = { .outcome = OUTCOME_refused, .receipt = { receipt.bytes, receipt.n },
				     .reason = text_view(made.receipt.reason) };
	struct msg_identity identity = { .host_key = host.key, .root_key = host.key, .registration = { envelope.bytes, envelope.n } };
	ck_assert_int_eq(message_encode(MSG_result, &result, frame, sizeof(frame), &n), 0);
	ck_assert_int_eq(message_encode(MSG_identity, &identity, frame, sizeof(frame), &n), 0);
}
END_TEST

START_TEST(a_receipt_is_the_hosts_own)
{
	struct actor host = actor_of(1), other = actor_of(2);
	struct receipt_case made, again;

	receipt_largest(&made, &host);
	ck_assert_int_eq(receipt_reopened(&made.receipt, &other, host.key, &again), -EKEYREJECTED);
	ck_assert_int_eq(receipt_reopened(&made.receipt, &host, other.key, &again), -EKEYREJECTED);
	ck_assert_int_eq(receipt_reopened(&made.receipt, &other, other.key, &again), -EKEYREJECTED); /* of another host's id */
	made.receipt.outcome = (enum outcome)0;
	ck_assert_int_eq(receipt_reopened(&made.receipt, &host, host.key, &again), -EBADMSG);
	made.receipt.outcome = OUTCOME_broken + 1;
	ck_assert_int_eq(receipt_reopened(&made.receipt, &host, host.key, &again), -EBADMSG);
	made.receipt.outcome = OUTCOME_applied;
	made.receipt.peers = UINT32_MAX + 1ULL;
	ck_assert_int_eq(receipt_reopened(&made.receipt, &host, host.key, &again), -EBADMSG);
}
END_TEST

START_TEST(a_flipped_byte_of_a_receipt_is_refused)
{
	struct actor host = actor_of(1);
	struct receipt_case made, again;

	receipt_largest(&made, &host);
	made.receipt.count = 2;
	_cleanup_writer_ struct pack_writer envelope = receipt_sealed(&made.receipt, &host);
	again.receipt.entries = again.entries;
	for (size_t i = 0; i < envelope.n; i++) {
		int r;

		envelope.bytes[i] ^= 0x08;
		r = receipt_open(envelope.bytes, envelope.n, host.key, &again.receipt);
		ck_assert_msg(r == -EBADMSG || r == -EKEYREJECTED, "byte %zu: %d", i, r);
		envelope.bytes[i] ^= 0x08;
	}
}
END_TEST

START_TEST(outcomes_have_names)
{
	ck_assert_str_eq(outcome_name(OUTCOME_applied), "applied");
	ck_assert_str_eq(outcome_name(OUTCOME_broken), "broken");
	ck_assert_str_eq(outcome_name((enum outcome)0), "unknown");
	ck_assert_str_eq(outcome_name((enum outcome)6), "unknown");
	ck_assert_str_eq(outcome_name((enum outcome)-1), "unknown");
}
END_TEST

static int departs(const struct document_header *header, const uint8_t *named, const struct actor *by, enum document_type type,
		   const uint8_t *key, struct document_header *again)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	ck_assert_int_eq(departure_encode(header, named, &payload), 0);
	_cleanup_writer_ struct pack_writer envelope = sealed(type, &payload, by);
	return departure_open(envelope.bytes, envelope.n, key, again);
}

START_TEST(nobody_makes_another_host_leave)
{
	struct actor host = actor_of(1), other = actor_of(2);
	struct document_header header, again = { .epoch = 4711 };

	(void)any_header(&header);
	host_id_of(host.key, &header.id);
	ck_assert_int_eq(departs(&header, host.key, &other, DOC_departure, host.key, &again), -EKEYREJECTED);
	ck_assert_int_eq(departs(&header, host.key, &host, DOC_departure, other.key, &again), -EKEYREJECTED);
	ck_assert_int_eq(departs(&header, other.key, &host, DOC_departure, host.key, &again), -EKEYREJECTED);
	ck_assert_int_eq(departs(&header, other.key, &other, DOC_departure, other.key, &again), -EKEYREJECTED);
	ck_assert_int_eq(departs(&header, host.key, &host, DOC_receipt, host.key, &again), -EBADMSG);
	ck_assert_uint_eq(again.epoch, 4711);
	ck_assert_int_eq(departs(&header, host.key, &host, DOC_departure, host.key, &again), 0);
	ck_assert_mem_eq(&header, &again, sizeof(header));
}
END_TEST

UNIT_MAIN("doc: hosts", the_largest_host_document_fits_an_envelope, an_assigned_key_is_for_its_host_alone, a_host_document_out_of_bounds_is_refused,
	  a_statement_holds_for_what_it_says_and_no_more, a_statement_is_no_document_and_no_document_a_statement,
	  a_registration_comes_back_as_it_was, a_registration_is_signed_by_the_host_that_it_names,
	  a_flipped_byte_of_a_registration_is_refused, a_registration_out_of_bounds_is_refused, the_largest_receipt_comes_back_as_it_was,
	  the_largest_receipt_and_registration_fit_their_messages,
	  a_receipt_is_the_hosts_own, a_flipped_byte_of_a_receipt_is_refused, outcomes_have_names, nobody_makes_another_host_leave)
