/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What doctor sends: ICMP echoes (RFC 792, RFC 4443), many at once, and empty UDP datagrams, whose ICMP errors tell. Raw sockets: root only.
 */
#pragma once

#include "libipc/types.h"

struct echo {
	struct prefix to; /* of full length; family 0: is not asked */
	unsigned bytes;   /* of the whole IP packet; 0: the smallest */
	bool whole;       /* it may not be fragmented (DF) */
	bool answered;
	int error;        /* of sending; -EPERM: a firewall of this host; 0: it was sent */
};

#define ECHO_BYTES_MIN 64   /* of a packet that asks only whether */
#define ECHO_BYTES_MAX 9000 /* as tunnels go (libdoc/network.h) */

/**
 * Ask all, several times, until each has answered or the time is over.
 * @param stop give up when it becomes readable
 * @return 0; -EINTR stopped; -EPERM, -EACCES only root may; negative errno
 */
_must_check_ int echo_ask(struct echo *echoes, size_t count, unsigned milliseconds, int stop);

/* A datagram without contents, which WireGuard drops without a word. */
struct knock {
	struct endpoint to; /* family 0: is not asked */
	int fd;             /* -1 */
	int error; /* -ECONNREFUSED nobody listens; -EPERM a firewall of this host; -EHOSTUNREACH, -ENETUNREACH; 0: no word */
};

/** Send; the answer needs some time. */
void knock_send(struct knock *knock);
/** Look for an ICMP error since. */
void knock_listen(struct knock *knock);
/** The same for the last time. */
void knock_end(struct knock *knock);

/** Wait. @return 0; -EINTR stop became readable */
_must_check_ int doctor_wait(unsigned milliseconds, int stop);
