/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process has open: sockets by family, everything else by kind, and what of it the table does not account for.
 *
 * Sockets are looked at as they are: pidfd_getfd(2) (Linux 5.6) gives a copy, getsockopt(2) asks it, and the copy is closed. That
 * finds every family, and sockets of other network namespaces, which /proc/PID/net shows neither of.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "cli/loopback/audit.h"

#define NAMED_MAX 8
#define KINDS_MAX 48
#define KIND_TEXT 48

/* Things counted by a short name. */
struct tally {
	struct {
		char name[KIND_TEXT];
		unsigned count;
	} kinds[KINDS_MAX];
	size_t count;
};

struct look {
	struct audited *audited;
	struct tally kinds, families;
	struct phrase foreign, foreign_sockets;
	unsigned foreign_count, foreign_socket_count;
	int sockets_error; /* the first socket that could not be looked at */
};

static void tally_add(struct tally *tally, const char *name)
{
	size_t i = 0;

	while (i < tally->count && strcmp(tally->kinds[i].name, name) != 0)
		i++;
	if (i == KINDS_MAX)
		return;
	if (i == tally->count)
		(void)snprintf(tally->kinds[tally->count++].name, KIND_TEXT, "%s", name);
	tally->kinds[i].count++;
}

static void tally_tell(const struct tally *tally, struct phrase *out)
{
	for (size_t i = 0; i < tally->count; i++)
		phrase_item(out, "%s %u", tally->kinds[i].name, tally->kinds[i].count);
	if (tally->count == 0)
		phrase_add(out, "none");
}

static void foreign(struct look *look, int fd, const char *what, const char *why)
{
	if (++look->foreign_count <= NAMED_MAX)
		phrase_item(&look->foreign, "%d is %s, %s", fd, what, why);
}

/* -- Sockets ----------------------------------------------------------------------------------------------------------------- */

static const struct {
	int number;
	const char *name;
} families[] = {
	{ AF_UNIX, "AF_UNIX" },		  { AF_INET, "AF_INET" },     { AF_INET6, "AF_INET6" }, { AF_NETLINK, "AF_NETLINK" },
	{ AF_PACKET, "AF_PACKET" },	  { AF_VSOCK, "AF_VSOCK" },   { AF_ALG, "AF_ALG" },	{ AF_BLUETOOTH, "AF_BLUETOOTH" },
	{ AF_CAN, "AF_CAN" },		  { AF_TIPC, "AF_TIPC" },     { AF_KEY, "AF_KEY" },	{ AF_RDS, "AF_RDS" },
	{ AF_PPPOX, "AF_PPPOX" },	  { AF_KCM, "AF_KCM" },	      { 44, "AF_XDP" },		{ AF_QIPCRTR, "AF_QIPCRTR" },
	{ AF_IEEE802154, "AF_IEEE802154" }, { AF_NFC, "AF_NFC" },
};

static const struct {
	int number;
	const char *name;
} netlinks[] = {
	{ NETLINK_ROUTE, "ROUTE" },	    { NETLINK_GENERIC, "GENERIC" },   { NETLINK_SOCK_DIAG, "SOCK_DIAG" },
	{ NETLINK_NETFILTER, "NETFILTER" }, { NETLINK_AUDIT, "AUDIT" },	      { NETLINK_KOBJECT_UEVENT, "KOBJECT_UEVENT" },
	{ NETLINK_XFRM, "XFRM" },	    { NETLINK_CONNECTOR, "CONNECTOR" }, { NETLINK_SELINUX, "SELINUX" },
};

static void socket_name(int family, int protocol, char out[static KIND_TEXT])
{
	(void)snprintf(out, KIND_TEXT, "family %d", family);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (families[i].number == family)
			(void)snprintf(out, KIND_TEXT, "%s", families[i].name);
	if (family != AF_NETLINK)
		return;
	(void)snprintf(out, KIND_TEXT, "AF_NETLINK/%d", protocol);
	for (size_t i = 0; i < ARRAY_SIZE(netlinks); i++)
		if (netlinks[i].number == protocol)
			(void)snprintf(out, KIND_TEXT, "AF_NETLINK/%s", netlinks[i].name);
}

/* AF_UNIX is everybody's: the service manager hands such sockets to each, for its log if for nothing else. */
static bool socket_declared(const struct privileges *privileges, int family, int protocol, const char *name)
{
	if (family == AF_UNIX)
		return true;
	for (size_t i = 0; i < privileges->count; i++) {
		const struct privilege *row = &privileges->rows[i];

		if (row->kind == PRIVILEGE_SOCKET && row->number == family &&
		    (row->protocol == PROTOCOL_ANY || row->protocol == protocol))
			return true;
		if (row->kind == PRIVILEGE_HOLD && strcmp(row->name, name) == 0)
			return true;
	}
	return false;
}

static int socket_ask(int fd, int option, int *value)
{
	socklen_t length = sizeof(*value);

	return getsockopt(fd, SOL_SOCKET, option, value, &length) < 0 ? -errno : 0;
}

/* @return 0; negative errno */
static int look_at_socket(struct look *look, int number)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_getfd, look->audited->pidfd, number, 0);
	int family = -1, protocol = 0, r = fd < 0 ? -errno : 0;
	char name[KIND_TEXT];

	if (r == -EBADF)
		return 0; /* closed since */
	if (r == 0)
		r = socket_ask(fd, SO_DOMAIN, &family);
	if (r == 0)
		r = socket_ask(fd, SO_PROTOCOL, &protocol);
	if (r < 0)
		return r;
	socket_name(family, protocol, name);
	tally_add(&look->families, name);
	if (!socket_declared(look->audited->process->privileges, family, protocol, name) &&
	    ++look->foreign_socket_count <= NAMED_MAX)
		phrase_item(&look->foreign_sockets, "descriptor %d is a socket of %s", number, name);
	return 0;
}

static void declared_families(const struct privileges *privileges, struct phrase *out)
{
	phrase_add(out, "AF_UNIX");
	for (size_t i = 0; i < privileges->count; i++) {
		const struct privilege *row = &privileges->rows[i];
		char name[KIND_TEXT];

		if (row->kind == PRIVILEGE_HOLD && strncmp(row->name, "AF_", 3) == 0 && strcmp(row->name, "AF_UNIX") != 0)
			phrase_item(out, "%s (handed over)", row->name);
		if (row->kind != PRIVILEGE_SOCKET || row->number == AF_UNIX)
			continue;
		socket_name(row->number, row->protocol, name);
		phrase_item(out, "%s", row->protocol == PROTOCOL_ANY ? row->name : name);
	}
}

/* -- Anonymous kinds: allowed where the table names the call that makes them. ------------------------------------------------ */

static const struct {
	const char *link, *kind;
	const char *calls[3]; /* any of them; none: nobody's */
} anonymous[] = {
	{ "anon_inode:[eventpoll]", "epoll", { "epoll_create1" } },
	{ "anon_inode:[signalfd]", "signalfd", { "signalfd4" } },
	{ "anon_inode:[timerfd]", "timerfd", { "timerfd_create" } },
	{ "anon_inode:[eventfd]", "eventfd", { "eventfd2" } },
	{ "anon_inode:inotify", "inotify", { "inotify_init1" } },
	{ "anon_inode:[pidfd]", "pidfd", { "pidfd_open" } },
	{ "anon_inode:[io_uring]", "io_uring", { "io_uring_setup" } },
	{ "anon_inode:[userfaultfd]", "userfaultfd", { "userfaultfd" } },
	{ "anon_inode:[perf_event]", "perf_event", { "perf_event_open" } },
	{ "anon_inode:[fanotify]", "fanotify", { "fanotify_init" } },
	{ "anon_inode:bpf-map", "bpf map", { "bpf" } },
	{ "anon_inode:bpf-prog", "bpf program", { "bpf" } },
	{ "anon_inode:bpf_link", "bpf link", { "bpf" } },
	{ "pipe:[", "pipe", { "pipe2", "pipe" } },
	{ "/memfd:", "memfd", { "memfd_create" } },
	{ "mnt:[", "namespace", { NULL } },
	{ "net:[", "namespace", { NULL } },
	{ "pid:[", "namespace", { NULL } },
	{ "user:[", "namespace", { NULL } },
};

/* @return it was one of them */
static bool look_at_anonymous(struct look *look, int fd, const char *link)
{
	const struct privileges *privileges = look->audited->process->privileges;
	const char *kind = strncmp(link, "anon_inode:", 11) == 0 ? link : NULL;
	bool declared = false;

	for (size_t i = 0; i < ARRAY_SIZE(anonymous); i++) {
		if (strncmp(link, anonymous[i].link, strlen(anonymous[i].link)) != 0)
			continue;
		kind = anonymous[i].kind;
		for (unsigned call = 0; call < ARRAY_SIZE(anonymous[i].calls) && anonymous[i].calls[call]; call++)
			declared |= audit_call_declared(privileges, anonymous[i].calls[call]);
	}
	if (!kind)
		return false;
	tally_add(&look->kinds, kind);
	if (!declared && fd > STDERR_FILENO)
		foreign(look, fd, kind, "which it has no call to make");
	return true;
}

/* What its calls make, and where its files lie. */
static void declared_kinds(const struct audited *audited, struct phrase *out)
{
	const struct privileges *privileges = audited->process->privileges;

	phrase_add(out, "log, socket");
	for (size_t i = 0; i < ARRAY_SIZE(anonymous); i++)
		for (unsigned call = 0; call < ARRAY_SIZE(anonymous[i].calls) && anonymous[i].calls[call]; call++)
			if (audit_call_declared(privileges, anonymous[i].calls[call])) {
				phrase_item(out, "%s", anonymous[i].kind);
				break;
			}
	for (size_t i = 0; i < privileges->count; i++) {
		const struct privilege *row = &privileges->rows[i];
		_cleanup_free_ char *place = row->kind == PRIVILEGE_PATH ? audit_place(audited, row) : NULL;

		if (place)
			phrase_item(out, "%s", place);
		else if (row->kind == PRIVILEGE_HOLD && row->name[0] == '/')
			phrase_item(out, "%s (handed over)", row->name);
	}
}

/* -- Files and devices ------------------------------------------------------------------------------------------------------- */

static bool is_held(const struct privileges *privileges, const char *path)
{
	for (size_t i = 0; i < privileges->count; i++)
		if (privileges->rows[i].kind == PRIVILEGE_HOLD && strcmp(privileges->rows[i].name, path) == 0)
			return true;
	return false;
}

/* What the table gives to a path: -1 nothing, else PATH_RO or PATH_RW. */
static int path_mode(const struct audited *audited, const char *path)
{
	const struct privileges *privileges = audited->process->privileges;
	int mode = is_held(privileges, path) ? PATH_RW : -1;

	for (size_t i = 0; i < privileges->count; i++) {
		_cleanup_free_ char *place =
			privileges->rows[i].kind == PRIVILEGE_PATH ? audit_place(audited, &privileges->rows[i]) : NULL;

		if (place && audit_path_within(path, place) && privileges->rows[i].number > mode)
			mode = privileges->rows[i].number;
	}
	return mode;
}

static int flags_of(const struct audited *audited, int fd)
{
	_cleanup_free_ char *info = NULL;
	const char *flags;
	char name[32];

	(void)snprintf(name, sizeof(name), "fdinfo/%d", fd);
	if (audit_read(audited->proc, name, &info) < 0)
		return -1;
	flags = strstr(info, "flags:");
	return flags ? (int)strtol(flags + 6, NULL, 8) : -1;
}

static const char *file_kind(mode_t mode, const char *path)
{
	if (strcmp(path, "/dev/net/tun") == 0)
		return "tun device";
	if (S_ISCHR(mode))
		return strcmp(path, "/dev/null") == 0 ? "/dev/null" : "character device";
	return S_ISBLK(mode) ? "block device" : S_ISDIR(mode) ? "folder" : S_ISFIFO(mode) ? "fifo" : "file";
}

/* Standard in, out and error are the service manager's: nothing to read, and a log to write. */
static bool is_log(int fd, int flags, const char *path)
{
	if (strcmp(path, "/dev/null") == 0)
		return true;
	return (fd == STDOUT_FILENO || fd == STDERR_FILENO) && flags >= 0 && (flags & O_ACCMODE) == O_WRONLY && !(flags & O_PATH);
}

/*
 * A device is what its number says, wherever its name lies; and a name from another process's view of the file system is gone
 * with that process (the tunnel's device after netd has restarted).
 */
static void path_of(const char *link, const struct stat *status, char out[static PATH_MAX])
{
	static const char deleted[] = " (deleted)";
	size_t n = strlen(link);

	(void)snprintf(out, PATH_MAX, "%s", link);
	if (n > sizeof(deleted) && strcmp(link + n - sizeof(deleted) + 1, deleted) == 0)
		out[n - sizeof(deleted) + 1] = '\0';
	if (!S_ISCHR(status->st_mode))
		return;
	if (status->st_rdev == makedev(10, 200))
		(void)snprintf(out, PATH_MAX, "/dev/net/tun");
	else if (status->st_rdev == makedev(1, 3))
		(void)snprintf(out, PATH_MAX, "/dev/null");
	else
		(void)snprintf(out, PATH_MAX, "%.*s (device %u:%u)", PATH_MAX - 64, link, major(status->st_rdev),
			       minor(status->st_rdev));
}

static void look_at_path(struct look *look, int fd, const char *link, const struct stat *status)
{
	int flags = flags_of(look->audited, fd), allowed;
	mode_t mode = status->st_mode;
	char path[PATH_MAX];

	path_of(link, status, path);
	tally_add(&look->kinds, file_kind(mode, path));
	if (is_log(fd, flags, path))
		return;
	allowed = path_mode(look->audited, path);
	if (allowed < 0)
		foreign(look, fd, path, "outside of its paths");
	else if (allowed == PATH_RO && flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
		foreign(look, fd, path, "open for writing, which it may only read");
}

/* -- All of them ------------------------------------------------------------------------------------------------------------- */

static int look_at(struct look *look, int folder, const char *name)
{
	int fd = (int)strtol(name, NULL, 10), r;
	char link[PATH_MAX];
	ssize_t n = readlinkat(folder, name, link, sizeof(link) - 1);
	struct stat status;

	if (n < 0)
		return errno == ENOENT ? 0 : -errno; /* closed since */
	link[n] = '\0';
	if (strncmp(link, "socket:[", 8) == 0) {
		tally_add(&look->kinds, "socket");
		r = look_at_socket(look, fd);
		if (r < 0 && look->sockets_error == 0)
			look->sockets_error = r;
		return 0;
	}
	if (look_at_anonymous(look, fd, link))
		return 0;
	if (fstatat(folder, name, &status, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	look_at_path(look, fd, link, &status);
	return 0;
}

static int look_at_all(struct look *look)
{
	int fd = openat(look->audited->proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!folder) {
		r = -errno;
		(void)close_fd(fd);
		return r;
	}
	while (r == 0 && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			r = look_at(look, fd, entry->d_name);
	(void)closedir(folder);
	return r;
}

static void say_sockets(struct look *look, int error)
{
	_cleanup_phrase_ struct phrase declared = { .text = NULL }, found = { .text = NULL };

	declared_families(look->audited->process->privileges, &declared);
	if (error < 0) {
		audit_unreadable(look->audited, AUDIT_socket_families, phrase_text(&declared), error);
		return;
	}
	tally_tell(&look->families, &found);
	if (look->foreign_socket_count > 0)
		phrase_add(&found, "; %s", phrase_text(&look->foreign_sockets));
	if (look->foreign_socket_count > NAMED_MAX)
		phrase_add(&found, " and %u more", look->foreign_socket_count - NAMED_MAX);
	audit_say_phrases(look->audited, AUDIT_socket_families, look->foreign_socket_count ? AUDIT_DIFFERS : AUDIT_SAME,
			  &declared, &found);
}

static void say_descriptors(struct look *look, int error)
{
	_cleanup_phrase_ struct phrase declared = { .text = NULL }, found = { .text = NULL };

	declared_kinds(look->audited, &declared);
	if (error < 0) {
		audit_unreadable(look->audited, AUDIT_descriptors, phrase_text(&declared), error);
		return;
	}
	tally_tell(&look->kinds, &found);
	if (look->foreign_count > 0)
		phrase_add(&found, "; %s", phrase_text(&look->foreign));
	if (look->foreign_count > NAMED_MAX)
		phrase_add(&found, " and %u more", look->foreign_count - NAMED_MAX);
	audit_say_phrases(look->audited, AUDIT_descriptors, look->foreign_count ? AUDIT_DIFFERS : AUDIT_SAME, &declared, &found);
}

void audit_descriptors(struct audited *audited)
{
	struct look look = { .audited = audited };
	int r = look_at_all(&look);

	say_sockets(&look, r < 0 ? r : look.sockets_error);
	say_descriptors(&look, r);
	audited->failed |= look.foreign.failed || look.foreign_sockets.failed;
	phrase_free(&look.foreign);
	phrase_free(&look.foreign_sockets);
}
