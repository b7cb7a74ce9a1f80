/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two backends of wg.h share: the head of every open device, and the reader that turns a dump into callbacks.
 */
#pragma once

#include <linux/netlink.h>
#include <net/if.h>

#include "libwg/wg.h"

struct wg_ops {
	void (*device)(struct wg *wg, const struct wg_device *device); /* the first of a change: there is room for it */
	int (*peer)(struct wg *wg, const struct wg_peer *peer);
	int (*flush)(struct wg *wg); /* nothing is sent if nothing was named */
	void (*drop)(struct wg *wg); /* forget what was named and not sent */
	int (*dump)(struct wg *wg, wg_dump_fn *each, void *arg);
	void (*close)(struct wg *wg);
};

/* The first member of each backend's own struct. */
struct wg {
	const struct wg_ops *ops;
	char name[IFNAMSIZ];
	int lifeline;
	bool changing;
	int error; /* the first of the change under way */
	uint64_t sets;
};

_must_check_ int wg_kernel_open(const char *name, struct wg **wg);
_must_check_ int wg_uapi_open(const char *name, struct wg **wg);

/** Collects a peer until it is whole, then gives it to the callback. Needs no clean-up and holds nothing secret. */
struct wg_reader {
	wg_dump_fn *each;
	void *arg;
	int result; /* the callback's; nonzero: it wants no more, and is not called again */
	bool device_given, peer_begun;
	struct wg_device_state device;
	struct wg_peer_state peer;
	struct prefix allowed[WG_ALLOWED_MAX];
};

/** A peer begins, or goes on if its key is that of the latest one. The device must be filled in before the first. */
void wg_reader_peer(struct wg_reader *reader, const uint8_t public_key[static KEY_BYTES]);
void wg_reader_allowed(struct wg_reader *reader, const struct prefix *prefix);
/** Nothing follows. @return the callback's result */
int wg_reader_end(struct wg_reader *reader);

#define WG_MESSAGE_BYTES 32768 /* of one set message: a nest's length has 16 bits */

/* The kernel's device. Its messages are written and read in wg_message.c, apart from the socket, so that a test can look at them. */
struct wg_kernel {
	struct wg wg;
	int (*send)(struct wg_kernel *kernel, struct nlmsghdr *message); /* and await the acknowledgement */
	struct netlink *netlink;
	uint16_t family;
	uint32_t index;
	struct nlmsghdr *message; /* the set message being filled, which begins in bytes; NULL: none */
	struct nlattr *peers;     /* its open nest; NULL: none */
	_Alignas(struct nlmsghdr) uint8_t bytes[WG_MESSAGE_BYTES];
};

void wg_message_device(struct wg *wg, const struct wg_device *device);
_must_check_ int wg_message_peer(struct wg *wg, const struct wg_peer *peer);
_must_check_ int wg_message_flush(struct wg *wg);
void wg_message_drop(struct wg *wg);

/** The head of a generic netlink message, to which attributes are put. @param buffer aligned as struct nlmsghdr, large enough */
struct nlmsghdr *wg_command(uint8_t *buffer, uint16_t family, uint16_t flags, uint8_t cmd);

/** Read one message of a dump; a struct wg_reader is the argument (netlink_fn). */
int wg_message_read(const struct nlmsghdr *message, void *reader);
