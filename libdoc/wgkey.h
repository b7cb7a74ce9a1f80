/* SPDX-License-Identifier: Apache-2.0 */
/* WireGuard's private keys (X25519). */
#pragma once

#include "libipc/types.h"

/** Clamp a key as `wg genkey` does (RFC 7748, 5). */
void wg_key_clamp(uint8_t private[static KEY_BYTES]);
/** Make a key pair. */
void wg_key_make(uint8_t private[static KEY_BYTES], uint8_t public[static KEY_BYTES]);
