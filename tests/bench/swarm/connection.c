/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/swarm/connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 16384

static int tls_begin(struct connection *connection)
{
	if (gnutls_init(&connection->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK) < 0)
		return -ENOMEM;
	if (gnutls_set_default_priority(connection->session) < 0 ||
	    gnutls_credentials_set(connection->session, GNUTLS_CRD_CERTIFICATE, connection->server->tls) < 0)
		return -EPROTO;
	gnutls_transport_set_int(connection->session, connection->fd);
	connection->shaking = true;
	return 0;
}

static int open_new(struct connection *connection, void *arg)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = arg };
	const int one = 1;

	connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		return -errno;
	(void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(connection->fd, (const struct sockaddr *)&connection->server->address, sizeof(connection->server->address)) < 0 &&
	    errno != EINPROGRESS)
		return -errno;
	if (epoll_ctl(connection->server->epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
		return -errno;
	return connection->server->tls ? tls_begin(connection) : 0;
}

static ssize_t tls_result(ssize_t r)
{
	if (r >= 0)
		return r;
	return r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED ? -EAGAIN : -ECONNRESET;
}

static ssize_t put(struct connection *connection, const uint8_t *bytes, size_t n)
{
	ssize_t r;

	if (connection->session)
		return tls_result(gnutls_record_send(connection->session, bytes, n));
	r = send(connection->fd, bytes, n, MSG_NOSIGNAL);
	return r < 0 ? -errno : r;
}

static ssize_t get(struct connection *connection, uint8_t *bytes, size_t n)
{
	ssize_t r;

	if (connection->session) {
		do
			r = gnutls_record_recv(connection->session, bytes, n);
		while (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal((int)r)); /* a session ticket, say */
		return tls_result(r);
	}
	r = recv(connection->fd, bytes, n, 0);
	return r < 0 ? -errno : r;
}

static int flush(struct connection *connection)
{
	if (connection->shaking) {
		int r = gnutls_handshake(connection->session);

		if (r < 0)
			return r == GNUTLS_E_AGAIN || !gnutls_error_is_fatal(r) ? 0 : -ECONNRESET;
		connection->shaking = false;
	}
	while (connection->sent < connection->out_n) {
		ssize_t n = put(connection, connection->out + connection->sent, connection->out_n - connection->sent);

		if (n == -EAGAIN || n == -ENOTCONN)
			return 0;
		if (n < 0)
			return (int)n;
		connection->sent += (size_t)n;
	}
	free(connection->out);
	connection->out = NULL;
	connection->out_n = connection->sent = 0;
	return 0;
}

int connection_send(struct connection *connection, const char *path, const char *headers, struct view body, void *arg)
{
	char head[2048];
	int r = connection->fd < 0 ? open_new(connection, arg) : 0;
	int n = snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: swarm\r\nContent-Length: %zu\r\n%s\r\n", path, body.n, headers);

	if (r == 0 && (n < 0 || (size_t)n >= sizeof(head) || connection->out_n))
		r = -EMSGSIZE;
	if (r == 0) {
		connection->out = malloc((size_t)n + body.n);
		r = connection->out ? 0 : -ENOMEM;
	}
	if (r < 0)
		return r;
	memcpy(connection->out, head, (size_t)n);
	memcpy(connection->out + n, body.p, body.n);
	connection->out_n = (size_t)n + body.n;
	return flush(connection);
}

static int grow(struct connection *connection)
{
	size_t room = connection->in_room ? 2 * connection->in_room : READ_BYTES;
	uint8_t *grown = realloc(connection->in, room);

	if (!grown)
		return -ENOMEM;
	connection->in = grown;
	connection->in_room = room;
	return 0;
}

/* @return 1 the answer is whole; 0 not yet; -EBADMSG */
static int parse(struct connection *connection, struct answer *answer)
{
	char *end, *length;
	size_t head, n;

	if (connection->in_n < 12 || !(end = memmem(connection->in, connection->in_n, "\r\n\r\n", 4)))
		return 0;
	head = (size_t)(end - (char *)connection->in) + 4;
	*end = '\0';
	length = strcasestr((char *)connection->in, "\r\nContent-Length:");
	n = length ? strtoul(length + 17, NULL, 10) : 0;
	answer->status = (unsigned)strtoul((char *)connection->in + 9, NULL, 10);
	*end = '\r';
	if (!length)
		return -EBADMSG;
	if (connection->in_n < head + n)
		return 0;
	if (connection->in_n > head + n)
		return -EBADMSG; /* nobody asked for more */
	answer->body = malloc(n ? n : 1);
	if (!answer->body)
		return -ENOMEM;
	memcpy(answer->body, connection->in + head, n);
	answer->n = n;
	free(connection->in);
	connection->in = NULL;
	connection->in_n = connection->in_room = 0;
	return 1;
}

int connection_advance(struct connection *connection, struct answer *answer)
{
	int r = connection->fd < 0 ? -ECONNRESET : flush(connection);

	if (r < 0 || connection->shaking)
		return r;
	for (;;) {
		ssize_t n;

		r = connection->in_n == connection->in_room ? grow(connection) : 0;
		if (r < 0)
			return r;
		n = get(connection, connection->in + connection->in_n, connection->in_room - connection->in_n);
		if (n == -EAGAIN || n == -ENOTCONN)
			break;
		if (n <= 0)
			return n == 0 ? -ECONNRESET : (int)n;
		connection->in_n += (size_t)n;
	}
	r = parse(connection, answer);
	if (r == 0 && connection->in_n == 0) { /* a connection that waits keeps nothing */
		free(connection->in);
		connection->in = NULL;
		connection->in_room = 0;
	}
	return r;
}

void connection_close(struct connection *connection)
{
	if (connection->session)
		gnutls_deinit(connection->session);
	if (connection->fd >= 0)
		(void)close(connection->fd);
	free(connection->out);
	free(connection->in);
	*connection = (struct connection){ .server = connection->server, .fd = -1 };
}
