/* SPDX-License-Identifier: Apache-2.0 */
/* What a credential may do: words, separated by blanks. "admin" is all of them. */
#pragma once

#include "libipc/cleanup.h"
#include <stdbool.h>

/** @param granted as a credential has them */
bool permission_granted(const char *granted, const char *wanted);
/** Is there such a permission? */
bool permission_known(const char *name);
