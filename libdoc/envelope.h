/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one form of everything that is signed.
 *
 * An envelope is msgpack [type, payload, [[key id, signature] ...]]: type a string, payload a binary, one to four Ed25519 signatures
 * (RFC 8032) over the DSSE v1 pre-authentication encoding of type and payload
 * (https://github.com/secure-systems-lab/dsse/blob/master/protocol.md). A key id is a hint of 8 bytes, the head of the key itself.
 * Nothing outside the signature is acted on: verify first, then parse. A document's name is the hash of its envelope.
 *
 * Every payload is an array that begins with the header [deployment, organization, id, epoch, generation, issued].
 */
#pragma once

#include "libipc/types.h"
#include "libipc/pack.h"

#define ENVELOPE_SIGNATURES_MAX 4
#define ENVELOPE_BYTES_MAX 16000 /* so that one fits a frame */
#define KEY_HINT_BYTES 8

/* D(name, number, who signs) */
#define DOCUMENT_TYPES(D)                                                                       \
	D(keyset, 1, "root")               /* which keys may sign what; the epoch */            \
	D(head, 2, "online key")           /* what is current for one host */                   \
	D(network, 3, "online key")        /* manifest of a network: ranges, tunnel, trie root */ \
	D(host, 4, "online key")           /* addresses and networks of one host */             \
	D(registration, 5, "host key")     /* a host's WireGuard key, transport key, endpoints */ \
	D(receipt, 6, "host key")          /* what a host did with what it was offered */       \
	D(departure, 7, "host key")        /* a host leaves */ \
	D(admission, 8, "operator key")    /* who may be a peer in a locked network */ \
	D(cosign, 9, "operator key")       /* an operator stands for a change that signd would not sign alone */

enum document_type {
#define D(name, number, signer) DOC_##name = (number),
	DOCUMENT_TYPES(D)
#undef D
};

/** "loopback/head/1" and so on, as it stands in the envelope; NULL if there is no such type */
const char *document_type_name(enum document_type type);

struct document_header {
	struct id deployment;
	struct id organization; /* zero where a document belongs to none */
	struct id id;           /* of the object that the document describes */
	uint32_t epoch;
	uint64_t generation;
	uint64_t issued; /* Unix seconds, for people; no decision rests on it */
};

struct envelope {
	enum document_type type;
	struct view payload;
	unsigned signature_count;
	struct {
		const uint8_t *hint;      /* KEY_HINT_BYTES */
		const uint8_t *signature; /* SIGNATURE_BYTES */
	} signatures[ENVELOPE_SIGNATURES_MAX];
};

/**
 * Take an envelope apart without looking into the payload.
 * @param envelope points into bytes
 * @return 0; -EBADMSG not an envelope, or of a type nobody knows; -EMSGSIZE longer than ENVELOPE_BYTES_MAX
 */
_must_check_ int envelope_open(const void *bytes, size_t n, struct envelope *envelope);

/** Has this key signed? @return 0; -EKEYREJECTED no signature by it, or a wrong one */
_must_check_ int envelope_verify(const struct envelope *envelope, const uint8_t key[static KEY_BYTES]);

/**
 * Sign a payload.
 * @param out receives the whole envelope, appended
 * @return 0; -EMSGSIZE; -ENOMEM
 */
_must_check_ int envelope_sign(enum document_type type, const void *payload, size_t n, const uint8_t secret[static SECRET_KEY_BYTES],
			       struct pack_writer *out);
/** Append a further signature of the same payload (rotation of the root): writes a new envelope to out. */
_must_check_ int envelope_add_signature(const void *bytes, size_t n, const uint8_t secret[static SECRET_KEY_BYTES],
					struct pack_writer *out);

/** Read and write the header within a payload. */
void document_header_read(struct pack_cursor *payload, struct document_header *header);
void document_header_write(struct pack_writer *payload, const struct document_header *header);

/** Newer than: epoch first, then generation. */
bool document_newer(const struct document_header *a, const struct document_header *b);
