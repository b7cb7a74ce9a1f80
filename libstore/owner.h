/* SPDX-License-Identifier: Apache-2.0 */
/* A state folder and its owner: commands that root runs by hand leave files that the daemon can use. */
#pragma once

#include <stdbool.h>

#include "libipc/cleanup.h"

/**
 * Become the owner of a state folder, for good, if this is root and the folder is another's. What is parsed there is that user's business,
 * and not root's.
 * @param make the folder, mode 0700, if it is missing
 * @return 0; negative errno, logged
 */
_must_check_ int owner_become(const char *dir, bool make);
