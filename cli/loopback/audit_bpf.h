/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp filters as programs: their digest, and what one lets through that another does not.
 */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "cli/loopback/audit.h"

#define FILTER_DIGEST_TEXT 72 /* "sha256:", 64 digits, the terminator */

struct filter {
	struct sock_filter *code; /* the owner's to free() */
	size_t count;
	bool loose[BPF_MAXINSNS]; /* constants that differ from one start to the next; they count for nothing */
};

/**
 * The filter that a process's table makes. Of a process that executes another one the pointer to its name is loose.
 * @return 0; negative errno, logged
 */
_must_check_ int filter_declared(const struct process *process, struct filter *filter);

/** Are they the same, but for what is loose in declared? */
bool filter_same(const struct filter *declared, const struct sock_filter *code, size_t count);

/** SHA-256 over the instructions as the kernel has them (struct sock_filter, this machine's byte order); what is loose is 0. */
const char *filter_digest(const struct filter *declared, const struct sock_filter *code, size_t count,
			  char out[static FILTER_DIGEST_TEXT]);

/** What a program answers to a system call (SECCOMP_RET_*): KILL_PROCESS for a program that is none. */
uint32_t filter_run(const struct sock_filter *code, size_t count, const struct seccomp_data *data);

/** What is in force of several: the strictest answer (seccomp(2)). */
struct filter_view {
	const struct sock_filter *code;
	size_t count;
};
uint32_t filters_run(const struct filter_view *stack, size_t depth, const struct seccomp_data *data);

/**
 * Name the system calls that `stack` lets through and `declared` does not. Every call is tried, with arguments of nought and of
 * all ones, and with those that the table's rows compare and their neighbours; so a difference in an argument that no row of this
 * table names can be missed.
 * @return how many there are
 */
unsigned filters_beyond(const struct process *process, const struct filter *declared, const struct filter_view *stack,
			size_t depth, struct phrase *names);
