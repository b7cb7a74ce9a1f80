/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controld's side of the sign socket: two connections, one for what a change waits for, one for heads, thousands of which are in
 * flight at once. A lost connection is made again at the next use; signd is told the keyset on each new one.
 */
#pragma once

#include "libdoc/envelope.h"
#include "libipc/loop.h"

#define SIGN_REASON_BYTES 1025

struct signer;

/** Why signd refused. */
struct sign_refusal {
	uint64_t last; /* generation that it last signed for the document */
	bool cosign;   /* an operator's co-signature would do */
	char reason[SIGN_REASON_BYTES];
};

/** @param path of signd's socket; copied */
_must_check_ int signer_new(struct loop *loop, const char *path, struct signer **signer);
void signer_free(struct signer *signer);
DEFINE_CLEANUP(struct signer *, signer_free)

/** The keyset to tell signd, now (if it can be reached) and on each new connection. Copied. @return 0; -EPERM refused; -ECOMM signd is away; -ENOMEM */
_must_check_ int signer_keyset(struct signer *signer, struct view envelope, struct sign_refusal *refusal);

/**
 * Have a document signed; waits for the answer. Asking again with the same payload is harmless, so a broken connection is tried once more.
 * @param nodes a sealed memfd of trie nodes for a network, else -1
 * @param envelope the answer is appended
 * @return 0; -EPERM refused; -ECOMM signd is away
 */
_must_check_ int signer_sign(struct signer *signer, enum document_type type, struct view payload, int nodes, struct pack_writer *envelope,
			     struct sign_refusal *refusal);

/**
 * The same for a network, with what operators signed.
 * @param list its admission list; empty: signd has it, or there is none
 * @param cosign a co-signature; empty: none
 */
_must_check_ int signer_sign_network(struct signer *signer, struct view payload, struct view list, struct view cosign, int nodes,
				     struct pack_writer *envelope, struct sign_refusal *refusal);

/** result 0: envelope; -EPERM: refusal; -ECOMM: signd is away. Views are valid during the call. */
typedef void signer_head_fn(void *arg, int result, struct view envelope, const struct sign_refusal *refusal);
/** Ask for a head; the answer comes through the loop. Never calls back from within. @return 0; -ENOMEM; -ECOMM */
_must_check_ int signer_head(struct signer *signer, struct view payload, signer_head_fn *call, void *arg);
/** Whoever asked with this arg is gone: do not call it. */
void signer_forget(struct signer *signer, const void *arg);
