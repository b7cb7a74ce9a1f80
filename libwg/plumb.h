/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carries an overlay on its interface: addresses, and routes to its ranges. Lists in, changes out.
 *
 * Only what is ours is ever read or removed (ROUTE_PROTOCOL, libwg/rtnl.h); what others put on the interface stays (M14).
 */
#pragma once

#include "libwg/rtnl.h"

#define PLUMBING_ADDRESSES_MAX (NETWORKS_MAX * ADDRESSES_MAX)
#define PLUMBING_ROUTES_MAX (NETWORKS_MAX * CIDRS_MAX)

struct plumbing {
	int index; /* of the interface */
	unsigned address_count, route_count;
	struct prefix addresses[PLUMBING_ADDRESSES_MAX]; /* of full length */
	struct prefix routes[PLUMBING_ROUTES_MAX];
	struct prefix sources[PLUMBING_ROUTES_MAX]; /* preferred source of each route; family 0: none */
};

/** Add to a list, once. */
void plumbing_address(struct plumbing *plumbing, const struct prefix *address);
/** @param source may be NULL */
void plumbing_route(struct plumbing *plumbing, const struct prefix *destination, const struct prefix *source);

/** Read what of ours is on an interface (its index is set). @return 0; negative errno */
_must_check_ int plumbing_read(struct rtnl *rtnl, struct plumbing *plumbing);

/** Go from what is there to what is wanted; what is gone, or there, already is no error. Nothing different: nothing is sent. @return 0; negative errno */
_must_check_ int plumbing_change(struct rtnl *rtnl, const struct plumbing *have, const struct plumbing *want);
