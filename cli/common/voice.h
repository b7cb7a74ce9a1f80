/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a command line program says that something did not work: one line for a person, or one problem object (RFC 9457) for a
 * program. Always on stderr, so that stdout carries results alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "libipc/cleanup.h"

/* What a command ends with; the programs' manual pages promise these. */
enum cli_exit {
	CLI_OK = 0,
	CLI_REFUSED = 1,     /* it was understood and did not succeed */
	CLI_USAGE = 2,       /* the command line is not one of ours */
	CLI_UNREACHABLE = 3, /* nobody answered */
};

struct cli_voice {
	const char *program;
	bool json;
	bool mute; /* report nothing: for what is done only if it can be */
};

/**
 * Report a failure.
 * @param code a stable word for programs
 * @return exit, so that a caller can write `return cli_fail(...)`
 */
int cli_fail(const struct cli_voice *voice, int exit_code, const char *code, const char *format, ...) _printf_(4, 5);

/** Tell a person something on stderr; silent with --json. */
void cli_note(const struct cli_voice *voice, const char *format, ...) _printf_(2, 3);

/**
 * Copy UTF-8 from elsewhere for a terminal: control characters (C0, DEL, C1) and broken sequences become '?'.
 * @return out, always terminated, cut to size - 1 bytes between characters
 */
const char *cli_clean(char *out, size_t size, const char *text, size_t n);

/** Bytes of the UTF-8 sequence at text, of which n are there; 0 if it is not well formed (RFC 3629). */
size_t utf8_sequence(const char *text, size_t n);
