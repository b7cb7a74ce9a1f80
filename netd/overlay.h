/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overlay interface: the one thing on this host that netd changes. Peers (apply.c) and what carries them (overlay.c).
 */
#pragma once

#include "netd/mesh.h"
#include "libwg/rtnl.h"
#include "libwg/wg.h"

struct overlay {
	char name[16]; /* IFNAMSIZ */
	enum wg_backend_kind kind;
	uint16_t listen_port;
	struct rtnl *rtnl;
	struct wg *wg;     /* NULL: there is no device (yet) */
	int index;
	unsigned families; /* bits 4 and 6: of the underlay */
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

/** Would a network's range hide a route that the host has already? Ranges of old (may be NULL) are not asked about again. @return 0; -EBADMSG with refusal */
_must_check_ int overlay_check_routes(struct overlay *overlay, const struct mesh *old, const struct mesh *new, struct refusal *refusal);

/** Addresses, routes, MTU, up: from what one mesh wants (NULL: from what a dump of the host shows to be ours) to what another wants (NULL: none). @return 0; negative errno */
_must_check_ int overlay_plumb(struct overlay *overlay, const struct mesh *from, const struct mesh *to);

/**
 * Go from one mesh that is in force to another, naming only what differs. owners is the new one's. Nothing different: nothing is sent.
 * @return 0; negative errno: the device is in between, overlay_reconcile() brings it to either
 */
_must_check_ int overlay_change(struct overlay *overlay, const struct mesh *from, const struct mesh *to);

/**
 * Compare the device with a mesh (NULL: nothing at all), whose owners these are, and mend what differs. The endpoint of a peer that has shaken hands lately is
 * left: it may have roamed.
 * @param mended receives how many peers differed; may be NULL
 */
_must_check_ int overlay_reconcile(struct overlay *overlay, const struct mesh *mesh, unsigned *mended);
