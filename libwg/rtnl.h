/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links, addresses and routes over rtnetlink (rtnetlink(7)), as far as an overlay interface needs them.
 *
 * Everything that is added carries ROUTE_PROTOCOL (routes: rtm_protocol; addresses: IFA_PROTO where the kernel has it, 5.18), and
 * only what carries it is ever removed: other people's addresses and routes are left alone (M14).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "libipc/types.h"

#define ROUTE_PROTOCOL 158 /* unassigned in linux/rtnetlink.h; `ip route show proto 158` lists ours */

struct rtnl;

struct rtnl_link {
	int index;
	uint32_t mtu;
	bool up;
	bool loopback;
	char name[16]; /* IFNAMSIZ */
	char kind[16]; /* IFLA_INFO_KIND: "wireguard", "tun", "veth"; empty for hardware */
};

struct rtnl_address {
	int index;
	uint8_t scope; /* RT_SCOPE_UNIVERSE is 0 */
	bool ours;     /* carries ROUTE_PROTOCOL */
	bool usable;   /* neither tentative, deprecated, nor temporary */
	struct prefix address; /* the address itself with its on-link length: host bits are set */
};

/* The way that the kernel would send a packet, policy routing included. */
struct rtnl_way {
	int index;      /* output interface; 0: none */
	uint32_t mtu;   /* the route's own; 0: the interface's */
	uint32_t table; /* that the route stands in */
};

struct rtnl_route {
	int index; /* output interface; 0: several, or none */
	uint8_t protocol;
	uint8_t type; /* RTN_UNICAST ... */
	uint32_t table;
	struct prefix destination; /* length 0: default route */
};

_must_check_ int rtnl_open(struct rtnl **rtnl);
void rtnl_close(struct rtnl *rtnl);
DEFINE_CLEANUP(struct rtnl *, rtnl_close)

/** Look a link up by name. @return 0; -ENODEV */
_must_check_ int rtnl_link_get(struct rtnl *rtnl, const char *name, struct rtnl_link *link);
/** Add a kernel WireGuard interface. @return 0; -EEXIST; -EOPNOTSUPP */
_must_check_ int rtnl_link_add_wireguard(struct rtnl *rtnl, const char *name);
/** Accept packets over an interface whose sender's route is another interface's (IPv4's rp_filter loose): the tunnel vouches for the sender. @return 0; negative errno */
_must_check_ int rtnl_link_loose(struct rtnl *rtnl, int index);
_must_check_ int rtnl_link_delete(struct rtnl *rtnl, int index);
/** Set the MTU (0: leave) and the administrative state. Sends nothing itself if called with what is already so: callers compare. */
_must_check_ int rtnl_link_set(struct rtnl *rtnl, int index, uint32_t mtu, bool up);

/**
 * Walk all links, addresses or routes. A nonzero return of a callback stops the walk and is returned. A dump that the kernel says was
 * interrupted starts again, so that a callback may see things twice; -EAGAIN after 8 of them. Routes: main and local tables, unicast only,
 * cloned entries left out.
 */
_must_check_ int rtnl_link_each(struct rtnl *rtnl, int (*each)(const struct rtnl_link *, void *), void *arg);
_must_check_ int rtnl_address_each(struct rtnl *rtnl, int (*each)(const struct rtnl_address *, void *), void *arg);
_must_check_ int rtnl_route_each(struct rtnl *rtnl, int (*each)(const struct rtnl_route *, void *), void *arg);

/** Global, usable addresses of this host on other interfaces than these (0: none), with a port. */
struct rtnl_underlay {
	int not_on[2];
	uint16_t port;
	struct endpoint *addresses;
	unsigned max, count;
	unsigned families; /* bits 4 and 6: there are such addresses, whether or not they had room */
};
_must_check_ int rtnl_underlay(struct rtnl *rtnl, struct rtnl_underlay *underlay);

/** Add or delete an overlay address of full length (/32, /128; no on-link route, no DAD). @return 0; -EEXIST; -EADDRNOTAVAIL */
_must_check_ int rtnl_address_add(struct rtnl *rtnl, int index, const struct prefix *address);
_must_check_ int rtnl_address_delete(struct rtnl *rtnl, int index, const struct prefix *address);

/** Is there a route that overlaps a range, other than the default's, ours, and those through an interface (0: none)? @return 1 with *other; 0; negative errno */
_must_check_ int rtnl_route_overlapping(struct rtnl *rtnl, const struct prefix *range, int not_through, struct prefix *other);

/** Add or delete a unicast route to a range through an interface, scope link, ROUTE_PROTOCOL, main table; source: preferred source address or NULL. @return 0; -EEXIST; -ESRCH */
_must_check_ int rtnl_route_add(struct rtnl *rtnl, int index, const struct prefix *destination, const struct prefix *source);
_must_check_ int rtnl_route_delete(struct rtnl *rtnl, int index, const struct prefix *destination);

/** Ask the kernel for the way to an address of full length. @return 0; -ENETUNREACH, -EHOSTUNREACH, -EACCES, -EINVAL as routes and rules say; negative errno */
_must_check_ int rtnl_way_to(struct rtnl *rtnl, const struct prefix *address, struct rtnl_way *way);

/**
 * Ask the kernel which way a packet to a WireGuard endpoint would go, policy routing included, and how large a packet within the tunnel may be to go there in
 * one piece: the route's own MTU (a metric, or what path MTU discovery found), else its interface's, less the outer headers.
 * @param not_through an interface that is no way: the tunnel's own
 * @param mtu lowered to what fits; left as it is if that is more, or if there is no such route
 */
void rtnl_lower_mtu(struct rtnl *rtnl, const struct endpoint *endpoint, int not_through, uint32_t *mtu);

/**
 * A socket that becomes readable when an interface, its addresses or routes of ours (ROUTE_PROTOCOL) that go away are changed, by anybody, us included. Other
 * interfaces' notifications do not wake its reader.
 * @return the descriptor, the caller's; negative errno
 */
_must_check_ int rtnl_watch_open(int index);
/** Read it empty. @return was there anything? */
bool rtnl_watch_drain(int fd);

/** How many requests that change something were sent since rtnl_open(). */
uint64_t rtnl_sets(const struct rtnl *rtnl);
