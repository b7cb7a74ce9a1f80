/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges/tables.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define PRIVILEGES_TABLE netd_privileges
#define PRIVILEGES_FILE "netd/privileges.def"
#include "libipc/privileges.h"
