/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/mesh.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

int refuse(struct refusal *refusal, const char *code, const char *format, ...)
{
	va_list args;

	(void)snprintf(refusal->code, sizeof(refusal->code), "%s", code);
	va_start(args, format);
	(void)vsnprintf(refusal->reason, sizeof(refusal->reason), format, args);
	va_end(args);
	return -EBADMSG;
}

void mesh_free(struct mesh *mesh)
{
	if (!mesh)
		return;
	free(mesh->networks);
	free(mesh->lists);
	free(mesh);
}

/* -- Opening ---------------------------------------------------------------------------------------------------------------------- */

struct opening {
	const struct state *state;
	const struct blobs *blobs;
	const struct mesh *old;
	struct mesh *mesh;
	struct refusal *refusal;
};

/* The very bytes that are in force, and the keyset is still the one by which they were verified? */
static bool verified_before(const struct opening *opening, const struct head_entry *entry)
{
	const struct mesh *old = opening->old;

	if (!old || !hash_equal(&old->keyset, &opening->state->keyset_name))
		return false;
	for (unsigned i = 0; i < old->count; i++)
		if (old->entries[i].type == entry->type && hash_equal(&old->entries[i].hash, &entry->hash))
			return true;
	return false;
}

/* Verify the document that an entry names, and that it is what the entry says. */
static int document_open(const struct opening *opening, const struct head_entry *entry, struct envelope *envelope)
{
	const struct state *state = opening->state;
	struct refusal *refusal = opening->refusal;
	bool by_operator = entry->type == DOC_admission;
	struct view bytes;

	if (blobs_get(opening->blobs, &entry->hash, &bytes) < 0)
		return refuse(refusal, "missing-document", "a document that the head names could not be had; the old configuration stays");
	if (envelope_open(bytes.p, bytes.n, envelope) < 0 || envelope->type != entry->type)
		return refuse(refusal, "malformed", "a document that the head calls %s is not one", document_type_name(entry->type));
	if (!verified_before(opening, entry) && keyset_verify(&state->keyset, envelope, by_operator ? KEY_OPERATOR : KEY_ONLINE) < 0)
		return refuse(refusal, "forged", "a %s is not signed by an %s key of keyset generation %" PRIu64,
			      document_type_name(entry->type), by_operator ? "operator" : "online", state->keyset.header.generation);
	return 0;
}

static int header_check(const struct opening *opening, const struct head_entry *entry, const struct document_header *header)
{
	const struct state *state = opening->state;
	struct refusal *refusal = opening->refusal;

	if (!id_equal(&header->deployment, &state->keyset.header.deployment))
		return refuse(refusal, "deployment", "a %s is of another deployment", document_type_name(entry->type));
	if (!id_equal(&header->id, &entry->id) || header->generation != entry->generation || header->epoch != entry->epoch)
		return refuse(refusal, "mixed", "a %s is generation %" PRIu64 " epoch %u, but the head names generation %" PRIu64 " epoch %u",
			      document_type_name(entry->type), header->generation, header->epoch, entry->generation, entry->epoch);
	/* A list outlives epochs: they begin with what a control plane lost, and an operator's word is not among that. */
	if (header->epoch != state->keyset.header.epoch && entry->type != DOC_admission && !verified_before(opening, entry))
		return refuse(refusal, "epoch", "a %s is of epoch %u; the keyset says %u", document_type_name(entry->type),
			      header->epoch, state->keyset.header.epoch);
	return 0;
}

static int host_open(const struct opening *opening)
{
	struct mesh *mesh = opening->mesh;
	const struct head_entry *entry = NULL;
	struct envelope envelope;
	unsigned hosts = 0;
	int r;

	for (unsigned i = 0; i < mesh->count; i++)
		if (mesh->entries[i].type == DOC_host) {
			entry = &mesh->entries[i];
			hosts++;
		}
	/* Not one more either: what is in force has to fit, with the keyset, into what netd tells that it has. */
	if (hosts != 1 || !id_equal(&entry->id, &opening->state->host))
		return refuse(opening->refusal, "other-host", "the head names %u host documents; expected one, of this host", hosts);
	r = document_open(opening, entry, &envelope);
	if (r < 0)
		return r;
	if (host_document_decode(envelope.payload, &mesh->host) < 0)
		return refuse(opening->refusal, "malformed", "the host document is malformed");
	return header_check(opening, entry, &mesh->host.header);
}

/* Open the network that an entry names, and add it to the mesh. */
static int network_open(const struct opening *opening, const struct head_entry *entry)
{
	struct refusal *refusal = opening->refusal;
	struct mesh *mesh = opening->mesh;
	struct network_document *network = &mesh->networks[mesh->network_count];
	struct envelope envelope;
	char id[ID_TEXT];
	int r = document_open(opening, entry, &envelope);

	if (r < 0)
		return r;
	r = network_document_decode(envelope.payload, network);
	if (r == -E2BIG)
		return refuse(refusal, "too-many-peers", "network %s has more than %d peers", id_format(&entry->id, id), PEERS_MAX);
	if (r < 0)
		return refuse(refusal, "malformed", "the manifest of network %s is malformed", id_format(&entry->id, id));
	r = header_check(opening, entry, &network->header);
	if (r < 0)
		return r;
	mesh->network_count++;
	mesh->peers += network->count;
	if (mesh->mtu == 0 || network->mtu < mesh->mtu)
		mesh->mtu = network->mtu;
	return 0;
}

static int member_open(const struct opening *opening, const struct host_network *member)
{
	struct refusal *refusal = opening->refusal;
	struct mesh *mesh = opening->mesh;
	const struct head_entry *entry = mesh_entry(mesh, DOC_network, &member->network);
	char text[PREFIX_TEXT], id[ID_TEXT];
	int r;

	if (!entry)
		return refuse(refusal, "mixed", "the host document names network %s, the head does not", id_format(&member->network, id));
	r = network_open(opening, entry);
	for (unsigned i = 0; r == 0 && i < member->address_count; i++)
		if (!network_document_covers(&mesh->networks[mesh->network_count - 1], &member->addresses[i]))
			r = refuse(refusal, "address", "%s, given to this host, is not within network %s",
				   prefix_format(&member->addresses[i], text), mesh->networks[mesh->network_count - 1].name);
	return r;
}

const struct network_document *mesh_bridged_with(const struct mesh *mesh, const struct network_document *network)
{
	for (unsigned i = 0; i < mesh->host.network_count; i++)
		if (network_documents_bridged(&mesh->networks[i], network))
			return &mesh->networks[i];
	return NULL;
}

/* What the head names beyond the host's own networks must be bridged with one of those, by the word of both. */
static int bridged_open(const struct opening *opening, const struct head_entry *entry)
{
	const struct network_document *network;
	int r;

	if (entry->type != DOC_network || mesh_network(opening->mesh, &entry->id))
		return 0;
	r = network_open(opening, entry);
	if (r < 0)
		return r;
	network = &opening->mesh->networks[opening->mesh->network_count - 1];
	if (mesh_bridged_with(opening->mesh, network))
		return 0;
	return refuse(opening->refusal, "not-bridged", "the head names network %s, in which this host is not and which is not bridged with one "
		      "of its networks by the word of both", network->name);
}

static int list_open(const struct opening *opening, const struct head_entry *entry)
{
	struct admission *list = &opening->mesh->lists[opening->mesh->list_count];
	struct envelope envelope;
	char id[ID_TEXT];
	int r;

	if (!mesh_network(opening->mesh, &entry->id))
		return refuse(opening->refusal, "mixed", "the head names an admission list of network %s, but not that network",
			      id_format(&entry->id, id));
	r = document_open(opening, entry, &envelope);
	if (r == 0 && admission_decode(envelope.payload, list) < 0)
		r = refuse(opening->refusal, "malformed", "the admission list of network %s is malformed", id_format(&entry->id, id));
	if (r == 0)
		r = header_check(opening, entry, &list->header);
	opening->mesh->list_count += r == 0;
	return r;
}

int mesh_open(const struct state *state, const struct blobs *blobs, const struct mesh *old, const struct head_entry *entries,
	      unsigned count, struct mesh **out, struct refusal *refusal)
{
	_cleanup_(mesh_free) struct mesh *mesh = calloc(1, sizeof(*mesh));
	const struct opening opening = { state, blobs, old, mesh, refusal };
	unsigned networks = 0;
	int r;

	if (!mesh)
		return -ENOMEM;
	memcpy(mesh->entries, entries, count * sizeof(entries[0]));
	mesh->count = count;
	mesh->keyset = state->keyset_name;
	r = host_open(&opening);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < count; i++)
		networks += entries[i].type == DOC_network;
	if (networks < mesh->host.network_count || networks > NETWORKS_MAX)
		return refuse(refusal, "mixed", "the head names %u networks, the host document %u (at most %d are taken)", networks,
			      mesh->host.network_count, NETWORKS_MAX);
	mesh->networks = calloc(networks ? networks : 1, sizeof(mesh->networks[0]));
	mesh->lists = calloc(count - networks, sizeof(mesh->lists[0])); /* one more than there are: the host document is no list */
	if (!mesh->networks || !mesh->lists)
		return -ENOMEM;
	for (unsigned i = 0; r == 0 && i < mesh->host.network_count; i++)
		r = member_open(&opening, &mesh->host.networks[i]);
	for (unsigned i = 0; r == 0 && i < count; i++)
		r = bridged_open(&opening, &entries[i]);
	for (unsigned i = 0; r == 0 && i < count; i++)
		if (entries[i].type == DOC_admission)
			r = list_open(&opening, &entries[i]);
	if (r < 0)
		return r;
	if (mesh->peers > PEERS_MAX)
		return refuse(refusal, "too-many-peers", "%" PRIu64 " peers over all networks; at most %d are taken", mesh->peers, PEERS_MAX);
	*out = TAKE_PTR(mesh);
	return 0;
}

const struct network_document *mesh_network(const struct mesh *mesh, const struct id *network)
{
	for (unsigned i = 0; mesh && i < mesh->network_count; i++)
		if (id_equal(&mesh->networks[i].header.id, network))
			return &mesh->networks[i];
	return NULL;
}

const struct admission *mesh_list(const struct mesh *mesh, const struct id *network)
{
	for (unsigned i = 0; mesh && i < mesh->list_count; i++)
		if (id_equal(&mesh->lists[i].header.id, network))
			return &mesh->lists[i];
	return NULL;
}

const struct head_entry *mesh_entry(const struct mesh *mesh, enum document_type type, const struct id *id)
{
	for (unsigned i = 0; i < mesh->count; i++)
		if (mesh->entries[i].type == type && id_equal(&mesh->entries[i].id, id))
			return &mesh->entries[i];
	return NULL;
}

struct hash mesh_root(const struct mesh *mesh, const struct head_entry *entry)
{
	const struct network_document *network = entry->type == DOC_network ? mesh_network(mesh, &entry->id) : NULL;
	const struct admission *list = entry->type == DOC_admission ? mesh_list(mesh, &entry->id) : NULL;

	return network ? network->root : list ? list->root : (struct hash){ { 0 } };
}

/* -- Walking and merging ---------------------------------------------------------------------------------------------------------- */

static int walk_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	const struct mesh_walk *walk = arg;

	return blobs_get(walk->blobs, name, bytes);
}

int mesh_diff(struct mesh_walk *walk)
{
	const struct trie_diff_events nodes = { .missing = walk->events.missing, .fresh = walk->events.fresh };
	int r = 0;

	for (unsigned i = 0; r == 0 && walk->old && i < walk->old->network_count; i++) {
		const struct network_document *network = &walk->old->networks[i];

		if (mesh_network(walk->new, &network->header.id))
			continue;
		walk->network = network;
		r = trie_diff(&network->root, NULL, walk_lookup, &walk->events, walk);
	}
	for (unsigned i = 0; r == 0 && walk->new && i < walk->new->network_count; i++) {
		const struct network_document *old = mesh_network(walk->old, &walk->new->networks[i].header.id);

		walk->network = &walk->new->networks[i];
		r = trie_diff(old ? &old->root : NULL, &walk->network->root, walk_lookup, &walk->events, walk);
	}
	/* The nodes of admission lists come and go as those of peers do. */
	for (unsigned i = 0; r == 0 && (nodes.missing || nodes.fresh) && walk->new && i < walk->new->list_count; i++) {
		const struct admission *list = &walk->new->lists[i], *old = mesh_list(walk->old, &list->header.id);

		r = trie_diff(old ? &old->root : NULL, &list->root, walk_lookup, &nodes, walk);
	}
	return r;
}

static int merge_entry(const struct network_document *network, const struct peer *peer, unsigned families, struct merged_peer *merged)
{
	if (merged->present && memcmp(merged->wg_key, peer->statement.wg_key, KEY_BYTES) != 0)
		return -EKEYREJECTED;
	memcpy(merged->wg_key, peer->statement.wg_key, KEY_BYTES);
	merged->present = true;
	/* The most conservative of several networks: the shortest interval that keeps the path open. */
	if (network->keepalive && (merged->keepalive == 0 || network->keepalive < merged->keepalive))
		merged->keepalive = network->keepalive;
	for (unsigned i = 0; merged->endpoint.family == 0 && i < peer->endpoint_count; i++)
		if (families & 1U << peer->endpoints[i].family)
			merged->endpoint = peer->endpoints[i];
	for (unsigned i = 0; i < peer->address_count; i++) {
		bool known = false;

		for (unsigned j = 0; j < merged->allowed_count; j++)
			known = known || prefix_equal(&merged->allowed[j], &peer->addresses[i]);
		if (!known && merged->allowed_count < WG_ALLOWED_MAX)
			merged->allowed[merged->allowed_count++] = peer->addresses[i];
	}
	return 0;
}

int mesh_merge(const struct mesh *mesh, const struct blobs *blobs, const struct id *host, const struct peer *known, const struct id *of,
	       unsigned families, struct merged_peer *merged)
{
	merged->present = false;
	merged->keepalive = merged->allowed_count = 0;
	merged->endpoint = (struct endpoint){ 0 };
	for (unsigned i = 0; mesh && i < mesh->network_count; i++) {
		const struct network_document *network = &mesh->networks[i];
		struct peer found;
		bool missing;
		int r;

		if (of && id_equal(&network->header.id, of)) {
			r = known ? merge_entry(network, known, families, merged) : 0;
		} else {
			/* The lookup only reads; its type has no const because a lookup may cache. */
			r = trie_get(&network->root, host, blobs_lookup, (void *)(uintptr_t)blobs, &found, &missing);
			if (r == -ENOENT && !missing)
				continue;
			if (r == 0)
				r = merge_entry(network, &found, families, merged);
		}
		if (r < 0)
			return r;
	}
	return 0;
}
