/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Polls that wait for something new, and the heads that answer them. A parked poll keeps its nonce, what the host has, and nothing else.
 */
#pragma once

#include "controld/controld.h"
#include "libdoc/head.h"

struct request;

_must_check_ int polls_new(struct controld *controld, struct polls **polls);
void polls_free(struct polls *polls);

/** What a poll asks, besides what was taken in already. */
struct poll_question {
	struct id host;
	uint8_t nonce[32];
	const struct head_entry *have;
	unsigned have_count;
	unsigned wait; /* seconds */
};

/** Answer a poll now or park it. The request is answered later in any case. @return 0; negative errno: the caller answers */
_must_check_ int poll_begin(struct controld *controld, struct request *request, const struct poll_question *question);
/** The request of a poll goes away (its client hung up). */
void poll_abandon(struct controld *controld, struct request *request);

/** Does a poll of this host wait, over a connection that its client has not closed? */
bool poll_is_parked(const struct controld *controld, const struct id *host);

/** Are many being told of something just now? */
bool polls_telling(const struct controld *controld);
/** Did changes come so fast that nobody could be told of any? Then the next ones wait until this batch is told. */
bool polls_hold_changes(const struct controld *controld);

/** Something that these hosts would be told has changed: those who wait get an answer. */
void polls_wake_network(struct controld *controld, const struct id *network);
void polls_wake_host(struct controld *controld, const struct id *host);
/** Everybody: there is a new keyset. */
void polls_wake_all(struct controld *controld);
