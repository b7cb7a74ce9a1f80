/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "fetchd/answer.h"
#include "fetchd/link_internal.h"
#include "libipc/log.h"

/* X509_V_ERR_* of OpenSSL, as CURLINFO_SSL_VERIFYRESULT gives them. */
#define CERTIFICATE_NOT_YET_VALID 9
#define CERTIFICATE_EXPIRED 10

int link_error_of(const struct transfer *transfer, CURLcode code)
{
	if (transfer->failure)
		return transfer->failure;
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return -EKEYREJECTED;
	case CURLE_FILESIZE_EXCEEDED:
		return -EMSGSIZE;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
		return -EHOSTUNREACH;
	default:
		return -EPROTO;
	}
}

const char *link_error_code(const struct transfer *transfer, CURLcode code, int error)
{
	long verify = 0;

	(void)curl_easy_getinfo(transfer->easy, CURLINFO_SSL_VERIFYRESULT, &verify);
	if (link_failed_at_proxy(transfer))
		return LINK_CODE_PROXY;
	if (error == -EKEYREJECTED)
		return verify == CERTIFICATE_NOT_YET_VALID || verify == CERTIFICATE_EXPIRED ? LINK_CODE_CERTIFICATE_TIME : LINK_CODE_CERTIFICATE;
	if (error == -ETIMEDOUT)
		return LINK_CODE_SILENT;
	if (error == -EHOSTUNREACH)
		return code == CURLE_COULDNT_RESOLVE_HOST ? LINK_CODE_RESOLVE : LINK_CODE_CONNECT;
	return code == CURLE_SSL_CONNECT_ERROR ? LINK_CODE_TLS : LINK_CODE_PROTOCOL;
}

/* libcurl says how long it tried ("after 3 ms"). The same trouble has the same words here, so that it is logged once. */
static void drop_duration(char *text)
{
	char *after = strstr(text, " after ");
	size_t digits = after ? strspn(after + 7, "0123456789") : 0;
	char *rest;

	if (digits == 0)
		return;
	rest = after + 7 + digits;
	if (strncmp(rest, " ms", 3) == 0)
		rest += 3;
	else if (strncmp(rest, " milliseconds", 13) == 0)
		rest += 13;
	else
		return;
	memmove(after, rest, strlen(rest) + 1);
}

void link_describe_failure(const struct transfer *transfer, CURLcode code, int error, char *out, size_t room)
{
	const char *what = transfer->curl_text[0] ? transfer->curl_text : curl_easy_strerror(code);
	char clean[LINK_TEXT_BYTES / 2 - 20];
	long verify = 0;

	(void)curl_easy_getinfo(transfer->easy, CURLINFO_SSL_VERIFYRESULT, &verify);
	(void)log_clean(clean, sizeof(clean), what, strlen(what));
	drop_duration(clean);
	if (link_failed_at_proxy(transfer))
		link_describe_proxy(transfer, clean, out, room);
	else if (error == -EMSGSIZE)
		(void)snprintf(out, room, "%.128s%s: the answer is longer than the %zu bytes allowed; it was dropped", transfer->url, transfer->path,
			       transfer->answer_max);
	else if (error == -EKEYREJECTED && (verify == CERTIFICATE_NOT_YET_VALID || verify == CERTIFICATE_EXPIRED))
		(void)snprintf(out, room, "%.128s: its certificate is %s by this host's clock (%lld seconds since 1970): check the clock, then the certificate",
			       transfer->url, verify == CERTIFICATE_EXPIRED ? "expired" : "not valid yet", (long long)time(NULL));
	else if (error == -EKEYREJECTED)
		(void)snprintf(out, room, "%.128s: its certificate is not from an authority that this host believes: %s%s", transfer->url, clean,
			       transfer->proxied ? " (a proxy that opens TLS on the way has a CA of its own)" : "");
	else
		(void)snprintf(out, room, "%.128s: %s", transfer->url, clean);
}

void link_describe_status(const struct transfer *transfer, struct link_answer *answer)
{
	if (error_answer_open(answer->body, answer->n, answer->code, sizeof(answer->code), answer->text, sizeof(answer->text)) == 0)
		return;
	(void)snprintf(answer->code, sizeof(answer->code), LINK_CODE_HTTP);
	if (answer->status >= 300 && answer->status < 400)
		(void)snprintf(answer->text, sizeof(answer->text),
			       "%.128s%s: HTTP status %u, a redirect, which is never followed: give the address that it leads to", transfer->url,
			       transfer->path, answer->status);
	else
		(void)snprintf(answer->text, sizeof(answer->text), "%.128s%s: HTTP status %u without a reason: is this a control plane?",
			       transfer->url, transfer->path, answer->status);
}
