/* SPDX-License-Identifier: Apache-2.0 */
#include "libjournal/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "libipc/cleanup.h"

ssize_t folder_read(int folder, const char *name, void *bytes, size_t max)
{
	_cleanup_close_ int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat stat;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &stat) < 0)
		return -errno;
	if (stat.st_size < 0 || (size_t)stat.st_size > max)
		return -EMSGSIZE;
	n = read(fd, bytes, max);
	return n < 0 ? -errno : n;
}

int folder_write(int folder, const char *name, const void *bytes, size_t n)
{
	_cleanup_close_ int fd = -1;
	char new_name[32];
	ssize_t done;
	int r = 0;

	(void)snprintf(new_name, sizeof(new_name), "%s.new", name);
	fd = openat(folder, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	done = write(fd, bytes, n);
	if (done != (ssize_t)n)
		r = done < 0 ? -errno : -ENOSPC;
	else if (fsync(fd) < 0 || renameat(folder, new_name, folder, name) < 0 || fsync(folder) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(folder, new_name, 0);
	return r;
}

int folder_remove(int folder, const char *name)
{
	return unlinkat(folder, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

void put_counter(uint8_t out[static 8], uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		out[i] = (uint8_t)(value >> (56 - 8 * i));
}

uint64_t get_counter(const uint8_t in[static 8])
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value = value << 8 | in[i];
	return value;
}

int folder_count(int folder, const char *name, uint64_t *count)
{
	uint8_t file[8];
	ssize_t n = folder_read(folder, name, file, sizeof(file));

	*count = n == (ssize_t)sizeof(file) ? get_counter(file) + 1 : 1;
	put_counter(file, *count);
	return folder_write(folder, name, file, sizeof(file));
}
