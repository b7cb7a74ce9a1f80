/* SPDX-License-Identifier: Apache-2.0 */
#include "wg-launch/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "libipc/log.h"

/* -- Landlock ------------------------------------------------------------------------------------------------------------------ */

#define FS_RIGHTS_ABI_1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define FS_REFER (1ULL << 13)    /* ABI 2 */
#define FS_TRUNCATE (1ULL << 14) /* ABI 3 */
#define NET_TCP (3ULL)           /* ABI 4: bind and connect; a tunnel speaks UDP */
#define SCOPE_ALL (3ULL)         /* ABI 6: abstract sockets of others, signals to others */

/* struct landlock_ruleset_attr, of which the headers of older distributions know only the beginning */
struct ruleset {
	uint64_t fs, net, scoped;
};

static uint64_t rights_known(long abi)
{
	return FS_RIGHTS_ABI_1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0);
}

static int path_allow(int ruleset, const char *path)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE };
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat status;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (S_ISDIR(status.st_mode))
		rule.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
	rule.parent_fd = fd;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

int filter_paths(const struct privileges *privileges, const char *program)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	const struct ruleset handled = { .fs = rights_known(abi), .net = NET_TCP, .scoped = SCOPE_ALL };
	size_t size = abi >= 6 ? sizeof(handled) : abi >= 4 ? offsetof(struct ruleset, scoped) : sizeof(handled.fs);
	_cleanup_close_ int ruleset = -1;
	int r;

	if (abi < 0) {
		log_warning("this kernel has no Landlock (%s); only the unit's mount namespace limits paths", strerror(errno));
		return 0;
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &handled, size, 0);
	if (ruleset < 0)
		return log_errno(errno, "cannot create a Landlock ruleset");
	r = path_allow(ruleset, program);
	for (size_t i = 0; r == 0 && i < privileges->count; i++)
		if (privileges->rows[i].kind == PRIVILEGE_PATH)
			r = path_allow(ruleset, privileges->rows[i].path);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	return r < 0 ? log_errno(r, "cannot limit paths with Landlock") : 0;
}

/* -- seccomp ------------------------------------------------------------------------------------------------------------------- */

/* Neither wireguard-go nor Go's runtime or glibc ever try these; who does has taken the process over. */
static const int deadly[] = {
	SCMP_SYS(execveat),	     SCMP_SYS(fork),		 SCMP_SYS(vfork),	    SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),  SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd),    SCMP_SYS(kcmp),
	SCMP_SYS(mount),	     SCMP_SYS(umount2),		 SCMP_SYS(move_mount),	    SCMP_SYS(fsopen),
	SCMP_SYS(open_tree),	     SCMP_SYS(pivot_root),	 SCMP_SYS(chroot),	    SCMP_SYS(unshare),
	SCMP_SYS(setns),	     SCMP_SYS(bpf),		 SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),    SCMP_SYS(init_module),	 SCMP_SYS(finit_module),    SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),	     SCMP_SYS(kexec_file_load),	 SCMP_SYS(add_key),	    SCMP_SYS(request_key),
	SCMP_SYS(keyctl),	     SCMP_SYS(setuid),		 SCMP_SYS(setgid),	    SCMP_SYS(setreuid),
	SCMP_SYS(setregid),	     SCMP_SYS(setresuid),	 SCMP_SYS(setresgid),	    SCMP_SYS(setfsuid),
	SCMP_SYS(setfsgid),	     SCMP_SYS(setgroups),	 SCMP_SYS(capset),	    SCMP_SYS(personality),
	SCMP_SYS(swapon),	     SCMP_SYS(reboot),		 SCMP_SYS(settimeofday),    SCMP_SYS(clock_settime),
	SCMP_SYS(open_by_handle_at), SCMP_SYS(iopl),		 SCMP_SYS(ioperm),	    SCMP_SYS(quotactl),
};

static int socket_allow(scmp_filter_ctx filter, const struct privilege *row)
{
	const struct scmp_arg_cmp compare[] = {
		SCMP_CMP(0, SCMP_CMP_EQ, (uint64_t)row->number),
		SCMP_CMP(2, SCMP_CMP_EQ, (uint64_t)row->protocol),
	};

	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), row->protocol == PROTOCOL_ANY ? 1 : 2, compare);
}

static int call_allow(scmp_filter_ctx filter, const struct privilege *row)
{
	const struct scmp_arg_cmp equal = SCMP_CMP(row->argument, SCMP_CMP_EQ, row->value);
	const struct scmp_arg_cmp masked = SCMP_CMP(row->argument, SCMP_CMP_MASKED_EQ, row->mask, row->value);
	unsigned count = row->compare == COMPARE_NONE ? 0 : 1;

	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, row->number, count, row->compare == COMPARE_MASK ? &masked : &equal);
}

static int row_allow(scmp_filter_ctx filter, const struct privilege *row)
{
	int r = 0;

	if (row->kind == PRIVILEGE_SOCKET)
		r = socket_allow(filter, row);
	else if (row->kind == PRIVILEGE_SYS)
		r = call_allow(filter, row);
	return r == -EDOM ? 0 : r; /* this architecture has no such system call */
}

static int fill(scmp_filter_ctx filter, const struct privileges *privileges, const char *program)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < privileges->count; i++)
		r = row_allow(filter, &privileges->rows[i]);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(deadly); i++) {
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
		r = r == -EDOM ? 0 : r;
	}
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(0), SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, SIOCSIFMTU));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(execve), 1, SCMP_A0(SCMP_CMP_EQ, (uintptr_t)program));
	return r;
}

/* @param out receives the filter; the caller's: seccomp_release() */
static int filter_make(const struct privileges *privileges, const char *program, scmp_filter_ctx *out)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int r = filter ? fill(filter, privileges, program) : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
	if (r == 0)
		*out = filter;
	else if (filter)
		seccomp_release(filter);
	return r;
}

int filter_calls(const struct privileges *privileges, const char *program)
{
	scmp_filter_ctx filter;
	int r = filter_make(privileges, program, &filter);

	if (r == 0) {
		r = seccomp_load(filter);
		seccomp_release(filter);
	}
	return r < 0 ? log_errno(r, "cannot load wireguard-go's seccomp filter") : 0;
}

int filter_program(const struct privileges *privileges, const char *program, struct sock_filter **code, size_t *count)
{
	scmp_filter_ctx filter;
	int r = filter_make(privileges, program, &filter);

	if (r == 0) {
		r = sandbox_export(filter, code, count);
		seccomp_release(filter);
	}
	return r < 0 ? log_errno(r, "cannot make wireguard-go's seccomp filter") : 0;
}
