/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/common/command.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

bool cli_has(const struct cli_args *args, const char *option)
{
	for (unsigned i = 0; i < args->given; i++)
		if (same(args->options[i].option->name, option))
			return true;
	return false;
}

const char *cli_next(const struct cli_args *args, const char *option, unsigned *at)
{
	for (; *at < args->given; (*at)++)
		if (same(args->options[*at].option->name, option))
			return args->options[(*at)++].value;
	return NULL;
}

const char *cli_value(const struct cli_args *args, const char *option)
{
	unsigned at = 0;

	return cli_next(args, option, &at);
}

/* -- Help. ------------------------------------------------------------------------------------------------------- */

static void print_options(const struct cli_option *options)
{
	for (; options && options->name; options++) {
		char left[64];

		if (!options->help)
			continue;
		(void)snprintf(left, sizeof(left), options->lax ? "--%s [%s]" : "--%s %s", options->name,
			       options->value ? options->value : "");
		(void)printf("  %-27s %s%s%s\n", left, options->help, options->needed ? " (needed)" : "",
			     options->repeats ? " (repeat it for more)" : "");
	}
}

static void print_command_line(const struct cli_command *command)
{
	char left[128];

	(void)snprintf(left, sizeof(left), "%s%s%s %s", command->noun, command->verb ? " " : "",
		       command->verb ? command->verb : "", command->arguments);
	(void)printf("  %-34s %s\n", left, command->summary);
}

static int help_program(const struct cli_program *program, const char *noun)
{
	(void)printf("%s\n\nUsage: %s %s [OPTION]...\n\nCommands:\n", program->summary, program->name, noun ? noun : "COMMAND");
	for (unsigned i = 0; i < program->command_count; i++)
		if (!noun || same(program->commands[i].noun, noun))
			print_command_line(&program->commands[i]);
	(void)printf("\nOptions of every command:\n");
	print_options(program->options);
	if (!noun && program->epilogue)
		(void)printf("\n%s\n", program->epilogue);
	return CLI_OK;
}

static int help_command(const struct cli_program *program, const struct cli_command *command)
{
	(void)printf("%s\n\nUsage: %s %s%s%s%s%s [OPTION]...\n", command->summary, program->name, command->noun,
		     command->verb ? " " : "", command->verb ? command->verb : "", command->arguments[0] ? " " : "",
		     command->arguments);
	if (command->options && command->options->name) {
		(void)printf("\nOptions:\n");
		print_options(command->options);
	}
	(void)printf("\nOptions of every command:\n");
	print_options(program->options);
	return CLI_OK;
}

/* -- Parsing. ---------------------------------------------------------------------------------------------------- */

struct parse {
	const struct cli_program *program;
	struct cli_voice *voice;
	struct cli_args *args;
	const char *noun;
	bool help, version;
};

/* How the user names what they asked for, in messages. */
static const char *asked(const struct parse *parse, char *out, size_t size)
{
	const struct cli_command *command = parse->args->command;

	if (command)
		(void)snprintf(out, size, "%s %s%s%s", parse->program->name, command->noun, command->verb ? " " : "",
			       command->verb ? command->verb : "");
	else
		(void)snprintf(out, size, "%s%s%s", parse->program->name, parse->noun ? " " : "", parse->noun ? parse->noun : "");
	return out;
}

static const struct cli_option *find_option(const struct cli_option *options, const char *name, size_t n)
{
	for (; options && options->name; options++)
		if (strlen(options->name) == n && strncmp(options->name, name, n) == 0)
			return options;
	return NULL;
}

/* Take one option at argv[*at], and its value. */
static int take_option(struct parse *parse, int argc, char **argv, int *at)
{
	const char *text = same(argv[*at], "-h") ? "--help" : argv[*at];
	const char *equals = strchr(text, '=');
	size_t n = equals ? (size_t)(equals - text) : strlen(text);
	const struct cli_option *option = NULL;
	const char *value = NULL;
	char who[128];

	if (n > 2 && text[1] == '-') {
		option = find_option(parse->program->options, text + 2, n - 2);
		if (!option && parse->args->command)
			option = find_option(parse->args->command->options, text + 2, n - 2);
	}
	if (!option)
		return cli_fail(parse->voice, CLI_USAGE, "usage", "unknown option %.*s; see %s --help", (int)n, text,
				asked(parse, who, sizeof(who)));
	if (cli_has(parse->args, option->name) && !option->repeats)
		return cli_fail(parse->voice, CLI_USAGE, "usage", "option --%s is given twice", option->name);

	if (equals && !option->value)
		return cli_fail(parse->voice, CLI_USAGE, "usage", "option --%s takes no value, and '%s' was given", option->name,
				equals + 1);
	if (equals)
		value = equals + 1;
	else if (option->value && *at + 1 < argc && (!option->lax || isdigit((unsigned char)argv[*at + 1][0])))
		value = argv[++*at];
	if (option->value && !option->lax && (!value || !value[0]))
		return cli_fail(parse->voice, CLI_USAGE, "usage", "option --%s needs a value: --%s %s", option->name,
				option->name, option->value);

	if (parse->args->given == CLI_OPTIONS_MAX)
		return cli_fail(parse->voice, CLI_USAGE, "usage", "more than %d options on one command line", CLI_OPTIONS_MAX);
	parse->args->options[parse->args->given].option = option;
	parse->args->options[parse->args->given++].value = value;

	parse->voice->json = parse->voice->json || same(option->name, "json");
	parse->help = parse->help || same(option->name, "help");
	parse->version = parse->version || same(option->name, "version");
	return -1;
}

/* The command of this noun and verb; verb NULL finds a command that is a noun alone. *noun_known tells the two misses apart. */
static const struct cli_command *find_command(const struct cli_program *program, const char *noun, const char *verb,
					      bool *noun_known)
{
	*noun_known = false;
	for (unsigned i = 0; i < program->command_count; i++) {
		const struct cli_command *command = &program->commands[i];

		if (!same(command->noun, noun))
			continue;
		*noun_known = true;
		if (verb ? same(command->verb, verb) : !command->verb)
			return command;
	}
	return NULL;
}

static int take_word(struct parse *parse, const char *word)
{
	struct cli_args *args = parse->args;
	const char *noun = parse->noun ? parse->noun : word;
	char who[128];
	bool known;

	if (args->command) {
		if (args->count == CLI_ARGUMENTS_MAX)
			return cli_fail(parse->voice, CLI_USAGE, "usage", "too many arguments: '%s' is one too many", word);
		args->words[args->count++] = word;
		return -1;
	}
	args->command = find_command(parse->program, noun, parse->noun ? word : NULL, &known);
	if (args->command)
		return -1;
	if (known && !parse->noun) {
		parse->noun = word;
		return -1;
	}
	return cli_fail(parse->voice, CLI_USAGE, "usage", "unknown command '%s'; see %s --help", word,
			asked(parse, who, sizeof(who)));
}

/* Does what was given fit the row? */
static int check_shape(const struct parse *parse)
{
	const struct cli_args *args = parse->args;
	const char *at = args->command->arguments;
	unsigned least = 0, most = 0;
	char who[128];

	while (*at) {
		size_t n = strcspn(at, " ");

		if (at[0] != '[' && most >= args->count)
			return cli_fail(parse->voice, CLI_USAGE, "usage", "%.*s is missing; usage: %s %s", (int)n, at,
					asked(parse, who, sizeof(who)), args->command->arguments);
		most++;
		least += at[0] != '[';
		at += n + strspn(at + n, " ");
	}
	if (args->count > most)
		return cli_fail(parse->voice, CLI_USAGE, "usage", "'%s' is one argument too many; usage: %s %s",
				args->words[most], asked(parse, who, sizeof(who)), args->command->arguments);

	for (const struct cli_option *option = args->command->options; option && option->name; option++)
		if (option->needed && !cli_has(args, option->name))
			return cli_fail(parse->voice, CLI_USAGE, "usage", "option --%s %s is missing; see %s --help",
					option->name, option->value, asked(parse, who, sizeof(who)));
	return -1;
}

int cli_parse(const struct cli_program *program, struct cli_voice *voice, int argc, char **argv, struct cli_args *args)
{
	struct parse parse = { .program = program, .voice = voice, .args = args };
	bool words_only = false;
	char who[128];
	int r;

	*args = (struct cli_args){ 0 };
	for (int i = 1; i < argc; i++) {
		if (!words_only && same(argv[i], "--")) {
			words_only = true;
			continue;
		}
		/* "-" alone is a word: stdin */
		if (!words_only && argv[i][0] == '-' && argv[i][1])
			r = take_option(&parse, argc, argv, &i);
		else
			r = take_word(&parse, argv[i]);
		if (r >= 0)
			return r;
	}
	if (parse.version) {
		(void)printf("%s %s\n", program->name, program->version);
		return CLI_OK;
	}
	if (parse.help)
		return args->command ? help_command(program, args->command) : help_program(program, parse.noun);
	if (!args->command)
		return cli_fail(voice, CLI_USAGE, "usage", "no command is given; see %s --help", asked(&parse, who, sizeof(who)));
	return check_shape(&parse);
}
