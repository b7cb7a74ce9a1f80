/* SPDX-License-Identifier: Apache-2.0 */
/* Mesh refresh (M11): what hosts have is put together anew, signed with the next generation, and so applied and compared once more. */
#pragma once

#include "controld/change.h"

/** All networks of a host, for this host alone: its peers are told only if its entry was not what it should be. */
_must_check_ int refresh_host_start(struct change *change, const struct id *job, const struct id *host);
/** A network, for all of its hosts. */
_must_check_ int refresh_network_start(struct change *change, const struct id *job, const struct id *network);
