/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc/PID/task/TID/status says of every thread of a process (proc(5)). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "cli/loopback/audit.h"

#define NAMED_MAX 4 /* threads that are told one by one */

struct task {
	pid_t tid;
	char *status;
};

struct tasks {
	struct task *list;
	size_t count;
};

static void tasks_free(struct tasks *tasks)
{
	for (size_t i = 0; i < tasks->count; i++)
		free(tasks->list[i].status);
	free(tasks->list);
}

/* The text after "NAME:" up to the end of its line. */
static const char *field(const char *status, const char *name, char *out, size_t size)
{
	size_t length = strlen(name);

	out[0] = '\0';
	for (const char *line = status; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *value = line + length + 1;

		if (strncmp(line, name, length) != 0 || line[length] != ':')
			continue;
		value += strspn(value, " \t");
		(void)snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
	}
	return out;
}

static int task_add(struct tasks *tasks, int folder, const char *name)
{
	struct task *grown = reallocarray(tasks->list, tasks->count + 1, sizeof(*grown));
	char path[64];
	ssize_t n;

	if (!grown)
		return -ENOMEM;
	tasks->list = grown;
	(void)snprintf(path, sizeof(path), "%.20s/status", name);
	grown[tasks->count] = (struct task){ .tid = (pid_t)strtol(name, NULL, 10) };
	n = audit_read(folder, path, &grown[tasks->count].status);
	if (n == -ENOENT || n == -ESRCH)
		return 0; /* a thread that has just ended */
	if (n < 0)
		return (int)n;
	tasks->count++;
	return 0;
}

static int tasks_read(const struct audited *audited, struct tasks *tasks)
{
	int fd = openat(audited->proc, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!folder) {
		r = -errno;
		(void)close_fd(fd);
		return r;
	}
	while (r == 0 && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			r = task_add(tasks, fd, entry->d_name);
	(void)closedir(folder);
	return r == 0 && tasks->count == 0 ? -ESRCH : r;
}

/* -- Words for what stands in a field ---------------------------------------------------------------------------------------- */

static const char *const capability_names[] = {
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE",
	"SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
};

static void tell_capabilities(uint64_t set, struct phrase *out)
{
	if (set == 0)
		phrase_add(out, "none");
	for (unsigned i = 0; i < 64; i++) {
		if (!(set >> i & 1))
			continue;
		if (i < ARRAY_SIZE(capability_names))
			phrase_item(out, "CAP_%s", capability_names[i]);
		else
			phrase_item(out, "capability %u", i);
	}
}

static void tell_id(bool user, unsigned id, struct phrase *out)
{
	const struct passwd *account = user ? getpwuid(id) : NULL;
	const struct group *group = user ? NULL : getgrgid(id);
	const char *name = account ? account->pw_name : group ? group->gr_name : NULL;

	phrase_add(out, name ? "%u (%s)" : "%u", id, name);
}

static void tell_ids(bool user, const char *value, struct phrase *out)
{
	static const char *const which[] = { "real", "effective", "saved", "file system" };
	unsigned id[4] = { 0 };

	if (sscanf(value, "%u %u %u %u", &id[0], &id[1], &id[2], &id[3]) != 4) {
		phrase_add(out, "not understood: %s", value);
		return;
	}
	if (id[0] == id[1] && id[0] == id[2] && id[0] == id[3]) {
		tell_id(user, id[0], out);
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		phrase_item(out, "%s ", which[i]);
		tell_id(user, id[i], out);
	}
}

static void found_uid(const struct audited *audited _unused_, const char *value, struct phrase *out)
{
	tell_ids(true, value, out);
}

static void found_gid(const struct audited *audited _unused_, const char *value, struct phrase *out)
{
	tell_ids(false, value, out);
}

/* A service manager's User= leaves the user's own group in the list, where it gives nothing that the gid does not. */
static void found_groups(const struct audited *audited, const char *value, struct phrase *out)
{
	char *end;

	for (;;) {
		unsigned long id = strtoul(value, &end, 10);

		if (end == value)
			break;
		value = end;
		if (id != audited->gid) {
			phrase_item(out, "%s", "");
			tell_id(false, (unsigned)id, out);
		}
	}
	if (out->n == 0)
		phrase_add(out, "none but its own");
}

static void found_capabilities(const struct audited *audited _unused_, const char *value, struct phrase *out)
{
	tell_capabilities(strtoull(value, NULL, 16), out);
}

static void found_flag(const struct audited *audited _unused_, const char *value, struct phrase *out)
{
	phrase_add(out, "%s", strcmp(value, "1") == 0 ? "set" : "not set");
}

static void found_tracer(const struct audited *audited _unused_, const char *value, struct phrase *out)
{
	if (strcmp(value, "0") == 0)
		phrase_add(out, "none");
	else
		phrase_add(out, "process %s", value);
}

/* -- What is declared -------------------------------------------------------------------------------------------------------- */

static void declared_uid(const struct audited *audited, struct phrase *out)
{
	if (audited->uid == (uid_t)-1)
		phrase_add(out, "%s, who is no user of this host", audited->process->privileges->rows[0].path);
	else
		tell_id(true, audited->uid, out);
}

static void declared_gid(const struct audited *audited, struct phrase *out)
{
	if (audited->uid == (uid_t)-1)
		phrase_add(out, "that of %s, who is no user of this host", audited->process->privileges->rows[0].path);
	else
		tell_id(false, audited->gid, out);
}

static void declared_capabilities(const struct audited *audited, struct phrase *out)
{
	const struct privileges *privileges = audited->process->privileges;
	uint64_t set = 0;

	for (size_t i = 0; i < privileges->count; i++)
		if (privileges->rows[i].kind == PRIVILEGE_CAP)
			set |= 1ULL << privileges->rows[i].number;
	tell_capabilities(set, out);
}

static void declared_groups(const struct audited *audited _unused_, struct phrase *out)
{
	phrase_add(out, "none but its own");
}

static void declared_none(const struct audited *audited _unused_, struct phrase *out)
{
	phrase_add(out, "none");
}

static void declared_set(const struct audited *audited _unused_, struct phrase *out)
{
	phrase_add(out, "set");
}

static const struct part {
	enum audit_aspect aspect;
	const char *field;
	void (*declared)(const struct audited *audited, struct phrase *out);
	void (*found)(const struct audited *audited, const char *value, struct phrase *out);
} parts[] = {
	{ AUDIT_uid, "Uid", declared_uid, found_uid },
	{ AUDIT_gid, "Gid", declared_gid, found_gid },
	{ AUDIT_groups, "Groups", declared_groups, found_groups },
	{ AUDIT_cap_effective, "CapEff", declared_capabilities, found_capabilities },
	{ AUDIT_cap_permitted, "CapPrm", declared_capabilities, found_capabilities },
	{ AUDIT_cap_inheritable, "CapInh", declared_none, found_capabilities },
	{ AUDIT_cap_bounding, "CapBnd", declared_capabilities, found_capabilities },
	{ AUDIT_cap_ambient, "CapAmb", declared_none, found_capabilities },
	{ AUDIT_no_new_privs, "NoNewPrivs", declared_set, found_flag },
	{ AUDIT_tracer, "TracerPid", declared_none, found_tracer },
};

/* The first thread in full, others only where they are not as declared. */
static void compare(struct audited *audited, const struct tasks *tasks, const struct part *part)
{
	_cleanup_phrase_ struct phrase declared = { .text = NULL }, found = { .text = NULL };
	enum audit_result result = AUDIT_SAME;
	unsigned others = 0;

	part->declared(audited, &declared);
	for (size_t i = 0; i < tasks->count; i++) {
		_cleanup_phrase_ struct phrase one = { .text = NULL };
		char value[4096];
		bool same;

		part->found(audited, field(tasks->list[i].status, part->field, value, sizeof(value)), &one);
		same = strcmp(phrase_text(&one), phrase_text(&declared)) == 0;
		if (!same)
			result = AUDIT_DIFFERS;
		if (i == 0)
			phrase_add(&found, "%s", phrase_text(&one));
		else if (!same && ++others <= NAMED_MAX)
			phrase_add(&found, "; thread %d: %s", (int)tasks->list[i].tid, phrase_text(&one));
	}
	if (others > NAMED_MAX)
		phrase_add(&found, "; and %u more threads", others - NAMED_MAX);
	audit_say_phrases(audited, part->aspect, result, &declared, &found);
}

pid_t *audit_tasks(struct audited *audited)
{
	CLEANUP(tasks_free) struct tasks tasks = { .list = NULL };
	int r = tasks_read(audited, &tasks);
	pid_t *threads = r == 0 ? calloc(tasks.count + 1, sizeof(*threads)) : NULL;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		_cleanup_phrase_ struct phrase declared = { .text = NULL };

		if (r == 0) {
			compare(audited, &tasks, &parts[i]);
			continue;
		}
		parts[i].declared(audited, &declared);
		audit_unreadable(audited, parts[i].aspect, phrase_text(&declared), r);
	}
	for (size_t i = 0; threads && i < tasks.count; i++)
		threads[i] = tasks.list[i].tid;
	audited->threads = r == 0 ? (unsigned)tasks.count : 0;
	return threads;
}
