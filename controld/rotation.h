/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WireGuard keys are replaced (M10), one host at a time or a network's hosts together. A row for each host:
 *
 *   wanted    its turn has not come: one wave at a time in networks that meet, for a second tunnel that is in use must not get another key
 *   asked     its document asks netd for a next key, or brings one that was made here, in a box that only netd opens (libdoc/assigned.h)
 *   announced it has one; the wave goes on together once all of it have, or have not in time
 *   both      the next key stands in its peer entries; everybody opens a second tunnel and moves over
 *   swapping  everybody has moved, or the time is up: signd is about to see the next key in the place of the old one, so there is no way back
 *   settling  it has its new key; everybody moves back and closes the second tunnel
 *   done, given-up
 */
#pragma once

#include "controld/change.h"

#define ROTATION_SECONDS_MIN 5
#define ROTATION_SECONDS_MAX 86400
#define ROTATION_SECONDS 300
#define ROTATION_ASK_SECONDS 60    /* to announce a next key, at most: the rest of the wave waits for it */
#define ROTATION_SETTLE_SECONDS 30 /* to move back */

/** Write down that a host gets a new key. @param assigned one that is made here @return 1; 0 it is getting one already; negative errno */
_must_check_ int rotation_add(struct change *change, const struct id *job, const struct id *host, int64_t seconds, bool assigned);
/** Does this host take a key that is made here? @return 0; -EREMOTEIO no, change->problem says why; negative errno */
_must_check_ int rotation_assignable(struct change *change, const struct id *host);

/** A job's start: all is done by steps. */
_must_check_ int rotation_start(struct change *change, const struct id *job, const struct id *object);
/** What can be done now for the hosts of a job. @return 1 all are done or given up; 0; negative errno */
_must_check_ int rotation_step(struct controld *controld, const struct id *job);

/** A registration came: it may bring the next key. Within a change. */
_must_check_ int rotation_announced(struct change *change, const struct registration *registration);
