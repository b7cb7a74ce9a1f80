/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Becoming a host of a control plane.
 *
 *   PIN       netd knows the root of the deployment (`loopback enroll` saw to that just before)
 *   KEYSET    fetch the keyset from the control plane
 *   VERIFY    netd verifies it under its pinned root, and makes the registration
 *   REGISTER  post the registration with the token
 *   FIRST     wait until netd has applied the first configuration
 *
 * An enrolment is *begun* when netd has verified the keyset: address, authority and root are right then. Before that any failure ends it, and so does
 * a client that goes away (Ctrl-C): nothing has been kept. From then on it is remembered on disk, token included, and goes on without
 * its client and across restarts of fetchd: what is temporary is tried again with back-off, what is final ends it.
 * A host that is enrolled already keeps its control plane until the new registration has succeeded.
 */
#pragma once

#include <stdbool.h>

#include "fetchd/link.h"
#include "fetchd/state.h"
#include "libipc/channel.h"

struct fetchd;

enum enroll_step { ENROLL_IDLE, ENROLL_PIN, ENROLL_KEYSET, ENROLL_VERIFY, ENROLL_REGISTER, ENROLL_FIRST };

struct enrolment {
	enum enroll_step step;
	struct channel *client; /* whom to tell; NULL: nobody listens */
	bool begun;
	struct state wanted; /* url, ca, token, host name; no folder */
	struct transfer *transfer;
	struct loop_timer *timer; /* of the step: its patience, or its next try */
	unsigned failures;
	uint8_t *keyset; /* the envelope, until netd has taken it */
	size_t keyset_n;
	bool keyset_sent;   /* to the netd that we are connected to */
	struct hash posted; /* of the registration that was posted */
};

_must_check_ int enroll_init(struct fetchd *fetchd);
void enroll_stop(struct fetchd *fetchd);

/** Start an enrolment for a client, who is told how it goes in enroll_state messages; one that is done, at the latest, ends it. */
void enroll_begin(struct fetchd *fetchd, struct channel *client, const struct msg_enroll *wanted);
/** Go on with the token that is on disk: the control plane does not know this host. */
void enroll_resume(struct fetchd *fetchd);
/** Give up whatever is under way, and tell its client why. */
void enroll_cancel(struct fetchd *fetchd, const char *why);
void enroll_client_gone(struct fetchd *fetchd, const struct channel *client);

/** No poll may go out: the control plane does not know this host yet. */
bool enroll_registering(const struct fetchd *fetchd);
/** netd said who it is, or went away. */
void enroll_netd_changed(struct fetchd *fetchd);
/** netd said something about the keyset (enum outcome). */
void enroll_keyset_judged(struct fetchd *fetchd, uint64_t outcome, const char *reason);
void enroll_offer_judged(struct fetchd *fetchd, uint64_t outcome, const char *reason);
