/* SPDX-License-Identifier: Apache-2.0 */
/* What the service manager passes, and what is said to it. Each case in a child: the sockets have to be numbers 3, 4, 5. */
#include <sys/socket.h>
#include <sys/un.h>

#include "libipc/channel.h"
#include "libipc/loop.h"
#include "libipc/service.h"
#include "tests/unit/unit.h"

/* A socket with a number of its own. @return 0; 1 */
static int socket_at(int number, int type, bool listening)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX }; /* no name: the kernel gives an abstract one */
	int fd = socket(AF_UNIX, type, 0);

	EXPECT(fd >= 0);
	EXPECT(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
	EXPECT(!listening || listen(fd, 1) == 0);
	if (fd != number) {
		EXPECT(dup2(fd, number) == number);
		EXPECT(close(fd) == 0);
	}
	return 0;
}

static int environment(const char *names, int pid, const char *count)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", pid);
	EXPECT(setenv("LISTEN_PID", text, 1) == 0 && setenv("LISTEN_FDS", count, 1) == 0 && setenv("LISTEN_FDNAMES", names, 1) == 0);
	return 0;
}

static int passed_by_name(void *arg _unused_)
{
	EXPECT(socket_at(3, SOCK_SEQPACKET, true) == 0);
	EXPECT(socket_at(4, SOCK_SEQPACKET, true) == 0);
	EXPECT(socket_at(5, SOCK_SEQPACKET, true) == 0);
	EXPECT(environment("documents:view:admin", getpid(), "3") == 0);
	EXPECT(service_socket("view") == 4);
	EXPECT(fcntl(3, F_GETFD) == FD_CLOEXEC && fcntl(5, F_GETFD) == FD_CLOEXEC);
	EXPECT(service_socket("view") == -ENOENT); /* given out once */
	EXPECT(service_socket("tunnel") == -ENOENT);
	EXPECT(service_socket("doc") == -ENOENT); /* not by its beginning */
	EXPECT(service_socket("documents") == 3);
	EXPECT(service_sockets_close_rest() == 1);
	EXPECT(fcntl(5, F_GETFD) == -1 && fcntl(3, F_GETFD) == FD_CLOEXEC);
	EXPECT(service_socket("admin") == -ENOENT);
	return 0;
}

static int two_of_a_name(void *arg _unused_)
{
	EXPECT(socket_at(3, SOCK_SEQPACKET, true) == 0);
	EXPECT(socket_at(4, SOCK_SEQPACKET, true) == 0);
	EXPECT(environment("view:view", getpid(), "2") == 0);
	EXPECT(service_socket("view") == 3);
	EXPECT(service_socket("view") == 4);
	EXPECT(service_socket("view") == -ENOENT);
	EXPECT(service_sockets_close_rest() == 0);
	return 0;
}

static int of_another_type(void *arg _unused_)
{
	EXPECT(socket_at(3, SOCK_STREAM, true) == 0);
	EXPECT(socket_at(4, SOCK_SEQPACKET, false) == 0);
	EXPECT(socket_at(5, SOCK_DGRAM, false) == 0);
	EXPECT(environment("stream:deaf:datagram:gone", getpid(), "4") == 0);
	(void)close(6);
	EXPECT(service_socket("stream") == -EPROTOTYPE);
	EXPECT(service_socket("deaf") == -EPROTOTYPE);
	EXPECT(service_socket("datagram") == -EPROTOTYPE);
	EXPECT(service_socket("gone") == -EPROTOTYPE);
	return 0;
}

static int for_somebody_else(void *arg _unused_)
{
	EXPECT(socket_at(3, SOCK_SEQPACKET, true) == 0);
	EXPECT(environment("view", getpid() + 1, "1") == 0);
	EXPECT(service_socket("view") == -ENOENT);
	EXPECT(service_sockets_close_rest() == 0);
	EXPECT(fcntl(3, F_GETFD) >= 0);
	return 0;
}

static int with_nonsense(void *arg)
{
	EXPECT(socket_at(3, SOCK_SEQPACKET, true) == 0);
	EXPECT(environment("view", getpid(), arg) == 0);
	EXPECT(service_socket("view") == -ENOENT);
	return 0;
}

static int without_names(void *arg _unused_)
{
	EXPECT(socket_at(3, SOCK_SEQPACKET, true) == 0);
	EXPECT(environment("", getpid(), "1") == 0);
	EXPECT(unsetenv("LISTEN_FDNAMES") == 0);
	EXPECT(service_socket("view") == -ENOENT);
	EXPECT(service_sockets_close_rest() == 1);
	return 0;
}

START_TEST(sockets_are_found_by_their_names)
{
	ck_assert_exited_well(in_child(passed_by_name, NULL));
	ck_assert_exited_well(in_child(two_of_a_name, NULL));
	ck_assert_exited_well(in_child(without_names, NULL));
}
END_TEST

START_TEST(a_socket_of_another_type_is_refused)
{
	ck_assert_exited_well(in_child(of_another_type, NULL));
}
END_TEST

START_TEST(sockets_for_another_process_are_left_alone)
{
	ck_assert_exited_well(in_child(for_somebody_else, NULL));
}
END_TEST

START_TEST(nonsense_in_the_environment_is_nothing_passed)
{
	static char counts[][24] = { "", "-1", "x", "1x", "99999999999999999999999", " 1" };

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		ck_assert_exited_well(in_child(with_nonsense, counts[i]));
}
END_TEST

/* -- Notifications ------------------------------------------------------------------------------------------------------------------------ */

struct manager {
	struct folder folder;
	struct sockaddr_un address;
	socklen_t length;
	int fd;
};

static void manager_open(struct manager *manager, bool abstract)
{
	char name[64];

	*manager = (struct manager){ .folder = folder_new(), .address.sun_family = AF_UNIX };
	(void)snprintf(name, sizeof(name), "%s/notify", manager->folder.path);
	memcpy(manager->address.sun_path, name, strlen(name));
	manager->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	if (abstract) {
		manager->address.sun_path[0] = '\0';
		name[0] = '@';
	}
	manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(manager->fd, (struct sockaddr *)&manager->address, manager->length), 0);
	ck_assert_int_eq(setenv("NOTIFY_SOCKET", name, 1), 0);
}

static void manager_end(struct manager *manager)
{
	(void)close_fd(manager->fd);
	folder_removep(&manager->folder);
}
#define _cleanup_manager_ CLEANUP(manager_end)

static void heard(const struct manager *manager, const char *expected)
{
	char text[64];
	ssize_t n = recv(manager->fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	ck_assert_str_eq(text, expected);
}

START_TEST(the_service_manager_hears_us)
{
	_cleanup_manager_ struct manager manager;

	manager_open(&manager, false);
	ck_assert_int_eq(service_open(), 0);
	ck_assert_int_ge(service_notify_fd(), 0);
	service_notify("READY=1");
	heard(&manager, "READY=1");
	/* Connected once: the path is not looked up again. */
	ck_assert_int_eq(unlink(manager.address.sun_path), 0);
	service_notify("STOPPING=1");
	heard(&manager, "STOPPING=1");
	(void)close(service_notify_fd());
}
END_TEST

START_TEST(an_abstract_service_manager_hears_us)
{
	_cleanup_manager_ struct manager manager;

	manager_open(&manager, true);
	ck_assert_int_eq(service_open(), 0);
	service_notify("READY=1");
	heard(&manager, "READY=1");
	(void)close(service_notify_fd());
}
END_TEST

START_TEST(without_a_service_manager_nothing_is_said)
{
	char path[200];

	ck_assert_int_eq(unsetenv("NOTIFY_SOCKET"), 0);
	ck_assert_int_eq(service_open(), 0);
	ck_assert_int_eq(service_notify_fd(), -1);
	service_notify("READY=1");
	ck_assert_int_eq(setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1), 0);
	ck_assert_int_eq(service_open(), -ENOENT);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(setenv("NOTIFY_SOCKET", path, 1), 0);
	ck_assert_int_eq(service_open(), -ENAMETOOLONG);
}
END_TEST

START_TEST(the_watchdog_is_fed_if_it_is_ours)
{
	_cleanup_manager_ struct manager manager;
	_cleanup_(loop_free) struct loop *loop = NULL;
	char pid[16];

	manager_open(&manager, false);
	ck_assert_int_eq(service_open(), 0);
	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_uint_eq(service_watchdog_usec(), 0);
	ck_assert_int_eq(setenv("WATCHDOG_USEC", "40000", 1), 0);
	ck_assert_uint_eq(service_watchdog_usec(), 40000);
	(void)snprintf(pid, sizeof(pid), "%d", getpid() + 1);
	ck_assert_int_eq(setenv("WATCHDOG_PID", pid, 1), 0);
	ck_assert_uint_eq(service_watchdog_usec(), 0);
	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	ck_assert_int_eq(setenv("WATCHDOG_PID", pid, 1), 0);
	ck_assert_int_eq(loop_watchdog(loop), 0);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t begun = loop_now_ms();

		ck_assert_int_eq(loop_once(loop, 1000), 0); /* woken by the watchdog's timer, at half of 40 ms */
		ck_assert_uint_lt(loop_now_ms() - begun, 500);
		heard(&manager, "WATCHDOG=1");
	}
	(void)close(service_notify_fd());
}
END_TEST

/* -- Listening by ourselves ----------------------------------------------------------------------------------------------------------------- */

START_TEST(a_socket_of_our_own_has_its_owner_and_mode)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct stat stat;
	char path[64];
	int fd, client;

	(void)snprintf(path, sizeof(path), "%s/view", folder.path);
	file_put(&folder, "view", "stale", 5);
	for (unsigned i = 0; i < 2; i++) { /* the second replaces the first */
		fd = service_listen(path, 65534, 0660);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(fstatat(folder.fd, "view", &stat, 0), 0);
		ck_assert(S_ISSOCK(stat.st_mode));
		ck_assert_uint_eq(stat.st_mode & 07777, 0660);
		ck_assert_uint_eq(stat.st_uid, 65534);
		client = channel_dial(path);
		ck_assert_int_ge(client, 0);
		(void)close(client);
		(void)close(fd);
	}
	ck_assert_int_eq(service_listen("/nonexistent/view", (unsigned)-1, 0600), -ENOENT);
	ck_assert_int_eq(service_listen("", (unsigned)-1, 0600), -ENAMETOOLONG);
}
END_TEST

UNIT_MAIN("ipc: service", sockets_are_found_by_their_names, a_socket_of_another_type_is_refused,
	  sockets_for_another_process_are_left_alone, nonsense_in_the_environment_is_nothing_passed, the_service_manager_hears_us,
	  an_abstract_service_manager_hears_us, without_a_service_manager_nothing_is_said, the_watchdog_is_fed_if_it_is_ours,
	  a_socket_of_our_own_has_its_owner_and_mode)
