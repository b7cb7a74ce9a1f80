/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int write_all(int fd, const uint8_t *bytes, size_t n)
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

int memfd_open(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}

int memfd_seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0 ? -errno : 0;
}

int memfd_of(const char *name, const void *bytes, size_t n)
{
	_cleanup_close_ int fd = memfd_open(name);
	int r;

	if (fd < 0)
		return fd;
	r = write_all(fd, bytes, n);
	if (r == 0)
		r = memfd_seal(fd);
	return r < 0 ? r : TAKE_FD(fd);
}

int memfd_read(int fd, size_t max, uint8_t **out, size_t *n)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct stat stat;
	size_t at = 0;
	int seals = fcntl(fd, F_GET_SEALS);

	/* Unsealed, its owner could shrink or rewrite it while we read. A file that is no memfd has no seals at all. */
	if (seals < 0 || (seals & SEALS) != SEALS)
		return -EPERM;
	if (fstat(fd, &stat) < 0)
		return -errno;
	if (stat.st_size < 0 || (uint64_t)stat.st_size > max)
		return -EMSGSIZE;
	bytes = malloc((size_t)stat.st_size + 1);
	if (!bytes)
		return -ENOMEM;
	while (at < (size_t)stat.st_size) {
		ssize_t got = pread(fd, bytes + at, (size_t)stat.st_size - at, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EIO;
		at += (size_t)got;
	}
	*out = TAKE_PTR(bytes);
	*n = at;
	return 0;
}

int blob_next(const uint8_t *bytes, size_t n, size_t *at, struct view *blob)
{
	uint32_t length;

	if (*at == n)
		return 0;
	if (n - *at < 4)
		return -EBADMSG;
	length = (uint32_t)bytes[*at] << 24 | (uint32_t)bytes[*at + 1] << 16 | (uint32_t)bytes[*at + 2] << 8 | bytes[*at + 3];
	if (length > n - *at - 4)
		return -EBADMSG;
	*blob = (struct view){ bytes + *at + 4, length };
	*at += 4 + (size_t)length;
	return 1;
}

int blob_append(int fd, const void *bytes, size_t n)
{
	uint8_t length[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
	int r = write_all(fd, length, sizeof(length));

	return r < 0 ? r : write_all(fd, bytes, n);
}
