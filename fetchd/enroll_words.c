/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/enroll_words.h"

#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

/* ID.SECRET of printable words: no space or control character that could end a header line. */
static bool token_plausible(const char *token)
{
	const char *dot = strchr(token, '.');

	if (!dot || dot == token || dot[1] == '\0' || strchr(dot + 1, '.'))
		return false;
	for (const char *c = token; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-_.+/=", *c))
			return false;
	return true;
}

/* A DNS label (RFC 1123, 2.1), lower case. */
static bool host_name_plausible(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > NAME_BYTES_MAX || name[0] == '-' || name[n - 1] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static int copy(struct view text, char *out, size_t room)
{
	if (text.n >= room)
		return -EINVAL;
	(void)text_copy(out, room, text);
	return 0;
}

static int words_check(const struct msg_enroll *message, struct state *wanted, char token[static TOKEN_BYTES_MAX + 1], const char **why)
{
	_cleanup_free_ char *ca = NULL;
	char url[URL_BYTES_MAX + 1], clean[URL_BYTES_MAX + 1], name[NAME_BYTES_MAX + 1];
	int r;

	*why = "a word is too long";
	if (copy(message->url, url, sizeof(url)) < 0 || copy(message->token, token, TOKEN_BYTES_MAX + 1) < 0 ||
	    copy(message->host_name, name, sizeof(name)) < 0)
		return -EINVAL;
	r = link_url_check(url, clean, why);
	if (r < 0)
		return r;
	*why = "the token is not of the form ID.SECRET: was it copied whole?";
	if (!token_plausible(token))
		return -EINVAL;
	*why = "the host name is not a DNS label: lower case letters, digits and '-', at most 63, not beginning or ending with '-'";
	if (!host_name_plausible(name))
		return -EINVAL;
	*why = "not enough memory";
	if (message->ca.n) {
		ca = strndup((const char *)message->ca.p, message->ca.n);
		if (!ca)
			return -ENOMEM;
		*why = "the CA file holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)";
		if (!strstr(ca, "-----BEGIN CERTIFICATE-----"))
			return -EINVAL;
	}
	return state_set(wanted, clean, ca, token, name);
}

int enroll_words_check(const struct msg_enroll *message, struct state *wanted, const char **why)
{
	char token[TOKEN_BYTES_MAX + 1];
	int r = words_check(message, wanted, token, why);

	sodium_memzero(token, sizeof(token));
	return r;
}

void enroll_refusal_text(const struct link_answer *answer, char *out, size_t room)
{
	static const struct {
		const char *code, *text;
	} refusals[] = {
		{ "token-unknown", "the control plane does not know this token: was it copied whole, and is the URL that of the control plane that made it?" },
		{ "token-expired", "the token has expired: make a new one (loopbackctl token create)" },
		{ "token-revoked", "the token was revoked: make a new one (loopbackctl token create)" },
		{ "token-used", "the token was good for one host and has been used: make a new one (loopbackctl token create)" },
		{ "token-workspace", "this host belongs to another workspace than the token: use a token of its own workspace, or `loopback leave` first" },
		{ "wrong-root", "this host trusts the root key of another deployment: the token and the URL do not belong together" },
		{ "address-exhausted", "a network of the token has no free address left: retire hosts or use another network" },
		{ "host-retired", "this host was retired and cannot come back: `loopback leave --forget-keys` makes a new identity, then enrol again" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		if (strcmp(refusals[i].code, answer->code) != 0)
			continue;
		(void)snprintf(out, room, "%s (%s: %s)", refusals[i].text, answer->code, answer->text);
		return;
	}
	(void)snprintf(out, room, "the control plane refused the enrolment: %s (HTTP status %u%s%s)", answer->text, answer->status,
		       answer->code[0] ? ", " : "", answer->code);
}
