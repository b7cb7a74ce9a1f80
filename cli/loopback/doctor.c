/* SPDX-License-Identifier: Apache-2.0 */
/* loopback doctor: gather, judge, tell. */
#include "cli/loopback/doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/loopback/interrupt.h"

/* What `loopback doctor` ends with, as `loopback audit` does; loopback(8) promises it. */
enum { DOCTOR_EXIT_WELL = 0, DOCTOR_EXIT_PROBLEM = 1, DOCTOR_EXIT_UNKNOWN = 2 };

static int tell(struct cli *cli, const struct facts *facts)
{
	struct diagnosis *diagnoses = calloc(DOCTOR_CHECKS, sizeof(*diagnoses));
	enum doctor_result worst;

	if (!diagnoses)
		return cli_fail(&cli->voice, DOCTOR_EXIT_UNKNOWN, "memory", "out of memory");
	doctor_judge(facts, diagnoses);
	worst = doctor_worst(diagnoses);
	if (cli->voice.json)
		doctor_report_json(facts, diagnoses);
	else
		doctor_report_text(facts, diagnoses);
	free(diagnoses);
	if (fflush(stdout) == EOF || ferror(stdout))
		return cli_fail(&cli->voice, DOCTOR_EXIT_UNKNOWN, "output", "cannot write the result to stdout");
	return worst == DOCTOR_PROBLEM ? DOCTOR_EXIT_PROBLEM : worst == DOCTOR_UNKNOWN ? DOCTOR_EXIT_UNKNOWN : DOCTOR_EXIT_WELL;
}

int loopback_doctor(struct cli *cli, const struct cli_args *args)
{
	_cleanup_facts_ struct facts facts = { .peers = NULL };
	int r = doctor_gather(cli, cli_value(args, "peer"), &facts);

	if (r == -EINTR)
		return cli_fail(&cli->voice, EXIT_INTERRUPTED, "interrupted", "interrupted; nothing was changed");
	if (r < 0)
		return cli_fail(&cli->voice, DOCTOR_EXIT_UNKNOWN, "unreadable", "cannot look: %s", strerror(-r));
	return r ? r : tell(cli, &facts);
}
