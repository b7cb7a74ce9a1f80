/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/meshview.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libdoc/host.h"

#define VIEW_VERSION 1

static const struct pack_limits view_limits = { .bytes = VIEW_BYTES_MAX, .depth = 5, .elements = 16 * 1024 * 1024 };

/* A binary of n bytes, or an empty one. @return whether it was there */
static bool read_optional(struct pack_cursor *cursor, void *out, size_t n)
{
	struct view bytes = pack_bytes(cursor, n);

	if (bytes.n != 0 && bytes.n != n)
		cursor->error = -EBADMSG;
	if (cursor->error || bytes.n == 0)
		return false;
	memcpy(out, bytes.p, n);
	return true;
}

static unsigned read_prefixes(struct pack_cursor *cursor, struct prefix *prefixes, uint32_t max)
{
	struct pack_cursor inner;
	uint32_t count = pack_array(cursor, 0, max, &inner);

	for (uint32_t i = 0; i < count; i++)
		pack_prefix(&inner, &prefixes[i]);
	pack_close(cursor, &inner);
	return count;
}

static void read_network(struct pack_cursor *cursor, struct mesh_network *network)
{
	struct pack_cursor inner;

	(void)pack_array(cursor, 11, 11, &inner);
	pack_fixed(&inner, network->id.b, ID_BYTES);
	pack_text_copy(&inner, network->name, sizeof(network->name));
	network->epoch = pack_u64(&inner, UINT32_MAX);
	network->generation = pack_u64(&inner, UINT64_MAX);
	network->mtu = pack_u64(&inner, UINT16_MAX);
	network->keepalive = pack_u64(&inner, UINT16_MAX);
	network->address_count = read_prefixes(&inner, network->addresses, ADDRESSES_MAX);
	network->cidr_count = read_prefixes(&inner, network->cidrs, CIDRS_MAX);
	network->hosts = pack_u64(&inner, UINT32_MAX);
	network->locked = pack_bool(&inner);
	network->list = pack_u64(&inner, UINT64_MAX);
	pack_close(cursor, &inner);
}

static void read_result(struct pack_cursor *cursor, struct mesh_view *view)
{
	struct pack_cursor inner;

	(void)pack_array(cursor, 4, 4, &inner);
	view->outcome = pack_u64(&inner, 15);
	pack_text_copy(&inner, view->code, sizeof(view->code));
	pack_text_copy(&inner, view->reason, sizeof(view->reason));
	view->outcome_age = pack_u64(&inner, UINT64_MAX);
	pack_close(cursor, &inner);
}

static void read_confirm(struct pack_cursor *cursor, struct mesh_view *view)
{
	struct pack_cursor inner;

	(void)pack_array(cursor, 4, 4, &inner);
	view->confirm = pack_u64(&inner, CONFIRM_restored);
	pack_text_copy(&inner, view->confirm_code, sizeof(view->confirm_code));
	pack_text_copy(&inner, view->confirm_reason, sizeof(view->confirm_reason));
	view->confirm_age = pack_u64(&inner, UINT64_MAX);
	pack_close(cursor, &inner);
}

static void read_device(struct pack_cursor *cursor, struct mesh_view *view)
{
	struct pack_cursor inner;

	(void)pack_array(cursor, 2, 2, &inner);
	view->has_device_key = read_optional(&inner, view->device_key, KEY_BYTES);
	view->device_port = pack_u64(&inner, UINT16_MAX);
	pack_close(cursor, &inner);
}

static void read_rotation(struct pack_cursor *cursor, struct mesh_view *view)
{
	struct pack_cursor inner;

	pack_array(cursor, 4, 4, &inner);
	view->rotation.hosts = pack_u64(&inner, PEERS_MAX);
	view->rotation.own = pack_bool(&inner);
	view->rotation.moving = pack_u64(&inner, UINT32_MAX);
	view->rotation.second = pack_bool(&inner);
	pack_close(cursor, &inner);
}

static void read_view(struct pack_cursor *cursor, struct mesh_view *view)
{
	struct pack_cursor inner;

	pack_text_copy(cursor, view->interface, sizeof(view->interface));
	pack_text_copy(cursor, view->backend, sizeof(view->backend));
	pack_text_copy(cursor, view->state, sizeof(view->state));
	view->stale = pack_bool(cursor);
	view->head_age = pack_u64(cursor, VIEW_NEVER);
	view->has_host = read_optional(cursor, view->host.b, ID_BYTES);
	view->has_key = read_optional(cursor, view->wg_key, KEY_BYTES);
	view->listen_port = pack_u64(cursor, UINT16_MAX);
	view->network_count = pack_array(cursor, 0, NETWORKS_MAX, &inner);
	for (unsigned i = 0; i < view->network_count; i++)
		read_network(&inner, &view->networks[i]);
	pack_close(cursor, &inner);
	read_result(cursor, view);
	view->mended = pack_u64(cursor, UINT64_MAX);
	read_confirm(cursor, view);
	read_rotation(cursor, view);
	read_device(cursor, view);
	view->peer_count = pack_array(cursor, 0, PEERS_MAX, &view->peers);
}

int mesh_view_decode(struct mesh_view *view, uint8_t *bytes, size_t n)
{
	struct pack_cursor cursor;
	int r;

	mesh_view_free(view);
	*view = (struct mesh_view){ .bytes = bytes };
	r = pack_open(&view->reader, bytes, n, &view_limits, &cursor);
	if (r < 0)
		return r;
	if (pack_u64(&cursor, UINT64_MAX) != VIEW_VERSION)
		return cursor.error ? -EBADMSG : -ENOTSUP;
	read_view(&cursor, view);
	return pack_done(&cursor);
}

/* An endpoint, or nil for a peer that none is known of. */
static bool read_endpoint(struct pack_cursor *cursor, struct endpoint *endpoint)
{
	if (!cursor->error && cursor->left > 0 && cursor->next->type == MSGPACK_OBJECT_NIL) {
		cursor->next++;
		cursor->left--;
		return false;
	}
	pack_endpoint(cursor, endpoint);
	return !cursor->error;
}

int mesh_view_next(struct mesh_view *view, struct mesh_peer *peer)
{
	struct pack_cursor inner;

	if (view->peers.error)
		return -EBADMSG;
	if (view->peers.left == 0)
		return 0;
	(void)pack_array(&view->peers, 9, 9, &inner);
	peer->has_host = read_optional(&inner, peer->host.b, ID_BYTES);
	pack_fixed(&inner, peer->wg_key, KEY_BYTES);
	peer->allowed_count = read_prefixes(&inner, peer->allowed, VIEW_ALLOWED_MAX);
	peer->has_endpoint = read_endpoint(&inner, &peer->endpoint);
	peer->handshake = pack_u64(&inner, UINT64_MAX);
	peer->rx_bytes = pack_u64(&inner, UINT64_MAX);
	peer->tx_bytes = pack_u64(&inner, UINT64_MAX);
	peer->keepalive = pack_u64(&inner, UINT16_MAX);
	peer->there = pack_bool(&inner);
	pack_close(&view->peers, &inner);
	return view->peers.error ? -EBADMSG : 1;
}

void mesh_view_free(struct mesh_view *view)
{
	pack_reader_free(&view->reader);
	free(view->bytes);
	view->bytes = NULL;
}
