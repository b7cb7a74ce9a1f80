/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>
#include <sodium.h>
#include <string.h>

#include "netd/netlink.h"
#include "netd/wg_internal.h"

/* Upper bounds of what is written at once: nest, key, flags, endpoint, keepalive; nest, family, address, mask; with their headers. */
#define PEER_BYTES 128
#define ALLOWED_BYTES 64

static void begin(struct wg_message *message)
{
	const struct genlmsghdr command = { .cmd = WG_CMD_SET_DEVICE, .version = WG_GENL_VERSION };

	if (message->header)
		return;
	message->header = mnl_nlmsg_put_header(message->bytes);
	message->header->nlmsg_type = message->family;
	message->header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	memcpy(mnl_nlmsg_put_extra_header(message->header, sizeof(command)), &command, sizeof(command));
	mnl_attr_put_u32(message->header, WGDEVICE_A_IFINDEX, message->index);
}

static bool has_room(const struct wg_message *message, size_t bytes)
{
	return !message->header || message->header->nlmsg_len + bytes <= sizeof(message->bytes);
}

void wg_message_drop(struct wg_message *message)
{
	if (message->header)
		sodium_memzero(message->bytes, message->header->nlmsg_len);
	message->header = NULL;
	message->peers = NULL;
}

int wg_message_flush(struct wg_message *message)
{
	int r;

	if (!message->header)
		return 0;
	if (message->peers)
		mnl_attr_nest_end(message->header, message->peers);
	r = message->send(message->header, message->arg);
	wg_message_drop(message);
	return r;
}

void wg_message_device(struct wg_message *message, const struct wg_device *device)
{
	begin(message);
	if (device->set_private_key)
		mnl_attr_put(message->header, WGDEVICE_A_PRIVATE_KEY, KEY_BYTES, device->private_key);
	if (device->set_listen_port)
		mnl_attr_put_u16(message->header, WGDEVICE_A_LISTEN_PORT, device->listen_port);
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
static struct nlattr *open_peer(struct wg_message *message, const struct wg_peer *peer, bool first)
{
	struct nlattr *nest;

	begin(message);
	if (!message->peers)
		message->peers = mnl_attr_nest_start(message->header, WGDEVICE_A_PEERS);
	nest = mnl_attr_nest_start(message->header, 0);
	mnl_attr_put(message->header, WGPEER_A_PUBLIC_KEY, KEY_BYTES, peer->public_key);
	if (!first)
		return nest;
	if (peer_flags(peer))
		mnl_attr_put_u32(message->header, WGPEER_A_FLAGS, peer_flags(peer));
	if (!peer->remove && peer->set_endpoint)
		put_endpoint(message->header, &peer->endpoint);
	if (!peer->remove && peer->set_keepalive)
		mnl_attr_put_u16(message->header, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, peer->keepalive);
	return nest;
}

/* Write as many of a peer's AllowedIPs, from *next on, as this message holds. */
static void put_peer_part(struct wg_message *message, const struct wg_peer *peer, size_t *next)
{
	size_t count = peer->remove ? 0 : peer->allowed_count;
	struct nlattr *nest = open_peer(message, peer, *next == 0), *allowed;

	if (*next < count) {
		allowed = mnl_attr_nest_start(message->header, WGPEER_A_ALLOWEDIPS);
		while (*next < count && has_room(message, ALLOWED_BYTES))
			put_allowed(message->header, &peer->allowed[(*next)++]);
		mnl_attr_nest_end(message->header, allowed);
	}
	mnl_attr_nest_end(message->header, nest);
}

int wg_message_peer(struct wg_message *message, const struct wg_peer *peer)
{
	size_t count = peer->remove ? 0 : peer->allowed_count;
	size_t next = 0;
	int r;

	do {
		/* Room for one AllowedIP at least: every round makes progress. */
		if (!has_room(message, PEER_BYTES + ALLOWED_BYTES)) {
			r = wg_message_flush(message);
			if (r < 0)
				return r;
		}
		put_peer_part(message, peer, &next);
	} while (next < count);
	return 0;
}

static void read_endpoint(const struct nlattr *attr, struct endpoint *endpoint)
{
	const struct sockaddr_in6 *v6 = netlink_exact(attr, sizeof(*v6));
	const struct sockaddr_in *v4 = netlink_exact(attr, sizeof(*v4));

	if (v6 && v6->sin6_family == AF_INET6) {
		*endpoint = (struct endpoint){ .family = 6, .port = ntohs(v6->sin6_port) };
		memcpy(endpoint->b, &v6->sin6_addr, sizeof(v6->sin6_addr));
	} else if (v4 && v4->sin_family == AF_INET) {
		*endpoint = (struct endpoint){ .family = 4, .port = ntohs(v4->sin_port) };
		memcpy(endpoint->b, &v4->sin_addr, sizeof(v4->sin_addr));
	}
}

static int read_allowed(const struct nlattr *nest, void *reader)
{
	const struct nlattr *attrs[WGALLOWEDIP_A_MAX + 1];
	struct prefix prefix = { 0 };
	const void *bytes;

	netlink_nested(nest, attrs, ARRAY_SIZE(attrs));
	prefix.family = netlink_uint(attrs[WGALLOWEDIP_A_FAMILY], 2) == AF_INET6 ? 6 : 4;
	prefix.length = (uint8_t)netlink_uint(attrs[WGALLOWEDIP_A_CIDR_MASK], 1);
	bytes = netlink_exact(attrs[WGALLOWEDIP_A_IPADDR], prefix.family == 6 ? 16 : 4);
	if (!bytes)
		return MNL_CB_ERROR;
	memcpy(prefix.b, bytes, prefix.family == 6 ? 16 : 4);
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
	const void *key;

	netlink_nested(nest, attrs, ARRAY_SIZE(attrs));
	key = netlink_exact(attrs[WGPEER_A_PUBLIC_KEY], KEY_BYTES);
	if (!key)
		return MNL_CB_ERROR;
	wg_reader_peer(reader, key);
	read_endpoint(attrs[WGPEER_A_ENDPOINT], &peer->endpoint);
	if (attrs[WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL])
		peer->keepalive = (uint16_t)netlink_uint(attrs[WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL], 2);
	if (attrs[WGPEER_A_LAST_HANDSHAKE_TIME]) /* struct __kernel_timespec; its first half are the seconds */
		peer->handshake = mnl_attr_get_payload_len(attrs[WGPEER_A_LAST_HANDSHAKE_TIME]) == 16 ?
					  mnl_attr_get_u64(attrs[WGPEER_A_LAST_HANDSHAKE_TIME]) :
					  0;
	if (attrs[WGPEER_A_RX_BYTES])
		peer->rx_bytes = netlink_uint(attrs[WGPEER_A_RX_BYTES], 8);
	if (attrs[WGPEER_A_TX_BYTES])
		peer->tx_bytes = netlink_uint(attrs[WGPEER_A_TX_BYTES], 8);
	if (attrs[WGPEER_A_ALLOWEDIPS])
		return mnl_attr_parse_nested(attrs[WGPEER_A_ALLOWEDIPS], read_allowed, reader);
	return MNL_CB_OK;
}

int wg_message_read(const struct nlmsghdr *message, void *arg)
{
	const struct nlattr *attrs[WGDEVICE_A_MAX + 1];
	struct wg_reader *reader = arg;
	const void *key;

	netlink_attributes(message, sizeof(struct genlmsghdr), attrs, ARRAY_SIZE(attrs));
	if (!reader->device_given) {
		key = netlink_exact(attrs[WGDEVICE_A_PUBLIC_KEY], KEY_BYTES);
		if (key)
			memcpy(reader->device.public_key, key, KEY_BYTES);
		reader->device.listen_port = (uint16_t)netlink_uint(attrs[WGDEVICE_A_LISTEN_PORT], 2);
	}
	if (attrs[WGDEVICE_A_PEERS] && mnl_attr_parse_nested(attrs[WGDEVICE_A_PEERS], read_peer, reader) < MNL_CB_OK)
		return -EPROTO;
	return reader->result;
}
