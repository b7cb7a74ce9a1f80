/* SPDX-License-Identifier: Apache-2.0 */
/* Which hosts are reached without the proxy. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "fetchd/proxy.h"
#include "libipc/types.h"

#define HOST_BYTES_MAX 255
#define SEPARATORS ", \t"

struct address {
	int family;
	uint8_t bytes[16];
	unsigned bits;
};

/* An address, alone, in brackets, or with /BITS. */
static bool address_of(const char *text, struct address *address)
{
	char word[INET6_ADDRSTRLEN + 8];
	size_t n = strlen(text);
	char *slash, *end;
	unsigned long bits;

	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (n == 0 || n >= sizeof(word))
		return false;
	memcpy(word, text, n);
	word[n] = '\0';
	slash = strchr(word, '/');
	if (slash)
		*slash = '\0';
	address->family = strchr(word, ':') ? AF_INET6 : AF_INET;
	address->bits = address->family == AF_INET ? 32 : 128;
	if (inet_pton(address->family, word, address->bytes) != 1)
		return false;
	if (!slash)
		return true;
	bits = strtoul(slash + 1, &end, 10);
	if (slash[1] < '0' || slash[1] > '9' || *end || bits > address->bits)
		return false;
	address->bits = (unsigned)bits;
	return true;
}

static bool address_within(const struct address *address, const struct address *range)
{
	unsigned whole = range->bits / 8, rest = range->bits % 8;

	if (address->family != range->family || memcmp(address->bytes, range->bytes, whole) != 0)
		return false;
	return rest == 0 || (address->bytes[whole] ^ range->bytes[whole]) >> (8 - rest) == 0;
}

/* "example.org" names itself and a.example.org, not anexample.org. */
static bool name_within(const char *host, const char *domain)
{
	size_t host_n = strlen(host), domain_n;

	domain += domain[0] == '.';
	domain_n = strlen(domain);
	if (domain_n > 0 && domain[domain_n - 1] == '.')
		domain_n--;
	if (host_n > 0 && host[host_n - 1] == '.')
		host_n--;
	if (domain_n == 0 || host_n < domain_n || strncasecmp(host + host_n - domain_n, domain, domain_n) != 0)
		return false;
	return host_n == domain_n || host[host_n - domain_n - 1] == '.';
}

bool proxy_list_names(const char *list, const char *host)
{
	struct address of_host, of_entry;
	bool host_is_address = address_of(host, &of_host);
	char entry[HOST_BYTES_MAX + 1];

	while (*list) {
		size_t n = strcspn(list, SEPARATORS);

		if (n > 0 && n < sizeof(entry)) {
			memcpy(entry, list, n);
			entry[n] = '\0';
			if (strcmp(entry, "*") == 0)
				return true;
			if (host_is_address ? address_of(entry, &of_entry) && address_within(&of_host, &of_entry)
					    : name_within(host, entry))
				return true;
		}
		list += n;
		list += strspn(list, SEPARATORS);
	}
	return false;
}

bool proxy_passes_by(const struct proxy *proxy, const char *url)
{
	char host[HOST_BYTES_MAX + 1];
	const char *begin = strstr(url, "://");
	size_t n;

	if (proxy->url[0] == '\0' && proxy->error[0] == '\0')
		return true;
	begin = begin ? begin + 3 : url;
	n = begin[0] == '[' ? strcspn(begin, "]") + 1 : strcspn(begin, ":/");
	if (n > HOST_BYTES_MAX || n > strlen(begin))
		return false;
	memcpy(host, begin, n);
	host[n] = '\0';
	/* Addresses alone: "localhost" can be made to mean another host. */
	if (host[0] == '[' || (host[0] >= '0' && host[0] <= '9'))
		if (proxy_list_names("127.0.0.0/8, ::1", host))
			return true;
	return proxy_list_names(proxy->except, host);
}
