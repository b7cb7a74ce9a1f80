/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/audit_find.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SHOW_BYTES_MAX (1U << 20)

/* -- Units ------------------------------------------------------------------------------------------------------------------- */

void unit_state_free(struct unit_state *unit)
{
	unit_free(&unit->shipped);
	unit_free(&unit->in_force);
	unit_free(&unit->shown);
}

static int read_file(const char *path, struct unit *unit)
{
	_cleanup_free_ char *text = NULL;
	ssize_t n = audit_read(AT_FDCWD, path, &text);

	return n < 0 ? (int)n : unit_read(unit, path, text);
}

static int read_shipped(const struct finder *finder, const char *name, struct unit_state *unit)
{
	const char *const folders[] = { finder->units, "/usr/lib/systemd/system", "/lib/systemd/system" };
	char path[PATH_MAX];
	int r = -ENOENT;

	for (size_t i = 0; r == -ENOENT && i < ARRAY_SIZE(folders); i++) {
		if (!folders[i])
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", folders[i], name);
		r = read_file(path, &unit->shipped);
		unit->has_shipped = r == 0;
		if (i == 0 && r == -ENOENT)
			break; /* a folder that was named is the only one */
	}
	return r == -ENOENT ? 0 : r;
}

/* The fragment, and each drop-in in systemd's order. */
static int read_in_force(struct unit_state *unit)
{
	_cleanup_phrase_ struct phrase fragment = { .text = NULL }, dropins = { .text = NULL };
	char *rest = NULL;
	int r = 0;

	(void)unit_value(&unit->shown, "FragmentPath", &fragment);
	(void)unit_value(&unit->shown, "DropInPaths", &dropins);
	if (fragment.n)
		r = read_file(phrase_text(&fragment), &unit->in_force);
	for (char *path = dropins.n ? strtok_r(dropins.text, " ", &rest) : NULL; r == 0 && path;
	     path = strtok_r(NULL, " ", &rest))
		r = read_file(path, &unit->in_force);
	return r;
}

static int read_all(int fd, char **text)
{
	size_t n = 0;
	ssize_t more = 1;
	_cleanup_free_ char *got = malloc(SHOW_BYTES_MAX);

	if (!got)
		return -ENOMEM;
	while (more > 0 && n < SHOW_BYTES_MAX - 1) {
		more = read(fd, got + n, SHOW_BYTES_MAX - 1 - n);
		if (more < 0)
			return -errno;
		n += (size_t)more;
	}
	got[n] = '\0';
	*text = TAKE_PTR(got);
	return 0;
}

/* systemctl(1) is the interface that systemd promises; its bus would be a library more. */
static int show(const char *name, struct unit *unit)
{
	char program[] = "/usr/bin/systemctl", verb[] = "show", pager[] = "--no-pager", last[] = "--", locale[] = "LC_ALL=C";
	char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", who[256];
	char *const arguments[] = { program, verb, pager, last, who, NULL }, *const variables[] = { locale, path, NULL };
	posix_spawn_file_actions_t actions;
	_cleanup_free_ char *text = NULL;
	int pipe[2], status, r;
	pid_t child;

	(void)snprintf(who, sizeof(who), "%s", name);
	if (pipe2(pipe, O_CLOEXEC) < 0)
		return -errno;
	r = -posix_spawn_file_actions_init(&actions);
	if (r == 0) {
		r = -posix_spawn_file_actions_adddup2(&actions, pipe[1], STDOUT_FILENO);
		if (r == 0)
			r = -posix_spawn(&child, program, &actions, NULL, arguments, variables);
		(void)posix_spawn_file_actions_destroy(&actions);
	}
	(void)close_fd(pipe[1]);
	if (r == 0) {
		r = read_all(pipe[0], &text);
		if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
			r = -EIO;
	}
	(void)close_fd(pipe[0]);
	return r < 0 ? r : unit_read_properties(unit, text);
}

int audit_unit_look(const struct finder *finder, const char *name, struct unit_state *unit)
{
	int r = read_shipped(finder, name, unit);

	if (r < 0 || !finder->systemd)
		return r;
	r = show(name, &unit->shown);
	unit->has_shown = r == 0;
	return r < 0 ? r : read_in_force(unit);
}

/* -- Processes --------------------------------------------------------------------------------------------------------------- */

static int open_process(struct audited *audited, pid_t pid)
{
	char path[32];

	audited->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (audited->pidfd < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	audited->proc = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (audited->proc < 0)
		return -errno;
	audited->pid = pid;
	audited->state = AUDIT_RUNNING;
	return 0;
}

/* The --pid of this process. @return it; 0 there is none; -EINVAL told in wrong */
static pid_t named_pid(const struct finder *finder, const char *name, struct phrase *wrong)
{
	size_t length = strlen(name);
	const char *value;
	unsigned at = 0;

	while ((value = cli_next(finder->args, "pid", &at))) {
		char *end;
		long pid;

		if (strncmp(value, name, length) != 0 || value[length] != '=')
			continue;
		pid = strtol(value + length + 1, &end, 10);
		if (*end || end == value + length + 1 || pid <= 0 || pid > INT_MAX) {
			phrase_add(wrong, "--pid %s: expected NAME=PID", value);
			return -EINVAL;
		}
		return (pid_t)pid;
	}
	return 0;
}

/* Containers on this host may run the same programs; they are hosts of their own. */
static bool in_our_pid_namespace(const char *entry)
{
	struct stat theirs, ours;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%.16s/ns/pid", entry);
	return stat(path, &theirs) == 0 && stat("/proc/self/ns/pid", &ours) == 0 && theirs.st_ino == ours.st_ino;
}

static bool executes(const char *entry, const struct process *process, uid_t uid)
{
	char path[64], link[PATH_MAX];
	struct stat status;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%.16s/exe", entry);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0 || !in_our_pid_namespace(entry))
		return false;
	link[n] = '\0';
	if (strncmp(link, process->program, strlen(process->program)) == 0)
		return true;
	(void)snprintf(path, sizeof(path), "/proc/%.16s", entry);
	return process->becomes && strncmp(link, process->becomes, strlen(process->becomes)) == 0 && stat(path, &status) == 0 &&
	       status.st_uid == uid;
}

/* @return the one process that executes it; 0 none; -EEXIST several, told in `which` */
static pid_t search(const struct audited *audited, struct phrase *which)
{
	DIR *folder = opendir("/proc");
	const struct dirent *entry;
	unsigned count = 0;
	pid_t found = 0;

	if (!folder)
		return -errno;
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !executes(entry->d_name, audited->process, audited->uid))
			continue;
		found = (pid_t)strtol(entry->d_name, NULL, 10);
		phrase_item(which, "%s", entry->d_name);
		count++;
	}
	(void)closedir(folder);
	return count > 1 ? -EEXIST : found;
}

/* -- Does it run, and should it? --------------------------------------------------------------------------------------------- */

static bool installed(const struct process *process)
{
	return access(process->program, F_OK) == 0;
}

static void say_stopped(const struct finder *finder, struct audited *audited, const struct unit_state *unit)
{
	_cleanup_phrase_ struct phrase state = { .text = NULL }, active = { .text = NULL };

	(void)unit_value(&unit->shown, "UnitFileState", &state);
	(void)unit_value(&unit->shown, "ActiveState", &active);
	audited->state = AUDIT_STOPPED;
	if (finder->systemd && unit->has_shown && strcmp(phrase_text(&state), "enabled") == 0) {
		if (!unit_flag(&unit->shown, "ConditionResult"))
			audit_say(audited, AUDIT_running, AUDIT_SAME, "not needed here: a condition of its unit does not hold",
				  "does not run");
		else
			audit_say(audited, AUDIT_running, AUDIT_DIFFERS, "runs: its unit is enabled", phrase_text(&active));
	} else if (finder->only) {
		audit_say(audited, AUDIT_running, AUDIT_DIFFERS, "runs: it was named", "does not run");
	} else if (finder->systemd && unit->has_shown) {
		audit_say(audited, AUDIT_running, AUDIT_SAME, "need not run: its unit is not enabled", "does not run");
	} else {
		audit_say(audited, AUDIT_running, AUDIT_SAME, "need not run: no service manager says that it should",
			  "does not run");
	}
}

static void say_running(struct audited *audited)
{
	char found[64];

	(void)snprintf(found, sizeof(found), "process %d", (int)audited->pid);
	audit_say(audited, AUDIT_running, AUDIT_SAME, "runs", found);
}

static void say_several(struct audited *audited, const struct phrase *which)
{
	_cleanup_phrase_ struct phrase found = { .text = NULL };

	phrase_add(&found, "not determined: several processes execute it (%s); say which one with --pid %s=PID",
		   phrase_text(which), audited->process->name);
	audited->state = AUDIT_STOPPED;
	audit_say(audited, AUDIT_running, AUDIT_UNKNOWN, "runs", phrase_text(&found));
}

static void find_user(struct audited *audited)
{
	const struct passwd *account = getpwnam(audited->process->privileges->rows[0].path);

	audited->uid = account ? account->pw_uid : (uid_t)-1;
	audited->gid = account ? account->pw_gid : (gid_t)-1;
}

static pid_t main_pid(const struct unit *shown)
{
	_cleanup_phrase_ struct phrase value = { .text = NULL };

	return unit_value(shown, "MainPID", &value) ? (pid_t)strtol(phrase_text(&value), NULL, 10) : 0;
}

/* Does systemd know the unit? Then it knows its process as well. */
static bool is_loaded(const struct unit *shown)
{
	_cleanup_phrase_ struct phrase state = { .text = NULL };

	return unit_value(shown, "LoadState", &state) && strcmp(phrase_text(&state), "loaded") == 0;
}

int audit_find(const struct finder *finder, struct audited *audited, struct unit_state *unit, struct phrase *wrong)
{
	_cleanup_phrase_ struct phrase which = { .text = NULL };
	pid_t pid = named_pid(finder, audited->process->name, wrong);
	int r = pid < 0 ? (int)pid : audit_unit_look(finder, audited->process->unit, unit);

	if (r < 0)
		return r;
	find_user(audited);
	audited->shipped = unit->has_shipped ? &unit->shipped : NULL;
	if (pid == 0)
		pid = main_pid(&unit->shown);
	audited->managed = unit->has_shown && pid > 0 && pid == main_pid(&unit->shown);
	if (pid == 0 && !is_loaded(&unit->shown))
		pid = search(audited, &which);
	if (pid == -EEXIST)
		say_several(audited, &which);
	else if (pid > 0 && open_process(audited, pid) == 0)
		say_running(audited);
	else if (pid > 0 || unit->has_shipped || installed(audited->process) || finder->only)
		say_stopped(finder, audited, unit);
	return pid < 0 && pid != -EEXIST ? (int)pid : 0;
}

/* -- Drop-ins that systemd has not read yet. It does not see by itself that a folder of them came to be. --------------------- */

static void name_unread_in(const char *folder, const char *read, struct phrase *out, unsigned *count)
{
	DIR *entries = opendir(folder);
	const struct dirent *entry;

	while (entries && (entry = readdir(entries))) {
		size_t n = strlen(entry->d_name);
		char path[256 + NAME_MAX + 2];

		if (n < 6 || strcmp(entry->d_name + n - 5, ".conf") != 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (strstr(read, path))
			continue;
		phrase_item(out, "%s is not read yet", path);
		(*count)++;
	}
	if (entries)
		(void)closedir(entries);
}

/* Where drop-ins are put: for this unit, for all whose names begin as its does, for all services (systemd.unit(5)). */
static unsigned name_unread(const char *name, const struct unit *shown, struct phrase *out)
{
	static const char *const roots[] = { "/etc/systemd/system.control", "/run/systemd/system.control", "/etc/systemd/system",
					     "/run/systemd/system", "/run/systemd/transient", "/run/systemd/generator",
					     "/usr/local/lib/systemd/system", "/usr/lib/systemd/system" };
	const char *const names[] = { name, "loopback-.service", "service" };
	_cleanup_phrase_ struct phrase dropins = { .text = NULL };
	unsigned count = 0;

	(void)unit_value(shown, "DropInPaths", &dropins);
	for (size_t root = 0; root < ARRAY_SIZE(roots); root++)
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			char folder[256];

			(void)snprintf(folder, sizeof(folder), "%s/%s.d", roots[root], names[i]);
			name_unread_in(folder, phrase_text(&dropins), out, &count);
		}
	return count;
}

/* -- The unit ---------------------------------------------------------------------------------------------------------------- */

static void say_unit(struct audited *audited, enum audit_aspect aspect, unsigned count, const char *declared,
		     const struct phrase *out)
{
	audit_say(audited, aspect, count ? AUDIT_DIFFERS : AUDIT_SAME, declared, count ? phrase_text(out) : declared);
	audited->failed |= out->failed;
}

void audit_unit_state(struct audited *audited, const struct unit_state *unit)
{
	_cleanup_phrase_ struct phrase changes = { .text = NULL }, table = { .text = NULL }, manager = { .text = NULL };
	unsigned disagreements;

	if (!unit->has_shown)
		return;
	if (!unit->has_shipped) {
		audit_say(audited, AUDIT_unit, AUDIT_UNKNOWN, "as shipped",
			  "not determined: no such unit file is installed by a package");
		return;
	}
	say_unit(audited, AUDIT_unit, unit_changes(&unit->shipped, &unit->in_force, &changes), "as shipped", &changes);
	say_unit(audited, AUDIT_unit_table, unit_against_table(&unit->shipped, audited->process->privileges, &table),
		 "as the table", &table);
	disagreements = unit_against_manager(&unit->in_force, &unit->shown, &manager) +
			name_unread(audited->process->unit, &unit->shown, &manager);
	say_unit(audited, AUDIT_unit_in_force, disagreements, "as the files say", &manager);
}
