/* SPDX-License-Identifier: Apache-2.0 */
/* What a support bundle holds: one row a piece. */
#pragma once

#include "cli/loopback/support_run.h"

#define PIECE_WORDS_MAX 12

struct piece {
	const char *name;     /* of the file in the bundle */
	const char *holds;    /* for a person */
	unsigned seconds;     /* it may take */
	const char *argv[PIECE_WORDS_MAX]; /* argv[0] NULL: fill; "loopback": this very program, with its --run */
	piece_fn *fill;
};

extern const struct piece support_pieces[];
extern const size_t support_piece_count;
