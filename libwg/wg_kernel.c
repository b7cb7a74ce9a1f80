/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's WireGuard over generic netlink (uapi/linux/wireguard.h, uapi/linux/genetlink.h).
 */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <string.h>

#include "libwg/netlink.h"
#include "libwg/rtnl.h"
#include "libwg/wg_internal.h"

static int family_read(const struct nlmsghdr *message, void *family)
{
	const struct nlattr *attrs[CTRL_ATTR_MAX + 1];

	netlink_attributes(message, sizeof(struct genlmsghdr), attrs, ARRAY_SIZE(attrs));
	return netlink_copy(attrs[CTRL_ATTR_FAMILY_ID], family, sizeof(uint16_t)) ? 0 : -EPROTO;
}

/* @return 0; -ENOENT this kernel has no WireGuard */
static int family_find(struct netlink *netlink, uint16_t *family)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[64];
	struct nlmsghdr *request = wg_command(buffer, GENL_ID_CTRL, NLM_F_ACK, CTRL_CMD_GETFAMILY);

	mnl_attr_put_strz(request, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
	return netlink_request(netlink, request, family_read, family);
}

int wg_kernel_available(void)
{
	_cleanup_(netlink_close) struct netlink *netlink = NULL;
	uint16_t family;
	int r = netlink_open(NETLINK_GENERIC, &netlink);

	if (r == 0)
		r = family_find(netlink, &family);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : 1;
}

static int kernel_send(struct wg_kernel *kernel, struct nlmsghdr *message)
{
	kernel->wg.sets++;
	return netlink_request(kernel->netlink, message, NULL, NULL);
}

static int kernel_dump(struct wg *wg, wg_dump_fn *each, void *arg)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[64];
	struct wg_kernel *kernel = (struct wg_kernel *)wg;
	struct nlmsghdr *request;
	struct wg_reader reader;
	int r;

	for (unsigned i = 0; i < NETLINK_RESTARTS_MAX; i++) {
		reader = (struct wg_reader){ .each = each, .arg = arg };
		request = wg_command(buffer, kernel->family, NLM_F_DUMP, WG_CMD_GET_DEVICE);
		mnl_attr_put_u32(request, WGDEVICE_A_IFINDEX, kernel->index);
		r = netlink_request(kernel->netlink, request, wg_message_read, &reader);
		if (r == 0)
			return wg_reader_end(&reader);
		if (r != -EINTR && r != -EBUSY) /* as in rtnl.c, walk_all() */
			return r;
	}
	return -EAGAIN;
}

static void kernel_close(struct wg *wg)
{
	struct wg_kernel *kernel = (struct wg_kernel *)wg;

	wg_message_drop(wg);
	netlink_close(kernel->netlink);
	free(kernel);
}

static const struct wg_ops kernel_ops = {
	.device = wg_message_device,
	.peer = wg_message_peer,
	.flush = wg_message_flush,
	.drop = wg_message_drop,
	.dump = kernel_dump,
	.close = kernel_close,
};

static int find(struct wg_kernel *kernel)
{
	_cleanup_(rtnl_close) struct rtnl *rtnl = NULL;
	struct rtnl_link link;
	int r = rtnl_open(&rtnl);

	if (r == 0)
		r = rtnl_link_get(rtnl, kernel->wg.name, &link);
	if (r == 0 && strcmp(link.kind, WG_GENL_NAME) != 0)
		r = -ENODEV;
	if (r == 0)
		r = netlink_open(NETLINK_GENERIC, &kernel->netlink);
	if (r == 0)
		r = family_find(kernel->netlink, &kernel->family);
	if (r == 0)
		kernel->index = (uint32_t)link.index;
	return r;
}

int wg_kernel_open(const char *name, struct wg **wg)
{
	struct wg_kernel *kernel = calloc(1, sizeof(*kernel));
	int r;

	if (!kernel)
		return -ENOMEM;
	kernel->wg.ops = &kernel_ops;
	kernel->wg.lifeline = -1;
	(void)snprintf(kernel->wg.name, sizeof(kernel->wg.name), "%s", name);
	kernel->send = kernel_send;
	r = find(kernel);
	if (r < 0)
		kernel_close(&kernel->wg);
	else
		*wg = &kernel->wg;
	return r;
}
