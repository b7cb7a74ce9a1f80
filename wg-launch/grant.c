/* SPDX-License-Identifier: Apache-2.0 */
#include "wg-launch/grant.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "libipc/channel.h"
#include "libipc/log.h"

/* A TUN (not TAP) device of this name? */
static bool is_tun(int fd, const char *interface)
{
	struct ifreq request = { 0 };
	struct stat status;

	if (fstat(fd, &status) < 0 || !S_ISCHR(status.st_mode))
		return false;
	if (ioctl(fd, TUNGETIFF, &request) < 0 || strnlen(request.ifr_name, IFNAMSIZ) == IFNAMSIZ)
		return false;
	return strcmp(request.ifr_name, interface) == 0 && (request.ifr_flags & IFF_TUN);
}

static int socket_option(int fd, int option)
{
	int value = 0;
	socklen_t length = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0 ? -1 : value;
}

static bool is_uapi_listener(int fd)
{
	return socket_option(fd, SO_DOMAIN) == AF_UNIX && socket_option(fd, SO_TYPE) == SOCK_STREAM &&
	       socket_option(fd, SO_ACCEPTCONN) == 1;
}

static int take(struct message *answer, struct grant *grant)
{
	_cleanup_close_ int tun = TAKE_FD(answer->fds[0]), uapi = TAKE_FD(answer->fds[1]);
	char interface[IFNAMSIZ];

	text_copy(interface, sizeof(interface), answer->body.tunnel_grant.interface);
	if (!is_tun(tun, interface)) {
		log_error("netd's first descriptor is not the TUN interface %s; nothing is started", interface);
		return -EPROTO;
	}
	if (!is_uapi_listener(uapi)) {
		log_error("netd's second descriptor is not a listening Unix stream socket; nothing is started");
		return -EPROTO;
	}
	memcpy(grant->interface, interface, sizeof(interface));
	grant->tun = TAKE_FD(tun);
	grant->uapi = TAKE_FD(uapi);
	return 0;
}

int grant_ask(const char *path, bool next, struct grant *grant)
{
	_cleanup_free_ uint8_t *frame = malloc(FRAME_BYTES_MAX);
	struct msg_tunnel_request request = { .next = next };
	_cleanup_close_ int fd = channel_dial(path);
	struct message answer;
	int r;

	if (!frame)
		return log_errno(ENOMEM, "cannot ask netd");
	if (fd < 0)
		return log_errno(fd, "cannot reach netd at %s", path);
	r = channel_call(fd, PARTY_LAUNCH, PARTY_NETD, MSG_tunnel_request, &request, NULL, -1, frame, &answer);
	if (r < 0)
		return log_errno(r, "netd at %s gave no tunnel", path);
	return answer.number == MSG_tunnel_none ? 1 : take(&answer, grant);
}
