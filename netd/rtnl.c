/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/rtnl.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "netd/netlink.h"

#define REQUEST_BYTES 512 /* the longest, a route with two IPv6 addresses, takes about 80 */

struct rtnl {
	struct netlink *netlink;
	uint64_t sets;
	_Alignas(struct nlmsghdr) uint8_t request[REQUEST_BYTES];
};

int rtnl_open(struct rtnl **rtnl)
{
	_cleanup_(rtnl_close) struct rtnl *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	r = netlink_open(NETLINK_ROUTE, &n->netlink);
	if (r < 0)
		return r;
	*rtnl = TAKE_PTR(n);
	return 0;
}

void rtnl_close(struct rtnl *rtnl)
{
	if (!rtnl)
		return;
	netlink_close(rtnl->netlink);
	free(rtnl);
}

uint64_t rtnl_sets(const struct rtnl *rtnl)
{
	return rtnl->sets;
}

static struct nlmsghdr *request_new(struct rtnl *rtnl, uint16_t type, uint16_t flags, size_t header_bytes, void *header)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(rtnl->request);

	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | flags;
	*(void **)header = mnl_nlmsg_put_extra_header(request, header_bytes);
	return request;
}

static int set(struct rtnl *rtnl, struct nlmsghdr *request)
{
	rtnl->sets++;
	return netlink_request(rtnl->netlink, request, NULL, NULL);
}

/* One walk over what the kernel has: parse one message into item, or return 0 to pass it over. */
struct walk {
	int (*message)(const struct nlmsghdr *message, const struct walk *walk);
	union {
		int (*link)(const struct rtnl_link *, void *);
		int (*address)(const struct rtnl_address *, void *);
		int (*route)(const struct rtnl_route *, void *);
	} each;
	void *arg;
};

static int walk_message(const struct nlmsghdr *message, void *arg)
{
	const struct walk *walk = arg;

	return walk->message(message, walk);
}

static int walk(struct rtnl *rtnl, uint16_t type, size_t header_bytes, const struct walk *with)
{
	struct nlmsghdr *request;
	void *header;
	int r;

	for (unsigned i = 0; i < NETLINK_RESTARTS_MAX; i++) {
		request = request_new(rtnl, type, NLM_F_DUMP, header_bytes, &header);
		r = netlink_request(rtnl->netlink, request, walk_message, (void *)with);
		if (r != -EINTR)
			return r;
	}
	return -EAGAIN;
}

static uint8_t af_of(uint8_t family)
{
	return family == 4 ? AF_INET : AF_INET6;
}

static size_t address_bytes(uint8_t family)
{
	return family == 4 ? 4 : 16;
}

static void put_address(struct nlmsghdr *request, uint16_t type, const struct prefix *prefix)
{
	mnl_attr_put(request, type, address_bytes(prefix->family), prefix->b);
}

/* An attribute's address, with the length and family that its message's header gave. */
static bool get_address(const struct nlattr *attr, uint8_t af, uint8_t length, struct prefix *prefix)
{
	uint8_t family = af == AF_INET ? 4 : 6;
	const void *bytes = netlink_exact(attr, address_bytes(family));

	if (!bytes)
		return false;
	*prefix = (struct prefix){ .family = family, .length = length };
	memcpy(prefix->b, bytes, address_bytes(family));
	return true;
}

static void get_name(const struct nlattr *attr, char name[static IFNAMSIZ])
{
	size_t n = attr ? strnlen(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr)) : 0;

	if (n < IFNAMSIZ)
		memcpy(name, mnl_attr_get_payload(attr), n);
}

static int get_int(const struct nlattr *attr)
{
	return (int)netlink_uint(attr, sizeof(uint32_t));
}

/* -- links ------------------------------------------------------------------------------------------------------------------ */

static int link_message(const struct nlmsghdr *message, const struct walk *walk)
{
	const struct ifinfomsg *header = mnl_nlmsg_get_payload(message);
	struct rtnl_link link = { 0 };
	const struct nlattr *attrs[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];

	if (message->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(message) < sizeof(*header))
		return 0;
	link.index = header->ifi_index;
	link.up = header->ifi_flags & IFF_UP;
	link.loopback = header->ifi_flags & IFF_LOOPBACK;
	netlink_attributes(message, sizeof(*header), attrs, ARRAY_SIZE(attrs));
	netlink_nested(attrs[IFLA_LINKINFO], info, ARRAY_SIZE(info));
	get_name(attrs[IFLA_IFNAME], link.name);
	get_name(info[IFLA_INFO_KIND], link.kind);
	link.mtu = (uint32_t)get_int(attrs[IFLA_MTU]);
	return walk->each.link(&link, walk->arg);
}

int rtnl_link_each(struct rtnl *rtnl, int (*each)(const struct rtnl_link *, void *), void *arg)
{
	const struct walk with = { .message = link_message, .each.link = each, .arg = arg };

	return walk(rtnl, RTM_GETLINK, sizeof(struct ifinfomsg), &with);
}

static int link_copy(const struct rtnl_link *link, void *arg)
{
	*(struct rtnl_link *)arg = *link;
	return 0;
}

int rtnl_link_get(struct rtnl *rtnl, const char *name, struct rtnl_link *link)
{
	struct rtnl_link found = { 0 };
	const struct walk with = { .message = link_message, .each.link = link_copy, .arg = &found };
	struct ifinfomsg *header;
	struct nlmsghdr *request = request_new(rtnl, RTM_GETLINK, NLM_F_ACK, sizeof(*header), &header);
	int r;

	if (strlen(name) >= IFNAMSIZ)
		return -ENODEV;
	mnl_attr_put_strz(request, IFLA_IFNAME, name);
	r = netlink_request(rtnl->netlink, request, walk_message, (void *)&with);
	if (r < 0)
		return r;
	if (found.index == 0)
		return -ENODEV;
	*link = found;
	return 0;
}

int rtnl_link_add_wireguard(struct rtnl *rtnl, const char *name)
{
	struct ifinfomsg *header;
	struct nlmsghdr *request =
		request_new(rtnl, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*header), &header);
	struct nlattr *info;

	if (name[0] == '\0' || strlen(name) >= IFNAMSIZ)
		return -EINVAL;
	mnl_attr_put_strz(request, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(request, IFLA_LINKINFO);
	mnl_attr_put_strz(request, IFLA_INFO_KIND, "wireguard");
	mnl_attr_nest_end(request, info);
	return set(rtnl, request);
}

int rtnl_link_delete(struct rtnl *rtnl, int index)
{
	struct ifinfomsg *header;
	struct nlmsghdr *request = request_new(rtnl, RTM_DELLINK, NLM_F_ACK, sizeof(*header), &header);

	if (index <= 0)
		return -ENODEV;
	header->ifi_index = index;
	return set(rtnl, request);
}

int rtnl_link_set(struct rtnl *rtnl, int index, uint32_t mtu, bool up)
{
	struct ifinfomsg *header;
	struct nlmsghdr *request = request_new(rtnl, RTM_NEWLINK, NLM_F_ACK, sizeof(*header), &header);

	if (index <= 0)
		return -ENODEV;
	header->ifi_index = index;
	header->ifi_change = IFF_UP;
	header->ifi_flags = up ? IFF_UP : 0;
	if (mtu)
		mnl_attr_put_u32(request, IFLA_MTU, mtu);
	return set(rtnl, request);
}

/* -- addresses -------------------------------------------------------------------------------------------------------------- */

/* IFA_F_TEMPORARY has the value of IPv4's IFA_F_SECONDARY, which is harmless. */
static bool address_usable(uint8_t af, uint32_t flags)
{
	if (af == AF_INET6 && (flags & IFA_F_TEMPORARY))
		return false;
	return !(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED));
}

static int address_message(const struct nlmsghdr *message, const struct walk *walk)
{
	const struct ifaddrmsg *header = mnl_nlmsg_get_payload(message);
	struct rtnl_address address = { 0 };
	const struct nlattr *attrs[IFA_MAX + 1];

	if (message->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(message) < sizeof(*header))
		return 0;
	if (header->ifa_family != AF_INET && header->ifa_family != AF_INET6)
		return 0;
	netlink_attributes(message, sizeof(*header), attrs, ARRAY_SIZE(attrs));
	/* On a point-to-point link IFA_ADDRESS is the other end's and IFA_LOCAL ours; IPv6 mostly has IFA_ADDRESS alone. */
	if (!get_address(attrs[IFA_LOCAL] ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS], header->ifa_family, header->ifa_prefixlen,
			 &address.address))
		return 0;
	address.index = (int)header->ifa_index;
	address.scope = header->ifa_scope;
	address.ours = netlink_uint(attrs[IFA_PROTO], 1) == ROUTE_PROTOCOL;
	address.usable = address_usable(header->ifa_family,
					attrs[IFA_FLAGS] ? (uint32_t)get_int(attrs[IFA_FLAGS]) : header->ifa_flags);
	return walk->each.address(&address, walk->arg);
}

int rtnl_address_each(struct rtnl *rtnl, int (*each)(const struct rtnl_address *, void *), void *arg)
{
	const struct walk with = { .message = address_message, .each.address = each, .arg = arg };

	return walk(rtnl, RTM_GETADDR, sizeof(struct ifaddrmsg), &with);
}

static int address_set(struct rtnl *rtnl, uint16_t type, uint16_t flags, int index, const struct prefix *address)
{
	struct ifaddrmsg *header;
	struct nlmsghdr *request = request_new(rtnl, type, NLM_F_ACK | flags, sizeof(*header), &header);

	if (index <= 0)
		return -ENODEV;
	if (!prefix_valid(address) || address->length != family_bits(address->family))
		return -EINVAL;
	header->ifa_family = af_of(address->family);
	header->ifa_prefixlen = address->length;
	header->ifa_index = (uint32_t)index;
	put_address(request, IFA_LOCAL, address);
	put_address(request, IFA_ADDRESS, address);
	if (type == RTM_NEWADDR) {
		mnl_attr_put_u32(request, IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
		mnl_attr_put_u8(request, IFA_PROTO, ROUTE_PROTOCOL);
	}
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

static int route_message(const struct nlmsghdr *message, const struct walk *walk)
{
	const struct rtmsg *header = mnl_nlmsg_get_payload(message);
	struct rtnl_route route = { 0 };
	const struct nlattr *attrs[RTA_MAX + 1];

	if (message->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(message) < sizeof(*header))
		return 0;
	if (header->rtm_family != AF_INET && header->rtm_family != AF_INET6)
		return 0;
	if (header->rtm_type != RTN_UNICAST || (header->rtm_flags & RTM_F_CLONED))
		return 0;
	route.protocol = header->rtm_protocol;
	route.type = header->rtm_type;
	route.destination.family = header->rtm_family == AF_INET ? 4 : 6;
	netlink_attributes(message, sizeof(*header), attrs, ARRAY_SIZE(attrs));
	(void)get_address(attrs[RTA_DST], header->rtm_family, header->rtm_dst_len, &route.destination);
	route.index = get_int(attrs[RTA_OIF]);
	route.table = attrs[RTA_TABLE] ? (uint32_t)get_int(attrs[RTA_TABLE]) : header->rtm_table;
	if (route.table != RT_TABLE_MAIN && route.table != RT_TABLE_LOCAL)
		return 0;
	return walk->each.route(&route, walk->arg);
}

int rtnl_route_each(struct rtnl *rtnl, int (*each)(const struct rtnl_route *, void *), void *arg)
{
	const struct walk with = { .message = route_message, .each.route = each, .arg = arg };

	return walk(rtnl, RTM_GETROUTE, sizeof(struct rtmsg), &with);
}

static int route_set(struct rtnl *rtnl, uint16_t type, uint16_t flags, int index, const struct prefix *destination,
		     const struct prefix *source)
{
	struct rtmsg *header;
	struct nlmsghdr *request = request_new(rtnl, type, NLM_F_ACK | flags, sizeof(*header), &header);

	if (index <= 0)
		return -ENODEV;
	if (!prefix_valid(destination) || (source && source->family != destination->family))
		return -EINVAL;
	header->rtm_family = af_of(destination->family);
	header->rtm_dst_len = destination->length;
	header->rtm_table = RT_TABLE_MAIN;
	header->rtm_protocol = ROUTE_PROTOCOL;
	header->rtm_scope = RT_SCOPE_LINK;
	header->rtm_type = RTN_UNICAST;
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
