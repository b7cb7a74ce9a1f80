/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents for tests: keys that come from a number, peers, payloads that are signed, and a store of nodes by name.
 */
#pragma once

#include <sodium.h>

#include "libdoc/head.h"
#include "libdoc/host.h"
#include "libdoc/keyset.h"
#include "libdoc/network.h"
#include "libdoc/pae.h"
#include "libdoc/trie.h"
#include "tests/unit/unit.h"

/** Somebody who signs. */
struct actor {
	uint8_t key[KEY_BYTES];
	uint8_t secret[SECRET_KEY_BYTES];
};

/** The same number, the same key pair. */
static inline struct actor actor_of(uint64_t number)
{
	struct dice dice = dice_of(number);
	uint8_t seed[crypto_sign_SEEDBYTES];
	struct actor actor;

	dice_fill(&dice, seed, sizeof(seed));
	ck_assert_int_eq(crypto_sign_seed_keypair(actor.key, actor.secret, seed), 0);
	return actor;
}

static inline struct id id_of(uint64_t number)
{
	struct dice dice = dice_of(number ^ 0x1d1d1d1d);
	struct id id;

	dice_fill(&dice, id.b, sizeof(id.b));
	return id;
}

static inline struct prefix prefix_of(const char *text)
{
	struct prefix prefix;

	ck_assert_int_eq(prefix_parse(text, &prefix), 0);
	return prefix;
}

static inline struct endpoint endpoint_of(const char *text)
{
	struct endpoint endpoint;

	ck_assert_int_eq(endpoint_parse(text, &endpoint), 0);
	return endpoint;
}

/** 100.64.0.0 plus a number. */
static inline struct prefix address_of_number(uint32_t number)
{
	return (struct prefix){ 4, 32, { 100, (uint8_t)(64 + (number >> 16)), (uint8_t)(number >> 8), (uint8_t)number } };
}

static inline struct document_header header_of(struct id deployment, struct id id, uint32_t epoch, uint64_t generation)
{
	return (struct document_header){
		.deployment = deployment, .id = id, .epoch = epoch, .generation = generation, .issued = 1700000000
	};
}

/** A peer that nobody vouches for, made without a single signature: tries do not look. Its address is 100.64.0.0 + number. */
static inline struct peer peer_unsigned(uint32_t number)
{
	struct dice dice = dice_of(number ^ 0x9ee5000000ULL);
	struct peer peer = { .statement.counter = 1, .address_count = 1, .addresses = { address_of_number(number) }, .endpoint_count = 1 };

	dice_fill(&dice, peer.statement.host_key, KEY_BYTES);
	dice_fill(&dice, peer.statement.wg_key, KEY_BYTES);
	dice_fill(&dice, peer.statement.signature, SIGNATURE_BYTES);
	peer.endpoints[0] = (struct endpoint){ 4, 51820, { 192, 0, (uint8_t)(number >> 8), (uint8_t)number } };
	host_id_of(peer.statement.host_key, &peer.host);
	return peer;
}

static inline void peer_vouch(struct peer *peer, const struct actor *host, const struct id *deployment)
{
	memcpy(peer->statement.host_key, host->key, KEY_BYTES);
	host_id_of(host->key, &peer->host);
	ck_assert_int_eq(statement_sign(&peer->statement, deployment, host->secret), 0);
}

/** The same, with a host key of its own and a statement that verifies. */
static inline struct peer peer_signed(uint32_t number, const struct id *deployment)
{
	struct actor host = actor_of(number ^ 0x4057000000ULL);
	struct peer peer = peer_unsigned(number);

	peer_vouch(&peer, &host, deployment);
	return peer;
}

/** Sign what a payload writer holds. The writer that comes back is the caller's. */
static inline struct pack_writer sealed(enum document_type type, const struct pack_writer *payload, const struct actor *by)
{
	struct pack_writer envelope = { .bytes = NULL };

	ck_assert_int_eq(payload->error, 0);
	ck_assert_int_eq(envelope_sign(type, payload->bytes, payload->n, by->secret, &envelope), 0);
	return envelope;
}

static inline struct keyset keyset_of(const struct actor *root, const struct actor *online, struct id deployment, uint64_t generation)
{
	struct keyset keyset = {
		.header = header_of(deployment, deployment, 1, generation), .name = "prod", .count = 1, .keys[0].usage = KEY_ONLINE
	};

	memcpy(keyset.root, root->key, KEY_BYTES);
	memcpy(keyset.keys[0].key, online->key, KEY_BYTES);
	return keyset;
}

/** A keyset, signed by one root and, if there is a second, by that too. */
static inline struct pack_writer keyset_sealed(const struct keyset *keyset, const struct actor *by, const struct actor *also_by)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct pack_writer once, twice = { .bytes = NULL };

	ck_assert_int_eq(keyset_encode(keyset, &payload), 0);
	once = sealed(DOC_keyset, &payload, by);
	if (!also_by)
		return once;
	ck_assert_int_eq(envelope_add_signature(once.bytes, once.n, also_by->secret, &twice), 0);
	pack_writer_free(&once);
	return twice;
}

/* -- A store of nodes ------------------------------------------------------------------------------------------------------------- */

struct stored {
	struct stored *next;
	struct hash name;
	size_t n;
	uint8_t bytes[];
};

#define STORE_BUCKETS 4096

struct store {
	struct stored *buckets[STORE_BUCKETS];
	size_t count, bytes;
	size_t lookups; /* that were asked for */
};

static inline struct stored **store_bucket(struct store *store, const struct hash *name)
{
	return &store->buckets[(name->b[0] | name->b[1] << 8) % STORE_BUCKETS];
}

static inline struct store *store_new(void)
{
	struct store *store = calloc(1, sizeof(*store));

	ck_assert_ptr_nonnull(store);
	return store;
}

static inline void store_free(struct store *store)
{
	for (size_t i = 0; i < STORE_BUCKETS; i++)
		while (store->buckets[i]) {
			struct stored *stored = store->buckets[i];

			store->buckets[i] = stored->next;
			free(stored);
		}
	free(store);
}
DEFINE_CLEANUP(struct store *, store_free)

static inline const struct stored *store_find(struct store *store, const struct hash *name)
{
	const struct stored *stored = *store_bucket(store, name);

	while (stored && !hash_equal(&stored->name, name))
		stored = stored->next;
	return stored;
}

/** A trie_emit_fn: keeps each node; arg is the store. */
static inline int store_emit(const struct hash *name, const void *bytes, size_t n, void *arg)
{
	struct store *store = arg;
	struct stored **bucket = store_bucket(store, name);
	struct stored *stored;

	if (store_find(store, name))
		return 0;
	stored = malloc(sizeof(*stored) + n);
	if (!stored)
		return -ENOMEM;
	stored->name = *name;
	stored->n = n;
	memcpy(stored->bytes, bytes, n);
	stored->next = *bucket;
	*bucket = stored;
	store->count++;
	store->bytes += n;
	return 0;
}

/** A trie_lookup_fn; arg is the store. */
static inline int store_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	struct store *store = arg;
	const struct stored *stored = store_find(store, name);

	store->lookups++;
	if (!stored)
		return -ENOENT;
	*bytes = (struct view){ stored->bytes, stored->n };
	return 0;
}
