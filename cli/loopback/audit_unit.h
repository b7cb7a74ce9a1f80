/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit files (systemd.syntax(7)) as far as they say what a service may do: the shipped file, what is in force with its drop-ins,
 * and what systemctl(1) shows of it. All of it works on texts, and touches nothing.
 */
#pragma once

#include "cli/loopback/audit.h"

struct unit_setting {
	char *key, *value;
	char *file; /* where it stands */
};

struct unit {
	struct unit_setting *list;
	size_t count;
};

/**
 * Add what the [Service] or [Socket] section of a unit file, or of a drop-in, sets; in the order in which systemd reads them.
 * @param file its path, for messages @return 0; -ENOMEM
 */
_must_check_ int unit_read(struct unit *unit, const char *file, const char *text);
/** Add lines of KEY=VALUE, as `systemctl show` prints them. @return 0; -ENOMEM */
_must_check_ int unit_read_properties(struct unit *unit, const char *text);
void unit_free(struct unit *unit);
#define _cleanup_unit_ CLEANUP(unit_free)

/** The last assignment's value, or of a setting that is a list all since the last empty one. @return false: it is not set */
bool unit_value(const struct unit *unit, const char *key, struct phrase *value);
/** Is a boolean setting, or one whose weakest value is "no", set to anything else? */
bool unit_flag(const struct unit *unit, const char *key);

/** Name each setting that is no matter of taste (memory, CPU, restarts ...) and is not as shipped. @return how many */
unsigned unit_changes(const struct unit *shipped, const struct unit *in_force, struct phrase *out);
/** Name what the unit gives and the table does not: user, capabilities, groups, new privileges. @return how many */
unsigned unit_against_table(const struct unit *unit, const struct privileges *privileges, struct phrase *out);
/** Name what the manager goes by and the files do not say. @param shown of `systemctl show` @return how many */
unsigned unit_against_manager(const struct unit *in_force, const struct unit *shown, struct phrase *out);
