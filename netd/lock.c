/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/lock.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "libipc/log.h"
#include "libjournal/folder.h"

/* -- What is remembered -------------------------------------------------------------------------------------------------------------- */

int lock_load(struct state *state)
{
	uint8_t bytes[LOCKS_BYTES_MAX];
	ssize_t n = folder_read(state->folder, "locks", bytes, sizeof(bytes));
	int r = n < 0 ? (int)n : locks_decode(bytes, (size_t)n, &state->locks);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? log_errno(r, "locks cannot be used: it says which networks operators have locked. Restore it, or remove it: then the next admission list is believed whatever its generation") : 0;
}

int lock_remember(struct state *state, const struct mesh *mesh)
{
	CLEANUP(pack_writer_free) struct pack_writer out = { .bytes = NULL };
	struct locks locks = state->locks;
	bool news = false;
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < mesh->network_count; i++) {
		const struct network_document *network = &mesh->networks[i];
		const struct admission *list = mesh_list(mesh, &network->header.id);
		struct lock lock = { .network = network->header.id, .cidr_count = network->cidr_count };

		if (!list)
			continue;
		lock.generation = list->header.generation;
		lock.list = mesh_entry(mesh, DOC_admission, &lock.network)->hash;
		lock.flags = list->flags;
		memcpy(lock.cidrs, network->cidrs, sizeof(lock.cidrs));
		r = locks_note(&locks, &lock);
		news = news || r > 0;
	}
	if (r >= 0 && news)
		r = locks_encode(&locks, &out);
	if (r >= 0 && news)
		r = folder_write(state->folder, "locks", out.bytes, out.n);
	if (r >= 0)
		state->locks = locks;
	return r < 0 ? r : 0;
}

/* -- What is offered ------------------------------------------------------------------------------------------------------------------ */

static bool locked(const struct mesh *mesh, const struct id *network)
{
	const struct admission *list = mesh_list(mesh, network);

	return list && list->flags & ADMISSION_LOCKED;
}

/* The list against the last one, and the manifest against the list. */
static int check_list(const struct state *state, const struct mesh *mesh, const struct network_document *network, struct refusal *refusal)
{
	const struct admission *list = mesh_list(mesh, &network->header.id);
	const struct lock *known = locks_find(&state->locks, &network->header.id);
	bool was = known && known->flags & ADMISSION_LOCKED;

	if (!list)
		return !was && !(network->flags & NETWORK_LOCKED) ? 0 :
			       refuse(refusal, "locked", "network %s is locked, and the head names no admission list of it: its operators must sign one "
				      "(loopbackctl network admission)", network->name);
	if (known && list->header.generation < known->generation)
		return refuse(refusal, "admission", "network %s: admission list %" PRIu64 " is older than %" PRIu64 ", which this host has seen; an "
			      "operator must sign one of a later generation", network->name, list->header.generation, known->generation);
	if (known && list->header.generation == known->generation &&
	    !hash_equal(&mesh_entry(mesh, DOC_admission, &network->header.id)->hash, &known->list))
		return refuse(refusal, "admission", "network %s: there are two admission lists of generation %" PRIu64 "; an operator must sign one "
			      "of a later generation", network->name, known->generation);
	if (!(network->flags & NETWORK_LOCKED) != !(list->flags & ADMISSION_LOCKED))
		return refuse(refusal, "locked", "network %s: the manifest says that it is %slocked, its operators' admission list %" PRIu64
			      " that it is %slocked; theirs counts", network->name, network->flags & NETWORK_LOCKED ? "" : "un",
			      list->header.generation, list->flags & ADMISSION_LOCKED ? "" : "un");
	for (unsigned i = 0; was && i < known->cidr_count; i++)
		if (!network_document_covers(network, &known->cidrs[i]))
			return refuse(refusal, "locked", "network %s is locked, and a range of it was taken away; ranges are only added", network->name);
	return 0;
}

static int check_ranges(const struct network_document *network, const char *of, const struct prefix *cidrs, unsigned count,
			struct refusal *refusal)
{
	char text[PREFIX_TEXT];

	for (unsigned i = 0; i < count; i++)
		for (unsigned j = 0; j < network->cidr_count; j++)
			if (prefix_overlaps(&cidrs[i], &network->cidrs[j]))
				return refuse(refusal, "locked", "%s of network %s is within the ranges of network %s, which is locked: its addresses "
					      "are its admitted hosts' alone", prefix_format(&network->cidrs[j], text), network->name, of);
	return 0;
}

static int check_bridge(const struct mesh *mesh, const struct network_document *network, const struct network_document *other,
			struct refusal *refusal)
{
	if (!locked(mesh, &network->header.id) || admission_bridges(mesh_list(mesh, &network->header.id), &other->header.id))
		return 0;
	return refuse(refusal, "locked", "network %s is locked, and its admission list names no bridge with network %s; an operator can: "
		      "loopbackctl network lock --bridge", network->name, other->name);
}

int lock_check_offer(const struct state *state, const struct mesh *mesh, struct refusal *refusal)
{
	char id[ID_TEXT];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < mesh->network_count; i++) {
		const struct network_document *network = &mesh->networks[i];

		r = check_list(state, mesh, network, refusal);
		for (const struct lock *lock = state->locks.locks; r == 0 && lock < state->locks.locks + state->locks.count; lock++)
			if (lock->flags & ADMISSION_LOCKED && !mesh_list(mesh, &lock->network)) /* this host is not in it now */
				r = check_ranges(network, id_format(&lock->network, id), lock->cidrs, lock->cidr_count, refusal);
		for (unsigned j = 0; r == 0 && j < mesh->network_count; j++) {
			const struct network_document *other = &mesh->networks[j];

			if (i != j && locked(mesh, &other->header.id))
				r = check_ranges(network, other->name, other->cidrs, other->cidr_count, refusal);
			if (r == 0 && (i < mesh->host.network_count) != (j < mesh->host.network_count) && network_documents_bridged(network, other))
				r = check_bridge(mesh, network, other, refusal);
		}
	}
	return r;
}

/* -- Peers ---------------------------------------------------------------------------------------------------------------------------- */

/* Must the peers of a network be on the list of another, or of itself? */
static bool governs(const struct mesh *mesh, const struct network_document *list, const struct network_document *network)
{
	if (!list || !network || !locked(mesh, &list->header.id))
		return false;
	if (list == network)
		return true;
	return !locked(mesh, &network->header.id) && network >= mesh->networks + mesh->host.network_count &&
	       list < mesh->networks + mesh->host.network_count && network_documents_bridged(list, network);
}

/* What was in force was checked by its own list: with the same list, only what is new need be. */
static int check_peers(const struct blobs *blobs, const struct mesh *old, const struct mesh *new, const struct network_document *by,
		       const struct network_document *network, struct refusal *refusal)
{
	const struct admission *list = mesh_list(new, &by->header.id), *old_list = mesh_list(old, &by->header.id);
	const struct network_document *was = mesh_network(old, &network->header.id);
	bool same = old_list && hash_equal(&old_list->root, &list->root) && governs(old, mesh_network(old, &by->header.id), was);
	struct id stranger;
	char host[ID_TEXT];
	int r = admission_check(list, same ? &was->root : NULL, &network->root, blobs_lookup, (void *)(uintptr_t)blobs, &stranger);

	return r != -EACCES ? r : refuse(refusal, "not-admitted", "network %s is locked, and host %s (of network %s) is not on its admission list %"
					 PRIu64 "; an operator can admit it: loopbackctl host admit", by->name, id_format(&stranger, host),
					 network->name, list->header.generation);
}

/* A list that was made of one from before the list in force has somebody on it who was taken off. */
static int check_succession(const struct blobs *blobs, const struct mesh *old, const struct mesh *new, const struct admission *list,
			    struct refusal *refusal)
{
	const struct admission *before = mesh_list(old, &list->header.id);
	struct id stranger;
	char host[ID_TEXT];
	int r = before ? admission_follows(before, list, blobs_lookup, (void *)(uintptr_t)blobs, &stranger) : 0;

	return r != -EACCES ? r : refuse(refusal, "admission", "network %s: host %s is on admission list %" PRIu64 ", was not on list %" PRIu64 ", and was not "
					 "admitted since; an operator can admit it anew: loopbackctl host evict, then host admit",
					 mesh_network(new, &list->header.id)->name, id_format(&stranger, host), list->header.generation,
					 before->header.generation);
}

int lock_check_peers(const struct blobs *blobs, const struct mesh *old, const struct mesh *new, struct refusal *refusal)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < new->list_count; i++)
		r = check_succession(blobs, old, new, &new->lists[i], refusal);
	for (unsigned i = 0; r == 0 && i < new->network_count; i++)
		for (unsigned j = 0; r == 0 && j < new->network_count; j++)
			if (governs(new, &new->networks[i], &new->networks[j]))
				r = check_peers(blobs, old, new, &new->networks[i], &new->networks[j], refusal);
	return r;
}
