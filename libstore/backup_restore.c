/* SPDX-License-Identifier: Apache-2.0 */
/* Restoring: in a folder of its own until all is well, then one link gives the database its name. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "libipc/log.h"
#include "libstore/backup_head.h"
#include "libstore/owner.h"

/* What SQLite may leave beside a database; a write-ahead log of another one would be played into ours. */
static const char *const traces[] = { "", "-wal", "-shm", "-journal" };

struct restore {
	const struct store_kind *kind;
	const char *dir;
	const char *partial, *database; /* folder, and file in it */
};

static int is_empty_check(const struct restore *restore)
{
	for (size_t i = 0; i < ARRAY_SIZE(traces); i++) {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s%s", restore->dir, restore->kind->file, traces[i]) < 0)
			return -ENOMEM;
		if (access(path, F_OK) == 0) {
			log_error("%s: is there already, and stays as it is. Stop %s and move the folder's files away to restore into it", path,
				  restore->kind->process);
			return -EEXIST;
		}
	}
	return 0;
}

static void partial_remove(const struct restore *restore)
{
	for (size_t i = 0; i < ARRAY_SIZE(traces); i++) {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s%s", restore->database, traces[i]) >= 0)
			(void)unlink(path);
	}
	(void)rmdir(restore->partial);
}

/* Copy the database out of the backup; nothing of it is parsed before its hash is the head's. */
static int unpack(const struct restore *restore, int from, const char *path, struct backup *backup)
{
	_cleanup_close_ int to = -1;
	char head[BACKUP_HEAD_BYTES];
	struct hash hash;
	uint64_t bytes;
	int schema = 0;
	int r;

	if (read(from, head, sizeof(head)) != (ssize_t)sizeof(head) || backup_head_parse(restore->kind, head, backup) < 0) {
		log_error("%s: expected a backup made by `%s backup`, found something else, or one that was cut off; nothing is restored", path,
			  restore->kind->process);
		return -EBADMSG;
	}
	if (backup->schema > restore->kind->version) {
		log_error("%s: made by %s %s, schema %d; this one knows up to %d. Install that version, then restore", path, restore->kind->process,
			  backup->version, backup->schema, restore->kind->version);
		return -EPROTONOSUPPORT;
	}
	to = open(restore->database, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0)
		return log_errno(errno, "%s: cannot write", restore->database);
	r = backup_copy(from, to, &bytes, &hash);
	if (r < 0)
		return log_errno(r, "%s: cannot be copied", path);
	if (bytes != backup->bytes || !hash_equal(&hash, &backup->hash)) {
		log_error("%s: damaged: its head speaks of %llu bytes with another hash than the %llu that follow; nothing is restored", path,
			  (unsigned long long)backup->bytes, (unsigned long long)bytes);
		return -EBADMSG;
	}
	r = backup_check(restore->database, &schema);
	if (r == 0 && schema != backup->schema) {
		log_error("%s: holds schema %d, its head says %d; nothing is restored", path, schema, backup->schema);
		r = -EBADMSG;
	}
	return r;
}

static int adapt_it(const struct restore *restore, backup_adapt_fn *adapt, void *arg)
{
	_cleanup_(store_free) struct store *store = NULL;
	int r = store_open(restore->kind, restore->partial, false, &store);

	return r == 0 && adapt ? adapt(store, arg) : r;
}

static int put_in_place(const struct restore *restore)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int folder = open(restore->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int file = open(restore->database, O_RDONLY | O_CLOEXEC);

	if (asprintf(&path, "%s/%s", restore->dir, restore->kind->file) < 0)
		return -ENOMEM;
	if (folder < 0 || file < 0 || fsync(file) < 0 || link(restore->database, path) < 0 || fsync(folder) < 0)
		return log_errno(errno, "%s: cannot write", path);
	return 0;
}

static int run(const struct restore *restore, int from, const char *path, backup_adapt_fn *adapt, void *arg, struct backup *backup)
{
	int r = is_empty_check(restore);

	if (r < 0)
		return r;
	partial_remove(restore); /* of a restore that was killed */
	if (mkdir(restore->partial, 0700) < 0)
		return log_errno(errno, "%s: cannot make this directory", restore->partial);
	r = unpack(restore, from, path, backup);
	if (r == 0)
		r = adapt_it(restore, adapt, arg);
	if (r == 0)
		r = put_in_place(restore);
	partial_remove(restore);
	return r;
}

int backup_restore(const struct store_kind *kind, const char *dir, const char *path, backup_adapt_fn *adapt, void *arg,
		   struct backup *backup)
{
	_cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_free_ char *partial = NULL, *database = NULL;
	struct restore restore = { .kind = kind, .dir = dir };
	int r;

	if (from < 0)
		return log_errno(errno, "%s: cannot open", path);
	r = owner_become(dir, true);
	if (r < 0)
		return r;
	if (asprintf(&partial, "%s/restore.partial", dir) < 0 || asprintf(&database, "%s/restore.partial/%s", dir, kind->file) < 0)
		return -ENOMEM;
	restore.partial = partial;
	restore.database = database;
	return run(&restore, from, path, adapt, arg, backup);
}
