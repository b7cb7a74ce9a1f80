/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "fetchd/link.h"
#include "fetchd/state.h"

struct url_parts {
	CURLU *url;
	char *scheme, *host, *path, *user, *password, *query, *fragment;
};

static void parts_free(struct url_parts *parts)
{
	curl_free(parts->scheme);
	curl_free(parts->host);
	curl_free(parts->path);
	curl_free(parts->user);
	curl_free(parts->password);
	curl_free(parts->query);
	curl_free(parts->fragment);
	curl_url_cleanup(parts->url);
}

static bool parts_of(const char *text, struct url_parts *parts)
{
	parts->url = curl_url();
	if (!parts->url || curl_url_set(parts->url, CURLUPART_URL, text, 0) != CURLUE_OK)
		return false;
	(void)curl_url_get(parts->url, CURLUPART_SCHEME, &parts->scheme, 0);
	(void)curl_url_get(parts->url, CURLUPART_HOST, &parts->host, 0);
	(void)curl_url_get(parts->url, CURLUPART_PATH, &parts->path, 0);
	(void)curl_url_get(parts->url, CURLUPART_USER, &parts->user, 0);
	(void)curl_url_get(parts->url, CURLUPART_PASSWORD, &parts->password, 0);
	(void)curl_url_get(parts->url, CURLUPART_QUERY, &parts->query, 0);
	(void)curl_url_get(parts->url, CURLUPART_FRAGMENT, &parts->fragment, 0);
	return parts->scheme && parts->host && parts->path;
}

/* An address, not a name: "localhost" can be made to mean another host. */
static bool is_loopback(const char *host)
{
	struct in_addr address;

	if (strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

int link_url_check(const char *text, char *clean, const char **why)
{
	CLEANUP(parts_free) struct url_parts parts = { 0 };
	size_t n = strlen(text);

	*why = "expected https://HOST or https://HOST:PORT";
	if (n == 0 || n > URL_BYTES_MAX || strpbrk(text, " \t\r\n") || !parts_of(text, &parts))
		return -EINVAL;
	if (strcmp(parts.scheme, "https") != 0 && strcmp(parts.scheme, "http") != 0)
		return -EINVAL;
	*why = "a path, a query, a fragment or a user in the address is not supported; expected https://HOST or https://HOST:PORT";
	if (strcmp(parts.path, "/") != 0 || parts.user || parts.password || parts.query || parts.fragment)
		return -EINVAL;
	*why = "plain http is accepted for loopback addresses (127.0.0.0/8, [::1]) alone; use https";
	if (strcmp(parts.scheme, "http") == 0 && !is_loopback(parts.host))
		return -EINVAL;
	if (text[n - 1] == '/')
		n--;
	memcpy(clean, text, n);
	clean[n] = '\0';
	return 0;
}
