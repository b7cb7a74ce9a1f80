/* SPDX-License-Identifier: Apache-2.0 */
/* forge's root and signd: keys by name, keysets, envelopes. */
#pragma once

#include "tests/tools/lib/forge.h"

static struct named_key *key_named(struct forge *forge, const char *name)
{
	uint8_t seed[crypto_sign_SEEDBYTES];
	struct named_key *key;

	for (unsigned i = 0; i < forge->key_count; i++)
		if (strcmp(forge->keys[i].name, name) == 0)
			return &forge->keys[i];
	if (forge->key_count == KEYS_MAX || strlen(name) >= sizeof(key->name))
		return NULL;
	key = &forge->keys[forge->key_count++];
	(void)snprintf(key->name, sizeof(key->name), "%s", name);
	derive(forge, name, 0, seed, sizeof(seed));
	(void)crypto_sign_seed_keypair(key->public, key->secret, seed);
	return key;
}

static struct id deployment_named(const struct forge *forge, const char *name)
{
	struct id id;

	derive(forge, name, 1, id.b, sizeof(id.b));
	return id;
}

/* Sign a payload, by whatever key and under whatever type the lies say, keep it, and name it. */
static int publish_payload(struct forge *forge, enum document_type type, const struct lies *lies,
			   const struct pack_writer *payload, struct hash *name)
{
	CLEANUP(pack_writer_free) struct pack_writer envelope = { .bytes = NULL };
	const struct named_key *key = key_named(forge, lies->signer[0] ? lies->signer : "online");
	int r = key ? envelope_sign(lies->type ? lies->type : type, payload->bytes, payload->n, key->secret, &envelope) : -ENOMEM;

	if (r < 0)
		return wrong(forge, "cannot sign a %s: %s", document_type_name(type), strerror(-r));
	hash_of(envelope.bytes, envelope.n, name);
	return blobs_put(forge->blobs, name, envelope.bytes, envelope.n);
}

static int lies_read(struct forge *forge, struct words *words, struct lies *lies)
{
	const char *signer = word_of(words, "sign"), *type = word_of(words, "type"), *deployment = word_of(words, "deployment");

	lies->set_generation = word_of(words, "generation") != NULL;
	lies->generation = number_of(words, "generation", 0);
	lies->set_epoch = word_of(words, "epoch") != NULL;
	lies->epoch = (uint32_t)number_of(words, "epoch", 0);
	lies->set_count = word_of(words, "count") != NULL;
	lies->count = number_of(words, "count", 0);
	(void)snprintf(lies->signer, sizeof(lies->signer), "%s", signer ? signer : "");
	(void)snprintf(lies->deployment, sizeof(lies->deployment), "%s", deployment ? deployment : "");
	lies->type = 0;
	for (unsigned i = 1; type && document_type_name((enum document_type)i); i++)
		if (strcmp(document_type_name((enum document_type)i) + strlen("loopback/"), type) == 0)
			lies->type = (enum document_type)i;
	return type && !lies->type ? wrong(forge, "type: expected one such as network/1, found %s", type) : 0;
}

/* The header of a document's next publication. Its generation is one up unless a lie names another, which sets nothing back. */
static struct document_header header_next(const struct forge *forge, const struct id *id, const struct lies *lies,
					  uint64_t *generation)
{
	uint64_t next = lies->set_generation ? lies->generation : *generation + 1;

	if (next > *generation)
		*generation = next;
	return (struct document_header){
		.deployment = lies->deployment[0] ? deployment_named(forge, lies->deployment) : forge->keyset.header.deployment,
		.id = *id,
		.epoch = lies->set_epoch ? lies->epoch : forge->keyset.header.epoch,
		.generation = next,
		.issued = clock_of(forge),
	};
}

/* clock [ahead=SECONDS] [behind=SECONDS]: of what is dated from now on */
static int cmd_clock(struct forge *forge, struct words *words)
{
	forge->clock = (int64_t)number_of(words, "ahead", 0) - (int64_t)number_of(words, "behind", 0);
	return 0;
}

static int keyset_keys(struct forge *forge, const char *names, uint32_t usage, uint64_t ends, struct keyset *keyset)
{
	char name[32];

	while (list_next(&names, name, sizeof(name))) {
		const struct named_key *key = key_named(forge, name);

		if (!key || keyset->count == KEYSET_KEYS_MAX)
			return wrong(forge, "too many keys");
		memcpy(keyset->keys[keyset->count].key, key->public, KEY_BYTES);
		keyset->keys[keyset->count].usage = usage;
		keyset->keys[keyset->count++].not_after = ends;
	}
	return 0;
}

static int keyset_sign(struct forge *forge, const struct pack_writer *payload, const char *signers, struct pack_writer *envelope)
{
	char name[32];
	int r = 0;

	while (r == 0 && list_next(&signers, name, sizeof(name))) {
		CLEANUP(pack_writer_free) struct pack_writer before = *envelope;
		const struct named_key *key = key_named(forge, name);

		*envelope = (struct pack_writer){ .bytes = NULL };
		if (!key)
			return -ENOMEM;
		r = before.n ? envelope_add_signature(before.bytes, before.n, key->secret, envelope)
			     : envelope_sign(DOC_keyset, payload->bytes, payload->n, key->secret, envelope);
	}
	return r;
}

/*
 * keyset [root=root] [by=root[,...]] [online=online[,...]] [operator=...] [epoch=] [generation=] [deployment=here]
 *        [ends=SECONDS]: when its keys end, in Unix time
 */
static int cmd_keyset(struct forge *forge, struct words *words)
{
	CLEANUP(pack_writer_free) struct pack_writer payload = { .bytes = NULL }, envelope = { .bytes = NULL };
	const char *root_name = word_of(words, "root"), *by = word_of(words, "by"), *online = word_of(words, "online");
	const char *deployment = word_of(words, "deployment");
	uint64_t ends = number_of(words, "ends", 0);
	const struct named_key *root = key_named(forge, root_name ? root_name : "root");
	struct keyset keyset = { .name = "forged" };
	int r;

	keyset.header.deployment = keyset.header.id = deployment_named(forge, deployment ? deployment : "here");
	keyset.header.epoch = (uint32_t)number_of(words, "epoch", forge->keyset.header.epoch ? forge->keyset.header.epoch : 1);
	keyset.header.generation = number_of(words, "generation", forge->keyset.header.generation + 1);
	keyset.header.issued = clock_of(forge);
	if (!root)
		return wrong(forge, "too many keys");
	memcpy(keyset.root, root->public, KEY_BYTES);
	r = keyset_keys(forge, online ? online : "online", KEY_ONLINE, ends, &keyset);
	if (r == 0)
		r = keyset_keys(forge, word_of(words, "operator"), KEY_OPERATOR, ends, &keyset);
	if (r == 0)
		r = keyset_encode(&keyset, &payload);
	if (r == 0)
		r = keyset_sign(forge, &payload, by ? by : root->name, &envelope);
	if (r < 0)
		return wrong(forge, "cannot make a keyset: %s", strerror(-r));
	pack_writer_free(&forge->keyset_envelope);
	forge->keyset_envelope = envelope;
	envelope = (struct pack_writer){ .bytes = NULL };
	forge->keyset = keyset;
	hash_of(forge->keyset_envelope.bytes, forge->keyset_envelope.n, &forge->keyset_name);
	put_number(&forge->answer, "generation", keyset.header.generation);
	put_number(&forge->answer, "epoch", keyset.header.epoch);
	put_hex(&forge->answer, "root", root->public, KEY_BYTES);
	return 0;
}
