/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The declared privileges of every process, in one place: each daemon links the one that is its own, and whatever compares, generates or
 * explains them (units, profiles, pages for auditors, `loopback audit`) links them all (P5). Form: libipc/sandbox.h.
 */
#pragma once

#include "libipc/sandbox.h"

extern const struct privileges netd_privileges;
extern const struct privileges fetchd_privileges;
extern const struct privileges launch_privileges;
extern const struct privileges controld_privileges;
extern const struct privileges signd_privileges;

/** A process of the suite as distributions install it. */
struct process {
	const char *name;    /* as in its table: netd */
	const char *program; /* absolute path of what its unit starts */
	const char *unit;    /* its service */
	const char *becomes; /* what it executes once its sandbox is complete; NULL: it stays what it is */
	const struct privileges *privileges;
};

/** Every long-running process there is, the agent's first; ends with a NULL name. */
extern const struct process processes[];
