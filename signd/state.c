/* SPDX-License-Identifier: Apache-2.0 */
#include "signd/state.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#include "libipc/log.h"

#define SCHEMA_VERSION 1
#define ADDRESS_KEY_BYTES 17 /* family, then the address */

static const char schema[] =
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
	"CREATE TABLE host_networks (host BLOB NOT NULL, network BLOB NOT NULL, PRIMARY KEY (host, network)) WITHOUT ROWID;"
	"PRAGMA user_version = 1;";

#define STATEMENTS(S)                                                                                                        \
	S(BEGIN, "BEGIN IMMEDIATE")                                                                                          \
	S(COMMIT, "COMMIT")                                                                                                  \
	S(ROLLBACK, "ROLLBACK")                                                                                              \
	S(DOCUMENT, "SELECT organization, epoch, generation, hash FROM documents WHERE type = ?1 AND id = ?2")               \
	S(DOCUMENT_WHOLE, "SELECT organization, epoch, generation, hash, envelope FROM documents WHERE type = ?1 AND id = ?2") \
	S(DOCUMENT_PUT, "INSERT OR REPLACE INTO documents (type, id, organization, epoch, generation, hash, envelope)"       \
			" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")                                                              \
	S(NODE, "SELECT bytes FROM nodes WHERE network = ?1 AND name = ?2")                                                  \
	S(NODE_PUT, "INSERT OR REPLACE INTO nodes (network, name, bytes) VALUES (?1, ?2, ?3)")                               \
	S(NODE_DROP, "DELETE FROM nodes WHERE network = ?1 AND name = ?2")                                                   \
	S(NODES_CLEAR, "DELETE FROM nodes WHERE network = ?1")                                                               \
	S(MEMBERS_CLEAR, "DELETE FROM members WHERE network = ?1")                                                           \
	S(ADDRESSES_CLEAR, "DELETE FROM addresses WHERE network = ?1")                                                       \
	S(MEMBER_PUT, "INSERT INTO members (network, host, wg_key) VALUES (?1, ?2, ?3)")                                     \
	S(ADDRESS_PUT, "INSERT INTO addresses (network, address, host) VALUES (?1, ?2, ?3)")                                 \
	S(MEMBER_DROP, "DELETE FROM members WHERE network = ?1 AND host = ?2")                                               \
	S(MEMBER_ADDRESSES_DROP, "DELETE FROM addresses WHERE network = ?1 AND host = ?2")                                   \
	S(MEMBER, "SELECT 1 FROM members WHERE network = ?1 AND host = ?2")                                                  \
	S(MEMBER_HOLDS, "SELECT 1 FROM addresses WHERE network = ?1 AND address = ?2 AND host = ?3")                         \
	S(MEMBER_ADDRESS_COUNT, "SELECT count(*) FROM addresses WHERE network = ?1 AND host = ?2")                           \
	S(COUNTER, "SELECT counter, wg_key FROM counters WHERE host = ?1")                                                   \
	S(COUNTER_PUT, "INSERT OR REPLACE INTO counters (host, counter, wg_key) VALUES (?1, ?2, ?3)")                        \
	S(HOST_NETWORKS, "SELECT network FROM host_networks WHERE host = ?1")                                                \
	S(HOST_NETWORKS_CLEAR, "DELETE FROM host_networks WHERE host = ?1")                                                  \
	S(HOST_NETWORK_PUT, "INSERT INTO host_networks (host, network) VALUES (?1, ?2)")                                     \
	S(META, "SELECT value FROM meta WHERE name = ?1")                                                                    \
	S(META_PUT, "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")

enum prepared {
#define S(name, sql) STATEMENT_##name,
	STATEMENTS(S)
#undef S
	STATEMENT_COUNT
};

static const char *const statement_sql[STATEMENT_COUNT] = {
#define S(name, sql) [STATEMENT_##name] = (sql),
	STATEMENTS(S)
#undef S
};

struct state {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENT_COUNT];
};

/* SQLite's result as an errno, with its own words in the log: only the disk can be the cause here. */
static int database_error(struct state *state, const char *doing)
{
	int code = sqlite3_extended_errcode(state->db);

	log_error("state.db: %s: %s (%d); nothing was signed", doing, sqlite3_errmsg(state->db), code);
	return (code & 0xff) == SQLITE_FULL ? -ENOSPC : (code & 0xff) == SQLITE_NOMEM ? -ENOMEM : -EIO;
}

void state_free(struct state *state)
{
	if (!state)
		return;
	for (unsigned i = 0; i < STATEMENT_COUNT; i++)
		(void)sqlite3_finalize(state->statements[i]);
	(void)sqlite3_close(state->db);
	free(state);
}

static int schema_check(struct state *state)
{
	sqlite3_stmt *statement = NULL;
	int version = -1;

	if (sqlite3_prepare_v2(state->db, "PRAGMA user_version", -1, &statement, NULL) == SQLITE_OK &&
	    sqlite3_step(statement) == SQLITE_ROW)
		version = sqlite3_column_int(statement, 0);
	(void)sqlite3_finalize(statement);
	if (version == SCHEMA_VERSION)
		return 0;
	if (version != 0) {
		log_error("state.db has schema %d, this signd knows %d; not touched", version, SCHEMA_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (sqlite3_exec(state->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(state->db, schema, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(state->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		return database_error(state, "creating the tables");
	return 0;
}

int state_open(const char *dir, struct state **state)
{
	_cleanup_(state_free) struct state *opened = calloc(1, sizeof(*opened));
	_cleanup_free_ char *path = NULL;
	int r;

	if (!opened || asprintf(&path, "%s/state.db", dir) < 0)
		return -ENOMEM;
	r = sqlite3_open_v2(path, &opened->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL);
	if (r != SQLITE_OK) {
		log_error("%s: cannot be opened: %s", path, opened->db ? sqlite3_errmsg(opened->db) : sqlite3_errstr(r));
		return -EIO;
	}
	/* Temporary files stay in memory: the sandbox has no place for them. */
	if (sqlite3_exec(opened->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;", NULL, NULL,
			 NULL) != SQLITE_OK)
		return database_error(opened, "opening");
	r = schema_check(opened);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < STATEMENT_COUNT; i++)
		if (sqlite3_prepare_v3(opened->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &opened->statements[i], NULL) !=
		    SQLITE_OK)
			return database_error(opened, statement_sql[i]);
	*state = TAKE_PTR(opened);
	return 0;
}

/* -- Running a statement: begin(), bind, then one of step_row() and step_done(). -- */

static sqlite3_stmt *begin(struct state *state, enum prepared which)
{
	sqlite3_stmt *statement = state->statements[which];

	(void)sqlite3_reset(statement);
	return statement;
}

/* Binding can fail for want of memory alone, and then stepping reports a missing row or a constraint: no signature either way. */
static void bind_bytes(sqlite3_stmt *statement, int at, const void *bytes, size_t n)
{
	(void)sqlite3_bind_blob64(statement, at, n ? bytes : "", n, SQLITE_STATIC);
}

static void bind_id(sqlite3_stmt *statement, int at, const struct id *id)
{
	bind_bytes(statement, at, id->b, sizeof(id->b));
}

static int step_done(struct state *state, sqlite3_stmt *statement)
{
	int r = sqlite3_step(statement);

	(void)sqlite3_reset(statement);
	if (r == SQLITE_DONE)
		return 0;
	if ((r & 0xff) == SQLITE_CONSTRAINT)
		return -EEXIST;
	return database_error(state, sqlite3_sql(statement));
}

static int step_row(struct state *state, sqlite3_stmt *statement)
{
	int r = sqlite3_step(statement);

	if (r == SQLITE_ROW)
		return 0;
	if (r == SQLITE_DONE)
		return -ENOENT;
	return database_error(state, sqlite3_sql(statement));
}

/* 1 a row is there, 0 none */
static int step_exists(struct state *state, sqlite3_stmt *statement)
{
	int r = step_row(state, statement);

	(void)sqlite3_reset(statement);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

static int column_fixed(sqlite3_stmt *statement, int at, void *out, size_t n)
{
	if ((size_t)sqlite3_column_bytes(statement, at) != n)
		return -EIO;
	memcpy(out, sqlite3_column_blob(statement, at), n);
	return 0;
}

static int column_copy(sqlite3_stmt *statement, int at, uint8_t **bytes, size_t *n)
{
	const void *from = sqlite3_column_blob(statement, at);
	size_t length = (size_t)sqlite3_column_bytes(statement, at);
	uint8_t *copy = malloc(length + 1);

	if (!copy)
		return -ENOMEM;
	if (length)
		memcpy(copy, from, length);
	*bytes = copy;
	*n = length;
	return 0;
}

int state_begin(struct state *state)
{
	return step_done(state, begin(state, STATEMENT_BEGIN));
}

int state_commit(struct state *state)
{
	/* A statement that was left in the middle of its rows would hold the WAL's read mark. */
	for (unsigned i = 0; i < STATEMENT_COUNT; i++)
		(void)sqlite3_reset(state->statements[i]);
	return step_done(state, begin(state, STATEMENT_COMMIT));
}

void state_rollback(struct state *state)
{
	for (unsigned i = 0; i < STATEMENT_COUNT; i++)
		(void)sqlite3_reset(state->statements[i]);
	if (!sqlite3_get_autocommit(state->db) && step_done(state, begin(state, STATEMENT_ROLLBACK)) < 0)
		log_error("state.db: rolling back failed; the next commit will tell");
}

void signed_document_clear(struct signed_document *document)
{
	free(TAKE_PTR(document->envelope));
	document->envelope_n = 0;
}

int state_document(struct state *state, enum document_type type, const struct id *id, bool whole, struct signed_document *document)
{
	sqlite3_stmt *statement = begin(state, whole ? STATEMENT_DOCUMENT_WHOLE : STATEMENT_DOCUMENT);
	struct signed_document found = { .type = type, .id = *id };
	int r;

	(void)sqlite3_bind_int(statement, 1, (int)type);
	bind_id(statement, 2, id);
	r = step_row(state, statement);
	if (r == 0)
		r = column_fixed(statement, 0, found.organization.b, ID_BYTES);
	if (r == 0)
		r = column_fixed(statement, 3, found.hash.b, HASH_BYTES);
	if (r == 0 && whole)
		r = column_copy(statement, 4, &found.envelope, &found.envelope_n);
	if (r == 0) {
		found.epoch = (uint32_t)sqlite3_column_int64(statement, 1);
		found.generation = (uint64_t)sqlite3_column_int64(statement, 2);
		*document = found;
	}
	(void)sqlite3_reset(statement);
	return r;
}

int state_document_put(struct state *state, const struct signed_document *document)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_DOCUMENT_PUT);

	(void)sqlite3_bind_int(statement, 1, (int)document->type);
	bind_id(statement, 2, &document->id);
	bind_id(statement, 3, &document->organization);
	(void)sqlite3_bind_int64(statement, 4, (sqlite3_int64)document->epoch);
	(void)sqlite3_bind_int64(statement, 5, (sqlite3_int64)document->generation);
	bind_bytes(statement, 6, document->hash.b, HASH_BYTES);
	bind_bytes(statement, 7, document->envelope, document->envelope_n);
	return step_done(state, statement);
}

int state_node(struct state *state, const struct id *network, const struct hash *name, struct view *bytes)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_NODE);
	int r;

	bind_id(statement, 1, network);
	bind_bytes(statement, 2, name->b, HASH_BYTES);
	r = step_row(state, statement);
	if (r < 0)
		return r;
	bytes->p = sqlite3_column_blob(statement, 0);
	bytes->n = (size_t)sqlite3_column_bytes(statement, 0);
	return 0;
}

int state_node_put(struct state *state, const struct id *network, const struct hash *name, struct view bytes)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_NODE_PUT);

	bind_id(statement, 1, network);
	bind_bytes(statement, 2, name->b, HASH_BYTES);
	bind_bytes(statement, 3, bytes.p, bytes.n);
	return step_done(state, statement);
}

int state_node_drop(struct state *state, const struct id *network, const struct hash *name)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_NODE_DROP);

	bind_id(statement, 1, network);
	bind_bytes(statement, 2, name->b, HASH_BYTES);
	return step_done(state, statement);
}

int state_network_clear(struct state *state, const struct id *network)
{
	static const enum prepared all[] = { STATEMENT_NODES_CLEAR, STATEMENT_MEMBERS_CLEAR, STATEMENT_ADDRESSES_CLEAR };
	int r = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(all) && r == 0; i++) {
		sqlite3_stmt *statement = begin(state, all[i]);

		bind_id(statement, 1, network);
		r = step_done(state, statement);
	}
	return r;
}

static void address_key(const struct prefix *address, uint8_t key[static ADDRESS_KEY_BYTES])
{
	key[0] = address->family;
	memcpy(key + 1, address->b, 16);
}

int state_member_put(struct state *state, const struct id *network, const struct peer *peer, const struct prefix **taken)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_MEMBER_PUT);
	uint8_t key[ADDRESS_KEY_BYTES];
	int r;

	bind_id(statement, 1, network);
	bind_id(statement, 2, &peer->host);
	bind_bytes(statement, 3, peer->statement.wg_key, KEY_BYTES);
	r = step_done(state, statement);
	if (r < 0)
		return r == -EEXIST ? -ENOTUNIQ : r;

	for (unsigned i = 0; i < peer->address_count; i++) {
		statement = begin(state, STATEMENT_ADDRESS_PUT);
		address_key(&peer->addresses[i], key);
		bind_id(statement, 1, network);
		bind_bytes(statement, 2, key, sizeof(key));
		bind_id(statement, 3, &peer->host);
		r = step_done(state, statement);
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
	static const enum prepared both[] = { STATEMENT_MEMBER_DROP, STATEMENT_MEMBER_ADDRESSES_DROP };
	int r = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(both) && r == 0; i++) {
		sqlite3_stmt *statement = begin(state, both[i]);

		bind_id(statement, 1, network);
		bind_id(statement, 2, host);
		r = step_done(state, statement);
	}
	return r;
}

int state_member(struct state *state, const struct id *network, const struct id *host)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_MEMBER);

	bind_id(statement, 1, network);
	bind_id(statement, 2, host);
	return step_exists(state, statement);
}

int state_member_holds(struct state *state, const struct id *network, const struct id *host, const struct prefix *address)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_MEMBER_HOLDS);
	uint8_t key[ADDRESS_KEY_BYTES];

	address_key(address, key);
	bind_id(statement, 1, network);
	bind_bytes(statement, 2, key, sizeof(key));
	bind_id(statement, 3, host);
	return step_exists(state, statement);
}

int state_member_address_count(struct state *state, const struct id *network, const struct id *host)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_MEMBER_ADDRESS_COUNT);
	int r;

	bind_id(statement, 1, network);
	bind_id(statement, 2, host);
	r = step_row(state, statement);
	if (r == 0)
		r = sqlite3_column_int(statement, 0);
	(void)sqlite3_reset(statement);
	return r;
}

int state_counter(struct state *state, const struct id *host, uint64_t *counter, uint8_t wg_key[static KEY_BYTES])
{
	sqlite3_stmt *statement = begin(state, STATEMENT_COUNTER);
	int r;

	bind_id(statement, 1, host);
	r = step_row(state, statement);
	if (r == 0)
		r = column_fixed(statement, 1, wg_key, KEY_BYTES);
	if (r == 0)
		*counter = (uint64_t)sqlite3_column_int64(statement, 0);
	(void)sqlite3_reset(statement);
	return r;
}

int state_counter_put(struct state *state, const struct id *host, uint64_t counter, const uint8_t wg_key[static KEY_BYTES])
{
	sqlite3_stmt *statement = begin(state, STATEMENT_COUNTER_PUT);

	bind_id(statement, 1, host);
	(void)sqlite3_bind_int64(statement, 2, (sqlite3_int64)counter);
	bind_bytes(statement, 3, wg_key, KEY_BYTES);
	return step_done(state, statement);
}

int state_host_networks(struct state *state, const struct id *host, struct id *networks)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_HOST_NETWORKS);
	int count = 0;
	int r;

	bind_id(statement, 1, host);
	while ((r = step_row(state, statement)) == 0 && count < NETWORKS_MAX) {
		r = column_fixed(statement, 0, networks[count++].b, ID_BYTES);
		if (r < 0)
			break;
	}
	(void)sqlite3_reset(statement);
	return r == -ENOENT ? count : r < 0 ? r : -EIO;
}

int state_host_networks_put(struct state *state, const struct id *host, const struct id *networks, unsigned count)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_HOST_NETWORKS_CLEAR);
	int r;

	bind_id(statement, 1, host);
	r = step_done(state, statement);
	for (unsigned i = 0; i < count && r == 0; i++) {
		statement = begin(state, STATEMENT_HOST_NETWORK_PUT);
		bind_id(statement, 1, host);
		bind_id(statement, 2, &networks[i]);
		r = step_done(state, statement);
	}
	return r;
}

int state_meta(struct state *state, const char *name, uint8_t **value, size_t *n)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_META);
	int r;

	(void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	r = step_row(state, statement);
	if (r == 0)
		r = column_copy(statement, 0, value, n);
	(void)sqlite3_reset(statement);
	return r;
}

int state_meta_put(struct state *state, const char *name, const void *value, size_t n)
{
	sqlite3_stmt *statement = begin(state, STATEMENT_META_PUT);

	(void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	bind_bytes(statement, 2, value, n);
	return step_done(state, statement);
}
