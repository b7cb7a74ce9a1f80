/* SPDX-License-Identifier: Apache-2.0 */
/* What link.c, link_request.c and link_error.c share. */
#pragma once

#include <curl/curl.h>

#include "fetchd/link.h"
#include "fetchd/proxy.h"
#include "fetchd/sign_request.h"
#include "fetchd/state.h"

struct transfer {
	struct link *link;
	CURL *easy; /* kept for the next request: with it live its TLS sessions */
	bool busy, again; /* again: signed anew after the clock was corrected, once */
	bool proxied;     /* goes through the proxy */
	struct transfer **owner;
	link_done_fn *done;
	void *arg;
	struct loop_timer *silence;

	/* The request. */
	char url[URL_BYTES_MAX + 1], path[64];
	enum link_proof proof;
	struct id host;
	uint8_t *body;
	size_t body_n;
	unsigned patience_s;
	struct curl_slist *headers;

	/* What has come of the answer. */
	uint64_t began; /* loop_now_ms() of its first byte; 0: none yet */
	size_t answer_max, header_bytes, n, room;
	uint8_t *answer;
	int failure; /* why we broke it off; 0: we did not */
	char curl_text[CURL_ERROR_SIZE];
};

struct link {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer;
	const uint8_t *secret;
	uint8_t mark[REQUEST_MARK_BYTES];
	const struct proxy *proxy;
	int64_t ahead_s;
	struct transfer transfers[LINK_REQUESTS_MAX];
};

/** libcurl's CURLOPT_HEADERFUNCTION and CURLOPT_WRITEFUNCTION: bound what comes, in bytes and time. */
size_t link_header_arrived(char *line, size_t size, size_t count, void *arg);
size_t link_body_arrived(char *bytes, size_t size, size_t count, void *arg);

/** Make the header lines; signed ones are good for this moment. @param token for LINK_TOKEN @return 0; -ENOMEM; -EMSGSIZE */
_must_check_ int link_headers_make(struct transfer *transfer, const char *token);
/** Wipe and free them. */
void link_headers_drop(struct transfer *transfer);
/** Tell curl everything about a request whose headers are made. @return 0; -ENOMEM */
_must_check_ int link_options_set(struct transfer *transfer, const char *ca);

/** Why no answer came, for programs: one of LINK_CODE_*. @param error of link_error_of() */
const char *link_error_code(const struct transfer *transfer, CURLcode code, int error);
/** @return 0 if an answer came; what its absence is as a negative errno */
int link_error_of(const struct transfer *transfer, CURLcode code);
/** Did a new connection end before the proxy let it through? False where no proxy is used. */
bool link_failed_at_proxy(const struct transfer *transfer);
/** Say for a person what the proxy did instead, and what to look at. */
void link_describe_proxy(const struct transfer *transfer, const char *what, char *out, size_t room);
/** Say for a person why no answer came, and what to look at. */
void link_describe_failure(const struct transfer *transfer, CURLcode code, int error, char *out, size_t room);
/** Take the reason out of an answer other than 200; make one up if the server gave none. */
void link_describe_status(const struct transfer *transfer, struct link_answer *answer);
