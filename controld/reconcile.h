/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash left half done is finished here. signd commits before we do: when controld or signd dies in between, signd is one
 * generation ahead of the database. Nothing looks for that at start; the first head that signd refuses finds it.
 */
#pragma once

#include "controld/controld.h"

/** Sign again what signd has other than we do: a host's document and its networks. @return 0; negative errno, logged */
_must_check_ int reconcile_host(struct controld *controld, const struct id *host);

/** Finish key changes that were under way, and sign documents of an older epoch anew, a few at a time. */
void reconcile_soon(struct controld *controld);
_must_check_ int reconcile_start(struct controld *controld);
void reconcile_stop(struct controld *controld);
