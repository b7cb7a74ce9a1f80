/* SPDX-License-Identifier: Apache-2.0 */
/* Documents as the database keeps them, and what is current for a host. */
#pragma once

#include "controld/controld.h"

/** The last document of an id, without its envelope. */
struct document_row {
	uint32_t epoch;
	uint64_t generation;
	struct hash hash;
	struct hash root; /* of a network */
	int64_t committed;
};

/** @return 0; -ENOENT */
_must_check_ int document_get(struct controld *controld, enum document_type type, const struct id *id, struct document_row *row);
/** Store what signd signed. @param root of a network, else NULL */
_must_check_ int document_put(struct controld *controld, enum document_type type, const struct document_header *header,
			      const struct hash *root, const struct pack_writer *envelope);

/** Which generation follows, given what we and what signd last had. problem says why none can. @return 0; -EREMOTEIO */
_must_check_ int document_follow(struct controld *controld, const char *what, const struct document_row *row, bool have_row,
				 const struct sign_refusal *refusal, uint64_t *generation, struct problem *problem);

/** Is this refusal about the generation, and worth another try? */
bool document_conflicts(const struct sign_refusal *refusal, uint64_t asked);

/** Have a host's own document signed, of what the database says. Within a transaction.
 * @return 0; -EREMOTEIO problem says why; negative errno */
_must_check_ int host_publish(struct controld *controld, const struct id *host, struct problem *problem);

/**
 * What is current for a host: keyset, its document, its networks; in this order.
 * @param organization receives the host's
 * @return number of entries written to entries[HEAD_ENTRIES_MAX]; -ENOENT there is no such host or it has no document
 */
_must_check_ int documents_current(struct controld *controld, const struct id *host, struct id *organization, struct head_entry *entries);

/** Append the envelope with this name to a writer as one binary. @return 0; -ENOENT */
_must_check_ int document_append(struct controld *controld, const struct head_entry *entry, struct pack_writer *out);
