/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges/tables.h"

#include <asm/ioctls.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/syscall.h>

#define PRIVILEGES_TABLE fetchd_privileges
#define PRIVILEGES_FILE "fetchd/privileges.def"
#include "libipc/privileges.h"
