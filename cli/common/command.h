/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command line as a table: nouns, verbs, arguments, options. Parsing, its error messages and every --help come from the rows.
 */
#pragma once

#include <stdbool.h>

#include "cli/common/voice.h"

#define CLI_ARGUMENTS_MAX 8
#define CLI_OPTIONS_MAX 64 /* given on one command line */

struct cli; /* each program's own context */

struct cli_option {
	const char *name;  /* without the dashes; NULL ends a list */
	const char *value; /* what stands for its value in help; NULL: a flag */
	const char *help;  /* NULL: not listed */
	bool repeats;      /* may be given several times */
	bool lax;          /* the value may be missing; it is taken from the next word only if that begins with a digit */
	bool needed;
};

struct cli_args {
	const struct cli_command *command;
	unsigned count;
	const char *words[CLI_ARGUMENTS_MAX]; /* after noun and verb */
	unsigned given;
	struct {
		const struct cli_option *option;
		const char *value; /* NULL for a flag, or a lax option without one */
	} options[CLI_OPTIONS_MAX];
};

typedef int cli_run_fn(struct cli *cli, const struct cli_args *args);

struct cli_command {
	const char *noun, *verb; /* verb NULL: the noun alone is the command */
	const char *arguments;   /* one word each, "[WORD]" may be missing; "" for none */
	const char *summary;     /* one line */
	const struct cli_option *options;
	cli_run_fn *run;
};

struct cli_program {
	const char *name, *summary, *version, *epilogue;
	const struct cli_command *commands; /* of one noun side by side */
	unsigned command_count;
	const struct cli_option *options; /* that every command takes: "json", "help" and "version" are among them */
};

/**
 * Understand argv.
 * @param voice json is set as soon as --json is seen, so that usage errors come in the wanted form
 * @param args receives the command and what was given; strings are argv's
 * @return -1 run args->command; otherwise the program is done (help, version, usage error) and this is its exit code
 */
int cli_parse(const struct cli_program *program, struct cli_voice *voice, int argc, char **argv, struct cli_args *args);

bool cli_has(const struct cli_args *args, const char *option);
/** @return the value of an option, NULL if it was not given */
const char *cli_value(const struct cli_args *args, const char *option);
/** Walk the values of a repeated option: *at starts at 0. @return NULL at the end */
const char *cli_next(const struct cli_args *args, const char *option, unsigned *at);
