/* SPDX-License-Identifier: Apache-2.0 */
/* What must not leave this host: found out in a process of its own (it reads files), handed over in one piece. */
#pragma once

#include "cli/loopback/support_scrub.h"

/** A piece_fn: writes the secrets of this host's state folders and environment files to stdout, each after its length. */
int secrets_gather(void);

/** Take over what secrets_gather() wrote. @return 0; -EBADMSG it is not whole; -ENOMEM */
_must_check_ int secrets_parse(const char *bytes, size_t n, struct secrets *secrets);

/** A piece_fn: /etc/loopback/<name>.env, names and what is known to be harmless; other values are left out. */
int environment_files(void);
