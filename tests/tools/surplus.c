/* SPDX-License-Identifier: Apache-2.0 */
/*
 * surplus: a stand-in for a daemon that has one right too many, so that `loopback audit` can be seen to name it.
 *
 * It is called by the name of the process that it stands in for, as root, and ends up exactly as that process's table says
 * (privileges/tables.h; Landlock and the filter are the daemons' own, libipc/sandbox.h) but for the one deviation that is named.
 * It says "ready" and waits for a signal.
 *
 *   netd [DEVIATION[=VALUE]]
 *
 *   uid gid saved-uid group      another user, another group, root's uid to go back to, one group more
 *   effective permitted inheritable ambient bounding
 *                                a capability more in this set, and in those without which it cannot be there
 *   new-privs dumpable core      no no_new_privs; memory open to its user; core dumps
 *   no-filter filter=CALL loose-mmap loose-socket older thread
 *                                none; one call, one argument, one family more; one row less; a thread without one
 *   socket=FAMILY[/PROTOCOL] open=PATH path=PATH timer memory-code child
 *                                something open, mapped or started that should not be
 *   own-network                  the network namespace that a unit may give it
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "libipc/log.h"
#include "privileges/tables.h"

#define ROWS_MAX 512
#define SPARE_CAPABILITY CAP_SYS_NICE
#define SPARE_ID 65534 /* nobody */

struct plan {
	const struct privileges *privileges;
	const char *deviation, *value;
	uid_t uid; /* the table's user's */
	gid_t gid;
	pthread_barrier_t dropped; /* both threads have, where there are two */
};

static bool is(const struct plan *plan, const char *deviation)
{
	return strcmp(plan->deviation, deviation) == 0;
}

static _noreturn_ void fail(const char *what)
{
	(void)log_errno(errno, "surplus: %s", what);
	exit(1);
}

/* -- Identity. By bare system calls: the C library's would change every thread. ---------------------------------------------- */

static uint64_t declared_capabilities(const struct privileges *privileges)
{
	uint64_t set = 0;

	for (size_t i = 0; i < privileges->count; i++)
		if (privileges->rows[i].kind == PRIVILEGE_CAP)
			set |= 1ULL << privileges->rows[i].number;
	return set;
}

static void capabilities_set(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
		{ (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
	};

	if (syscall(SYS_capset, &header, data) < 0)
		fail("capset");
}

static void drop_bounding(uint64_t kept)
{
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		if (!(kept >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			fail("bounding set");
}

static void drop_user(const struct plan *plan)
{
	const gid_t group = SPARE_ID;
	uid_t uid = is(plan, "uid") ? SPARE_ID : plan->uid;
	gid_t gid = is(plan, "gid") ? SPARE_ID : plan->gid;

	if (syscall(SYS_setgroups, is(plan, "group") ? 1 : 0, &group) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0)
		fail("groups");
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setresuid, uid, uid, is(plan, "saved-uid") ? 0 : uid) < 0)
		fail("user");
}

static void drop(const struct plan *plan)
{
	const uint64_t declared = declared_capabilities(plan->privileges), spare = 1ULL << SPARE_CAPABILITY;
	const struct rlimit no_core = { 0, 0 };
	uint64_t effective = declared, permitted = declared, inheritable = 0;

	if (!is(plan, "core") && setrlimit(RLIMIT_CORE, &no_core) < 0)
		fail("core limit");
	drop_bounding(is(plan, "bounding") ? declared | spare : declared);
	drop_user(plan);
	if (is(plan, "effective"))
		effective = permitted = declared | spare;
	else if (is(plan, "permitted"))
		permitted = declared | spare;
	else if (is(plan, "inheritable") || is(plan, "ambient"))
		inheritable = declared;
	capabilities_set(effective, permitted, inheritable);
	if (is(plan, "ambient") && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) < 0)
		fail("ambient set");
	if (!is(plan, "new-privs") && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail("no_new_privs");
	if (prctl(PR_SET_DUMPABLE, is(plan, "dumpable") ? 1 : 0, 0, 0, 0) < 0)
		fail("dumpable");
}

/* -- The filter: the table's, or the table's and a row more ------------------------------------------------------------------ */

static void filter(const struct plan *plan)
{
	static struct privilege rows[ROWS_MAX];
	struct privileges more = { rows, plan->privileges->count };
	struct privilege *extra = &rows[more.count];

	if (is(plan, "no-filter"))
		return;
	if (more.count + 1 > ROWS_MAX)
		fail("table");
	memcpy(rows, plan->privileges->rows, more.count * sizeof(rows[0]));
	if (is(plan, "filter"))
		*extra = (struct privilege){ .kind = PRIVILEGE_SYS, .name = plan->value,
					     .number = seccomp_syscall_resolve_name(plan->value) };
	else if (is(plan, "loose-mmap"))
		*extra = (struct privilege){ .kind = PRIVILEGE_SYS, .name = "mmap", .number = SCMP_SYS(mmap) };
	else if (is(plan, "loose-socket"))
		*extra = (struct privilege){ .kind = PRIVILEGE_SOCKET, .name = "AF_PACKET", .number = AF_PACKET,
					     .protocol = PROTOCOL_ANY };
	more.count += extra->name ? 1 : 0;
	while (is(plan, "older") && rows[--more.count].kind != PRIVILEGE_SYS)
		continue;
	if (sandbox_filter(&more) < 0)
		exit(1);
}

/* Dropped as the first thread is, and in no filter. */
static void *unfiltered_thread(void *arg)
{
	struct plan *plan = arg;

	drop(plan);
	(void)pthread_barrier_wait(&plan->dropped);
	(void)poll(NULL, 0, -1);
	return NULL;
}

/*
 * Load the filter for every thread from one that keeps CAP_SYS_ADMIN, because whoever has no no_new_privs may not load one for
 * itself. The kernel gives it to the others (SECCOMP_FILTER_FLAG_TSYNC), and the thread ends.
 */
static void *filter_for_all(void *arg)
{
	struct plan *plan = arg;
	struct sock_filter *code;
	struct sock_fprog program;
	size_t count;

	(void)pthread_barrier_wait(&plan->dropped);
	if (sandbox_program(plan->privileges, &code, &count) < 0)
		exit(1);
	program = (struct sock_fprog){ .len = (unsigned short)count, .filter = code };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
		fail("filter of all threads");
	return NULL;
}

/* -- Things that are open, mapped or started --------------------------------------------------------------------------------- */

static void open_socket(const char *value)
{
	char *end;
	int family = (int)strtol(value, &end, 10);

	if (socket(family, SOCK_RAW | SOCK_CLOEXEC, *end == '/' ? (int)strtol(end + 1, NULL, 10) : 0) < 0 &&
	    socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0) < 0)
		fail("socket");
}

static void hold(const struct plan *plan)
{
	pid_t parent = getpid(), child;

	if (is(plan, "socket"))
		open_socket(plan->value);
	else if (is(plan, "open") && open(plan->value, O_RDWR | O_CLOEXEC) < 0)
		fail(plan->value);
	else if (is(plan, "path") && open(plan->value, O_PATH | O_CLOEXEC) < 0)
		fail(plan->value);
	else if (is(plan, "timer") && timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC) < 0)
		fail("timer");
	else if (is(plan, "own-network") && unshare(CLONE_NEWNET) < 0)
		fail("network namespace");
	else if (is(plan, "memory-code") &&
		 mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		fail("memory");
	if (!is(plan, "child"))
		return;
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		/* Not by PR_SET_PDEATHSIG: a parent of another user may send no signal, even by its death. */
		while (getppid() == parent)
			(void)poll(NULL, 0, 50);
		_exit(0);
	}
}

/* -- In order ---------------------------------------------------------------------------------------------------------------- */

static void enter_without_no_new_privs(struct plan *plan)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, filter_for_all, plan) != 0)
		fail("thread");
	if (sandbox_paths(plan->privileges, NULL) < 0) /* takes no_new_privs or CAP_SYS_ADMIN */
		exit(1);
	drop(plan);
	(void)pthread_barrier_wait(&plan->dropped);
	(void)pthread_join(thread, NULL);
}

static void enter(struct plan *plan)
{
	pthread_t thread;
	bool beside = is(plan, "thread");

	if (beside && pthread_create(&thread, NULL, unfiltered_thread, plan) != 0)
		fail("thread");
	drop(plan);
	if (beside)
		(void)pthread_barrier_wait(&plan->dropped);
	if (sandbox_paths(plan->privileges, NULL) < 0)
		exit(1);
	filter(plan);
}

int main(int argc, char **argv)
{
	const struct process *process = processes;
	const struct passwd *account;
	struct plan plan = { .deviation = "", .value = "" };

	log_open("surplus");
	while (process->name && strcmp(process->name, basename(argv[0])) != 0)
		process++;
	if (!process->name || argc > 2)
		return 2;
	plan.privileges = process->privileges;
	account = getpwnam(plan.privileges->rows[0].path);
	if (!account)
		fail(plan.privileges->rows[0].path);
	plan.uid = account->pw_uid;
	plan.gid = account->pw_gid;
	if (argc == 2)
		plan.deviation = strsep(&argv[1], "=");
	if (argc == 2 && argv[1])
		plan.value = argv[1];
	if (pthread_barrier_init(&plan.dropped, NULL, 2) != 0)
		fail("barrier");
	hold(&plan);
	if (is(&plan, "new-privs"))
		enter_without_no_new_privs(&plan);
	else
		enter(&plan);
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		return 1;
	(void)poll(NULL, 0, -1);
	return 0;
}
