/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs what fills one piece of a support bundle, in a process of its own, so that nothing it does or waits for can hold the
 * bundle up: its output is bounded in bytes and in time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "libipc/cleanup.h"

#define PIECE_BYTES_MAX (4U << 20)

/** Fills a piece: writes to stdout, in the child. @return the child's exit status */
typedef int piece_fn(void);

struct piece_output {
	char *bytes; /* owned by the caller: piece_output_free(); wiped there, for a piece may be of secrets */
	size_t n;
	bool cut;	/* there was more */
	bool timed_out; /* it was killed */
	int status;	/* as waitpid(2) has it; -1: not known, it cannot be killed */
};

/**
 * Run a program, or a function, with stdout and stderr caught and stdin empty.
 * @param argv of a program with its whole path, the environment empty but for a few harmless words; NULL: run fill
 * @param seconds after that it is killed with all that it started
 * @param stop a descriptor that becomes readable when all is to end at once: a signalfd(2)
 * @return 0, also if it failed or was killed: see output; -EINTR stopped; -ENOENT there is no such program; other errors of the
 * system
 */
_must_check_ int piece_run(const char *const *argv, piece_fn *fill, unsigned seconds, int stop, struct piece_output *output);

void piece_output_free(struct piece_output *output);
#define _cleanup_piece_ CLEANUP(piece_output_free)
