/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges/tables.h"

#include <fcntl.h>
#include <sys/stat.h>

#define PRIVILEGES_TABLE signd_privileges
#define PRIVILEGES_FILE "signd/privileges.def"
#include "libipc/privileges.h"
