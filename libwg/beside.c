/* SPDX-License-Identifier: Apache-2.0 */
#include "libwg/beside.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "libipc/cleanup.h"
#include "libipc/loop.h"

#define KEEPALIVE 10      /* seconds: it makes the two ends shake hands, and keeps a mapping open that is a few minutes old */
#define QUIET_BYTES 64     /* received between two looks without anybody talking: a keepalive is 32, the least packet with contents 48 */
#define LIVE_MS 180000    /* REJECT_AFTER_TIME of the WireGuard paper */

uint16_t beside_port(uint16_t first)
{
	return first == UINT16_MAX ? UINT16_MAX - 1 : (uint16_t)(first + 1);
}

void beside_peers_free(struct beside_peer *peers, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		free(peers[i].allowed);
	free(peers);
}

int beside_room(struct beside_peer **peers, unsigned count, unsigned *room, const struct prefix *allowed, unsigned allowed_count)
{
	struct prefix *copy = calloc(allowed_count ? allowed_count : 1, sizeof(*copy));
	struct beside_peer *grown = *peers;

	if (copy && count == *room) {
		grown = reallocarray(*peers, *room + 64, sizeof(*grown));
		if (grown) {
			*peers = grown;
			*room += 64;
		}
	}
	if (!copy || !grown) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, allowed, allowed_count * sizeof(*copy));
	grown[count] = (struct beside_peer){ .allowed = copy, .allowed_count = allowed_count };
	return 0;
}

int beside_open(struct beside *beside, bool make)
{
	struct rtnl_link link;
	int r = rtnl_link_get(beside->rtnl, beside->name, &link);

	if (r == -ENODEV && make && beside->kind == WG_KERNEL) {
		r = rtnl_link_add_wireguard(beside->rtnl, beside->name);
		if (r == 0)
			r = rtnl_link_get(beside->rtnl, beside->name, &link);
	}
	if (r == 0)
		r = wg_open(beside->kind, beside->name, &beside->wg);
	if (r == 0)
		beside->index = link.index;
	return r;
}

void beside_close(struct beside *beside, bool delete)
{
	wg_close(beside->wg);
	beside->wg = NULL;
	if (delete && beside->index && rtnl_link_delete(beside->rtnl, beside->index) < 0)
		beside->index = 0; /* it is gone already */
	beside->index = 0;
	beside_peers_free(beside->peers, beside->count);
	beside->peers = NULL;
	beside->count = 0;
}

/* -- Routes ----------------------------------------------------------------------------------------------------------------------- */

static const struct prefix *source_for(const struct plumbing *plumbing, const struct prefix *address)
{
	for (unsigned i = 0; i < plumbing->route_count; i++)
		if (plumbing->sources[i].family && prefix_contains(&plumbing->routes[i], address))
			return &plumbing->sources[i];
	return NULL;
}

static int routes_set(struct beside *beside, struct beside_peer *peer, bool moved)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < peer->allowed_count; i++) {
		const struct prefix *to = &peer->allowed[i];

		if (moved)
			r = rtnl_route_add(beside->rtnl, beside->index, to, source_for(&beside->plumbing, to));
		else
			r = rtnl_route_delete(beside->rtnl, beside->index, to);
		if (r == -EEXIST || r == -ESRCH || (r == -ENODEV && !moved))
			r = 0;
	}
	if (r == 0)
		peer->moved = moved;
	return r;
}

/* -- Peers ------------------------------------------------------------------------------------------------------------------------ */

static int key_order(const void *a, const void *b)
{
	return memcmp(((const struct beside_peer *)a)->key, ((const struct beside_peer *)b)->key, KEY_BYTES);
}

static int first_key_order(const void *a, const void *b)
{
	return memcmp(((const struct beside_peer *)a)->first_key, ((const struct beside_peer *)b)->first_key, KEY_BYTES);
}

static void sort(struct beside *beside, int (*order)(const void *, const void *))
{
	if (beside->count)
		qsort(beside->peers, beside->count, sizeof(beside->peers[0]), order);
}

/* Sorted by key. */
static struct beside_peer *find(const struct beside *beside, const uint8_t *key)
{
	struct beside_peer wanted;

	memcpy(wanted.key, key, KEY_BYTES);
	return beside->count ? bsearch(&wanted, beside->peers, beside->count, sizeof(wanted), key_order) : NULL;
}

static struct beside_peer *find_first(const struct beside *beside, const uint8_t *key)
{
	struct beside_peer wanted;

	memcpy(wanted.first_key, key, KEY_BYTES);
	return beside->count ? bsearch(&wanted, beside->peers, beside->count, sizeof(wanted), first_key_order) : NULL;
}

static bool live(uint64_t handshake_ms, uint64_t since_ms)
{
	const uint64_t now = unix_now_ms();

	return handshake_ms && handshake_ms >= since_ms && (now < handshake_ms || now - handshake_ms < LIVE_MS);
}

struct strangers {
	struct beside *beside;
	struct wg_device *device;
	bool rekeyed; /* the device is about to get another key: no session outlives that, so no peer is known by its last handshake */
	unsigned count, room;
	uint8_t (*keys)[KEY_BYTES];
};

static int on_second(const struct wg_device_state *device, const struct wg_peer_state *state, void *arg)
{
	struct strangers *strangers = arg;
	struct beside_peer *peer = state ? find(strangers->beside, state->public_key) : NULL;

	if (!state) {
		strangers->count = 0;
		strangers->rekeyed = strangers->device->set_private_key && memcmp(device->public_key, strangers->beside->own, KEY_BYTES) != 0;
		strangers->device->set_listen_port = device->listen_port != strangers->device->listen_port;
		return 0;
	}
	if (peer && !strangers->rekeyed) {
		peer->there = true;
		peer->settled = state->keepalive != 0;
		peer->same = !state->allowed_cut && prefixes_equal(state->allowed, state->allowed_count, peer->allowed, peer->allowed_count);
		return 0;
	}
	if (strangers->count == strangers->room) {
		void *grown = reallocarray(strangers->keys, strangers->room + 64, KEY_BYTES);

		if (!grown)
			return -ENOMEM;
		strangers->keys = grown;
		strangers->room += 64;
	}
	memcpy(strangers->keys[strangers->count++], state->public_key, KEY_BYTES);
	return 0;
}

static int put(struct beside *beside, struct beside_peer *peer)
{
	struct wg_peer put = {
		.set_endpoint = !peer->there && peer->endpoint.family != 0, /* later on it may have roamed */
		.replace_allowed = true,
		.endpoint = peer->endpoint,
		.allowed_count = (uint16_t)peer->allowed_count,
		.allowed = peer->allowed,
	};

	memcpy(put.public_key, peer->key, KEY_BYTES);
	peer->there = true;
	return wg_put(beside->wg, &put);
}

/* The device gets what differs; what is neither on it nor wanted on it leaves the list. */
static int put_all(struct beside *beside, const struct wg_device *device, const struct strangers *strangers)
{
	unsigned kept = 0;
	int r = wg_begin(beside->wg, device);

	for (unsigned i = 0; r == 0 && i < strangers->count; i++)
		r = wg_put_removal(beside->wg, strangers->keys[i]);
	for (unsigned i = 0; i < beside->count; i++) {
		struct beside_peer *peer = &beside->peers[i];

		if (!peer->there && !peer->both) {
			free(peer->allowed);
			continue;
		}
		/* Said again, what is allowed would be forbidden for a moment. */
		if (r == 0 && !peer->same)
			r = put(beside, peer);
		beside->peers[kept++] = *peer;
	}
	beside->count = kept;
	return wg_end(beside->wg, r);
}

static bool through(const struct beside_peer *peer, const struct prefix *route)
{
	for (unsigned i = 0; i < peer->allowed_count; i++)
		if (prefix_equal(&peer->allowed[i], route))
			return true;
	return false;
}

struct found {
	struct beside *beside;
	unsigned count, room;
	struct prefix *strays;
};

/* Routes tell what was moved, also after a restart. */
static int on_route(const struct rtnl_route *route, void *arg)
{
	struct found *found = arg;
	struct beside *beside = found->beside;

	if (route->index != beside->index || route->protocol != ROUTE_PROTOCOL)
		return 0;
	for (unsigned i = 0; i < beside->count; i++)
		if (through(&beside->peers[i], &route->destination)) {
			beside->peers[i].moved = true;
			return 0;
		}
	if (found->count == found->room) {
		struct prefix *grown = reallocarray(found->strays, found->room + 64, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		found->strays = grown;
		found->room += 64;
	}
	found->strays[found->count++] = route->destination;
	return 0;
}

static int routes_read(struct beside *beside)
{
	struct found found = { .beside = beside };
	int r = rtnl_route_each(beside->rtnl, on_route, &found);

	for (unsigned i = 0; r == 0 && i < found.count; i++) {
		r = rtnl_route_delete(beside->rtnl, beside->index, &found.strays[i]);
		if (r == -ESRCH)
			r = 0;
	}
	free(found.strays);
	return r;
}

/* A tunnel that is about to be another one carries nothing: what was moved to it goes back to the first interface before. */
static int routes_back(struct beside *beside)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < beside->count; i++)
		if (beside->peers[i].moved && !beside->peers[i].there)
			r = routes_set(beside, &beside->peers[i], false);
	return r;
}

/* Addresses too: with none the kernel's reverse path filter would have nothing to go by. */
static int plumb(struct beside *beside, const struct rtnl_link *first)
{
	struct plumbing have = { .index = beside->index }, want = beside->plumbing;
	struct rtnl_link link;
	int r = plumbing_read(beside->rtnl, &have);

	have.route_count = want.route_count = 0;
	want.index = beside->index;
	if (r == 0)
		r = rtnl_link_get(beside->rtnl, beside->name, &link);
	if (r == 0)
		r = plumbing_change(beside->rtnl, &have, &want);
	if (r == 0)
		r = rtnl_link_loose(beside->rtnl, first->index);
	if (r == 0)
		r = rtnl_link_loose(beside->rtnl, beside->index);
	/* Last: from now on peers shake hands with it, and send. */
	if (r == 0 && (!link.up || link.mtu != first->mtu))
		r = rtnl_link_set(beside->rtnl, beside->index, first->mtu, true);
	return r;
}

/* A host of several networks is one peer. Two hosts that name one key for their own are both left out: one of them lies. */
static void drop_doubles(struct beside *beside)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < beside->count; i++) {
		struct beside_peer *peer = &beside->peers[i], *last = kept ? &beside->peers[kept - 1] : NULL;

		if (!last || memcmp(last->key, peer->key, KEY_BYTES) != 0) {
			beside->peers[kept++] = *peer;
			continue;
		}
		if (memcmp(last->first_key, peer->first_key, KEY_BYTES) != 0)
			last->both = last->there = false;
		free(peer->allowed);
	}
	beside->count = kept;
}

int beside_configure(struct beside *beside, const struct rtnl_link *first, const struct wg_device *device, struct beside_peer *peers,
		     unsigned count)
{
	struct wg_device change = *device;
	struct strangers strangers = { .beside = beside, .device = &change };
	int r;

	beside_peers_free(beside->peers, beside->count);
	beside->peers = peers;
	beside->count = count;
	sort(beside, key_order);
	drop_doubles(beside);
	(void)crypto_scalarmult_base(beside->own, change.private_key);
	r = wg_dump(beside->wg, on_second, &strangers);
	if (r == 0)
		r = routes_read(beside);
	if (r == 0)
		r = routes_back(beside);
	if (r == 0)
		r = put_all(beside, &change, &strangers);
	sodium_memzero(&change, sizeof(change));
	free(strangers.keys);
	return r < 0 ? r : plumb(beside, first);
}

/* -- Moving ----------------------------------------------------------------------------------------------------------------------- */

static int look_second(const struct wg_device_state *device _unused_, const struct wg_peer_state *state, void *arg)
{
	struct beside_peer *peer = state ? find(arg, state->public_key) : NULL;

	if (!peer)
		return 0;
	peer->fresh = live(state->handshake_ms, 0);
	peer->heard = state->rx_bytes > peer->rx_bytes + QUIET_BYTES;
	peer->rx_bytes = state->rx_bytes;
	return 0;
}

struct look {
	struct beside *beside;
	uint64_t since_ms;
};

static int look_first(const struct wg_device_state *device _unused_, const struct wg_peer_state *state, void *arg)
{
	const struct look *look = arg;
	struct beside_peer *peer = state ? find_first(look->beside, state->public_key) : NULL;

	if (peer)
		peer->back = live(state->handshake_ms, look->since_ms);
	return 0;
}

/* Two ends that set a keepalive at the same moment throw away each other's handshake, and try again after 5 s: the one with the greater key lets a look pass. */
static int settle(struct beside *beside)
{
	int r = wg_begin(beside->wg, NULL);

	for (unsigned i = 0; r == 0 && i < beside->count; i++) {
		struct wg_peer peer = { .set_keepalive = true, .keepalive = KEEPALIVE };

		if (beside->peers[i].settled)
			continue;
		if (!beside->peers[i].waited && memcmp(beside->own, beside->peers[i].key, KEY_BYTES) > 0) {
			beside->peers[i].waited = true;
			continue;
		}
		memcpy(peer.public_key, beside->peers[i].key, KEY_BYTES);
		r = wg_put(beside->wg, &peer);
		beside->peers[i].settled = r == 0;
	}
	return wg_end(beside->wg, r);
}

int beside_move(struct beside *beside, struct wg *first, uint64_t since_ms, unsigned *moving, unsigned *used)
{
	struct look look = { beside, since_ms };
	int r;

	for (unsigned i = 0; i < beside->count; i++)
		beside->peers[i].fresh = beside->peers[i].back = beside->peers[i].heard = false;
	sort(beside, key_order);
	r = wg_dump(beside->wg, look_second, beside);
	if (r == 0)
		r = settle(beside);
	sort(beside, first_key_order);
	if (r == 0)
		r = wg_dump(first, look_first, &look);
	*moving = *used = 0;
	for (unsigned i = 0; r == 0 && i < beside->count; i++) {
		struct beside_peer *peer = &beside->peers[i];
		bool move = peer->fresh && (peer->both || !peer->back);

		if (move != peer->moved)
			r = routes_set(beside, peer, move);
		*moving += peer->both && !peer->moved;
		*used += peer->moved || peer->heard;
	}
	return r;
}
