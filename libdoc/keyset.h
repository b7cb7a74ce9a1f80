/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which keys may sign which documents. Signed by the root key, which stays offline.
 *
 * Payload: [header, name, root key, [[key, usage, not after] ...]]. The root key is the one that verifies the *next* keyset: a rotation
 * is a keyset that names the new root and is signed by old and new. header.id is the deployment's id again, organization is zero.
 */
#pragma once

#include "libdoc/envelope.h"

#define KEYSET_KEYS_MAX 32

enum key_usage {
	KEY_ONLINE = 1 << 0,   /* heads, networks, hosts: signd's */
	KEY_OPERATOR = 1 << 1, /* admission lists of locked networks, shell grants */
};

struct keyset {
	struct document_header header;
	char name[NAME_BYTES_MAX + 1]; /* of the deployment, for people */
	uint8_t root[KEY_BYTES];
	unsigned count;
	struct {
		uint8_t key[KEY_BYTES];
		uint32_t usage;
		uint64_t not_after; /* Unix seconds; 0: no end. Stops new signatures (signd), never a running config. */
	} keys[KEYSET_KEYS_MAX];
};

/** Encode the payload, to be signed with envelope_sign(DOC_keyset). @return 0; -ENOMEM; -EMSGSIZE; -EINVAL */
_must_check_ int keyset_encode(const struct keyset *keyset, struct pack_writer *payload);

/**
 * Verify and decode.
 * @param root the pinned root: a signature by it is needed, and one by the root that the keyset names
 * @return 0; -EKEYREJECTED; -EBADMSG; -EMSGSIZE
 */
_must_check_ int keyset_open(const void *bytes, size_t n, const uint8_t root[static KEY_BYTES], struct keyset *keyset);

/**
 * Verify an envelope with whatever key of the keyset may sign for this usage.
 * @return 0; -EKEYREJECTED
 */
_must_check_ int keyset_verify(const struct keyset *keyset, const struct envelope *envelope, enum key_usage usage);
