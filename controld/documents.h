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
/** Store what signd signed. @param root of a network, else NULL @param peers of a network, else 0 */
_must_check_ int document_put(struct controld *controld, enum document_type type, const struct document_header *header,
			      const struct hash *root, uint32_t peers, const struct pack_writer *envelope);

/** Which generation follows, given what we and what signd last had. problem says why none can. @return 0; -EREMOTEIO */
_must_check_ int document_follow(struct controld *controld, const char *what, const struct document_row *row, bool have_row,
				 const struct sign_refusal *refusal, uint64_t *generation, struct problem *problem);

/** Is this refusal about the generation, and worth another try? */
bool document_conflicts(const struct sign_refusal *refusal, uint64_t asked);

/** Have a host's own document signed, of what the database says. Within a transaction.
 * @return 0; -EREMOTEIO problem says why; negative errno */
_must_check_ int host_publish(struct controld *controld, const struct id *host, struct problem *problem);

/**
 * For one nonce, and nobody else, say that this host is in no network; then sign its document as it is once more, so that it stays what hosts are told. The
 * document without networks is never stored: after a crash signd is one ahead, as after any. Within a transaction.
 * @param head, document appended
 * @return 0; -EREMOTEIO problem says why; negative errno
 */
_must_check_ int host_silence(struct controld *controld, const struct id *host, const uint8_t nonce[static 32], struct pack_writer *head,
			      struct pack_writer *document, struct problem *problem);

/**
 * What is current for a host: keyset, its document, its networks and those that are bridged with one of them; in this order.
 * @param organization receives the host's
 * @return number of entries written to entries[HEAD_ENTRIES_MAX]; -ENOENT there is no such host or it has no document
 */
_must_check_ int documents_current(struct controld *controld, const struct id *host, struct id *organization, struct head_entry *entries);

/** Append the envelope with this name to a writer as one binary. @return 0; -ENOENT */
_must_check_ int document_append(struct controld *controld, const struct head_entry *entry, struct pack_writer *out);
