/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a backup. Two processes: the database is opened by its owner, who hands bytes to a descriptor; the file is made, named and on failure
 * removed by whoever asked, who is root as a rule and parses nothing of the database.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>

#include "libipc/log.h"
#include "libstore/backup_head.h"
#include "libstore/owner.h"

#define BUSY_MS 10000

/* A copy as of one moment: readers and the daemon go on meanwhile (SQLite: WAL, VACUUM INTO). */
static int snapshot(const char *from, const char *to)
{
	sqlite3_stmt *statement = NULL;
	sqlite3 *db = NULL;
	bool done = sqlite3_open_v2(from, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW, NULL) == SQLITE_OK &&
		    sqlite3_busy_timeout(db, BUSY_MS) == SQLITE_OK &&
		    sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &statement, NULL) == SQLITE_OK &&
		    sqlite3_bind_text(statement, 1, to, -1, SQLITE_STATIC) == SQLITE_OK && sqlite3_step(statement) == SQLITE_DONE;

	if (!done)
		log_error("%s: cannot be copied: %s", from, db ? sqlite3_errmsg(db) : "out of memory");
	(void)sqlite3_finalize(statement);
	(void)sqlite3_close(db);
	return done ? 0 : -EIO;
}

static int send_copy(const struct store_kind *kind, const char *copy, int to, struct backup *backup)
{
	_cleanup_close_ int from = open(copy, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char head[BACKUP_HEAD_BYTES];
	struct timespec now;
	int r;

	if (from < 0)
		return log_errno(errno, "%s: cannot open", copy);
	if (lseek(to, BACKUP_HEAD_BYTES, SEEK_SET) < 0)
		return log_errno(errno, "the backup is no file");
	r = backup_copy(from, to, &backup->bytes, &backup->hash);
	if (r < 0)
		return log_errno(r, "the backup cannot be written");
	(void)clock_gettime(CLOCK_REALTIME, &now);
	backup->made = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	(void)snprintf(backup->version, sizeof(backup->version), "%s", LOOPBACK_VERSION);
	backup_head_format(kind, backup, head);
	if (pwrite(to, head, sizeof(head), 0) != (ssize_t)sizeof(head) || fsync(to) < 0)
		return log_errno(errno, "the backup cannot be written");
	return 0;
}

/* The owner's part. */
static int copy_out(const struct store_kind *kind, const char *dir, int to)
{
	_cleanup_free_ char *database = NULL, *copy = NULL;
	_cleanup_close_ int folder = -1;
	struct backup backup = { 0 };
	int r;

	if (asprintf(&database, "%s/%s", dir, kind->file) < 0 || asprintf(&copy, "%s/backup.partial", dir) < 0)
		return -ENOMEM;
	folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return log_errno(errno, "%s: cannot open", dir);
	if (flock(folder, LOCK_EX | LOCK_NB) < 0)
		return log_errno(errno, "%s: another backup is being made", dir);
	(void)unlink(copy); /* of one that was killed */
	r = snapshot(database, copy);
	if (r == 0)
		r = backup_check(copy, &backup.schema);
	if (r == 0)
		r = send_copy(kind, copy, to, &backup);
	(void)unlink(copy);
	return r;
}

/* @return 0; -EIO, the child has said why; -EINTR */
static int copy_out_as_owner(const struct store_kind *kind, const char *dir, int to, const sigset_t *signals)
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		return -errno;
	if (child == 0) {
		(void)sigprocmask(SIG_SETMASK, signals, NULL);
		_exit(owner_become(dir, false) == 0 && copy_out(kind, dir, to) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFSIGNALED(status)) {
		log_error("interrupted; there is no backup");
		return -EINTR;
	}
	return WEXITSTATUS(status) == EXIT_SUCCESS ? 0 : -EIO;
}

/* Give it its name, which must be free, and make that last. */
static int name_it(const char *temporary, const char *path)
{
	_cleanup_free_ char *folder = strdup(path);
	_cleanup_close_ int fd = -1;
	char *slash;

	if (!folder)
		return -ENOMEM;
	if (link(temporary, path) < 0)
		return log_errno(errno, "%s: cannot write", path);
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder ? 1 : 0] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? log_errno(errno, "%s: is written, but may not survive a power cut", path) : 0;
}

static int write_file(const struct store_kind *kind, const char *dir, const char *path, const sigset_t *signals, struct backup *backup)
{
	_cleanup_close_ int fd = -1;
	char temporary[PATH_MAX], head[BACKUP_HEAD_BYTES];
	int r;

	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
		return log_errno(ENAMETOOLONG, "%s", path);
	fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
	if (fd < 0)
		return log_errno(errno, "%s: cannot write", path);
	r = copy_out_as_owner(kind, dir, fd, signals);
	if (r == 0 && (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) || backup_head_parse(kind, head, backup) < 0)) {
		log_error("%s: the backup has no head", path);
		r = -EIO;
	}
	if (r == 0)
		r = name_it(temporary, path);
	(void)unlink(temporary);
	return r;
}

int backup_write(const struct store_kind *kind, const char *dir, const char *path, struct backup *backup)
{
	sigset_t block, before;
	int r;

	if (access(path, F_OK) == 0) {
		log_error("%s: exists and is not written over; give every backup a name of its own", path);
		return -EEXIST;
	}
	/* A Ctrl-C ends the child; we hear of that, and remove what there is of the file. */
	(void)sigemptyset(&block);
	(void)sigaddset(&block, SIGINT);
	(void)sigaddset(&block, SIGTERM);
	(void)sigaddset(&block, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &block, &before);
	r = write_file(kind, dir, path, &before, backup);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}
