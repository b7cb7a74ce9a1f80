/* SPDX-License-Identifier: Apache-2.0 */
/* Any setting of a proxy: taken whole or refused with a reason, and a list of exceptions is read to its end. */
#include <curl/curl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fetchd/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	CLEANUP(proxy_close) struct proxy proxy = { .url = "" };
	_cleanup_free_ char *text = strndup((const char *)bytes, n);
	bool taken;

	if (!text)
		abort();
	taken = proxy_parse(&proxy, text, "test") == 0;
	if (taken != (proxy.url[0] != '\0') || taken == (proxy.error[0] != '\0'))
		abort();
	/* Nothing that ends a header line, nor what was before the @. */
	if (strpbrk(proxy.url, "\r\n@") || (proxy.authorization && strpbrk(proxy.authorization->data, "\r\n")))
		abort();
	(void)snprintf(proxy.except, sizeof(proxy.except), "%s", text);
	(void)proxy_list_names(text, "192.0.2.1");
	(void)proxy_list_names(text, "[2001:db8::1]");
	(void)proxy_list_names("example", text);
	(void)proxy_passes_by(&proxy, text);
	return 0;
}
