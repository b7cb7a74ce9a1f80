/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>
#include <sodium.h>
#include <string.h>

#include "libwg/netlink.h"
#include "libwg/wg_internal.h"

/* Upper bounds of what is written at once: nest, key, flags, endpoint, keepalive; nest, family, address, mask; with their headers. */
#define PEER_BYTES 128
#define ALLOWED_BYTES 64

struct nlmsghdr *wg_command(uint8_t *buffer, uint16_t family, uint16_t flags, uint8_t cmd)
{
	const struct genlmsghdr command = { .cmd = cmd, .version = WG_GENL_VERSION };
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);

	message->nlmsg_type = family;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(mnl_nlmsg_put_extra_header(message, sizeof(command)), &command, sizeof(command));
	return message;
}

static void begin(struct wg_kernel *kernel)
{
	if (kernel->message)
		return;
	kernel->message = wg_command(kernel->bytes, kernel->family, NLM_F_ACK, WG_CMD_SET_DEVICE);
	mnl_attr_put_u32(kernel->message, WGDEVICE_A_IFINDEX, kernel->index);
}

static bool has_room(const struct wg_kernel *kernel, size_t bytes)
{
	return !kernel->message || kernel->message->nlmsg_len + bytes <= sizeof(kernel->bytes);
}

void wg_message_drop(struct wg *wg)
{
	struct wg_kernel *kernel = (struct wg_kernel *)wg;

	if (kernel->message)
		sodium_memzero(kernel->bytes, kernel->message->nlmsg_len);
	kernel->message = NULL;
	kernel->peers = NULL;
}

int wg_message_flush(struct wg *wg)
{
	struct wg_kernel *kernel = (struct wg_kernel *)wg;
	int r;

	if (!kernel->message)
		return 0;
	if (kernel->peers)
		mnl_attr_nest_end(kernel->message, kernel->peers);
	r = kernel->send(kernel, kernel->message);
	wg_message_drop(wg);
	return r;
}

void wg_message_device(struct wg *wg, const struct wg_device *device)
{
	struct wg_kernel *kernel = (struct wg_kernel *)wg;

	begin(kernel);
	if (device->set_private_key)
		mnl_attr_put(kernel->message, WGDEVICE_A_PRIVATE_KEY, KEY_BYTES, device->private_key);
	if (device->set_listen_port)
		mnl_attr_put_u16(kernel->message, WGDEVICE_A_LISTEN_PORT, device->listen_port);
}

static void put_endpoint(struct nlmsghdr *header, const struct endpoint *endpoint)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(endpoint->port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(endpoint->port) };

	memcpy(&v6.sin6_addr, endpoint->b, sizeof(v6.sin6_addr));
	memcpy(&v4.sin_addr, endpoint->b, sizeof(v4.sin_addr));
	if (endpoint->family == 6)
		mnl_attr_put(header, WGPEER_A_ENDPOINT, sizeof(v6), &v6);
	else
		mnl_attr_put(header, WGPEER_A_ENDPOINT, sizeof(v4), &v4);
}

static void put_allowed(struct nlmsghdr *header, const struct prefix *prefix)
{
	struct nlattr *nest = mnl_attr_nest_start(header, 0);

	mnl_attr_put_u16(header, WGALLOWEDIP_A_FAMILY, prefix->family == 6 ? AF_INET6 : AF_INET);
	mnl_attr_put(header, WGALLOWEDIP_A_IPADDR, prefix->family == 6 ? 16 : 4, prefix->b);
	mnl_attr_put_u8(header, WGALLOWEDIP_A_CIDR_MASK, prefix->length);
	mnl_attr_nest_end(header, nest);
}

static uint32_t peer_flags(const struct wg_peer *peer)
{
	if (peer->remove)
		return WGPEER_F_REMOVE_ME;
	return peer->replace_allowed ? WGPEER_F_REPLACE_ALLOWEDIPS : 0;
}

/* Open a peer's nest: all of it the first time, its bare key when it is continued in a further message. */
static struct nlattr *open_peer(struct wg_kernel *kernel, const struct wg_peer *peer, bool first)
{
	struct nlattr *nest;

	begin(kernel);
	if (!kernel->peers)
		kernel->peers = mnl_attr_nest_start(kernel->message, WGDEVICE_A_PEERS);
	nest = mnl_attr_nest_start(kernel->message, 0);
	mnl_attr_put(kernel->message, WGPEER_A_PUBLIC_KEY, KEY_BYTES, peer->public_key);
	if (!first)
		return nest;
	if (peer_flags(peer))
		mnl_attr_put_u32(kernel->message, WGPEER_A_FLAGS, peer_flags(peer));
	if (!peer->remove && peer->set_endpoint)
		put_endpoint(kernel->message, &peer->endpoint);
	if (!peer->remove && peer->set_keepalive)
		mnl_attr_put_u16(kernel->message, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, peer->keepalive);
	return nest;
}

int wg_message_peer(struct wg *wg, const struct wg_peer *peer)
{
	struct wg_kernel *kernel = (struct wg_kernel *)wg;
	size_t count = peer->remove ? 0 : peer->allowed_count, next = 0;
	struct nlattr *nest, *allowed;
	int r;

	do {
		if (!has_room(kernel, PEER_BYTES + ALLOWED_BYTES)) {
			r = wg_message_flush(wg);
			if (r < 0)
				return r;
		}
		nest = open_peer(kernel, peer, next == 0);
		if (next < count) {
			allowed = mnl_attr_nest_start(kernel->message, WGPEER_A_ALLOWEDIPS);
			while (next < count && has_room(kernel, ALLOWED_BYTES))
				put_allowed(kernel->message, &peer->allowed[next++]);
			mnl_attr_nest_end(kernel->message, allowed);
		}
		mnl_attr_nest_end(kernel->message, nest);
	} while (next < count); /* there was room for one at least: every round makes progress */
	return 0;
}

static void read_endpoint(const struct nlattr *attr, struct endpoint *endpoint)
{
	struct sockaddr_in6 v6;
	struct sockaddr_in v4;

	if (netlink_copy(attr, &v6, sizeof(v6))) {
		*endpoint = (struct endpoint){ .family = 6, .port = ntohs(v6.sin6_port) };
		memcpy(endpoint->b, &v6.sin6_addr, sizeof(v6.sin6_addr));
	} else if (netlink_copy(attr, &v4, sizeof(v4))) {
		*endpoint = (struct endpoint){ .family = 4, .port = ntohs(v4.sin_port) };
		memcpy(endpoint->b, &v4.sin_addr, sizeof(v4.sin_addr));
	}
}

static int read_allowed(const struct nlattr *nest, void *reader)
{
	const struct nlattr *attrs[WGALLOWEDIP_A_MAX + 1];
	struct prefix prefix = { 0 };

	netlink_nested(nest, attrs, ARRAY_SIZE(attrs));
	prefix.family = netlink_copy(attrs[WGALLOWEDIP_A_IPADDR], prefix.b, 16) ? 6 : 4;
	if ((prefix.family == 4 && !netlink_copy(attrs[WGALLOWEDIP_A_IPADDR], prefix.b, 4)) ||
	    !netlink_copy(attrs[WGALLOWEDIP_A_CIDR_MASK], &prefix.length, 1))
		return MNL_CB_ERROR;
	wg_reader_allowed(reader, &prefix);
	return MNL_CB_OK;
}

/* A peer whose AllowedIPs overflow a message goes on in the next with its key and the further AllowedIPs alone, so that only what is
 * there is taken over (drivers/net/wireguard/netlink.c, get_peer()). */
static int read_peer(const struct nlattr *nest, void *arg)
{
	const struct nlattr *attrs[WGPEER_A_MAX + 1];
	struct wg_reader *reader = arg;
	struct wg_peer_state *peer = &reader->peer;
	uint8_t key[KEY_BYTES];
	uint64_t time[2]; /* struct __kernel_timespec */

	netlink_nested(nest, attrs, ARRAY_SIZE(attrs));
	if (!netlink_copy(attrs[WGPEER_A_PUBLIC_KEY], key, sizeof(key)))
		return MNL_CB_ERROR;
	wg_reader_peer(reader, key);
	read_endpoint(attrs[WGPEER_A_ENDPOINT], &peer->endpoint);
	(void)netlink_copy(attrs[WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL], &peer->keepalive, sizeof(peer->keepalive));
	(void)netlink_copy(attrs[WGPEER_A_RX_BYTES], &peer->rx_bytes, sizeof(peer->rx_bytes));
	(void)netlink_copy(attrs[WGPEER_A_TX_BYTES], &peer->tx_bytes, sizeof(peer->tx_bytes));
	if (netlink_copy(attrs[WGPEER_A_LAST_HANDSHAKE_TIME], time, sizeof(time))) {
		peer->handshake = time[0];
		peer->handshake_ms = time[0] * 1000 + time[1] / 1000000;
	}
	if (attrs[WGPEER_A_ALLOWEDIPS])
		return mnl_attr_parse_nested(attrs[WGPEER_A_ALLOWEDIPS], read_allowed, reader);
	return MNL_CB_OK;
}

int wg_message_read(const struct nlmsghdr *message, void *arg)
{
	const struct nlattr *attrs[WGDEVICE_A_MAX + 1];
	struct wg_reader *reader = arg;

	netlink_attributes(message, sizeof(struct genlmsghdr), attrs, ARRAY_SIZE(attrs));
	(void)netlink_copy(attrs[WGDEVICE_A_PUBLIC_KEY], reader->device.public_key, KEY_BYTES);
	(void)netlink_copy(attrs[WGDEVICE_A_LISTEN_PORT], &reader->device.listen_port, sizeof(reader->device.listen_port));
	if (attrs[WGDEVICE_A_PEERS] && mnl_attr_parse_nested(attrs[WGDEVICE_A_PEERS], read_peer, reader) < MNL_CB_OK)
		return -EPROTO;
	return reader->result;
}
