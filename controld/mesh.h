/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The networks' tries. Each is kept in memory from its first use, follows the changes of one transaction, and is forgotten when that is
 * rolled back: the database holds all that it is made of.
 */
#pragma once

#include "controld/controld.h"
#include "libdoc/trie.h"

struct mesh {
	struct id network;
	struct trie *trie;
	bool whole; /* its nodes are not in the database yet: publish all of them */
	bool list_news; /* signd has not seen the nodes of its admission list */
};

/** Read a host's entry in a network as the database has it. @return 0; -ENOENT it is not in the network */
_must_check_ int mesh_peer(struct controld *controld, const struct id *network, const struct id *host, struct peer *peer);

/** The trie of a network, loaded if need be; call before rows that it depends on are changed. @return 0; negative errno */
_must_check_ int mesh_get(struct controld *controld, const struct id *network, struct mesh **mesh);

/** Bring a host's entry in line with the database: put, replaced or removed. @return 0; negative errno */
_must_check_ int mesh_follow(struct controld *controld, const struct id *network, const struct id *host);

/**
 * Within a transaction: name the trie, write its manifest, have it signed and store it all. Does nothing if nothing changed since the last
 * time, unless again is set. If signd is ahead (a crash between its commit and ours), the generation follows signd's.
 * @return 0; 1 nothing changed; -EREMOTEIO problem says why; negative errno
 */
_must_check_ int mesh_publish(struct controld *controld, const struct id *network, bool again, struct problem *problem);

/** Forget the trie in memory. */
void mesh_forget(struct controld *controld, const struct id *network);
void mesh_forget_all(struct controld *controld);
