/* SPDX-License-Identifier: Apache-2.0 */
/* What is new in the tries, held against everything else: the second half of mesh.h. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "netd/lock.h"

struct check {
	const struct state *state;
	struct owners *owners;
	const struct mesh *mesh; /* the new one, whole */
	struct refusal *refusal;
	mesh_accepted_fn *accepted;
	void *accepted_arg;
	int accepted_error; /* what accepted failed with: not a fault of the documents */
	int64_t difference; /* entries more than before, of the network under way */
	uint32_t changed;   /* entries looked at, of the same */
};

static int forget_old(const struct peer *old, const struct peer *new _unused_, void *arg)
{
	struct check *check = ((struct mesh_walk *)arg)->arg;

	if (old)
		owners_remove(check->owners, old);
	return 0;
}

static int check_own(const struct check *check, const struct network_document *network, const struct peer *own)
{
	char ours[KEY_BASE64_TEXT], theirs[KEY_BASE64_TEXT];

	const struct wg_keys *keys = &check->state->keys;

	if (memcmp(own->statement.wg_key, keys->public, KEY_BYTES) == 0 ||
	    (keys->next_counter && memcmp(own->statement.wg_key, keys->next_public, KEY_BYTES) == 0))
		return 0;
	return refuse(check->refusal, "own-key", "network %s gives this host the key %s, but its key is %s", network->name,
		      key_format(own->statement.wg_key, theirs), key_format(check->state->keys.public, ours));
}

static int check_statement(const struct check *check, const struct network_document *network, const struct peer *old,
			   const struct peer *new)
{
	const struct statement *before = old ? &old->statement : NULL;
	const struct statement *after = &new->statement;
	char host[ID_TEXT];

	if (new->next.counter && statement_verify(&new->next, &check->state->keyset.header.deployment) < 0)
		return refuse(check->refusal, "statement", "network %s: the next key of host %s is not vouched for by that host", network->name,
			      id_format(&new->host, host));
	if (before && memcmp(before, after, sizeof(*before)) == 0)
		return 0; /* verified when it came */
	if (statement_verify(after, &check->state->keyset.header.deployment) < 0)
		return refuse(check->refusal, "statement", "network %s: the key of host %s is not vouched for by that host", network->name,
			      id_format(&new->host, host));
	if (before && (after->counter < before->counter ||
		       (after->counter == before->counter && memcmp(after->wg_key, before->wg_key, KEY_BYTES) != 0)))
		return refuse(check->refusal, "downgraded", "network %s: the key of host %s has counter %" PRIu64 ", in force is %" PRIu64,
			      network->name, id_format(&new->host, host), after->counter, before->counter);
	return 0;
}

/* A peer is one host with one key, through however many networks it comes. */
static int check_merge(const struct check *check, const struct mesh_walk *walk, const struct peer *new)
{
	struct merged_peer merged;
	char host[ID_TEXT];
	int r = check->mesh->network_count < 2
			? 0
			: mesh_merge(check->mesh, walk->blobs, &new->host, new, &walk->network->header.id, 0, &merged);

	return r != -EKEYREJECTED ? r
				  : refuse(check->refusal, "two-keys", "network %s and another disagree on the key of host %s",
					   walk->network->name, id_format(&new->host, host));
}

static int note_new(struct check *check, const struct network_document *network, const struct peer *peer)
{
	char one[ID_TEXT], other[ID_TEXT], text[PREFIX_TEXT];
	const struct prefix *address;
	struct id conflict;
	int r = owners_add(check->owners, peer, &conflict, &address);

	if (r != -EEXIST)
		return r;
	if (!address)
		return refuse(check->refusal, "duplicate-key", "network %s: hosts %s and %s have the same WireGuard key", network->name,
			      id_format(&conflict, one), id_format(&peer->host, other));
	return refuse(check->refusal, "overlap", "network %s: %s belongs to both host %s and host %s", network->name,
		      prefix_format(address, text), id_format(&conflict, one), id_format(&peer->host, other));
}

static int check_peer(const struct peer *old, const struct peer *new, void *arg)
{
	const struct mesh_walk *walk = arg;
	const struct network_document *network = walk->network;
	struct check *check = walk->arg;
	char text[PREFIX_TEXT], host[ID_TEXT];
	bool own;
	int r;

	check->difference += (new != NULL) - (old != NULL);
	if (!new)
		return 0;
	/* Before more is verified than the manifest admits to. */
	if (++check->changed > network->count)
		return refuse(check->refusal, "count", "network %s: the manifest says %u peers, the trie has more", network->name,
			      network->count);
	own = id_equal(&new->host, &check->state->host);
	if (own)
		r = check_own(check, network, new);
	else if (memcmp(new->statement.wg_key, check->state->keys.public, KEY_BYTES) == 0)
		r = refuse(check->refusal, "own-key", "network %s gives this host's own key to host %s", network->name,
			   id_format(&new->host, host));
	else
		r = check_statement(check, network, old, new);
	for (unsigned i = 0; r == 0 && i < new->address_count; i++)
		if (!network_document_covers(network, &new->addresses[i]))
			r = refuse(check->refusal, "address", "%s of host %s is not within network %s",
				   prefix_format(&new->addresses[i], text), id_format(&new->host, host), network->name);
	if (r == 0)
		r = check_merge(check, walk, new);
	if (r == 0)
		r = note_new(check, network, new);
	if (r == 0 && check->accepted)
		r = check->accepted_error = check->accepted(network, new, check->accepted_arg);
	return r;
}

/* This host stands in each of its networks, with the addresses of its host document and one and the same key (M5). */
static int check_membership(const struct check *check, const struct blobs *blobs, const struct mesh *mesh)
{
	char key[KEY_BASE64_TEXT], first_key[KEY_BASE64_TEXT];
	struct peer own, first;

	for (unsigned i = 0; i < mesh->host.network_count; i++) {
		const struct network_document *network = &mesh->networks[i];
		const struct host_network *member = &mesh->host.networks[i];
		bool missing;
		int r = trie_get(&network->root, &check->state->host, blobs_lookup, (void *)(uintptr_t)blobs, &own, &missing);

		if (r == -ENOENT && !missing)
			return refuse(check->refusal, "mixed", "the host document names network %s, which does not have this host",
				      network->name);
		if (r < 0)
			return r;
		if (own.address_count != member->address_count ||
		    memcmp(own.addresses, member->addresses, own.address_count * sizeof(own.addresses[0])) != 0)
			return refuse(check->refusal, "mixed", "network %s and the host document disagree on this host's addresses",
				      network->name);
		if (i == 0)
			first = own;
		else if (memcmp(first.statement.wg_key, own.statement.wg_key, KEY_BYTES) != 0)
			return refuse(check->refusal, "two-keys", "networks %s and %s disagree on this host's key: %s and %s",
				      mesh->networks[0].name, network->name, key_format(first.statement.wg_key, first_key),
				      key_format(own.statement.wg_key, key));
	}
	return 0;
}

/* The manifest's count holds for the whole trie: what was there and what the walk found to be different. */
static int check_network(struct check *check, struct mesh_walk *walk, const struct mesh *old, const struct network_document *network)
{
	const struct network_document *before = mesh_network(old, &network->header.id);
	struct mesh one = { .network_count = 1, .networks = (struct network_document *)(uintptr_t)network };
	struct mesh was = { .network_count = 1, .networks = (struct network_document *)(uintptr_t)before };
	int64_t count;
	int r;

	check->difference = check->changed = 0;
	walk->events.peer = check_peer;
	walk->old = before ? &was : NULL;
	walk->new = &one;
	r = mesh_diff(walk);
	if (check->accepted_error < 0)
		return check->accepted_error;
	if (r == -EXDEV)
		return refuse(check->refusal, "misplaced", "network %s: a peer stands in the trie where it does not belong", network->name);
	if (r == -EBADMSG && check->refusal->code[0] == '\0')
		return refuse(check->refusal, "malformed", "network %s: a node of the trie is malformed", network->name);
	if (r < 0)
		return r;
	count = (before ? (int64_t)before->count : 0) + check->difference;
	if (count != (int64_t)network->count)
		return refuse(check->refusal, "count", "network %s: the manifest says %u peers, the trie has %" PRId64, network->name,
			      network->count, count);
	return 0;
}

int mesh_check(const struct state *state, const struct blobs *blobs, const struct mesh *old, const struct mesh *new, struct owners *owners,
	       mesh_accepted_fn *accepted, void *arg, struct refusal *refusal)
{
	struct check check = {
		.state = state, .owners = owners, .mesh = new, .refusal = refusal, .accepted = accepted, .accepted_arg = arg
	};
	struct mesh_walk walk = { .blobs = blobs, .events.peer = forget_old, .old = old, .new = new, .arg = &check };
	int r = 0;

	*refusal = (struct refusal){ .code = "" };
	r = check_membership(&check, blobs, new);
	/* All that goes is forgotten before anything new is noted: an address may move from one host to another in one step. */
	if (r == 0 && old)
		r = mesh_diff(&walk);
	if (r == 0)
		r = lock_check_peers(blobs, old, new, refusal);
	for (unsigned i = 0; r == 0 && i < new->network_count; i++)
		r = check_network(&check, &walk, old, &new->networks[i]);
	if (r < 0 && r != -ENOMEM && check.accepted_error == 0 && refusal->code[0] == '\0')
		r = r == -EXDEV ? refuse(refusal, "misplaced", "a peer stands in the trie where it does not belong")
				: refuse(refusal, "malformed", "a trie cannot be walked: %s", strerror(-r));
	return r;
}

static int note_only(const struct peer *old _unused_, const struct peer *new, void *arg)
{
	const struct prefix *address;
	struct id conflict;

	return new ? owners_add(((struct mesh_walk *)arg)->arg, new, &conflict, &address) : 0;
}

int mesh_note_all(const struct blobs *blobs, const struct mesh *mesh, struct owners *owners)
{
	struct mesh_walk walk = { .blobs = blobs, .events.peer = note_only, .new = mesh, .arg = owners };

	owners_clear(owners);
	return mesh ? mesh_diff(&walk) : 0;
}
