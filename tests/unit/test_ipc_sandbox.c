/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox as a daemon enters it: each kind of row from both sides. Every attempt is a child of its own, for most of them end with SIGSYS. */
#include <grp.h>
#include <linux/netlink.h>
#include <pwd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "libipc/sandbox.h"
#include "tests/unit/unit.h"

#define PRIVILEGES_TABLE test_privileges
#define PRIVILEGES_FILE "tests/unit/sandbox.def"
#include "libipc/privileges.h"

/* The folders that PATH rows stand for, and what is beside them. */
struct places {
	struct folder folder;
	char read[64], write[64], other[64];
};

static void places_make(struct places *places)
{
	const char *const names[] = { "read", "write", "other" };
	char *const paths[] = { places->read, places->write, places->other };

	ck_assert_msg(getuid() == 0, "the sandbox is entered from root: run this test as root");
	places->folder = folder_new();
	ck_assert_int_eq(chmod(places->folder.path, 0755), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char file[16];

		(void)snprintf(paths[i], 64, "%s/%s", places->folder.path, names[i]);
		ck_assert_int_eq(mkdir(paths[i], 0777), 0);
		ck_assert_int_eq(chmod(paths[i], 0777), 0);
		(void)snprintf(file, sizeof(file), "%s/file", names[i]);
		file_put(&places->folder, file, "text", 4);
		ck_assert_int_eq(fchmodat(places->folder.fd, file, 0666, 0), 0);
	}
}

static void places_end(struct places *places)
{
	folder_removep(&places->folder);
}
#define _cleanup_places_ CLEANUP(places_end)

static int entered(const struct places *places)
{
	const struct sandbox_place where[] = { { "read", places->read }, { "write", places->write }, { NULL, NULL } };

	EXPECT(sandbox_enter(&test_privileges, NULL, where) == 0);
	return 0;
}

static int at(const char *folder, const char *name, int flags)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = openat(AT_FDCWD, path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	(void)close(fd);
	return 0;
}

static bool dies(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

/* -- Attempts that work ----------------------------------------------------------------------------------------------------------------- */

static int use_what_is_declared(void *arg)
{
	int sockets[2];

	EXPECT(entered(arg) == 0);
	EXPECT(syscall(SYS_getppid) > 0);
	EXPECT(syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS); /* absent is no death */
	sockets[0] = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	sockets[1] = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	EXPECT(sockets[0] >= 0 && sockets[1] >= 0);
	EXPECT(ioctl(sockets[0], 0x5401, NULL) == -1 && errno == ENOTTY);
	EXPECT(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	return 0;
}

static int look_at_oneself(void *arg)
{
	const struct passwd *nobody = getpwnam("nobody");
	uid_t uid[3];
	gid_t gid[3];
	uint32_t header[2] = { 0x20080522, 0 }; /* _LINUX_CAPABILITY_VERSION_3 */
	struct {
		uint32_t effective, permitted, inheritable;
	} caps[2];

	EXPECT(nobody);
	EXPECT(setgroups(2, (const gid_t[]){ 4, 27 }) == 0); /* as a login shell would have some */
	EXPECT(entered(arg) == 0);
	EXPECT(getresuid(&uid[0], &uid[1], &uid[2]) == 0 && getresgid(&gid[0], &gid[1], &gid[2]) == 0);
	for (unsigned i = 0; i < 3; i++)
		EXPECT(uid[i] == 65534 && gid[i] == 65534);
	EXPECT(getgroups(0, NULL) == 0);
	EXPECT(syscall(SYS_capget, header, caps) == 0);
	EXPECT(caps[0].permitted == 1U << CAP_NET_BIND_SERVICE && caps[0].effective == caps[0].permitted);
	EXPECT(caps[0].inheritable == 0 && caps[1].permitted == 0);
	EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	EXPECT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	for (int capability = 0; capability < 40; capability++)
		EXPECT(prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == (capability == CAP_NET_BIND_SERVICE) ||
		       prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == -1);
	return 0;
}

static int become_root_again(void *arg)
{
	EXPECT(entered(arg) == 0);
	EXPECT(setuid(0) == -1 && errno == EPERM);
	EXPECT(syscall(SYS_setresuid, 0, 0, 0) == -1 && errno == EPERM);
	EXPECT(syscall(SYS_setresuid, -1, 0, -1) == -1 && errno == EPERM);
	return 0;
}

static int touch_paths(void *arg)
{
	const struct places *places = arg;
	char made[128];

	EXPECT(entered(places) == 0);
	/* RO: read, and nothing else. */
	EXPECT(at(places->read, "file", O_RDONLY) == 0);
	EXPECT(at(places->read, "file", O_WRONLY) == -EACCES);
	EXPECT(at(places->read, "new", O_WRONLY | O_CREAT) == -EACCES);
	(void)snprintf(made, sizeof(made), "%s/file", places->read);
	EXPECT(unlinkat(AT_FDCWD, made, 0) == -1 && errno == EACCES);
	/* RW: files come and go; folders and links do not. */
	EXPECT(at(places->write, "file", O_RDWR) == 0);
	EXPECT(at(places->write, "new", O_WRONLY | O_CREAT) == 0);
	(void)snprintf(made, sizeof(made), "%s/new", places->write);
	EXPECT(unlinkat(AT_FDCWD, made, 0) == 0);
	EXPECT(mkdirat(AT_FDCWD, made, 0700) == -1 && errno == EACCES);
	/* What no row names is out of reach, however open its mode. */
	EXPECT(at(places->other, "file", O_RDONLY) == -EACCES);
	EXPECT(at("/etc", "passwd", O_RDONLY) == -EACCES);
	EXPECT(at("/proc/self", "status", O_RDONLY) == -EACCES);
	return 0;
}

static int no_signals_to_others(void *arg)
{
	pid_t parent = getppid();

	EXPECT(entered(arg) == 0);
	return syscall(SYS_tgkill, parent, parent, 0) == 0 ? 1 : 0; /* another uid: EPERM, whatever Landlock knows */
}

/* As the unit starts it: not root any more, its own group in the list (initgroups(3)), capabilities ambient. */
static int start_as_the_user(void *arg)
{
	const gid_t own = 65534;
	const struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { .effective = 1U << CAP_NET_BIND_SERVICE } };

	data[0].permitted = data[0].inheritable = data[0].effective;
	EXPECT(setgroups(1, &own) == 0 && setgid(own) == 0);
	EXPECT(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && setuid(65534) == 0);
	EXPECT(syscall(SYS_capset, &header, data) == 0);
	EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0);
	EXPECT(entered(arg) == 0);
	EXPECT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0) == 0);
	EXPECT(at(((const struct places *)arg)->read, "file", O_RDONLY) == 0);
	EXPECT(setuid(0) == -1);
	return 0;
}

static int start_with_groups(void *arg)
{
	const gid_t groups[] = { 65534, 65533 };
	bool own_too = arg;

	EXPECT(setgroups(own_too ? 2 : 1, own_too ? groups : groups + 1) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	EXPECT(sandbox_drop(&test_privileges, NULL) == -EPERM);
	return 0;
}

static int become_root_by_name(void *arg _unused_)
{
	EXPECT(sandbox_drop(&test_privileges, "root") == -EPERM);
	EXPECT(sandbox_drop(&test_privileges, "no-such-user-here") == -ENOENT);
	return 0;
}

START_TEST(what_is_declared_works)
{
	_cleanup_places_ struct places places;

	places_make(&places);
	ck_assert_exited_well(in_child(use_what_is_declared, &places));
}
END_TEST

START_TEST(nothing_is_left_of_root)
{
	_cleanup_places_ struct places places;

	places_make(&places);
	ck_assert_exited_well(in_child(look_at_oneself, &places));
	ck_assert_exited_well(in_child(become_root_again, &places));
}
END_TEST

START_TEST(paths_hold)
{
	_cleanup_places_ struct places places;

	places_make(&places);
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1U) < 0)
		ck_abort_msg("this kernel has no Landlock: PATH rows cannot be tried");
	ck_assert_exited_well(in_child(touch_paths, &places));
}
END_TEST

START_TEST(others_get_no_signals)
{
	_cleanup_places_ struct places places;

	places_make(&places);
	ck_assert_exited_well(in_child(no_signals_to_others, &places));
}
END_TEST

START_TEST(the_user_itself_can_start)
{
	_cleanup_places_ struct places places;

	places_make(&places);
	ck_assert_exited_well(in_child(start_as_the_user, &places));
	ck_assert_exited_well(in_child(start_with_groups, NULL));
	ck_assert_exited_well(in_child(start_with_groups, &places));
}
END_TEST

START_TEST(root_is_no_user_to_become)
{
	ck_assert_exited_well(in_child(become_root_by_name, NULL));
}
END_TEST

/* -- Attempts that kill ------------------------------------------------------------------------------------------------------------------- */

enum attempt {
	UNDECLARED_CALL, UNDECLARED_FAMILY, UNDECLARED_PROTOCOL, OTHER_IOCTL, EXECUTABLE_MAP, MAKE_EXECUTABLE, EXECUTE, TRACE, FORK, OLD_ABI,
	ATTEMPTS
};

struct trial {
	const struct places *places;
	enum attempt attempt;
};

static int attempt(void *arg)
{
	static char *const nothing[] = { NULL };
	const struct trial *trial = arg;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(page != MAP_FAILED);
	EXPECT(entered(trial->places) == 0);
	switch (trial->attempt) {
	case UNDECLARED_CALL: (void)syscall(SYS_getcwd, page, 100); break;
	case UNDECLARED_FAMILY: (void)socket(AF_INET, SOCK_STREAM, 0); break;
	case UNDECLARED_PROTOCOL: (void)socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER); break;
	case OTHER_IOCTL: (void)ioctl(0, 0x8905, page); break;
	case EXECUTABLE_MAP: (void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); break;
	case MAKE_EXECUTABLE: (void)mprotect(page, 4096, PROT_READ | PROT_EXEC); break;
	case EXECUTE: (void)syscall(SYS_execve, "/bin/true", nothing, nothing); break;
	case TRACE: (void)syscall(SYS_ptrace, 0, 0, 0, 0); break;
	case FORK: (void)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); break;
	case OLD_ABI: (void)syscall(0x40000000 | SYS_getppid); break; /* x32's numbers are no way around */
	case ATTEMPTS: break;
	}
	return 0;
}

START_TEST(what_is_not_declared_kills)
{
	_cleanup_places_ struct places places;

	places_make(&places);
	for (enum attempt i = 0; i < ATTEMPTS; i++) {
		struct trial trial = { &places, i };
		int status = in_child(attempt, &trial);

		ck_assert_msg(dies(status), "attempt %d ended with status %#x", (int)i, (unsigned)status);
	}
}
END_TEST

UNIT_MAIN("ipc: sandbox", what_is_declared_works, nothing_is_left_of_root, paths_hold, others_get_no_signals, the_user_itself_can_start,
	  root_is_no_user_to_become, what_is_not_declared_kills)
