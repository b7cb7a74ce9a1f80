/* SPDX-License-Identifier: Apache-2.0 */
/* loopback audit: what each process may do by its table, and what it can, side by side. */
#include "cli/loopback/audit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/loopback/audit_find.h"
#include "cli/loopback/audit_report.h"
#include "cli/loopback/host.h"

/* What `loopback audit` ends with; loopback(8) promises it. */
enum { AUDIT_EXIT_SAME = 0, AUDIT_EXIT_DIFFERS = 1, AUDIT_EXIT_UNKNOWN = 2 };

/* Waiting for netd's tunnel, a launcher has dropped everything but is not in its cage yet, which is for what it becomes. */
static bool still_waits(const struct audited *audited)
{
	struct stat runs, launcher;

	return audited->process->becomes && fstatat(audited->proc, "exe", &runs, 0) == 0 &&
	       stat(audited->process->program, &launcher) == 0 && runs.st_dev == launcher.st_dev &&
	       runs.st_ino == launcher.st_ino;
}

static void look_at_waiting(struct audited *audited)
{
	static const char not_yet[] = "not yet: it still waits for netd's tunnel, and enters its cage with what it executes then";

	audit_say(audited, AUDIT_program, AUDIT_SAME, audited->process->becomes, audited->process->program);
	audit_say(audited, AUDIT_seccomp, AUDIT_UNKNOWN, "the filter of its table", not_yet);
	audit_say(audited, AUDIT_landlock, AUDIT_UNKNOWN, "its paths and no others", not_yet);
}

static void look_at(struct audited *audited, const struct finder *finder, const struct unit_state *unit)
{
	_cleanup_free_ pid_t *threads = audit_tasks(audited);

	if (threads && still_waits(audited)) {
		look_at_waiting(audited);
	} else if (threads) {
		audit_seccomp(audited, threads);
		audit_landlock(audited);
		audit_program(audited, threads);
	}
	audit_user(audited);
	audit_namespaces(audited);
	audit_descriptors(audited);
	audit_listeners(audited, finder);
	audit_paths(audited);
	audit_unit_state(audited, unit);
}

static bool is_named(const struct finder *finder, const char *name)
{
	const char *only = cli_value(finder->args, "process"), *value;
	size_t length = strlen(name);
	unsigned at = 0;

	if (only)
		return strcmp(only, name) == 0;
	if (!finder->only)
		return true;
	while ((value = cli_next(finder->args, "pid", &at)))
		if (strncmp(value, name, length) == 0 && value[length] == '=')
			return true;
	return false;
}

/* @param value begins with a process's name, n bytes long */
static int check_name(struct cli *cli, const char *value, size_t n)
{
	for (const struct process *process = processes; process->name; process++)
		if (strncmp(value, process->name, n) == 0 && process->name[n] == '\0')
			return CLI_OK;
	return cli_fail(&cli->voice, CLI_USAGE, "usage",
			"\"%s\" names none of loopback's processes: netd, fetchd, wg-launch, controld, signd", value);
}

/* Does each NAME of the command line stand for a process? */
static int check_names(struct cli *cli, const struct finder *finder)
{
	const char *value = cli_value(finder->args, "process");
	int r = value ? check_name(cli, value, strlen(value)) : CLI_OK;
	unsigned at = 0;

	while (r == CLI_OK && (value = cli_next(finder->args, "pid", &at)))
		r = strchr(value, '=') ? check_name(cli, value, strcspn(value, "=")) :
					 cli_fail(&cli->voice, CLI_USAGE, "usage", "--pid %s: expected NAME=PID", value);
	return r;
}

static int look_at_one(struct cli *cli, const struct finder *finder, const struct process *process, struct audit *audit)
{
	struct audited *audited = &audit->list[audit->count];
	_cleanup_unit_state_ struct unit_state unit = { .has_shown = false };
	_cleanup_phrase_ struct phrase wrong = { .text = NULL };
	int r;

	*audited = (struct audited){ .process = process, .pidfd = -1, .proc = -1 };
	r = audit_find(finder, audited, &unit, &wrong);
	if (r == -EINVAL && wrong.n)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "%s", phrase_text(&wrong));
	if (r < 0)
		return cli_fail(&cli->voice, AUDIT_EXIT_UNKNOWN, "unreadable", "cannot look for %s: %s", process->name,
				strerror(-r));
	if (audited->state == AUDIT_ABSENT)
		return CLI_OK;
	audit->count++;
	if (audited->state == AUDIT_RUNNING)
		look_at(audited, finder, &unit);
	audited->shipped = NULL; /* it goes with this function */
	return audited->failed ? cli_fail(&cli->voice, AUDIT_EXIT_UNKNOWN, "memory", "out of memory") : CLI_OK;
}

static int report(struct cli *cli, const struct audit *audit)
{
	if (audit->count == 0)
		return cli_fail(&cli->voice, AUDIT_EXIT_UNKNOWN, "nothing",
				"none of loopback's processes is installed here or runs; there is nothing to compare");
	if (cli->voice.json)
		audit_report_json(audit);
	else
		audit_report_text(audit);
	if (fflush(stdout) == EOF || ferror(stdout))
		return cli_fail(&cli->voice, AUDIT_EXIT_UNKNOWN, "output", "cannot write the result to stdout");
	if (audit_worst(audit) == AUDIT_DIFFERS)
		return AUDIT_EXIT_DIFFERS;
	return audit_worst(audit) == AUDIT_UNKNOWN ? AUDIT_EXIT_UNKNOWN : AUDIT_EXIT_SAME;
}

int loopback_audit(struct cli *cli, const struct cli_args *args)
{
	struct finder finder = { .args = args, .units = cli_value(args, "units") };
	struct audit audit = { .count = 0 };
	int r = check_names(cli, &finder);

	if (r)
		return r;
	if (geteuid() != 0)
		return cli_fail(&cli->voice, AUDIT_EXIT_UNKNOWN, "permission",
				"only root may look into these processes; try again with sudo");
	finder.systemd = access("/run/systemd/system", F_OK) == 0; /* sd_booted(3) */
	finder.only = cli_has(args, "process") || cli_has(args, "pid");
	audit.systemd = finder.systemd;
	for (const struct process *process = processes; r == CLI_OK && process->name; process++)
		if (is_named(&finder, process->name) && audit.count < ARRAY_SIZE(audit.list))
			r = look_at_one(cli, &finder, process, &audit);
	if (r == CLI_OK)
		r = report(cli, &audit);
	for (size_t i = 0; i < audit.count; i++)
		audited_free(&audit.list[i]);
	return r;
}
