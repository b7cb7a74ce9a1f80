/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's WireGuard over generic netlink (uapi/linux/wireguard.h, uapi/linux/genetlink.h).
 */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <string.h>

#include "netd/netlink.h"
#include "netd/rtnl.h"
#include "netd/wg_internal.h"

struct kernel {
	struct wg wg;
	struct netlink *netlink;
	struct wg_message message;
};

static struct kernel *kernel_of(struct wg *wg)
{
	return (struct kernel *)wg;
}

static struct nlmsghdr *command_new(uint8_t *buffer, uint16_t family, uint16_t flags, uint8_t cmd, uint8_t version)
{
	const struct genlmsghdr command = { .cmd = cmd, .version = version };
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = family;
	request->nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(mnl_nlmsg_put_extra_header(request, sizeof(command)), &command, sizeof(command));
	return request;
}

static int family_read(const struct nlmsghdr *message, void *family)
{
	const struct nlattr *attrs[CTRL_ATTR_MAX + 1];

	netlink_attributes(message, sizeof(struct genlmsghdr), attrs, ARRAY_SIZE(attrs));
	*(uint16_t *)family = (uint16_t)netlink_uint(attrs[CTRL_ATTR_FAMILY_ID], 2);
	return 0;
}

/* @return 0; -ENOENT this kernel has no WireGuard */
static int family_find(struct netlink *netlink, uint16_t *family)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[128];
	struct nlmsghdr *request = command_new(buffer, GENL_ID_CTRL, NLM_F_ACK, CTRL_CMD_GETFAMILY, 1);
	uint16_t found = 0;
	int r;

	mnl_attr_put_strz(request, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
	r = netlink_request(netlink, request, family_read, &found);
	if (r < 0)
		return r;
	if (found == 0)
		return -ENOENT;
	*family = found;
	return 0;
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

static int kernel_send(struct nlmsghdr *message, void *arg)
{
	struct kernel *kernel = arg;

	kernel->wg.sets++;
	return netlink_request(kernel->netlink, message, NULL, NULL);
}

static void kernel_device(struct wg *wg, const struct wg_device *device)
{
	wg_message_device(&kernel_of(wg)->message, device);
}

static int kernel_peer(struct wg *wg, const struct wg_peer *peer)
{
	return wg_message_peer(&kernel_of(wg)->message, peer);
}

static int kernel_flush(struct wg *wg)
{
	return wg_message_flush(&kernel_of(wg)->message);
}

static void kernel_drop(struct wg *wg)
{
	wg_message_drop(&kernel_of(wg)->message);
}

static int kernel_dump(struct wg *wg, wg_dump_fn *each, void *arg)
{
	_Alignas(struct nlmsghdr) uint8_t buffer[64];
	struct kernel *kernel = kernel_of(wg);
	struct nlmsghdr *request;
	struct wg_reader reader;
	int r;

	for (unsigned i = 0; i < NETLINK_RESTARTS_MAX; i++) {
		reader = (struct wg_reader){ .each = each, .arg = arg };
		request = command_new(buffer, kernel->message.family, NLM_F_DUMP, WG_CMD_GET_DEVICE, WG_GENL_VERSION);
		mnl_attr_put_u32(request, WGDEVICE_A_IFINDEX, kernel->message.index);
		r = netlink_request(kernel->netlink, request, wg_message_read, &reader);
		if (r == 0)
			return wg_reader_end(&reader);
		if (r != -EINTR)
			return r;
	}
	return -EAGAIN;
}

static void kernel_close(struct wg *wg)
{
	struct kernel *kernel = kernel_of(wg);

	wg_message_drop(&kernel->message);
	netlink_close(kernel->netlink);
	free(kernel);
}

static const struct wg_ops kernel_ops = {
	.device = kernel_device,
	.peer = kernel_peer,
	.flush = kernel_flush,
	.drop = kernel_drop,
	.dump = kernel_dump,
	.close = kernel_close,
};

static int index_of(const char *name, uint32_t *index)
{
	_cleanup_(rtnl_close) struct rtnl *rtnl = NULL;
	struct rtnl_link link;
	int r = rtnl_open(&rtnl);

	if (r == 0)
		r = rtnl_link_get(rtnl, name, &link);
	if (r < 0)
		return r;
	if (strcmp(link.kind, WG_GENL_NAME) != 0)
		return -ENODEV;
	*index = (uint32_t)link.index;
	return 0;
}

int wg_kernel_open(const char *name, struct wg **wg)
{
	struct kernel *kernel = calloc(1, sizeof(*kernel));
	int r;

	if (!kernel)
		return -ENOMEM;
	kernel->wg.ops = &kernel_ops;
	kernel->wg.lifeline = -1;
	strncpy(kernel->wg.name, name, sizeof(kernel->wg.name) - 1);
	kernel->message.send = kernel_send;
	kernel->message.arg = kernel;
	r = index_of(name, &kernel->message.index);
	if (r == 0)
		r = netlink_open(NETLINK_GENERIC, &kernel->netlink);
	if (r == 0)
		r = family_find(kernel->netlink, &kernel->message.family);
	if (r < 0) {
		kernel_close(&kernel->wg);
		return r == -ENOENT ? -ENODEV : r;
	}
	*wg = &kernel->wg;
	return 0;
}
