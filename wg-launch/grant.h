/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ask netd for the tunnel, and look at what it gave.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>

#include "libipc/cleanup.h"

struct grant {
	char interface[IFNAMSIZ];
	int tun;  /* the TUN device; owned */
	int uapi; /* the listening configuration socket; owned */
};

/**
 * Ask, and wait for netd's answer, which may take as long as it has no network to be in.
 * @param path of netd's tunnel socket
 * @param next ask for the second tunnel, which is there only while keys are being replaced
 * @param grant receives descriptors, close-on-exec, the caller's
 * @return 0; 1 this host's tunnel is the kernel's; -EPROTO what came is not a grant; other negative errno. Failures are logged.
 */
_must_check_ int grant_ask(const char *path, bool next, struct grant *grant);
