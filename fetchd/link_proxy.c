/* SPDX-License-Identifier: Apache-2.0 */
/* What went wrong on the way, where that way has a proxy. */
#include <string.h>

#include "fetchd/link_internal.h"

/* RFC 9110, 15.5.8 */
#define PROXY_AUTHENTICATION_REQUIRED 407

static long number_of(const struct transfer *transfer, CURLINFO info)
{
	long number = 0;

	(void)curl_easy_getinfo(transfer->easy, info, &number);
	return number;
}

bool link_failed_at_proxy(const struct transfer *transfer)
{
	/* A connection that stood already has been let through long ago. */
	bool stood = number_of(transfer, CURLINFO_NUM_CONNECTS) == 0 && number_of(transfer, CURLINFO_REQUEST_SIZE) > 0;
	long answered = number_of(transfer, CURLINFO_HTTP_CONNECTCODE);

	return transfer->proxied && !stood && answered / 100 != 2;
}

void link_describe_proxy(const struct transfer *transfer, const char *what, char *out, size_t room)
{
	const struct proxy *proxy = transfer->link->proxy;
	long answered = number_of(transfer, CURLINFO_HTTP_CONNECTCODE);
	const char *there = strstr(transfer->url, "://") + 3;

	if (proxy->error[0])
		(void)snprintf(out, room, "%s", proxy->error);
	else if (answered == PROXY_AUTHENTICATION_REQUIRED && proxy->authorization)
		(void)snprintf(out, room, "the proxy %s does not take the name and password it was given (HTTP status 407)",
			       proxy->shown);
	else if (answered == PROXY_AUTHENTICATION_REQUIRED)
		(void)snprintf(out, room,
			       "the proxy %s wants a name and a password (HTTP status 407): "
			       "https_proxy=http://NAME:PASSWORD@HOST:PORT in /etc/loopback/fetchd.env",
			       proxy->shown);
	else if (answered != 0)
		(void)snprintf(
			out, room,
			"the proxy %s refuses a connection to %.128s (HTTP status %ld): whoever runs it must allow CONNECT there",
			proxy->shown, there, answered);
	else
		(void)snprintf(out, room, "%.90s cannot be reached: no way through the proxy %s: %.120s", there, proxy->shown,
			       what);
}
