/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server: libmicrohttpd without threads, its epoll descriptor in our loop. A request is handed over whole; whoever gets it
 * answers at once or keeps it and answers later (then its connection sleeps).
 */
#pragma once

#include "controld/controld.h"
#include "controld/shared.h"

struct MHD_Connection;
struct MHD_Response;

struct request {
	struct controld *controld;
	struct MHD_Connection *connection;
	char method[8];
	char *path; /* decoded, without the query */
	uint8_t *body;
	size_t n, room, limit;
	bool overlong;
	bool handed;    /* to the application */
	bool suspended;
	bool deferred;  /* it has waited for a batch once */
	struct MHD_Response *response;
	unsigned status;
	struct request *next_waking; /* of those whose connection is about to wake */
	void *poll; /* a parked poll's own, see polls.c */
};

struct http_options {
	const char *listen;            /* ADDRESS:PORT */
	const char *tls_cert, *tls_key; /* files; both or none */
	bool behind_proxy;
};

/** Check the options, read key and certificate, listen. Call before the sandbox is on. @return 0; negative errno, logged */
_must_check_ int http_new(struct controld *controld, const struct http_options *options, struct http **http);
/** Answer nobody any more and close. */
void http_free(struct http *http);
DEFINE_CLEANUP(struct http *, http_free)
/** The port that it listens on (for ADDRESS:0). */
unsigned http_port(const struct http *http);

/** The connection of a request that was kept has its answer: let it go on, soon. */
void http_wake(struct request *request);

/** Requests that were kept from those who are being told go on now. */
void http_release(struct http *http);

/** Called for each whole request: answer it, or keep it. */
void http_dispatch(struct request *request);

/**
 * Answer a request, now or later. Further answers to the same request are dropped.
 * @param bytes consumed (malloc); NULL for an empty body
 */
void request_answer(struct request *request, unsigned status, const char *content_type, void *bytes, size_t n);
/**
 * Answer with bytes and, after them, what other answers have in common with this one. @param bytes consumed (malloc); @param shared consumed
 */
void request_answer_shared(struct request *request, unsigned status, const char *content_type, void *bytes, size_t n, struct shared **shared,
			   unsigned shared_count);
/**
 * Answer with n bytes of a file from an offset on; they are read as they are sent.
 * @param fd consumed
 */
void request_answer_file(struct request *request, unsigned status, const char *content_type, int fd, uint64_t offset, uint64_t n);
/** Add a header to an answer that has been given. */
void request_header_add(struct request *request, const char *name, const char *value);

/** @return a request header, a query argument; NULL if there is none. Borrowed. */
const char *request_header(const struct request *request, const char *name);
const char *request_argument(const struct request *request, const char *name);

/** Do the query's arguments have these names, each once at most, and a value? @param names ends with NULL */
bool request_arguments_are(const struct request *request, const char *const *names);

/** Is the client of a kept request still there? It has nothing to say meanwhile: what it sends is the end. */
bool request_alive(const struct request *request);

#define ADDRESS_TEXT 46 /* INET6_ADDRSTRLEN */
/** The client's address: as its connection has it, or as the proxy says it. @return 0; -ENOENT */
_must_check_ int request_client(const struct request *request, char out[static ADDRESS_TEXT]);
