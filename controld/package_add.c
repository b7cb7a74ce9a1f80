/* SPDX-License-Identifier: Apache-2.0 */
/* `controld package add|remove|list`. Its own connection to the database: the daemon may run meanwhile and sees the change at once. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "controld/change.h"
#include "controld/packages.h"
#include "libipc/log.h"
#include "libstore/owner.h"

#define COPY_BYTES (64u * 1024)
#define WHO "administrator" /* in the audit log: whoever may be root on this machine */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* What every file of this format begins with: a download page saved under the name of a package is told apart here. */
static bool begins_as(const char *format, const uint8_t *bytes, size_t n)
{
	static const uint8_t rpm[] = { 0xed, 0xab, 0xee, 0xdb };

	if (strcmp(format, "deb") == 0)
		return n >= 8 && memcmp(bytes, "!<arch>\n", 8) == 0;
	return n >= sizeof(rpm) && memcmp(bytes, rpm, sizeof(rpm)) == 0;
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

/* Copy, and hash what is copied: the very bytes that will be served. */
static int copy(int from, int to, const char *path, const struct package *package, char sha512[static SHA512_TEXT], uint64_t *bytes)
{
	uint8_t digest[crypto_hash_sha512_BYTES], buffer[COPY_BYTES];
	crypto_hash_sha512_state state;
	uint64_t total = 0;
	ssize_t n;

	(void)crypto_hash_sha512_init(&state);
	while ((n = read(from, buffer, sizeof(buffer))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return log_errno(errno, "%s: cannot read", path);
		if (total == 0 && !begins_as(package->format, buffer, (size_t)n)) {
			log_error("%s: expected a %s package, found something else; not added", path, package->format);
			return -EBADMSG;
		}
		total += (uint64_t)n;
		if (total > PACKAGE_BYTES_MAX) {
			log_error("%s: longer than %llu bytes; not added", path, PACKAGE_BYTES_MAX);
			return -EFBIG;
		}
		(void)crypto_hash_sha512_update(&state, buffer, (size_t)n);
		if (write_whole(to, buffer, (size_t)n) < 0)
			return log_errno(errno, "%s: cannot be copied into the state folder", path);
	}
	if (total == 0) {
		log_error("%s: is empty; not added", path);
		return -EBADMSG;
	}
	(void)crypto_hash_sha512_final(&state, digest);
	(void)hex_format(digest, sizeof(digest), sha512);
	*bytes = total;
	return fsync(to) < 0 ? log_errno(errno, "%s: cannot be copied into the state folder", path) : 0;
}

/* @return 1 this very file is there; 0 it is not; -EEXIST another file has its name, logged */
static int known(struct store *store, const struct package *package, const char *sha512)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(store, &rows, "SELECT sha512 FROM packages WHERE file = $1", "t", package->file);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (strcmp(row_text(&rows, 0), sha512) == 0)
		return 1;
	log_error("%s: another file was added under this name, and hosts may have it. A change needs a new version; not added", package->file);
	return -EEXIST;
}

static int note(struct store *store, const struct package *package, uint64_t bytes, const char *sha512)
{
	struct controld controld = { .store = store };
	int r = store_begin(store, true);

	if (r == 0)
		r = store_exec(store,
			       "INSERT INTO packages (file, format, name, version, architecture, bytes, sha512, added)"
			       " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (file) DO NOTHING",
			       "tttttiti", package->file, package->format, package->name, package->version, package->architecture,
			       (int64_t)bytes, sha512, now_ms());
	if (r >= 0)
		r = audit_note(&controld, WHO, "package add", package->file, sha512);
	if (r == 0)
		r = store_commit(store);
	if (r < 0)
		store_rollback(store);
	return r;
}

/* Under its final name the file is whole and on the disk before it is listed. */
static int add_one(struct store *store, int folder, int from, const char *path)
{
	_cleanup_close_ int to = -1;
	struct package package;
	char sha512[SHA512_TEXT];
	uint64_t bytes = 0;
	int r;

	if (package_parse(base_name(path), &package) < 0) {
		log_error("%s: expected a name such as loopback-agent_0.1.0_amd64.deb or loopback-agent-0.1.0-1.x86_64.rpm; not added", path);
		return -EINVAL;
	}
	(void)unlinkat(folder, ".partial", 0);
	to = openat(folder, ".partial", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0)
		return log_errno(errno, "packages/.partial: cannot write");
	r = copy(from, to, path, &package, sha512, &bytes);
	if (r == 0)
		r = known(store, &package, sha512);
	if (r >= 0 && (renameat(folder, ".partial", folder, package.file) < 0 || fsync(folder) < 0))
		r = log_errno(errno, "packages/%s: cannot write", package.file);
	if (r < 0) {
		(void)unlinkat(folder, ".partial", 0);
		return r;
	}
	if (r == 0)
		r = note(store, &package, bytes, sha512);
	if (r >= 0)
		(void)printf("%s  %s%s\n", sha512, package.file, r > 0 ? " (was there)" : "");
	return r < 0 ? r : 0;
}

static int folder_open(const char *dir)
{
	_cleanup_free_ char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/packages", dir) < 0)
		return -ENOMEM;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return log_errno(errno, "%s: cannot make this directory", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? log_errno(errno, "%s: cannot open", path) : fd;
}

/* Root opens the files, wherever they lie; what is in them is read by the state folder's owner. */
static int files_open(char **paths, int count, int *files)
{
	int r = 0;

	for (int i = 0; i < count; i++)
		files[i] = -1;
	for (int i = 0; i < count && r == 0; i++) {
		files[i] = open(paths[i], O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (files[i] < 0)
			r = log_errno(errno, "%s: cannot open; nothing was added", paths[i]);
	}
	return r;
}

int packages_add(const char *dir, char **paths, int count)
{
	_cleanup_(store_free) struct store *store = NULL;
	_cleanup_close_ int folder = -1;
	_cleanup_free_ int *files = calloc((size_t)count, sizeof(*files));
	int r;

	if (!files)
		return -ENOMEM;
	r = files_open(paths, count, files);
	if (r == 0)
		r = owner_become(dir, false);
	if (r == 0)
		r = store_open(&control_store, dir, false, &store);
	if (r == 0)
		r = folder = folder_open(dir);
	for (int i = 0; i < count; i++) {
		if (r >= 0)
			r = add_one(store, folder, files[i], paths[i]);
		(void)close_fd(files[i]);
	}
	return r < 0 ? r : 0;
}

static int remove_one(struct store *store, int folder, const char *file)
{
	struct controld controld = { .store = store };
	struct package package;
	int r = store_begin(store, true);
	int removed = 0;

	if (r == 0 && package_parse(file, &package) < 0)
		r = -EINVAL;
	if (r == 0)
		r = removed = store_exec(store, "DELETE FROM packages WHERE file = $1", "t", file);
	if (r > 0)
		r = audit_note(&controld, WHO, "package remove", file, "");
	if (r == 0 && removed > 0)
		r = store_commit(store);
	if (r < 0 || removed == 0) {
		store_rollback(store);
		log_error("%s: there is no such package", file);
		return r < 0 ? r : -ENOENT;
	}
	if (unlinkat(folder, file, 0) < 0 && errno != ENOENT)
		return log_errno(errno, "packages/%s: is not listed any more, but cannot be removed", file);
	return 0;
}

int packages_remove(const char *dir, char **files, int count)
{
	_cleanup_(store_free) struct store *store = NULL;
	_cleanup_close_ int folder = -1;
	int r = owner_become(dir, false);

	if (r == 0)
		r = store_open(&control_store, dir, false, &store);
	if (r == 0)
		r = folder = folder_open(dir);
	for (int i = 0; i < count && r >= 0; i++)
		r = remove_one(store, folder, files[i]);
	return r < 0 ? r : 0;
}

int packages_print(const char *dir)
{
	_cleanup_(store_free) struct store *store = NULL;
	_cleanup_rows_ struct rows rows = { 0 };
	int r = owner_become(dir, false);

	if (r == 0)
		r = store_open(&control_store, dir, false, &store);
	if (r == 0)
		r = store_query(store, &rows, "SELECT sha512, file FROM packages ORDER BY file", "");
	while (r == 0 && (r = rows_next(&rows)) > 0)
		r = printf("%s  %s\n", row_text(&rows, 0), row_text(&rows, 1)) < 0 ? -EIO : 0;
	return r;
}
