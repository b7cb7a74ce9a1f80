/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bridges, and what hosts reach over them. A bridge stands in the database from the moment that it is asked for; the reconciler (jobs.h) has both
 * manifests name each other, and ends it the same way.
 */
#pragma once

#include "controld/change.h"

/** Two networks as an operator named them, in the order of their ids. */
struct bridge {
	struct id id, networks[2];
	char names[2][NAME_BYTES_MAX + 1];
	char state[16]; /* creating, active, deleting */
};

/** @return 0; -ENOENT */
_must_check_ int bridge_read(struct controld *controld, const struct id *id, struct bridge *bridge);

/** Write a new bridge down, after all that speaks against it. Within a transaction. @return 0; -EREMOTEIO problem says why; negative errno */
_must_check_ int bridge_insert(struct change *change, const struct id *id, const struct id networks[static 2]);

/** Within a change: let both manifests name each other, or cease to; they are signed with it. */
_must_check_ int bridge_name(struct change *change, const struct id *id, bool named);

/** What a network is bridged with, as text for a person: "lab (BRIDGE-ID)"; "" for nothing. @return 0; negative errno */
_must_check_ int bridges_of(struct controld *controld, const struct id *network, char *text, size_t room);

/**
 * A host was given a network, or a network a range: does all that hosts reach still fit together? After the rows, before the commit.
 * @return 0; -EREMOTEIO problem says why: ranges that meet, too many networks or peers; negative errno
 */
_must_check_ int reach_check_host(struct change *change, const struct id *host, const struct id *joined);
_must_check_ int reach_check_network(struct change *change, const struct id *network);
