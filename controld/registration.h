/* SPDX-License-Identifier: Apache-2.0 */
/* What hosts say of themselves: taken in, verified by their own keys. */
#pragma once

#include "controld/change.h"
#include "libdoc/host.h"

/** A registration as it came: opened and checked against this deployment. @return 0; -EREMOTEIO problem says why */
_must_check_ int registration_read(struct controld *controld, struct view bytes, struct registration *registration, struct problem *problem);

/**
 * Take in a changed registration of a host that is enrolled. A new WireGuard key is written down first, so that a crash cannot lose
 * it between signd and us.
 * @param seen address of the request, NULL: unknown
 * @return 0; -EREMOTEIO problem says why; negative errno
 */
_must_check_ int registration_update(struct controld *controld, const struct id *host, struct view bytes, const char *seen,
				     struct problem *problem);

/**
 * A host was heard from this address: if its peers are told the address that we see, and it is another one than before, they are told.
 * Not more often than once a minute, and not from one family to the other: a host with both would change all the time.
 * @return 0; -EREMOTEIO problem says why; negative errno
 */
_must_check_ int registration_seen(struct controld *controld, const struct id *host, const char *seen, struct problem *problem);

/** Store the registration of a host, new or known, within a change. */
_must_check_ int registration_store(struct change *change, const struct registration *registration, struct view bytes, const char *seen);

/** Finish what a crash left in pending_registrations. @return 0; negative errno */
_must_check_ int registrations_finish(struct controld *controld);
