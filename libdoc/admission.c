/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/admission.h"

#include <errno.h>
#include <string.h>

#include "libdoc/trie_node.h"

static const struct pack_limits limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 2, .elements = 16 + BRIDGES_MAX };
static const struct pack_limits leaf_limits = { .bytes = TRIE_NODE_BYTES_MAX, .depth = 1, .elements = 2 };

static int id_order(const void *a, const void *b)
{
	return memcmp(((const struct id *)a)->b, ((const struct id *)b)->b, ID_BYTES);
}

static bool ascending(const struct id *ids, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (id_order(&ids[i - 1], &ids[i]) >= 0)
			return false;
	return true;
}

static int host_order(const void *a, const void *b)
{
	return id_order(&((const struct admitted *)a)->host, &((const struct admitted *)b)->host);
}

static bool hosts_ascending(const struct admitted *hosts, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (host_order(&hosts[i - 1], &hosts[i]) >= 0)
			return false;
	return true;
}

const struct admitted *admitted_find(const struct admitted *hosts, size_t count, const struct id *host)
{
	const struct admitted key = { .host = *host };

	return count ? bsearch(&key, hosts, count, sizeof(*hosts), host_order) : NULL;
}

void admitted_write(const struct admitted *host, uint8_t *bytes)
{
	memcpy(bytes, host->host.b, ID_BYTES);
	for (unsigned i = 0; i < 8; i++)
		bytes[ID_BYTES + i] = (uint8_t)(host->since >> (56 - 8 * i));
}

void admitted_read(const uint8_t *bytes, struct admitted *host)
{
	memcpy(host->host.b, bytes, ID_BYTES);
	host->since = 0;
	for (unsigned i = 0; i < 8; i++)
		host->since = host->since << 8 | bytes[ID_BYTES + i];
}

bool id_listed(const struct id *ids, size_t count, const struct id *id)
{
	return count && bsearch(id, ids, count, sizeof(*ids), id_order);
}

/* -- The document ------------------------------------------------------------------------------------------------------------------ */

int admission_encode(const struct admission *admission, struct pack_writer *payload)
{
	if (admission->bridge_count > BRIDGES_MAX || !ascending(admission->bridges, admission->bridge_count))
		return -EINVAL;
	pack_put_array(payload, 5);
	document_header_write(payload, &admission->header);
	pack_put_u64(payload, admission->flags);
	pack_put_u64(payload, admission->count);
	pack_put_bytes(payload, admission->root.b, HASH_BYTES);
	pack_put_array(payload, admission->bridge_count);
	for (unsigned i = 0; i < admission->bridge_count; i++)
		pack_put_bytes(payload, admission->bridges[i].b, ID_BYTES);
	return payload->error;
}

int admission_decode(struct view payload, struct admission *admission)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct admission decoded = { .flags = 0 };
	struct pack_cursor whole, bridges;

	if (pack_open(&reader, payload.p, payload.n, &limits, &whole) < 0)
		return -EBADMSG;
	document_header_read(&whole, &decoded.header);
	decoded.flags = (uint32_t)pack_u64(&whole, ADMISSION_LOCKED);
	decoded.count = (uint32_t)pack_u64(&whole, PEERS_MAX);
	pack_fixed(&whole, decoded.root.b, HASH_BYTES);
	decoded.bridge_count = pack_array(&whole, 0, BRIDGES_MAX, &bridges);
	for (unsigned i = 0; i < decoded.bridge_count; i++)
		pack_fixed(&bridges, decoded.bridges[i].b, ID_BYTES);
	pack_close(&whole, &bridges);
	if (pack_done(&whole) < 0 || !ascending(decoded.bridges, decoded.bridge_count))
		return -EBADMSG;
	*admission = decoded;
	return 0;
}

int admission_open(const void *bytes, size_t n, const struct keyset *keyset, struct admission *admission)
{
	struct envelope envelope;
	int r = envelope_open(bytes, n, &envelope);

	if (r < 0)
		return r;
	if (envelope.type != DOC_admission)
		return -EBADMSG;
	r = keyset_verify(keyset, &envelope, KEY_OPERATOR);
	return r < 0 ? r : admission_decode(envelope.payload, admission);
}

int cosign_encode(const struct document_header *header, const struct hash *manifest, struct pack_writer *payload)
{
	pack_put_array(payload, 2);
	document_header_write(payload, header);
	pack_put_bytes(payload, manifest->b, HASH_BYTES);
	return payload->error;
}

int cosign_open(const void *bytes, size_t n, const struct keyset *keyset, const struct document_header *manifest, struct view payload)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct document_header header;
	struct hash signed_for, hash;
	struct envelope envelope;
	struct pack_cursor whole;
	int r = envelope_open(bytes, n, &envelope);

	if (r < 0)
		return r;
	if (envelope.type != DOC_cosign)
		return -EBADMSG;
	r = keyset_verify(keyset, &envelope, KEY_OPERATOR);
	if (r < 0)
		return r;
	if (pack_open(&reader, envelope.payload.p, envelope.payload.n, &limits, &whole) < 0)
		return -EBADMSG;
	document_header_read(&whole, &header);
	pack_fixed(&whole, signed_for.b, HASH_BYTES);
	hash_of(payload.p, payload.n, &hash);
	if (pack_done(&whole) < 0 || !hash_equal(&hash, &signed_for) || !id_equal(&header.id, &manifest->id) ||
	    !id_equal(&header.deployment, &manifest->deployment) || header.generation != manifest->generation)
		return -EBADMSG;
	return 0;
}

bool admission_bridges(const struct admission *admission, const struct id *network)
{
	return id_listed(admission->bridges, admission->bridge_count, network);
}

/* -- Its nodes: writing ------------------------------------------------------------------------------------------------------------- */

struct build {
	trie_emit_fn *emit;
	void *arg;
};

static int emit_node(const struct build *build, const struct pack_writer *node, struct hash *name)
{
	if (node->error < 0)
		return node->error;
	hash_of(node->bytes, node->n, name);
	return build->emit ? build->emit(name, node->bytes, node->n, build->arg) : 0;
}

/* The ids of a range are below the same path, depth long. */
static int build_node(const struct build *build, const struct admitted *hosts, size_t count, unsigned depth, struct hash *name)
{
	uint8_t buffer[ADMISSION_LEAF_MAX * ADMITTED_BYTES + 16], list[ADMISSION_LEAF_MAX * ADMITTED_BYTES];
	struct pack_writer node = pack_writer_over(buffer, sizeof(buffer));
	const struct hash *children[TRIE_FANOUT] = { NULL };
	struct hash names[TRIE_FANOUT];
	int r = 0;

	if (count <= ADMISSION_LEAF_MAX) {
		for (size_t i = 0; i < count; i++)
			admitted_write(&hosts[i], list + i * ADMITTED_BYTES);
		pack_put_array(&node, 2);
		pack_put_u64(&node, 0);
		pack_put_bytes(&node, list, count * ADMITTED_BYTES);
		return emit_node(build, &node, name);
	}
	for (size_t i = 0, end; r == 0 && i < count; i = end) {
		unsigned child = trie_digit(hosts[i].host.b, depth);

		for (end = i + 1; end < count && trie_digit(hosts[end].host.b, depth) == child; end++)
			;
		children[child] = &names[child];
		r = build_node(build, hosts + i, end - i, depth + 1, &names[child]);
	}
	if (r < 0)
		return r;
	trie_branch_write(&node, children);
	return emit_node(build, &node, name);
}

int admission_build(const struct admitted *hosts, size_t count, trie_emit_fn *emit, void *arg, struct hash *root)
{
	const struct build build = { emit, arg };

	if (count > PEERS_MAX)
		return -E2BIG;
	return hosts_ascending(hosts, count) ? build_node(&build, hosts, count, 0, root) : -EINVAL;
}

/* -- And reading -------------------------------------------------------------------------------------------------------------------- */

struct load {
	trie_lookup_fn *lookup;
	void *arg;
	struct admitted *hosts;
	size_t count, room;
	uint8_t path[TRIE_DEPTH_MAX + 1];
};

static int load_leaf(struct load *load, struct view bytes, unsigned depth)
{
	CLEANUP(pack_reader_free) struct pack_reader reader = { .ready = false };
	struct admitted *hosts = load->hosts + load->count;
	struct pack_cursor whole;
	struct view list;
	size_t count;
	int r = pack_open(&reader, bytes.p, bytes.n, &leaf_limits, &whole);

	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	(void)pack_u64(&whole, 0);
	list = pack_bytes(&whole, (size_t)ADMISSION_LEAF_MAX * ADMITTED_BYTES);
	count = list.n / ADMITTED_BYTES;
	if (pack_done(&whole) < 0 || list.n % ADMITTED_BYTES || (count == 0 && depth > 0) || count > load->room - load->count)
		return -EBADMSG;
	for (size_t i = 0; i < count; i++) {
		admitted_read(list.p + i * ADMITTED_BYTES, &hosts[i]);
		for (unsigned j = 0; j < depth; j++)
			if (trie_digit(hosts[i].host.b, j) != load->path[j])
				return -EBADMSG;
	}
	load->count += count;
	return hosts_ascending(hosts, count) ? 0 : -EBADMSG;
}

static int load_node(struct load *load, const struct hash *name, unsigned depth)
{
	size_t before = load->count;
	struct trie_node node;
	struct view bytes;
	int r = load->lookup(name, &bytes, load->arg);

	if (r < 0)
		return r;
	if (trie_node_is_leaf(bytes))
		return load_leaf(load, bytes, depth);
	r = trie_node_decode(bytes.p, bytes.n, load->path, depth, &node);
	for (unsigned i = 0; r == 0 && i < TRIE_FANOUT; i++) {
		if (!node.present[i])
			continue;
		load->path[depth] = (uint8_t)i;
		r = load_node(load, &node.children[i], depth + 1);
	}
	if (r < 0)
		return r == -EXDEV ? -EBADMSG : r;
	return load->count - before > ADMISSION_LEAF_MAX ? 0 : -EBADMSG; /* would have been a leaf */
}

int admission_load(const struct hash *root, uint32_t count, trie_lookup_fn *lookup, void *arg, struct admitted **hosts)
{
	struct load load = { .lookup = lookup, .arg = arg, .room = count };
	_cleanup_free_ struct admitted *room = malloc((count ? count : 1) * sizeof(*room));
	int r;

	load.hosts = room;
	r = room ? load_node(&load, root, 0) : -ENOMEM;
	if (r == 0 && load.count != count)
		r = -EBADMSG;
	if (r == 0)
		*hosts = TAKE_PTR(room);
	return r;
}

/* -- Who is not on it ---------------------------------------------------------------------------------------------------------------- */

struct census {
	const struct admitted *hosts;
	size_t count;
	trie_lookup_fn *lookup;
	void *arg;
	struct id *stranger;
};

static int census_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	const struct census *census = arg;

	return census->lookup(name, bytes, census->arg);
}

static int census_peer(_unused_ const struct peer *old, const struct peer *new, void *arg)
{
	const struct census *census = arg;

	if (!new || admitted_find(census->hosts, census->count, &new->host))
		return 0;
	*census->stranger = new->host;
	return -EACCES;
}

int admission_strangers(const struct admitted *hosts, size_t count, const struct hash *before, const struct hash *peers, trie_lookup_fn *lookup,
			void *arg, struct id *stranger)
{
	const struct trie_diff_events events = { .peer = census_peer };
	struct census census = { hosts, count, lookup, arg, stranger };

	return trie_diff(before, peers, census_lookup, &events, &census);
}

int admission_check(const struct admission *admission, const struct hash *before, const struct hash *peers, trie_lookup_fn *lookup, void *arg,
		    struct id *stranger)
{
	_cleanup_free_ struct admitted *hosts = NULL;
	int r;

	if (before && hash_equal(before, peers))
		return 0;
	r = admission_load(&admission->root, admission->count, lookup, arg, &hosts);
	return r < 0 ? r : admission_strangers(hosts, admission->count, before, peers, lookup, arg, stranger);
}

int admission_follows(const struct admission *before, const struct admission *after, trie_lookup_fn *lookup, void *arg, struct id *stranger)
{
	_cleanup_free_ struct admitted *were = NULL, *are = NULL;
	int r;

	if (hash_equal(&before->root, &after->root))
		return 0;
	r = admission_load(&before->root, before->count, lookup, arg, &were);
	if (r == 0)
		r = admission_load(&after->root, after->count, lookup, arg, &are);
	for (uint32_t i = 0; r == 0 && i < after->count; i++) {
		const struct admitted *was = admitted_find(were, before->count, &are[i].host);

		if (was ? are[i].since >= was->since : are[i].since > before->header.generation)
			continue;
		*stranger = are[i].host;
		r = -EACCES;
	}
	return r;
}
