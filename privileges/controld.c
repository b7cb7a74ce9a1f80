/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges/tables.h"

#include <fcntl.h>

#define PRIVILEGES_TABLE controld_privileges
#define PRIVILEGES_FILE "controld/privileges.def"
#include "libipc/privileges.h"
