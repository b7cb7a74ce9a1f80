/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as RFC 9421 wants them signed, against a base that is written out here. */
#include <sodium.h>

#include "fetchd/sign_request.h"
#include "tests/unit/unit.h"

static const char body[] = "{\"hello\": \"world\"}";
#define DIGEST "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:" /* RFC 9530, of this body */
#define PARAMS                                                                                                            \
	"(\"@method\" \"@path\" \"content-digest\");created=1700000000;keyid=\"000102030405060708090a0b0c0d0e0f\";"       \
	"nonce=\"AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA==\";alg=\"ed25519\";tag=\"loopback-agent\""

static struct request_facts facts_of(const char *path)
{
	struct request_facts facts = {
		.method = "POST", .path = path, .body = { (const uint8_t *)body, sizeof(body) - 1 }, .created = 1700000000
	};

	for (uint8_t i = 0; i < ID_BYTES; i++)
		facts.host.b[i] = i;
	return facts;
}

START_TEST(the_digest_is_that_of_the_rfc)
{
	char digest[64];

	content_digest((struct view){ (const uint8_t *)body, sizeof(body) - 1 }, digest, sizeof(digest));
	ck_assert_str_eq(digest, DIGEST);
	content_digest((struct view){ NULL, 0 }, digest, sizeof(digest));
	ck_assert_str_eq(digest, "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
}
END_TEST

START_TEST(the_headers_carry_what_was_signed)
{
	static const char base[] = "\"@method\": POST\n\"@path\": /v1/agent/poll\n\"content-digest\": " DIGEST "\n\"@signature-params\": " PARAMS;
	struct request_facts facts = facts_of("/v1/agent/poll");
	uint8_t public_key[KEY_BYTES], secret[SECRET_KEY_BYTES], seed[crypto_sign_SEEDBYTES] = { 1 }, signature[SIGNATURE_BYTES];
	struct request_signature headers;
	size_t n, length;

	ck_assert_int_eq(crypto_sign_seed_keypair(public_key, secret, seed), 0);
	ck_assert_int_eq(sign_request(&facts, secret, &headers), 0);
	ck_assert_str_eq(headers.digest, "Content-Digest: " DIGEST);
	ck_assert_str_eq(headers.input, "Signature-Input: loopback=" PARAMS);
	ck_assert_int_eq(strncmp(headers.signature, "Signature: loopback=:", 21), 0);
	length = strlen(headers.signature);
	ck_assert_int_eq(headers.signature[length - 1], ':');
	ck_assert_int_eq(sodium_base642bin(signature, sizeof(signature), headers.signature + 21, length - 22, NULL, &n, NULL,
					   sodium_base64_VARIANT_ORIGINAL),
			 0);
	ck_assert_uint_eq(n, sizeof(signature));
	ck_assert_int_eq(crypto_sign_verify_detached(signature, (const unsigned char *)base, sizeof(base) - 1, public_key), 0);
}
END_TEST

START_TEST(a_path_too_long_is_refused)
{
	char path[2000] = "";
	struct request_facts facts = facts_of(path);
	struct request_signature headers;
	uint8_t secret[SECRET_KEY_BYTES] = { 0 };

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(sign_request(&facts, secret, &headers), -EMSGSIZE);
}
END_TEST

UNIT_MAIN("fetchd sign", the_digest_is_that_of_the_rfc, the_headers_carry_what_was_signed, a_path_too_long_is_refused)
