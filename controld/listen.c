/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>

#include "libipc/log.h"
#include "libipc/types.h"

#define BACKLOG 4096
#define PEM_BYTES_MAX (256 * 1024)

static bool is_loopback(const struct endpoint *endpoint)
{
	static const uint8_t v6[16] = { [15] = 1 };

	return endpoint->family == 4 ? endpoint->b[0] == 127 : memcmp(endpoint->b, v6, sizeof(v6)) == 0;
}

int listen_parse(const char *text, struct sockaddr_storage *out, socklen_t *length, bool *loopback)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	struct prefix address;
	struct endpoint endpoint = { 0 };
	unsigned long port;
	char *end;

	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	port = strtoul(colon + 1, &end, 10);
	if (*end || end == colon + 1 || port > UINT16_MAX)
		return -EINVAL;
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = '\0';
		memmove(host, host + 1, strlen(host));
	}
	if (prefix_parse(host, &address) < 0 || address.length != family_bits(address.family))
		return -EINVAL;
	endpoint.family = address.family;
	memcpy(endpoint.b, address.b, sizeof(endpoint.b));
	*loopback = is_loopback(&endpoint);
	memset(out, 0, sizeof(*out));
	if (address.family == 4) {
		struct sockaddr_in *v4 = (struct sockaddr_in *)out;

		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		memcpy(&v4->sin_addr, address.b, 4);
		*length = sizeof(*v4);
	} else {
		struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		memcpy(&v6->sin6_addr, address.b, 16);
		*length = sizeof(*v6);
	}
	return 0;
}

int listen_open(const char *text, const struct sockaddr_storage *address, socklen_t length, unsigned *port)
{
	_cleanup_close_ int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_storage bound;
	socklen_t bound_length = sizeof(bound);
	const int on = 1, off = 0;

	if (fd < 0)
		return log_errno(errno, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (address->ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0))
		return log_errno(errno, "setsockopt");
	if (bind(fd, (const struct sockaddr *)address, length) < 0 || listen(fd, BACKLOG) < 0)
		return log_errno(errno, "--listen %s", text);
	if (getsockname(fd, (struct sockaddr *)&bound, &bound_length) < 0)
		return log_errno(errno, "getsockname");
	*port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port : ((struct sockaddr_in6 *)&bound)->sin6_port);
	return TAKE_FD(fd);
}

int pem_read(const char *path, char **text)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *bytes = malloc(PEM_BYTES_MAX + 1);
	ssize_t n;

	if (!bytes)
		return -ENOMEM;
	if (fd < 0)
		return log_errno(errno, "%s: cannot open", path);
	n = read(fd, bytes, PEM_BYTES_MAX);
	if (n < 0)
		return log_errno(errno, "%s: cannot read", path);
	bytes[n] = '\0';
	if (!strstr(bytes, "-----BEGIN ")) {
		log_error("%s: expected PEM, found none", path);
		return -EINVAL;
	}
	*text = TAKE_PTR(bytes);
	return 0;
}
