/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process may do, declared in one table and enforced from it.
 *
 * PROCESS/privileges.def holds rows of these kinds; the systemd unit's sandbox lines and the auditor's page are generated from the same
 * file, `loopback audit` compares it with the running process (P5).
 *
 *   PROCESS(name, user)                       once, first
 *   CAP(capability, why)                      kept; every other one is dropped, from the bounding set too
 *   PATH(mode, key, path, why)                RO (read), RW (read, write, make, remove); key lets a rig put it elsewhere
 *   SOCKET(family, protocol, why)             socket(2) with this family; protocol ANY or a number
 *   HOLD(object, why)                         a kind of descriptor that it is handed, or opened before the filter, and could not make itself:
 *                                             a socket family, or a device by its path. Gives no right, is only compared with what it has
 *   PEER(user, why)                           another user whom it knows by uid when he connects: a user namespace would hide him
 *   VIEW(mode, path, why)                     what the unit's mount namespace shows besides PATH, and Landlock gives no right to: CONNECT
 *                                             (a socket of somebody else's), CODE (mapped at the start), START (read at the start), NAME
 *   START(syscall, why)                       only until the filter stands: for the loader and for what comes before the filter
 *   SYS(syscall, why)                         any arguments
 *   SYS_EQ(syscall, argument, value, why)     only with this argument equal to value
 *   SYS_MASK(syscall, argument, mask, value, why)   only with (argument & mask) == value
 *   SYS_ABSENT(syscall, why)                  answered with ENOSYS, as by a kernel that does not have it: no right, but no death either
 *
 * Rows of one system call add up: one of them has to match. What no row names kills the process (SIGSYS).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libipc/cleanup.h"

enum privilege_kind { PRIVILEGE_PROCESS, PRIVILEGE_CAP, PRIVILEGE_PATH, PRIVILEGE_SOCKET, PRIVILEGE_SYS, PRIVILEGE_HOLD,
		      PRIVILEGE_PEER, PRIVILEGE_VIEW, PRIVILEGE_START };
enum privilege_compare { COMPARE_NONE, COMPARE_EQ, COMPARE_MASK, COMPARE_ABSENT };
enum path_mode { PATH_RO, PATH_RW };
enum view_mode { VIEW_CONNECT, VIEW_CODE, VIEW_START, VIEW_NAME };

#define PROTOCOL_ANY (-1)

struct sock_filter; /* linux/filter.h */

struct privilege {
	enum privilege_kind kind;
	const char *name; /* process, capability, path key, family, system call, what is held, peer, mode of a view */
	const char *path; /* PATH, VIEW: where; PROCESS: the user; SOCKET: protocol, SYS: value, in the table's words; NULL if it is not limited */
	const char *why;
	int number;       /* capability, family, system call, path mode, view mode */
	int protocol;
	enum privilege_compare compare;
	unsigned argument;
	uint64_t mask, value;
};

struct privileges {
	const struct privilege *rows;
	size_t count;
};

/** Where a PATH row is on this machine, if not where the table says. */
struct sandbox_place {
	const char *key;
	const char *path;
};

/**
 * Give up everything that the table does not name, in this order: core dumps and tracing by others, supplementary groups, bounding set, gid,
 * uid, capabilities (ambient and inheritable ones too), no_new_privs; then try to get each back, and fail if one works.
 * Works from root (drops to the table's user, or to `user` if given) and from the user itself with ambient capabilities.
 * @param user NULL: the table's
 * @return 0; negative errno, logged: the caller must exit
 */
_must_check_ int sandbox_drop(const struct privileges *privileges, const char *user);

/**
 * Landlock (kernel 5.13): only the table's paths; where the kernel knows how, no TCP for those without an internet family, no signals and no
 * abstract sockets to the outside (6.12). A path that does not exist gives no right. Without Landlock in the kernel: a warning, and the unit's mount namespace
 * carries it alone.
 * @param places ends with a NULL key; may be NULL
 * @return 0; negative errno, logged
 */
_must_check_ int sandbox_paths(const struct privileges *privileges, const struct sandbox_place *places);

/** The seccomp filter, last: kills the process at whatever the table does not name. @return 0; negative errno, logged */
_must_check_ int sandbox_filter(const struct privileges *privileges);

/**
 * The filter that sandbox_filter() loads, as the kernel keeps it (linux/filter.h): the same table and libseccomp give the same program.
 * @param code receives the instructions; the caller's to free()
 * @param count receives how many
 * @return 0; negative errno, logged
 */
_must_check_ int sandbox_program(const struct privileges *privileges, struct sock_filter **code, size_t *count);

/** A libseccomp filter as such a program. @param filter a scmp_filter_ctx, which stays the caller's @return 0; negative errno */
_must_check_ int sandbox_export(void *filter, struct sock_filter **code, size_t *count);

/** sandbox_drop(), sandbox_paths(), sandbox_filter(). */
_must_check_ int sandbox_enter(const struct privileges *privileges, const char *user, const struct sandbox_place *places);
