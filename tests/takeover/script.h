/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stand-in tries, as text that a test appends to its program file: system calls one after the other, each with its arguments.
 *
 *   attempt NAME               its name, for the report
 *   bare                       without the sandbox: the control run, as root
 *   data NAME ITEM...          bytes in memory. ITEM: u8:N u16:N u32:N u64:N (this machine's order), be16:N be32:N, s:TEXT (%20 for a blank), x:HEX,
 *                              z:N (N zero bytes), p:NAME (address of other data), r:K (what step K returned, as u32)
 *   call NAME ARG...           system call. ARG: a number, @NAME (address of data), $K (what step K returned, from 0)
 *   fork NAME ARG...           a system call that makes a process, which ends at once
 *   i386 NR ARG...             a system call by int $0x80, numbered as on i386
 *   x32 NR ARG...              a system call of the x32 numbering
 *   ack FD                     read a netlink answer: its error is the result
 *   run                        execute instructions in fresh memory
 *
 * Ends at the first step that fails. Every step is reported on standard output at once, since the next may kill:
 *
 *   takeover NAME begin | takeover NAME K CALL done VALUE | takeover NAME K CALL ERRNO | takeover NAME end
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libipc/cleanup.h"

#define SCRIPT_BYTES_MAX 65536

struct script;

/**
 * Read the script that follows the program in its own file: the last 8 bytes are its length, little-endian.
 * @return 0; negative errno, said on standard output
 */
_must_check_ int script_load(const char *path, struct script **script);
/** Is this the control run? */
bool script_is_bare(const struct script *script);
/** Carry it out. @return 0 it came to its end; 1 a step was refused */
int script_run(struct script *script);
