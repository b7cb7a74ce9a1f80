/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loopback audit: what each process may do by its table (privileges/tables.h), and what it can by the word of the kernel and of
 * the service manager, side by side (P5).
 *
 * One struct audited per process; the audit_*() functions below each look at one thing and add checks to it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libipc/cleanup.h"
#include "privileges/tables.h"

/* Ordered: the worst of several is the greatest. */
enum audit_result {
	AUDIT_SAME,
	AUDIT_NOT_SHOWN, /* the kernel shows this to nobody; what stands for it is said */
	AUDIT_UNKNOWN,   /* could not be read; the reason is said. Never taken for the same */
	AUDIT_DIFFERS,
};

enum audit_aspect {
#define ASPECT(name, why, todo) AUDIT_##name,
#include "cli/loopback/audit_aspects.def"
#undef ASPECT
	AUDIT_ASPECTS
};

const char *audit_aspect_name(enum audit_aspect aspect);
const char *audit_aspect_why(enum audit_aspect aspect);
const char *audit_aspect_todo(enum audit_aspect aspect);
const char *audit_result_name(enum audit_result result);

/* -- Text that grows. Running out of memory sticks, and shows at the end. ---------------------------------------------------- */

struct phrase {
	char *text; /* NULL: nothing yet */
	size_t n;
	bool failed;
};

/** Append. */
void phrase_add(struct phrase *phrase, const char *format, ...) _printf_(2, 3);
/** Append, after ", " if there is anything yet. */
void phrase_item(struct phrase *phrase, const char *format, ...) _printf_(2, 3);
/** @return what there is, "" if nothing; valid until the next change */
const char *phrase_text(const struct phrase *phrase);
void phrase_free(struct phrase *phrase);
#define _cleanup_phrase_ CLEANUP(phrase_free)

/* -- A process and what was found -------------------------------------------------------------------------------------------- */

struct audit_check {
	enum audit_aspect aspect;
	enum audit_result result;
	char *declared, *found;
};

struct unit;

enum audit_state {
	AUDIT_ABSENT,  /* not installed, does not run */
	AUDIT_STOPPED, /* installed; whether it should run its check `running` says */
	AUDIT_RUNNING,
};

struct audited {
	const struct process *process;
	enum audit_state state;
	pid_t pid;      /* 0: does not run */
	int pidfd;      /* of it; -1: does not run */
	int proc;       /* its folder in /proc, which never becomes another process's; -1: does not run */
	uid_t uid;      /* of the table's user on this host; (uid_t)-1: there is no such user */
	gid_t gid;
	unsigned threads;
	const struct unit *shipped; /* its unit as installed; NULL: none found */
	bool managed;               /* by a running systemd */
	struct audit_check checks[AUDIT_ASPECTS];
	unsigned count;
	bool failed; /* out of memory */
};

void audited_free(struct audited *audited);

/** Add a check. Texts are copied. */
void audit_say(struct audited *audited, enum audit_aspect aspect, enum audit_result result, const char *declared,
	       const char *found);
/** The same from phrases, whose failure to get memory becomes the audit's. */
void audit_say_phrases(struct audited *audited, enum audit_aspect aspect, enum audit_result result, const struct phrase *declared,
		       const struct phrase *found);
/** "not readable: reason". @param error negative errno */
void audit_unreadable(struct audited *audited, enum audit_aspect aspect, const char *declared, int error);
/** The worst of its checks. */
enum audit_result audited_result(const struct audited *audited);

/* -- What is looked at ------------------------------------------------------------------------------------------------------- */

/**
 * uid, gid, groups, capabilities, no_new_privs, tracer: of every thread.
 * @return its threads' ids, ended by 0, the caller's to free(); NULL: it is gone
 */
pid_t *audit_tasks(struct audited *audited);
/** seccomp: of every thread, each filter in force against the one that the table makes. Stops each for some microseconds. */
void audit_seccomp(struct audited *audited, const pid_t *threads);
/** landlock: after audit_seccomp(), on whose result it rests. */
void audit_landlock(struct audited *audited);
/** program, program_file, code, environment, apparmor, memory, core_limit, children. */
void audit_program(struct audited *audited, const pid_t *threads);
/** user_alone: only where a service manager runs it, since elsewhere its user may be of several hosts at once. */
void audit_user(struct audited *audited);
/** ns_*: against those of the host. */
void audit_namespaces(struct audited *audited);
/** socket_families, descriptors. */
void audit_descriptors(struct audited *audited);
/** writable_paths: what the kernel lets the process's user write, in the process's own view of the file system. */
void audit_paths(struct audited *audited);

/* -- Details that several share, or tests look at ---------------------------------------------------------------------------- */

/** Read a file of /proc whole. @param bytes receives it, terminated; the caller's to free() @return its length; negative errno */
_must_check_ ssize_t audit_read(int folder, const char *name, char **bytes);

/** Where a PATH row is for this process: the table's path, or what its command line says with an option of the row's key. */
_must_check_ char *audit_place(const struct audited *audited, const struct privilege *row);

/** Does path lie in folder, or is it folder? */
bool audit_path_within(const char *path, const char *folder);

/** Does the table let the process make this system call at all, be it before its filter? */
bool audit_call_declared(const struct privileges *privileges, const char *call);
