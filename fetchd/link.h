/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP to the control plane: libcurl on our loop.
 *
 * HTTPS only, TLS 1.2 or newer; plain HTTP is accepted for loopback addresses alone. No redirects, no compression, no cookies. Everything a
 * server sends is bounded in bytes and in time while it arrives. An answer is handed over whole, once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "libipc/types.h"
#include "libipc/loop.h"

#define ANSWER_BYTES_MAX (8U * 1024 * 1024)
#define LINK_TEXT_BYTES 400 /* what went wrong, for a person */
#define LINK_REQUESTS_MAX 4 /* at the same time */

/* Why no answer came, for programs: `loopback doctor` goes by them. */
#define LINK_CODE_PROXY "proxy"                       /* no way through the proxy */
#define LINK_CODE_RESOLVE "resolve"                   /* the control plane's name has no address */
#define LINK_CODE_CONNECT "connect"                   /* no connection: no route, refused, a firewall that says so */
#define LINK_CODE_SILENT "silent"                     /* nothing came in time */
#define LINK_CODE_CERTIFICATE "certificate"           /* not from an authority that is believed, or of another name */
#define LINK_CODE_CERTIFICATE_TIME "certificate-time" /* expired or not valid yet, by this host's clock */
#define LINK_CODE_TLS "tls"                           /* no TLS came about */
#define LINK_CODE_PROTOCOL "protocol"                 /* not the HTTP of a control plane */
#define LINK_CODE_HTTP "http"                         /* an error answer that gave no code */

struct link;
struct proxy;
struct transfer;

/* How the server learns who asks. */
enum link_proof { LINK_OPEN, LINK_TOKEN, LINK_SIGNED };

struct link_request {
	const char *url;     /* of the control plane: scheme, host, port */
	const char *ca;      /* PEM of the only authorities to believe; NULL: the system's */
	const char *path;    /* begins with '/' */
	enum link_proof proof;
	const char *token;   /* for LINK_TOKEN */
	struct id host;      /* for LINK_SIGNED */
	struct view body;    /* copied; NULL: a GET */
	unsigned patience_s; /* silence before the first byte of the answer */
	size_t answer_max;   /* bytes; at most ANSWER_BYTES_MAX */
};

struct link_answer {
	int error;       /* 0: an HTTP answer came; else a negative errno, see text */
	unsigned status; /* HTTP's */
	uint8_t *body;   /* to be kept with TAKE_PTR(), else freed after the call; NULL if empty */
	size_t n;
	char code[32];              /* of an error answer: agent-api.md's word; "http" if the server gave none; without an answer one of LINK_CODE_* */
	char text[LINK_TEXT_BYTES]; /* what went wrong and where, clean; "" for 200 */
};

/** The one answer to a request. The transfer is gone when this is called. */
typedef void link_done_fn(struct link_answer *answer, void *arg);

/** @param secret the transport key, borrowed for life @param proxy the way out, borrowed for life */
_must_check_ int link_new(struct loop *loop, const uint8_t *secret, const struct proxy *proxy, struct link **link);
/** Abandons what is under way; no done callback. */
void link_free(struct link *link);
DEFINE_CLEANUP(struct link *, link_free)

/**
 * Start a request.
 * @param transfer receives a handle to cancel it by; set to NULL before done is called
 * @return 0; -ENOMEM; -EBUSY LINK_REQUESTS_MAX are under way; -EINVAL
 */
_must_check_ int link_start(struct link *link, const struct link_request *request, link_done_fn *done, void *arg,
			    struct transfer **transfer);
/** Abandon a request: done is not called. *transfer becomes NULL. NULL is fine. */
void link_cancel(struct transfer **transfer);

/** Seconds that this host's clock is ahead of the control plane's (negative: behind), by the last Date that it sent. */
int64_t link_clock_ahead(const struct link *link);

/**
 * Is this a URL that fetchd would talk to: https://HOST[:PORT], or http:// with a loopback address, without path, query and user?
 * @param clean receives it without a trailing slash, URL_BYTES_MAX + 1 bytes
 * @param why receives the reason for a person
 * @return 0; -EINVAL
 */
_must_check_ int link_url_check(const char *url, char *clean, const char **why);
