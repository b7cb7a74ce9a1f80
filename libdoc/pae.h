/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ed25519 over the DSSE v1 pre-authentication encoding:
 *   "DSSEv1" SP length(type) SP type SP length(body) SP body, lengths in decimal.
 */
#pragma once

#include "libipc/types.h"

/** @return 0; -ENOMEM */
_must_check_ int pae_sign(const char *type, const void *body, size_t n, const uint8_t secret[static SECRET_KEY_BYTES],
			  uint8_t signature[static SIGNATURE_BYTES]);
/** @return 0; -EKEYREJECTED; -ENOMEM */
_must_check_ int pae_verify(const char *type, const void *body, size_t n, const uint8_t signature[static SIGNATURE_BYTES],
			    const uint8_t key[static KEY_BYTES]);
