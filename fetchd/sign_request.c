/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/sign_request.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

/* Structured Fields (RFC 8941, 3.3.5) want standard base64 with padding. */
#define BASE64 sodium_base64_VARIANT_ORIGINAL

void content_digest(struct view body, char *out, size_t room)
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	char text[sodium_base64_ENCODED_LEN(crypto_hash_sha256_BYTES, BASE64)];

	(void)crypto_hash_sha256(hash, body.p, body.n);
	sodium_bin2base64(text, sizeof(text), hash, sizeof(hash), BASE64);
	(void)snprintf(out, room, "sha-256=:%s:", text);
}

int signature_base(const struct request_facts *facts, const char *digest, char *params, size_t params_room, char *base, size_t base_room)
{
	char nonce[sodium_base64_ENCODED_LEN(REQUEST_NONCE_BYTES, BASE64)];
	char mark[sodium_base64_ENCODED_LEN(REQUEST_MARK_BYTES, BASE64)];
	char host[ID_TEXT];
	int n;

	sodium_bin2base64(nonce, sizeof(nonce), facts->nonce, REQUEST_NONCE_BYTES, BASE64);
	sodium_bin2base64(mark, sizeof(mark), facts->mark, REQUEST_MARK_BYTES, BASE64);
	n = snprintf(params, params_room,
		     "(\"@method\" \"@path\" \"content-digest\");created=%" PRIu64 ";keyid=\"%s\";nonce=\"%s.%s\";alg=\"ed25519\";tag=\"loopback-agent\"",
		     facts->created, hex_format(facts->host.b, ID_BYTES, host), mark, nonce);
	if (n < 0 || (size_t)n >= params_room)
		return -EMSGSIZE;
	n = snprintf(base, base_room, "\"@method\": %s\n\"@path\": %s\n\"content-digest\": %s\n\"@signature-params\": %s", facts->method,
		     facts->path, digest, params);
	return n < 0 || (size_t)n >= base_room ? -EMSGSIZE : 0;
}

int sign_request(const struct request_facts *facts, const uint8_t secret[static SECRET_KEY_BYTES], struct request_signature *headers)
{
	char digest[64], params[288], base[1024];
	char text[sodium_base64_ENCODED_LEN(SIGNATURE_BYTES, BASE64)];
	uint8_t signature[SIGNATURE_BYTES];
	int r;

	content_digest(facts->body, digest, sizeof(digest));
	r = signature_base(facts, digest, params, sizeof(params), base, sizeof(base));
	if (r < 0)
		return r;
	(void)crypto_sign_detached(signature, NULL, (const unsigned char *)base, strlen(base), secret);
	sodium_bin2base64(text, sizeof(text), signature, sizeof(signature), BASE64);
	(void)snprintf(headers->digest, sizeof(headers->digest), "Content-Digest: %s", digest);
	(void)snprintf(headers->input, sizeof(headers->input), "Signature-Input: loopback=%s", params);
	(void)snprintf(headers->signature, sizeof(headers->signature), "Signature: loopback=:%s:", text);
	return 0;
}
