/* SPDX-License-Identifier: Apache-2.0 */
/* What runs: its file and who may write it, what is mapped, with which environment; who may look into it; what it has started. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/loopback/audit_unit.h"

#define NAMED_MAX 6

static const char *program_of(const struct process *process)
{
	return process->becomes ? process->becomes : process->program;
}

/* -- program, program_file --------------------------------------------------------------------------------------------------- */

static int link_read(int folder, const char *name, char out[static PATH_MAX])
{
	ssize_t n = readlinkat(folder, name, out, PATH_MAX - 1);

	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

static void check_program(struct audited *audited)
{
	const char *should = program_of(audited->process);
	char is[PATH_MAX], found[PATH_MAX + 128];
	struct stat running, installed;
	bool same;
	int r = link_read(audited->proc, "exe", is);

	if (r == 0 && fstatat(audited->proc, "exe", &running, 0) < 0)
		r = -errno;
	if (r < 0) {
		audit_unreadable(audited, AUDIT_program, should, r);
		return;
	}
	/* As this host has it: the process's own view may hold on to the file that it was started from. */
	same = stat(should, &installed) == 0 && running.st_dev == installed.st_dev && running.st_ino == installed.st_ino;
	if (same)
		(void)snprintf(found, sizeof(found), "%s", should);
	else if (strncmp(is, should, strlen(should)) == 0)
		(void)snprintf(found, sizeof(found), "%s, which is not the file of that name: it was replaced since the start",
			       is);
	else
		(void)snprintf(found, sizeof(found), "%s", is);
	audit_say(audited, AUDIT_program, same ? AUDIT_SAME : AUDIT_DIFFERS, should, found);
}

static void name_writers(const char *path, const struct stat *status, struct phrase *out)
{
	if (status->st_uid != 0)
		phrase_item(out, "%s belongs to uid %u", path, (unsigned)status->st_uid);
	else if ((status->st_mode & S_IWGRP) && status->st_gid != 0)
		phrase_item(out, "%s can be written by gid %u", path, (unsigned)status->st_gid);
	if ((status->st_mode & S_IWOTH) && !(S_ISDIR(status->st_mode) && (status->st_mode & S_ISVTX)))
		phrase_item(out, "%s can be written by everyone", path);
}

/* The file and every folder above it, as this host has them. @return 0; negative errno */
static int find_writers(const char *program, struct phrase *out)
{
	char path[PATH_MAX];
	struct stat status;

	if (!realpath(program, path))
		return -errno;
	for (;;) {
		char *slash = strrchr(path, '/');

		if (stat(path, &status) < 0)
			return -errno;
		name_writers(path, &status, out);
		if (!slash || strcmp(path, "/") == 0)
			return 0;
		slash[slash == path ? 1 : 0] = '\0';
	}
}

static void check_program_file(struct audited *audited)
{
	_cleanup_phrase_ struct phrase found = { .text = NULL };
	int r = find_writers(audited->process->program, &found);

	if (r == 0 && audited->process->becomes)
		r = find_writers(audited->process->becomes, &found);
	if (r < 0) {
		audit_unreadable(audited, AUDIT_program_file, "root's, and nobody else may write it", r);
		return;
	}
	audit_say(audited, AUDIT_program_file, found.n ? AUDIT_DIFFERS : AUDIT_SAME, "root's, and nobody else may write it",
		  found.n ? phrase_text(&found) : "root's, and nobody else may write it");
	audited->failed |= found.failed;
}

/* -- code: what is mapped to be executed (proc(5), /proc/PID/maps) ----------------------------------------------------------- */

struct mapping {
	unsigned long from, to;
	char rights[5];
	const char *name;
};

static bool mapping_read(const char *line, size_t n, char *text, size_t size, struct mapping *mapping)
{
	int name = 0;

	(void)snprintf(text, size, "%.*s", (int)n, line);
	if (sscanf(text, "%lx-%lx %4s %*s %*s %*s %n", &mapping->from, &mapping->to, mapping->rights, &name) != 3 || name == 0)
		return false;
	mapping->name = text + name;
	return true;
}

static bool kernels_own(const char *name)
{
	return strcmp(name, "[vdso]") == 0 || strcmp(name, "[vsyscall]") == 0 || strcmp(name, "[vectors]") == 0;
}

/* @return what is wrong with it; NULL: nothing */
static const char *code_wrong(const struct audited *audited, const struct mapping *mapping)
{
	struct stat status;
	char link[64];

	if (mapping->rights[1] == 'w')
		return "can be written and executed";
	if (mapping->name[0] != '/')
		return "is executable and comes from no file";
	(void)snprintf(link, sizeof(link), "map_files/%lx-%lx", mapping->from, mapping->to);
	if (fstatat(audited->proc, link, &status, 0) < 0)
		return NULL; /* unmapped since */
	if (status.st_uid != 0 || (status.st_mode & S_IWOTH) || ((status.st_mode & S_IWGRP) && status.st_gid != 0))
		return "is executable and can be written by others than root";
	return status.st_nlink == 0 && strncmp(mapping->name, "/memfd:", 7) == 0 ? "is executable and lives in memory alone" :
										   NULL;
}

static void check_code(struct audited *audited)
{
	static const char should[] = "from root's files alone, none of it writable";
	_cleanup_phrase_ struct phrase found = { .text = NULL };
	_cleanup_free_ char *maps = NULL;
	ssize_t n = audit_read(audited->proc, "maps", &maps);
	unsigned wrong = 0;

	for (const char *line = maps; n > 0 && line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		char text[PATH_MAX + 128];
		struct mapping mapping;
		const char *what;

		if (!mapping_read(line, strcspn(line, "\n"), text, sizeof(text), &mapping) || mapping.rights[2] != 'x' ||
		    kernels_own(mapping.name))
			continue;
		what = code_wrong(audited, &mapping);
		if (what && ++wrong <= NAMED_MAX)
			phrase_item(&found, "%s %s", mapping.name[0] ? mapping.name : "memory", what);
	}
	if (n <= 0)
		audit_unreadable(audited, AUDIT_code, should, n < 0 ? (int)n : -ESRCH);
	else
		audit_say(audited, AUDIT_code, wrong ? AUDIT_DIFFERS : AUDIT_SAME, should, wrong ? phrase_text(&found) : should);
	audited->failed |= found.failed;
}

/* -- environment ------------------------------------------------------------------------------------------------------------- */

/* Of the loader (ld.so(8)), the C library, OpenSSL and libcurl. Names only: values may be somebody's secrets. */
static bool dangerous(const char *variable)
{
	static const char *const names[] = { "LD_",	  "GLIBC_TUNABLES=", "GCONV_PATH=",
					     "MALLOC_",	  "OPENSSL_",	     "SSLKEYLOGFILE=",
					     "SSL_CERT_", "GODEBUG=",	     "GOTRACEBACK=" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strncmp(variable, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static void check_environment(struct audited *audited)
{
	static const char should[] = "nothing that loads code or writes secrets";
	_cleanup_phrase_ struct phrase found = { .text = NULL };
	_cleanup_free_ char *variables = NULL;
	ssize_t n = audit_read(audited->proc, "environ", &variables);

	if (n < 0) {
		audit_unreadable(audited, AUDIT_environment, should, (int)n);
		return;
	}
	for (const char *one = variables; one < variables + n; one += strlen(one) + 1)
		if (dangerous(one))
			phrase_item(&found, "%.*s is set", (int)strcspn(one, "="), one);
	audit_say(audited, AUDIT_environment, found.n ? AUDIT_DIFFERS : AUDIT_SAME, should,
		  found.n ? phrase_text(&found) : should);
	audited->failed |= found.failed;
}

/* -- apparmor: only where the unit asks for a profile and this kernel has such. ---------------------------------------------- */

static bool apparmor_enabled(void)
{
	_cleanup_free_ char *answer = NULL;

	return audit_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", &answer) > 0 && answer[0] == 'Y';
}

static void check_apparmor(struct audited *audited)
{
	_cleanup_phrase_ struct phrase profile = { .text = NULL }, should = { .text = NULL };
	_cleanup_free_ char *is = NULL;
	ssize_t n;

	if (!audited->managed || !audited->shipped || !unit_value(audited->shipped, "AppArmorProfile", &profile) ||
	    !apparmor_enabled())
		return;
	phrase_add(&should, "%s (enforce)", phrase_text(&profile) + (phrase_text(&profile)[0] == '-'));
	n = audit_read(audited->proc, "attr/current", &is);
	if (n < 0) {
		audit_unreadable(audited, AUDIT_apparmor, phrase_text(&should), (int)n);
		return;
	}
	is[strcspn(is, "\n")] = '\0';
	audit_say(audited, AUDIT_apparmor, strcmp(is, phrase_text(&should)) == 0 ? AUDIT_SAME : AUDIT_DIFFERS,
		  phrase_text(&should), is);
	audited->failed |= should.failed;
}

/* -- memory, core_limit, children -------------------------------------------------------------------------------------------- */

/* proc(5): files of a process that is not dumpable belong to root, else to its effective user. */
static void check_memory(struct audited *audited)
{
	const char *should = audited->process->becomes ? "open to root and its own user" : "open to root alone";
	const char *is;
	struct stat status;

	if (fstatat(audited->proc, "mem", &status, 0) < 0) {
		audit_unreadable(audited, AUDIT_memory, should, -errno);
		return;
	}
	is = status.st_uid == 0 ? "open to root alone" : "open to root and its own user";
	audit_say(audited, AUDIT_memory, status.st_uid == 0 || audited->process->becomes ? AUDIT_SAME : AUDIT_DIFFERS, should,
		  is);
}

static void check_core_limit(struct audited *audited)
{
	_cleanup_free_ char *limits = NULL;
	char soft[32] = "", hard[32] = "", found[80];
	ssize_t n = audit_read(audited->proc, "limits", &limits);
	const char *line = n > 0 ? strstr(limits, "Max core file size") : NULL;

	if (!line || sscanf(line, "Max core file size %31s %31s", soft, hard) != 2) {
		audit_unreadable(audited, AUDIT_core_limit, "0", n < 0 ? (int)n : -EPROTO);
		return;
	}
	(void)snprintf(found, sizeof(found), strcmp(soft, hard) == 0 ? "%s" : "soft %s, hard %s", soft, hard);
	audit_say(audited, AUDIT_core_limit, strcmp(found, "0") == 0 ? AUDIT_SAME : AUDIT_DIFFERS, "0", found);
}

static void check_children(struct audited *audited, const pid_t *threads)
{
	_cleanup_phrase_ struct phrase found = { .text = NULL };

	for (size_t i = 0; threads[i]; i++) {
		_cleanup_free_ char *children = NULL;
		char path[64];
		ssize_t n;

		(void)snprintf(path, sizeof(path), "task/%d/children", (int)threads[i]);
		n = audit_read(audited->proc, path, &children);
		if (n < 0 && i == 0) {
			audit_unreadable(audited, AUDIT_children, "none", (int)n);
			return;
		}
		if (n > 0)
			phrase_item(&found, "process %s", children);
	}
	audit_say(audited, AUDIT_children, found.n ? AUDIT_DIFFERS : AUDIT_SAME, "none", found.n ? phrase_text(&found) : "none");
	audited->failed |= found.failed;
}

void audit_program(struct audited *audited, const pid_t *threads)
{
	check_program(audited);
	check_program_file(audited);
	check_code(audited);
	check_environment(audited);
	check_apparmor(audited);
	check_memory(audited);
	check_core_limit(audited);
	check_children(audited, threads);
}
