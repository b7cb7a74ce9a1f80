/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A deployment in a test: a root, a signer, this host, networks with tries, and what netd keeps of them. Documents are built and signed here as
 * the control plane would, so that netd's checks see the real thing.
 */
#pragma once

#include "netd/mesh.h"
#include "tests/unit/documents.h"

#define WORLD_NETWORKS 4
#define FAMILY_4 (1U << 4)
#define FAMILY_6 (1U << 6)

struct world_network {
	struct network_document document; /* count and root are filled in by world_publish(), unless forged */
	struct trie *trie;
	bool forge_count, forge_root;
	bool member; /* the host document names it */
	struct host_network seat;
};

struct world {
	struct actor root, online;
	struct id deployment;
	struct state state; /* of this host; there is no folder behind it */
	struct actor host;
	struct blobs *blobs;
	struct owners *owners;
	unsigned network_count;
	struct world_network networks[WORLD_NETWORKS];
	struct host_document document;
	const struct actor *signer; /* of documents; the online key to begin with */
	unsigned count;             /* what world_publish() named, as a head would */
	struct head_entry entries[HEAD_ENTRIES_MAX];
	struct refusal refusal;
};

static inline int world_emit(const struct hash *name, const void *bytes, size_t n, void *arg)
{
	return blobs_put(((struct world *)arg)->blobs, name, bytes, n);
}

/** This host's own entry: its key, its address as a number. */
static inline struct peer world_self(const struct world *world, uint32_t address)
{
	struct peer self = peer_unsigned(address);

	memcpy(self.statement.wg_key, world->state.keys.public, KEY_BYTES);
	peer_vouch(&self, &world->host, &world->deployment);
	return self;
}

static inline struct peer world_peer(const struct world *world, uint32_t number)
{
	return peer_signed(number, &world->deployment);
}

static inline void world_put(struct world *world, unsigned network, const struct peer *peer)
{
	ck_assert_int_eq(trie_put(world->networks[network].trie, peer), 0);
}

static inline void world_take(struct world *world, unsigned network, const struct peer *peer)
{
	ck_assert_int_eq(trie_remove(world->networks[network].trie, &peer->host), 0);
}

/** One network more, with this host in it under this address. @return its number */
static inline unsigned world_network_add(struct world *world, uint32_t own_address)
{
	unsigned i = world->network_count++;
	struct world_network *network = &world->networks[i];
	struct peer self = world_self(world, own_address);

	network->document = (struct network_document){
		.header = header_of(world->deployment, id_of(1000 + i), 1, 1),
		.cidr_count = 1,
		.cidrs = { prefix_of("100.64.0.0/10") },
		.mtu = MTU_DEFAULT,
		.keepalive = KEEPALIVE_DEFAULT,
	};
	(void)snprintf(network->document.name, sizeof(network->document.name), "net-%u", i);
	ck_assert_int_eq(trie_new(&network->trie), 0);
	network->member = true;
	network->seat = (struct host_network){ network->document.header.id, 1, { address_of_number(own_address) } };
	world_put(world, i, &self);
	return i;
}

static inline struct world world_new(void)
{
	struct world world = { .root = actor_of(1), .online = actor_of(2), .host = actor_of(3), .deployment = id_of(4) };
	struct dice dice = dice_of(5);

	ck_assert_int_ge(sodium_init(), 0);
	world.state.folder = -1;
	memcpy(world.state.host_secret, world.host.secret, SECRET_KEY_BYTES);
	host_id_of(world.host.key, &world.state.host);
	dice_fill(&dice, world.state.keys.private, KEY_BYTES);
	ck_assert_int_eq(crypto_scalarmult_base(world.state.keys.public, world.state.keys.private), 0);
	world.state.keys.counter = 1;
	world.state.pinned = world.state.deployed = true;
	memcpy(world.state.root, world.root.key, KEY_BYTES);
	world.state.keyset = keyset_of(&world.root, &world.online, world.deployment, 1);
	ck_assert_int_eq(blobs_new(&world.blobs), 0);
	ck_assert_int_eq(owners_new(&world.owners), 0);
	world.document.header = header_of(world.deployment, world.state.host, 1, 1);
	(void)snprintf(world.document.name, sizeof(world.document.name), "web-1");
	return world;
}

static inline void world_end(struct world *world)
{
	for (unsigned i = 0; i < world->network_count; i++)
		trie_free(world->networks[i].trie);
	owners_free(world->owners);
	blobs_free(world->blobs);
}
#define _cleanup_world_ CLEANUP(world_end)

/** Sign a payload, keep the envelope, name it. */
static inline void world_name(struct world *world, enum document_type type, const struct document_header *header,
			      const struct pack_writer *payload)
{
	_cleanup_writer_ struct pack_writer envelope = sealed(type, payload, world->signer ? world->signer : &world->online);
	struct head_entry *entry = &world->entries[world->count++];

	*entry = (struct head_entry){ .type = type, .id = header->id, .epoch = header->epoch, .generation = header->generation };
	hash_of(envelope.bytes, envelope.n, &entry->hash);
	ck_assert_int_eq(blobs_put(world->blobs, &entry->hash, envelope.bytes, envelope.n), 0);
}

static inline void world_publish_network(struct world *world, struct world_network *network)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct hash root;

	ck_assert_int_eq(trie_commit(network->trie, world_emit, world, &root), 0);
	if (!network->forge_root)
		network->document.root = root;
	if (!network->forge_count)
		network->document.count = trie_count(network->trie);
	ck_assert_int_eq(network_document_encode(&network->document, &payload), 0);
	world_name(world, DOC_network, &network->document.header, &payload);
}

/** Sign everything as it is now: nodes and documents into blobs, their names into entries. */
static inline void world_publish(struct world *world)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };

	world->count = 0;
	world->document.network_count = 0;
	for (unsigned i = 0; i < world->network_count; i++)
		if (world->networks[i].member)
			world->document.networks[world->document.network_count++] = world->networks[i].seat;
	ck_assert_int_eq(host_document_encode(&world->document, &payload), 0);
	world_name(world, DOC_host, &world->document.header, &payload);
	for (unsigned i = 0; i < world->network_count; i++)
		if (world->networks[i].member)
			world_publish_network(world, &world->networks[i]);
}

/** The next generation of everything, published. */
static inline void world_republish(struct world *world)
{
	world->document.header.generation++;
	for (unsigned i = 0; i < world->network_count; i++)
		world->networks[i].document.header.generation++;
	world_publish(world);
}

/** mesh_open() of what was published. */
static inline int world_open(struct world *world, struct mesh **mesh)
{
	world->refusal.code[0] = '\0';
	return mesh_open(&world->state, world->blobs, NULL, world->entries, world->count, mesh, &world->refusal);
}

static inline int world_check(struct world *world, const struct mesh *old, const struct mesh *new)
{
	return mesh_check(&world->state, world->blobs, old, new, world->owners, NULL, NULL, &world->refusal);
}

/** Publish, open and check against what is in force. @return as mesh_check(); what is new is the caller's in *mesh if 0 */
static inline int world_accept(struct world *world, const struct mesh *old, struct mesh **mesh)
{
	_cleanup_(mesh_free) struct mesh *opened = NULL;
	int r;

	world_republish(world);
	r = world_open(world, &opened);
	if (r == 0)
		r = world_check(world, old, opened);
	if (r == 0)
		*mesh = TAKE_PTR(opened);
	return r;
}

#define ck_assert_refused(world, r, word)                                                                                       \
	do {                                                                                                                    \
		ck_assert_int_eq((r), -EBADMSG);                                                                                \
		ck_assert_str_eq((world)->refusal.code, (word));                                                                \
		ck_assert_str_ne((world)->refusal.reason, "");                                                                  \
	} while (0)

#define ck_assert_accepted(world, r) ck_assert_msg((r) == 0, "refused: %s: %s", (world)->refusal.code, (world)->refusal.reason)
