/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one context of this process.
 *
 * fetchd carries: what netd asks goes to the control plane, what the control plane answers goes to netd. It believes neither side
 * more than it must, and decides nothing about the mesh. Each part below has its own header.
 */
#pragma once

#include "fetchd/admin.h"
#include "fetchd/answer.h"
#include "fetchd/cache.h"
#include "fetchd/enroll.h"
#include "fetchd/link.h"
#include "fetchd/netd_channel.h"
#include "fetchd/poll.h"
#include "fetchd/proxy.h"
#include "fetchd/state.h"
#include "fetchd/want.h"

struct fetchd {
	struct loop *loop;
	struct state state;
	struct cache cache;
	struct proxy proxy;
	struct link *link;
	struct stash stash; /* blobs of the last poll's answer, until netd has said what became of its head */
	struct netd_channel netd;
	struct want want;
	struct poller poll;
	struct enrolment enrolment;
	struct admin admin;
};

/** Move what the last answer brought to the cache: from then on it is found there. */
void stash_to_cache(struct fetchd *fetchd);

/**
 * How long to wait after so many failures in a row: doubling from 1 s to 60 s, the upper half of it by chance, so that a fleet which lost its control
 * plane does not come back as one.
 * @return milliseconds
 */
uint64_t backoff_ms(unsigned failures);
