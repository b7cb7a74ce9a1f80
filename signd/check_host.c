/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's own document, and the head: both name only what signd knows from documents that it signed itself.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "signd/signd.h"

static int host_network_check(struct signd *signd, const struct host_document *host, const struct host_network *in,
			      struct refusal *refusal)
{
	_cleanup_document_ struct signed_document network = { 0 };
	char id[ID_TEXT], address[PREFIX_TEXT];
	int r;

	r = state_document(signd->state, DOC_network, &in->network, false, &network);
	if (r == -ENOENT)
		return refuse(refusal, "host %s: network %s has never been signed", host->name, id_format(&in->network, id));
	if (r < 0)
		return r;
	if (!id_equal(&network.organization, &host->header.organization))
		return refuse(refusal, "host %s: network %s belongs to another organization", host->name, id_format(&in->network, id));
	r = state_member_address_count(signd->state, &in->network, &host->header.id);
	if (r < 0)
		return r;
	if (r == 0)
		return refuse(refusal, "host %s is not among the signed peers of network %s", host->name, id_format(&in->network, id));
	if ((unsigned)r != in->address_count)
		return refuse(refusal, "host %s: %u addresses in network %s, where its signed entry has %d", host->name, in->address_count,
			      id_format(&in->network, id), r);
	for (unsigned i = 0; i < in->address_count; i++) {
		r = state_member_holds(signd->state, &in->network, &host->header.id, &in->addresses[i]);
		if (r < 0)
			return r;
		if (r == 0)
			return refuse(refusal, "host %s: %s is not its address in network %s", host->name,
				      prefix_format(&in->addresses[i], address), id_format(&in->network, id));
	}
	return 0;
}

/* Who makes the keys of its hosts is in a network: no key comes from outside while operators hold one locked that this host reaches. */
static int assigned_check(struct signd *signd, const struct host_document *host, struct refusal *refusal)
{
	struct id networks[NETWORKS_MAX];
	int count = state_host_networks(signd->state, &host->header.id, networks);

	for (int i = 0; i < count; i++) {
		_cleanup_document_ struct signed_document signed_last = { 0 };
		struct network_document network;
		struct envelope envelope;
		int r = state_document(signd->state, DOC_network, &networks[i], true, &signed_last);

		if (r == 0)
			r = envelope_open(signed_last.envelope, signed_last.envelope_n, &envelope);
		if (r == 0)
			r = network_document_decode(envelope.payload, &network);
		if (r < 0)
			return r;
		if (network.flags & NETWORK_LOCKED)
			return refuse(refusal, "host %s: a WireGuard key that is not the host's own, and network %s is locked", host->name, network.name);
	}
	return count < 0 ? count : 0;
}

int host_check(struct signd *signd, const struct host_document *host, struct refusal *refusal)
{
	struct id networks[NETWORKS_MAX];
	int r = 0;

	for (unsigned i = 0; i < host->network_count && r == 0; i++) {
		networks[i] = host->networks[i].network;
		r = host_network_check(signd, host, &host->networks[i], refusal);
	}
	if (r == 0)
		r = state_host_networks_put(signd->state, &host->header.id, networks, host->network_count);
	if (r == 0 && host->assigned)
		r = assigned_check(signd, host, refusal);
	return r;
}

/* Exactly what was last signed under this type and id. */
static int entry_check(struct signd *signd, const struct head *head, const struct head_entry *entry, struct refusal *refusal)
{
	_cleanup_document_ struct signed_document document = { 0 };
	char id[ID_TEXT];
	int r;

	if (entry->type == DOC_keyset) {
		refusal->last = signd->keyset.header.generation;
		if (!hash_equal(&entry->hash, &signd->keyset_hash) || !id_equal(&entry->id, &signd->keyset.header.id) ||
		    entry->epoch != signd->keyset.header.epoch || entry->generation != signd->keyset.header.generation)
			return refuse(refusal, "head: the keyset it names is not the one that signd has");
		return 0;
	}
	if (entry->type != DOC_host && entry->type != DOC_network && entry->type != DOC_admission)
		return refuse(refusal, "head: names a document of type %d", (int)entry->type);
	if (entry->type == DOC_host && !id_equal(&entry->id, &head->host))
		return refuse(refusal, "head: names the document of another host");

	refusal->last = 0;
	r = state_document(signd->state, entry->type, &entry->id, false, &document);
	if (r < 0 && r != -ENOENT)
		return r;
	refusal->last = document.generation;
	if (r == -ENOENT || document.generation != entry->generation || document.epoch != entry->epoch ||
	    !hash_equal(&document.hash, &entry->hash))
		return refuse(refusal, "head: %s %s generation %" PRIu64 " is not what was last signed (%" PRIu64 ")",
			      entry->type == DOC_host ? "host" : entry->type == DOC_network ? "network" : "admission list", id_format(&entry->id, id), entry->generation,
			      document.generation);
	if (!id_equal(&document.organization, &head->header.organization))
		return refuse(refusal, "head: %s belongs to another organization", id_format(&entry->id, id));
	return 0;
}

/* A network's list goes with it, wherever it goes. */
static int list_named(struct signd *signd, const struct head *head, const struct id *network, struct refusal *refusal)
{
	_cleanup_document_ struct signed_document list = { 0 };
	char id[ID_TEXT];
	int r = state_document(signd->state, DOC_admission, network, false, &list);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	refusal->last = list.generation;
	return head_find(head, DOC_admission, network) ? 0 :
		       refuse(refusal, "head: names network %s without its admission list %" PRIu64, id_format(network, id), list.generation);
}

static bool listed(const struct id *ids, int count, const struct id *id)
{
	for (int i = 0; i < count; i++)
		if (id_equal(&ids[i], id))
			return true;
	return false;
}

int head_check(struct signd *signd, const struct head *head, struct refusal *refusal)
{
	struct id networks[NETWORKS_MAX];
	const struct head_entry *own = head_find(head, DOC_host, &head->host);
	unsigned named = 0;
	int count, r;

	if (!id_equal(&head->header.id, &head->host))
		return refuse(refusal, "head: its header is of another object than its host");
	if (!own || !head_find(head, DOC_keyset, &signd->keyset.header.id))
		return refuse(refusal, "head: names no host document, or no keyset");
	if (head->header.generation != own->generation)
		return refuse(refusal, "head: its generation is not that of the host document");
	count = state_host_networks(signd->state, &head->host, networks);
	if (count == -E2BIG)
		return refuse(refusal, "head: with bridges, more than %d networks reach this host", NETWORKS_MAX);
	if (count < 0)
		return count;
	for (unsigned i = 0; i < head->count; i++) {
		r = entry_check(signd, head, &head->entries[i], refusal);
		if (r == 0 && head->entries[i].type == DOC_network)
			r = list_named(signd, head, &head->entries[i].id, refusal);
		if (r < 0)
			return r;
		if (head->entries[i].type == DOC_admission && !head_find(head, DOC_network, &head->entries[i].id))
			return refuse(refusal, "head: names an admission list without its network");
		if (head->entries[i].type != DOC_network)
			continue;
		named++;
		if (!listed(networks, count, &head->entries[i].id))
			return refuse(refusal, "head: names a network that the host's document does not, and that is not bridged with one it names");
	}
	if (named != (unsigned)count)
		return refuse(refusal, "head: names %u networks, the host's document and its bridges %d", named, count);
	return 0;
}
