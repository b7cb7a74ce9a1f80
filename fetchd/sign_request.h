/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP Message Signatures (RFC 9421) with ed25519 (3.3.6), and Content-Digest (RFC 9530), as docs/design/agent-api.md has them. Pure.
 */
#pragma once

#include "libipc/types.h"

#define REQUEST_NONCE_BYTES 16
#define REQUEST_MARK_BYTES 12

/* What is signed. */
struct request_facts {
	const char *method;
	const char *path; /* as the request line carries it, without a query */
	struct view body;
	struct id host;      /* the key id */
	uint64_t created;    /* Unix seconds, by the server's clock as far as it is known */
	uint8_t nonce[REQUEST_NONCE_BYTES];
	uint8_t mark[REQUEST_MARK_BYTES]; /* of this process: it tells two machines with one identity apart */
};

/* Header lines, terminated. */
struct request_signature {
	char digest[80];     /* Content-Digest: ... */
	char input[320];     /* Signature-Input: ... */
	char signature[160]; /* Signature: ... */
};

/**
 * Write the signature base (RFC 9421, 2.5): what the server rebuilds.
 * @param params receives the value of Signature-Input after "loopback="; @param digest the value of Content-Digest
 * @return 0; -EMSGSIZE a path too long for room
 */
_must_check_ int signature_base(const struct request_facts *facts, const char *digest, char *params, size_t params_room, char *base,
				size_t base_room);

/** The value of Content-Digest for a body; out holds 64 bytes. */
void content_digest(struct view body, char *out, size_t room);

/** Sign a request. @return 0; -EMSGSIZE */
_must_check_ int sign_request(const struct request_facts *facts, const uint8_t secret[static SECRET_KEY_BYTES],
			      struct request_signature *headers);
