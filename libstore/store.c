/* SPDX-License-Identifier: Apache-2.0 */
#include "libstore/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <string.h>

#include "libipc/log.h"

#define SLOTS 256    /* more than there are statements in the program */
#define BUSY_MS 2000 /* how long one waits for another process that holds the database */

struct slot {
	const char *sql;
	sqlite3_stmt *statement;
	bool busy;
};

struct store {
	const struct store_kind *kind;
	sqlite3 *db;
	bool durable; /* what synchronous is set to */
	bool stalled; /* another process holds it, see stalled_set() */
	struct slot slots[SLOTS];
};

static int database_error(struct store *store, const char *doing)
{
	int code = sqlite3_extended_errcode(store->db);

	if (code == SQLITE_CONSTRAINT_FOREIGNKEY)
		return -EXDEV;
	if ((code & 0xff) == SQLITE_CONSTRAINT)
		return -EEXIST;
	log_error("%s: %s: %s (%d)", store->kind->file, doing, sqlite3_errmsg(store->db), code);
	return (code & 0xff) == SQLITE_FULL ? -ENOSPC : (code & 0xff) == SQLITE_NOMEM ? -ENOMEM : -EIO;
}

static int run_plain(struct store *store, const char *sql)
{
	return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : database_error(store, sql);
}

void store_free(struct store *store)
{
	if (!store)
		return;
	for (int i = 0; i < SLOTS; i++)
		(void)sqlite3_finalize(store->slots[i].statement);
	(void)sqlite3_close(store->db);
	free(store);
}

static int version_read(struct store *store, int *version)
{
	sqlite3_stmt *statement = NULL;
	int r = -EIO;

	if (sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &statement, NULL) == SQLITE_OK &&
	    sqlite3_step(statement) == SQLITE_ROW) {
		*version = sqlite3_column_int(statement, 0);
		r = 0;
	}
	(void)sqlite3_finalize(statement);
	return r;
}

/* Each step is a transaction: a crash between two leaves a database of some version, never one between versions. */
static int migrate(struct store *store)
{
	const struct store_kind *kind = store->kind;
	char pragma[64];
	int version = 0;
	int r = version_read(store, &version);

	if (r < 0)
		return database_error(store, "reading the schema's version");
	if (version > kind->version) {
		log_error("%s has schema %d, this %s knows up to %d; not touched. Use the newer %s", kind->file, version, kind->process,
			  kind->version, kind->process);
		return -EPROTONOSUPPORT;
	}
	for (; version < kind->version && r == 0; version++) {
		(void)snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d", version + 1);
		r = run_plain(store, "BEGIN IMMEDIATE");
		if (r == 0)
			r = run_plain(store, kind->migrations[version]);
		if (r == 0)
			r = run_plain(store, pragma);
		if (r == 0)
			r = run_plain(store, "COMMIT");
		if (r == 0)
			log_info("%s: schema is version %d now", kind->file, version + 1);
	}
	return r;
}

int store_open(const struct store_kind *kind, const char *dir, bool create, struct store **store)
{
	_cleanup_(store_free) struct store *opened = calloc(1, sizeof(*opened));
	_cleanup_free_ char *path = NULL;
	int r;

	if (!opened || asprintf(&path, "%s/%s", dir, kind->file) < 0)
		return -ENOMEM;
	opened->kind = kind;
	r = sqlite3_open_v2(path, &opened->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW | (create ? SQLITE_OPEN_CREATE : 0), NULL);
	if (r != SQLITE_OK) {
		log_error("%s: cannot be opened: %s; `%s init` makes it", path,
			  opened->db ? sqlite3_errmsg(opened->db) : sqlite3_errstr(r), kind->process);
		return -EIO;
	}
	(void)sqlite3_extended_result_codes(opened->db, 1);
	(void)sqlite3_busy_timeout(opened->db, BUSY_MS);
	/* Temporary files stay in memory: the sandbox has no place for them. */
	r = run_plain(opened, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
			      "PRAGMA temp_store = MEMORY;");
	opened->durable = true;
	if (r == 0)
		r = migrate(opened);
	if (r < 0)
		return r;
	*store = TAKE_PTR(opened);
	return 0;
}

/* -- Transactions ----------------------------------------------------------------------------------------------------------------- */

/*
 * Another process holds the database and has not let go in time. Waiting so long for each that would write keeps the whole process from its readers: from now on
 * nobody waits, until one gets through.
 */
static void stalled_set(struct store *store, bool stalled)
{
	if (store->stalled == stalled)
		return;
	store->stalled = stalled;
	(void)sqlite3_busy_timeout(store->db, stalled ? 0 : BUSY_MS);
	if (stalled)
		log_warning("%s: another process has held it for %d ms; what would write fails at once until it lets go, what reads goes on", store->kind->file,
			    BUSY_MS);
	else
		log_info("%s: can be written again", store->kind->file);
}

int store_begin(struct store *store, bool durable)
{
	int r = 0;

	if (store->durable != durable) /* allowed outside of transactions only */
		r = run_plain(store, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
	if (r < 0)
		return r;
	store->durable = durable;
	r = run_plain(store, "BEGIN IMMEDIATE");
	stalled_set(store, r < 0 && (sqlite3_extended_errcode(store->db) & 0xff) == SQLITE_BUSY);
	return r;
}

int store_commit(struct store *store)
{
	int r = run_plain(store, "COMMIT");

	if (r < 0)
		store_rollback(store);
	return r;
}

void store_rollback(struct store *store)
{
	if (!sqlite3_get_autocommit(store->db) && run_plain(store, "ROLLBACK") < 0)
		log_error("%s: rolling back failed; the next statement will tell", store->kind->file);
}

/* -- Statements ------------------------------------------------------------------------------------------------------------------- */

/* A statement of this text that nobody is in the middle of. */
static int statement_get(struct store *store, const char *sql, struct rows *rows)
{
	size_t start = ((uintptr_t)sql >> 3) * 2654435761u % SLOTS;

	rows->store = store;
	rows->slot = -1;
	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *slot = &store->slots[(start + i) % SLOTS];

		if (slot->sql && slot->sql != sql)
			continue;
		if (slot->busy)
			break; /* a query within its own rows: it gets a statement for itself */
		if (!slot->sql) {
			if (sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &slot->statement, NULL) != SQLITE_OK)
				return database_error(store, sql);
			slot->sql = sql;
		}
		slot->busy = true;
		rows->slot = (int)((start + i) % SLOTS);
		rows->statement = slot->statement;
		return 0;
	}
	sqlite3_stmt *statement = NULL;
	if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
		return database_error(store, sql);
	rows->statement = statement;
	return 0;
}

void rows_end(struct rows *rows)
{
	if (!rows->statement)
		return;
	if (rows->slot < 0) {
		(void)sqlite3_finalize(rows->statement);
	} else {
		(void)sqlite3_reset(rows->statement);
		(void)sqlite3_clear_bindings(rows->statement);
		rows->store->slots[rows->slot].busy = false;
	}
	rows->statement = NULL;
}

static int bind_id(sqlite3_stmt *statement, int at, const struct id *id)
{
	char text[ID_TEXT];

	if (!id)
		return sqlite3_bind_null(statement, at);
	return sqlite3_bind_text(statement, at, id_format(id, text), -1, SQLITE_TRANSIENT);
}

static int bind_all(struct store *store, sqlite3_stmt *statement, const char *format, va_list args)
{
	int r = SQLITE_OK;

	for (int at = 1; *format && r == SQLITE_OK; at++, format++) {
		const void *bytes;
		const char *text;

		switch (*format) {
		case 'i':
			r = sqlite3_bind_int64(statement, at, va_arg(args, int64_t));
			break;
		case 't':
			text = va_arg(args, const char *);
			r = text ? sqlite3_bind_text(statement, at, text, -1, SQLITE_TRANSIENT) : sqlite3_bind_null(statement, at);
			break;
		case 'd':
			r = bind_id(statement, at, va_arg(args, const struct id *));
			break;
		case 'x':
			r = sqlite3_bind_blob(statement, at, va_arg(args, const struct id *)->b, ID_BYTES, SQLITE_TRANSIENT);
			break;
		case 'h':
			r = sqlite3_bind_blob(statement, at, va_arg(args, const struct hash *)->b, HASH_BYTES, SQLITE_TRANSIENT);
			break;
		case 'b':
			bytes = va_arg(args, const void *);
			r = sqlite3_bind_blob64(statement, at, bytes ? bytes : "", va_arg(args, size_t), SQLITE_STATIC);
			break;
		default:
			return -EINVAL;
		}
	}
	return r == SQLITE_OK ? 0 : database_error(store, "binding");
}

static int query_start(struct store *store, struct rows *rows, const char *sql, const char *format, va_list args)
{
	int r = statement_get(store, sql, rows);

	if (r < 0)
		return r;
	r = bind_all(store, rows->statement, format, args);
	if (r < 0)
		rows_end(rows);
	return r;
}

int store_query(struct store *store, struct rows *rows, const char *sql, const char *format, ...)
{
	va_list args;
	int r;

	rows_end(rows);
	va_start(args, format);
	r = query_start(store, rows, sql, format, args);
	va_end(args);
	return r;
}

int rows_next(struct rows *rows)
{
	int r = sqlite3_step(rows->statement);

	if (r == SQLITE_ROW)
		return 1;
	return r == SQLITE_DONE ? 0 : database_error(rows->store, sqlite3_sql(rows->statement));
}

int store_first(struct store *store, struct rows *rows, const char *sql, const char *format, ...)
{
	va_list args;
	int r;

	rows_end(rows);
	va_start(args, format);
	r = query_start(store, rows, sql, format, args);
	va_end(args);
	if (r < 0)
		return r;
	r = rows_next(rows);
	return r > 0 ? 0 : r == 0 ? -ENOENT : r;
}

int store_exec(struct store *store, const char *sql, const char *format, ...)
{
	_cleanup_rows_ struct rows rows = { 0 };
	va_list args;
	int r;

	va_start(args, format);
	r = query_start(store, &rows, sql, format, args);
	va_end(args);
	if (r == 0)
		r = rows_next(&rows);
	return r < 0 ? r : sqlite3_changes(store->db);
}

/* -- Columns ---------------------------------------------------------------------------------------------------------------------- */

int64_t row_i64(const struct rows *rows, int column)
{
	return sqlite3_column_int64(rows->statement, column);
}

uint64_t row_u64(const struct rows *rows, int column)
{
	return (uint64_t)sqlite3_column_int64(rows->statement, column);
}

bool row_null(const struct rows *rows, int column)
{
	return sqlite3_column_type(rows->statement, column) == SQLITE_NULL;
}

const char *row_text(const struct rows *rows, int column)
{
	return (const char *)sqlite3_column_text(rows->statement, column);
}

struct view row_bytes(const struct rows *rows, int column)
{
	const void *bytes = sqlite3_column_blob(rows->statement, column);

	return (struct view){ bytes, (size_t)sqlite3_column_bytes(rows->statement, column) };
}

struct id row_id(const struct rows *rows, int column)
{
	struct id id = { 0 };
	const char *text = row_text(rows, column);

	if (!text || id_parse(text, &id) < 0)
		return (struct id){ 0 };
	return id;
}

void row_fixed(const struct rows *rows, int column, void *out, size_t n)
{
	struct view bytes = row_bytes(rows, column);

	if (bytes.n == n)
		memcpy(out, bytes.p, n);
	else
		memset(out, 0, n);
}

int store_meta(struct store *store, const char *name, uint8_t **value, size_t *n)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct view found;
	uint8_t *copy;
	int r = store_first(store, &rows, "SELECT value FROM meta WHERE name = $1", "t", name);

	if (r < 0)
		return r;
	found = row_bytes(&rows, 0);
	copy = malloc(found.n + 1);
	if (!copy)
		return -ENOMEM;
	if (found.n)
		memcpy(copy, found.p, found.n);
	*value = copy;
	*n = found.n;
	return 0;
}

int store_meta_put(struct store *store, const char *name, const void *value, size_t n)
{
	int r = store_exec(store, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
			   "tb", name, value, n);

	return r < 0 ? r : 0;
}
