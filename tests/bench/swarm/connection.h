/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP/1.1 connection to the control plane, plain or TLS, that never blocks: a request goes out, an answer comes in. What it needs of HTTP is a status and
 * a Content-Length.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libipc/cleanup.h"
#include "libipc/types.h"

struct server {
	int epoll;
	struct sockaddr_in address;
	gnutls_certificate_credentials_t tls; /* NULL: plain */
};

struct connection {
	struct server *server;
	int fd; /* -1: closed */
	gnutls_session_t session;
	bool shaking;  /* the TLS handshake is under way */
	uint8_t *out;  /* what is to be sent; freed once it is */
	size_t out_n, sent;
	uint8_t *in;   /* the answer so far */
	size_t in_n, in_room;
};

struct answer {
	unsigned status;
	uint8_t *body; /* the caller's: free() */
	size_t n;
};

/** Send a request, on a new connection if there is none. @param headers lines that end in CRLF; @param arg comes back with epoll's events */
_must_check_ int connection_send(struct connection *connection, const char *path, const char *headers, struct view body, void *arg);

/** Go on after an event. @return 1 a whole answer; 0 not yet; -ECONNRESET the server has hung up; other negative errno */
_must_check_ int connection_advance(struct connection *connection, struct answer *answer);

void connection_close(struct connection *connection);
