/* SPDX-License-Identifier: Apache-2.0 */
/* Peers of the overlay: from what is in force to what is wanted. */
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "netd/overlay.h"

#define SESSION_SECONDS 180 /* REJECT_AFTER_TIME of the WireGuard paper: a handshake this young is a live peer */

static int put_whole(struct overlay *overlay, const struct merged_peer *wanted, uint16_t keepalive)
{
	struct wg_peer peer = {
		.set_endpoint = wanted->endpoint.family != 0,
		.set_keepalive = true,
		.replace_allowed = true,
		.endpoint = wanted->endpoint,
		.keepalive = keepalive,
		.allowed_count = wanted->allowed_count,
		.allowed = wanted->allowed,
	};

	memcpy(peer.public_key, wanted->wg_key, KEY_BYTES);
	return wg_put(overlay->wg, &peer);
}

/* Keep a key for overlay_settle(). Without memory for it there is nothing to settle: the peer gets its keepalive at once. */
static bool put_off(struct overlay *overlay, const uint8_t *wg_key)
{
	if (overlay->unsettled_count % 64 == 0) {
		void *grown = reallocarray(overlay->unsettled, overlay->unsettled_count + 64, KEY_BYTES);

		if (!grown)
			return false;
		overlay->unsettled = grown;
	}
	memcpy(overlay->unsettled[overlay->unsettled_count++], wg_key, KEY_BYTES);
	return true;
}

/*
 * A peer that is new here, and most likely new to us over there at the same moment. Setting a keepalive makes WireGuard shake hands at once; two hosts that both do
 * so throw away each other's answer and try again after 5 s (REKEY_TIMEOUT). So the one with the greater key waits for a moment.
 */
static int put_new(struct overlay *overlay, const struct merged_peer *wanted)
{
	bool wait = wanted->keepalive && memcmp(overlay->state->keys.public, wanted->wg_key, KEY_BYTES) > 0;

	return put_whole(overlay, wanted, wait && put_off(overlay, wanted->wg_key) ? 0 : wanted->keepalive);
}

/* -- A change: from one mesh to another ------------------------------------------------------------------------------------------- */

/* What the entry under the walk's hands amounts to before and after, over all networks. @return 1; 0 it is this host itself */
static int merge_both(const struct mesh_walk *walk, const struct peer *old, const struct peer *new, struct merged_peer *before,
		      struct merged_peer *after)
{
	const struct overlay *overlay = walk->arg;
	const struct id *host = new ? &new->host : &old->host;
	const struct id *of = &walk->network->header.id;
	int r;

	if (id_equal(host, &overlay->state->host))
		return 0;
	r = mesh_merge(walk->old, walk->blobs, host, old, of, overlay->families, before);
	if (r == 0)
		r = mesh_merge(walk->new, walk->blobs, host, new, of, overlay->families, after);
	return r < 0 ? r : 1;
}

static int set_peer(const struct peer *old, const struct peer *new, void *arg)
{
	const struct mesh_walk *walk = arg;
	struct overlay *overlay = walk->arg;
	struct merged_peer before, after;
	struct wg_peer peer;
	int r = merge_both(walk, old, new, &before, &after);

	if (r <= 0)
		return r;
	overlay->removals += before.present && (!after.present || memcmp(before.wg_key, after.wg_key, KEY_BYTES) != 0);
	if (!after.present)
		return 0;
	if (!before.present || memcmp(before.wg_key, after.wg_key, KEY_BYTES) != 0)
		return put_new(overlay, &after);
	peer = (struct wg_peer){
		.set_endpoint = after.endpoint.family != 0 && !endpoint_equal(&before.endpoint, &after.endpoint),
		.set_keepalive = before.keepalive != after.keepalive,
		.replace_allowed = !prefixes_equal(after.allowed, after.allowed_count, before.allowed, before.allowed_count),
		.endpoint = after.endpoint,
		.keepalive = after.keepalive,
		.allowed = after.allowed,
	};
	if (peer.replace_allowed)
		peer.allowed_count = after.allowed_count;
	if (!peer.set_endpoint && !peer.set_keepalive && !peer.replace_allowed)
		return 0; /* something else in its entry moved, such as an endpoint that we do not use */
	memcpy(peer.public_key, after.wg_key, KEY_BYTES);
	return wg_put(overlay->wg, &peer);
}

static int remove_peer(const struct peer *old, const struct peer *new, void *arg)
{
	const struct mesh_walk *walk = arg;
	struct overlay *overlay = walk->arg;
	struct merged_peer before, after;
	const struct id *owner;
	int r;

	if (!old)
		return 0;
	r = merge_both(walk, old, new, &before, &after);
	if (r <= 0 || !before.present)
		return r < 0 ? r : 0;
	/* The key may be in use still: by the same host through another network, or by a host that came in this very change. */
	owner = owners_of_key(overlay->owners, before.wg_key);
	if (owner && (!id_equal(owner, &old->host) || (after.present && memcmp(after.wg_key, before.wg_key, KEY_BYTES) == 0)))
		return 0;
	return wg_put_removal(overlay->wg, before.wg_key);
}

static bool keepalive_moved(const struct mesh *from, const struct mesh *to)
{
	for (unsigned i = 0; from && to && i < to->network_count; i++) {
		const struct network_document *before = mesh_network(from, &to->networks[i].header.id);

		if (before && before->keepalive != to->networks[i].keepalive)
			return true;
	}
	return false;
}

int overlay_change(struct overlay *overlay, const struct mesh *from, const struct mesh *to)
{
	struct mesh_walk walk = { .blobs = overlay->blobs, .old = from, .new = to, .arg = overlay };
	int r;

	/* A setting of the network reaches all of its peers, none of which changed: the long way finds them. */
	if (keepalive_moved(from, to))
		return overlay_reconcile(overlay, to, NULL);
	r = wg_begin(overlay->wg, NULL);
	walk.events.peer = set_peer;
	overlay->removals = 0;
	if (r == 0)
		r = mesh_diff(&walk);
	/* Removals last and together: each costs the kernel a grace period (drivers/net/wireguard/netlink.c, set_peer()). */
	walk.events.peer = remove_peer;
	if (r == 0 && overlay->removals)
		r = mesh_diff(&walk);
	r = wg_end(overlay->wg, r);
	return r < 0 ? r : overlay_plumb(overlay, from, to);
}

/* -- A first configuration: staged peer by peer while it is being checked ---------------------------------------------------------- */

int overlay_stage_begin(struct overlay *overlay)
{
	struct rtnl_link link;
	int r = rtnl_link_get(overlay->rtnl, overlay->name, &link);

	if (r < 0)
		return r;
	return link.up ? -EISCONN : wg_begin(overlay->wg, NULL);
}

int overlay_stage_peer(struct overlay *overlay, const struct mesh *to, const struct network_document *network, const struct peer *peer)
{
	struct merged_peer wanted;
	int r;

	if (id_equal(&peer->host, &overlay->state->host))
		return 0;
	r = mesh_merge(to, overlay->blobs, &peer->host, peer, &network->header.id, overlay->families, &wanted);
	return r < 0 ? r : put_new(overlay, &wanted);
}

int overlay_stage_end(struct overlay *overlay, const struct mesh *to, int r)
{
	r = wg_end(overlay->wg, r);
	return r < 0 ? r : overlay_plumb(overlay, NULL, to);
}

int overlay_settle(struct overlay *overlay, const struct mesh *mesh)
{
	int r = overlay->wg ? wg_begin(overlay->wg, NULL) : -ENODEV;

	for (unsigned i = 0; r == 0 && i < overlay->unsettled_count; i++) {
		const uint8_t *wg_key = overlay->unsettled[i];
		const struct id *host = owners_of_key(overlay->owners, wg_key);
		struct wg_peer peer = { .set_keepalive = true };
		struct merged_peer wanted;

		if (!host) /* gone again */
			continue;
		r = mesh_merge(mesh, overlay->blobs, host, NULL, NULL, overlay->families, &wanted);
		if (r < 0 || !wanted.present)
			continue;
		memcpy(peer.public_key, wg_key, KEY_BYTES);
		peer.keepalive = wanted.keepalive;
		r = wg_put(overlay->wg, &peer);
	}
	free(overlay->unsettled);
	overlay->unsettled = NULL;
	overlay->unsettled_count = 0;
	return overlay->wg ? wg_end(overlay->wg, r) : r;
}

/*
 * What a host should amount to on the device: as signed, but spoken to where it was before if reachability had to be brought back.
 * @param as_signed receives the endpoint that the documents in force name
 */
static int merge_wanted(const struct overlay *overlay, const struct mesh *mesh, const struct id *host, const struct peer *known,
			const struct id *of, struct merged_peer *wanted, struct endpoint *as_signed)
{
	struct merged_peer before = { .present = false };
	int r = mesh_merge(mesh, overlay->blobs, host, known, of, overlay->families, wanted);

	*as_signed = wanted->endpoint;
	if (r == 0 && overlay->restored)
		r = mesh_merge(overlay->reach, overlay->blobs, host, NULL, NULL, overlay->families, &before);
	if (before.present && before.endpoint.family)
		wanted->endpoint = before.endpoint;
	return r;
}

/* -- A comparison with the device ------------------------------------------------------------------------------------------------- */

struct correction {
	uint8_t wg_key[KEY_BYTES];
	struct id host;
	bool remove, set_endpoint, set_keepalive, replace_allowed;
};

struct comparison {
	struct overlay *overlay;
	const struct mesh *mesh;
	struct wg_device device;
	struct correction *corrections;
	unsigned count, room;
	unsigned added;
};

static int correct(struct comparison *comparison, const struct correction *correction)
{
	if (comparison->count == comparison->room) {
		unsigned room = comparison->room ? 2 * comparison->room : 64;
		void *grown = reallocarray(comparison->corrections, room, sizeof(comparison->corrections[0]));

		if (!grown)
			return -ENOMEM;
		comparison->corrections = grown;
		comparison->room = room;
	}
	comparison->corrections[comparison->count++] = *correction;
	return 0;
}

static void compare_device(struct comparison *comparison, const struct wg_device_state *device)
{
	const struct overlay *overlay = comparison->overlay;

	/* The first call, or the first again because the dump was interrupted. */
	comparison->count = 0;
	owners_unmark(overlay->owners);
	comparison->device.set_private_key = memcmp(device->public_key, overlay->state->keys.public, KEY_BYTES) != 0;
	comparison->device.set_listen_port = device->listen_port != overlay->listen_port;
}

static int compare_peer(const struct wg_device_state *device, const struct wg_peer_state *state, void *arg)
{
	struct comparison *comparison = arg;
	struct overlay *overlay = comparison->overlay;
	struct correction correction = { .remove = true };
	struct merged_peer wanted;
	struct endpoint as_signed;
	const struct id *host;
	bool roamed;
	int r;

	if (!state) {
		compare_device(comparison, device);
		return 0;
	}
	memcpy(correction.wg_key, state->public_key, KEY_BYTES);
	host = owners_of_key(overlay->owners, state->public_key);
	if (!host || !comparison->mesh || id_equal(host, &overlay->state->host))
		return correct(comparison, &correction);
	owners_mark(overlay->owners, state->public_key);
	r = merge_wanted(overlay, comparison->mesh, host, NULL, NULL, &wanted, &as_signed);
	if (r < 0)
		return r;
	roamed = state->handshake && (uint64_t)time(NULL) - state->handshake < SESSION_SECONDS && state->endpoint.family &&
		 !endpoint_equal(&as_signed, &state->endpoint);
	correction.remove = false;
	correction.host = *host;
	correction.set_endpoint = wanted.endpoint.family && !endpoint_equal(&wanted.endpoint, &state->endpoint) && !roamed;
	correction.set_keepalive = wanted.keepalive != state->keepalive;
	correction.replace_allowed = state->allowed_cut || !prefixes_equal(wanted.allowed, wanted.allowed_count, state->allowed, state->allowed_count);
	if (!correction.set_endpoint && !correction.set_keepalive && !correction.replace_allowed)
		return 0;
	return correct(comparison, &correction);
}

static int put_correction(struct comparison *comparison, const struct correction *correction)
{
	struct overlay *overlay = comparison->overlay;
	struct merged_peer wanted;
	struct endpoint as_signed;
	struct wg_peer peer;
	int r;

	if (correction->remove)
		return wg_put_removal(overlay->wg, correction->wg_key);
	r = merge_wanted(overlay, comparison->mesh, &correction->host, NULL, NULL, &wanted, &as_signed);
	if (r < 0)
		return r;
	peer = (struct wg_peer){
		.set_endpoint = correction->set_endpoint,
		.set_keepalive = correction->set_keepalive,
		.replace_allowed = correction->replace_allowed,
		.endpoint = wanted.endpoint,
		.keepalive = wanted.keepalive,
		.allowed_count = correction->replace_allowed ? wanted.allowed_count : 0,
		.allowed = wanted.allowed,
	};
	memcpy(peer.public_key, correction->wg_key, KEY_BYTES);
	return wg_put(overlay->wg, &peer);
}

static int put_absent(const struct peer *old _unused_, const struct peer *new, void *arg)
{
	const struct mesh_walk *walk = arg;
	struct comparison *comparison = walk->arg;
	struct overlay *overlay = comparison->overlay;
	struct merged_peer wanted;
	struct endpoint as_signed;
	int r;

	if (!new || id_equal(&new->host, &overlay->state->host) || owners_marked(overlay->owners, new->statement.wg_key))
		return 0;
	owners_mark(overlay->owners, new->statement.wg_key);
	r = merge_wanted(overlay, walk->new, &new->host, new, &walk->network->header.id, &wanted, &as_signed);
	if (r < 0)
		return r;
	comparison->added++;
	return put_whole(overlay, &wanted, wanted.keepalive);
}

int overlay_reconcile(struct overlay *overlay, const struct mesh *mesh, unsigned *mended)
{
	struct comparison comparison = { .overlay = overlay, .mesh = mesh };
	struct mesh_walk walk = {
		.blobs = overlay->blobs, .events.peer = put_absent, .new = mesh, .arg = &comparison
	};
	int r;

	/* Before anybody asked for a registration (a boot without control plane) nothing else has looked. */
	overlay_learn_families(overlay);
	r = wg_dump(overlay->wg, compare_peer, &comparison);
	memcpy(comparison.device.private_key, overlay->state->keys.private, KEY_BYTES);
	comparison.device.listen_port = overlay->listen_port;
	if (r == 0)
		r = wg_begin(overlay->wg,
			     comparison.device.set_private_key || comparison.device.set_listen_port ? &comparison.device : NULL);
	sodium_memzero(comparison.device.private_key, KEY_BYTES);
	for (unsigned i = 0; r == 0 && i < comparison.count; i++)
		r = put_correction(&comparison, &comparison.corrections[i]);
	if (r == 0 && mesh)
		r = mesh_diff(&walk);
	r = wg_end(overlay->wg, r);
	if (r == 0 && mended)
		*mended = comparison.count + comparison.added;
	free(comparison.corrections);
	return r < 0 ? r : overlay_plumb(overlay, NULL, mesh);
}
