/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WireGuard device, whoever implements it.
 *
 * Two backends: the kernel's (generic netlink, uapi/linux/wireguard.h) and a userspace wireguard-go that is reached over its
 * UAPI socket (https://www.wireguard.com/xplatform/). Both are told only what changes. A change is begun, filled peer by peer,
 * and committed; what was put may reach the device before commit, so a caller that must undo does so itself from its journal.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "libipc/types.h"

#define WG_ALLOWED_MAX (NETWORKS_MAX * ADDRESSES_MAX)

enum wg_backend_kind { WG_KERNEL, WG_USERSPACE };

/** What a change says of the device itself. Zero flags: nothing but peers. */
struct wg_device {
	bool set_private_key;
	bool set_listen_port;
	uint8_t private_key[KEY_BYTES]; /* X25519, clamped; wiped by its owner */
	uint16_t listen_port;
};

/** What a change says of one peer. */
struct wg_peer {
	uint8_t public_key[KEY_BYTES];
	bool remove;              /* nothing else counts */
	bool set_endpoint;
	bool set_keepalive;
	bool replace_allowed;     /* allowed[] is the whole new set */
	struct endpoint endpoint; /* family 0 with set_endpoint is invalid */
	uint16_t keepalive;       /* seconds; 0 off */
	uint16_t allowed_count;
	const struct prefix *allowed; /* borrowed for the call */
};

/** What a dump says of one peer. Key material stays behind: no private key, no preshared key ever leaves a backend. */
struct wg_peer_state {
	uint8_t public_key[KEY_BYTES];
	struct endpoint endpoint; /* family 0: none known */
	uint16_t keepalive;
	uint64_t handshake;    /* Unix seconds of the latest handshake; 0 never */
	uint64_t handshake_ms; /* the same in milliseconds */
	uint64_t rx_bytes, tx_bytes;
	uint16_t allowed_count;       /* entries given; the device may have had more than WG_ALLOWED_MAX: see allowed_cut */
	bool allowed_cut;
	const struct prefix *allowed; /* valid during the callback; unordered */
};

struct wg_device_state {
	uint8_t public_key[KEY_BYTES]; /* all zero: no private key is set */
	uint16_t listen_port;
};

struct wg; /* a device that is open */

/** Called once before the peers (peer NULL) and then once for each peer. Return nonzero to stop; it becomes wg_dump()'s result. */
typedef int wg_dump_fn(const struct wg_device_state *device, const struct wg_peer_state *peer, void *arg);

/**
 * Does this kernel have WireGuard? Asks generic netlink for the family (which loads the module if it may).
 * @return 1 yes, 0 no, negative errno
 */
int wg_kernel_available(void);

/** The backend of a name: kernel, userspace, or auto, which is the kernel's if it has WireGuard. @return 0; -EINVAL; errors of wg_kernel_available() */
_must_check_ int wg_backend_named(const char *name, enum wg_backend_kind *kind);

/**
 * Open the device that exists under a name.
 *
 * Kernel: the interface must be of kind "wireguard". Userspace: connects to /run/wireguard/NAME.sock, within 2 s.
 * @param wg receives the device, owned by the caller: wg_close()
 * @return 0; -ENODEV no such device; -ETIMEDOUT; other negative errno
 */
_must_check_ int wg_open(enum wg_backend_kind kind, const char *name, struct wg **wg);
void wg_close(struct wg *wg);
DEFINE_CLEANUP(struct wg *, wg_close)

/**
 * A descriptor that becomes readable or hangs up when a userspace device dies; -1 for the kernel. Borrowed.
 */
int wg_lifeline(const struct wg *wg);

/** The same prefixes, in whatever order? Neither list has one twice. */
bool prefixes_equal(const struct prefix *a, unsigned a_count, const struct prefix *b, unsigned b_count);

/** Begin a change. @param device may be NULL: peers only. One change at a time. */
_must_check_ int wg_begin(struct wg *wg, const struct wg_device *device);

/**
 * Name one peer in the change. Buffered; sent in messages of bounded size (a peer with many AllowedIPs is continued in the next).
 * @return 0; -EINVAL; the device's own error for something put earlier
 */
_must_check_ int wg_put(struct wg *wg, const struct wg_peer *peer);

/**
 * Send the rest and wait for the device's answer.
 * @return 0; the first error of the device. A change in which nothing was set and nothing put sends nothing at all.
 */
_must_check_ int wg_commit(struct wg *wg);

/** Name a peer that goes. @return as wg_put() */
_must_check_ int wg_put_removal(struct wg *wg, const uint8_t public_key[static KEY_BYTES]);
/** End a change that went well so far (r is 0) with wg_commit(), else with wg_abandon(). @return r, or what wg_commit() returned */
_must_check_ int wg_end(struct wg *wg, int r);

/** Give a change up without sending the rest of it. What was sent already may be in force; an open change must end in this or in wg_commit(). */
void wg_abandon(struct wg *wg);

/** Read the device. Interrupted netlink dumps restart; the callback then sees a new first call. @return 0 or the callback's or a negative errno */
_must_check_ int wg_dump(struct wg *wg, wg_dump_fn *each, void *arg);

/** How many set messages (netlink messages, or UAPI set operations) were sent since wg_open(). Lets a test see that an unchanged document costs none. */
uint64_t wg_sets(const struct wg *wg);
