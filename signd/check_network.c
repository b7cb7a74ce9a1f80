/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network document: only the difference to the last one is walked, each peer in it as if controld were the enemy.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "libipc/log.h"
#include "libipc/memfd.h"
#include "signd/signd.h"

struct node {
	struct hash name;
	struct view bytes;
};

struct node_set {
	size_t count;
	struct node nodes[];
};

static int node_order(const void *a, const void *b)
{
	return memcmp(((const struct node *)a)->name.b, ((const struct node *)b)->name.b, HASH_BYTES);
}

int node_set_new(const uint8_t *bytes, size_t n, struct node_set **set)
{
	_cleanup_(node_set_free) struct node_set *made = NULL;
	struct view blob;
	size_t count = 0;
	size_t at = 0;
	int r;

	while ((r = blob_next(bytes, n, &at, &blob)) > 0)
		count++;
	if (r < 0)
		return r;
	made = calloc(1, sizeof(*made) + count * sizeof(made->nodes[0]));
	if (!made)
		return -ENOMEM;
	at = 0;
	while (made->count < count && blob_next(bytes, n, &at, &blob) > 0) {
		made->nodes[made->count].bytes = blob;
		hash_of(blob.p, blob.n, &made->nodes[made->count++].name);
	}
	qsort(made->nodes, made->count, sizeof(made->nodes[0]), node_order);
	*set = TAKE_PTR(made);
	return 0;
}

void node_set_free(struct node_set *set)
{
	free(set);
}

int node_set_find(const struct node_set *set, const struct hash *name, struct view *bytes)
{
	struct node key = { .name = *name };
	const struct node *found = bsearch(&key, set->nodes, set->count, sizeof(key), node_order);

	if (!found)
		return -ENOENT;
	*bytes = found->bytes;
	return 0;
}

/* One walk over what differs. */
struct walk {
	struct signd *signd;
	const struct network_document *network;
	const struct node_set *nodes;
	const struct operators_word *word;
	struct refusal *refusal;
	uint32_t added, removed, replaced;
	struct hash *kept; /* names of the new trie's nodes: one of them may have stood elsewhere in the old trie */
	size_t kept_count, kept_room;
};

static int walk_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	struct walk *walk = arg;

	if (node_set_find(walk->nodes, name, bytes) == 0)
		return 0;
	return state_node(walk->signd->state, &walk->network->header.id, name, bytes);
}

/* First round: what goes makes room, so that an address or a key can move from one host to another in one document. */
static int peer_goes(const struct peer *old, const struct peer *new, void *arg)
{
	struct walk *walk = arg;
	if (!old) {
		walk->added++;
		return 0;
	}
	if (new)
		walk->replaced++;
	else
		walk->removed++;
	return state_member_drop(walk->signd->state, &walk->network->header.id, &old->host);
}

/* The statement is the host's own, and not one that it has replaced since. */
static int statement_check(struct walk *walk, const struct peer *old, const struct peer *new)
{
	const struct statement *statement = &new->statement;
	uint8_t key[KEY_BYTES];
	uint64_t counter;
	char host[ID_TEXT];
	int r;

	if (new->next.counter && statement_verify(&new->next, &walk->signd->keyset.header.deployment) < 0)
		return refuse(walk->refusal, "network %s: host %s did not sign the next WireGuard key that its entry carries", walk->network->name,
			      id_format(&new->host, host));
	if (old && memcmp(&old->statement, statement, sizeof(*statement)) == 0)
		return 0;
	if (statement_verify(statement, &walk->signd->keyset.header.deployment) < 0)
		return refuse(walk->refusal, "network %s: host %s did not sign the WireGuard key that its entry carries", walk->network->name,
			      id_format(&new->host, host));
	r = state_counter(walk->signd->state, &new->host, &counter, key);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && statement->counter < counter)
		return refuse(walk->refusal, "network %s: host %s: statement %" PRIu64 " is older than %" PRIu64 ", which was signed before",
			      walk->network->name, id_format(&new->host, host), statement->counter, counter);
	if (r == 0 && statement->counter == counter)
		return memcmp(key, statement->wg_key, KEY_BYTES) == 0 ?
			       0 :
			       refuse(walk->refusal, "network %s: host %s: two WireGuard keys with the same counter %" PRIu64, walk->network->name,
				      id_format(&new->host, host), counter);
	return state_counter_put(walk->signd->state, &new->host, statement->counter, statement->wg_key);
}

static int addresses_check(struct walk *walk, const struct peer *peer)
{
	char host[ID_TEXT], address[PREFIX_TEXT];

	if (peer->address_count == 0)
		return refuse(walk->refusal, "network %s: host %s has no address", walk->network->name, id_format(&peer->host, host));
	for (unsigned i = 0; i < peer->address_count; i++) {
		const struct prefix *at = &peer->addresses[i];

		if (at->length != family_bits(at->family))
			return refuse(walk->refusal, "network %s: host %s: %s is a range, expected an address", walk->network->name,
				      id_format(&peer->host, host), prefix_format(at, address));
		if (!network_document_covers(walk->network, at))
			return refuse(walk->refusal, "network %s: host %s: %s lies outside the network", walk->network->name,
				      id_format(&peer->host, host), prefix_format(at, address));
	}
	return 0;
}

/* Second round: what comes. */
static int peer_comes(const struct peer *old, const struct peer *new, void *arg)
{
	struct walk *walk = arg;
	const struct prefix *taken = NULL;
	char host[ID_TEXT], address[PREFIX_TEXT];
	int r;

	if (!new)
		return 0;
	r = statement_check(walk, old, new);
	if (r == 0)
		r = addresses_check(walk, new);
	if (r < 0)
		return r;
	r = state_member_put(walk->signd->state, &walk->network->header.id, new, &taken);
	if (r == -ENOTUNIQ)
		return refuse(walk->refusal, "network %s: host %s has the WireGuard key of another host", walk->network->name,
			      id_format(&new->host, host));
	if (r == -EADDRINUSE)
		return refuse(walk->refusal, "network %s: host %s: %s is another host's", walk->network->name, id_format(&new->host, host),
			      prefix_format(taken, address));
	return r;
}

static int node_keep(const struct hash *name, struct view bytes, void *arg)
{
	struct walk *walk = arg;
	struct hash *grown;

	if (walk->kept_count == walk->kept_room) {
		walk->kept_room = walk->kept_room ? walk->kept_room * 2 : 64;
		grown = realloc(walk->kept, walk->kept_room * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		walk->kept = grown;
	}
	walk->kept[walk->kept_count++] = *name;
	return state_node_put(walk->signd->state, &walk->network->header.id, name, bytes);
}

static int name_order(const void *a, const void *b)
{
	return memcmp(((const struct hash *)a)->b, ((const struct hash *)b)->b, HASH_BYTES);
}

static int node_drop(const struct hash *name, _unused_ struct view bytes, void *arg)
{
	struct walk *walk = arg;

	if (walk->kept_count && bsearch(name, walk->kept, walk->kept_count, sizeof(*name), name_order))
		return 0;
	return state_node_drop(walk->signd->state, &walk->network->header.id, name);
}

/* In the walk from new to old, nodes of the new trie are looked up as "old": nothing may be missing there either. */
static int peer_ignore(_unused_ const struct peer *old, _unused_ const struct peer *new, _unused_ void *arg)
{
	return 0;
}

static int walk_refused(struct walk *walk, int r)
{
	switch (r) {
	case -ENOENT:
		return refuse(walk->refusal, "network %s: a node of the trie is missing; send all of them", walk->network->name);
	case -EBADMSG:
	case -EXDEV:
		return refuse(walk->refusal, "network %s: a node of the trie is malformed, or a peer stands where it does not belong",
			      walk->network->name);
	case -E2BIG:
		return refuse(walk->refusal, "network %s: too many nodes", walk->network->name);
	default:
		return r;
	}
}

static int cap_check(const struct walk *walk, uint32_t before)
{
	uint64_t changed = (uint64_t)walk->added + walk->removed + walk->replaced;
	uint64_t cap = walk->signd->change_cap;

	if (cap == 0)
		cap = before > CHANGE_CAP_FLOOR ? (uint64_t)before * CHANGE_CAP_PERCENT / 100 : UINT64_MAX;
	if (changed <= cap)
		return 0;
	walk->refusal->cosign = true;
	return refuse(walk->refusal, "network %s: %" PRIu64 " of %" PRIu32 " peers would change in one document, the cap is %" PRIu64
		      "; look at who asks for this, then an operator co-signs generation %" PRIu64 ": loopbackctl network cosign",
		      walk->network->name, changed, before, cap, walk->network->header.generation);
}

static int ranges_check(const struct network_document *network, const struct network_document *last, struct refusal *refusal)
{
	char a[PREFIX_TEXT], b[PREFIX_TEXT];

	for (unsigned i = 0; i < network->cidr_count; i++)
		for (unsigned j = i + 1; j < network->cidr_count; j++)
			if (prefix_overlaps(&network->cidrs[i], &network->cidrs[j]))
				return refuse(refusal, "network %s: %s and %s overlap", network->name,
					      prefix_format(&network->cidrs[i], a), prefix_format(&network->cidrs[j], b));
	/* Members that do not change are not looked at again, so no range may be taken from under them. */
	for (unsigned i = 0; last && i < last->cidr_count; i++)
		if (!network_document_covers(network, &last->cidrs[i]))
			return refuse(refusal, "network %s: range %s is gone; ranges are added, never taken away", network->name,
				      prefix_format(&last->cidrs[i], a));
	return 0;
}

/* One half of each bridge. Another organization's network is never reached, whatever its own manifest says. */
static int bridges_check(struct signd *signd, const struct network_document *network, struct refusal *refusal)
{
	for (unsigned i = 0; i < network->bridge_count; i++) {
		_cleanup_document_ struct signed_document document = { 0 };
		struct network_document other;
		struct envelope envelope;
		char id[ID_TEXT], a[PREFIX_TEXT], b[PREFIX_TEXT];
		int r = state_document(signd->state, DOC_network, &network->bridges[i], true, &document);

		if (r == -ENOENT)
			return refuse(refusal, "network %s: network %s, to be bridged with it, has never been signed", network->name,
				      id_format(&network->bridges[i], id));
		if (r == 0)
			r = envelope_open(document.envelope, document.envelope_n, &envelope);
		if (r == 0)
			r = network_document_decode(envelope.payload, &other);
		if (r < 0)
			return r;
		if (!id_equal(&document.organization, &network->header.organization))
			return refuse(refusal, "network %s: network %s, to be bridged with it, belongs to another organization", network->name,
				      other.name);
		for (unsigned j = 0; j < network->cidr_count; j++)
			for (unsigned k = 0; k < other.cidr_count; k++)
				if (prefix_overlaps(&network->cidrs[j], &other.cidrs[k]))
					return refuse(refusal, "network %s: %s overlaps %s of network %s, to be bridged with it", network->name,
						      prefix_format(&network->cidrs[j], a), prefix_format(&other.cidrs[k], b), other.name);
	}
	return state_bridges_put(signd->state, &network->header.id, network->bridges, network->bridge_count);
}

static int members_check(struct walk *walk, const struct network_document *last)
{
	const struct trie_diff_events going = { .peer = peer_goes };
	const struct trie_diff_events coming = { .peer = peer_comes, .fresh = node_keep };
	const struct trie_diff_events dropping = { .peer = peer_ignore, .fresh = node_drop };
	const struct hash *root = &walk->network->root;
	int r;

	r = trie_diff(last ? &last->root : NULL, root, walk_lookup, &going, walk);
	if (r == 0)
		r = list_check(walk->signd, walk->network, last, walk->nodes, walk->word, walk->refusal);
	/* Whom an operator's new list takes in or out, an operator stands for already. */
	if (r == 0 && last && !walk->word->news && !walk->word->cosigned)
		r = cap_check(walk, last->count);
	if (r == 0)
		r = trie_diff(last ? &last->root : NULL, root, walk_lookup, &coming, walk);
	if (r == 0 && last) {
		if (walk->kept)
			qsort(walk->kept, walk->kept_count, sizeof(*walk->kept), name_order);
		r = trie_diff(root, &last->root, walk_lookup, &dropping, walk);
	}
	free(TAKE_PTR(walk->kept));
	return walk_refused(walk, r);
}

int network_check(struct signd *signd, const struct network_document *network, const struct network_document *last,
		  const struct node_set *nodes, const struct operators_word *word, struct refusal *refusal)
{
	struct walk walk = { .signd = signd, .network = network, .nodes = nodes, .word = word, .refusal = refusal };
	uint64_t count;
	int r;

	r = ranges_check(network, last, refusal);
	if (r == 0)
		r = bridges_check(signd, network, refusal);
	if (r == 0 && !last)
		r = state_network_clear(signd->state, &network->header.id);
	if (r == 0)
		r = members_check(&walk, last);
	if (r < 0)
		return r;
	count = (uint64_t)(last ? last->count : 0) + walk.added - walk.removed;
	if (count != network->count)
		return refuse(refusal, "network %s: the manifest counts %" PRIu32 " peers, the trie holds %" PRIu64, network->name,
			      network->count, count);
	return 0;
}
