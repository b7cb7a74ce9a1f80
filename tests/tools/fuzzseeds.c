/* SPDX-License-Identifier: Apache-2.0 */
/* Write the seeds of the fuzz targets: fuzzseeds tests/fuzz/corpus. One valid input of each kind, small, the same in every run. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "libdoc/admission.h"
#include "libdoc/head.h"
#include "libdoc/host.h"
#include "libdoc/keyset.h"
#include "libdoc/locks.h"
#include "libdoc/network.h"
#include "libdoc/trie.h"
#include "libipc/messages.h"
#include "tests/fuzz/fuzz.h"

static const char *corpus;

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	(void)fprintf(stderr, "fuzzseeds: %s: %s\n", what, strerror(-r));
	exit(EXIT_FAILURE);
}

/* corpus/TARGET/NAME: what stands before, and the bytes. */
static void seed(const char *target, const char *name, const void *before, size_t before_n, const void *bytes, size_t n)
{
	char path[256];
	_cleanup_fclose_ FILE *file = NULL;

	(void)snprintf(path, sizeof(path), "%s/%s", corpus, target);
	must(mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0, path);
	(void)snprintf(path, sizeof(path), "%s/%s/%s", corpus, target, name);
	file = fopen(path, "we");
	if (!file || fwrite(before, 1, before_n, file) != before_n || fwrite(bytes, 1, n, file) != n)
		must(-EIO, path);
}

static struct document_header header_of(uint64_t generation)
{
	struct fuzz_actor actor = fuzz_actor();
	struct document_header header = { .epoch = 1, .generation = generation, .issued = 1700000000 };

	memset(header.deployment.b, 0xd0, ID_BYTES);
	host_id_of(actor.key, &header.id);
	return header;
}

/* -- Frames ----------------------------------------------------------------------------------------------------------------------------- */

static void fill_field(struct field_visitor *visitor, enum field_kind kind, void *field, const char *name, uint64_t bound)
{
	static const uint8_t bytes[KEY_BYTES] = "0123456789abcdef0123456789abcde";

	(void)visitor, (void)name;
	switch (kind) {
	case FIELD_u64:
		*(uint64_t *)field = bound;
		return;
	case FIELD_flag:
		*(bool *)field = true;
		return;
	case FIELD_key:
		*(const uint8_t **)field = bytes;
		return;
	case FIELD_bytes:
	case FIELD_text:
		*(struct view *)field = (struct view){ bytes, bound < 8 ? bound : 8 };
		return;
	}
}

static void frames(void)
{
	for (size_t i = 0; i < message_type_count; i++) {
		const struct message_type *row = &message_types[i];
		struct field_visitor filler = { .field = fill_field };
		uint8_t frame[FRAME_BYTES_MAX], whom = (uint8_t)i;
		union message_body body;
		size_t n;

		row->walk(&filler, &body);
		must(message_encode(row->number, &body, frame, sizeof(frame), &n), row->name);
		seed("fuzz_ipc_frame", row->name, &whom, 1, frame, n);
	}
}

/* -- Documents -------------------------------------------------------------------------------------------------------------------------- */

static void payload(const char *target, const char *name, uint8_t kind, bool with_kind, const struct pack_writer *writer)
{
	must(writer->error, name);
	seed(target, name, &kind, with_kind ? 1 : 0, writer->bytes, writer->n);
}

static struct head_entry entry_of(enum document_type type, uint8_t number)
{
	struct head_entry entry = { .type = type, .epoch = 1, .generation = number };

	memset(entry.id.b, number, ID_BYTES);
	hash_of(&number, 1, &entry.hash);
	return entry;
}

static int list_node(_unused_ const struct hash *name, const void *bytes, size_t n, _unused_ void *arg)
{
	seed("fuzz_doc_payload", "list", NULL, 0, bytes, n);
	return 0;
}

static void lists(void)
{
	_cleanup_writer_ struct pack_writer list = { .bytes = NULL }, remembered = { .bytes = NULL };
	struct admission admission = { .header = header_of(1), .flags = ADMISSION_LOCKED, .count = 1, .bridge_count = 1 };
	struct admitted host = { admission.header.id, 1 };
	struct locks locks = { .count = 1, .locks[0] = { .generation = 1, .flags = ADMISSION_LOCKED, .cidr_count = 1 } };

	must(admission_build(&host, 1, list_node, NULL, &admission.root), "list");
	must(admission_encode(&admission, &list), "admission");
	payload("fuzz_doc_payload", "admission", 0, false, &list);
	must(prefix_parse("100.64.0.0/10", &locks.locks[0].cidrs[0]), "locks");
	must(locks_encode(&locks, &remembered), "locks");
	payload("fuzz_doc_payload", "locks", 0, false, &remembered);
}

static void heads(void)
{
	_cleanup_writer_ struct pack_writer head_bytes = { .bytes = NULL }, have = { .bytes = NULL };
	struct head head = { .header = header_of(3), .count = 3 };

	head.host = head.header.id;
	head.entries[0] = entry_of(DOC_keyset, 1);
	head.entries[1] = entry_of(DOC_host, 2);
	head.entries[2] = entry_of(DOC_network, 3);
	must(head_encode(&head, &head_bytes), "head");
	payload("fuzz_doc_payload", "head", 0, false, &head_bytes);
	must(have_encode(head.entries, 3, &have), "have");
	payload("fuzz_doc_payload", "have", 0, false, &have);
}

static void signed_online(void)
{
	_cleanup_writer_ struct pack_writer keyset_bytes = { .bytes = NULL }, envelope = { .bytes = NULL };
	_cleanup_writer_ struct pack_writer network_bytes = { .bytes = NULL }, host_bytes = { .bytes = NULL };
	struct fuzz_actor root = fuzz_actor();
	struct keyset keyset = { .header = header_of(1), .name = "prod", .count = 1, .keys[0].usage = KEY_ONLINE };
	struct network_document network = { .header = header_of(1), .name = "mesh", .cidr_count = 2, .mtu = 1380, .keepalive = 25, .count = 2 };
	static struct host_document host;

	keyset.header.id = keyset.header.deployment;
	memcpy(keyset.root, root.key, KEY_BYTES);
	must(keyset_encode(&keyset, &keyset_bytes), "keyset");
	payload("fuzz_doc_payload", "keyset", 0, false, &keyset_bytes);
	must(envelope_sign(DOC_keyset, keyset_bytes.bytes, keyset_bytes.n, root.secret, &envelope), "envelope");
	payload("fuzz_doc_payload", "envelope", 0, false, &envelope);
	must(prefix_parse("100.64.0.0/10", &network.cidrs[0]), "network");
	must(prefix_parse("fd00::/64", &network.cidrs[1]), "network");
	must(network_document_encode(&network, &network_bytes), "network");
	payload("fuzz_doc_payload", "network", 0, false, &network_bytes);
	lists();
	host = (struct host_document){ .header = header_of(1), .name = "web-1", .network_count = 1 };
	host.networks[0].address_count = 1;
	must(prefix_parse("100.64.0.1", &host.networks[0].addresses[0]), "host");
	must(host_document_encode(&host, &host_bytes), "host");
	payload("fuzz_doc_payload", "host", 0, false, &host_bytes);
}

static void signed_by_host(void)
{
	_cleanup_writer_ struct pack_writer registered = { .bytes = NULL }, received = { .bytes = NULL }, departed = { .bytes = NULL };
	struct fuzz_actor actor = fuzz_actor();
	struct registration registration = { .header = header_of(9), .listen_port = 51820, .backend = "kernel", .version = "0", .address_count = 1 };
	struct head_entry entries[] = { entry_of(DOC_host, 2), entry_of(DOC_network, 3) };
	struct receipt receipt = {
		.header = header_of(9), .outcome = OUTCOME_refused, .code = "overlap", .reason = "why", .count = 2, .entries = entries, .peers = 5
	};

	memcpy(registration.statement.host_key, actor.key, KEY_BYTES);
	must(statement_sign(&registration.statement, &registration.header.deployment, actor.secret), "statement");
	must(endpoint_parse("192.0.2.1:51820", &registration.addresses[0]), "registration");
	must(registration_encode(&registration, &registered), "registration");
	payload("fuzz_doc_host", "registration", 0, true, &registered);
	must(receipt_encode(&receipt, &received), "receipt");
	payload("fuzz_doc_host", "receipt", 1, true, &received);
	must(departure_encode(&receipt.header, actor.key, &departed), "departure");
	payload("fuzz_doc_host", "departure", 2, true, &departed);
}

/* -- Tries -------------------------------------------------------------------------------------------------------------------------------- */

static void put_blob(struct pack_writer *out, const struct pack_writer *bytes)
{
	uint8_t length[4] = { 0, 0, (uint8_t)(bytes->n >> 8), (uint8_t)bytes->n };

	pack_put_raw(out, length, sizeof(length));
	pack_put_raw(out, bytes->bytes, bytes->n);
}

static struct peer peer_of(uint8_t number)
{
	struct peer peer = { .statement.counter = number, .address_count = 1, .endpoint_count = 1 };
	struct hash key;

	hash_of(&number, 1, &key);
	memcpy(peer.statement.host_key, key.b, KEY_BYTES);
	must(prefix_parse("100.64.0.1", &peer.addresses[0]), "peer");
	must(endpoint_parse("192.0.2.1:51820", &peer.endpoints[0]), "peer");
	return peer;
}

static int keep_node(const struct hash *name, const void *bytes, size_t n, void *arg)
{
	(void)name;
	((struct pack_writer *)arg)->n = 0;
	pack_put_raw(arg, bytes, n);
	return 0;
}

/* The bytes of a trie's one leaf. */
static struct pack_writer leaf_of(uint8_t from, uint8_t to)
{
	_cleanup_(trie_free) struct trie *trie = NULL;
	struct pack_writer leaf = { .bytes = NULL };
	struct hash root;

	must(trie_new(&trie), "trie");
	for (uint8_t i = from; i < to; i++) {
		struct peer peer = peer_of(i);

		must(trie_put(trie, &peer), "trie");
	}
	must(trie_commit(trie, keep_node, &leaf, &root), "trie");
	return leaf;
}

/* A branch whose children are the nodes of these numbers, as fuzz_doc_trie looks them up; 0: none. */
static struct pack_writer branch_of(const uint8_t *children)
{
	struct pack_writer branch = { .bytes = NULL };

	pack_put_array(&branch, 2);
	pack_put_u64(&branch, 1);
	pack_put_array(&branch, TRIE_FANOUT);
	for (unsigned i = 0; i < TRIE_FANOUT; i++) {
		uint8_t name[HASH_BYTES] = { children[i] };

		pack_put_bytes(&branch, name, children[i] ? HASH_BYTES : 0);
	}
	return branch;
}

static void tries(void)
{
	_cleanup_writer_ struct pack_writer two_leaves = { .bytes = NULL }, split = { .bytes = NULL };
	_cleanup_writer_ struct pack_writer one = leaf_of(1, 5), other = leaf_of(3, 8);
	uint8_t children[TRIE_FANOUT] = { 0 };

	put_blob(&two_leaves, &one);
	put_blob(&two_leaves, &other);
	payload("fuzz_doc_trie", "leaves", 0, false, &two_leaves);

	/* The old root is a leaf of ten, the new one a branch over ten leaves of one peer each. */
	_cleanup_writer_ struct pack_writer all = leaf_of(1, 11);
	put_blob(&split, &all);
	for (uint8_t i = 1; i < 11; i++) {
		struct peer peer = peer_of(i);
		struct hash place;

		host_id_of(peer.statement.host_key, &peer.host);
		trie_place(&peer.host, &place);
		children[trie_digit(place.b, 0)] = (uint8_t)(1 + i); /* of several under one child, the last */
	}
	_cleanup_writer_ struct pack_writer branch = branch_of(children);
	put_blob(&split, &branch);
	for (uint8_t i = 1; i < 11; i++) {
		_cleanup_writer_ struct pack_writer leaf = leaf_of(i, (uint8_t)(i + 1));

		put_blob(&split, &leaf);
	}
	payload("fuzz_doc_trie", "split", 0, false, &split);
}

/* -- Journals ------------------------------------------------------------------------------------------------------------------------------- */

static void put_record(struct pack_writer *out, uint8_t kind, const void *body, size_t n)
{
	uint8_t head[3] = { kind, (uint8_t)(n >> 8), (uint8_t)n };

	pack_put_raw(out, head, sizeof(head));
	pack_put_raw(out, body, n);
}

static void journals(void)
{
	_cleanup_writer_ struct pack_writer log = { .bytes = NULL }, one = { .bytes = NULL }, two = { .bytes = NULL };
	struct head_entry entries[] = { entry_of(DOC_host, 2), entry_of(DOC_network, 3) };

	must(have_encode(entries, 1, &one), "have");
	must(have_encode(entries, 2, &two), "have");
	put_record(&log, 1, "first blob", 10);
	put_record(&log, 2, one.bytes, one.n);
	put_record(&log, 3, one.bytes, one.n);
	payload("fuzz_netd_journal", "committed", 1, true, &log);
	put_record(&log, 1, "second blob", 11);
	put_record(&log, 2, two.bytes, two.n);
	payload("fuzz_netd_journal", "interrupted", 1, true, &log);
	seed("fuzz_netd_journal", "raw", "\0", 1, "\1\0\0\0\2ab", 7);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		(void)fprintf(stderr, "Usage: fuzzseeds FOLDER\n");
		return EXIT_FAILURE;
	}
	corpus = argv[1];
	frames();
	heads();
	signed_online();
	signed_by_host();
	tries();
	journals();
	return EXIT_SUCCESS;
}
