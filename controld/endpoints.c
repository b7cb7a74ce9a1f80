/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/endpoints.h"

#include <string.h>

static unsigned from_seen(const char *seen, uint16_t port, struct endpoint *endpoint)
{
	struct prefix address;

	if (!seen || port == 0 || prefix_parse(seen, &address) < 0)
		return 0;
	*endpoint = (struct endpoint){ .family = address.family, .port = port };
	memcpy(endpoint->b, address.b, sizeof(endpoint->b));
	return 1;
}

static unsigned from_reported(const char *reported, struct endpoint endpoints[static ENDPOINTS_MAX])
{
	struct endpoint first[2] = { 0 }; /* IPv6, IPv4 */
	char text[ENDPOINTS_TEXT];
	char *rest = NULL;
	unsigned count = 0;

	if (!reported || strlen(reported) >= sizeof(text))
		return 0;
	memcpy(text, reported, strlen(reported) + 1);
	for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		struct endpoint endpoint;

		if (endpoint_parse(word, &endpoint) < 0)
			continue;
		if (first[endpoint.family == 4].family == 0)
			first[endpoint.family == 4] = endpoint;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(first); i++)
		if (first[i].family != 0)
			endpoints[count++] = first[i];
	return count;
}

unsigned endpoints_choose(const char *operator_set, const char *reported, const char *seen, uint16_t listen_port,
			  struct endpoint endpoints[static ENDPOINTS_MAX])
{
	unsigned count;

	if (operator_set && endpoint_parse(operator_set, &endpoints[0]) == 0)
		return 1;
	count = from_reported(reported, endpoints);
	return count ? count : from_seen(seen, listen_port, &endpoints[0]);
}

const char *endpoints_join(const struct registration *registration, char out[static ENDPOINTS_TEXT])
{
	char text[ENDPOINT_TEXT];
	size_t at = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < registration->address_count; i++) {
		int n = snprintf(out + at, ENDPOINTS_TEXT - at, "%s%s", at ? " " : "",
				 endpoint_format(&registration->addresses[i], text));

		if (n < 0 || (size_t)n >= ENDPOINTS_TEXT - at)
			break;
		at += (size_t)n;
	}
	return out;
}
