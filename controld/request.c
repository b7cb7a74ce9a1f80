/* SPDX-License-Identifier: Apache-2.0 */
/* One request: what it brought, and how it is answered. */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "controld/http.h"

static void answer_headers(struct request *request, const char *content_type)
{
	if (content_type)
		(void)MHD_add_response_header(request->response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	(void)MHD_add_response_header(request->response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (request->suspended)
		http_wake(request);
}

void request_answer(struct request *request, unsigned status, const char *content_type, void *bytes, size_t n)
{
	if (request->response) {
		free(bytes);
		return;
	}
	request->status = status;
	request->response = bytes ? MHD_create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE) :
				    MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	if (!request->response) {
		free(bytes);
		return; /* out of memory: the connection is closed */
	}
	answer_headers(request, content_type);
}

/* What a response holds until libmicrohttpd has sent it. */
struct pieces {
	void *own;
	unsigned count;
	struct shared *shared[];
};

static void pieces_free(void *arg)
{
	struct pieces *pieces = arg;

	for (unsigned i = 0; i < pieces->count; i++)
		shared_drop(pieces->shared[i]);
	free(pieces->own);
	free(pieces);
}

static struct pieces *pieces_new(void *own, struct shared **shared, unsigned count)
{
	struct pieces *pieces = malloc(sizeof(*pieces) + count * sizeof(pieces->shared[0]));

	if (pieces) {
		*pieces = (struct pieces){ .own = own, .count = count };
		memcpy(pieces->shared, shared, count * sizeof(pieces->shared[0]));
		return pieces;
	}
	for (unsigned i = 0; i < count; i++)
		shared_drop(shared[i]);
	free(own);
	return NULL;
}

void request_answer_shared(struct request *request, unsigned status, const char *content_type, void *bytes, size_t n, struct shared **shared,
			   unsigned shared_count)
{
	struct pieces *pieces = pieces_new(bytes, shared, shared_count);
	struct MHD_IoVec *vector = calloc(shared_count + 1, sizeof(*vector));

	if (pieces && vector && !request->response) {
		vector[0] = (struct MHD_IoVec){ bytes, n };
		for (unsigned i = 0; i < shared_count; i++)
			vector[i + 1] = (struct MHD_IoVec){ shared[i]->bytes, shared[i]->n };
		request->status = status;
		request->response = MHD_create_response_from_iovec(vector, shared_count + 1, pieces_free, pieces);
		if (request->response) {
			pieces = NULL;
			answer_headers(request, content_type);
		}
	}
	if (pieces)
		pieces_free(pieces);
	free(vector);
}

void request_answer_file(struct request *request, unsigned status, const char *content_type, int fd, uint64_t offset, uint64_t n)
{
	if (request->response) {
		(void)close_fd(fd);
		return;
	}
	request->response = MHD_create_response_from_fd_at_offset64(n, fd, offset); /* owns fd when it works */
	if (!request->response) {
		(void)close_fd(fd);
		return; /* out of memory: the connection is closed */
	}
	request->status = status;
	answer_headers(request, content_type);
}

void request_header_add(struct request *request, const char *name, const char *value)
{
	if (request->response)
		(void)MHD_add_response_header(request->response, name, value);
}

const char *request_header(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *request_argument(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool request_alive(const struct request *request)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	uint8_t byte;

	/* A connection that sleeps is not watched by libmicrohttpd. */
	return info && recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR);
}

struct argument_check {
	const char *const *names;
	unsigned seen; /* one bit a name */
	bool wrong;
};

static enum MHD_Result argument_check(void *arg, _unused_ enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct argument_check *check = arg;

	for (unsigned i = 0; check->names[i]; i++) {
		if (strcmp(check->names[i], key) != 0)
			continue;
		check->wrong = check->wrong || !value || (check->seen & (1u << i)) != 0;
		check->seen |= 1u << i;
		return MHD_YES;
	}
	check->wrong = true;
	return MHD_NO;
}

bool request_arguments_are(const struct request *request, const char *const *names)
{
	struct argument_check check = { .names = names };

	(void)MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, argument_check, &check);
	return !check.wrong;
}

/* The last address is the one that our own proxy added; those before it are anybody's word. */
static int client_of_proxy(const char *header, char out[static ADDRESS_TEXT])
{
	const char *last = header ? strrchr(header, ',') : NULL;
	struct prefix address;
	char text[PREFIX_TEXT];

	last = last ? last + 1 : header;
	while (last && *last == ' ')
		last++;
	if (!last || strlen(last) >= sizeof(text) || strchr(last, '/') || prefix_parse(last, &address) < 0)
		return -ENOENT;
	(void)snprintf(out, ADDRESS_TEXT, "%s", last);
	return 0;
}

int request_client(const struct request *request, char out[static ADDRESS_TEXT])
{
	const union MHD_ConnectionInfo *info;
	const struct sockaddr *address;

	if (request->controld->behind_proxy)
		return client_of_proxy(request_header(request, "X-Forwarded-For"), out);
	info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	address = info ? info->client_addr : NULL;
	if (address && address->sa_family == AF_INET)
		return inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, out, ADDRESS_TEXT) ? 0 : -ENOENT;
	if (address && address->sa_family == AF_INET6) {
		const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

		if (IN6_IS_ADDR_V4MAPPED(v6))
			return inet_ntop(AF_INET, v6->s6_addr + 12, out, ADDRESS_TEXT) ? 0 : -ENOENT;
		return inet_ntop(AF_INET6, v6, out, ADDRESS_TEXT) ? 0 : -ENOENT;
	}
	return -ENOENT;
}
