/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs that netd wants: from the last answer, from the cache, then from the control plane; what cannot be had is said to be lacking.
 */
#pragma once

#include <stdbool.h>

#include "fetchd/link.h"
#include "libipc/types.h"

#define WANT_MAX 1000                       /* hashes of one want, blobs of one message */
#define WANT_BYTES_MAX (8U * 1024 * 1024)   /* of one message */

struct fetchd;

struct want {
	uint32_t count; /* still missing; 0: nothing is wanted */
	struct hash missing[WANT_MAX];
	struct transfer *transfer; /* the request for them */
	struct loop_timer *retry;
	unsigned failures;
};

_must_check_ int want_init(struct fetchd *fetchd);
void want_stop(struct fetchd *fetchd);

/**
 * netd wants these; an earlier want is over.
 * @param hashes copied
 * @return 0; -EPROTO not a whole number of hashes: the channel is to be closed; channel_send()'s errors, memfd's errors
 */
_must_check_ int want_begin(struct fetchd *fetchd, struct view hashes);
/** Nobody waits for them any more. */
void want_drop(struct fetchd *fetchd);
