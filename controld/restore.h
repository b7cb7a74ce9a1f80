/* SPDX-License-Identifier: Apache-2.0 */
/* `controld backup` and `controld restore` (docs/design/control-plane.md). */
#pragma once

#include "controld/controld.h"

#define RETIRED_MAX 256

struct restore_options {
	const char *retired[RETIRED_MAX]; /* hosts, by name or id; borrowed */
	unsigned retired_count;
	bool keep_tokens, new_credential;
};

/** Write a backup of DIR's database. The daemon may run. @return 0; negative errno, logged */
_must_check_ int controld_backup(const char *dir, const char *path);

/**
 * Make DIR's database of a backup, and tell on stdout what there is now and what is to be done next.
 * Tokens are revoked unless they are to be kept: one that was revoked after the backup must not come back to life by it.
 * @return 0; negative errno, logged: nothing is restored
 */
_must_check_ int controld_restore(const char *dir, const char *path, const struct restore_options *options);
