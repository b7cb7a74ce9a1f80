/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netd's state folder: who this host is, whom it believes.
 *
 *   host.key   Ed25519 seed; makes the host's id. Never leaves.
 *   wg.key     libjournal/keys.h
 *   root.pub   the pinned root of the deployment
 *   keyset     the newest keyset, as signed
 *   starts     how often netd has started: the high half of the generations of what it signs
 *   locks      libdoc/locks.h: what operators have locked
 *   mesh.log   netd/journal.h
 *
 * All are 0600 in a folder of mode 0700, replaced whole (write, fsync, rename, fsync of the folder).
 */
#pragma once

#include "libdoc/host.h"
#include "libdoc/keyset.h"
#include "libdoc/locks.h"
#include "libjournal/keys.h"

struct state {
	int folder;
	struct id host;
	uint8_t host_secret[SECRET_KEY_BYTES];
	struct wg_keys keys;
	bool pinned;
	uint8_t root[KEY_BYTES];
	bool deployed; /* keyset is valid */
	struct keyset keyset;
	struct hash keyset_name;
	uint64_t sequence; /* generation of the next document that netd signs */
	struct locks locks; /* netd/lock.h */
};

/**
 * Read the folder; make the keys that are missing. Called before the sandbox is complete, as netd's own user.
 * @return 0; negative errno, logged
 */
_must_check_ int state_open(const char *path, struct state *state);
void state_close(struct state *state);

/** Host key, public half. */
const uint8_t *state_host_key(const struct state *state);

/** Pin a root. @return 0; -EEXIST another one is pinned; negative errno */
_must_check_ int state_pin(struct state *state, const uint8_t root[static KEY_BYTES]);
/** Forget root and keyset, and the keys of the host if told so (new ones are made at once). */
_must_check_ int state_unpin(struct state *state, bool forget_keys);

/**
 * Take a keyset: verified by the pinned root, of the same deployment, not older. A keyset that names a new root moves the pin.
 * @param why receives a constant text
 * @return 1 it is new and stored; 0 it is the one we have; -EKEYREJECTED, -EBADMSG, -ESTALE; errors of the disk
 */
_must_check_ int state_take_keyset(struct state *state, const void *bytes, size_t n, const char **why);

/** Sign a payload of netd's own with the host key; header->generation is filled in by state_header(). */
struct document_header state_header(struct state *state);
_must_check_ int state_sign(const struct state *state, enum document_type type, const struct pack_writer *payload,
			    struct pack_writer *envelope);

/** Fill in this host's signed statement for the deployment, of its key or of the next one. */
_must_check_ int state_statement(const struct state *state, bool next, struct statement *statement);
