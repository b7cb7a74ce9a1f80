/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The long poll: netd's question goes out, a head comes back; netd's receipts ride along.
 *
 * Never more than one is under way. A poll that carries news (receipts, a changed registration) asks for an answer at once, which tells that the
 * news has arrived; so does the first after a change, whose head netd may be waiting for to confirm it, and the first after trouble, which tells that it is
over. All others park for 50 s.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fetchd/link.h"
#include "libipc/types.h"

#define RECEIPTS_MAX 32 /* waiting to be posted; the oldest goes first when there are more */

struct fetchd;

/* How the control plane regards this host, as of its last answer. */
enum standing { STANDING_GOOD, STANDING_UNKNOWN_HOST, STANDING_RETIRED };

struct waiting_receipt {
	uint8_t *bytes;
	size_t n;
};

struct poller {
	struct loop_timer *timer;
	struct transfer *transfer; /* the poll under way */
	bool parks;                /* it may be parked by the server */
	uint64_t started;          /* loop_now_ms() */
	uint64_t not_before;       /* loop_now_ms() of the earliest next one */
	unsigned failures;         /* in a row */
	unsigned fruitless;        /* offers in a row that came early and changed nothing, or were refused */
	bool early;                /* the last answer came at once though it was allowed to wait */
	bool settled;              /* netd's last word was that nothing changed */
	unsigned restarts;         /* of polls that had just begun, see restart() */

	struct waiting_receipt receipts[RECEIPTS_MAX]; /* oldest first */
	unsigned receipt_count;
	unsigned receipts_sent; /* of them, in the poll under way */

	bool registration_known; /* the control plane has the registration of this hash */
	struct hash registration, registration_sent;

	enum standing standing;
	bool online;                     /* the last answer was a good one */
	uint64_t last_answer;            /* Unix milliseconds of the last good answer; 0: never */
	char last_error[LINK_TEXT_BYTES]; /* "": none */
	char last_code[32];               /* of it, for programs: link_answer's code */
};

_must_check_ int poll_init(struct fetchd *fetchd);
void poll_stop(struct fetchd *fetchd);

/** netd asks for a head: poll for it. */
void poll_asked(struct fetchd *fetchd);
/** netd judged the head (enum outcome). */
void poll_judged(struct fetchd *fetchd, uint64_t outcome);
/** A receipt to be posted. Copied. */
void poll_receipt(struct fetchd *fetchd, struct view receipt);
void poll_identity_changed(struct fetchd *fetchd);
void poll_netd_gone(struct fetchd *fetchd);
/** The control plane has been given the registration of this hash by other means. */
void poll_registered(struct fetchd *fetchd, const struct hash *registration);
/** Another control plane, or none: drop what is under way and start afresh. */
void poll_reset(struct fetchd *fetchd);
