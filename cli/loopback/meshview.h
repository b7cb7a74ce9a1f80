/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What netd shows of the mesh: the document that travels over its `view` socket, decoded. It holds no secret.
 *
 * msgpack [version 1, interface, backend, state, stale, seconds since a fresh head (2^32-1: never), host id or empty,
 * WireGuard public key or empty, listen port, [network ...], [outcome, code, reason, seconds ago], drift mended,
 * [confirm, code, reason, seconds since], [next keys in force, one is this host's, peers to move to or back, there is a second interface], [key of the device or empty, its port], [peer ...]]
 *
 *   network: [id, name, epoch, generation, mtu, keepalive, [own address ...], [CIDR ...], hosts in it, this one too,
 *             locked, generation of its admission list or 0]
 *   peer:    [host id or empty, WireGuard key, [allowed ...], endpoint or nil, handshake in Unix seconds, received, sent,
 *             keepalive, is it on the device]
 */
#pragma once

#include "libipc/types.h"
#include "libipc/pack.h"

#define VIEW_NEVER 0xffffffffu
#define VIEW_BYTES_MAX 67108864
#define VIEW_ALLOWED_MAX (NETWORKS_MAX * ADDRESSES_MAX)

struct mesh_network {
	struct id id;
	char name[NAME_BYTES_MAX + 1];
	uint64_t epoch, generation, mtu, keepalive, hosts;
	bool locked;
	uint64_t list; /* generation of the admission list; 0: none */
	unsigned address_count, cidr_count;
	struct prefix addresses[ADDRESSES_MAX];
	struct prefix cidrs[CIDRS_MAX];
};

struct mesh_view {
	char interface[16], backend[16], state[24];
	bool stale;
	uint64_t head_age; /* seconds; VIEW_NEVER */
	bool has_host, has_key;
	struct id host;
	uint8_t wg_key[KEY_BYTES];
	uint64_t listen_port;
	unsigned network_count;
	struct mesh_network networks[NETWORKS_MAX];
	uint64_t outcome; /* enum outcome; 0: none yet */
	char code[32], reason[512];
	uint64_t outcome_age; /* seconds */
	uint64_t mended;
	uint64_t confirm; /* enum confirm */
	char confirm_code[32], confirm_reason[512]; /* empty: nothing to worry about */
	uint64_t confirm_age;                       /* seconds since it is so */
	struct {
		uint64_t hosts; /* whose keys are being replaced (docs/design/rotation.md) */
		bool own;       /* this host's among them */
		uint64_t moving;
		bool second;
	} rotation;
	bool has_device_key; /* only with peers */
	uint8_t device_key[KEY_BYTES];
	uint64_t device_port;
	uint32_t peer_count; /* in this view: none unless they were asked for */

	/* what the peers are read from */
	struct pack_reader reader;
	struct pack_cursor peers;
	uint8_t *bytes;
};

struct mesh_peer {
	bool has_host; /* else nobody knows whose key this is: somebody else put the peer there */
	struct id host;
	uint8_t wg_key[KEY_BYTES];
	unsigned allowed_count;
	struct prefix allowed[VIEW_ALLOWED_MAX];
	bool has_endpoint;
	struct endpoint endpoint;
	uint64_t handshake, rx_bytes, tx_bytes, keepalive;
	bool there; /* on the device. Else signed alone: this host itself, or a peer that is missing */
};

/**
 * Decode what netd sent.
 * @param view zeroed before the first use; owns bytes afterwards: mesh_view_free()
 * @param bytes consumed, also on failure
 * @return 0; -EBADMSG, -E2BIG, -ELOOP not such a document; -ENOTSUP of another version; -ENOMEM
 */
_must_check_ int mesh_view_decode(struct mesh_view *view, uint8_t *bytes, size_t n);

/** Read the next peer. @return 1; 0 at the end; -EBADMSG */
_must_check_ int mesh_view_next(struct mesh_view *view, struct mesh_peer *peer);

void mesh_view_free(struct mesh_view *view);
#define _cleanup_mesh_view_ CLEANUP(mesh_view_free)
