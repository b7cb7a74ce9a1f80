/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locked networks: who is a peer in them is said by operators, in admission lists (libdoc/admission.h), and by nobody else.
 *
 * What netd has once seen of a list it keeps in the file `locks` of its state folder, through restarts and epochs, until the host leaves the deployment: that a
 * network is locked, the last list's generation, and the ranges that are the network's.
 */
#pragma once

#include "netd/mesh.h"

/** Read the file. None is fine. @return 0; negative errno, logged: a damaged one is not taken for none */
_must_check_ int lock_load(struct state *state);

/**
 * Hold an offered mesh against what is remembered: no list goes back, no lock opens but by the operators' word, no bridge that their list does not name, no range of
 * a locked network that another network meets.
 * @return 0; -EBADMSG with refusal
 */
_must_check_ int lock_check_offer(const struct state *state, const struct mesh *mesh, struct refusal *refusal);

/**
 * Is every peer that a locked network has, or that comes to it over a bridge, on a list? Those of a network with a list of its own must be on that one; those of another
 * network on the list of each locked network of this host that it is bridged with. And no list has somebody on it whom the one in force has not, unless admitted since. Costs what changed, and a walk over all of them when a list did.
 * @return 0; -EBADMSG with refusal; errors of a walk
 */
_must_check_ int lock_check_peers(const struct blobs *blobs, const struct mesh *old, const struct mesh *new, struct refusal *refusal);

/** Remember the lists of a mesh that is about to be in force; on the disk when this returns. @return 0; -ENOSPC too many; negative errno */
_must_check_ int lock_remember(struct state *state, const struct mesh *mesh);
