/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/overlay.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "libipc/log.h"

#define PATHS_MAX 64 /* routes that are asked for the MTU of the underlay; most peers go the same way */

/* -- The device ------------------------------------------------------------------------------------------------------------------- */

int overlay_attach(struct overlay *overlay)
{
	struct rtnl_link link;
	int r = rtnl_link_get(overlay->rtnl, overlay->name, &link);

	if (r == -ENODEV && overlay->kind == WG_KERNEL) {
		r = rtnl_link_add_wireguard(overlay->rtnl, overlay->name);
		if (r == 0)
			r = rtnl_link_get(overlay->rtnl, overlay->name, &link);
	}
	if (r == 0)
		r = wg_open(overlay->kind, overlay->name, &overlay->wg);
	if (r < 0)
		return r;
	overlay->index = link.index;
	r = rtnl_watch_open(link.index);
	if (r < 0) {
		overlay_detach(overlay);
		return r;
	}
	overlay->watch = r;
	return 0;
}

void overlay_detach(struct overlay *overlay)
{
	wg_close(overlay->wg);
	close_fd(overlay->watch);
	overlay->watch = -1;
	free(overlay->unsettled);
	overlay->unsettled = NULL;
	overlay->unsettled_count = 0;
	overlay->wg = NULL;
	overlay->index = 0;
}

/* -- Looking at the host ---------------------------------------------------------------------------------------------------------- */

unsigned overlay_underlay(struct overlay *overlay, struct endpoint *addresses, unsigned max)
{
	struct rtnl_underlay underlay = { { overlay->index, overlay->second }, overlay->listen_port, addresses, max, 0, 0 };
	int r = rtnl_underlay(overlay->rtnl, &underlay);

	if (r < 0)
		(void)log_errno(r, "cannot list this host's addresses");
	/* Not known: any endpoint is worth a try. */
	overlay->families = underlay.families ? underlay.families : 1U << 4 | 1U << 6;
	return underlay.count;
}

void overlay_learn_families(struct overlay *overlay)
{
	struct endpoint unused;

	(void)overlay_underlay(overlay, &unused, 0);
}

int overlay_check_routes(struct overlay *overlay, const struct mesh *old, const struct mesh *new, struct refusal *refusal)
{
	char range[PREFIX_TEXT], text[PREFIX_TEXT];
	struct prefix other;

	for (unsigned i = 0; i < new->network_count; i++) {
		const struct network_document *network = &new->networks[i];
		const struct network_document *before = mesh_network(old, &network->header.id);

		for (unsigned j = 0; j < network->cidr_count; j++) {
			bool known = false;
			int r;

			for (unsigned k = 0; before && k < before->cidr_count; k++)
				known = known || prefix_equal(&before->cidrs[k], &network->cidrs[j]);
			r = known ? 0 : rtnl_route_overlapping(overlay->rtnl, &network->cidrs[j], overlay->index, &other);
			if (r > 0)
				return refuse(refusal, "route-overlap", "%s of network %s overlaps the route to %s that this host has already",
					      prefix_format(&network->cidrs[j], range), network->name, prefix_format(&other, text));
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* -- Addresses, routes, MTU ------------------------------------------------------------------------------------------------------- */

/* The place of a network's member in the host document: a network that is reached over a bridge is spoken to from the one that is bridged with it. */
static const struct host_network *speaking_from(const struct mesh *mesh, unsigned i)
{
	if (i >= mesh->host.network_count)
		i = (unsigned)(mesh_bridged_with(mesh, &mesh->networks[i]) - mesh->networks);
	return &mesh->host.networks[i];
}

void overlay_wanted(const struct mesh *mesh, struct plumbing *plumbing)
{
	for (unsigned i = 0; mesh && i < mesh->network_count; i++) {
		const struct host_network *member = speaking_from(mesh, i);
		const struct network_document *network = &mesh->networks[i];

		for (unsigned j = 0; j < member->address_count; j++)
			plumbing_address(plumbing, &member->addresses[j]);
		for (unsigned j = 0; j < network->cidr_count; j++) {
			const struct prefix *source = NULL;

			for (unsigned k = 0; k < member->address_count; k++)
				if (member->addresses[k].family == network->cidrs[j].family)
					source = &member->addresses[k];
			plumbing_route(plumbing, &network->cidrs[j], source);
		}
	}
}

struct paths {
	struct overlay *overlay;
	unsigned asked;
	uint32_t mtu;
};

static int path_ask(const struct peer *old _unused_, const struct peer *new, void *arg)
{
	struct paths *paths = ((struct mesh_walk *)arg)->arg;

	for (unsigned i = 0; i < new->endpoint_count; i++)
		if (paths->overlay->families & 1U << new->endpoints[i].family)
			rtnl_lower_mtu(paths->overlay->rtnl, &new->endpoints[i], paths->overlay->index, &paths->mtu);
	return ++paths->asked < PATHS_MAX ? 0 : -ECANCELED;
}

/* As signed, or less where the underlay carries less (M6): the way to the first peers tells. Never below what IPv6 needs; outer packets are fragmented then. */
static uint32_t mtu_carried(struct overlay *overlay, const struct mesh *mesh)
{
	struct paths paths = { .overlay = overlay, .mtu = mesh->mtu };
	struct mesh_walk walk = { .blobs = overlay->blobs, .events.peer = path_ask, .new = mesh, .arg = &paths };

	if (mesh_diff(&walk) < 0 && paths.asked < PATHS_MAX)
		log_warning("cannot ask for the way to all peers; the MTU of %s may be too large", overlay->name);
	return paths.mtu > MTU_MIN || mesh->mtu == 0 ? paths.mtu : MTU_MIN;
}

static int link_adjust(struct overlay *overlay, const struct mesh *to)
{
	uint32_t mtu = to ? mtu_carried(overlay, to) : 0;
	bool up = to && to->network_count; /* without a network there is nothing to carry: no socket is open then */
	struct rtnl_link link;
	int r = rtnl_link_get(overlay->rtnl, overlay->name, &link);

	if (r < 0 || (link.up == up && (mtu == 0 || link.mtu == mtu)))
		return r;
	return rtnl_link_set(overlay->rtnl, overlay->index, mtu, up);
}

int overlay_plumb(struct overlay *overlay, const struct mesh *from, const struct mesh *signed_to)
{
	struct plumbing have = { .index = overlay->index }, want = { .index = overlay->index };
	const struct mesh *to = overlay->restored ? overlay->reach : signed_to;
	uint64_t sets = rtnl_sets(overlay->rtnl);
	int r = 0;

	overlay_wanted(to, &want);
	if (from)
		overlay_wanted(from, &have);
	else
		r = plumbing_read(overlay->rtnl, &have);
	if (r == 0 && (!from || !to || from->mtu != to->mtu || !from->network_count != !to->network_count))
		r = link_adjust(overlay, to);
	if (r == 0)
		r = plumbing_change(overlay->rtnl, &have, &want);
	if (rtnl_sets(overlay->rtnl) != sets)
		(void)rtnl_watch_drain(overlay->watch); /* we know */
	return r;
}
