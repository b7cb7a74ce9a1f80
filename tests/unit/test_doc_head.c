/* SPDX-License-Identifier: Apache-2.0 */
/* Heads, what a host says it has, and manifests of networks. */
#include "tests/unit/documents.h"

static struct head *head_largest(void)
{
	struct head *head = calloc(1, sizeof(*head));
	static const enum document_type types[] = { DOC_keyset, DOC_host, DOC_network };

	ck_assert_ptr_nonnull(head);
	head->header = header_of(id_of(1), id_of(2), UINT32_MAX, UINT64_MAX >> 8);
	head->host = id_of(2);
	memset(head->nonce, 0x4e, sizeof(head->nonce));
	head->count = HEAD_ENTRIES_MAX;
	for (unsigned i = 0; i < HEAD_ENTRIES_MAX; i++) {
		head->entries[i] = (struct head_entry){
			.type = types[i % 3], .id = id_of(10 + i / 3), .epoch = UINT32_MAX, .generation = UINT64_MAX >> 8
		};
		hash_of(&i, sizeof(i), &head->entries[i].hash);
	}
	return head;
}

static int recoded(const struct head *head, struct head *again)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	ck_assert_int_eq(head_encode(head, &payload), 0);
	return head_decode((struct view){ payload.bytes, payload.n }, again);
}

static bool same_entry(const struct head_entry *a, const struct head_entry *b)
{
	return a->type == b->type && id_equal(&a->id, &b->id) && a->epoch == b->epoch && a->generation == b->generation &&
	       hash_equal(&a->hash, &b->hash);
}

START_TEST(the_largest_head_fits_an_envelope)
{
	_cleanup_free_ struct head *head = head_largest(), *again = calloc(1, sizeof(*again));
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct actor signer = actor_of(1);
	struct id absent = id_of(4711);

	ck_assert_int_eq(recoded(head, again), 0);
	ck_assert_uint_eq(again->count, HEAD_ENTRIES_MAX);
	ck_assert_mem_eq(head->nonce, again->nonce, sizeof(head->nonce));
	ck_assert(id_equal(&head->host, &again->host));
	for (unsigned i = 0; i < HEAD_ENTRIES_MAX; i++) {
		ck_assert(same_entry(&head->entries[i], &again->entries[i]));
		ck_assert_ptr_eq(head_find(again, head->entries[i].type, &head->entries[i].id), &again->entries[i]);
	}
	ck_assert_ptr_null(head_find(again, DOC_network, &absent));
	ck_assert_int_eq(head_encode(head, &payload), 0);
	_cleanup_writer_ struct pack_writer envelope = sealed(DOC_head, &payload, &signer);
	ck_assert_uint_le(envelope.n, ENVELOPE_BYTES_MAX);
}
END_TEST

START_TEST(a_head_out_of_bounds_is_refused)
{
	_cleanup_free_ struct head *head = head_largest(), *again = calloc(1, sizeof(*again));
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct head_entry kept = head->entries[5];

	/* One document twice, in whatever generation: which would count? */
	head->entries[5] = head->entries[2];
	head->entries[5].generation--;
	ck_assert_int_eq(recoded(head, again), -EBADMSG);
	head->entries[5] = kept;
	/* Only what hosts apply is named. */
	for (unsigned type = 0; type < 10; type++) {
		head->entries[5].type = (enum document_type)type;
		head->entries[5].id = id_of(999);
		ck_assert_int_eq(recoded(head, again), type == DOC_keyset || type == DOC_host || type == DOC_network || type == DOC_admission ? 0 : -EBADMSG);
	}
	head->entries[5] = kept;
	head->entries[5].generation = (UINT64_MAX >> 8) + 1;
	ck_assert_int_eq(recoded(head, again), -EBADMSG);
	head->count = HEAD_ENTRIES_MAX + 1;
	ck_assert_int_eq(head_encode(head, &payload), -EINVAL);
}
END_TEST

START_TEST(what_a_host_has_comes_back)
{
	_cleanup_free_ struct head *head = head_largest();
	struct head_entry again[HEAD_ENTRIES_MAX];

	for (unsigned count = 0; count <= HEAD_ENTRIES_MAX; count++) {
		_cleanup_writer_ struct pack_writer have = { .bytes = NULL };

		for (unsigned i = 0; i < count; i++)
			hash_of(&i, 1, &head->entries[i].root);
		ck_assert_int_eq(have_encode(head->entries, count, &have), 0);
		ck_assert_uint_le(have.n, 16000); /* messages.def, ask */
		ck_assert_int_eq(have_decode(have.bytes, have.n, again), (int)count);
		for (unsigned i = 0; i < count; i++)
			ck_assert(same_entry(&head->entries[i], &again[i]) && hash_equal(&head->entries[i].root, &again[i].root));
		for (size_t n = 0; count < 3 && n < have.n; n++)
			ck_assert_int_eq(have_decode(have.bytes, n, again), -EBADMSG);
	}
}
END_TEST

START_TEST(more_than_a_host_can_have_is_refused)
{
	struct head_entry entries[HEAD_ENTRIES_MAX + 1] = { { .type = DOC_network } }, again[HEAD_ENTRIES_MAX];
	_cleanup_writer_ struct pack_writer have = { .bytes = NULL };

	for (unsigned i = 0; i <= HEAD_ENTRIES_MAX; i++)
		entries[i].type = DOC_network;
	ck_assert_int_eq(have_encode(entries, HEAD_ENTRIES_MAX + 1, &have), 0);
	ck_assert_int_eq(have_decode(have.bytes, have.n, again), -EBADMSG);
}
END_TEST

/* -- Networks ----------------------------------------------------------------------------------------------------------------------------- */

static struct network_document network_good(void)
{
	return (struct network_document){
		.header = header_of(id_of(1), id_of(2), 1, 1),
		.name = "prod",
		.cidr_count = 4,
		.cidrs = { prefix_of("100.64.0.0/10"), prefix_of("10.0.0.0/8"), prefix_of("fd00::/64"), prefix_of("fd00:0:0:1::/64") },
		.mtu = 1380,
		.keepalive = 25,
		.flags = NETWORK_LOCKED,
		.bridge_count = 2,
		.bridges = { { { 0x11 } }, { { 0x77 } } },
		.count = PEERS_MAX,
	};
}

static int network_recoded(const struct network_document *network, struct network_document *again)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	ck_assert_int_eq(network_document_encode(network, &payload), 0);
	return network_document_decode((struct view){ payload.bytes, payload.n }, again);
}

START_TEST(a_manifest_comes_back_as_it_was)
{
	struct network_document network = network_good(), again;

	ck_assert_int_eq(network_recoded(&network, &again), 0);
	ck_assert_str_eq(again.name, "prod");
	ck_assert_uint_eq(again.cidr_count, 4);
	for (unsigned i = 0; i < 4; i++)
		ck_assert(prefix_equal(&network.cidrs[i], &again.cidrs[i]));
	ck_assert_uint_eq(again.mtu, 1380);
	ck_assert_uint_eq(again.keepalive, 25);
	ck_assert_uint_eq(again.flags, NETWORK_LOCKED);
	ck_assert_uint_eq(again.bridge_count, 2);
	ck_assert(id_equal(&again.bridges[0], &network.bridges[0]) && id_equal(&again.bridges[1], &network.bridges[1]));
	ck_assert_uint_eq(again.count, PEERS_MAX);
	ck_assert(hash_equal(&network.root, &again.root));
}
END_TEST

START_TEST(a_manifest_out_of_bounds_is_refused)
{
	struct network_document good = network_good(), network, again = { .mtu = 4711 };
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

#define GIVES(result, change)                                         \
	network = good;                                               \
	change;                                                       \
	ck_assert_int_eq(network_recoded(&network, &again), (result))
	GIVES(-EBADMSG, network.mtu = MTU_MIN - 1);
	GIVES(-EBADMSG, network.mtu = MTU_MAX + 1);
	GIVES(-EBADMSG, network.keepalive = KEEPALIVE_MAX + 1);
	GIVES(-EBADMSG, network.flags = 2); /* a flag of the future may mean a restriction: it is not ignored */
	GIVES(-EBADMSG, network.cidr_count = 0);
	GIVES(-EBADMSG, network.cidrs[0].b[3] = 1);
	GIVES(-EBADMSG, network.cidrs[1] = prefix_of("100.64.0.0/16")); /* within the first */
	GIVES(-EBADMSG, network.cidrs[3] = prefix_of("fd00::/64"));
	GIVES(-EBADMSG, network.cidrs[0] = prefix_of("0.0.0.0/0"));
	GIVES(-EBADMSG, network.bridges[1] = network.bridges[0]);
	GIVES(-EBADMSG, network.bridges[0].b[0] = 0x78); /* out of order */
	GIVES(-EBADMSG, network.bridges[0] = network.header.id);
	GIVES(-E2BIG, network.count = PEERS_MAX + 1);
	GIVES(-E2BIG, network.count = UINT32_MAX);
	ck_assert_uint_eq(again.mtu, 4711);
	GIVES(0, network.mtu = MTU_MIN);
	GIVES(0, network.mtu = MTU_MAX);
	GIVES(0, network.keepalive = 0);
	GIVES(0, network.count = 0);
#undef GIVES
	network = good;
	network.cidr_count = CIDRS_MAX + 1;
	ck_assert_int_eq(network_document_encode(&network, &payload), -EINVAL);
	network = good;
	network.bridge_count = BRIDGES_MAX + 1;
	ck_assert_int_eq(network_document_encode(&network, &payload), -EINVAL);
}
END_TEST

START_TEST(a_bridge_is_two_manifests_that_name_each_other)
{
	struct network_document one = network_good(), other = network_good();

	other.header.id = one.bridges[0];
	other.bridges[0] = one.header.id;
	ck_assert(network_documents_bridged(&one, &other));
	ck_assert(network_documents_bridged(&other, &one));
	other.bridges[0] = id_of(9); /* only one of them says so */
	ck_assert(!network_documents_bridged(&one, &other));
	ck_assert(!network_documents_bridged(&other, &one));
	other.bridges[0] = one.header.id;
	other.header.organization = id_of(9);
	ck_assert(!network_documents_bridged(&one, &other));
}
END_TEST

START_TEST(a_network_covers_its_ranges)
{
	struct network_document network = network_good();
	static const struct {
		const char *text;
		bool covered;
	} cases[] = {
		{ "100.64.0.0/32", true }, { "100.127.255.255/32", true }, { "100.128.0.0/32", false }, { "100.63.255.255/32", false },
		{ "10.255.0.1/32", true }, { "fd00::5/128", true },        { "fd00:0:0:1::5/128", true }, { "fd00:0:0:2::5/128", false },
		{ "0.0.0.0/0", false },    { "100.0.0.0/8", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct prefix prefix = prefix_of(cases[i].text);

		ck_assert_msg(network_document_covers(&network, &prefix) == cases[i].covered, "%s", cases[i].text);
	}
}
END_TEST

UNIT_MAIN("doc: heads, networks", the_largest_head_fits_an_envelope, a_head_out_of_bounds_is_refused, what_a_host_has_comes_back,
	  more_than_a_host_can_have_is_refused, a_manifest_comes_back_as_it_was, a_manifest_out_of_bounds_is_refused,
	  a_bridge_is_two_manifests_that_name_each_other, a_network_covers_its_ranges)
