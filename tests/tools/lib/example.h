/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the worked example of docs/design/formats.md: a network of one host, from three fixed secrets to the name of its manifest. Everything in it is
 * made by libdoc; what the page says of it has to be what libdoc does.
 */
#pragma once

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "libdoc/network.h"
#include "libdoc/trie.h"

#define EXAMPLE_PAGE "docs/design/formats.md"
#define EXAMPLE_HEADING "## A worked example\n"
#define EXAMPLE_LINE 48 /* bytes a line */

struct example {
	uint8_t host_key[KEY_BYTES], host_secret[SECRET_KEY_BYTES];
	uint8_t online_key[KEY_BYTES], online_secret[SECRET_KEY_BYTES];
	struct id deployment;
	struct peer peer;
	struct hash place, leaf_name, name;
	struct pack_writer leaf, payload, envelope;
	struct network_document network;
};

static inline void example_free(struct example *example)
{
	pack_writer_free(&example->leaf);
	pack_writer_free(&example->payload);
	pack_writer_free(&example->envelope);
}

static inline int example_keep(const struct hash *name, const void *bytes, size_t n, void *arg)
{
	struct example *example = arg;

	example->leaf_name = *name;
	pack_put_raw(&example->leaf, bytes, n);
	return example->leaf.error;
}

static inline int example_trie(struct example *example)
{
	_cleanup_(trie_free) struct trie *trie = NULL;
	int r = trie_new(&trie);

	if (r == 0)
		r = trie_put(trie, &example->peer);
	return r < 0 ? r : trie_commit(trie, example_keep, example, &example->network.root);
}

static inline int example_peer(struct example *example)
{
	struct peer *peer = &example->peer;
	uint8_t private[KEY_BYTES];
	int r;

	memset(private, 3, sizeof(private));
	memcpy(peer->statement.host_key, example->host_key, KEY_BYTES);
	(void)crypto_scalarmult_base(peer->statement.wg_key, private); /* which clamps it */
	peer->statement.counter = 1;
	peer->address_count = peer->endpoint_count = 1;
	host_id_of(example->host_key, &peer->host);
	trie_place(&peer->host, &example->place);
	r = prefix_parse("100.64.0.1", &peer->addresses[0]);
	if (r == 0)
		r = endpoint_parse("192.0.2.1:51820", &peer->endpoints[0]);
	return r < 0 ? r : statement_sign(&peer->statement, &example->deployment, example->host_secret);
}

static inline int example_manifest(struct example *example)
{
	struct network_document *network = &example->network;
	int r;

	network->header = (struct document_header){ .deployment = example->deployment, .epoch = 1, .generation = 7, .issued = 1700000000 };
	memset(network->header.id.b, 0x22, ID_BYTES);
	(void)snprintf(network->name, sizeof(network->name), "mesh");
	network->cidr_count = 1;
	network->mtu = 1380;
	network->keepalive = 25;
	network->count = 1;
	r = prefix_parse("100.64.0.0/10", &network->cidrs[0]);
	if (r == 0)
		r = network_document_encode(network, &example->payload);
	if (r == 0)
		r = envelope_sign(DOC_network, example->payload.bytes, example->payload.n, example->online_secret, &example->envelope);
	if (r == 0)
		hash_of(example->envelope.bytes, example->envelope.n, &example->name);
	return r;
}

static inline int example_make(struct example *example)
{
	uint8_t seed[crypto_sign_SEEDBYTES];
	int r;

	*example = (struct example){ .leaf.bytes = NULL };
	memset(seed, 1, sizeof(seed));
	(void)crypto_sign_seed_keypair(example->host_key, example->host_secret, seed);
	memset(seed, 2, sizeof(seed));
	(void)crypto_sign_seed_keypair(example->online_key, example->online_secret, seed);
	memset(example->deployment.b, 0x11, ID_BYTES);
	r = example_peer(example);
	if (r == 0)
		r = example_trie(example);
	return r < 0 ? r : example_manifest(example);
}

static inline void example_hex(FILE *out, const char *what, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	(void)fprintf(out, "\n%s\n\n", what);
	for (; n > 0; at += EXAMPLE_LINE) {
		size_t part = n < EXAMPLE_LINE ? n : EXAMPLE_LINE;
		char text[2 * EXAMPLE_LINE + 1];

		(void)fprintf(out, "    %s\n", hex_format(at, part, text));
		n -= part;
	}
}

/** Write the section. @return 0; negative errno */
static inline int example_write(FILE *out)
{
	__attribute__((cleanup(example_free))) struct example example;
	int r = example_make(&example);

	if (r < 0)
		return r;
	(void)fprintf(out, EXAMPLE_HEADING "\nA network of one host, written by `tests/tools/formatsdoc.c`; a unit test makes it anew and compares. The host key is made from a seed of "
			   "32 bytes 01, the online key from 32 bytes 02, the WireGuard private key is 32 bytes 03, clamped (RFC 7748, 5). The deployment's id is 16 bytes 11, the "
			   "network's 16 bytes 22, the organization's zero.\n");
	example_hex(out, "Host key:", example.host_key, KEY_BYTES);
	example_hex(out, "The host's id:", example.peer.host.b, ID_BYTES);
	example_hex(out, "Its place in tries:", example.place.b, HASH_BYTES);
	example_hex(out, "The statement's signature, over `DSSEv1 20 loopback/statement/1 88 ` and `[deployment id, host key, WireGuard key, 1]`:",
		    example.peer.statement.signature, SIGNATURE_BYTES);
	example_hex(out, "The leaf with this one peer, 100.64.0.1 at 192.0.2.1:51820, which is the whole trie:",
		    example.leaf.bytes, example.leaf.n);
	example_hex(out, "Its name, the root hash:", example.leaf_name.b, HASH_BYTES);
	example_hex(out, "The manifest's payload: epoch 1, generation 7, issued 1700000000, name `mesh`, range 100.64.0.0/10, MTU 1380, keepalive 25 s, no flags, one peer:",
		    example.payload.bytes, example.payload.n);
	example_hex(out, "The online key:", example.online_key, KEY_BYTES);
	example_hex(out, "The manifest's envelope, signed by it:", example.envelope.bytes, example.envelope.n);
	example_hex(out, "The manifest's name:", example.name.b, HASH_BYTES);
	return 0;
}
