/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C and its kin, for commands that take a while and leave nothing behind. */
#pragma once

#include "libipc/cleanup.h"

#define EXIT_INTERRUPTED 130 /* as a shell says of SIGINT */

/** From here on SIGINT, SIGTERM and SIGHUP wait until somebody asks. @return a descriptor that is readable once one came, the caller's; negative errno */
_must_check_ int interrupt_open(void);
