/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WireGuard key that the control plane makes for a host (M10: assigned), sealed so that only that host's netd reads it.
 *
 * The box is libsodium's crypto_box_seal() over the 32 bytes of the X25519 private key, to the X25519 form of the host's Ed25519 key (crypto_sign_ed25519_pk_to_curve25519()).
 * That one key serves for both is sound (E. Thormarker, "On using the same key pair for Ed25519 and an X25519 based KEM", 2021). The box says
 * nothing of its sender: it counts only as a part of a host document, which is signed.
 */
#pragma once

#include "libipc/types.h"

#define ASSIGNED_BYTES (KEY_BYTES + 48) /* crypto_box_SEALBYTES: an ephemeral key and a tag */

/**
 * Make a key for a host. The private half is wiped before this returns: what is left of it is in the box.
 * @param public receives the public half, by which the host's announcement is known
 * @return 0; -EBADMSG host_key is no valid Ed25519 key
 */
_must_check_ int assigned_make(const uint8_t host_key[static KEY_BYTES], uint8_t box[static ASSIGNED_BYTES], uint8_t public[static KEY_BYTES]);

/** Open a box, with the host's own secret. @param private receives the key, clamped; the caller wipes it @return 0; -EBADMSG it is not for this host */
_must_check_ int assigned_open(const uint8_t box[static ASSIGNED_BYTES], const uint8_t host_secret[static SECRET_KEY_BYTES],
			       uint8_t private[static KEY_BYTES]);
