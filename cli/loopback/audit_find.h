/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes there are to look at: of systemd's units, or by what they execute; and how their units are.
 */
#pragma once

#include "cli/common/command.h"
#include "cli/loopback/audit_unit.h"

struct finder {
	const struct cli_args *args;
	bool systemd;      /* runs as this host's service manager */
	const char *units; /* a folder of unit files in the place of the installed ones; NULL: the installed ones */
	bool only;         /* processes were named: whatever else there is does not count */
};

/** A process's unit, from files and from systemd. */
struct unit_state {
	struct unit shipped, in_force, shown;
	bool has_shipped, has_shown;
};

/**
 * Find a process and its unit, and say whether it runs and should.
 * @param unit receives what there is of its unit; to be freed with unit_state_free()
 * @return 0; -EINVAL a --pid is not one, told in `wrong`; another negative errno
 */
_must_check_ int audit_find(const struct finder *finder, struct audited *audited, struct unit_state *unit, struct phrase *wrong);
/** Read a unit by its name. @param unit as in audit_find() @return 0; negative errno */
_must_check_ int audit_unit_look(const struct finder *finder, const char *name, struct unit_state *unit);
void unit_state_free(struct unit_state *unit);
#define _cleanup_unit_state_ CLEANUP(unit_state_free)

/** unit, unit_table, unit_in_force: only where systemd runs it. */
void audit_unit_state(struct audited *audited, const struct unit_state *unit);
/** listeners: the sockets that its unit names, who may connect to them, and their units. */
void audit_listeners(struct audited *audited, const struct finder *finder);
