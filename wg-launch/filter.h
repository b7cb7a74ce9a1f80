/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cage in which wireguard-go runs: Landlock and seccomp from wg-launch/privileges.def, fitted for a program that is not ours and that
 * has still to be executed.
 */
#pragma once

#include "libipc/sandbox.h"

/**
 * Only the paths of the table may be read from now on (uapi/linux/landlock.h), and only `program` and the libraries executed. Nothing may be
 * written, made or removed. Where the kernel knows how, no TCP (6.7), and no signals and abstract sockets to others (6.12). Without Landlock in the kernel: a warning.
 * @return 0; negative errno, logged
 */
_must_check_ int filter_paths(const struct privileges *privileges, const char *program);

/**
 * seccomp: what the table names is allowed; ioctl(SIOCSIFMTU), the one thing that wireguard-go does and must not, succeeds without being
 * carried out (netd sets the MTU); execve() is allowed for this very pointer to a path, and nothing else can be a fresh one in the
 * image that replaces this one; what only an attacker would call kills; anything else does not exist (ENOSYS).
 * @param program the pointer that will be given to execve(2), as it is
 * @return 0; negative errno, logged
 */
_must_check_ int filter_calls(const struct privileges *privileges, const char *program);

/** What filter_calls() loads, in the form of sandbox_program(): it differs from one start to the next in the pointer alone. */
_must_check_ int filter_program(const struct privileges *privileges, const char *program, struct sock_filter **code, size_t *count);
