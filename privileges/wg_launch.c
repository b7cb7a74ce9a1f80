/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges/tables.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>

#define PRIVILEGES_TABLE launch_privileges
#define PRIVILEGES_FILE "wg-launch/privileges.def"
#include "libipc/privileges.h"
