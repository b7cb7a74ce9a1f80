/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fetchd remembers: its transport key, and which control plane this host belongs to.
 *
 * Two files in a folder that is fetchd's alone, both 0600, both replaced whole (written beside, fsync, rename, fsync of the folder), so
 * that a kill at any moment leaves the old or the new:
 *   transport.key  the seed of an Ed25519 key, 32 bytes; made at first start
 *   link           msgpack [1, url, CA PEM, token, enrolled, host name]; absent when there is no control plane
 */
#pragma once

#include <stdbool.h>

#include "libipc/types.h"

#define URL_BYTES_MAX 1024
#define TOKEN_BYTES_MAX 256
#define CA_BYTES_MAX 50000

struct state {
	int dir; /* -1 until opened */
	uint8_t transport_secret[SECRET_KEY_BYTES];
	char url[URL_BYTES_MAX + 1];     /* "": no control plane */
	char *ca;                        /* PEM; NULL: the system's authorities */
	char token[TOKEN_BYTES_MAX + 1]; /* "": none; wiped once enrolled */
	char host_name[NAME_BYTES_MAX + 1];
	bool enrolled;
};

/**
 * Open the folder, read both files, make the transport key if there is none yet.
 *
 * A damaged link file is set aside as link.damaged, with a log line: the host then is as before its enrolment. A damaged key is
 * replaced by a new one, which netd certifies like the first.
 *
 * @param state zeroed but for dir, which is -1; filled in, owned by the caller: state_close()
 * @return 0; errors of the file system
 */
_must_check_ int state_open(const char *path, struct state *state);
/** Wipe the secrets and close. */
void state_close(struct state *state);

/** Write url, ca, token, host name and enrolled to disk. @return 0; errors of the file system, with what stood there before intact */
_must_check_ int state_save(const struct state *state);
/** Forget the control plane, in memory and on disk; the transport key stays. @return as state_save(); memory is forgotten in any case */
_must_check_ int state_forget(struct state *state);

/** Take over a copy of these values; ca may be NULL. @return 0; -ENOMEM with nothing changed */
_must_check_ int state_set(struct state *state, const char *url, const char *ca, const char *token, const char *host_name);
/** The enrolment is complete: remember that, and wipe the token. @return as state_save() */
_must_check_ int state_enrolled(struct state *state);
