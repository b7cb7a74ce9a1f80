/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has what: overlay addresses and WireGuard keys, each by at most one host. The kernel would silently move an AllowedIP from one
 * peer to another; we refuse (DESIGN: apply). Small on purpose: a keyed 64-bit tag and a host for each, 32 bytes an entry.
 */
#pragma once

#include <stdbool.h>

#include "libdoc/trie.h"

struct owners;

_must_check_ int owners_new(struct owners **owners);
void owners_free(struct owners *owners);
DEFINE_CLEANUP(struct owners *, owners_free)
void owners_clear(struct owners *owners);

/**
 * Note all that a peer entry has. The same host may have the same thing through several networks: counted.
 * @param conflict receives the other host on -EEXIST
 * @param address the disputed address, or NULL if it is the key
 * @return 0; -EEXIST something of it belongs to another host (what came before it has been noted: owners_clear() and note all again); -ENOMEM
 */
_must_check_ int owners_add(struct owners *owners, const struct peer *peer, struct id *conflict, const struct prefix **address);
/** Take back what owners_add() noted. */
void owners_remove(struct owners *owners, const struct peer *peer);

/** @return the host that has this WireGuard key, NULL. */
const struct id *owners_of_key(const struct owners *owners, const uint8_t wg_key[static KEY_BYTES]);

/** A mark on a key, for a comparison with the device: unmark all, mark those that are met, ask for each. */
void owners_unmark(struct owners *owners);
void owners_mark(struct owners *owners, const uint8_t wg_key[static KEY_BYTES]);
bool owners_marked(const struct owners *owners, const uint8_t wg_key[static KEY_BYTES]);
