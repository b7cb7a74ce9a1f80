/* SPDX-License-Identifier: Apache-2.0 */
/* The agents' API (docs/design/agent-api.md): msgpack over HTTP, requests signed with the host's transport key. */
#pragma once

#include "controld/http.h"
#include "libipc/pack.h"

#define MARK_CHARS 16 /* of a process of fetchd, see duplicates.h */

/* One call of an agent. */
struct agent_call {
	struct controld *controld;
	struct request *request;
	struct problem problem;
	struct id host;             /* of a signed request */
	uint8_t host_key[KEY_BYTES];
	char mark[MARK_CHARS + 1];  /* of a signed request; "" none */
	char seen[ADDRESS_TEXT];    /* where it comes from; "" unknown */
	bool kept;                  /* answered later */
};

/** Requests under /v1/agent/. */
void agent_dispatch(struct request *request);

typedef int agent_fn(struct agent_call *call);
agent_fn agent_keyset, agent_enroll, agent_poll, agent_blobs, agent_leave;
/** A package (packages.c); the install script, whose errors are scripts too (install.c). */
agent_fn agent_package, agent_install;

/** Answer with what a writer holds; its memory is taken over. */
void agent_answer(struct agent_call *call, struct pack_writer *body);
/** Answer with [code, detail]. */
void agent_refuse(struct request *request, const struct problem *problem);

/* -- callers.c: what is remembered of each host's requests ------------------------------------------------------------------------- */

/** Milliseconds of Unix time of a host's last poll since this process started; 0: none. */
int64_t caller_last_poll(const struct controld *controld, const struct id *host);
/** Note a poll. */
_must_check_ int caller_polled(struct controld *controld, const struct id *host);
#define CLOCK_WINDOW_S 300 /* what was made longer ago, or later than that from now, is refused by the clock alone */
/**
 * Was this nonce used already? Each host's last nonces are kept, as many as the window needs; what is older than the oldest of them is refused, so memory is bounded.
 * @param created Unix seconds, within the window already
 * @return 0 fresh, and noted; -EALREADY; -ENOMEM
 */
_must_check_ int caller_nonce(struct controld *controld, const struct id *host, uint64_t created, const char *nonce, size_t n);
/**
 * A host that is given the same answer to the same question again and again (it refuses what it gets) is slowed down.
 * @param digest of the question and of what would be named
 * @return milliseconds to wait before answering; 0 at first
 */
unsigned caller_delay(struct controld *controld, const struct id *host, const struct hash *digest);
/** Is something staged that this host has not acknowledged? @return since when, ms of Unix time; 0 nothing is */
int64_t caller_behind_since(struct controld *controld, const struct id *host, bool behind);
/** It has acknowledged something new: it is not frozen. */
void caller_acknowledged(struct controld *controld, const struct id *host);
/** Was its state online when it was last judged? Then one good receipt more changes nothing. */
void caller_fine(struct controld *controld, const struct id *host, bool fine);
bool caller_is_fine(const struct controld *controld, const struct id *host);
/** May peers be told that this host moved? Not more than once a minute. */
bool caller_may_move(struct controld *controld, const struct id *host);
/** Write the last polls to the database; a timer's work. */
_must_check_ int callers_flush(struct controld *controld);
void callers_free(struct controld *controld);

/* -- signature.c -- */

/** Verify a request (RFC 9421) and find its host. @return 0 with call->host and host_key; -EREMOTEIO problem says why; negative errno */
_must_check_ int signature_check(struct agent_call *call);

/* -- receipts.c -- */

/** Verify a receipt and store it. What does not verify is logged and ignored. @return 0; negative errno of the database */
_must_check_ int receipt_take(struct controld *controld, const struct id *host, const uint8_t host_key[static KEY_BYTES],
			      struct view bytes);
