/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators sign, and signd does not: who may be in a locked network, and changes that are larger than signd signs alone.
 *
 * signd takes a list only together with the manifest that follows it, in one transaction: so there is no moment at which the two differ.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "libipc/log.h"
#include "signd/signd.h"

struct nodes {
	struct signd *signd;
	const struct id *network;
	const struct node_set *fresh; /* that came with the request; NULL: none */
};

static int nodes_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	const struct nodes *nodes = arg;
	int r = nodes->fresh ? node_set_find(nodes->fresh, name, bytes) : -ENOENT;

	if (r == -ENOENT)
		r = state_node(nodes->signd->state, nodes->network, name, bytes);
	return r == -ENOENT ? state_list_node(nodes->signd->state, nodes->network, name, bytes) : r;
}

static int node_put(const struct hash *name, struct view bytes, void *arg)
{
	const struct nodes *nodes = arg;

	return state_list_node_put(nodes->signd->state, nodes->network, name, bytes);
}

/* An operator's key that has expired signs nothing new. */
static bool operator_signs_now(const struct signd *signd, const struct envelope *envelope)
{
	uint64_t now = (uint64_t)time(NULL);

	for (unsigned i = 0; i < signd->keyset.count; i++)
		if (signd->keyset.keys[i].usage & KEY_OPERATOR && envelope_verify(envelope, signd->keyset.keys[i].key) == 0)
			return signd->keyset.keys[i].not_after == 0 || signd->keyset.keys[i].not_after >= now;
	return false;
}

static int list_store(struct signd *signd, const struct signed_document *document, const struct node_set *fresh, const struct admission *list)
{
	const struct trie_diff_events events = { .fresh = node_put };
	struct nodes nodes = { signd, &document->id, fresh };
	int r = state_list_begin(signd->state, &document->id);

	if (r == 0)
		r = trie_diff(NULL, &list->root, nodes_lookup, &events, &nodes);
	if (r == 0)
		r = state_list_end(signd->state, &document->id);
	return r < 0 ? r : state_document_put(signd->state, document);
}

/* Made of the last list, not of one from before it: nobody comes back by a slip, or because an operator was shown an old list. */
static int list_follows(struct signd *signd, const struct network_document *network, const struct signed_document *last,
			const struct node_set *fresh, const struct admission *list, struct refusal *refusal)
{
	struct nodes nodes = { signd, &network->header.id, fresh };
	struct admission before;
	struct envelope envelope;
	struct id stranger;
	char host[ID_TEXT];
	int r = last->envelope ? envelope_open(last->envelope, last->envelope_n, &envelope) : -ENODATA;

	if (r == 0)
		r = admission_decode(envelope.payload, &before);
	if (r == 0)
		r = admission_follows(&before, list, nodes_lookup, &nodes, &stranger);
	if (r == -EACCES)
		return refuse(refusal, "network %s: host %s is on admission list %" PRIu64 ", was not on list %" PRIu64 ", and was not admitted since",
			      network->name, id_format(&stranger, host), list->header.generation, before.header.generation);
	return r == -ENODATA ? 0 : r;
}

static int list_new(struct signd *signd, const struct network_document *network, struct view bytes, const struct signed_document *last,
		    const struct node_set *nodes, struct admission *list, struct refusal *refusal)
{
	struct signed_document document = { .type = DOC_admission, .id = network->header.id, .organization = network->header.organization };
	struct envelope envelope;
	int r = admission_open(bytes.p, bytes.n, &signd->keyset, list);

	if (r < 0 || envelope_open(bytes.p, bytes.n, &envelope) < 0)
		return refuse(refusal, "network %s: the admission list is not signed by an operator key of the keyset", network->name);
	if (!operator_signs_now(signd, &envelope))
		return refuse(refusal, "network %s: the operator key that signed the admission list has expired", network->name);
	if (!id_equal(&list->header.id, &network->header.id) || !id_equal(&list->header.deployment, &network->header.deployment) ||
	    !id_equal(&list->header.organization, &network->header.organization))
		return refuse(refusal, "network %s: the admission list is another network's", network->name);
	if (list->header.generation <= last->generation)
		return refuse(refusal, "network %s: admission list %" PRIu64 " is not newer than %" PRIu64 ", which signd has", network->name,
			      list->header.generation, last->generation);
	document.epoch = list->header.epoch;
	document.generation = list->header.generation;
	hash_of(bytes.p, bytes.n, &document.hash);
	document.envelope = (uint8_t *)(uintptr_t)bytes.p; /* borrowed, and only read */
	document.envelope_n = bytes.n;
	r = list_follows(signd, network, last, nodes, list, refusal);
	if (r == 0)
		r = list_store(signd, &document, nodes, list);
	if (r == -ENOENT || r == -EBADMSG)
		return refuse(refusal, "network %s: nodes of admission list %" PRIu64 " are missing or malformed", network->name,
			      list->header.generation);
	return r;
}

static int list_known(struct signd *signd, const struct signed_document *last, struct operators_word *word)
{
	struct envelope envelope;

	word->listed = last->envelope != NULL;
	if (!word->listed)
		return 0;
	if (envelope_open(last->envelope, last->envelope_n, &envelope) < 0 || keyset_verify(&signd->keyset, &envelope, KEY_OPERATOR) < 0)
		return -EKEYREJECTED;
	return admission_decode(envelope.payload, &word->list);
}

bool list_is_last(struct signd *signd, const struct id *network, struct view list)
{
	_cleanup_document_ struct signed_document last = { 0 };
	struct hash hash;

	if (state_document(signd->state, DOC_admission, network, false, &last) < 0)
		return false;
	hash_of(list.p, list.n, &hash);
	return hash_equal(&hash, &last.hash);
}

int list_take(struct signd *signd, const struct network_document *network, struct view payload, struct view list, struct view cosign,
	      const struct node_set *nodes, struct operators_word *word, struct refusal *refusal)
{
	_cleanup_document_ struct signed_document last = { 0 };
	struct hash hash;
	int r = state_document(signd->state, DOC_admission, &network->header.id, true, &last);

	if (r < 0 && r != -ENOENT)
		return r;
	hash_of(list.p, list.n, &hash);
	if (list.n > 0 && (!last.envelope || !hash_equal(&hash, &last.hash))) {
		word->listed = word->news = true;
		r = list_new(signd, network, list, &last, nodes, &word->list, refusal);
	} else {
		r = list_known(signd, &last, word);
		if (r == -EKEYREJECTED)
			return refuse(refusal, "network %s: its admission list %" PRIu64 " is signed by a key that is no operator's any more; an "
				      "operator must sign it anew: loopbackctl network lock", network->name, last.generation);
	}
	if (r < 0 || cosign.n == 0)
		return r;
	if (cosign_open(cosign.p, cosign.n, &signd->keyset, &network->header, payload) < 0)
		return refuse(refusal, "network %s: the co-signature is not an operator's, or for another manifest", network->name);
	log_notice("network %s: an operator co-signed generation %" PRIu64, network->name, network->header.generation);
	word->cosigned = true;
	return 0;
}

/* -- Peers ---------------------------------------------------------------------------------------------------------------------------- */

/* Peers of `of`, all or what differs from `before`, against the list of `network`. */
static int peers_check(struct signd *signd, const struct network_document *network, const struct admission *list,
		       const struct network_document *of, const struct hash *before, const struct node_set *fresh, struct refusal *refusal)
{
	struct nodes nodes = { signd, &of->header.id, fresh }, own = { signd, &network->header.id, fresh };
	_cleanup_free_ struct admitted *hosts = NULL;
	char host[ID_TEXT];
	struct id stranger;
	int r = admission_load(&list->root, list->count, nodes_lookup, &own, &hosts);

	if (r == 0)
		r = admission_strangers(hosts, list->count, before, &of->root, nodes_lookup, &nodes, &stranger);
	if (r != -EACCES)
		return r;
	return refuse(refusal, "network %s is locked, and host %s (of network %s) is not on its admission list %" PRIu64
		      "; an operator can admit it: loopbackctl host admit", network->name, id_format(&stranger, host), of->name,
		      list->header.generation);
}

/* The last manifest and list that were signed for a network. */
static int known_read(struct signd *signd, const struct id *id, struct network_document *network, struct operators_word *word)
{
	_cleanup_document_ struct signed_document manifest = { 0 }, list = { 0 };
	struct envelope envelope;
	int r = state_document(signd->state, DOC_network, id, true, &manifest);

	if (r == 0)
		r = envelope_open(manifest.envelope, manifest.envelope_n, &envelope);
	if (r == 0)
		r = network_document_decode(envelope.payload, network);
	if (r < 0)
		return r;
	r = state_document(signd->state, DOC_admission, id, true, &list);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	word->listed = true;
	r = envelope_open(list.envelope, list.envelope_n, &envelope);
	return r < 0 ? r : admission_decode(envelope.payload, &word->list);
}

static bool locks(const struct operators_word *word)
{
	return word->listed && word->list.flags & ADMISSION_LOCKED;
}

/* A bridge, seen from both sides; it counts from the first of the two manifests that names it. */
static int bridge_check(struct signd *signd, const struct network_document *network, const struct id *id, const struct node_set *fresh,
			const struct operators_word *word, struct refusal *refusal)
{
	struct operators_word other_word = { .listed = false };
	struct network_document other;
	int r = known_read(signd, id, &other, &other_word);

	if (r < 0)
		return r;
	if (locks(word) && !admission_bridges(&word->list, id))
		return refuse(refusal, "network %s is locked, and its admission list names no bridge with network %s; an operator can: "
			      "loopbackctl network lock --bridge", network->name, other.name);
	if (locks(&other_word) && !admission_bridges(&other_word.list, &network->header.id))
		return refuse(refusal, "network %s is locked, and its admission list names no bridge with network %s; an operator can: "
			      "loopbackctl network lock --bridge", other.name, network->name);
	if (locks(word) && !locks(&other_word))
		r = peers_check(signd, network, &word->list, &other, NULL, fresh, refusal);
	if (locks(&other_word) && !locks(word))
		r = peers_check(signd, &other, &other_word.list, network, NULL, fresh, refusal);
	return r;
}

int list_check(struct signd *signd, const struct network_document *network, const struct network_document *last, const struct node_set *nodes,
	       const struct operators_word *word, struct refusal *refusal)
{
	bool locked = network->flags & NETWORK_LOCKED;
	int r = 0;

	if (locked && !word->listed)
		return refuse(refusal, "network %s: a network is locked by its operators' admission list, and it has none: loopbackctl network lock",
			      network->name);
	if (word->listed && locked != locks(word))
		return refuse(refusal, "network %s: its operators' admission list %" PRIu64 " says that it is %slocked, the manifest does not",
			      network->name, word->list.header.generation, locked ? "un" : "");
	if (locked)
		r = peers_check(signd, network, &word->list, network, last && !word->news ? &last->root : NULL, nodes, refusal);
	for (unsigned i = 0; r == 0 && i < network->bridge_count; i++)
		r = bridge_check(signd, network, &network->bridges[i], nodes, word, refusal);
	return r;
}
