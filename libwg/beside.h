/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second WireGuard interface beside the first, while keys are being replaced (M10). It does what it is told: which peers it has, and with whom hosts move
 * over, is decided in netd/rotation.c.
 *
 * A device has one private key, and a peer entry that does not own an address drops what comes from there. So a host with two keys needs two devices, and so does
 * everybody who talks to it. A packet may come over either; where it goes is up to routes to single addresses, which are added once the second
 * tunnel has shaken hands with that peer, and taken away once the first one has, with the new key. The two directions change independently of each other.
 */
#pragma once

#include "libwg/plumb.h"
#include "libwg/wg.h"

/** A peer with which this host is to talk over the second interface. */
struct beside_peer {
	uint8_t key[KEY_BYTES];       /* there */
	uint8_t first_key[KEY_BYTES]; /* on the first interface */
	bool both;                    /* it is to be moved to; else it is to be moved back from */
	struct endpoint endpoint;     /* family 0: none known */
	unsigned allowed_count;
	struct prefix *allowed;       /* allocated; struct beside's */
	/* What has come of it; beside.c's. */
	bool there, same, settled, waited, fresh, back, moved, heard;
	uint64_t rx_bytes;
};

struct beside {
	enum wg_backend_kind kind;
	char name[16];
	struct rtnl *rtnl;
	struct wg *wg; /* NULL: there is none */
	int index;
	uint8_t own[KEY_BYTES]; /* public key that the device was last configured with */
	struct plumbing plumbing; /* what the first interface carries: addresses, and the preferred sources of its routes */
	unsigned count;
	struct beside_peer *peers;
};

/** The second interface's UDP port, here as at peers: the one after the first interface's. */
uint16_t beside_port(uint16_t first);
void beside_peers_free(struct beside_peer *peers, unsigned count);
/** Room for one more in a list, all zero but for what is allowed, which is copied. @return 0; -ENOMEM */
_must_check_ int beside_room(struct beside_peer **peers, unsigned count, unsigned *room, const struct prefix *allowed, unsigned allowed_count);

/** Open the device; the kernel's is made if it is missing and make is set. @return 0; -ENODEV there is none; negative errno */
_must_check_ int beside_open(struct beside *beside, bool make);
/** Let go of it, and of what is known of its peers. @param delete end the interface too, and with it its routes */
void beside_close(struct beside *beside, bool delete);

/**
 * Bring the device to a list of peers: those that are to be moved to are added, those that are on it and not in the list go, and with them the routes to them.
 * @param first the first interface; both get a loose reverse path filter
 * @param peers consumed
 * @return 0; negative errno: another call does what is left
 */
_must_check_ int beside_configure(struct beside *beside, const struct rtnl_link *first, const struct wg_device *device, struct beside_peer *peers,
				  unsigned count);

/**
 * Look at both devices, and move.
 * @param since_ms Unix milliseconds: a handshake of the first interface that is older does not count
 * @param moving receives how many peers are still to be moved to
 * @param used receives with how many the second interface is in use: moved to and not back yet, or heard over it since the last look. A peer whose netd does not
 *   get to run goes on sending there, however long everybody else has been back
 * @return 0; negative errno
 */
_must_check_ int beside_move(struct beside *beside, struct wg *first, uint64_t since_ms, unsigned *moving, unsigned *used);
