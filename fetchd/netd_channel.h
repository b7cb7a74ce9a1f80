/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line to netd: who this host is, what netd asks for, and what it said of what it got.
 *
 * netd may restart at any time: the line is dialled again with back-off, and everything netd told us is forgotten until it says it again.
 */
#pragma once

#include <stdbool.h>

#include "libdoc/envelope.h"
#include "libipc/channel.h"

#define REGISTRATION_BYTES_MAX 4096

struct fetchd;

struct netd_channel {
	const char *path;
	struct channel *channel; /* NULL: not connected */
	struct loop_timer *retry;
	unsigned failures;

	/* What netd said on this connection. */
	bool known; /* the following five are */
	bool pinned, deployed;
	uint8_t host_key[KEY_BYTES], root_key[KEY_BYTES];
	struct id host;
	uint8_t registration[REGISTRATION_BYTES_MAX];
	size_t registration_n;

	bool asked; /* netd waits for a head; cleared when one is offered */
	uint8_t nonce[32];
	uint8_t have[ENVELOPE_BYTES_MAX];
	size_t have_n;
	bool offered;        /* an offer is being judged */
	bool keyset_offered; /* a keyset is, and nothing has come back yet */
};

/** Dial, and keep dialling. @return 0; -ENOMEM */
_must_check_ int netd_channel_start(struct fetchd *fetchd, const char *path);
void netd_channel_stop(struct fetchd *fetchd);

/** Hand over an unverified keyset. @return 0; -ENOTCONN; channel_send()'s errors */
_must_check_ int netd_send_keyset(struct fetchd *fetchd, struct view envelope);
/** Hand over a head for the outstanding nonce, which is spent with it. @return 0; -ENOTCONN; channel_send()'s errors */
_must_check_ int netd_send_offer(struct fetchd *fetchd, struct view head);
