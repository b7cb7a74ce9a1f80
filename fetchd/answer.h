/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the control plane's answers look like (docs/design/agent-api.md). All of it is unverified: it is taken apart and bounded here, netd judges it.
 */
#pragma once

#include "fetchd/cache.h"
#include "libipc/types.h"

#define BLOBS_MAX 65536 /* of one answer */

/* A blob under the name that we computed. */
struct named_blob {
	struct hash name;
	struct view bytes; /* points into the answer that it came with */
};

/* An answer with its blobs, sorted by name. Owns its bytes. */
struct stash {
	uint8_t *body;
	struct named_blob *blobs;
	size_t count;
};

void stash_free(struct stash *stash);
/** @return the blob, NULL */
const struct named_blob *stash_find(const struct stash *stash, const struct hash *name);

/**
 * Take a poll's answer apart: [keyset or empty, head, [blob ...]].
 * @param body consumed on success
 * @param keyset, head point into the stash
 * @param stash must be empty before
 * @return 0; -EBADMSG it is something else; -EMSGSIZE; -ELOOP; -E2BIG; -ENOMEM
 */
_must_check_ int poll_answer_open(uint8_t **body, size_t n, struct view *keyset, struct view *head, struct stash *stash);

/** The same for the answer to `blobs`: [[blob ...]]. */
_must_check_ int blobs_answer_open(uint8_t **body, size_t n, struct stash *stash);

/** Registration answer: [host id]. @return 0; -EBADMSG ... */
_must_check_ int enroll_answer_open(const void *bytes, size_t n, struct id *host);

/**
 * An error answer: [code, detail], cleaned of control characters.
 * @return 0; -EBADMSG and so on, with code and detail untouched
 */
_must_check_ int error_answer_open(const void *bytes, size_t n, char *code, size_t code_room, char *detail, size_t detail_room);
