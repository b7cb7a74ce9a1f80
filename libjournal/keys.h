/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's keys: its own (Ed25519), and its WireGuard keys: the one that is in force, and beside it the next while it is being replaced.
 *
 * The file, wg.key: counter (8 bytes, big endian), private key (32), when it came into force (8, Unix milliseconds); then, if there is a next one,
 * its counter (8) and private key (32). Counters only grow, so that an old key cannot be brought back.
 */
#pragma once

#include "libipc/types.h"

#define WG_KEY_AT 8                           /* in the file: the private key that is in force */
#define WG_NEXT_KEY_AT (8 + KEY_BYTES + 8 + 8) /* the next one's, if the file is as long as that */

/** The host's own key: a seed in host.key, made if it is missing. @return 0; -EBADMSG it is damaged; negative errno */
_must_check_ int host_key_read(int folder, uint8_t secret[static SECRET_KEY_BYTES]);

struct wg_keys {
	uint64_t counter;
	uint64_t since_ms; /* Unix milliseconds */
	uint8_t private[KEY_BYTES]; /* X25519 */
	uint8_t public[KEY_BYTES];
	uint64_t next_counter; /* 0: there is no next key */
	uint8_t next_private[KEY_BYTES];
	uint8_t next_public[KEY_BYTES];
};

/** Read the file; make it if it is missing. @return 0; -EBADMSG it is damaged; negative errno */
_must_check_ int wg_keys_open(int folder, struct wg_keys *keys);
void wg_keys_wipe(struct wg_keys *keys);

/* Each replaces the file, and changes keys only if that went well. @return 0; negative errno */

/** A new key in the place of all, with a greater counter (keys->counter may be 0). */
_must_check_ int wg_keys_renew(int folder, struct wg_keys *keys);
/** Make a next key, or take this one (clamped) for it. @param private NULL: make one */
_must_check_ int wg_keys_add_next(int folder, struct wg_keys *keys, const uint8_t *private);
/** The next key comes into force. */
_must_check_ int wg_keys_adopt_next(int folder, struct wg_keys *keys);
/** The next key is not wanted any more. */
_must_check_ int wg_keys_drop_next(int folder, struct wg_keys *keys);
