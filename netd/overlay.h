/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overlay interface: the one thing on this host that netd changes. Peers (apply.c) and what carries them (overlay.c).
 */
#pragma once

#include "netd/mesh.h"
#include "libwg/plumb.h"
#include "libwg/wg.h"

struct overlay {
	char name[16]; /* IFNAMSIZ */
	enum wg_backend_kind kind;
	uint16_t listen_port;
	struct rtnl *rtnl;
	struct wg *wg;     /* NULL: there is no device (yet) */
	int index;
	int second;        /* index of the interface that carries next keys (rotation.c); 0: none */
	int watch;         /* rtnl_watch_open(), while there is a device; else -1 */
	unsigned families; /* bits 4 and 6: of the underlay */
	bool restored;     /* addresses, routes, MTU and endpoints are those of reach, not of what is in force: confirm.c */
	const struct mesh *reach; /* borrowed; NULL with restored: none of them */
	unsigned removals; /* of the change under way: keys that may have to go */
	unsigned unsettled_count;
	uint8_t (*unsettled)[KEY_BYTES]; /* new peers that have no keepalive yet: overlay_settle() */
	/* What the work below goes by; borrowed. */
	const struct state *state;
	const struct blobs *blobs;
	struct owners *owners;
};

/**
 * Open the device; the kernel's is made if it is missing. @return 0; -ENODEV no tunnel is there (userspace); negative errno
 */
_must_check_ int overlay_attach(struct overlay *overlay);
void overlay_detach(struct overlay *overlay);

/** Underlay addresses of this host: global, usable, not on the overlay. Sets families. @return how many were written */
unsigned overlay_underlay(struct overlay *overlay, struct endpoint *addresses, unsigned max);

/** Set families alone: which of a peer's endpoints this host can use. */
void overlay_learn_families(struct overlay *overlay);

/** Would a network's range hide a route that the host has already? Ranges of old (may be NULL) are not asked about again. @return 0; -EBADMSG with refusal */
_must_check_ int overlay_check_routes(struct overlay *overlay, const struct mesh *old, const struct mesh *new, struct refusal *refusal);

/** Add what a mesh (NULL: nothing) wants on the interface: addresses and routes. */
void overlay_wanted(const struct mesh *mesh, struct plumbing *plumbing);

/** Addresses, routes, MTU, up: from what one mesh wants (NULL: from what a dump of the host shows to be ours) to what another wants (NULL: none). @return 0; negative errno */
_must_check_ int overlay_plumb(struct overlay *overlay, const struct mesh *from, const struct mesh *to);

/**
 * Go from one mesh that is in force to another, naming only what differs. owners is the new one's. Nothing different: nothing is sent.
 * @return 0; negative errno: the device is in between, overlay_reconcile() brings it to either
 */
_must_check_ int overlay_change(struct overlay *overlay, const struct mesh *from, const struct mesh *to);

#define SETTLE_KEEPALIVE_MS 500 /* more than hosts are apart in applying the same change */

/** Give new peers the keepalive that was held back, SETTLE_KEEPALIVE_MS after the change that brought them (apply.c says why). @return 0; negative errno */
_must_check_ int overlay_settle(struct overlay *overlay, const struct mesh *mesh);

/**
 * A first configuration, when nothing is in force, is handed to the device while it is still being checked, so that a userspace WireGuard works at
 * the same time as we do (10,000 peers take either of us half a second). The interface is down meanwhile and has no address: no packet of this host goes into
 * it or comes out of it, and each peer that is staged has passed its own checks. It comes up, with addresses and routes, at the end; if the check fails, overlay_reconcile(NULL) empties it.
 *
 * overlay_stage_begin(): 0; -EISCONN the interface is up, so nothing can be staged; negative errno.
 * overlay_stage_peer(): one entry that has passed all checks.
 * overlay_stage_end(): r < 0 abandons; else commits and brings the interface up.
 */
_must_check_ int overlay_stage_begin(struct overlay *overlay);
_must_check_ int overlay_stage_peer(struct overlay *overlay, const struct mesh *to, const struct network_document *network,
				    const struct peer *peer);
_must_check_ int overlay_stage_end(struct overlay *overlay, const struct mesh *to, int r);

/**
 * Compare the device with a mesh (NULL: nothing at all), whose owners these are, and mend what differs. The endpoint of a peer that has shaken hands lately is
 * left: it may have roamed.
 * @param mended receives how many peers differed; may be NULL
 */
_must_check_ int overlay_reconcile(struct overlay *overlay, const struct mesh *mesh, unsigned *mended);
