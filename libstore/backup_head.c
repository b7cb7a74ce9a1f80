/* SPDX-License-Identifier: Apache-2.0 */
#include "libstore/backup_head.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <sqlite3.h>
#include <string.h>

#include "libipc/log.h"

void backup_head_format(const struct store_kind *kind, const struct backup *backup, char head[static BACKUP_HEAD_BYTES])
{
	char hash[HASH_TEXT];
	int n;

	memset(head, '\n', BACKUP_HEAD_BYTES);
	n = snprintf(head, BACKUP_HEAD_BYTES,
		     "loopback backup 1\nof %s\nschema %d\nversion %s\nmade %" PRId64 "\nbytes %" PRIu64 "\nblake2b-256 %s\n", kind->process,
		     backup->schema, backup->version, backup->made, backup->bytes, hex_format(backup->hash.b, HASH_BYTES, hash));
	head[n] = '\n'; /* in the place of the terminator */
}

int backup_head_parse(const struct store_kind *kind, const char head[static BACKUP_HEAD_BYTES], struct backup *backup)
{
	char text[BACKUP_HEAD_BYTES + 1], again[BACKUP_HEAD_BYTES], process[16], hash[HASH_TEXT];
	struct backup read = { 0 };

	memcpy(text, head, BACKUP_HEAD_BYTES);
	text[BACKUP_HEAD_BYTES] = '\0';
	if (sscanf(text, "loopback backup 1\nof %15s\nschema %d\nversion %31s\nmade %" SCNd64 "\nbytes %" SCNu64 "\nblake2b-256 %64s", process,
		   &read.schema, read.version, &read.made, &read.bytes, hash) != 6 ||
	    strcmp(process, kind->process) != 0 || hex_parse(hash, read.hash.b, HASH_BYTES) < 0)
		return -EBADMSG;
	/* One form only: what we would have written ourselves. */
	backup_head_format(kind, &read, again);
	if (memcmp(head, again, BACKUP_HEAD_BYTES) != 0)
		return -EBADMSG;
	*backup = read;
	return 0;
}

static int write_whole(int fd, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		ssize_t put = write(fd, bytes, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		bytes += put;
		n -= (size_t)put;
	}
	return 0;
}

int backup_copy(int from, int to, uint64_t *bytes, struct hash *hash)
{
	uint8_t buffer[BACKUP_COPY_BYTES];
	crypto_generichash_state state;
	uint64_t total = 0;
	ssize_t n;
	int r;

	(void)crypto_generichash_init(&state, NULL, 0, HASH_BYTES);
	while ((n = read(from, buffer, sizeof(buffer))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		(void)crypto_generichash_update(&state, buffer, (size_t)n);
		r = write_whole(to, buffer, (size_t)n);
		if (r < 0)
			return r;
		total += (uint64_t)n;
	}
	(void)crypto_generichash_final(&state, hash->b, HASH_BYTES);
	*bytes = total;
	return fsync(to) < 0 ? -errno : 0;
}

/* The first row's first column, as text, is what is expected; or a number, if number is given. */
static int pragma_is(sqlite3 *db, const char *sql, const char *expected, int *number)
{
	sqlite3_stmt *statement = NULL;
	const char *text;
	int r = -EBADMSG;

	if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) {
		text = (const char *)sqlite3_column_text(statement, 0);
		if (number)
			*number = sqlite3_column_int(statement, 0);
		if (number || (text && strcmp(text, expected) == 0))
			r = 0;
	}
	(void)sqlite3_finalize(statement);
	return r;
}

int backup_check(const char *path, int *schema)
{
	sqlite3 *db = NULL;
	int r = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOFOLLOW, NULL) == SQLITE_OK ? 0 : -EBADMSG;

	if (r == 0)
		r = pragma_is(db, "PRAGMA integrity_check(1)", "ok", NULL);
	if (r == 0)
		r = pragma_is(db, "PRAGMA user_version", NULL, schema);
	if (r < 0)
		log_error("%s: SQLite does not find it whole: %s", path, db ? sqlite3_errmsg(db) : "out of memory");
	(void)sqlite3_close(db);
	return r;
}
