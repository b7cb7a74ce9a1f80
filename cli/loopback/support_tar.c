/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/support_tar.h"

#include <errno.h>
#include <string.h>

#define BLOCK 512
#define SIZE_MAX_OCTAL 077777777777ull /* 11 digits */

/* All numbers are octal text. */
struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], modified[12], checksum[8], type, link[100];
	char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct tar_header) == BLOCK, "a header is one block");

static int write_all(int fd, const void *bytes, size_t n)
{
	const char *at = bytes;

	while (n > 0) {
		ssize_t done = write(fd, at, n);

		if (done < 0 && errno != EINTR)
			return -errno;
		if (done > 0) {
			at += done;
			n -= (size_t)done;
		}
	}
	return 0;
}

static void checksum_set(struct tar_header *header)
{
	const unsigned char *bytes = (const unsigned char *)header;
	unsigned sum = 0;

	memset(header->checksum, ' ', sizeof(header->checksum));
	for (size_t i = 0; i < sizeof(*header); i++)
		sum += bytes[i];
	(void)snprintf(header->checksum, sizeof(header->checksum), "%06o", sum & 0777777);
}

int tar_add(int fd, const char *name, const void *bytes, size_t n, uint64_t modified)
{
	static const char padding[BLOCK];
	struct tar_header header = { .type = '0' };
	int r;

	if (strlen(name) > sizeof(header.name))
		return -ENAMETOOLONG;
	if (n > SIZE_MAX_OCTAL || modified > SIZE_MAX_OCTAL)
		return -EFBIG;
	memcpy(header.name, name, strlen(name));
	memcpy(header.mode, "0000600", 8);
	memcpy(header.uid, "0000000", 8);
	memcpy(header.gid, "0000000", 8);
	(void)snprintf(header.size, sizeof(header.size), "%011llo", (unsigned long long)n);
	(void)snprintf(header.modified, sizeof(header.modified), "%011llo", (unsigned long long)modified);
	memcpy(header.magic, "ustar", 6);
	memcpy(header.version, "00", 2);
	memcpy(header.user, "root", 5);
	memcpy(header.group, "root", 5);
	checksum_set(&header);
	r = write_all(fd, &header, sizeof(header));
	if (r == 0)
		r = write_all(fd, bytes, n);
	return r == 0 && n % BLOCK ? write_all(fd, padding, BLOCK - n % BLOCK) : r;
}

int tar_end(int fd)
{
	static const char blocks[2 * BLOCK];

	return write_all(fd, blocks, sizeof(blocks));
}
