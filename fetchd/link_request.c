/* SPDX-License-Identifier: Apache-2.0 */
/* A request as it leaves: what curl is told, and the headers that say who asks. */
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "fetchd/link_internal.h"
#include "fetchd/sign_request.h"

#define CONNECT_S 20       /* name, TCP and TLS together */
#define TOTAL_S 400        /* for everything, whatever happens: the longest answer at link.c's slowest rate, and some */
#define UPLOAD_BYTES 16384 /* curl's buffer; that for downloads is as small by default */

static int header_add(struct transfer *transfer, const char *line)
{
	struct curl_slist *longer = curl_slist_append(transfer->headers, line);

	if (!longer)
		return -ENOMEM;
	transfer->headers = longer;
	return 0;
}

void link_headers_drop(struct transfer *transfer)
{
	/* One of them may carry the token. */
	for (struct curl_slist *line = transfer->headers; line; line = line->next)
		sodium_memzero(line->data, strlen(line->data));
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
}

static int headers_token(struct transfer *transfer, const char *token)
{
	char line[TOKEN_BYTES_MAX + 32];
	int r;

	(void)snprintf(line, sizeof(line), "Authorization: Bearer %s", token);
	r = header_add(transfer, line);
	sodium_memzero(line, sizeof(line));
	return r;
}

static int headers_signature(struct transfer *transfer)
{
	struct request_facts facts = {
		.method = transfer->body ? "POST" : "GET",
		.path = transfer->path,
		.body = { transfer->body, transfer->body_n },
		.host = transfer->host,
		.created = (uint64_t)((int64_t)time(NULL) - transfer->link->ahead_s),
	};
	struct request_signature lines;
	int r;

	randombytes_buf(facts.nonce, sizeof(facts.nonce));
	memcpy(facts.mark, transfer->link->mark, sizeof(facts.mark));
	r = sign_request(&facts, transfer->link->secret, &lines);
	if (r == 0)
		r = header_add(transfer, lines.digest);
	if (r == 0)
		r = header_add(transfer, lines.input);
	if (r == 0)
		r = header_add(transfer, lines.signature);
	return r;
}

int link_headers_make(struct transfer *transfer, const char *token)
{
	int r = header_add(transfer, "Accept: application/msgpack");

	if (r == 0 && transfer->body)
		r = header_add(transfer, "Content-Type: application/msgpack");
	if (r == 0)
		r = header_add(transfer, "Expect:"); /* no 100-continue: our bodies are small */
	if (r == 0 && transfer->proof == LINK_TOKEN)
		r = headers_token(transfer, token);
	if (r == 0 && transfer->proof == LINK_SIGNED)
		r = headers_signature(transfer);
	return r;
}

/* curl_easy_setopt() fails for want of memory, or for an option that this libcurl was built without; either ends the request. */
#define SET(option, value)                                                           \
	do {                                                                         \
		if (curl_easy_setopt(easy, (option), (value)) != CURLE_OK)           \
			return -ENOMEM;                                              \
	} while (0)

static int options_trust(CURL *easy, const char *url, const char *ca)
{
	bool plain = strncmp(url, "http://", 7) == 0;

	SET(CURLOPT_PROTOCOLS_STR, plain ? "http" : "https");
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (ca) {
		struct curl_blob blob = { .data = (void *)(uintptr_t)ca, .len = strlen(ca), .flags = CURL_BLOB_COPY };

		/* The pinned authorities instead of the system's, not beside them: curl would go on reading its default folder. */
		SET(CURLOPT_CAPATH, NULL);
		SET(CURLOPT_CAINFO, NULL);
		SET(CURLOPT_CAINFO_BLOB, &blob);
	}
	return 0;
}

/* curl is told in any case: left alone it would look at the environment. */
static int options_proxy(CURL *easy, const struct transfer *transfer)
{
	const struct proxy *proxy = transfer->link->proxy;

	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_PROXY, transfer->proxied ? proxy->url : "");
	if (!transfer->proxied)
		return 0;
	SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L); /* a proxy's Date is not the server's */
	SET(CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE); /* our token is not the proxy's, its password not the server's */
	SET(CURLOPT_PROXYHEADER, proxy->authorization);
	if (proxy->ca) {
		struct curl_blob blob = { .data = proxy->ca, .len = strlen(proxy->ca), .flags = CURL_BLOB_COPY };

		SET(CURLOPT_PROXY_CAPATH, NULL);
		SET(CURLOPT_PROXY_CAINFO, NULL);
		SET(CURLOPT_PROXY_CAINFO_BLOB, &blob);
	}
	return 0;
}

static int options_bounds(CURL *easy, const struct transfer *transfer)
{
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* a request that is given up does not wait for its name to be resolved */
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
	SET(CURLOPT_TIMEOUT, (long)transfer->patience_s + TOTAL_S);
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)transfer->answer_max);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BYTES);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, 30L);
	SET(CURLOPT_TCP_KEEPINTVL, 10L);
	return 0;
}

int link_options_set(struct transfer *transfer, const char *ca)
{
	CURL *easy = transfer->easy;
	char url[URL_BYTES_MAX + sizeof(transfer->path)];
	int r;

	curl_easy_reset(easy);
	(void)snprintf(url, sizeof(url), "%s%s", transfer->url, transfer->path);
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PRIVATE, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->curl_text);
	SET(CURLOPT_USERAGENT, "loopback-fetchd/" LOOPBACK_VERSION);
	SET(CURLOPT_HTTPHEADER, transfer->headers);
	SET(CURLOPT_HEADERFUNCTION, link_header_arrived);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_WRITEFUNCTION, link_body_arrived);
	SET(CURLOPT_WRITEDATA, transfer);
	if (transfer->body) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)transfer->body_n);
		SET(CURLOPT_POSTFIELDS, transfer->body);
	}
	transfer->proxied = !proxy_passes_by(transfer->link->proxy, transfer->url);
	r = options_trust(easy, transfer->url, ca);
	if (r == 0)
		r = options_proxy(easy, transfer);
	return r < 0 ? r : options_bounds(easy, transfer);
}
