/* SPDX-License-Identifier: Apache-2.0 */
#include "libwg/tun.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define UAPI_BACKLOG 8

/* As the kernel's dev_valid_name(), but for '%', which TUNSETIFF would take for a template. */
static bool name_valid(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < IFNAMSIZ && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcspn(name, "/:% \t\n\v\f\r") == n;
}

int tun_open(const char *name, int *tun_fd)
{
	struct ifreq request = { .ifr_flags = (short)(IFF_TUN | IFF_TUN_EXCL) };
	_cleanup_close_ int fd = -1;

	if (!name_valid(name))
		return -EINVAL;
	memcpy(request.ifr_name, name, strlen(name));
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
		return -errno;
	*tun_fd = TAKE_FD(fd);
	return 0;
}

void uapi_address(const char *name, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	(void)snprintf(address->sun_path, sizeof(address->sun_path), UAPI_DIRECTORY "/%.*s.sock", IFNAMSIZ - 1, name);
}

/* Remove a socket that its owner left behind. */
static int remove_stale(const struct sockaddr_un *address)
{
	_cleanup_close_ int fd = -1;
	struct stat status;

	if (lstat(address->sun_path, &status) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(status.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	if (errno != ECONNREFUSED || unlink(address->sun_path) < 0)
		return -errno;
	return 0;
}

/* The umask that netd runs under would lock wireguard-go's uid out. */
static int make_socket(int fd, const struct sockaddr_un *address)
{
	mode_t before = umask(0022);
	int r = 0;

	if ((mkdir(UAPI_DIRECTORY, 0711) < 0 && errno != EEXIST) ||
	    bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		r = -errno;
	(void)umask(before);
	return r;
}

int uapi_listen(const char *name, int *fd)
{
	_cleanup_close_ int listener = -1;
	struct sockaddr_un address;
	int r;

	if (!name_valid(name))
		return -EINVAL;
	uapi_address(name, &address);
	r = remove_stale(&address);
	if (r < 0)
		return r;
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0)
		return -errno;
	r = make_socket(listener, &address);
	if (r < 0)
		return r;
	if (listen(listener, UAPI_BACKLOG) < 0)
		return -errno;
	*fd = TAKE_FD(listener);
	return 0;
}
