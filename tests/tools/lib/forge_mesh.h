/* SPDX-License-Identifier: Apache-2.0 */
/* forge's control plane: hosts that exist in documents alone, networks, tries, publications. */
#pragma once

#include "libdoc/trie_node.h"
#include "tests/tools/lib/forge_sign.h"

/* -- Hosts ------------------------------------------------------------------------------------------------------------------- */

static struct virtual_host *host_at(struct forge *forge, uint64_t number)
{
	if (number > 2 * PEERS_MAX)
		return NULL;
	if (number >= forge->host_room) {
		unsigned room = (unsigned)number + 1024;
		struct virtual_host *grown = reallocarray(forge->hosts, room, sizeof(*grown));

		if (!grown)
			return NULL;
		forge->hosts = grown;
		forge->host_room = room;
	}
	while (forge->host_count <= number) {
		struct virtual_host *host = &forge->hosts[forge->host_count];
		uint8_t seed[crypto_sign_SEEDBYTES], scalar[KEY_BYTES];

		*host = (struct virtual_host){ .statement.counter = 0 };
		derive(forge, "host", forge->host_count, seed, sizeof(seed));
		derive(forge, "tunnel", forge->host_count, scalar, sizeof(scalar));
		(void)crypto_sign_seed_keypair(host->statement.host_key, host->secret, seed);
		(void)crypto_scalarmult_base(host->wg_key, scalar);
		forge->host_count++;
	}
	return &forge->hosts[number];
}

/* A host's statement for a key and a counter; kept, for signing is what costs. */
static int statement_of(struct forge *forge, struct virtual_host *host, const uint8_t *wg_key, uint64_t counter,
			struct statement *statement)
{
	int r = 0;

	if (host->statement.counter != counter || memcmp(host->statement.wg_key, wg_key, KEY_BYTES) != 0) {
		host->statement.counter = counter;
		memcpy(host->statement.wg_key, wg_key, KEY_BYTES);
		r = statement_sign(&host->statement, &forge->keyset.header.deployment, host->secret);
	}
	*statement = host->statement;
	return r;
}

/* -- Networks ---------------------------------------------------------------------------------------------------------------- */

static struct forged_network *network_named(struct forge *forge, const char *name)
{
	for (unsigned i = 0; name && i < forge->network_count; i++)
		if (strcmp(forge->networks[i].name, name) == 0)
			return &forge->networks[i];
	return NULL;
}

static struct forged_network *network_make(struct forge *forge, const char *name)
{
	struct forged_network *network = network_named(forge, name);

	if (network || !name || forge->network_count == FORGED_NETWORKS_MAX || strlen(name) > NAME_BYTES_MAX)
		return network;
	network = &forge->networks[forge->network_count];
	if (trie_new(&network->trie) < 0)
		return NULL;
	forge->network_count++;
	(void)snprintf(network->name, sizeof(network->name), "%s", name);
	(void)snprintf(network->document.name, sizeof(network->document.name), "%s", name);
	derive(forge, name, 2, network->document.header.id.b, ID_BYTES);
	network->document.mtu = MTU_DEFAULT;
	return network;
}

static int prefixes_parse(struct forge *forge, const char *list, struct prefix *out, unsigned max, unsigned *count)
{
	char text[PREFIX_TEXT];
	unsigned n = 0;

	while (list_next(&list, text, sizeof(text)))
		if (n == max || prefix_parse(text, &out[n++]) < 0)
			return wrong(forge, "expected at most %u ranges or addresses, found %s", max, text);
	*count = n;
	return 0;
}

static int id_order(const void *a, const void *b)
{
	return memcmp(a, b, ID_BYTES);
}

/* Networks that this one says it is bridged with; they are made if need be. */
static int bridges_parse(struct forge *forge, const char *list, struct network_document *document)
{
	char name[NAME_BYTES_MAX + 1];

	document->bridge_count = 0;
	while (strcmp(list, "none") != 0 && list_next(&list, name, sizeof(name))) {
		const struct forged_network *other = network_make(forge, name);

		if (!other || document->bridge_count == BRIDGES_MAX)
			return wrong(forge, "expected at most %d networks to be bridged with, found %s", BRIDGES_MAX, name);
		document->bridges[document->bridge_count++] = other->document.header.id;
	}
	qsort(document->bridges, document->bridge_count, ID_BYTES, id_order);
	return 0;
}

/*
 * network NAME [cidr=RANGE,...] [mtu=] [keepalive=] [mine=0] [bridges=NAME,...|none] [locked=0|1]
 * and lies for its next publication: [generation=] [epoch=] [count=] [sign=KEY] [type=host/1] [deployment=NAME]
 */
static int cmd_network(struct forge *forge, struct words *words)
{
	struct forged_network *network = network_make(forge, word_at(words, 1));
	const char *cidr = word_of(words, "cidr"), *bridges = word_of(words, "bridges");
	struct network_document *document;
	int r = 0;

	if (!network)
		return wrong(forge, "expected a name, and at most %d networks", FORGED_NETWORKS_MAX);
	document = &network->document;
	if (cidr)
		r = prefixes_parse(forge, cidr, document->cidrs, CIDRS_MAX, &document->cidr_count);
	if (r == 0 && bridges)
		r = bridges_parse(forge, bridges, document);
	document->mtu = (uint16_t)number_of(words, "mtu", document->mtu);
	document->keepalive = (uint16_t)number_of(words, "keepalive", document->keepalive);
	document->flags = number_of(words, "locked", document->flags & NETWORK_LOCKED) ? NETWORK_LOCKED : 0;
	network->mine = number_of(words, "mine", network->mine) != 0;
	network->dirty = true;
	return r < 0 ? r : lies_read(forge, words, &network->lies);
}

/* empty: no network has members any more, and the host under test is in none */
static int cmd_empty(struct forge *forge, struct words *words _unused_)
{
	for (unsigned i = 0; i < forge->network_count; i++) {
		struct forged_network *network = &forge->networks[i];
		struct trie *fresh;

		if (trie_new(&fresh) < 0)
			return -ENOMEM;
		trie_free(network->trie);
		network->trie = fresh;
		network->mine = network->dirty = false;
		network->own_count = network->document.bridge_count = 0;
		network->document.flags = 0;
		network->list.type = 0; /* what netd has seen of it, it remembers */
		network->lies = (struct lies){ .type = 0 };
	}
	forge->host_networks[0] = '\0';
	forge->host_lies = (struct lies){ .type = 0 };
	return 0;
}

/* host [networks=a,b] [rotate=1] [assigned=self|other]: its key is to be replaced, by one in a box for this host or for another one; and lies for its next publication, as for network */
static int cmd_host(struct forge *forge, struct words *words)
{
	const char *networks = word_of(words, "networks"), *assigned = word_of(words, "assigned");
	const struct virtual_host *other = host_at(forge, 1);
	struct host_document *document = &forge->host_document;
	uint8_t public[KEY_BYTES];
	int r;

	document->rotate = number_of(words, "rotate", 0) ? forge->statement.counter : 0;
	document->assigned = assigned != NULL;
	if (assigned) {
		r = assigned_make(strcmp(assigned, "self") == 0 || !other ? forge->host_key : other->secret + SECRET_KEY_BYTES - KEY_BYTES, document->box, public);
		if (r < 0)
			return wrong(forge, "cannot make a key: %s", strerror(-r));
		put_hex(&forge->answer, "assigned", public, sizeof(public));
	}
	(void)snprintf(forge->host_networks, sizeof(forge->host_networks), "%s", networks ? networks : "");
	return lies_read(forge, words, &forge->host_lies);
}

/* Which WireGuard key: the host's own, another host's ("7"), the tested host's ("self"), or a new one ("new:7"). */
static int wg_key_chosen(struct forge *forge, const char *choice, const struct virtual_host *host, uint8_t key[static KEY_BYTES])
{
	const struct virtual_host *other;
	uint8_t scalar[KEY_BYTES];

	if (choice && strcmp(choice, "self") == 0) {
		memcpy(key, forge->statement.wg_key, KEY_BYTES);
	} else if (choice && strncmp(choice, "new:", 4) == 0) {
		derive(forge, "other tunnel", strtoull(choice + 4, NULL, 10), scalar, sizeof(scalar));
		(void)crypto_scalarmult_base(key, scalar);
	} else {
		other = choice ? host_at(forge, strtoull(choice, NULL, 10)) : host;
		if (!other)
			return -ENOMEM;
		memcpy(key, other->wg_key, KEY_BYTES);
	}
	return 0;
}

/* self NETWORK address=A[,B] [wg=new:NUMBER]: the host under test is a member, by its own statement or with another key */
static int cmd_self(struct forge *forge, struct words *words)
{
	struct forged_network *network = network_named(forge, word_at(words, 1));
	struct peer peer = { .statement = forge->statement };
	const char *wg = word_of(words, "wg");
	int r = 0;

	if (!network || !forge->known)
		return wrong(forge, "expected a network, and a host that has said hello");
	if (wg)
		r = wg_key_chosen(forge, wg, NULL, peer.statement.wg_key);
	if (r == 0)
		r = prefixes_parse(forge, word_of(words, "address"), network->own, ADDRESSES_MAX, &network->own_count);
	if (r < 0)
		return r;
	peer.address_count = network->own_count;
	memcpy(peer.addresses, network->own, sizeof(peer.addresses));
	r = trie_put(network->trie, &peer);
	network->mine = network->dirty = true;
	return r < 0 ? wrong(forge, "self: %s", strerror(-r)) : 0;
}

static void prefix_add(struct prefix *prefix, uint64_t number)
{
	for (unsigned i = family_bits(prefix->family) / 8; number && i-- > 0;) {
		number += prefix->b[i];
		prefix->b[i] = (uint8_t)number;
		number >>= 8;
	}
}

/* peers NETWORK count= base=ADDRESS [from=0] [endpoint=A:P] [counter=1]: hosts with consecutive addresses */
static int cmd_peers(struct forge *forge, struct words *words)
{
	struct forged_network *network = network_named(forge, word_at(words, 1));
	const char *base = word_of(words, "base"), *endpoint = word_of(words, "endpoint");
	uint64_t from = number_of(words, "from", 0), count = number_of(words, "count", 0), counter = number_of(words, "counter", 1);
	struct peer peer = { .address_count = 1, .endpoint_count = endpoint != NULL };
	struct prefix first;

	if (!network || !base || prefix_parse(base, &first) < 0 || (endpoint && endpoint_parse(endpoint, &peer.endpoints[0]) < 0))
		return wrong(forge, "expected NETWORK base=ADDRESS endpoint=ADDRESS:PORT");
	for (uint64_t i = 0; i < count; i++) {
		struct virtual_host *host = host_at(forge, from + i);
		int r = host ? statement_of(forge, host, host->wg_key, counter, &peer.statement) : -ENOMEM;

		peer.addresses[0] = first;
		prefix_add(&peer.addresses[0], i);
		if (r == 0)
			r = trie_put(network->trie, &peer);
		if (r < 0)
			return wrong(forge, "peer %" PRIu64 ": %s", from + i, strerror(-r));
	}
	network->dirty = true;
	put_number(&forge->answer, "peers", trie_count(network->trie));
	return 0;
}

static int peer_fill(struct forge *forge, struct words *words, uint64_t number, struct peer *peer)
{
	const char *endpoint = word_of(words, "endpoint");
	struct virtual_host *host = host_at(forge, number);
	uint8_t key[KEY_BYTES];
	int r = host ? 0 : -ENOMEM;

	if (r == 0)
		r = wg_key_chosen(forge, word_of(words, "wg"), &forge->hosts[number], key);
	host = host_at(forge, number); /* the table may have moved */
	if (r == 0)
		r = statement_of(forge, host, key, number_of(words, "counter", 1), &peer->statement);
	if (r < 0)
		return wrong(forge, "peer %" PRIu64 ": %s", number, strerror(-r));
	if (number_of(words, "unsigned", 0)) /* vouched for by nobody */
		peer->statement.signature[0] ^= 1;
	if (endpoint && endpoint_parse(endpoint, &peer->endpoints[peer->endpoint_count++]) < 0)
		return wrong(forge, "expected endpoint=ADDRESS:PORT, found %s", endpoint);
	return prefixes_parse(forge, word_of(words, "address"), peer->addresses, ADDRESSES_MAX, &peer->address_count);
}

/* peer NETWORK NUMBER address=A[,B] [endpoint=A:P] [counter=1] [wg=NUMBER|self|new:NUMBER] [unsigned=1] */
static int cmd_peer(struct forge *forge, struct words *words)
{
	struct forged_network *network = network_named(forge, word_at(words, 1));
	const char *number = word_at(words, 2);
	struct peer peer = { .address_count = 0 };
	char text[KEY_BASE64_TEXT];
	int r;

	if (!network || !number)
		return wrong(forge, "expected NETWORK NUMBER address=...");
	r = peer_fill(forge, words, strtoull(number, NULL, 10), &peer);
	if (r == 0)
		r = trie_put(network->trie, &peer);
	if (r < 0)
		return wrong(forge, "peer %s: %s", number, strerror(-r));
	network->dirty = true;
	put_text(&forge->answer, "key", key_format(peer.statement.wg_key, text));
	return 0;
}

/* unpeer NETWORK NUMBER|self */
static int cmd_unpeer(struct forge *forge, struct words *words)
{
	struct forged_network *network = network_named(forge, word_at(words, 1));
	const char *number = word_at(words, 2);
	struct id id = forge->host;

	if (!network || !number)
		return wrong(forge, "expected NETWORK NUMBER");
	if (strcmp(number, "self") != 0) {
		const struct virtual_host *host = host_at(forge, strtoull(number, NULL, 10));

		if (!host)
			return wrong(forge, "no such host");
		host_id_of(host->statement.host_key, &id);
	}
	network->dirty = true;
	return trie_remove(network->trie, &id) < 0 ? wrong(forge, "%s is not in %s", number, network->name) : 0;
}

static int keep_node(const struct hash *name, const void *bytes, size_t n, void *arg)
{
	return blobs_put(((struct forge *)arg)->blobs, name, bytes, n);
}

static struct head_entry entry_of(enum document_type type, const struct document_header *header, const struct hash *hash)
{
	return (struct head_entry){
		.type = type, .id = header->id, .epoch = header->epoch, .generation = header->generation, .hash = *hash
	};
}

/* -- Admission lists: the operators' ----------------------------------------------------------------------------------------------- */

/* Ids of "self", "7" and "7-300" (hosts as in peers), ascending. */
static int hosts_parse(struct forge *forge, const char *list, struct id *ids, size_t room, size_t *count)
{
	char word[32];
	size_t n = 0;

	while (list_next(&list, word, sizeof(word))) {
		char *end;
		uint64_t from = strtoull(word, &end, 10), to = *end == '-' ? strtoull(end + 1, NULL, 10) : from;

		if (strcmp(word, "self") == 0)
			ids[n++] = forge->host;
		else
			for (; from <= to && n < room; from++) {
				const struct virtual_host *host = host_at(forge, from);

				if (!host)
					return wrong(forge, "no host %s", word);
				host_id_of(host->statement.host_key, &ids[n++]);
			}
	}
	qsort(ids, n, ID_BYTES, id_order);
	*count = n;
	return 0;
}

static int admission_sign(struct forge *forge, struct forged_network *network, struct admission *admission, struct lies *lies)
{
	CLEANUP(pack_writer_free) struct pack_writer payload = { .bytes = NULL };
	struct hash name;
	int r;

	admission->header = header_next(forge, &network->document.header.id, lies, &network->list_generation);
	if (!lies->signer[0])
		(void)snprintf(lies->signer, sizeof(lies->signer), "operator");
	r = admission_encode(admission, &payload);
	if (r == 0)
		r = publish_payload(forge, DOC_admission, lies, &payload, &name);
	if (r < 0)
		return wrong(forge, "cannot sign a list for %s: %s", network->name, strerror(-r));
	network->list_before = network->list;
	network->list = entry_of(DOC_admission, &admission->header, &name);
	put_number(&forge->answer, "generation", admission->header.generation);
	return 0;
}

/* Who was on the last list keeps what it says of him; the others came by this generation, or by a lie. */
static int admission_build_of(struct forge *forge, struct forged_network *network, const struct id *ids, size_t count, uint64_t generation,
			      uint64_t since, struct admission *admission)
{
	struct admitted *hosts = calloc(count + 1, sizeof(*hosts));
	int r;

	if (!hosts)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct admitted *was = admitted_find(network->listed, network->listed_count, &ids[i]);

		hosts[i] = was ? *was : (struct admitted){ ids[i], since ? since : generation };
	}
	r = admission_build(hosts, count, keep_node, forge, &admission->root);
	if (!since) {
		free(network->listed);
		network->listed = hosts;
		network->listed_count = count;
	} else {
		free(hosts);
	}
	return r;
}

/*
 * admission NETWORK [hosts=self,0-19,...] [bridges=NAME,...] [locked=1], signed by the key "operator" unless a lie says otherwise: [sign=KEY] [generation=]
 * [epoch=] [count=] [type=network/1] [deployment=NAME] [since=N]: by which list those came who were not on the last one; such a list is not gone on from.
 * [back=1]: the list before, once more; [none=1]: heads name none any more
 */
static int cmd_admission(struct forge *forge, struct words *words)
{
	struct forged_network *network = network_named(forge, word_at(words, 1));
	const char *hosts = word_of(words, "hosts"), *bridges = word_of(words, "bridges");
	_cleanup_free_ struct id *ids = calloc(PEERS_MAX, sizeof(*ids));
	struct network_document bridged = { .bridge_count = 0 };
	struct admission admission = { .flags = number_of(words, "locked", 1) ? ADMISSION_LOCKED : 0 };
	uint64_t since = number_of(words, "since", 0);
	struct lies lies = { .type = 0 };
	size_t count = 0;
	int r;

	if (!network || !ids || !forge->known)
		return wrong(forge, "expected a network, and a host that has said hello");
	if (number_of(words, "back", 0)) {
		network->list = network->list_before;
		return 0;
	}
	if (number_of(words, "none", 0)) {
		network->list_before = network->list;
		network->list.type = 0;
		return 0;
	}
	r = hosts_parse(forge, hosts, ids, PEERS_MAX, &count);
	if (r == 0)
		r = bridges_parse(forge, bridges ? bridges : "none", &bridged);
	if (r == 0)
		r = lies_read(forge, words, &lies);
	if (r < 0)
		return r;
	memcpy(admission.bridges, bridged.bridges, sizeof(admission.bridges));
	admission.bridge_count = bridged.bridge_count;
	r = admission_build_of(forge, network, ids, count, lies.set_generation ? lies.generation : network->list_generation + 1, since, &admission);
	admission.count = lies.set_count ? (uint32_t)lies.count : (uint32_t)count;
	return r < 0 ? wrong(forge, "admission: %s", strerror(-r)) : admission_sign(forge, network, &admission, &lies);
}

/* -- Publications ------------------------------------------------------------------------------------------------------------ */

static int network_publish(struct forge *forge, struct forged_network *network)
{
	CLEANUP(pack_writer_free) struct pack_writer payload = { .bytes = NULL };
	struct network_document *document = &network->document;
	struct hash name;
	int r = trie_commit(network->trie, keep_node, forge, &document->root);

	document->header = header_next(forge, &document->header.id, &network->lies, &network->generation);
	document->count = network->lies.set_count ? (uint32_t)network->lies.count : trie_count(network->trie);
	if (network->lies.set_root)
		document->root = network->lies.root;
	if (r == 0)
		r = network_document_encode(document, &payload);
	if (r == 0)
		r = publish_payload(forge, DOC_network, &network->lies, &payload, &name);
	if (r < 0)
		return wrong(forge, "cannot publish network %s: %s", network->name, strerror(-r));
	network->entry = entry_of(DOC_network, &document->header, &name);
	network->lies = (struct lies){ .type = 0 };
	network->dirty = false;
	return 0;
}

/* Is this network named in a list? An empty list names all that are mine. */
static bool named_in(const struct forged_network *network, const char *list)
{
	char name[NAME_BYTES_MAX + 1];

	if (!list || !list[0])
		return network->mine;
	while (list_next(&list, name, sizeof(name)))
		if (strcmp(name, network->name) == 0)
			return true;
	return false;
}

static void host_fill(struct forge *forge, struct host_document *document)
{
	document->network_count = 0;
	for (unsigned i = 0; i < forge->network_count; i++) {
		const struct forged_network *network = &forge->networks[i];
		struct host_network *member = &document->networks[document->network_count];

		if (!named_in(network, forge->host_networks))
			continue;
		member->network = network->document.header.id;
		member->address_count = network->own_count;
		memcpy(member->addresses, network->own, sizeof(member->addresses));
		document->network_count++;
	}
}

static int host_publish(struct forge *forge)
{
	CLEANUP(pack_writer_free) struct pack_writer payload = { .bytes = NULL };
	struct host_document *document = &forge->host_document;
	struct hash name;
	int r;

	host_fill(forge, document);
	document->header = header_next(forge, &forge->host, &forge->host_lies, &forge->host_generation);
	(void)snprintf(document->name, sizeof(document->name), "forged");
	r = host_document_encode(document, &payload);
	if (r == 0)
		r = publish_payload(forge, DOC_host, &forge->host_lies, &payload, &name);
	if (r < 0)
		return wrong(forge, "cannot publish the host document: %s", strerror(-r));
	forge->host_entry = entry_of(DOC_host, &document->header, &name);
	forge->host_lies = (struct lies){ .type = 0 };
	return 0;
}

/* publish [host=1]: sign what changed; host=0 leaves the host document as it is */
static int cmd_publish(struct forge *forge, struct words *words)
{
	uint64_t begun = now_us();
	int r = 0;

	if (!forge->known)
		return wrong(forge, "the host under test is not known yet");
	for (unsigned i = 0; r == 0 && i < forge->network_count; i++)
		if (forge->networks[i].dirty)
			r = network_publish(forge, &forge->networks[i]);
	if (r == 0 && number_of(words, "host", 1))
		r = host_publish(forge);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < forge->network_count; i++)
		put_number(&forge->answer, forge->networks[i].name, forge->networks[i].document.header.generation);
	put_number(&forge->answer, "us", now_us() - begun);
	return 0;
}

/* -- Tries that are not what they should be ---------------------------------------------------------------------------------- */

/* The same branch with its first two children in each other's place. */
static int swap_children(struct forge *forge, const struct hash *root, struct pack_writer *out)
{
	_cleanup_free_ struct trie_node *node = malloc(sizeof(*node));
	const struct hash *children[TRIE_FANOUT];
	unsigned found[2], count = 0;
	struct view bytes;
	int r = blobs_get(forge->blobs, root, &bytes);

	if (r == 0)
		r = node ? trie_node_decode(bytes.p, bytes.n, NULL, 0, node) : -ENOMEM;
	if (r < 0)
		return r;
	for (unsigned i = 0; i < TRIE_FANOUT; i++) {
		children[i] = !node->leaf && node->present[i] ? &node->children[i] : NULL;
		if (children[i] && count < 2)
			found[count++] = i;
	}
	if (count < 2)
		return -ERANGE;
	children[found[0]] = &node->children[found[1]];
	children[found[1]] = &node->children[found[0]];
	trie_branch_write(out, children);
	return out->error;
}

/* A chain of branches, deeper than any trie may be. */
static int deep_chain(struct forge *forge, struct pack_writer *out)
{
	struct hash name;
	int r = 0;

	derive(forge, "no such node", 0, name.b, sizeof(name.b));
	for (unsigned i = 0; r == 0 && i <= TRIE_DEPTH_MAX; i++) {
		const struct hash *children[TRIE_FANOUT] = { &name };

		out->n = 0;
		trie_branch_write(out, children);
		hash_of(out->bytes, out->n, &name);
		r = blobs_put(forge->blobs, &name, out->bytes, out->n);
	}
	return r;
}

/* tamper NETWORK kind=swap|garbage|deep: what its next publication names as the root of its trie */
static int cmd_tamper(struct forge *forge, struct words *words)
{
	CLEANUP(pack_writer_free) struct pack_writer node = { .bytes = NULL };
	struct forged_network *network = network_named(forge, word_at(words, 1));
	const char *kind = word_of(words, "kind");
	int r = 0;

	if (!network || !kind)
		return wrong(forge, "expected NETWORK kind=swap|garbage|deep");
	if (strcmp(kind, "swap") == 0)
		r = swap_children(forge, &network->document.root, &node);
	else if (strcmp(kind, "deep") == 0)
		r = deep_chain(forge, &node);
	else
		pack_put_raw(&node, kind, strlen(kind));
	if (r < 0)
		return wrong(forge, "tamper: %s", strerror(-r));
	hash_of(node.bytes, node.n, &network->lies.root);
	network->lies.set_root = network->dirty = true;
	return blobs_put(forge->blobs, &network->lies.root, node.bytes, node.n);
}

/* -- The same mesh for `wg setconf` ------------------------------------------------------------------------------------------ */

struct configuration {
	const struct forge *forge;
	const struct network_document *network;
	FILE *out;
};

static int configuration_peer(const struct peer *old _unused_, const struct peer *new, void *arg)
{
	const struct configuration *configuration = arg;
	char key[KEY_BASE64_TEXT], text[ENDPOINT_TEXT], prefix[PREFIX_TEXT];

	if (id_equal(&new->host, &configuration->forge->host))
		return 0;
	(void)fprintf(configuration->out, "\n[Peer]\nPublicKey = %s\nAllowedIPs = ", key_format(new->statement.wg_key, key));
	for (unsigned i = 0; i < new->address_count; i++)
		(void)fprintf(configuration->out, "%s%s", i ? ", " : "", prefix_format(&new->addresses[i], prefix));
	(void)fprintf(configuration->out, "\n");
	if (new->endpoint_count)
		(void)fprintf(configuration->out, "Endpoint = %s\n", endpoint_format(&new->endpoints[0], text));
	if (configuration->network->keepalive)
		(void)fprintf(configuration->out, "PersistentKeepalive = %u\n", configuration->network->keepalive);
	return 0;
}

static int configuration_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	return blobs_get(((struct configuration *)arg)->forge->blobs, name, bytes);
}

/* setconf NETWORK path=FILE [private=BASE64] [port=51820]: as last published, for wg(8); without the tested host itself */
static int cmd_setconf(struct forge *forge, struct words *words)
{
	static const struct trie_diff_events events = { .peer = configuration_peer };
	struct forged_network *network = network_named(forge, word_at(words, 1));
	const char *path = word_of(words, "path"), *private_key = word_of(words, "private");
	_cleanup_fclose_ FILE *out = path ? fopen(path, "we") : NULL;
	struct configuration configuration = { forge, network ? &network->document : NULL, out };
	int r;

	if (!network || !out)
		return wrong(forge, "expected NETWORK path=FILE");
	(void)fprintf(out, "[Interface]\nListenPort = %" PRIu64 "\n", number_of(words, "port", 51820));
	if (private_key)
		(void)fprintf(out, "PrivateKey = %s\n", private_key);
	r = trie_diff(NULL, &network->document.root, configuration_lookup, &events, &configuration);
	if (r == 0 && (fflush(out) != 0 || ferror(out)))
		r = -EIO;
	return r < 0 ? wrong(forge, "setconf: %s", strerror(-r)) : 0;
}
