/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One change: one transaction, the tries that follow it, the documents that say it, and the hosts that are told once it is committed.
 *
 * Order of signing, which signd enforces: hosts that leave a network lose it in their own document first; hosts that join get it last.
 */
#pragma once

#include "controld/controld.h"

struct id_list {
	struct id *ids;
	size_t count, room;
};

struct change {
	struct controld *controld;
	int (*published)(struct change *change);      /* when all is signed, still within the transaction; may be NULL */
	void *published_arg;
	void (*committed)(struct controld *controld); /* what else is due once it is; may be NULL */
	struct problem problem;  /* why it failed, if it did */
	struct id_list networks; /* to publish */
	struct id_list renewed;  /* among them: to sign again even if no peer changed */
	struct id_list leaving, joining; /* hosts whose own document changes */
	bool open;
};

/** Begin. @return 0; negative errno. change_end() is due in any case */
_must_check_ int change_begin(struct controld *controld, struct change *change);

/** A network is about to change: call before its rows are touched. @param renew sign it even if its peers stay (settings) */
_must_check_ int change_network(struct change *change, const struct id *network, bool renew);
/** A host's own document changes. */
_must_check_ int change_host_leaves(struct change *change, const struct id *host);
_must_check_ int change_host_joins(struct change *change, const struct id *host);

/** Sign, commit, wake. On failure all is as it was before. @return 0; -EREMOTEIO problem says why; negative errno (problem too) */
_must_check_ int change_commit(struct change *change);
/** Roll back what was not committed; free. */
void change_end(struct change *change);
#define _cleanup_change_ CLEANUP(change_end)

/** Write down who did what. Within a transaction. */
_must_check_ int audit_note(struct controld *controld, const char *who, const char *what, const char *object, const char *detail);
