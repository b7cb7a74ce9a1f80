/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is generated from the tables of privileges: the sandbox lines of systemd units, AppArmor profiles, pages for auditors.
 * Each function writes text; the stream keeps errors (ferror(3)), which the caller asks for once at the end.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "privileges/tables.h"

/** The rows of a process, one after the other. */
#define FOR_EACH_ROW(row, process)                                                                      \
	for (const struct privilege *row = (process)->privileges->rows;                                 \
	     row < (process)->privileges->rows + (process)->privileges->count; row++)

/** Whom it runs as. */
static inline const char *process_user(const struct process *process)
{
	return process->privileges->rows[0].path;
}

/** Does it make, or hold, sockets of this family ("AF_INET")? */
bool process_has_family(const struct process *process, const char *family);
/** Does it make, or hold, internet sockets? */
bool process_has_internet(const struct process *process);
/** Does it have a row of this kind? */
bool process_has(const struct process *process, enum privilege_kind kind);

/**
 * A list of different words in the order of the alphabet, written as lines `KEY=word word ...` no longer than a line of ours.
 * Words are borrowed.
 */
struct words {
	const char *at[256];
	size_t count;
};

/** Add a word that is not there yet. What does not fit ends the program: the tables are ours. */
void words_add(struct words *words, const char *word);
void words_write(FILE *out, const char *key, struct words *words);

/** Lines for [Service] that hold the process back to its table: systemd.exec(5), systemd.resource-control(5), of systemd 252. */
void systemd_write(FILE *out, const struct process *process);
/** A profile for apparmor_parser(8), named loopback-PROCESS. */
void apparmor_write(FILE *out, const struct process *process);
/** The auditor's page of a process. @param takeover what taking it over buys, in words, for a section of its own */
void page_write(FILE *out, const struct process *process, FILE *takeover);
/** The table of all processes side by side. */
void page_write_overview(FILE *out);
