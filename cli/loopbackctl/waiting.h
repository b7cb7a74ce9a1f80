/* SPDX-License-Identifier: Apache-2.0 */
/* --wait: ask the control plane again and again until something has come about, and say on stderr how it goes. */
#pragma once

#include "cli/loopbackctl/ctl.h"

#define PROGRESS_BYTES 512

/** Has it come about? */
typedef bool waiting_over_fn(const json_t *state);
/** How it stands, in one line. */
typedef void waiting_line_fn(const json_t *state, char line[static PROGRESS_BYTES]);

/** The value of --wait, in seconds. @param otherwise without a value @return CLI_OK; CLI_USAGE, said */
_must_check_ int waiting_read(struct cli *cli, const struct cli_args *args, uint64_t otherwise, uint64_t *seconds);

/**
 * GET path until over() is true. A line that is another one than before goes to stderr: no terminal tricks, so that it reads as well in a log.
 * @param state what is known; replaced by what was last heard
 * @return CLI_OK; CLI_REFUSED the time is up, unsaid; what a call that failed returned
 */
_must_check_ int waiting_until(struct cli *cli, const char *path, uint64_t seconds, waiting_over_fn *over, waiting_line_fn *line, json_t **state);
