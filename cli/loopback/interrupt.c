/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>

int interrupt_open(void)
{
	sigset_t set;
	int fd;

	if (sigemptyset(&set) < 0 || sigaddset(&set, SIGINT) < 0 || sigaddset(&set, SIGTERM) < 0 || sigaddset(&set, SIGHUP) < 0 ||
	    sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}
