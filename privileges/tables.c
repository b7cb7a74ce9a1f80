/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges/tables.h"

#define LIBEXEC "/usr/libexec/loopback/"

const struct process processes[] = {
	{ "netd", LIBEXEC "netd", "loopback-netd.service", &netd_privileges },
	{ "fetchd", LIBEXEC "fetchd", "loopback-fetchd.service", &fetchd_privileges },
	{ "wg-launch", LIBEXEC "wg-launch", "loopback-wg.service", &launch_privileges },
	{ "controld", LIBEXEC "controld", "loopback-controld.service", &controld_privileges },
	{ "signd", LIBEXEC "signd", "loopback-signd.service", &signd_privileges },
	{ 0 },
};
