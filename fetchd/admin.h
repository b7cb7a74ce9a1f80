/* SPDX-License-Identifier: Apache-2.0 */
/* root's socket: enrol, leave, ask how things stand. */
#pragma once

#include "fetchd/link.h"
#include "libipc/channel.h"

struct fetchd;

struct admin {
	struct listener *listener;
	struct transfer *leaving;  /* the control plane is being told */
	struct channel *leaver;    /* who waits to hear of it; NULL: nobody any more */
	bool force;
};

/** Serve root on a listening socket, which is consumed. @return 0; -ENOMEM and the like */
_must_check_ int admin_start(struct fetchd *fetchd, int fd);
void admin_stop(struct fetchd *fetchd);

/** Send one enroll_state. A client that cannot be told closes by itself. */
void admin_state(struct channel *client, bool done, bool ok, const char *text);
