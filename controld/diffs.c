/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/diffs.h"

#include <errno.h>
#include <string.h>

#include "libdoc/trie.h"

#define DIFFS 64
#define DIFFS_BYTES_MAX (32u * 1024 * 1024) /* of all together */

struct diff {
	struct id network;
	struct hash old, new;
	struct shared *nodes; /* packed already */
	uint64_t used; /* when, in uses of the cache */
};

struct diff_cache {
	struct diff diffs[DIFFS];
	uint64_t uses;
	size_t bytes;
};

int diffs_new(struct diff_cache **cache)
{
	*cache = calloc(1, sizeof(**cache));
	return *cache ? 0 : -ENOMEM;
}

static void diff_clear(struct diff_cache *cache, struct diff *diff)
{
	cache->bytes -= diff->nodes ? diff->nodes->n : 0;
	shared_drop(diff->nodes);
	*diff = (struct diff){ 0 };
}

void diffs_free(struct diff_cache *cache)
{
	for (unsigned i = 0; cache && i < DIFFS; i++)
		diff_clear(cache, &cache->diffs[i]);
	free(cache);
}

/* -- Computing one ------------------------------------------------------------------------------------------------------------------ */

struct walk {
	struct controld *controld;
	const struct id *network;
	struct rows rows;
	struct pack_writer nodes;
	uint32_t count;
};

static int walk_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	struct walk *walk = arg;
	int r = store_first(walk->controld->store, &walk->rows, "SELECT bytes FROM nodes WHERE network = $1 AND name = $2", "dh",
			    walk->network, name);

	if (r == -ENOENT)
		r = store_first(walk->controld->store, &walk->rows, "SELECT bytes FROM list_nodes WHERE network = $1 AND name = $2", "dh",
				walk->network, name);
	if (r == 0)
		*bytes = row_bytes(&walk->rows, 0);
	return r;
}

static int walk_fresh(_unused_ const struct hash *name, struct view bytes, void *arg)
{
	struct walk *walk = arg;

	if (walk->nodes.n + bytes.n > ANSWER_BYTES_MAX)
		return 0;
	pack_put_bytes(&walk->nodes, bytes.p, bytes.n);
	walk->count++;
	return walk->nodes.error;
}

static int walk_run(struct walk *walk, const struct hash *old, const struct hash *new)
{
	const struct trie_diff_events events = { .fresh = walk_fresh };
	static const struct hash none;
	int r = -ENOENT;

	if (!hash_equal(old, &none))
		r = trie_diff(old, new, walk_lookup, &events, walk);
	if (r == -ENOENT) { /* the old one is not kept any more, or was never ours */
		walk->nodes.n = 0;
		walk->count = 0;
		r = trie_diff(NULL, new, walk_lookup, &events, walk);
	}
	rows_end(&walk->rows);
	return r;
}

/* -- Keeping them ------------------------------------------------------------------------------------------------------------------- */

static struct diff *diff_find(struct diff_cache *cache, const struct id *network, const struct hash *old, const struct hash *new)
{
	for (unsigned i = 0; i < DIFFS; i++) {
		struct diff *diff = &cache->diffs[i];

		if (diff->used && hash_equal(&diff->new, new) && hash_equal(&diff->old, old) && id_equal(&diff->network, network))
			return diff;
	}
	return NULL;
}

static struct diff *diff_oldest(struct diff_cache *cache, bool filled)
{
	struct diff *oldest = NULL;

	for (unsigned i = 0; i < DIFFS; i++) {
		struct diff *diff = &cache->diffs[i];

		if ((diff->used || !filled) && (!oldest || diff->used < oldest->used))
			oldest = diff;
	}
	return oldest;
}

/* The place for a new one: a free one, or that of the one not asked for the longest; makes room in bytes as well. */
static struct diff *diff_place(struct diff_cache *cache, size_t bytes)
{
	struct diff *place;

	while (cache->bytes > 0 && cache->bytes + bytes > DIFFS_BYTES_MAX)
		diff_clear(cache, diff_oldest(cache, true));
	place = diff_oldest(cache, false);
	diff_clear(cache, place);
	return place;
}

int diffs_get(struct controld *controld, const struct id *network, const struct hash *old, const struct hash *new, struct shared **nodes)
{
	struct diff_cache *cache = controld->diffs;
	struct diff *diff = diff_find(cache, network, old, new);
	struct walk walk = { .controld = controld, .network = network };
	struct shared *made;
	int r;

	if (!diff) {
		r = walk_run(&walk, old, new);
		if (r < 0) {
			pack_writer_free(&walk.nodes);
			return r;
		}
		made = shared_of(&walk.nodes, walk.count);
		if (!made)
			return -ENOMEM;
		diff = diff_place(cache, made->n);
		*diff = (struct diff){ .network = *network, .old = *old, .new = *new, .nodes = made };
		cache->bytes += made->n;
	}
	diff->used = ++cache->uses;
	*nodes = shared_hold(diff->nodes);
	return 0;
}
