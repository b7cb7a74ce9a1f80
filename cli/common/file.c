/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/common/file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static ssize_t read_all(int fd, char *buffer, size_t room)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, buffer + n, room - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
		if (n == room)
			return -EMSGSIZE;
	}
	buffer[n] = '\0';
	return (ssize_t)n;
}

ssize_t file_read(const char *path, char *buffer, size_t room)
{
	_cleanup_close_ int opened = -1;
	int fd = STDIN_FILENO;
	ssize_t n;

	if (strcmp(path, "-") != 0) {
		fd = opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (fd < 0)
			return -errno;
	}
	n = read_all(fd, buffer, room);
	if (n < 0)
		sodium_memzero(buffer, room);
	return n;
}

ssize_t file_read_line(const char *path, char *buffer, size_t room)
{
	ssize_t n = file_read(path, buffer, room);
	size_t head = 0, end;

	if (n < 0)
		return n;
	end = (size_t)n;
	while (end > 0 && isspace((unsigned char)buffer[end - 1]))
		end--;
	while (head < end && isspace((unsigned char)buffer[head]))
		head++;
	memmove(buffer, buffer + head, end - head);
	sodium_memzero(buffer + (end - head), room - (end - head));
	if (end == head || strlen(buffer) != end - head || strpbrk(buffer, "\r\n")) {
		sodium_memzero(buffer, room);
		return -EBADMSG;
	}
	return (ssize_t)(end - head);
}

bool file_is_open_to_others(const char *path)
{
	struct stat st;

	if (strcmp(path, "-") == 0 || stat(path, &st) < 0)
		return 0; /* a missing file is reported by whoever reads it */
	return S_ISREG(st.st_mode) && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0;
}

static int write_all(int fd, const void *bytes, size_t n)
{
	const char *at = bytes;

	while (n > 0) {
		ssize_t put = write(fd, at, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += put;
		n -= (size_t)put;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* Create a temporary neighbour of path; its name is in temporary[PATH_MAX]. */
static int open_neighbour(const char *path, char *temporary)
{
	const char *slash = strrchr(path, '/');
	int folder = slash ? (int)(slash - path) + 1 : 0;
	int n = snprintf(temporary, PATH_MAX, "%.*s.%s.XXXXXX", folder, path, path + folder);
	int fd;

	if (n < 0 || n >= PATH_MAX)
		return -ENAMETOOLONG;
	fd = mkostemp(temporary, O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The content is on disk under another name before the name appears, so that no crash leaves half a file. */
static int write_file(const char *path, const void *bytes, size_t n, mode_t mode, bool replace)
{
	char temporary[PATH_MAX];
	_cleanup_close_ int fd = open_neighbour(path, temporary);
	int r;

	if (fd < 0)
		return fd;
	r = fchmod(fd, mode) < 0 ? -errno : write_all(fd, bytes, n);
	if (r == 0 && replace)
		r = rename(temporary, path) < 0 ? -errno : 0;
	else if (r == 0)
		r = link(temporary, path) < 0 ? -errno : 0;
	if (r < 0 || !replace)
		(void)unlink(temporary);
	return r;
}

int file_create(const char *path, const void *bytes, size_t n, mode_t mode)
{
	return write_file(path, bytes, n, mode, false);
}

int file_replace(const char *path, const void *bytes, size_t n, mode_t mode)
{
	return write_file(path, bytes, n, mode, true);
}
