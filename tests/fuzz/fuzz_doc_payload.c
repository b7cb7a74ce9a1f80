/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Envelopes and the payloads that a control plane signs. Decoders see verified bytes only, but whoever holds the online key may be an enemy: each
 * decoder gets the input. What one accepts must encode and decode to the same again.
 */
#include <stdlib.h>
#include <string.h>

#include "libdoc/admission.h"
#include "libdoc/head.h"
#include "libdoc/host.h"
#include "libdoc/keyset.h"
#include "libdoc/locks.h"
#include "libdoc/network.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void same(const struct pack_writer *a, const struct pack_writer *b)
{
	if (a->error < 0 || b->error < 0 || a->n != b->n || memcmp(a->bytes, b->bytes, a->n) != 0)
		abort();
}

/* Decode, encode, decode, encode: both encodings are equal. */
#define ROUND_TRIP(type, decode, encode)                                                             \
	static void type##_round_trip(struct view payload)                                           \
	{                                                                                            \
		_cleanup_writer_ struct pack_writer first = { .bytes = NULL }, second = { .bytes = NULL }; \
		struct type *one = fuzz_alloc(sizeof(*one)), *other = fuzz_alloc(sizeof(*other));    \
                                                                                                     \
		if (decode(payload, one) == 0) {                                                     \
			if (encode(one, &first) < 0)                                                 \
				abort();                                                             \
			if (decode((struct view){ first.bytes, first.n }, other) < 0)                \
				abort();                                                             \
			if (encode(other, &second) < 0)                                              \
				abort();                                                             \
			same(&first, &second);                                                       \
		}                                                                                    \
		free(one);                                                                           \
		free(other);                                                                         \
	}

ROUND_TRIP(head, head_decode, head_encode)
ROUND_TRIP(host_document, host_document_decode, host_document_encode)
ROUND_TRIP(network_document, network_document_decode, network_document_encode)
ROUND_TRIP(admission, admission_decode, admission_encode)

/* A keyset is decoded by those who can verify it only: so it is signed here, by a root that everybody knows. */
static void keyset_of(struct view payload)
{
	_cleanup_writer_ struct pack_writer envelope = { .bytes = NULL }, again = { .bytes = NULL };
	struct fuzz_actor root = fuzz_actor();
	struct keyset keyset;

	if (envelope_sign(DOC_keyset, payload.p, payload.n, root.secret, &envelope) < 0)
		return;
	if (keyset_open(envelope.bytes, envelope.n, root.key, &keyset) < 0)
		return;
	if (memcmp(keyset.root, root.key, KEY_BYTES) != 0 || keyset_encode(&keyset, &again) < 0)
		abort(); /* it can name no other root without that one's signature */
}

static void have_round_trip(struct view bytes)
{
	_cleanup_writer_ struct pack_writer first = { .bytes = NULL };
	struct head_entry entries[HEAD_ENTRIES_MAX], again[HEAD_ENTRIES_MAX];
	int count = have_decode(bytes.p, bytes.n, entries);

	if (count < 0)
		return;
	if (count > HEAD_ENTRIES_MAX || have_encode(entries, (unsigned)count, &first) < 0 || have_decode(first.bytes, first.n, again) != count)
		abort();
}

/* The input as the one node of a list, which may name itself as its own child. What is read must build the same root again. */
struct node {
	struct hash name;
	struct view bytes;
};

static int node_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	const struct node *node = arg;

	*bytes = node->bytes;
	return hash_equal(name, &node->name) || (name->b[0] & 1) ? 0 : -2; /* any node may turn up below: ENOENT for every other one */
}

static void list_of(struct view bytes)
{
	struct node node = { .bytes = bytes };
	struct admitted *hosts = NULL;
	struct hash root;

	hash_of(bytes.p, bytes.n, &node.name);
	for (uint32_t count = 0; count <= 66; count++) {
		if (admission_load(&node.name, count, node_lookup, &node, &hosts) < 0)
			continue;
		if (admission_build(hosts, count, NULL, NULL, &root) < 0)
			abort();
		free(hosts);
	}
}

static void locks_of(struct view bytes)
{
	_cleanup_writer_ struct pack_writer first = { .bytes = NULL };
	struct locks locks, again;

	if (locks_decode(bytes.p, bytes.n, &locks) < 0)
		return;
	if (locks_encode(&locks, &first) < 0 || locks_decode(first.bytes, first.n, &again) < 0 || again.count != locks.count)
		abort();
}

static void envelope_of(struct view bytes)
{
	struct fuzz_actor actor = fuzz_actor();
	struct envelope envelope;
	struct hash hash;

	if (envelope_open(bytes.p, bytes.n, &envelope) < 0)
		return;
	hash_of(envelope.payload.p, envelope.payload.n, &hash);
	for (unsigned i = 0; i < envelope.signature_count; i++)
		hash_of(envelope.signatures[i].signature, SIGNATURE_BYTES, &hash);
	(void)envelope_verify(&envelope, actor.key);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct view input = { bytes, n };

	envelope_of(input);
	head_round_trip(input);
	host_document_round_trip(input);
	network_document_round_trip(input);
	admission_round_trip(input);
	have_round_trip(input);
	list_of(input);
	locks_of(input);
	keyset_of(input);
	return 0;
}
