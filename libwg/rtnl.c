/* SPDX-License-Identifier: Apache-2.0 */
#include "libwg/rtnl.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "libwg/netlink.h"

#define REQUEST_BYTES 256 /* the longest, a route with two IPv6 addresses, takes about 80 */

struct rtnl {
	struct netlink *netlink;
	uint64_t sets;
	_Alignas(struct nlmsghdr) uint8_t request[REQUEST_BYTES];
};

int rtnl_open(struct rtnl **rtnl)
{
	_cleanup_(rtnl_close) struct rtnl *n = calloc(1, sizeof(*n));
	int r = n ? netlink_open(NETLINK_ROUTE, &n->netlink) : -ENOMEM;

	if (r == 0)
		*rtnl = TAKE_PTR(n);
	return r;
}

void rtnl_close(struct rtnl *rtnl)
{
	if (rtnl)
		netlink_close(rtnl->netlink);
	free(rtnl);
}

uint64_t rtnl_sets(const struct rtnl *rtnl)
{
	return rtnl->sets;
}

static struct nlmsghdr *request_new(struct rtnl *rtnl, uint16_t type, int flags, const void *header, size_t header_bytes)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(rtnl->request);

	request->nlmsg_type = type;
	request->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	memcpy(mnl_nlmsg_put_extra_header(request, header_bytes), header, header_bytes);
	return request;
}

static int set(struct rtnl *rtnl, struct nlmsghdr *request)
{
	rtnl->sets++;
	return netlink_request(rtnl->netlink, request, NULL, NULL);
}

/* Who is to be told of what a message says. */
struct walk {
	union {
		int (*link)(const struct rtnl_link *, void *);
		int (*address)(const struct rtnl_address *, void *);
		int (*route)(const struct rtnl_route *, void *);
	} each;
	void *arg;
};

static int walk_all(struct rtnl *rtnl, uint16_t type, netlink_fn *read, struct walk walk)
{
	const struct rtgenmsg header = { .rtgen_family = AF_UNSPEC };
	int r;

	for (unsigned i = 0; i < NETLINK_RESTARTS_MAX; i++) {
		r = netlink_request(rtnl->netlink, request_new(rtnl, type, NLM_F_DUMP, &header, sizeof(header)), read, &walk);
		/* Busy: with a dump whose answers nobody read to the end (a request before that failed); they have just been read over. */
		if (r != -EINTR && r != -EBUSY)
			return r;
	}
	return -EAGAIN;
}

static uint8_t af_of(uint8_t family)
{
	return family == 4 ? AF_INET : AF_INET6;
}

static uint8_t family_of(uint8_t af)
{
	return af == AF_INET ? 4 : af == AF_INET6 ? 6 : 0;
}

static void put_address(struct nlmsghdr *request, uint16_t type, const struct prefix *prefix)
{
	mnl_attr_put(request, type, family_bits(prefix->family) / 8, prefix->b);
}

static uint32_t u32_of(const struct nlattr *attr, uint32_t otherwise)
{
	return attr ? mnl_attr_get_u32(attr) : otherwise;
}

static void name_of(const struct nlattr *attr, char name[static IFNAMSIZ])
{
	if (attr)
		(void)snprintf(name, IFNAMSIZ, "%s", mnl_attr_get_str(attr));
}

/* -- links ------------------------------------------------------------------------------------------------------------------ */

static int read_link(const struct nlmsghdr *message, void *arg)
{
	const struct ifinfomsg *header = mnl_nlmsg_get_payload(message);
	const struct nlattr *attrs[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
	const struct walk *walk = arg;
	struct rtnl_link link = {
		.index = header->ifi_index,
		.up = header->ifi_flags & IFF_UP,
		.loopback = header->ifi_flags & IFF_LOOPBACK,
	};

	netlink_attributes(message, sizeof(*header), attrs, ARRAY_SIZE(attrs));
	netlink_nested(attrs[IFLA_LINKINFO], info, ARRAY_SIZE(info));
	name_of(attrs[IFLA_IFNAME], link.name);
	name_of(info[IFLA_INFO_KIND], link.kind);
	link.mtu = u32_of(attrs[IFLA_MTU], 0);
	return walk->each.link(&link, walk->arg);
}

int rtnl_link_each(struct rtnl *rtnl, int (*each)(const struct rtnl_link *, void *), void *arg)
{
	return walk_all(rtnl, RTM_GETLINK, read_link, (struct walk){ .each.link = each, .arg = arg });
}

static int copy_link(const struct rtnl_link *link, void *arg)
{
	*(struct rtnl_link *)arg = *link;
	return 0;
}

int rtnl_link_get(struct rtnl *rtnl, const char *name, struct rtnl_link *link)
{
	const struct ifinfomsg header = { 0 };
	struct nlmsghdr *request = request_new(rtnl, RTM_GETLINK, NLM_F_ACK, &header, sizeof(header));
	struct rtnl_link found = { 0 };
	struct walk walk = { .each.link = copy_link, .arg = &found };
	int r;

	if (strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	mnl_attr_put_strz(request, IFLA_IFNAME, name);
	r = netlink_request(rtnl->netlink, request, read_link, &walk);
	if (r == 0)
		*link = found;
	return r;
}

static int link_mtu(struct rtnl *rtnl, int index, uint32_t *mtu)
{
	const struct ifinfomsg header = { .ifi_index = index };
	struct rtnl_link found = { 0 };
	struct walk walk = { .each.link = copy_link, .arg = &found };
	int r = netlink_request(rtnl->netlink, request_new(rtnl, RTM_GETLINK, NLM_F_ACK, &header, sizeof(header)), read_link, &walk);

	if (r == 0)
		*mtu = found.mtu;
	return r;
}

int rtnl_link_add_wireguard(struct rtnl *rtnl, const char *name)
{
	const struct ifinfomsg header = { 0 };
	struct nlmsghdr *request =
		request_new(rtnl, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	struct nlattr *info;

	if (strlen(name) >= IFNAMSIZ)
		return -EINVAL;
	mnl_attr_put_strz(request, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(request, IFLA_LINKINFO);
	mnl_attr_put_strz(request, IFLA_INFO_KIND, "wireguard");
	mnl_attr_nest_end(request, info);
	return set(rtnl, request);
}

int rtnl_link_delete(struct rtnl *rtnl, int index)
{
	const struct ifinfomsg header = { .ifi_index = index };

	return set(rtnl, request_new(rtnl, RTM_DELLINK, NLM_F_ACK, &header, sizeof(header)));
}

int rtnl_link_set(struct rtnl *rtnl, int index, uint32_t mtu, bool up)
{
	const struct ifinfomsg header = { .ifi_index = index, .ifi_change = IFF_UP, .ifi_flags = up ? IFF_UP : 0 };
	struct nlmsghdr *request = request_new(rtnl, RTM_NEWLINK, NLM_F_ACK, &header, sizeof(header));

	if (mtu)
		mnl_attr_put_u32(request, IFLA_MTU, mtu);
	return set(rtnl, request);
}

int rtnl_link_loose(struct rtnl *rtnl, int index)
{
	const struct ifinfomsg header = { .ifi_index = index };
	struct nlmsghdr *request = request_new(rtnl, RTM_SETLINK, NLM_F_ACK, &header, sizeof(header));
	struct nlattr *spec = mnl_attr_nest_start(request, IFLA_AF_SPEC);
	struct nlattr *family = mnl_attr_nest_start(request, AF_INET);
	struct nlattr *conf = mnl_attr_nest_start(request, IFLA_INET_CONF);

	mnl_attr_put_u32(request, IPV4_DEVCONF_RP_FILTER, 2);
	mnl_attr_nest_end(request, conf);
	mnl_attr_nest_end(request, family);
	mnl_attr_nest_end(request, spec);
	return set(rtnl, request);
}

/* -- addresses -------------------------------------------------------------------------------------------------------------- */

/* IFA_F_TEMPORARY has the value of IPv4's IFA_F_SECONDARY, which is harmless. */
static bool is_usable(uint8_t af, uint32_t flags)
{
	if (af == AF_INET6 && (flags & IFA_F_TEMPORARY))
		return false;
	return !(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED));
}

static int read_address(const struct nlmsghdr *message, void *arg)
{
	const struct ifaddrmsg *header = mnl_nlmsg_get_payload(message);
	const struct nlattr *attrs[IFA_MAX + 1];
	const struct walk *walk = arg;
	struct rtnl_address address = {
		.index = (int)header->ifa_index,
		.scope = header->ifa_scope,
		.address = { .family = family_of(header->ifa_family), .length = header->ifa_prefixlen },
	};

	netlink_attributes(message, sizeof(*header), attrs, ARRAY_SIZE(attrs));
	/* On a point-to-point link IFA_ADDRESS is the other end's and IFA_LOCAL ours; IPv6 mostly has IFA_ADDRESS alone. */
	if (address.address.family == 0 || !netlink_copy(attrs[IFA_LOCAL] ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS], address.address.b,
							 family_bits(address.address.family) / 8))
		return 0;
	address.ours = attrs[IFA_PROTO] && mnl_attr_get_u8(attrs[IFA_PROTO]) == ROUTE_PROTOCOL;
	address.usable = is_usable(header->ifa_family, u32_of(attrs[IFA_FLAGS], header->ifa_flags));
	return walk->each.address(&address, walk->arg);
}

int rtnl_address_each(struct rtnl *rtnl, int (*each)(const struct rtnl_address *, void *), void *arg)
{
	return walk_all(rtnl, RTM_GETADDR, read_address, (struct walk){ .each.address = each, .arg = arg });
}

static int underlay_address(const struct rtnl_address *address, void *arg)
{
	struct rtnl_underlay *found = arg;
	struct endpoint *endpoint = &found->addresses[found->count];

	if (address->index == found->not_on[0] || address->index == found->not_on[1] || address->scope != RT_SCOPE_UNIVERSE || !address->usable)
		return 0;
	if (address->address.family == 4 && address->address.b[0] == 127)
		return 0;
	found->families |= 1U << address->address.family;
	if (found->count == found->max)
		return 0;
	*endpoint = (struct endpoint){ .family = address->address.family, .port = found->port };
	memcpy(endpoint->b, address->address.b, sizeof(endpoint->b));
	found->count++;
	return 0;
}

int rtnl_underlay(struct rtnl *rtnl, struct rtnl_underlay *underlay)
{
	underlay->count = underlay->families = 0;
	return rtnl_address_each(rtnl, underlay_address, underlay);
}

static int address_set(struct rtnl *rtnl, uint16_t type, int flags, int index, const struct prefix *address)
{
	const struct ifaddrmsg header = {
		.ifa_family = af_of(address->family),
		.ifa_prefixlen = address->length,
		.ifa_index = (uint32_t)index,
	};
	struct nlmsghdr *request = request_new(rtnl, type, NLM_F_ACK | flags, &header, sizeof(header));

	if (!prefix_valid(address) || address->length != family_bits(address->family))
		return -EINVAL;
	put_address(request, IFA_LOCAL, address);
	put_address(request, IFA_ADDRESS, address);
	mnl_attr_put_u32(request, IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
	mnl_attr_put_u8(request, IFA_PROTO, ROUTE_PROTOCOL);
	return set(rtnl, request);
}

int rtnl_address_add(struct rtnl *rtnl, int index, const struct prefix *address)
{
	return address_set(rtnl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address);
}

int rtnl_address_delete(struct rtnl *rtnl, int index, const struct prefix *address)
{
	return address_set(rtnl, RTM_DELADDR, 0, index, address);
}

/* -- routes ----------------------------------------------------------------------------------------------------------------- */

static int read_route(const struct nlmsghdr *message, void *arg)
{
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);
	const struct nlattr *attrs[RTA_MAX + 1];
	const struct walk *walk = arg;
	struct rtnl_route route = {
		.protocol = header->rtm_protocol,
		.type = header->rtm_type,
		.destination = { .family = family_of(header->rtm_family), .length = header->rtm_dst_len },
	};

	if (route.destination.family == 0 || header->rtm_type != RTN_UNICAST || (header->rtm_flags & RTM_F_CLONED))
		return 0;
	netlink_attributes(message, sizeof(*header), attrs, ARRAY_SIZE(attrs));
	(void)netlink_copy(attrs[RTA_DST], route.destination.b, family_bits(route.destination.family) / 8);
	route.index = (int)u32_of(attrs[RTA_OIF], 0);
	route.table = u32_of(attrs[RTA_TABLE], header->rtm_table);
	if (route.table != RT_TABLE_MAIN && route.table != RT_TABLE_LOCAL)
		return 0;
	return walk->each.route(&route, walk->arg);
}

int rtnl_route_each(struct rtnl *rtnl, int (*each)(const struct rtnl_route *, void *), void *arg)
{
	return walk_all(rtnl, RTM_GETROUTE, read_route, (struct walk){ .each.route = each, .arg = arg });
}

struct overlap {
	const struct prefix *range;
	int not_through;
	struct prefix *other;
};

static int overlaps(const struct rtnl_route *route, void *arg)
{
	const struct overlap *overlap = arg;

	if (route->destination.length == 0 || route->protocol == ROUTE_PROTOCOL || (overlap->not_through && route->index == overlap->not_through) ||
	    !prefix_overlaps(&route->destination, overlap->range))
		return 0;
	*overlap->other = route->destination;
	return 1;
}

int rtnl_route_overlapping(struct rtnl *rtnl, const struct prefix *range, int not_through, struct prefix *other)
{
	struct overlap overlap = { range, not_through, other };

	return rtnl_route_each(rtnl, overlaps, &overlap);
}

static int route_set(struct rtnl *rtnl, uint16_t type, int flags, int index, const struct prefix *destination,
		     const struct prefix *source)
{
	const struct rtmsg header = {
		.rtm_family = af_of(destination->family),
		.rtm_dst_len = destination->length,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = ROUTE_PROTOCOL,
		.rtm_scope = RT_SCOPE_LINK,
		.rtm_type = RTN_UNICAST,
	};
	struct nlmsghdr *request = request_new(rtnl, type, NLM_F_ACK | flags, &header, sizeof(header));

	if (!prefix_valid(destination) || (source && source->family != destination->family))
		return -EINVAL;
	put_address(request, RTA_DST, destination);
	mnl_attr_put_u32(request, RTA_OIF, (uint32_t)index);
	if (source)
		put_address(request, RTA_PREFSRC, source);
	return set(rtnl, request);
}

int rtnl_route_add(struct rtnl *rtnl, int index, const struct prefix *destination, const struct prefix *source)
{
	return route_set(rtnl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, index, destination, source);
}

int rtnl_route_delete(struct rtnl *rtnl, int index, const struct prefix *destination)
{
	return route_set(rtnl, RTM_DELROUTE, 0, index, destination, NULL);
}

static int read_way(const struct nlmsghdr *message, void *arg)
{
	const struct nlattr *attrs[RTA_MAX + 1], *metrics[RTAX_MAX + 1];
	const struct rtmsg *route = mnl_nlmsg_get_payload(message);
	struct rtnl_way *way = arg;

	netlink_attributes(message, sizeof(struct rtmsg), attrs, ARRAY_SIZE(attrs));
	netlink_nested(attrs[RTA_METRICS], metrics, ARRAY_SIZE(metrics));
	way->index = (int)u32_of(attrs[RTA_OIF], 0);
	way->mtu = u32_of(metrics[RTAX_MTU], 0);
	way->table = u32_of(attrs[RTA_TABLE], route->rtm_table);
	return 0;
}

int rtnl_way_to(struct rtnl *rtnl, const struct prefix *address, struct rtnl_way *way)
{
	const struct rtmsg header = {
		.rtm_family = af_of(address->family),
		.rtm_dst_len = (uint8_t)family_bits(address->family),
		.rtm_flags = RTM_F_LOOKUP_TABLE, /* else IPv4 calls every table main */
	};
	struct nlmsghdr *request = request_new(rtnl, RTM_GETROUTE, NLM_F_ACK, &header, sizeof(header));

	*way = (struct rtnl_way){ .index = 0 };
	put_address(request, RTA_DST, address);
	return netlink_request(rtnl->netlink, request, read_way, way);
}

/* UDP 8, WireGuard 32 (whitepaper, 5.4.6), and the outer IP header. */
static uint32_t overhead(const struct endpoint *endpoint)
{
	return 8 + 32 + (endpoint->family == 4 ? 20 : 40);
}

void rtnl_lower_mtu(struct rtnl *rtnl, const struct endpoint *endpoint, int not_through, uint32_t *mtu)
{
	struct prefix address = { .family = endpoint->family, .length = (uint8_t)family_bits(endpoint->family) };
	struct rtnl_way way;
	int r;

	memcpy(address.b, endpoint->b, sizeof(address.b));
	r = rtnl_way_to(rtnl, &address, &way);
	if (r < 0 || way.index == 0 || way.index == not_through)
		return;
	if (way.mtu == 0)
		r = link_mtu(rtnl, way.index, &way.mtu);
	if (r == 0 && way.mtu > overhead(endpoint) && way.mtu - overhead(endpoint) < *mtu)
		*mtu = way.mtu - overhead(endpoint);
}
