/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process's user may write, in the process's own view of the file system.
 *
 * A child of ours enters that view (/proc/PID/root) and asks the kernel path by path what the user may: access(2) goes by the real
 * ids, and so do access lists and read-only mounts, as they do for the process; while the child, whose effective ids stay root's, sees
 * what lies in folders that the user can pass and not list. It looks three folders deep and at everything in the suite's own
 * folders; file systems of other machines are left out, for a dead server would hold the audit up.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "cli/loopback/audit.h"

#define DEPTH_MAX 3
#define ENTRIES_MAX 200000
#define SECONDS_MAX 30
#define NAMED_MAX 8
#define SKIPPED_MAX 256

struct walk {
	FILE *out; /* one writable path a line */
	char *skipped[SKIPPED_MAX]; /* mount points that are not looked into */
	size_t skipped_count;
	unsigned entries;
	uid_t uid;
};

/* -- Mounts that are not looked into ----------------------------------------------------------------------------------------- */

/* Of the kernel (what may be written there is no file), or of other machines (which may not answer). */
static bool is_skipped(const char *type)
{
	static const char *const types[] = {
		"proc",	     "sysfs",	  "cgroup", "cgroup2",	   "devpts", "debugfs",	       "tracefs", "securityfs", "bpf",
		"configfs",  "efivarfs",  "pstore", "binfmt_misc", "mqueue", "hugetlbfs",      "fusectl", "rpc_pipefs", "nsfs",
		"selinuxfs", "autofs",	  "nfs",    "nfs4",	   "cifs",   "smb3",	       "ceph",	  "afs",	"9p",
		"virtiofs",  "glusterfs", "lustre", "gfs2",	   "ocfs2",
	};

	if (strncmp(type, "fuse", 4) == 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	return false;
}

/* proc(5), /proc/PID/mountinfo: id parent device root POINT options [optional]... - TYPE source options */
static int mounts_read(const struct audited *audited, struct walk *walk)
{
	_cleanup_free_ char *text = NULL;
	ssize_t n = audit_read(audited->proc, "mountinfo", &text);
	char *rest = NULL;

	if (n < 0)
		return (int)n;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		const char *dash = strstr(line, " - ");
		char point[PATH_MAX], type[64];

		if (!dash || sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 || sscanf(dash, " - %63s", type) != 1)
			return -EPROTO;
		if (!is_skipped(type))
			continue;
		if (walk->skipped_count == SKIPPED_MAX)
			return -E2BIG;
		walk->skipped[walk->skipped_count] = strdup(point);
		if (!walk->skipped[walk->skipped_count++])
			return -ENOMEM;
	}
	return 0;
}

/* -- In the child ------------------------------------------------------------------------------------------------------------ */

static bool walk_skips(const struct walk *walk, const char *path)
{
	for (size_t i = 0; i < walk->skipped_count; i++)
		if (strcmp(walk->skipped[i], path) == 0)
			return true;
	return false;
}

static bool is_on_read_only(int folder, const char *name)
{
	_cleanup_close_ int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statvfs mount;

	return fd < 0 || fstatvfs(fd, &mount) < 0 || (mount.f_flag & ST_RDONLY);
}

/* May the user write it, or, being its owner, allow itself to? What everyone may write is no right of this process's. */
static bool is_writable(const struct walk *walk, int folder, const char *name, const struct stat *status)
{
	if (S_ISLNK(status->st_mode) || S_ISSOCK(status->st_mode) || S_ISCHR(status->st_mode) || S_ISFIFO(status->st_mode))
		return false;
	if (status->st_uid == walk->uid)
		return !is_on_read_only(folder, name);
	return !(status->st_mode & S_IWOTH) && faccessat(folder, name, W_OK, 0) == 0;
}

static void walk_folder(struct walk *walk, int fd, char *path, unsigned depth);

static void walk_entry(struct walk *walk, int folder, const char *name, char *path, unsigned depth)
{
	size_t n = strlen(path);
	struct stat status;
	int fd;

	if (n + 1 + strlen(name) >= PATH_MAX || ++walk->entries > ENTRIES_MAX)
		return;
	(void)snprintf(path + n, PATH_MAX - n, "/%s", name);
	if (!walk_skips(walk, path) && fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0) {
		if (is_writable(walk, folder, name, &status))
			(void)fprintf(walk->out, "%s\n", path); /* what lies below is told with it */
		else if (S_ISDIR(status.st_mode) && (depth < DEPTH_MAX || strstr(path, "/loopback")) &&
			 faccessat(folder, name, X_OK, 0) == 0) {
			fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (fd >= 0)
				walk_folder(walk, fd, path, depth + 1);
		}
	}
	path[n] = '\0';
}

/* Takes fd. */
static void walk_folder(struct walk *walk, int fd, char *path, unsigned depth)
{
	DIR *folder = fdopendir(fd);
	const struct dirent *entry;

	if (!folder) {
		(void)close_fd(fd);
		return;
	}
	while ((entry = readdir(folder)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			walk_entry(walk, fd, entry->d_name, path, depth);
	(void)closedir(folder);
}

/* The real ids are those that access(2) asks about, with no group besides; the effective ones stay. */
static int ask_for(const struct audited *audited)
{
	if (setgroups(0, NULL) < 0 || setresgid(audited->gid, 0, 0) < 0 || setresuid(audited->uid, 0, 0) < 0)
		return -errno;
	return 0;
}

static _noreturn_ void walk_all(const struct audited *audited, struct walk *walk, int out, pid_t parent)
{
	int root = openat(audited->proc, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char path[PATH_MAX] = "";

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || root < 0)
		_exit(1);
	/* The change of ids takes the signal above away. */
	if (ask_for(audited) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
		_exit(1);
	walk->uid = audited->uid;
	walk->out = fdopen(out, "w");
	if (!walk->out)
		_exit(1);
	walk_folder(walk, root, path, 1);
	_exit(fflush(walk->out) == 0 ? (walk->entries > ENTRIES_MAX ? 2 : 0) : 1);
}

/* -- In the parent ----------------------------------------------------------------------------------------------------------- */

/* Read all that the child says. @return 0; negative errno */
static int listen_to(int fd, char **text)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	size_t n = 0, room = 1 << 18;
	_cleanup_free_ char *got = malloc(room);

	if (!got)
		return -ENOMEM;
	for (;;) {
		ssize_t more;

		if (poll(&readable, 1, SECONDS_MAX * 1000) == 0)
			return -ETIMEDOUT;
		more = read(fd, got + n, room - n - 1);
		if (more < 0)
			return -errno;
		n += (size_t)more;
		if (more == 0 || n == room - 1)
			break; /* far more than anybody would read */
	}
	got[n] = '\0';
	*text = TAKE_PTR(got);
	return 0;
}

/* @return 0; 1 there was more than it looked at; negative errno */
static int ask(const struct audited *audited, struct walk *walk, char **text)
{
	_cleanup_close_ int in = -1;
	int pipe[2], status, r;
	pid_t child, parent = getpid();

	if (pipe2(pipe, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0)
		walk_all(audited, walk, pipe[1], parent);
	(void)close_fd(pipe[1]);
	in = pipe[0];
	if (child < 0)
		return -errno;
	r = listen_to(in, text);
	if (r < 0)
		(void)kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	if (r < 0)
		return r;
	return !WIFEXITED(status) || WEXITSTATUS(status) == 1 ? -ECHILD : WEXITSTATUS(status) == 2 ? 1 : 0;
}

static bool is_declared(const struct audited *audited, const char *path)
{
	const struct privileges *privileges = audited->process->privileges;
	bool declared = false;

	for (size_t i = 0; i < privileges->count && !declared; i++) {
		const struct privilege *row = &privileges->rows[i];
		_cleanup_free_ char *place =
			row->kind == PRIVILEGE_PATH && row->number == PATH_RW ? audit_place(audited, row) : NULL;

		declared = place && audit_path_within(path, place);
	}
	return declared;
}

static void declare(const struct audited *audited, struct phrase *out)
{
	const struct privileges *privileges = audited->process->privileges;

	for (size_t i = 0; i < privileges->count; i++) {
		_cleanup_free_ char *place = NULL;

		if (privileges->rows[i].kind != PRIVILEGE_PATH || privileges->rows[i].number != PATH_RW)
			continue;
		place = audit_place(audited, &privileges->rows[i]);
		phrase_item(out, "%s", place ? place : "");
	}
	if (out->n == 0)
		phrase_add(out, "none");
}

static void tell(struct audited *audited, const struct phrase *declared, char *paths, bool more)
{
	_cleanup_phrase_ struct phrase found = { .text = NULL }, outside = { .text = NULL };
	enum audit_result result;
	unsigned foreign = 0;
	char *rest = NULL;

	for (const char *path = strtok_r(paths, "\n", &rest); path; path = strtok_r(NULL, "\n", &rest)) {
		if (is_declared(audited, path))
			phrase_item(&found, "%s", path);
		else if (++foreign <= NAMED_MAX)
			phrase_item(&outside, "%s", path);
	}
	result = foreign ? AUDIT_DIFFERS : AUDIT_SAME;
	if (found.n == 0)
		phrase_add(&found, "none");
	if (foreign > 0)
		phrase_add(&found, "; besides its own: %s", phrase_text(&outside));
	if (foreign > NAMED_MAX)
		phrase_add(&found, " and %u more", foreign - NAMED_MAX);
	if (more)
		phrase_add(&found, "; the first %u entries were looked at", ENTRIES_MAX);
	found.failed |= outside.failed;
	if (foreign == 0 && more)
		result = AUDIT_UNKNOWN;
	audit_say_phrases(audited, AUDIT_writable_paths, result, declared, &found);
}

void audit_paths(struct audited *audited)
{
	_cleanup_phrase_ struct phrase declared = { .text = NULL };
	_cleanup_free_ char *paths = NULL;
	struct walk walk = { .out = NULL };
	int r = audited->uid == (uid_t)-1 ? -ENOENT : mounts_read(audited, &walk);

	declare(audited, &declared);
	(void)fflush(NULL); /* a child must not say again what waits in a buffer */
	if (r == 0)
		r = ask(audited, &walk, &paths);
	if (audited->uid == (uid_t)-1)
		audit_say(audited, AUDIT_writable_paths, AUDIT_UNKNOWN, phrase_text(&declared),
			  "not determined: its user does not exist here");
	else if (r < 0)
		audit_unreadable(audited, AUDIT_writable_paths, phrase_text(&declared), r);
	else
		tell(audited, &declared, paths, r > 0);
	for (size_t i = 0; i < walk.skipped_count; i++)
		free(walk.skipped[i]);
}
