/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission lists of locked networks, as operators sign them: kept and served here, made nowhere near here. And co-signatures of changes that signd does not sign alone.
 *
 * A list is written down before signd sees it, for signd never takes an older one again: what a crash left half done is finished from there.
 */
#pragma once

#include "controld/controld.h"
#include "libdoc/admission.h"

/** The hosts of a network's list, ascending. @param hosts the caller's: free() @return their number; 0 without a list; negative errno */
_must_check_ ssize_t admission_hosts(struct controld *controld, const struct id *network, struct admitted **hosts);

/**
 * Take in a list that operators signed, and let the network follow: who is not on it leaves, who waited for it and is on it joins.
 * @param who for the audit log
 * @param hosts all that are on the list, ascending
 * @return 0; -EREMOTEIO problem says why; negative errno (problem too)
 */
_must_check_ int admission_take(struct controld *controld, const char *who, const struct id *network, struct view envelope,
				const struct admitted *hosts, size_t count, struct problem *problem);
/** Finish what a crash, or a signd that was away, left half done. @return 0; negative errno */
_must_check_ int admissions_finish(struct controld *controld);

/** A host joins a network: must it wait for its operators' list? Within a change. @return 1; 0; negative errno */
_must_check_ int admission_waits(struct controld *controld, const struct id *network, const struct id *host);

/** What goes to signd with a manifest: the list that the database names, as signed; nothing if there is none. @return 0; negative errno */
_must_check_ int admission_envelope(struct controld *controld, const struct id *network, struct pack_writer *out);
/** Append the nodes of that list to a memfd. @return 0; negative errno */
_must_check_ int admission_nodes(struct controld *controld, const struct id *network, int nodes);

/* -- Co-signatures: of manifests that signd refused for their size, until the next one is signed. Kept in memory: who asked asks again. -- */

struct proposal {
	struct network_document document;
	struct pack_writer payload; /* of the manifest, as it must be signed */
	struct pack_writer cosign;  /* an operator's envelope; empty until there is one */
};

/** signd refused this: keep it to be co-signed. @return 0; negative errno */
_must_check_ int proposal_keep(struct controld *controld, const struct network_document *document, const struct pack_writer *payload);
/** @return NULL: none */
struct proposal *proposal_get(const struct controld *controld, const struct id *network);
void proposal_forget(struct controld *controld, const struct id *network);
void proposals_free(struct controld *controld);
