/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words that documents are made of: identifiers, keys, addresses. Fixed sizes, no ownership.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libipc/cleanup.h"

#define ID_BYTES 16
#define KEY_BYTES 32        /* Ed25519 and X25519 public keys */
#define SECRET_KEY_BYTES 64 /* Ed25519 secret key as libsodium keeps it: seed, public key */
#define SIGNATURE_BYTES 64
#define HASH_BYTES 32 /* BLAKE2b-256; `b2sum -l 256` computes the same */

#define PEERS_MAX 65536      /* peers of one host over all its networks */
#define NETWORKS_MAX 64      /* networks of one host */
#define CIDRS_MAX 4          /* ranges of one network */
#define BRIDGES_MAX 16       /* networks that one network is bridged with */
#define ADDRESSES_MAX 4      /* overlay addresses of one host in one network */
#define ENDPOINTS_MAX 2      /* one IPv6, one IPv4 */
#define NAME_BYTES_MAX 63    /* names of hosts and networks: a DNS label */

/** Object identifier. A host's is computed from its key (host_id_of()); all others are random. Printed as 32 hex digits. */
struct id {
	uint8_t b[ID_BYTES];
};

struct hash {
	uint8_t b[HASH_BYTES];
};

/** Bytes that somebody else owns. */
struct view {
	const uint8_t *p;
	size_t n;
};

/** An address range; an address is a range of full length. Bits beyond length are zero. family 0 means none. */
struct prefix {
	uint8_t family; /* 4 or 6 */
	uint8_t length; /* bits */
	uint8_t b[16];  /* network byte order; 4 or 16 bytes count, the rest is zero */
};

struct endpoint {
	uint8_t family; /* 4 or 6; 0: none */
	uint16_t port;  /* host byte order */
	uint8_t b[16];  /* network byte order */
};

#define ID_TEXT (2 * ID_BYTES + 1)
#define HASH_TEXT (2 * HASH_BYTES + 1)
#define PREFIX_TEXT 50   /* INET6_ADDRSTRLEN and "/128" */
#define ENDPOINT_TEXT 56 /* brackets, colon, port */
#define KEY_BASE64_TEXT 45

bool id_equal(const struct id *a, const struct id *b);
bool id_is_zero(const struct id *id);
bool hash_equal(const struct hash *a, const struct hash *b);
bool prefix_equal(const struct prefix *a, const struct prefix *b);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

/** @return bits of an address of this family: 32 or 128; 0 for a family that is neither */
unsigned family_bits(uint8_t family);

/** Is inner wholly within outer (and of its family)? */
bool prefix_contains(const struct prefix *outer, const struct prefix *inner);
bool prefix_overlaps(const struct prefix *a, const struct prefix *b);

/** Well formed: known family, length within it, no bit set beyond it, bytes beyond the family zero. */
bool prefix_valid(const struct prefix *prefix);

/** Parse "100.64.0.0/10", "fd00::/64" or a bare address. @return 0; -EINVAL, also when bits beyond the length are set */
_must_check_ int prefix_parse(const char *text, struct prefix *prefix);
const char *prefix_format(const struct prefix *prefix, char out[static PREFIX_TEXT]);

/** Parse "192.0.2.1:51820" or "[2001:db8::1]:51820". @return 0; -EINVAL */
_must_check_ int endpoint_parse(const char *text, struct endpoint *endpoint);
const char *endpoint_format(const struct endpoint *endpoint, char out[static ENDPOINT_TEXT]);

/** Lower case hexadecimal; out holds 2 * n + 1 bytes. */
const char *hex_format(const void *bytes, size_t n, char *out);
/** Parse exactly 2 * n hexadecimal digits. @return 0; -EINVAL */
_must_check_ int hex_parse(const char *text, void *bytes, size_t n);

const char *id_format(const struct id *id, char out[static ID_TEXT]);
_must_check_ int id_parse(const char *text, struct id *id);

/** WireGuard's customary form of a key: standard base64 with padding, 44 characters. */
const char *key_format(const uint8_t key[static KEY_BYTES], char out[static KEY_BASE64_TEXT]);
_must_check_ int key_parse(const char *text, uint8_t key[static KEY_BYTES]);

/** BLAKE2b-256 of bytes: how every blob is named. */
void hash_of(const void *bytes, size_t n, struct hash *hash);

/** A host's identifier: the first 16 bytes of BLAKE2b-256 of its Ed25519 public key. Nobody can give a host another's id. */
void host_id_of(const uint8_t host_key[static KEY_BYTES], struct id *id);
