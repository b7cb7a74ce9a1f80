/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of a network: one document, the same for all of its hosts, over a trie of peers (libdoc/trie.h).
 *
 * Payload: [header, name, [CIDR ...], mtu, keepalive, flags, [bridged network id ...], count, root]. header.id is the network's.
 *
 * A bridge is two manifests that name each other: hosts of either network are then peers of the hosts of the other. So making or ending one signs
 * two documents, however many hosts there are, and neither network can be opened to another by that other alone.
 */
#pragma once

#include "libdoc/envelope.h"

#define MTU_DEFAULT 1380
#define MTU_MIN 1280 /* IPv6's minimum: below it the overlay could not carry IPv6 (RFC 8200, 5) */
#define MTU_MAX 9000
#define KEEPALIVE_DEFAULT 25 /* seconds */
#define KEEPALIVE_MAX 3600

enum network_flags {
	NETWORK_LOCKED = 1 << 0, /* peers enter only by an admission list that operators sign; sticky */
};

struct network_document {
	struct document_header header;
	char name[NAME_BYTES_MAX + 1];
	unsigned cidr_count;
	struct prefix cidrs[CIDRS_MAX]; /* disjoint */
	uint16_t mtu;
	uint16_t keepalive; /* seconds; 0: off */
	uint32_t flags;
	unsigned bridge_count;
	struct id bridges[BRIDGES_MAX]; /* ascending; never this network itself */
	uint32_t count; /* peers in the trie */
	struct hash root;
};

_must_check_ int network_document_encode(const struct network_document *network, struct pack_writer *payload);
/** Decode a verified payload. @return 0; -EBADMSG, also for a CIDR that is malformed, an MTU out of bounds, bridges out of order; -E2BIG for count over PEERS_MAX */
_must_check_ int network_document_decode(struct view payload, struct network_document *network);
/** Is this address within one of the network's ranges? */
bool network_document_covers(const struct network_document *network, const struct prefix *address);
/** Does this manifest name that network as one that it is bridged with? Half of a bridge: the other must say so too. */
bool network_document_names_bridge(const struct network_document *network, const struct id *other);
/** Are these two bridged: of one organization, and each names the other? */
bool network_documents_bridged(const struct network_document *one, const struct network_document *other);
