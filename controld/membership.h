/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts in networks. All of these run within a change, whose problem tells why one fails (-EREMOTEIO). */
#pragma once

#include "controld/change.h"

/** The networks that a host is in. @return their number, written to networks[NETWORKS_MAX]; negative errno */
_must_check_ int membership_networks(struct controld *controld, const struct id *host, struct id *networks);
/** Join; nothing happens if the host is in the network already. @return 0; -EREMOTEIO; negative errno */
_must_check_ int membership_join(struct change *change, const struct id *network, const struct id *host);
/** Leave; the addresses stay reserved. Nothing happens if the host is not in the network. */
_must_check_ int membership_leave(struct change *change, const struct id *network, const struct id *host);
_must_check_ int membership_leave_all(struct change *change, const struct id *host);

/** What the peer entries of a host are made of is about to change: call before the row is touched. */
_must_check_ int membership_touch(struct change *change, const struct id *host);
/** It has changed: let the tries follow. */
_must_check_ int membership_follow(struct change *change, const struct id *host);

/* addresses.c */

/** Give a host its addresses in a network: those that it had, else the lowest free ones, one for each family. */
_must_check_ int addresses_assign(struct change *change, const struct id *network, const struct id *host);
/** Give back all addresses of a host, in every network. */
_must_check_ int addresses_release(struct change *change, const struct id *host);
/** The first and last offset into a range that a host may have. */
void addresses_bounds(const struct prefix *cidr, int64_t *first, int64_t *last);
