/* SPDX-License-Identifier: Apache-2.0 */
/* What is signed: envelopes, and the keyset that says whose signature counts for what. */
#include "tests/unit/documents.h"

static struct pack_writer envelope_of(enum document_type type, const char *payload, const struct actor *by)
{
	struct pack_writer envelope = { .bytes = NULL };

	ck_assert_int_eq(envelope_sign(type, payload, strlen(payload), by->secret, &envelope), 0);
	return envelope;
}

START_TEST(an_envelope_opens_to_what_was_signed)
{
	struct actor signer = actor_of(1), other = actor_of(2);
	_cleanup_writer_ struct pack_writer bytes = envelope_of(DOC_head, "payload", &signer);
	struct envelope envelope;

	ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), 0);
	ck_assert_int_eq((int)envelope.type, DOC_head);
	ck_assert_uint_eq(envelope.payload.n, 7);
	ck_assert_mem_eq(envelope.payload.p, "payload", 7);
	ck_assert_uint_eq(envelope.signature_count, 1);
	ck_assert_mem_eq(envelope.signatures[0].hint, signer.key, KEY_HINT_BYTES);
	ck_assert_int_eq(envelope_verify(&envelope, signer.key), 0);
	ck_assert_int_eq(envelope_verify(&envelope, other.key), -EKEYREJECTED);
}
END_TEST

/* Every bit of an envelope matters: malformed, or no longer signed. Only the hint is outside of the signature, and it decides nothing. */
START_TEST(a_flipped_bit_anywhere_is_refused)
{
	struct actor signer = actor_of(1);
	_cleanup_writer_ struct pack_writer bytes = envelope_of(DOC_network, "payload of some length, to have more to flip", &signer);

	for (size_t i = 0; i < bytes.n; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			struct envelope envelope;
			int r;

			bytes.bytes[i] ^= (uint8_t)(1 << bit);
			r = envelope_open(bytes.bytes, bytes.n, &envelope);
			if (r == 0)
				r = envelope_verify(&envelope, signer.key);
			ck_assert_msg(r == -EBADMSG || r == -EKEYREJECTED, "bit %u of byte %zu: %d", bit, i, r);
			bytes.bytes[i] ^= (uint8_t)(1 << bit);
		}
}
END_TEST

START_TEST(a_cut_or_longer_envelope_is_refused)
{
	struct actor signer = actor_of(1);
	_cleanup_writer_ struct pack_writer bytes = envelope_of(DOC_host, "payload", &signer);
	struct envelope envelope;

	for (size_t n = 0; n < bytes.n; n++) {
		_cleanup_free_ uint8_t *cut = malloc(n ? n : 1);

		memcpy(cut, bytes.bytes, n);
		ck_assert_int_eq(envelope_open(cut, n, &envelope), -EBADMSG);
	}
	pack_put_bool(&bytes, true);
	ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), -EBADMSG);
}
END_TEST

START_TEST(the_type_is_part_of_what_is_signed)
{
	struct actor signer = actor_of(1);
	_cleanup_writer_ struct pack_writer bytes = envelope_of(DOC_head, "payload", &signer);
	struct envelope envelope;

	ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), 0);
	for (enum document_type type = DOC_keyset; document_type_name(type); type++) {
		envelope.type = type;
		ck_assert_int_eq(envelope_verify(&envelope, signer.key), type == DOC_head ? 0 : -EKEYREJECTED);
	}
}
END_TEST

START_TEST(types_have_names)
{
	ck_assert_str_eq(document_type_name(DOC_keyset), "loopback/keyset/1");
	ck_assert_str_eq(document_type_name(DOC_departure), "loopback/departure/1");
	ck_assert_str_eq(document_type_name(DOC_admission), "loopback/admission/1");
	ck_assert_str_eq(document_type_name(DOC_cosign), "loopback/cosign/1");
	ck_assert_ptr_null(document_type_name((enum document_type)0));
	ck_assert_ptr_null(document_type_name((enum document_type)10));
	ck_assert_ptr_null(document_type_name((enum document_type)-1));
}
END_TEST

/* The pre-authentication encoding of DSSE, spelled out by hand. */
START_TEST(the_signature_is_over_dsse)
{
	static const char encoded[] = "DSSEv1 15 loopback/head/1 7 payload";
	struct actor signer = actor_of(1);
	_cleanup_writer_ struct pack_writer bytes = envelope_of(DOC_head, "payload", &signer);
	struct envelope envelope;

	ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), 0);
	ck_assert_int_eq(crypto_sign_verify_detached(envelope.signatures[0].signature, (const uint8_t *)encoded, strlen(encoded), signer.key), 0);
}
END_TEST

START_TEST(a_long_payload_signs_as_well)
{
	struct actor signer = actor_of(1);
	static uint8_t payload[ENVELOPE_BYTES_MAX];

	/* Around the size that is encoded without allocating, and around the largest. */
	for (size_t n = 900; n < sizeof(payload) + 8; n += n < 1100 ? 1 : n < 15800 ? 3700 : 1) {
		_cleanup_writer_ struct pack_writer bytes = { .bytes = NULL };
		struct envelope envelope;
		int r = envelope_sign(DOC_head, payload, n < sizeof(payload) ? n : sizeof(payload), signer.secret, &bytes);

		if (r == -EMSGSIZE) {
			ck_assert_uint_gt(bytes.n, ENVELOPE_BYTES_MAX);
			ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), -EMSGSIZE);
			continue;
		}
		ck_assert_int_eq(r, 0);
		ck_assert_uint_le(bytes.n, ENVELOPE_BYTES_MAX);
		ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), 0);
		ck_assert_int_eq(envelope_verify(&envelope, signer.key), 0);
	}
}
END_TEST

START_TEST(further_signatures_are_added_up_to_four)
{
	struct pack_writer bytes;
	struct actor signers[5];

	for (unsigned i = 0; i < 5; i++)
		signers[i] = actor_of(10 + i);
	bytes = envelope_of(DOC_keyset, "payload", &signers[0]);
	for (unsigned count = 1; count <= ENVELOPE_SIGNATURES_MAX; count++) {
		struct pack_writer more = { .bytes = NULL };
		struct envelope envelope;
		int r;

		ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), 0);
		ck_assert_uint_eq(envelope.signature_count, count);
		for (unsigned i = 0; i < 5; i++)
			ck_assert_int_eq(envelope_verify(&envelope, signers[i].key), i < count ? 0 : -EKEYREJECTED);
		r = envelope_add_signature(bytes.bytes, bytes.n, signers[count].secret, &more);
		if (count == ENVELOPE_SIGNATURES_MAX) {
			ck_assert_int_eq(r, -EMSGSIZE);
			pack_writer_free(&more);
			break;
		}
		ck_assert_int_eq(r, 0);
		pack_writer_free(&bytes);
		bytes = more;
	}
	pack_writer_free(&bytes);
}
END_TEST

START_TEST(what_is_no_envelope_is_refused)
{
	static const uint8_t signature[SIGNATURE_BYTES], hint[KEY_HINT_BYTES + 1];
	struct envelope envelope;

	/* type, signatures, bytes of each hint and signature, fields more */
	static const struct {
		const char *type;
		unsigned count;
		size_t hint, signature;
		unsigned more;
		int expected;
	} cases[] = {
		{ "loopback/head/1", 1, 8, 64, 0, 0 },          { "loopback/head/1", 4, 8, 64, 0, 0 },
		{ "loopback/head/1", 0, 8, 64, 0, -EBADMSG },   { "loopback/head/1", 5, 8, 64, 0, -EBADMSG },
		{ "loopback/head/1", 1, 7, 64, 0, -EBADMSG },   { "loopback/head/1", 1, 9, 64, 0, -EBADMSG },
		{ "loopback/head/1", 1, 8, 63, 0, -EBADMSG },   { "loopback/head/1", 1, 8, 64, 1, -EBADMSG },
		{ "loopback/head/2", 1, 8, 64, 0, -EBADMSG },   { "loopback/head/", 1, 8, 64, 0, -EBADMSG },
		{ "loopback/head/11", 1, 8, 64, 0, -EBADMSG },  { "loopback/statement/1", 1, 8, 64, 0, -EBADMSG },
		{ "", 1, 8, 64, 0, -EBADMSG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_writer_ struct pack_writer writer = { .bytes = NULL };

		pack_put_array(&writer, 3 + cases[i].more);
		pack_put_text(&writer, cases[i].type);
		pack_put_bytes(&writer, "payload", 7);
		pack_put_array(&writer, cases[i].count);
		for (unsigned j = 0; j < cases[i].count; j++) {
			pack_put_array(&writer, 2);
			pack_put_bytes(&writer, hint, cases[i].hint);
			pack_put_bytes(&writer, signature, cases[i].signature);
		}
		for (unsigned j = 0; j < cases[i].more; j++)
			pack_put_bool(&writer, true);
		ck_assert_msg(envelope_open(writer.bytes, writer.n, &envelope) == cases[i].expected, "case %zu", i);
	}
}
END_TEST

START_TEST(epochs_go_before_generations)
{
	static const struct {
		uint32_t epoch[2];
		uint64_t generation[2];
		bool newer;
	} cases[] = {
		{ { 1, 1 }, { 2, 1 }, true },  { { 1, 1 }, { 1, 1 }, false }, { { 1, 1 }, { 1, 2 }, false },
		{ { 2, 1 }, { 1, 9 }, true },  { { 1, 2 }, { 9, 1 }, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct document_header a = { .epoch = cases[i].epoch[0], .generation = cases[i].generation[0] };
		struct document_header b = { .epoch = cases[i].epoch[1], .generation = cases[i].generation[1] };

		ck_assert_int_eq(document_newer(&a, &b), cases[i].newer);
	}
}
END_TEST

/* -- Keysets ------------------------------------------------------------------------------------------------------------------------------ */

START_TEST(a_keyset_comes_back_as_it_was)
{
	struct actor root = actor_of(1), online = actor_of(2);
	struct keyset keyset = keyset_of(&root, &online, id_of(1), 7), again;

	keyset.count = KEYSET_KEYS_MAX;
	for (unsigned i = 0; i < KEYSET_KEYS_MAX; i++) {
		memset(keyset.keys[i].key, (int)i, KEY_BYTES);
		keyset.keys[i].usage = i % 2 ? KEY_OPERATOR : KEY_ONLINE;
		keyset.keys[i].not_after = i * 1000000007ULL;
	}
	memset(keyset.name, 'n', NAME_BYTES_MAX);
	_cleanup_writer_ struct pack_writer bytes = keyset_sealed(&keyset, &root, NULL);
	ck_assert_int_eq(keyset_open(bytes.bytes, bytes.n, root.key, &again), 0);
	ck_assert_mem_eq(&keyset.header, &again.header, sizeof(keyset.header));
	ck_assert_str_eq(keyset.name, again.name);
	ck_assert_uint_eq(again.count, KEYSET_KEYS_MAX);
	for (unsigned i = 0; i < KEYSET_KEYS_MAX; i++) {
		ck_assert_mem_eq(keyset.keys[i].key, again.keys[i].key, KEY_BYTES);
		ck_assert_uint_eq(keyset.keys[i].usage, again.keys[i].usage);
		ck_assert_uint_eq(keyset.keys[i].not_after, again.keys[i].not_after);
	}
	keyset.count++;
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	ck_assert_int_eq(keyset_encode(&keyset, &payload), -EINVAL);
}
END_TEST

START_TEST(a_new_root_needs_both_signatures)
{
	struct actor old = actor_of(1), new = actor_of(2), online = actor_of(3), stranger = actor_of(4);
	struct keyset keyset = keyset_of(&new, &online, id_of(1), 2), opened = { .count = 4711 };
	_cleanup_writer_ struct pack_writer by_old = keyset_sealed(&keyset, &old, NULL), by_new = keyset_sealed(&keyset, &new, NULL);
	_cleanup_writer_ struct pack_writer both = keyset_sealed(&keyset, &old, &new), turned = keyset_sealed(&keyset, &new, &old);
	_cleanup_writer_ struct pack_writer half = keyset_sealed(&keyset, &old, &stranger);

	ck_assert_int_eq(keyset_open(by_old.bytes, by_old.n, old.key, &opened), -EKEYREJECTED);
	ck_assert_int_eq(keyset_open(by_new.bytes, by_new.n, old.key, &opened), -EKEYREJECTED);
	ck_assert_int_eq(keyset_open(half.bytes, half.n, old.key, &opened), -EKEYREJECTED);
	ck_assert_int_eq(keyset_open(both.bytes, both.n, stranger.key, &opened), -EKEYREJECTED);
	ck_assert_uint_eq(opened.count, 4711);
	ck_assert_int_eq(keyset_open(both.bytes, both.n, old.key, &opened), 0);
	ck_assert_mem_eq(opened.root, new.key, KEY_BYTES);
	ck_assert_int_eq(keyset_open(turned.bytes, turned.n, old.key, &opened), 0);
	/* For whoever has moved on already, it is an ordinary keyset. */
	ck_assert_int_eq(keyset_open(by_new.bytes, by_new.n, new.key, &opened), 0);
}
END_TEST

START_TEST(another_document_is_no_keyset)
{
	struct actor root = actor_of(1), online = actor_of(2);
	struct keyset keyset = keyset_of(&root, &online, id_of(1), 1), opened;
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	ck_assert_int_eq(keyset_encode(&keyset, &payload), 0);
	_cleanup_writer_ struct pack_writer as_head = sealed(DOC_head, &payload, &root);
	ck_assert_int_eq(keyset_open(as_head.bytes, as_head.n, root.key, &opened), -EBADMSG);
	keyset.header.id = id_of(2); /* of no deployment */
	_cleanup_writer_ struct pack_writer strange = keyset_sealed(&keyset, &root, NULL);
	ck_assert_int_eq(keyset_open(strange.bytes, strange.n, root.key, &opened), -EBADMSG);
	_cleanup_writer_ struct pack_writer junk = envelope_of(DOC_keyset, "junk", &root);
	ck_assert_int_eq(keyset_open(junk.bytes, junk.n, root.key, &opened), -EBADMSG);
}
END_TEST

START_TEST(a_key_counts_for_its_usage_only)
{
	struct actor root = actor_of(1), online = actor_of(2), operator = actor_of(3), stranger = actor_of(4);
	struct keyset keyset = keyset_of(&root, &online, id_of(1), 1);
	const struct actor *signers[] = { &online, &operator, &stranger, &root };

	keyset.count = 2;
	memcpy(keyset.keys[1].key, operator.key, KEY_BYTES);
	keyset.keys[1].usage = KEY_OPERATOR;
	for (size_t i = 0; i < ARRAY_SIZE(signers); i++) {
		_cleanup_writer_ struct pack_writer bytes = envelope_of(DOC_network, "payload", signers[i]);
		struct envelope envelope;

		ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), 0);
		ck_assert_int_eq(keyset_verify(&keyset, &envelope, KEY_ONLINE), i == 0 ? 0 : -EKEYREJECTED);
		ck_assert_int_eq(keyset_verify(&keyset, &envelope, KEY_OPERATOR), i == 1 ? 0 : -EKEYREJECTED);
	}
	keyset.count = 0;
	_cleanup_writer_ struct pack_writer bytes = envelope_of(DOC_network, "payload", &online);
	struct envelope envelope;
	ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), 0);
	ck_assert_int_eq(keyset_verify(&keyset, &envelope, KEY_ONLINE), -EKEYREJECTED);
}
END_TEST

START_TEST(an_expired_key_still_verifies)
{
	struct actor root = actor_of(1), online = actor_of(2);
	struct keyset keyset = keyset_of(&root, &online, id_of(1), 1);
	_cleanup_writer_ struct pack_writer bytes = envelope_of(DOC_network, "payload", &online);
	struct envelope envelope;

	/* A key's end stops new signatures (signd); a running mesh must not end because of it (M15). */
	keyset.keys[0].not_after = 1;
	ck_assert_int_eq(envelope_open(bytes.bytes, bytes.n, &envelope), 0);
	ck_assert_int_eq(keyset_verify(&keyset, &envelope, KEY_ONLINE), 0);
}
END_TEST

UNIT_MAIN("doc: envelope, keyset", an_envelope_opens_to_what_was_signed, a_flipped_bit_anywhere_is_refused,
	  a_cut_or_longer_envelope_is_refused, the_type_is_part_of_what_is_signed, types_have_names, the_signature_is_over_dsse,
	  a_long_payload_signs_as_well, further_signatures_are_added_up_to_four, what_is_no_envelope_is_refused,
	  epochs_go_before_generations, a_keyset_comes_back_as_it_was, a_new_root_needs_both_signatures, another_document_is_no_keyset,
	  a_key_counts_for_its_usage_only, an_expired_key_still_verifies)
