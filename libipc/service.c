/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/service.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "libipc/log.h"

#define LISTEN_FDS_START 3 /* sd_listen_fds(3) */
#define LISTEN_FDS_MAX 16
#define BACKLOG 16

static struct {
	int notify;
	bool counted;
	unsigned sockets;
	bool given[LISTEN_FDS_MAX];
} service = { .notify = -1 };

static int address_of(const char *path, struct sockaddr_un *address, socklen_t *length)
{
	size_t n = strlen(path);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (n == 0 || n >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, n);
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	if (path[0] == '@') /* the abstract namespace, as systemd writes it */
		address->sun_path[0] = '\0';
	else
		(*length)++;
	return 0;
}

int service_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	_cleanup_close_ int fd = -1;
	struct sockaddr_un address;
	socklen_t length;
	int r;

	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	if (!path)
		return 0;
	r = address_of(path, &address, &length);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Connected now: later the path may be out of reach. */
	if (connect(fd, (struct sockaddr *)&address, length) < 0)
		return -errno;
	service.notify = TAKE_FD(fd);
	return 0;
}

void service_notify(const char *state)
{
	if (service.notify >= 0)
		(void)send(service.notify, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT);
}

int service_notify_fd(void)
{
	return service.notify;
}

/* A variable that holds a decimal number; 0 if it does not. */
static uint64_t environment_number(const char *name)
{
	const char *text = getenv(name);
	char *end;
	unsigned long long value;

	if (!text || *text < '0' || *text > '9')
		return 0;
	errno = 0;
	value = strtoull(text, &end, 10);
	return errno || *end ? 0 : value;
}

uint64_t service_watchdog_usec(void)
{
	uint64_t pid = environment_number("WATCHDOG_PID");

	return pid && pid != (uint64_t)getpid() ? 0 : environment_number("WATCHDOG_USEC");
}

static void count_sockets(void)
{
	uint64_t n = environment_number("LISTEN_FDS");

	service.counted = true;
	if (environment_number("LISTEN_PID") != (uint64_t)getpid())
		return;
	service.sockets = n > LISTEN_FDS_MAX ? LISTEN_FDS_MAX : (unsigned)n;
	for (unsigned i = 0; i < service.sockets; i++)
		(void)fcntl(LISTEN_FDS_START + (int)i, F_SETFD, FD_CLOEXEC);
}

/* Is the i-th of the colon-separated names this one? */
static bool name_is(unsigned i, const char *name)
{
	const char *at = getenv("LISTEN_FDNAMES");
	size_t n;

	if (!at)
		return false;
	for (; i > 0; i--) {
		at = strchr(at, ':');
		if (!at)
			return false;
		at++;
	}
	n = strcspn(at, ":");
	return n == strlen(name) && memcmp(at, name, n) == 0;
}

static bool listens_for_packets(int fd)
{
	int type = 0, listening = 0;
	socklen_t length = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
		return false;
	length = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0)
		return false;
	return type == SOCK_SEQPACKET && listening;
}

int service_socket(const char *name)
{
	if (!service.counted)
		count_sockets();
	for (unsigned i = 0; i < service.sockets; i++) {
		int fd = LISTEN_FDS_START + (int)i;

		if (service.given[i] || !name_is(i, name))
			continue;
		if (!listens_for_packets(fd))
			return -EPROTOTYPE;
		service.given[i] = true;
		return fd;
	}
	return -ENOENT;
}

unsigned service_sockets_close_rest(void)
{
	unsigned closed = 0;

	if (!service.counted)
		count_sockets();
	for (unsigned i = 0; i < service.sockets; i++) {
		if (service.given[i])
			continue;
		close_fd(LISTEN_FDS_START + (int)i);
		service.given[i] = true;
		closed++;
	}
	return closed;
}

int service_listen(const char *path, unsigned uid, unsigned mode)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;
	socklen_t length;
	mode_t mask;
	int r;

	if (fd < 0)
		return -errno;
	r = address_of(path, &address, &length);
	if (r < 0)
		return r;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	mask = umask(0777); /* nobody connects before the owner and mode are right */
	r = bind(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
	(void)umask(mask);
	if (r < 0)
		return r;
	if (uid != (unsigned)-1 && chown(path, uid, (gid_t)-1) < 0)
		return -errno;
	if (chmod(path, mode) < 0)
		return -errno;
	if (listen(fd, BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int service_option_number(const char *option, const char *text, unsigned min, unsigned max, unsigned *number)
{
	char *end;
	unsigned long found = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || found < min || found > max) {
		log_error("%s: expected %u to %u, found \"%s\"", option, min, max, text);
		return -EINVAL;
	}
	*number = (unsigned)found;
	return 0;
}

int service_user_id(const char *name, uid_t *uid)
{
	const struct passwd *account = getpwnam(name);

	if (!account)
		return log_errno(-ENOENT, "there is no user %s", name);
	*uid = account->pw_uid;
	return 0;
}
