/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/network.h"

#include <errno.h>
#include <string.h>

static const struct pack_limits limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 4, .elements = 64 + BRIDGES_MAX };

int network_document_encode(const struct network_document *network, struct pack_writer *payload)
{
	if (network->cidr_count > CIDRS_MAX || network->bridge_count > BRIDGES_MAX)
		return -EINVAL;
	pack_put_array(payload, 9);
	document_header_write(payload, &network->header);
	pack_put_text(payload, network->name);
	pack_put_array(payload, network->cidr_count);
	for (unsigned i = 0; i < network->cidr_count; i++)
		pack_put_prefix(payload, &network->cidrs[i]);
	pack_put_u64(payload, network->mtu);
	pack_put_u64(payload, network->keepalive);
	pack_put_u64(payload, network->flags);
	pack_put_array(payload, network->bridge_count);
	for (unsigned i = 0; i < network->bridge_count; i++)
		pack_put_bytes(payload, network->bridges[i].b, ID_BYTES);
	pack_put_u64(payload, network->count);
	pack_put_bytes(payload, network->root.b, HASH_BYTES);
	return payload->error;
}

static int check(const struct network_document *network)
{
	if (network->mtu < MTU_MIN || network->mtu > MTU_MAX || network->keepalive > KEEPALIVE_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < network->cidr_count; i++)
		for (unsigned j = 0; j < i; j++)
			if (prefix_overlaps(&network->cidrs[i], &network->cidrs[j]))
				return -EBADMSG;
	for (unsigned i = 0; i < network->bridge_count; i++)
		if (id_equal(&network->bridges[i], &network->header.id) ||
		    (i > 0 && memcmp(network->bridges[i - 1].b, network->bridges[i].b, ID_BYTES) >= 0))
			return -EBADMSG;
	return network->count > PEERS_MAX ? -E2BIG : 0;
}

int network_document_decode(struct view payload, struct network_document *network)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct network_document decoded = { 0 };
	struct pack_cursor whole, inner;
	int r = pack_open(&reader, payload.p, payload.n, &limits, &whole);

	if (r < 0)
		return -EBADMSG;
	document_header_read(&whole, &decoded.header);
	pack_text_copy(&whole, decoded.name, sizeof(decoded.name));
	decoded.cidr_count = pack_array(&whole, 1, CIDRS_MAX, &inner);
	for (unsigned i = 0; i < decoded.cidr_count; i++)
		pack_prefix(&inner, &decoded.cidrs[i]);
	pack_close(&whole, &inner);
	decoded.mtu = (uint16_t)pack_u64(&whole, UINT16_MAX);
	decoded.keepalive = (uint16_t)pack_u64(&whole, UINT16_MAX);
	decoded.flags = (uint32_t)pack_u64(&whole, NETWORK_LOCKED);
	decoded.bridge_count = pack_array(&whole, 0, BRIDGES_MAX, &inner);
	for (unsigned i = 0; i < decoded.bridge_count; i++)
		pack_fixed(&inner, decoded.bridges[i].b, ID_BYTES);
	pack_close(&whole, &inner);
	decoded.count = (uint32_t)pack_u64(&whole, UINT32_MAX);
	pack_fixed(&whole, decoded.root.b, HASH_BYTES);
	if (pack_done(&whole) < 0)
		return -EBADMSG;
	r = check(&decoded);
	if (r == 0)
		*network = decoded;
	return r;
}

bool network_document_covers(const struct network_document *network, const struct prefix *address)
{
	for (unsigned i = 0; i < network->cidr_count; i++)
		if (prefix_contains(&network->cidrs[i], address))
			return true;
	return false;
}

bool network_document_names_bridge(const struct network_document *network, const struct id *other)
{
	for (unsigned i = 0; i < network->bridge_count; i++)
		if (id_equal(&network->bridges[i], other))
			return true;
	return false;
}

bool network_documents_bridged(const struct network_document *one, const struct network_document *other)
{
	return id_equal(&one->header.organization, &other->header.organization) &&
	       network_document_names_bridge(one, &other->header.id) && network_document_names_bridge(other, &one->header.id);
}
