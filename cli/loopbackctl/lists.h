/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission lists as an operator sees them: read from the control plane, believed in nothing that an operator's key did not sign, changed, signed, handed over.
 *
 * The control plane is what a lock is there against. So the keyset is verified by the operator's own root; the list by an operator key of it, and by its own hashes; and what was
 * last seen of each network's list, and of the keyset, is kept in `lists.json` beside the configuration: {"NETWORK-ID": {"name", "generation", "hash"},
 * "keyset DEPLOYMENT-ID": {"epoch", "generation"}}. Whoever is shown an older list, or another network
 * under a name that is known, signs nothing.
 */
#pragma once

#include "cli/loopbackctl/rootkey.h"
#include "libdoc/admission.h"

struct list {
	struct keyset keyset;       /* verified */
	struct id network;
	char name[NAME_BYTES_MAX + 1];
	struct id organization;     /* the control plane's word */
	struct admission admission; /* generation 0: there is none */
	struct hash hash;           /* of the envelope */
	struct admitted *hosts;     /* ascending; malloc; since 0: to be admitted by the next list */
	size_t count;
	uint64_t seen;              /* the last generation that was seen on this machine */
	json_t *awaiting;           /* the control plane's word */
};

void list_free(struct list *list);
#define _cleanup_list_ CLEANUP(list_free)

/**
 * Read and verify. Reports failures itself.
 * @param accept_older a list that is older than one seen before is shown, and goes on from there: for a control plane that was restored from a backup
 */
_must_check_ int list_read(struct cli *cli, const char *network, bool accept_older, struct list *list);

/** Put a host on a list, or take it off. @return whether that changed anything; -ENOMEM */
_must_check_ int list_admit(struct list *list, const struct id *host);
bool list_evict(struct list *list, const struct id *host);
/** Copy the hosts, and the document, of a list. @param to zeroed; list_free() @return 0; -ENOMEM */
_must_check_ int list_copy(const struct list *from, struct list *to);

/**
 * Sign what a list has become, as its next generation, and hand it over; in several steps if it is long. Reports failures itself.
 * @param before the list as it was read
 * @param generation the next generation; 0: the one after the last seen
 */
_must_check_ int list_sign(struct cli *cli, struct list *list, const struct list *before, const struct root_key *key, uint64_t generation);

/** A host is gone: tell on which lists it still stands, for whoever takes over the control plane could bring it back there. Reports no failures. */
void lists_remind(struct cli *cli, const char *id);
