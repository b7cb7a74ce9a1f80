/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP Message Signatures (RFC 9421), the one profile that our agents use (docs/design/agent-api.md): label "loopback", components
 * "@method" "@path" "content-digest", Ed25519 by the transport key that the host's registration certifies.
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "controld/duplicates.h"

#define PARAMETERS_MAX 512
#define NONCE_MIN 16
#define NONCE_MAX 64
#define COMPONENTS "(\"@method\" \"@path\" \"content-digest\")"

struct signature_input {
	char text[PARAMETERS_MAX]; /* as it came, from the components on: a line of what is signed */
	struct id key;
	uint64_t created;
	char nonce[NONCE_MAX + 1];
};

static int bad(struct agent_call *call, const char *what)
{
	return problem_set(&call->problem, 401, "signature", "The request's signature does not verify: %s.", what);
}

/* The value of ;name="value" or ;name=value. @return its length; 0 if it is missing or too long */
static size_t parameter(const char *text, const char *name, char *out, size_t size)
{
	char key[32];
	const char *at;
	size_t n;

	(void)snprintf(key, sizeof(key), ";%s=", name);
	at = strstr(text, key);
	if (!at)
		return 0;
	at += strlen(key);
	if (*at == '"') {
		at++;
		n = strcspn(at, "\"");
		if (at[n] != '"')
			return 0;
	} else {
		n = strcspn(at, ";");
	}
	if (n == 0 || n >= size)
		return 0;
	memcpy(out, at, n);
	out[n] = '\0';
	return n;
}

static int input_parse(struct agent_call *call, const char *header, struct signature_input *input)
{
	static const char label[] = "loopback=";
	char value[80];
	char *end;

	if (!header || strncmp(header, label, strlen(label)) != 0)
		return bad(call, "there is no Signature-Input with the label loopback");
	header += strlen(label);
	if (strlen(header) >= sizeof(input->text) || strncmp(header, COMPONENTS ";", strlen(COMPONENTS) + 1) != 0 || strchr(header, ','))
		return bad(call, "Signature-Input does not cover \"@method\" \"@path\" \"content-digest\", and these alone");
	(void)snprintf(input->text, sizeof(input->text), "%s", header);
	header += strlen(COMPONENTS);
	if (!parameter(header, "alg", value, sizeof(value)) || strcmp(value, "ed25519") != 0)
		return bad(call, "alg is not ed25519");
	if (!parameter(header, "tag", value, sizeof(value)) || strcmp(value, "loopback-agent") != 0)
		return bad(call, "tag is not loopback-agent");
	if (parameter(header, "nonce", input->nonce, sizeof(input->nonce)) < NONCE_MIN)
		return bad(call, "the nonce is missing, too short or too long");
	if (!parameter(header, "keyid", value, sizeof(value)) || id_parse(value, &input->key) < 0)
		return bad(call, "keyid is not a host's id");
	if (!parameter(header, "created", value, sizeof(value)))
		return bad(call, "created is missing");
	errno = 0;
	input->created = strtoull(value, &end, 10);
	return errno || *end || value[0] < '0' || value[0] > '9' ? bad(call, "created is not a time") : 0;
}

static int digest_check(struct agent_call *call, const char *header)
{
	uint8_t digest[crypto_hash_sha256_BYTES];
	char wanted[64] = "sha-256=:";
	size_t at = strlen(wanted);

	(void)crypto_hash_sha256(digest, call->request->body, call->request->n);
	(void)sodium_bin2base64(wanted + at, sizeof(wanted) - at, digest, sizeof(digest), sodium_base64_VARIANT_ORIGINAL);
	at = strlen(wanted);
	wanted[at] = ':';
	wanted[at + 1] = '\0';
	return header && strcmp(header, wanted) == 0 ? 0 : bad(call, "Content-Digest is not that of the body");
}

static int bytes_check(struct agent_call *call, const struct signature_input *input, const uint8_t key[static KEY_BYTES])
{
	static const char label[] = "loopback=:";
	const char *header = request_header(call->request, "Signature");
	const char *digest = request_header(call->request, "Content-Digest");
	uint8_t signature[SIGNATURE_BYTES];
	char base[1024];
	const char *end = NULL;
	size_t n = 0;
	int length;

	if (digest_check(call, digest) < 0)
		return -EREMOTEIO;
	if (!header || strncmp(header, label, strlen(label)) != 0)
		return bad(call, "there is no Signature with the label loopback");
	header += strlen(label);
	if (sodium_base642bin(signature, sizeof(signature), header, strlen(header), NULL, &n, &end, sodium_base64_VARIANT_ORIGINAL) != 0 ||
	    n != sizeof(signature) || strcmp(end, ":") != 0)
		return bad(call, "Signature is not 64 bytes in base64");
	/* RFC 9421, 2.5 */
	length = snprintf(base, sizeof(base), "\"@method\": %s\n\"@path\": %s\n\"content-digest\": %s\n\"@signature-params\": %s",
			  call->request->method, call->request->path, digest, input->text);
	if (length < 0 || (size_t)length >= sizeof(base))
		return bad(call, "its parameters are too long");
	if (crypto_sign_verify_detached(signature, (const uint8_t *)base, (unsigned long long)length, key) != 0)
		return bad(call, "it was not made with the transport key that this host's registration names");
	return 0;
}

static int clock_check(struct agent_call *call, uint64_t created)
{
	uint64_t now = (uint64_t)time(NULL);

	if (created + CLOCK_WINDOW_S >= now && created <= now + CLOCK_WINDOW_S && created >= call->controld->started)
		return 0;
	return problem_set(&call->problem, 401, "clock",
			   "The request was made at %llu, here it is %llu: the host's clock is off. See the Date of this answer and ask again.",
			   (unsigned long long)created, (unsigned long long)now);
}

int signature_check(struct agent_call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct signature_input input;
	uint8_t key[KEY_BYTES];
	bool retired;
	int r = input_parse(call, request_header(call->request, "Signature-Input"), &input);

	if (r < 0)
		return r;
	r = store_first(call->controld->store, &rows, "SELECT transport_key, host_key, state FROM hosts WHERE id = $1", "d", &input.key);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT || strcmp(row_text(&rows, 2), "left") == 0)
		return problem_set(&call->problem, 401, "unknown-host", "This host is not enrolled here.");
	row_fixed(&rows, 0, key, KEY_BYTES);
	row_fixed(&rows, 1, call->host_key, KEY_BYTES);
	retired = strcmp(row_text(&rows, 2), "retired") == 0;
	r = clock_check(call, input.created);
	if (r == 0)
		r = bytes_check(call, &input, key);
	if (r < 0)
		return r;
	call->host = input.key;
	machine_mark(input.nonce, call->mark);
	r = caller_nonce(call->controld, &call->host, input.created, input.nonce, strlen(input.nonce));
	if (r == -EALREADY)
		return problem_set(&call->problem, 401, "replay", "This request was made before. Ask again with a new nonce.");
	if (r == 0 && retired)
		return problem_set(&call->problem, 410, "retired", "This host was retired by an operator.");
	return r;
}
