/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys are replaced without losing a packet (M10). What documents in force say is compared with what is here, at every change and every start; nothing is replayed.
 *
 * A host document that names the counter of this host's key: make a next one, and announce it. An entry with a next key, here or at a peer: a second
 * interface carries it, and this host moves over. An entry whose key is our next one: it is ours from now on; move back, peer by peer, as the first interface
 * shakes hands with it; then the second one goes. What is given up half way is moved back from in the same manner.
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "libipc/log.h"
#include "netd/netd.h"

#define TICK_MS 300
#define PAUSE_MAX_MS 1000
#define LINGER_MS 4000 /* after the last peer was moved back and nothing more was heard: it may take a moment until that one sees the handshake too */

static int count_next(const struct peer *old, const struct peer *new, void *arg)
{
	struct rotation *rotation = ((struct mesh_walk *)arg)->arg;

	rotation->nexts += (new && new->next.counter != 0) - (old && old->next.counter != 0);
	return 0;
}

void rotation_count(struct netd *netd, const struct mesh *from, const struct mesh *to)
{
	struct mesh_walk walk = { .blobs = netd->blobs, .events.peer = count_next, .old = from, .new = to, .arg = &netd->rotation };

	if (mesh_diff(&walk) < 0)
		log_error("cannot count the keys that are being replaced");
}

bool rotation_assignable(const struct netd *netd)
{
	return netd->assignable && !locks_any(&netd->state.locks);
}

/* The next key: made here, or the one in the document, if this host takes such. Not taken, the old one stays: the rotation is given up at its deadline. */
static int next_key(struct netd *netd, const struct host_document *document)
{
	struct wg_keys *keys = &netd->state.keys;
	uint8_t private[KEY_BYTES];
	int r;

	if (!document->assigned)
		return wg_keys_add_next(netd->state.folder, keys, NULL);
	if (!rotation_assignable(netd))
		return log_warning("the control plane sent a WireGuard key; this host takes none (see --assigned-keys in netd(8)) and keeps its own"), -EPERM;
	r = assigned_open(document->box, netd->state.host_secret, private);
	if (r < 0)
		log_warning("the control plane sent a WireGuard key that cannot be opened here; this host keeps its own");
	if (r == 0)
		r = wg_keys_add_next(netd->state.folder, keys, private);
	sodium_memzero(private, sizeof(private));
	if (r == 0)
		log_notice("the next WireGuard key was made by the control plane");
	return r;
}

/* @return 1 this host's key is another one now; 0; negative errno */
static int keys_follow(struct netd *netd, const struct peer *own)
{
	struct wg_keys *keys = &netd->state.keys;
	const uint64_t rotate = netd->mesh->host.rotate;
	int r = 0;

	if (keys->next_counter && memcmp(own->statement.wg_key, keys->next_public, KEY_BYTES) == 0) {
		r = wg_keys_adopt_next(netd->state.folder, keys);
		if (r == 0)
			log_notice("the next WireGuard key is in force");
		return r < 0 ? r : 1;
	}
	if (rotate && rotate == keys->counter && !keys->next_counter) {
		r = next_key(netd, &netd->mesh->host);
		if (r == 0)
			documents_announce(netd);
		r = r == -EPERM || r == -EBADMSG ? 0 : r;
	} else if (keys->next_counter && rotate != keys->counter && own->next.counter == 0) {
		r = wg_keys_drop_next(netd->state.folder, keys);
		log_notice("the WireGuard key stays; the next one was given up");
	}
	return r;
}

struct listing {
	struct netd *netd;
	bool own; /* this host's own key is being replaced: all peers are to be moved to */
	struct beside_peer *peers;
	unsigned count, room;
};

static int list_peer(const struct peer *old _unused_, const struct peer *new, void *arg)
{
	const struct mesh_walk *walk = arg;
	struct listing *listing = walk->arg;
	struct netd *netd = listing->netd;
	struct merged_peer merged;
	struct beside_peer *peer;
	int r;

	if (id_equal(&new->host, &netd->state.host))
		return 0;
	r = mesh_merge(walk->new, walk->blobs, &new->host, new, &walk->network->header.id, netd->overlay.families, &merged);
	if (r == 0)
		r = beside_room(&listing->peers, listing->count, &listing->room, merged.allowed, merged.allowed_count);
	if (r < 0)
		return r;
	peer = &listing->peers[listing->count++];
	peer->both = listing->own || new->next.counter;
	memcpy(peer->key, new->next.counter ? new->next.wg_key : new->statement.wg_key, KEY_BYTES);
	memcpy(peer->first_key, new->statement.wg_key, KEY_BYTES);
	peer->endpoint = merged.endpoint;
	peer->endpoint.port = beside_port(merged.endpoint.port);
	return 0;
}

static int configure(struct netd *netd, const struct peer *own)
{
	struct rotation *rotation = &netd->rotation;
	struct listing listing = { .netd = netd, .own = own->next.counter != 0 };
	struct mesh_walk walk = { .blobs = netd->blobs, .events.peer = list_peer, .new = netd->mesh, .arg = &listing };
	const struct wg_keys *keys = &netd->state.keys;
	/* While peers are moved back from it, it stays as it is. */
	struct wg_device device = { .set_private_key = rotation->nexts != 0, .listen_port = beside_port(netd->overlay.listen_port) };
	struct rtnl_link first;
	int r = mesh_diff(&walk);

	if (r == 0)
		r = rtnl_link_get(netd->overlay.rtnl, netd->overlay.name, &first);
	if (r < 0) {
		beside_peers_free(listing.peers, listing.count);
		return r;
	}
	memcpy(device.private_key, listing.own && keys->next_counter ? keys->next_private : keys->private, KEY_BYTES);
	overlay_wanted(netd->mesh, &rotation->second.plumbing);
	r = beside_configure(&rotation->second, &first, &device, listing.peers, listing.count);
	sodium_memzero(&device, sizeof(device));
	return r;
}

/* It may be there from before a restart. @return 0; -EAGAIN wg-launch is awaited; negative errno */
static int bring_up(struct netd *netd)
{
	struct rotation *rotation = &netd->rotation;
	int r = beside_open(&rotation->second, rotation->nexts != 0);

	if (r == -ENODEV && rotation->nexts && rotation->spare) {
		r = tunnel_grant(TAKE_PTR(rotation->spare), rotation->second.name);
		if (r == 0)
			r = beside_open(&rotation->second, false);
	}
	netd->overlay.second = rotation->second.index;
	return r != -ENODEV ? r : rotation->nexts ? -EAGAIN : 0;
}

void rotation_clear(struct netd *netd)
{
	netd->rotation.nexts = 0;
	netd->rotation.moving = 0;
	beside_close(&netd->rotation.second, true);
}

static void look(void *arg)
{
	struct netd *netd = arg;
	struct rotation *rotation = &netd->rotation;
	const uint64_t begun = loop_now_ms();
	unsigned before = rotation->moving, used = 0;
	unsigned pause;
	int r;

	if (netd->engine != ENGINE_RUNNING || !rotation->second.wg) {
		rotation_follow(netd);
		return;
	}
	r = beside_move(&rotation->second, netd->overlay.wg, netd->state.keys.since_ms, &rotation->moving, &used);
	(void)rtnl_watch_drain(netd->overlay.watch); /* we know */
	if (r < 0) {
		(void)log_errno(r, "cannot work with %s, which carries the next keys; trying anew", rotation->second.name);
		beside_close(&rotation->second, false);
	}
	if (rotation->nexts || used)
		rotation->used_ms = begun;
	if (!rotation->nexts)
		rotation->moving = used + 1; /* until it is closed: who is to follow waits for that */
	pause = (unsigned)(loop_now_ms() - begun) * 10; /* a look at thousands of peers takes a while */
	pause = pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS;
	if (r == 0 && begun - rotation->used_ms > LINGER_MS)
		rotation_clear(netd);
	else
		loop_timer_set(rotation->look, TICK_MS + pause);
	if (before && !rotation->moving) {
		netd->gate.untold = true;
		documents_tell(netd);
	}
}

void rotation_follow(struct netd *netd)
{
	struct rotation *rotation = &netd->rotation;
	struct peer own = { .next.counter = 0 };
	bool missing;
	int r = 0;

	if (netd->engine != ENGINE_RUNNING || !netd->mesh || netd->mesh->host.network_count == 0)
		return;
	r = trie_get(&netd->mesh->networks[0].root, &netd->state.host, blobs_lookup, netd->blobs, &own, &missing);
	if (r == 0)
		r = keys_follow(netd, &own);
	if (r == 1) {
		netd->state.keys.since_ms = unix_now_ms(); /* writing it down took a moment, and the first interface may have shaken hands with the old one */
		r = overlay_reconcile(&netd->overlay, netd->mesh, NULL);
	}
	if (r == 0 && !rotation->second.wg)
		r = bring_up(netd);
	rotation->moving = rotation->nexts != 0 || rotation->second.wg; /* at least, until we know */
	if (r == 0 && rotation->second.wg)
		r = configure(netd, &own);
	if (r < 0 && r != -EAGAIN)
		(void)log_errno(r, "cannot follow the replacement of keys; trying again");
	rotation->used_ms = loop_now_ms();
	if (r == 0 && rotation->second.wg)
		look(netd);
	else if (r < 0)
		loop_timer_set(rotation->look, TICK_MS);
}

int rotation_open(struct netd *netd)
{
	struct beside *second = &netd->rotation.second;

	second->rtnl = netd->overlay.rtnl;
	second->kind = netd->overlay.kind;
	(void)snprintf(second->name, sizeof(second->name), "%.14sn", netd->overlay.name);
	return loop_timer_new(netd->loop, look, netd, &netd->rotation.look);
}
