/* SPDX-License-Identifier: Apache-2.0 */
#include "libwg/plumb.h"

#include <errno.h>

static bool contains(const struct prefix *list, unsigned count, const struct prefix *wanted)
{
	for (unsigned i = 0; i < count; i++)
		if (prefix_equal(&list[i], wanted))
			return true;
	return false;
}

void plumbing_address(struct plumbing *plumbing, const struct prefix *address)
{
	if (plumbing->address_count < PLUMBING_ADDRESSES_MAX && !contains(plumbing->addresses, plumbing->address_count, address))
		plumbing->addresses[plumbing->address_count++] = *address;
}

void plumbing_route(struct plumbing *plumbing, const struct prefix *destination, const struct prefix *source)
{
	if (plumbing->route_count == PLUMBING_ROUTES_MAX || contains(plumbing->routes, plumbing->route_count, destination))
		return;
	plumbing->sources[plumbing->route_count] = source ? *source : (struct prefix){ .family = 0 };
	plumbing->routes[plumbing->route_count++] = *destination;
}

static int found_address(const struct rtnl_address *address, void *arg)
{
	struct plumbing *found = arg;

	if (address->index == found->index && address->ours)
		plumbing_address(found, &address->address);
	return 0;
}

static int found_route(const struct rtnl_route *route, void *arg)
{
	struct plumbing *found = arg;

	if (route->index == found->index && route->protocol == ROUTE_PROTOCOL)
		plumbing_route(found, &route->destination, NULL);
	return 0;
}

int plumbing_read(struct rtnl *rtnl, struct plumbing *plumbing)
{
	int r = rtnl_address_each(rtnl, found_address, plumbing);

	return r < 0 ? r : rtnl_route_each(rtnl, found_route, plumbing);
}

static int gone(int r)
{
	return r == -EADDRNOTAVAIL || r == -ESRCH || r == -ENODEV ? 0 : r;
}

static int there(int r)
{
	return r == -EEXIST ? 0 : r;
}

int plumbing_change(struct rtnl *rtnl, const struct plumbing *have, const struct plumbing *want)
{
	bool removed = false;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < want->address_count; i++)
		if (!contains(have->addresses, have->address_count, &want->addresses[i]))
			r = there(rtnl_address_add(rtnl, want->index, &want->addresses[i]));
	for (unsigned i = 0; r == 0 && i < have->route_count; i++)
		if (!contains(want->routes, want->route_count, &have->routes[i]))
			r = gone(rtnl_route_delete(rtnl, want->index, &have->routes[i]));
	for (unsigned i = 0; r == 0 && i < have->address_count; i++) {
		if (contains(want->addresses, want->address_count, &have->addresses[i]))
			continue;
		r = gone(rtnl_address_delete(rtnl, want->index, &have->addresses[i]));
		removed = true;
	}
	/* With an address the kernel drops the routes that preferred it as their source. */
	for (unsigned i = 0; r == 0 && i < want->route_count; i++)
		if (removed || !contains(have->routes, have->route_count, &want->routes[i]))
			r = there(rtnl_route_add(rtnl, want->index, &want->routes[i], want->sources[i].family ? &want->sources[i] : NULL));
	return r;
}
