/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon whose code is somebody else's. It is put in the place of the program that a unit starts (netd, fetchd, controld, signd, or the wireguard-go
 * that wg-launch becomes), goes by the name it was started under, enters that daemon's sandbox with the calls and the table that the daemon itself uses,
 * keeps the descriptors that the service manager passed, and then does what the script at the end of its file says (script.h).
 *
 * What is there before the sandbox (the script, an alarm that ends what hangs) is the test's; the attacker comes after it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "libipc/log.h"
#include "libipc/service.h"
#include "privileges/tables.h"
#include "tests/takeover/script.h"

#define HANGS_SECONDS 10

static const struct process *process_find(const char *name)
{
	for (const struct process *process = processes; process->name; process++)
		if (strcmp(process->name, name) == 0)
			return process;
	return NULL;
}

/* What main() of each daemon does before it reads a word of a peer's. In the place of wireguard-go, wg-launch has done all of it. */
static int sandbox_as(const char *name)
{
	const struct process *process = process_find(name);
	int r;

	if (strcmp(name, "wireguard-go") == 0)
		return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == -1 && errno == ENOSYS ? 0 : -EPERM;
	if (!process) {
		(void)fprintf(stderr, "takeover: started as \"%s\", which is none of our processes\n", name);
		return -EINVAL;
	}
	r = service_open();
	return r < 0 ? r : sandbox_enter(process->privileges, NULL, NULL);
}

int main(void)
{
	const char *path, *slash;
	struct script *script;
	unsigned long name = getauxval(AT_EXECFN);

	memcpy(&path, &name, sizeof(path));
	slash = strrchr(path, '/');
	log_open("takeover");
	if (script_load(path, &script) < 0)
		return 121;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return 121;
	(void)alarm(HANGS_SECONDS);
	if (!script_is_bare(script) && sandbox_as(slash ? slash + 1 : path) < 0)
		return 122;
	return script_run(script);
}
