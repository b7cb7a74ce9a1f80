/* SPDX-License-Identifier: Apache-2.0 */
/* What both command line programs share, compiled into this one. */
#include "cli/common/columns.c"
#include "cli/common/command.c"
#include "cli/common/emit.c"
#include "cli/common/file.c"
#include "cli/common/voice.c"
