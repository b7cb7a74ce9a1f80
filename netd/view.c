/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The "view" socket: how things are, without keys that open anything, for whoever may connect. The form stands in docs/design/ipc.md.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "libipc/log.h"
#include "libipc/memfd.h"
#include "netd/netd.h"

#define VIEW_VERSION 1
#define VIEWERS_MAX 16
#define VIEWERS_OF_UID_MAX 4
#define NEVER UINT32_MAX

struct peer_list {
	const struct netd *netd;
	struct pack_writer entries;
	uint32_t count;
	struct wg_device_state device;
};

static int peer_put(struct peer_list *list, const struct id *host, const struct wg_peer_state *peer, bool there)
{
	struct pack_writer *out = &list->entries;

	pack_put_array(out, 9);
	pack_put_bytes(out, host ? host->b : NULL, host ? ID_BYTES : 0);
	pack_put_bytes(out, peer->public_key, KEY_BYTES);
	pack_put_array(out, peer->allowed_count);
	for (unsigned i = 0; i < peer->allowed_count; i++)
		pack_put_prefix(out, &peer->allowed[i]);
	if (peer->endpoint.family)
		pack_put_endpoint(out, &peer->endpoint);
	else
		pack_put_raw(out, "\xc0", 1); /* nil */
	pack_put_u64(out, peer->handshake);
	pack_put_u64(out, peer->rx_bytes);
	pack_put_u64(out, peer->tx_bytes);
	pack_put_u64(out, peer->keepalive);
	pack_put_bool(out, there);
	list->count++;
	return out->error;
}

static int peer_add(const struct wg_device_state *device, const struct wg_peer_state *peer, void *arg)
{
	struct peer_list *list = arg;

	if (peer) {
		owners_mark(list->netd->owners, peer->public_key);
		return peer_put(list, owners_of_key(list->netd->owners, peer->public_key), peer, true);
	}
	owners_unmark(list->netd->owners); /* the dump begins, or begins again */
	list->device = *device;
	list->count = 0;
	list->entries.n = 0;
	return 0;
}

/* What is signed and not on the device: this host itself, which shows how others are told to reach it; any other is amiss. */
static int signed_add(const struct peer *old _unused_, const struct peer *new, void *arg)
{
	struct peer_list *list = ((struct mesh_walk *)arg)->arg;
	struct wg_peer_state peer = { .allowed = new->addresses, .allowed_count = (uint16_t)new->address_count };
	int r = 0;

	if (owners_marked(list->netd->owners, new->statement.wg_key))
		return 0;
	owners_mark(list->netd->owners, new->statement.wg_key);
	memcpy(peer.public_key, new->statement.wg_key, KEY_BYTES);
	for (unsigned i = 0; r == 0 && (i == 0 || i < new->endpoint_count); i++) {
		if (i < new->endpoint_count)
			peer.endpoint = new->endpoints[i];
		r = peer_put(list, &new->host, &peer, false);
	}
	return r;
}

static void put_network(struct pack_writer *out, const struct network_document *network, const struct host_network *member,
			const struct admission *list)
{
	pack_put_array(out, 11);
	pack_put_bytes(out, network->header.id.b, ID_BYTES);
	pack_put_text(out, network->name);
	pack_put_u64(out, network->header.epoch);
	pack_put_u64(out, network->header.generation);
	pack_put_u64(out, network->mtu);
	pack_put_u64(out, network->keepalive);
	pack_put_array(out, member ? member->address_count : 0); /* none: it is reached over a bridge */
	for (unsigned i = 0; member && i < member->address_count; i++)
		pack_put_prefix(out, &member->addresses[i]);
	pack_put_array(out, network->cidr_count);
	for (unsigned i = 0; i < network->cidr_count; i++)
		pack_put_prefix(out, &network->cidrs[i]);
	pack_put_u64(out, network->count);
	pack_put_bool(out, list && list->flags & ADMISSION_LOCKED);
	pack_put_u64(out, list ? list->header.generation : 0);
}

static uint64_t seconds_since(uint64_t then_ms)
{
	return then_ms ? (loop_now_ms() - then_ms) / 1000 : NEVER;
}

static void put_view(struct pack_writer *out, const struct netd *netd, const struct peer_list *peers)
{
	const struct mesh *mesh = netd->mesh;
	bool stale = netd->fresh_ms == 0 || loop_now_ms() - netd->fresh_ms > STALE_MS;

	pack_put_array(out, 16);
	pack_put_u64(out, VIEW_VERSION);
	pack_put_text(out, netd->overlay.name);
	pack_put_text(out, netd->overlay.kind == WG_KERNEL ? "kernel" : "userspace");
	pack_put_text(out, engine_state_name(netd));
	pack_put_bool(out, stale);
	pack_put_u64(out, seconds_since(netd->fresh_ms));
	pack_put_bytes(out, netd->state.host.b, ID_BYTES);
	pack_put_bytes(out, netd->state.keys.public, KEY_BYTES);
	pack_put_u64(out, netd->overlay.listen_port);
	pack_put_array(out, mesh ? mesh->network_count : 0);
	for (unsigned i = 0; mesh && i < mesh->network_count; i++)
		put_network(out, &mesh->networks[i], i < mesh->host.network_count ? &mesh->host.networks[i] : NULL,
			    mesh_list(mesh, &mesh->networks[i].header.id));
	pack_put_array(out, 4);
	pack_put_u64(out, (uint64_t)netd->last.outcome);
	pack_put_text(out, netd->last.refusal.code);
	pack_put_text(out, netd->last.refusal.reason);
	pack_put_u64(out, seconds_since(netd->last.at_ms));
	pack_put_u64(out, netd->mended);
	pack_put_array(out, 4);
	pack_put_u64(out, (uint64_t)netd->gate.state);
	pack_put_text(out, netd->gate.why.code);
	pack_put_text(out, netd->gate.why.reason);
	pack_put_u64(out, seconds_since(netd->gate.since_ms));
	pack_put_array(out, 4);
	pack_put_u64(out, (uint64_t)netd->rotation.nexts);
	pack_put_bool(out, netd->state.keys.next_counter != 0);
	pack_put_u64(out, netd->rotation.moving);
	pack_put_bool(out, netd->rotation.second.wg != NULL);
	pack_put_array(out, 2);
	pack_put_bytes(out, peers->device.public_key, peers->count ? KEY_BYTES : 0);
	pack_put_u64(out, peers->device.listen_port);
	pack_put_array(out, peers->count);
	pack_put_raw(out, peers->entries.bytes, peers->entries.n);
}

static int view_make(const struct netd *netd, bool with_peers, size_t *bytes)
{
	CLEANUP(pack_writer_free) struct pack_writer view = { .bytes = NULL };
	struct peer_list peers = { .netd = netd };
	struct mesh_walk walk = { .blobs = netd->blobs, .events.peer = signed_add, .new = netd->mesh, .arg = &peers };
	int r = 0;

	if (with_peers && netd->engine == ENGINE_RUNNING)
		r = wg_dump(netd->overlay.wg, peer_add, &peers);
	if (with_peers && r == 0 && netd->engine == ENGINE_RUNNING && netd->mesh)
		r = mesh_diff(&walk);
	if (r == 0)
		put_view(&view, netd, &peers);
	pack_writer_free(&peers.entries);
	if (r == 0)
		r = view.error;
	if (r == 0)
		r = memfd_of("view", view.bytes, view.n);
	if (r >= 0)
		*bytes = view.n;
	return r;
}

/* Whoever may connect may ask as often as it likes; netd spends no more than a tenth of its time on answers, for between them the last one is as good. */
static int view_of_now(struct netd *netd, bool with_peers)
{
	struct seen *seen = &netd->seen[with_peers];
	uint64_t now = loop_now_ms();
	int fd;

	if (seen->fd >= 0 && now < seen->until_ms)
		return 0;
	fd = view_make(netd, with_peers, &seen->bytes);
	if (fd < 0)
		return fd;
	if (seen->fd >= 0)
		(void)close(seen->fd);
	seen->fd = fd;
	seen->until_ms = loop_now_ms() + 10 * (loop_now_ms() - now + 1);
	return 0;
}

static int on_message(struct channel *channel, struct message *message, void *arg)
{
	struct netd *netd = arg;
	const struct seen *seen = &netd->seen[message->body.view_get.peers];
	int r = view_of_now(netd, message->body.view_get.peers);

	if (r < 0)
		return log_errno(r, "cannot make a view");
	/* One view a connection: whoever asks on and does not read would pile them up, and with them our memory and descriptors. */
	channel_phase_set(channel, PHASE_START);
	return channel_send(channel, MSG_view, &(struct msg_view){ .bytes = seen->bytes }, &seen->fd);
}

void view_renew(struct netd *netd)
{
	netd->seen[false].until_ms = netd->seen[true].until_ms = 0;
}

int view_listen(struct netd *netd, int fd)
{
	const struct listener_config config = {
		.self = PARTY_NETD,
		.peer = PARTY_VIEWER,
		.phase = PHASE_READY,
		.any_uid = true, /* the socket's mode says who may */
		.channels_max = VIEWERS_MAX,
		.uid_max = VIEWERS_OF_UID_MAX,
		.events = { on_message, NULL },
		.arg = netd,
	};

	netd->seen[false].fd = netd->seen[true].fd = -1;
	return listener_new(netd->loop, fd, &config, &netd->view);
}
