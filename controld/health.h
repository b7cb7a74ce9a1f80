/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states of hosts (O1), which are judged from what is known and kept with the time since when:
 *
 *   enrolling  no receipt yet
 *   online     polls, and has what is staged for it
 *   degraded   polls, but: its last receipt says refused, reverted, broken, restored or unconfirmed; documents are staged and it does not acknowledge
 *              them; two machines have its identity
 *   offline    misses its heartbeats (polls count), or left
 *   retired    by an operator
 */
#pragma once

#include "controld/controld.h"

#define OFFLINE_AFTER_S 120
#define DEGRADED_AFTER_S 60
#define HEALTH_REASON 700

struct health {
	char state[12];
	char reason[HEALTH_REASON]; /* "" for online and enrolling */
	int64_t since;              /* ms of Unix time */
};

/** What is a host's state now? @return 0; -ENOENT; negative errno */
_must_check_ int health_judge(struct controld *controld, const struct id *host, struct health *health);
/** Judge, and write down and log what is new. Within a transaction. @return 0; negative errno, logged */
_must_check_ int health_settle(struct controld *controld, const struct id *host);
/** The same in one of its own, which waits for no disk. */
_must_check_ int health_settle_alone(struct controld *controld, const struct id *host);

/** All hosts, a few at a time, for ever: time passes for those that say nothing. */
_must_check_ int health_start(struct controld *controld);
void health_stop(struct controld *controld);
