/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process's database. SQLite in WAL mode today; the SQL that goes through here also runs on PostgreSQL: numbered parameters ($1 ...) in the
 * order of their first use, ON CONFLICT, BIGINT, and `blob` as a domain over bytea there.
 *
 * Statements are string literals: each is prepared once and kept under its address. Parameters follow a format, one letter each:
 *   i int64_t   t const char * (NULL: null)   d const struct id * (its hexadecimal text; NULL: null)   x const struct id * (its bytes)
 *   h const struct hash *   b const void *, size_t (bytes; borrowed until the rows end)
 */
#pragma once

#include <stdarg.h>

#include "libipc/types.h"

struct store;

/** Whose database it is. */
struct store_kind {
	const char *process; /* "controld" */
	const char *file;    /* its name in the state folder */
	const char *const *migrations; /* number n brings it from version n to n + 1; one that was released is never edited */
	int version;         /* how many there are */
};

/** The rows of a query. Lives on the stack: _cleanup_rows_ struct rows rows = { 0 }; */
struct rows {
	struct store *store;
	void *statement;
	int slot; /* in the cache of statements; -1: its own */
};
void rows_end(struct rows *rows);
#define _cleanup_rows_ CLEANUP(rows_end)

/** Open the file in DIR and bring its tables up to date. @param create make it if it is missing @return 0; negative errno, logged */
_must_check_ int store_open(const struct store_kind *kind, const char *dir, bool create, struct store **store);
void store_free(struct store *store);
DEFINE_CLEANUP(struct store *, store_free)

/**
 * One transaction at a time.
 * @param durable commit waits for the disk; otherwise a power cut (not a crash) may take the last seconds: good for heartbeats
 */
_must_check_ int store_begin(struct store *store, bool durable);
_must_check_ int store_commit(struct store *store);
void store_rollback(struct store *store);

/** Run a statement. @return rows changed; -EEXIST a unique constraint; -EXDEV a reference; -EIO, -ENOSPC, -ENOMEM, logged */
_must_check_ int store_exec(struct store *store, const char *sql, const char *format, ...);
/** Start a query. */
_must_check_ int store_query(struct store *store, struct rows *rows, const char *sql, const char *format, ...);
/** @return 1 there is a row; 0 no more; negative errno */
_must_check_ int rows_next(struct rows *rows);
/** Start a query and step to its first row. @return 0; -ENOENT none; negative errno */
_must_check_ int store_first(struct store *store, struct rows *rows, const char *sql, const char *format, ...);

/* Columns of the current row; text and views are borrowed until the next rows_next(). */
int64_t row_i64(const struct rows *rows, int column);
uint64_t row_u64(const struct rows *rows, int column);
bool row_null(const struct rows *rows, int column);
/** @return NULL for null */
const char *row_text(const struct rows *rows, int column);
struct view row_bytes(const struct rows *rows, int column);
/** Of a text column that holds an id; zero if it does not. */
struct id row_id(const struct rows *rows, int column);
/** Copy a blob of exactly n bytes; zeroes if it is not. */
void row_fixed(const struct rows *rows, int column, void *out, size_t n);

/** Single values. *value is the caller's. @return 0; -ENOENT */
_must_check_ int store_meta(struct store *store, const char *name, uint8_t **value, size_t *n);
_must_check_ int store_meta_put(struct store *store, const char *name, const void *value, size_t n);
