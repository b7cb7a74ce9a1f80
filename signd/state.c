/* SPDX-License-Identifier: Apache-2.0 */
#include "signd/state.h"

#include <errno.h>
#include <string.h>

#include "libipc/log.h"

#define ADDRESS_KEY_BYTES 17 /* family, then the address */

static const char migration_1[] =
	"CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE documents (type INTEGER NOT NULL, id BLOB NOT NULL, organization BLOB NOT NULL, epoch INTEGER NOT NULL,"
	" generation INTEGER NOT NULL, hash BLOB NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY (type, id));"
	"CREATE TABLE nodes (network BLOB NOT NULL, name BLOB NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (network, name));"
	"CREATE TABLE members (network BLOB NOT NULL, host BLOB NOT NULL, wg_key BLOB NOT NULL,"
	" PRIMARY KEY (network, host), UNIQUE (network, wg_key)) WITHOUT ROWID;"
	"CREATE TABLE addresses (network BLOB NOT NULL, address BLOB NOT NULL, host BLOB NOT NULL,"
	" PRIMARY KEY (network, address)) WITHOUT ROWID;"
	"CREATE INDEX addresses_of_host ON addresses (network, host);"
	"CREATE TABLE counters (host BLOB PRIMARY KEY, counter INTEGER NOT NULL, wg_key BLOB NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE host_networks (host BLOB NOT NULL, network BLOB NOT NULL, PRIMARY KEY (host, network)) WITHOUT ROWID;";

/* What each manifest names; a bridge is two rows. */
static const char migration_2[] =
	"CREATE TABLE bridges (network BLOB NOT NULL, other BLOB NOT NULL, PRIMARY KEY (network, other)) WITHOUT ROWID;";

/* The nodes of each network's admission list. */
static const char migration_3[] =
	"CREATE TABLE list_nodes (network BLOB NOT NULL, name BLOB NOT NULL, bytes BLOB NOT NULL, old INTEGER NOT NULL,"
	" PRIMARY KEY (network, name)) WITHOUT ROWID;";

static const char *const migrations[] = { migration_1, migration_2, migration_3 };

const struct store_kind signd_store = {
	.process = "signd",
	.file = "state.db",
	.migrations = migrations,
	.version = (int)ARRAY_SIZE(migrations),
};

struct state {
	struct store *store;
	struct rows node; /* whose bytes state_node() lent */
};

void state_free(struct state *state)
{
	if (!state)
		return;
	rows_end(&state->node);
	store_free(state->store);
	free(state);
}

int state_open(const char *dir, struct state **state)
{
	_cleanup_(state_free) struct state *opened = calloc(1, sizeof(*opened));
	int r;

	if (!opened)
		return -ENOMEM;
	r = store_open(&signd_store, dir, true, &opened->store);
	if (r < 0)
		return r;
	*state = TAKE_PTR(opened);
	return 0;
}

/* Changes nothing counts on how many rows it met. */
static int done(int r)
{
	return r < 0 ? r : 0;
}

/* 1 a row is there, 0 none */
static int exists(int r)
{
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

int state_begin(struct state *state)
{
	rows_end(&state->node);
	return store_begin(state->store, true);
}

int state_commit(struct state *state)
{
	rows_end(&state->node); /* a query in the middle of its rows would hold the write-ahead log */
	return store_commit(state->store);
}

void state_rollback(struct state *state)
{
	rows_end(&state->node);
	store_rollback(state->store);
}

/* -- Documents --------------------------------------------------------------------------------------------------------------------- */

void signed_document_clear(struct signed_document *document)
{
	free(TAKE_PTR(document->envelope));
	document->envelope_n = 0;
}

static int copy_bytes(struct view from, uint8_t **bytes, size_t *n)
{
	uint8_t *copy = malloc(from.n + 1);

	if (!copy)
		return -ENOMEM;
	if (from.n)
		memcpy(copy, from.p, from.n);
	*bytes = copy;
	*n = from.n;
	return 0;
}

int state_document(struct state *state, enum document_type type, const struct id *id, bool whole, struct signed_document *document)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct signed_document found = { .type = type, .id = *id };
	int r = store_first(state->store, &rows,
			    "SELECT organization, epoch, generation, hash, envelope FROM documents WHERE type = $1 AND id = $2", "ix",
			    (int64_t)type, id);

	if (r < 0)
		return r;
	row_fixed(&rows, 0, found.organization.b, ID_BYTES);
	found.epoch = (uint32_t)row_i64(&rows, 1);
	found.generation = row_u64(&rows, 2);
	row_fixed(&rows, 3, found.hash.b, HASH_BYTES);
	if (whole)
		r = copy_bytes(row_bytes(&rows, 4), &found.envelope, &found.envelope_n);
	if (r == 0)
		*document = found;
	return r;
}

int state_document_put(struct state *state, const struct signed_document *document)
{
	return done(store_exec(state->store,
			       "INSERT OR REPLACE INTO documents (type, id, organization, epoch, generation, hash, envelope)"
			       " VALUES ($1, $2, $3, $4, $5, $6, $7)",
			       "ixxiihb", (int64_t)document->type, &document->id, &document->organization, (int64_t)document->epoch,
			       (int64_t)document->generation, &document->hash, document->envelope, document->envelope_n));
}

/* -- Networks ---------------------------------------------------------------------------------------------------------------------- */

int state_node(struct state *state, const struct id *network, const struct hash *name, struct view *bytes)
{
	int r = store_first(state->store, &state->node, "SELECT bytes FROM nodes WHERE network = $1 AND name = $2", "xh", network, name);

	if (r == 0)
		*bytes = row_bytes(&state->node, 0);
	return r;
}

int state_node_put(struct state *state, const struct id *network, const struct hash *name, struct view bytes)
{
	return done(store_exec(state->store, "INSERT OR REPLACE INTO nodes (network, name, bytes) VALUES ($1, $2, $3)", "xhb", network, name,
			       bytes.p, bytes.n));
}

int state_node_drop(struct state *state, const struct id *network, const struct hash *name)
{
	return done(store_exec(state->store, "DELETE FROM nodes WHERE network = $1 AND name = $2", "xh", network, name));
}

int state_list_node(struct state *state, const struct id *network, const struct hash *name, struct view *bytes)
{
	int r = store_first(state->store, &state->node, "SELECT bytes FROM list_nodes WHERE network = $1 AND name = $2", "xh", network, name);

	if (r == 0)
		*bytes = row_bytes(&state->node, 0);
	return r;
}

int state_list_begin(struct state *state, const struct id *network)
{
	return done(store_exec(state->store, "UPDATE list_nodes SET old = 1 WHERE network = $1", "x", network));
}

int state_list_node_put(struct state *state, const struct id *network, const struct hash *name, struct view bytes)
{
	return done(store_exec(state->store,
			       "INSERT INTO list_nodes (network, name, bytes, old) VALUES ($1, $2, $3, 0)"
			       " ON CONFLICT (network, name) DO UPDATE SET old = 0",
			       "xhb", network, name, bytes.p, bytes.n));
}

int state_list_end(struct state *state, const struct id *network)
{
	return done(store_exec(state->store, "DELETE FROM list_nodes WHERE network = $1 AND old = 1", "x", network));
}

int state_network_clear(struct state *state, const struct id *network)
{
	int r = store_exec(state->store, "DELETE FROM nodes WHERE network = $1", "x", network);

	if (r >= 0)
		r = store_exec(state->store, "DELETE FROM members WHERE network = $1", "x", network);
	if (r >= 0)
		r = store_exec(state->store, "DELETE FROM addresses WHERE network = $1", "x", network);
	return done(r);
}

static void address_key(const struct prefix *address, uint8_t key[static ADDRESS_KEY_BYTES])
{
	key[0] = address->family;
	memcpy(key + 1, address->b, 16);
}

int state_member_put(struct state *state, const struct id *network, const struct peer *peer, const struct prefix **taken)
{
	uint8_t key[ADDRESS_KEY_BYTES];
	int r = store_exec(state->store, "INSERT INTO members (network, host, wg_key) VALUES ($1, $2, $3)", "xxb", network, &peer->host,
			   peer->statement.wg_key, (size_t)KEY_BYTES);

	if (r < 0)
		return r == -EEXIST ? -ENOTUNIQ : r;
	for (unsigned i = 0; i < peer->address_count; i++) {
		address_key(&peer->addresses[i], key);
		r = store_exec(state->store, "INSERT INTO addresses (network, address, host) VALUES ($1, $2, $3)", "xbx", network, key,
			       sizeof(key), &peer->host);
		if (r == -EEXIST) {
			*taken = &peer->addresses[i];
			return -EADDRINUSE;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int state_member_drop(struct state *state, const struct id *network, const struct id *host)
{
	int r = store_exec(state->store, "DELETE FROM members WHERE network = $1 AND host = $2", "xx", network, host);

	if (r >= 0)
		r = store_exec(state->store, "DELETE FROM addresses WHERE network = $1 AND host = $2", "xx", network, host);
	return done(r);
}

int state_member(struct state *state, const struct id *network, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };

	return exists(store_first(state->store, &rows, "SELECT 1 FROM members WHERE network = $1 AND host = $2", "xx", network, host));
}

int state_member_holds(struct state *state, const struct id *network, const struct id *host, const struct prefix *address)
{
	_cleanup_rows_ struct rows rows = { 0 };
	uint8_t key[ADDRESS_KEY_BYTES];

	address_key(address, key);
	return exists(store_first(state->store, &rows, "SELECT 1 FROM addresses WHERE network = $1 AND address = $2 AND host = $3", "xbx",
				  network, key, sizeof(key), host));
}

int state_member_address_count(struct state *state, const struct id *network, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(state->store, &rows, "SELECT count(*) FROM addresses WHERE network = $1 AND host = $2", "xx", network, host);

	return r < 0 ? r : (int)row_i64(&rows, 0);
}

/* -- Hosts ------------------------------------------------------------------------------------------------------------------------- */

int state_counter(struct state *state, const struct id *host, uint64_t *counter, uint8_t wg_key[static KEY_BYTES])
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(state->store, &rows, "SELECT counter, wg_key FROM counters WHERE host = $1", "x", host);

	if (r < 0)
		return r;
	*counter = row_u64(&rows, 0);
	row_fixed(&rows, 1, wg_key, KEY_BYTES);
	return 0;
}

int state_counter_put(struct state *state, const struct id *host, uint64_t counter, const uint8_t wg_key[static KEY_BYTES])
{
	return done(store_exec(state->store, "INSERT OR REPLACE INTO counters (host, counter, wg_key) VALUES ($1, $2, $3)", "xib", host,
			       (int64_t)counter, wg_key, (size_t)KEY_BYTES));
}

int state_host_networks(struct state *state, const struct id *host, struct id *networks)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int count = 0;
	int r = store_query(state->store, &rows,
			    "SELECT network FROM host_networks WHERE host = $1 UNION"
			    " SELECT there.network FROM host_networks h JOIN bridges here ON here.network = h.network"
			    " JOIN bridges there ON there.network = here.other AND there.other = here.network WHERE h.host = $1",
			    "x", host);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (count == NETWORKS_MAX)
			return -E2BIG;
		row_fixed(&rows, 0, networks[count++].b, ID_BYTES);
		r = 0;
	}
	return r < 0 ? r : count;
}

int state_host_networks_put(struct state *state, const struct id *host, const struct id *networks, unsigned count)
{
	int r = store_exec(state->store, "DELETE FROM host_networks WHERE host = $1", "x", host);

	for (unsigned i = 0; i < count && r >= 0; i++)
		r = store_exec(state->store, "INSERT INTO host_networks (host, network) VALUES ($1, $2)", "xx", host, &networks[i]);
	return done(r);
}

int state_bridges_put(struct state *state, const struct id *network, const struct id *others, unsigned count)
{
	int r = store_exec(state->store, "DELETE FROM bridges WHERE network = $1", "x", network);

	for (unsigned i = 0; i < count && r >= 0; i++)
		r = store_exec(state->store, "INSERT INTO bridges (network, other) VALUES ($1, $2)", "xx", network, &others[i]);
	return done(r);
}

/* -- Single values ----------------------------------------------------------------------------------------------------------------- */

int state_meta(struct state *state, const char *name, uint8_t **value, size_t *n)
{
	return store_meta(state->store, name, value, n);
}

int state_meta_put(struct state *state, const char *name, const void *value, size_t n)
{
	return store_meta_put(state->store, name, value, n);
}
