/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "libipc/log.h"
#include "signd/signd.h"

#define SEED_BYTES 32
#define KEY_FILE_BYTES_MAX 256

static int write_new(int dirfd, const char *name, mode_t mode, const void *bytes, size_t n)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);

	if (fd < 0)
		return -errno;
	if (write(fd, bytes, n) != (ssize_t)n)
		return errno ? -errno : -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

int key_make(const char *dir, uint8_t public_key[static KEY_BYTES])
{
	_cleanup_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint8_t secret[SECRET_KEY_BYTES], pub[KEY_BYTES];
	char text[2 * KEY_BYTES + 2];
	int r;

	if (dirfd < 0)
		return log_errno(errno, "%s: cannot open", dir);
	if (crypto_sign_keypair(pub, secret) != 0)
		return -EIO;
	/* libsodium's secret key begins with the seed, which is all that has to be kept. */
	r = write_new(dirfd, "online.key", 0600, secret, SEED_BYTES);
	sodium_memzero(secret, sizeof(secret));
	if (r == -EEXIST) {
		log_error("%s/online.key: there is a key already; it is kept. To start over, remove the directory", dir);
		return r;
	}
	if (r < 0)
		return log_errno(r, "%s/online.key: cannot write", dir);

	(void)hex_format(pub, sizeof(pub), text);
	text[2 * KEY_BYTES] = '\n';
	r = write_new(dirfd, "online.pub", 0644, text, 2 * KEY_BYTES + 1);
	if (r == 0 && fsync(dirfd) < 0)
		r = -errno;
	if (r < 0)
		return log_errno(r, "%s/online.pub: cannot write", dir);
	memcpy(public_key, pub, sizeof(pub));
	return 0;
}

int key_load(const char *dir, uint8_t secret[static SECRET_KEY_BYTES], uint8_t public_key[static KEY_BYTES])
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	uint8_t seed[SEED_BYTES + 1];
	struct stat st;
	ssize_t n;

	if (asprintf(&path, "%s/online.key", dir) < 0)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return log_errno(errno, "%s: cannot open; `signd init` makes it", path);
	if (fstat(fd, &st) < 0)
		return log_errno(errno, "%s: fstat", path);
	if ((st.st_mode & 077) != 0) {
		log_error("%s: mode is %04o, others than its owner could read it; expected 0600", path, (unsigned)(st.st_mode & 07777));
		return -EPERM;
	}
	n = read(fd, seed, sizeof(seed));
	if (n != SEED_BYTES) {
		sodium_memzero(seed, sizeof(seed));
		log_error("%s: expected %d bytes, found %zd; it is no key of ours", path, SEED_BYTES, n);
		return -EBADMSG;
	}
	(void)sodium_mlock(secret, SECRET_KEY_BYTES); /* best effort: RLIMIT_MEMLOCK may forbid it */
	(void)crypto_sign_seed_keypair(public_key, secret, seed);
	sodium_memzero(seed, sizeof(seed));
	return 0;
}

int key_read_public(const char *path, uint8_t key[static KEY_BYTES])
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[KEY_FILE_BYTES_MAX + 1];
	uint8_t found[KEY_BYTES];
	ssize_t n;

	if (fd < 0)
		return log_errno(errno, "%s: cannot open", path);
	n = read(fd, text, KEY_FILE_BYTES_MAX);
	if (n < 0)
		return log_errno(errno, "%s: cannot read", path);
	text[n] = '\0';
	text[strcspn(text, " \t\r\n")] = '\0';
	if (hex_parse(text, found, sizeof(found)) < 0 && key_parse(text, found) < 0) {
		log_error("%s: expected a public key as 64 hexadecimal digits or in base64", path);
		return -EINVAL;
	}
	memcpy(key, found, sizeof(found));
	return 0;
}
