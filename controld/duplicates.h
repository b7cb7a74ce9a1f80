/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two machines with one identity: a cloned disk image, a restored snapshot. Their keys are the same, so no signature tells them apart. Each fetchd makes a mark
 * when it starts and puts it before the nonces of its requests. A restart replaces a mark for good; two machines take turns. Who takes turns and came second
 * is refused, and told once, by documents signed for its nonce alone, that it is in no network: so its tunnels do not take the first one's place at peers.
 */
#pragma once

#include <jansson.h>

#include "controld/agent.h"

struct machines;

/** Where a poll stands. */
enum machine_standing {
	MACHINE_HOLDS,  /* the one that there is: serve it */
	MACHINE_WAITS,  /* another one's connection is still open: refuse it for a moment (problem) */
	MACHINE_SECOND, /* it came second: refuse it (problem) */
	MACHINE_SILENCE /* the same, and it has not been told yet that it is in no network */
};

/** The mark in a request's nonce: "MARK.RANDOM"; "" for a nonce without one, whose request is taken for the holder's. */
void machine_mark(const char *nonce, char mark[static MARK_CHARS + 1]);

/** A poll came in. @return enum machine_standing; negative errno */
_must_check_ int machine_polls(struct agent_call *call);
/** A poll of the holder was answered: it comes again at once, if it lives. */
void machine_was_answered(struct controld *controld, const struct id *host);
/** The second one was told that it is in no network. */
void machine_silenced(struct controld *controld, const struct id *host);
/** Is this request, which would move the host, one of the machine that holds its identity? Else problem says so. @return 0; -EREMOTEIO; negative errno */
_must_check_ int machine_check(struct agent_call *call);

/** Say who the two are. @return 1; 0 there are no two; negative errno */
_must_check_ int duplicate_describe(struct controld *controld, const struct id *host, char *text, size_t room);
/** As the API shows it; null if there are no two. @return owned by the caller */
json_t *duplicate_json(struct controld *controld, const struct id *host);
/** Forget second machines that have been silent for long. @return 0; negative errno */
_must_check_ int duplicates_expire(struct controld *controld);
void machines_free(struct controld *controld);
