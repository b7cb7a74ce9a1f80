/* SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>

#include "cli/loopback/host.h"
#include "libipc/log.h"

#define END { .name = NULL }

static const struct cli_option everywhere[] = {
	{ .name = "json", .help = "results and errors as JSON" },
	{ .name = "run", .value = "FOLDER" }, /* for rigs: where the daemons' sockets are; not in help */
	{ .name = "help", .help = "tell what there is; works after every command" },
	{ .name = "version", .help = "tell this program's version" },
	END,
};

static const struct cli_option enroll_options[] = {
	{ .name = "url", .value = "URL", .help = "the control plane, https://HOST[:PORT]", .needed = true },
	{ .name = "token-file", .value = "FILE", .help = "holds ID.SECRET.ROOT; - is stdin", .needed = true },
	{ .name = "ca", .value = "FILE", .help = "PEM of the only CA to believe; else the system's" },
	{ .name = "name", .value = "NAME", .help = "of this host; default is its host name" },
	END,
};

static const struct cli_option leave_options[] = {
	{ .name = "forget-keys", .help = "forget this host's keys too: it can only come back as another host" },
	{ .name = "force", .help = "leave even if the control plane cannot be told" },
	END,
};

static const struct cli_option status_options[] = {
	{ .name = "peers", .help = "list the peers one by one" },
	END,
};

static const struct cli_option doctor_options[] = {
	{ .name = "peer", .value = "PEER", .help = "examine this one alone: its address, host id, key, or name" },
	END,
};

static const struct cli_option audit_options[] = {
	{ .name = "process", .value = "NAME", .help = "only this one: netd, fetchd, wg-launch, controld, signd" },
	{ .name = "pid", .value = "NAME=PID", .help = "look at this process, where no systemd runs it; only those named", .repeats = true },
	{ .name = "units", .value = "FOLDER", .help = "of unit files, in the place of the installed ones" },
	END,
};

static const struct cli_option support_options[] = {
	{ .name = "output", .value = "FILE", .help = "a new file; default is loopback-support-HOST-TIME.tar, here" },
	END,
};

static const struct cli_command commands[] = {
	{ "enroll", NULL, "", "Join a deployment with a token (root)", enroll_options, loopback_enroll },
	{ "leave", NULL, "", "Leave the deployment (root)", leave_options, loopback_leave },
	{ "status", NULL, "", "Show how this host and its mesh are", status_options, loopback_status },
	{ "doctor", NULL, "", "Find out what is wrong, and what to do about it (root)", doctor_options, loopback_doctor },
	{ "audit", NULL, "", "Compare the processes' rights with what is declared (root)", audit_options, loopback_audit },
	{ "support-bundle", NULL, "", "Collect what support needs into one file, without secrets (root)", support_options, loopback_support_bundle },
};

static const struct cli_program program = {
	.name = "loopback",
	.summary = "Show and enrol this host of a loopback network.",
	.version = LOOPBACK_VERSION,
	.epilogue = "Exit: 0 done, 1 refused or failed (status: not running), 2 usage, 3 a daemon does not answer;\n"
		    "doctor: 0 all is well, 1 there is a problem, 2 something could not be examined;\n"
		    "audit: 0 as declared, 1 something differs, 2 something could not be determined.\n"
		    "See loopback(8).",
	.commands = commands,
	.command_count = ARRAY_SIZE(commands),
	.options = everywhere,
};

int main(int argc, char **argv)
{
	static struct cli cli = { .voice = { .program = "loopback" }, .run = RUN_DEFAULT };
	struct cli_args args;
	int r = cli_parse(&program, &cli.voice, argc, argv, &args);

	if (r >= 0)
		return r;
	if (sodium_init() < 0)
		return cli_fail(&cli.voice, CLI_REFUSED, "sodium",
				"libsodium does not start: is there a source of random numbers?");
	log_open("loopback");
	if (cli.voice.json)
		log_level_set(LOG_ERROR); /* stderr is read by a program */
	if (cli_has(&args, "run"))
		cli.run = cli_value(&args, "run");
	r = args.command->run(&cli, &args);
	if (r == CLI_OK && (fflush(stdout) == EOF || ferror(stdout)))
		r = cli_fail(&cli.voice, CLI_REFUSED, "output", "cannot write the result to stdout");
	return r;
}
