/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>

#include "cli/loopbackctl/api.h"

int main(int argc, char **argv)
{
	struct cli cli = { .voice = { .program = "loopbackctl" } };
	struct cli_args args;
	int r = cli_parse(&loopbackctl_program, &cli.voice, argc, argv, &args);

	if (r >= 0)
		return r;
	if (sodium_init() < 0)
		return cli_fail(&cli.voice, CLI_REFUSED, "sodium",
				"libsodium does not start: is there a source of random numbers?");
	cli.context_name = cli_value(&args, "context");
	r = args.command->run(&cli, &args);
	if (r == CLI_OK && (fflush(stdout) == EOF || ferror(stdout)))
		r = cli_fail(&cli.voice, CLI_REFUSED, "output", "cannot write the result to stdout");
	api_free(cli.api);
	json_decref(cli.config);
	return r;
}
