/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "libipc/log.h"

#define BLOCK 4096
#define FILES_MAX (CACHE_BYTES_MAX / BLOCK) /* more cannot be within the limit, so a scan needs no more room */

static uint64_t on_disk(size_t n)
{
	return (n + BLOCK - 1) / BLOCK * BLOCK;
}

/* -- Looking through the folder --------------------------------------------------------------------------------------------------- */

struct entry {
	struct hash name;
	struct timespec written;
	uint64_t bytes;
};

static int by_age(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->written.tv_sec != y->written.tv_sec)
		return x->written.tv_sec < y->written.tv_sec ? -1 : 1;
	if (x->written.tv_nsec != y->written.tv_nsec)
		return x->written.tv_nsec < y->written.tv_nsec ? -1 : 1;
	return 0;
}

/* Is this a file of ours? Everything else in the folder is removed, so that it cannot fill up with what nobody counts. */
static bool entry_of(int dir, const char *name, struct entry *entry)
{
	struct stat stat;

	if (strlen(name) != HASH_TEXT - 1 || hex_parse(name, entry->name.b, HASH_BYTES) < 0)
		return false;
	if (fstatat(dir, name, &stat, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(stat.st_mode))
		return false;
	entry->written = stat.st_mtim;
	entry->bytes = on_disk((size_t)stat.st_size);
	return true;
}

/*
 * List the files.
 * @param entries room for FILES_MAX; NULL to count only
 * @return how many; negative errno
 */
static ssize_t scan(const struct cache *cache, struct entry *entries, uint64_t *bytes)
{
	int fd = openat(cache->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t count = 0;
	struct dirent *file;
	DIR *folder;

	if (fd < 0)
		return -errno;
	folder = fdopendir(fd);
	if (!folder) {
		close_fd(fd);
		return -ENOMEM;
	}
	*bytes = 0;
	while ((file = readdir(folder))) {
		struct entry entry;

		if (file->d_name[0] == '.')
			continue;
		if (count == FILES_MAX || !entry_of(cache->dir, file->d_name, &entry)) {
			(void)unlinkat(cache->dir, file->d_name, 0);
			continue;
		}
		if (entries)
			entries[count] = entry;
		*bytes += entry.bytes;
		count++;
	}
	(void)closedir(folder);
	return (ssize_t)count;
}

static void blob_remove(const struct cache *cache, const struct hash *name)
{
	char text[HASH_TEXT];

	(void)unlinkat(cache->dir, hex_format(name->b, HASH_BYTES, text), 0);
}

/* Down to three quarters, so that the next scan is a quarter of the limit away. */
static void evict(struct cache *cache)
{
	_cleanup_free_ struct entry *entries = calloc(FILES_MAX, sizeof(*entries));
	uint64_t bytes = 0;
	ssize_t count;

	if (!entries)
		return;
	count = scan(cache, entries, &bytes);
	if (count < 0) {
		(void)log_errno((int)count, "cannot look through the cache; it is not written to until that works again");
		return;
	}
	qsort(entries, (size_t)count, sizeof(*entries), by_age);
	for (ssize_t i = 0; i < count && bytes > cache->limit / 4 * 3; i++) {
		blob_remove(cache, &entries[i].name);
		bytes -= entries[i].bytes;
	}
	cache->used = bytes;
}

/* -- Use ------------------------------------------------------------------------------------------------------------------------ */

void cache_open(const char *path, uint64_t limit, struct cache *cache)
{
	ssize_t count;

	*cache = (struct cache){ .limit = limit, .dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	if (cache->dir < 0) {
		log_notice("no cache: %s: %s; blobs come from the control plane each time", path, strerror(errno));
		return;
	}
	count = scan(cache, NULL, &cache->used);
	if (count < 0) {
		log_notice("no cache: %s: %s; blobs come from the control plane each time", path, strerror((int)-count));
		cache_close(cache);
		return;
	}
	if (cache->used > cache->limit)
		evict(cache);
}

void cache_close(struct cache *cache)
{
	cache->dir = close_fd(cache->dir);
}

static ssize_t read_whole(int fd, uint8_t *buffer)
{
	size_t at = 0;

	for (;;) {
		ssize_t n = read(fd, buffer + at, BLOB_BYTES_MAX - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += (size_t)n;
		if (n == 0 || at == BLOB_BYTES_MAX)
			return (ssize_t)at;
	}
}

ssize_t cache_get(struct cache *cache, const struct hash *name, uint8_t *buffer)
{
	char text[HASH_TEXT];
	_cleanup_close_ int fd = -1;
	struct hash found;
	ssize_t n;

	if (cache->dir < 0)
		return -ENOENT;
	/* O_NONBLOCK: should a FIFO stand there, opening it must not hang. */
	fd = openat(cache->dir, hex_format(name->b, HASH_BYTES, text), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -ENOENT;
	n = read_whole(fd, buffer);
	if (n >= 0) {
		hash_of(buffer, (size_t)n, &found);
		if (hash_equal(&found, name))
			return n;
	}
	log_notice("cached blob %s is not what its name says; it is dropped and fetched again", text);
	blob_remove(cache, name);
	return -ENOENT;
}

static int write_whole(int fd, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, bytes, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		bytes += done;
		n -= (size_t)done;
	}
	return 0;
}

void cache_put(struct cache *cache, const struct hash *name, const void *bytes, size_t n)
{
	char text[HASH_TEXT];
	_cleanup_close_ int fd = -1;
	int r;

	if (cache->dir < 0 || n == 0 || n > BLOB_BYTES_MAX)
		return;
	if (cache->used + on_disk(n) > cache->limit) {
		evict(cache);
		if (cache->used + on_disk(n) > cache->limit)
			return;
	}
	fd = openat(cache->dir, hex_format(name->b, HASH_BYTES, text), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 && errno == EEXIST)
		return;
	r = fd < 0 ? -errno : write_whole(fd, bytes, n);
	if (r < 0) {
		if (fd >= 0)
			blob_remove(cache, name);
		if (!cache->complained)
			log_warning("cannot write to the cache: %s; fetchd works without it", strerror(-r));
		cache->complained = true;
		return;
	}
	if (cache->complained)
		log_notice("the cache can be written to again");
	cache->complained = false;
	cache->used += on_disk(n);
}
