/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long work: written down with the call that asks for it, done by the reconciler, and finished when the hosts have followed. Each step is one
 * transaction, so a job goes on wherever a crash left it.
 *
 *   waiting   its documents are not signed yet; tried with back-off while the signer is away
 *   running   signed; hosts acknowledge
 *   done      all have, or those that have not are offline or took too long: they are named, and follow when they can
 *   failed    the signer refused, and nothing was changed; or it was given up
 */
#pragma once

#include <jansson.h>

#include "controld/change.h"

#define JOB_KEPT_MS (30 * 24 * 3600000LL) /* after its end */

/** What a kind of job does. Both run within a change. */
struct job_kind {
	const char *name;
	/** Change what is to be signed; name the documents with job_follow(). @return 0; -EREMOTEIO problem says why; negative errno */
	int (*start)(struct change *change, const struct id *job, const struct id *object);
	/** The end: hosts have followed (or are not waited for any longer), or it failed. May be NULL. @return 0; negative errno */
	int (*end)(struct change *change, const struct id *object, bool failed);
	/** What it does while it runs, each step a transaction of its own. NULL: it waits for hosts to follow. @return 1 it is over; 0; negative errno */
	int (*step)(struct controld *controld, const struct id *job);
};

/** Write a job down. Within a change, whose commit sets the reconciler to work. @param label of its object, for people */
_must_check_ int job_add(struct change *change, const char *kind, const struct id *object, const char *label, struct id *job);
/** Nobody waits any longer for what is under way for an object. Within a change. @param why for people */
_must_check_ int job_cancel(struct change *change, const struct id *object, const char *why);
/** Hosts that have not acknowledged this document, as it will be signed in this change, are waited for. */
_must_check_ int job_follow(struct controld *controld, const struct id *job, enum document_type type, const struct id *id);

/** A job as the API shows it, its progress counted now if it runs. @return owned by the caller; NULL: there is none, or memory is out */
json_t *job_json(struct controld *controld, const struct id *job);

/** The reconciler's part. */
_must_check_ int jobs_start(struct controld *controld);
void jobs_soon(struct controld *controld);
void jobs_stop(struct controld *controld);
