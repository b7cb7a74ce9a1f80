/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <pwd.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "libipc/log.h"

#define CAPABILITY_LAST 63 /* the kernel says -EINVAL beyond its own last */

static const struct privilege *process_row(const struct privileges *privileges)
{
	return &privileges->rows[0];
}

/* -- Capabilities (capabilities(7)), by system call: libcap would be one library more for three calls. ---------------------------- */

static int capabilities_set(uint64_t kept)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ .effective = (uint32_t)kept, .permitted = (uint32_t)kept },
		{ .effective = (uint32_t)(kept >> 32), .permitted = (uint32_t)(kept >> 32) },
	};

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int capabilities_get(uint64_t *permitted, uint64_t *inheritable)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	*permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
	*inheritable = (uint64_t)data[1].inheritable << 32 | data[0].inheritable;
	return 0;
}

static uint64_t capabilities_declared(const struct privileges *privileges)
{
	uint64_t kept = 0;

	for (size_t i = 0; i < privileges->count; i++)
		if (privileges->rows[i].kind == PRIVILEGE_CAP)
			kept |= 1ULL << privileges->rows[i].number;
	return kept;
}

/* Without CAP_SETPCAP (started as the user itself) the bounding set is the unit's business; no_new_privs makes it moot. */
static int bounding_drop(uint64_t kept)
{
	for (int capability = 0; capability <= CAPABILITY_LAST; capability++) {
		int bound = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);

		if (bound < 0)
			return 0; /* the kernel knows no more of them */
		if (bound == 0 || (kept & (1ULL << capability)))
			continue;
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			return geteuid() == 0 ? -errno : 0;
	}
	return 0;
}

/* -- Dropping --------------------------------------------------------------------------------------------------------------------- */

static int become(const char *user)
{
	const struct passwd *account = getpwnam(user);

	if (!account) {
		log_error("there is no user %s to become; install the package's sysusers.d file, or say --user", user);
		return -ENOENT;
	}
	if (account->pw_uid == 0 || account->pw_gid == 0) {
		log_error("user %s is root or in root's group; nothing of ours runs as that", user);
		return -EPERM;
	}
	if (setgroups(0, NULL) < 0)
		return log_errno(errno, "cannot drop supplementary groups");
	if (setresgid(account->pw_gid, account->pw_gid, account->pw_gid) < 0)
		return log_errno(errno, "cannot become group %u", (unsigned)account->pw_gid);
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return log_errno(errno, "cannot keep capabilities across the change of user");
	if (setresuid(account->pw_uid, account->pw_uid, account->pw_uid) < 0)
		return log_errno(errno, "cannot become user %s", user);
	return 0;
}

/* A service manager's User= leaves the user's own group in the list (initgroups(3)), where it gives nothing that the gid does not. */
static bool has_other_groups(void)
{
	gid_t group = 0;
	int count = getgroups(1, &group); /* EINVAL: there are more */

	return count < 0 || (count == 1 && group != getegid());
}

/* Trust nothing that was returned: try to get it back. */
static int prove(uint64_t kept)
{
	uint64_t permitted, inheritable;
	uid_t uid[3];
	gid_t gid[3];

	if (setresuid(0, 0, 0) == 0 || setuid(0) == 0 || seteuid(0) == 0)
		return -ENOTRECOVERABLE;
	if (setresgid(0, 0, 0) == 0 || setgroups(0, NULL) == 0)
		return -ENOTRECOVERABLE;
	if (getresuid(&uid[0], &uid[1], &uid[2]) < 0 || getresgid(&gid[0], &gid[1], &gid[2]) < 0)
		return -errno;
	for (unsigned i = 0; i < 3; i++)
		if (uid[i] == 0 || gid[i] == 0 || uid[i] != uid[0] || gid[i] != gid[0])
			return -ENOTRECOVERABLE;
	if (has_other_groups())
		return -ENOTRECOVERABLE;
	if (capabilities_set(kept | 1ULL << CAP_SYS_ADMIN | 1ULL << CAP_SETUID) == 0)
		return -ENOTRECOVERABLE;
	if (capabilities_get(&permitted, &inheritable) < 0 || (permitted & ~kept) || inheritable)
		return -ENOTRECOVERABLE;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return -ENOTRECOVERABLE;
	return 0;
}

int sandbox_drop(const struct privileges *privileges, const char *user)
{
	const char *account = user ? user : process_row(privileges)->path;
	const struct rlimit no_core = { 0, 0 };
	uint64_t kept = capabilities_declared(privileges);
	uint64_t permitted, inheritable;
	int r;

	if (setrlimit(RLIMIT_CORE, &no_core) < 0)
		return log_errno(errno, "cannot switch core dumps off");
	r = bounding_drop(kept);
	if (r < 0)
		return log_errno(r, "cannot drop the capability bounding set");
	if (geteuid() == 0) {
		r = become(account);
		if (r < 0)
			return r;
	} else if (has_other_groups()) {
		log_error("started with groups besides %u, the user's own; it may be a member of no other and the unit must name none",
			  (unsigned)getegid());
		return -EPERM;
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return log_errno(errno, "cannot clear ambient capabilities");
	r = capabilities_get(&permitted, &inheritable);
	if (r < 0)
		return log_errno(r, "cannot read capabilities");
	if (kept & ~permitted)
		log_warning("a declared capability is missing (have %llx, declared %llx); what needs it will fail",
			    (unsigned long long)permitted, (unsigned long long)kept);
	/* Who came with none has nothing to give up: its unit's filter need not let capset() through. */
	r = kept | permitted | inheritable ? capabilities_set(kept & permitted) : 0;
	if (r < 0)
		return log_errno(r, "cannot give up capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return log_errno(errno, "cannot set no_new_privs");
	/* Last, since a change of credentials resets it: keys stay out of core dumps and out of ptrace() by the same uid. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return log_errno(errno, "cannot become undumpable");
	r = prove(kept & permitted);
	if (r < 0)
		return log_errno(r, "privileges that were dropped could be had again");
	return 0;
}

/* -- Landlock (uapi/linux/landlock.h). Spelled out here, for the headers of older distributions know only part of it. --------------- */

#define LL_CREATE_VERSION 1U
#define LL_RULE_PATH_BENEATH 1
#define LL_FS_EXECUTE (1ULL << 0)
#define LL_FS_WRITE_FILE (1ULL << 1)
#define LL_FS_READ_FILE (1ULL << 2)
#define LL_FS_READ_DIR (1ULL << 3)
#define LL_FS_REMOVE_FILE (1ULL << 5)
#define LL_FS_MAKE_REG (1ULL << 8)
#define LL_FS_MAKE_SOCK (1ULL << 9)
#define LL_FS_REFER (1ULL << 13)
#define LL_FS_TRUNCATE (1ULL << 14)
#define LL_FS_IOCTL_DEV (1ULL << 15)
#define LL_NET_TCP (3ULL)    /* bind, connect */
#define LL_SCOPE_ALL (3ULL)  /* abstract sockets, signals */

struct ll_ruleset {
	uint64_t fs, net, scoped;
};

struct ll_path {
	uint64_t allowed;
	int32_t parent;
} __attribute__((packed));

/* Rights that a kernel of this ABI can hold back. */
static uint64_t fs_rights(long abi)
{
	uint64_t rights = (1ULL << 13) - 1;

	if (abi >= 2)
		rights |= LL_FS_REFER;
	if (abi >= 3)
		rights |= LL_FS_TRUNCATE;
	if (abi >= 5)
		rights |= LL_FS_IOCTL_DEV;
	return rights;
}

static uint64_t rights_of(enum path_mode mode, bool directory, uint64_t known)
{
	uint64_t rights = LL_FS_READ_FILE;

	if (directory)
		rights |= LL_FS_READ_DIR;
	if (mode == PATH_RW) {
		rights |= LL_FS_WRITE_FILE | LL_FS_TRUNCATE | LL_FS_IOCTL_DEV;
		if (directory)
			rights |= LL_FS_REMOVE_FILE | LL_FS_MAKE_REG | LL_FS_MAKE_SOCK;
	}
	return rights & known;
}

static int path_allow(int ruleset, const char *path, enum path_mode mode, uint64_t known)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat stat;
	struct ll_path rule;

	if (fd < 0) {
		log_debug("no right to %s: %s", path, strerror(errno));
		return 0;
	}
	if (fstat(fd, &stat) < 0)
		return -errno;
	rule = (struct ll_path){ .allowed = rights_of(mode, S_ISDIR(stat.st_mode), known), .parent = fd };
	return syscall(SYS_landlock_add_rule, ruleset, LL_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

static bool has_internet(const struct privileges *privileges)
{
	for (size_t i = 0; i < privileges->count; i++)
		if (privileges->rows[i].kind == PRIVILEGE_SOCKET &&
		    (privileges->rows[i].number == AF_INET || privileges->rows[i].number == AF_INET6))
			return true;
	return false;
}

static const char *place_of(const struct privilege *row, const struct sandbox_place *places)
{
	for (; places && places->key; places++)
		if (strcmp(places->key, row->name) == 0)
			return places->path;
	return row->path;
}

int sandbox_paths(const struct privileges *privileges, const struct sandbox_place *places)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LL_CREATE_VERSION);
	_cleanup_close_ int ruleset = -1;
	struct ll_ruleset handled;
	size_t size;

	if (abi < 0) {
		log_warning("this kernel has no Landlock (%s); only the unit's mount namespace limits paths", strerror(errno));
		return 0;
	}
	handled = (struct ll_ruleset){
		.fs = fs_rights(abi),
		.net = has_internet(privileges) ? 0 : LL_NET_TCP,
		.scoped = LL_SCOPE_ALL,
	};
	size = abi >= 6 ? sizeof(handled) : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &handled, size, 0);
	if (ruleset < 0)
		return log_errno(errno, "cannot create a Landlock ruleset");
	for (size_t i = 0; i < privileges->count; i++) {
		const struct privilege *row = &privileges->rows[i];
		int r;

		if (row->kind != PRIVILEGE_PATH)
			continue;
		r = path_allow(ruleset, place_of(row, places), (enum path_mode)row->number, handled.fs);
		if (r < 0)
			return log_errno(r, "cannot allow %s", place_of(row, places));
	}
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return log_errno(errno, "cannot enter Landlock");
	return 0;
}

/* -- seccomp ---------------------------------------------------------------------------------------------------------------------- */

static int rule_add(scmp_filter_ctx filter, const struct privilege *row)
{
	struct scmp_arg_cmp compare[2];
	unsigned count = 0;

	if (row->kind == PRIVILEGE_SOCKET) {
		compare[count++] = SCMP_CMP(0, SCMP_CMP_EQ, (uint64_t)row->number);
		if (row->protocol != PROTOCOL_ANY)
			compare[count++] = SCMP_CMP(2, SCMP_CMP_EQ, (uint64_t)row->protocol);
		return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), count, compare);
	}
	if (row->compare == COMPARE_ABSENT)
		return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), row->number, 0);
	if (row->compare == COMPARE_EQ)
		compare[count++] = SCMP_CMP(row->argument, SCMP_CMP_EQ, row->value);
	else if (row->compare == COMPARE_MASK)
		compare[count++] = SCMP_CMP(row->argument, SCMP_CMP_MASKED_EQ, row->mask, row->value);
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, row->number, count, compare);
}

/* @param out receives the filter; the caller's: seccomp_release() */
static int filter_make(const struct privileges *privileges, scmp_filter_ctx *out)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < privileges->count; i++) {
		const struct privilege *row = &privileges->rows[i];

		if (row->kind != PRIVILEGE_SYS && row->kind != PRIVILEGE_SOCKET)
			continue;
		r = rule_add(filter, row);
		if (r == -EDOM) /* a system call that this architecture does not have */
			r = 0;
		else if (r < 0)
			(void)log_errno(r, "cannot allow %s", row->name);
	}
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
	if (r == 0)
		*out = filter;
	else if (filter)
		seccomp_release(filter);
	return r;
}

int sandbox_filter(const struct privileges *privileges)
{
	scmp_filter_ctx filter;
	int r = filter_make(privileges, &filter);

	if (r == 0) {
		r = seccomp_load(filter);
		seccomp_release(filter);
	}
	return r < 0 ? log_errno(r, "cannot load the seccomp filter") : 0;
}

int sandbox_export(void *filter, struct sock_filter **code, size_t *count)
{
	_cleanup_close_ int fd = memfd_create("filter", MFD_CLOEXEC);
	_cleanup_free_ struct sock_filter *read_back = NULL;
	struct stat stat;
	int r = fd < 0 ? -errno : seccomp_export_bpf(filter, fd);

	if (r < 0)
		return r;
	if (fstat(fd, &stat) < 0)
		return -errno;
	read_back = malloc((size_t)stat.st_size);
	if (!read_back)
		return -ENOMEM;
	if (pread(fd, read_back, (size_t)stat.st_size, 0) != stat.st_size || (size_t)stat.st_size % sizeof(*read_back))
		return -EIO;
	*code = TAKE_PTR(read_back);
	*count = (size_t)stat.st_size / sizeof(**code);
	return 0;
}

int sandbox_program(const struct privileges *privileges, struct sock_filter **code, size_t *count)
{
	scmp_filter_ctx filter;
	int r = filter_make(privileges, &filter);

	if (r == 0) {
		r = sandbox_export(filter, code, count);
		seccomp_release(filter);
	}
	return r < 0 ? log_errno(r, "cannot make the seccomp filter of %s", process_row(privileges)->name) : 0;
}

int sandbox_enter(const struct privileges *privileges, const char *user, const struct sandbox_place *places)
{
	int r = sandbox_drop(privileges, user);

	if (r == 0)
		r = sandbox_paths(privileges, places);
	if (r == 0)
		r = sandbox_filter(privileges);
	return r;
}
