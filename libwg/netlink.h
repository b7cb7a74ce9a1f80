/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the kernel over netlink (netlink(7)), one at a time: what rtnetlink and WireGuard's generic netlink have in common.
 */
#pragma once

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

#include "libipc/cleanup.h"

#define NETLINK_RECEIVE_BYTES 32768 /* the kernel makes no larger dump message (net/netlink/af_netlink.c, netlink_dump()) */
#define NETLINK_RESTARTS_MAX 8      /* a dump that is interrupted so often ends in -EAGAIN */

struct netlink {
	struct mnl_socket *socket;
	uint32_t port, seq;
	uint8_t received[NETLINK_RECEIVE_BYTES]; /* wiped after every request: a WireGuard dump carries private keys */
};

/** Called for every message that answers a request; a nonzero return is netlink_request()'s result, the rest is read and ignored. */
typedef int netlink_fn(const struct nlmsghdr *message, void *arg);

/** @param protocol NETLINK_ROUTE or NETLINK_GENERIC. @return 0; -ENOMEM; negative errno of socket(2) */
_must_check_ int netlink_open(int protocol, struct netlink **netlink);
void netlink_close(struct netlink *netlink);
DEFINE_CLEANUP(struct netlink *, netlink_close)

/**
 * Send one request and read its answers to the end.
 *
 * @param request sequence number and port are filled in; flags must hold NLM_F_ACK or NLM_F_DUMP, else nothing ends the answers
 * @param each may be NULL if no answer but the acknowledgement is expected
 * @return 0; each's nonzero return; the kernel's error; -ETIMEDOUT; -EINTR the dump was interrupted (NLM_F_DUMP_INTR) and may be
 *         inconsistent: ask again
 */
_must_check_ int netlink_request(struct netlink *netlink, struct nlmsghdr *request, netlink_fn *each, void *arg);

/** Sort attributes by type: table[type], NULL where there is none; types of count and above are passed over. */
void netlink_attributes(const struct nlmsghdr *message, size_t header_bytes, const struct nlattr **table, size_t count);
void netlink_nested(const struct nlattr *nest, const struct nlattr **table, size_t count);

/** Copy an attribute's payload if there is one of exactly so many bytes. @return was there? */
bool netlink_copy(const struct nlattr *attr, void *to, size_t bytes);
