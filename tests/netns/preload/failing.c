/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into netd: has one of the calls fail by which it changes anything, or ends it there. tests/netns/test_netd_injected.py writes the plan, into a
 * file that is mapped before the sandbox closes.
 *
 * Counted are: netlink messages, operations of wireguard-go's configuration protocol, and what is written and waited for on the disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

enum mode { ERROR_BEFORE = 1, ERROR_AFTER, ERROR_FROM_HERE, KILL_BEFORE, KILL_AFTER };

struct plan {
	uint32_t mode; /* 0: off */
	uint32_t at;   /* the number of the call, from 0 */
	uint32_t count;
	uint32_t hits;
	char name[16]; /* of the first call hit */
};

static volatile struct plan *plan;
static int reset = -1; /* a connection that was reset: it has an end to be read, too */

__attribute__((constructor)) static void map_plan(void)
{
	const char *path = getenv("FAILING_PLAN");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at != MAP_FAILED)
		plan = at;
	if (fd >= 0)
		(void)close(fd);
}

static void end_here(void)
{
	(void)kill(getpid(), SIGKILL);
	for (;;)
		;
}

/* @return is this call to fail after it was, or without having been, carried out? */
static enum mode turn(const char *name)
{
	uint32_t number;

	if (!plan || !plan->mode)
		return 0;
	number = plan->count++;
	if (number != plan->at && !(plan->mode == ERROR_FROM_HERE && number > plan->at))
		return 0;
	if (plan->hits++ == 0)
		(void)strncpy((char *)(uintptr_t)plan->name, name, sizeof(plan->name) - 1);
	if (plan->mode == KILL_BEFORE)
		end_here();
	return plan->mode;
}

/* Around a call: RESULT is its value if it was carried out. */
#define FAIL(type, name, error, counted, call) FAIL_WITH(type, name, error, counted, call, (void)0)
#define FAIL_WITH(type, name, error, counted, call, besides)           \
	do {                                                           \
		enum mode mode = (counted) ? turn(name) : 0;           \
		type result;                                           \
		if (mode == ERROR_BEFORE || mode == ERROR_FROM_HERE) { \
			besides;                                       \
			errno = (error);                               \
			return (type)-1;                               \
		}                                                      \
		result = (call);                                       \
		if (mode == KILL_AFTER)                                \
			end_here();                                    \
		if (mode == ERROR_AFTER) {                             \
			errno = (error);                               \
			return (type)-1;                               \
		}                                                      \
		return result;                                         \
	} while (0)

#define NEXT(name, type, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

ssize_t sendto(int fd, const void *bytes, size_t n, int flags, const struct sockaddr *to, socklen_t to_n)
{
	FAIL(ssize_t, "netlink", ENOBUFS, to && to->sa_family == AF_NETLINK,
	     NEXT("sendto", ssize_t, int, const void *, size_t, int, const struct sockaddr *, socklen_t)(fd, bytes, n, flags, to, to_n));
}

ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
	FAIL_WITH(ssize_t, "wireguard-go", ECONNRESET, n > 6 && (memcmp(bytes, "set=1\n", 6) == 0 || memcmp(bytes, "get=1\n", 6) == 0),
		  NEXT("send", ssize_t, int, const void *, size_t, int)(fd, bytes, n, flags), reset = fd);
}

ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
	return fd == reset ? 0 : NEXT("recv", ssize_t, int, void *, size_t, int)(fd, bytes, n, flags);
}

int close(int fd)
{
	reset = fd == reset ? -1 : reset;
	return NEXT("close", int, int)(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at)
{
	FAIL(ssize_t, "pwrite", ENOSPC, 1, NEXT("pwrite64", ssize_t, int, const void *, size_t, off64_t)(fd, bytes, n, at));
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
	return pwrite64(fd, bytes, n, at);
}

int fdatasync(int fd)
{
	FAIL(int, "fdatasync", EIO, 1, NEXT("fdatasync", int, int)(fd));
}

int fsync(int fd)
{
	FAIL(int, "fsync", EIO, 1, NEXT("fsync", int, int)(fd));
}

int ftruncate64(int fd, off64_t n)
{
	FAIL(int, "ftruncate", EIO, 1, NEXT("ftruncate64", int, int, off64_t)(fd, n));
}

int ftruncate(int fd, off_t n)
{
	return ftruncate64(fd, n);
}

int fallocate64(int fd, int mode, off64_t at, off64_t n)
{
	FAIL(int, "fallocate", ENOSPC, 1, NEXT("fallocate64", int, int, int, off64_t, off64_t)(fd, mode, at, n));
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
	return fallocate64(fd, mode, at, n);
}

int renameat(int from, const char *old, int to, const char *new)
{
	FAIL(int, "renameat", EIO, 1, NEXT("renameat", int, int, const char *, int, const char *)(from, old, to, new));
}
