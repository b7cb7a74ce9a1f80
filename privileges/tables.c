/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges/tables.h"

#define LIBEXEC "/usr/libexec/loopback/"

const struct process processes[] = {
	{ "netd", LIBEXEC "netd", "loopback-netd.service", NULL, &netd_privileges },
	{ "fetchd", LIBEXEC "fetchd", "loopback-fetchd.service", NULL, &fetchd_privileges },
	{ "wg-launch", LIBEXEC "wg-launch", "loopback-wg.service", "/usr/bin/wireguard-go", &launch_privileges },
	{ "controld", LIBEXEC "controld", "loopback-controld.service", NULL, &controld_privileges },
	{ "signd", LIBEXEC "signd", "loopback-signd.service", NULL, &signd_privileges },
	{ 0 },
};
