/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signd: the online key, and what stands between it and a control plane that has been taken over.
 *
 * Order: a host enters a network by the network's document first, then by its own, which may name only networks whose last signed trie
 * holds the host. It leaves the other way round; that is controld's to keep, for after a crash in between it must be able to sign a
 * network without a host that it never came to know.
 */
#pragma once

#include "libdoc/admission.h"
#include "libdoc/host.h"
#include "libdoc/keyset.h"
#include "libdoc/network.h"
#include "libipc/channel.h"
#include "signd/state.h"

#define CHANGE_CAP_FLOOR 32     /* networks up to this size change as they like */
#define CHANGE_CAP_PERCENT 50   /* of the peers before; the default above the floor */
#define NODES_BYTES_MAX (256u * 1024 * 1024)
#define REASON_BYTES 1024

struct signd {
	struct loop *loop;
	struct state *state;
	uint8_t secret[SECRET_KEY_BYTES];
	uint8_t public_key[KEY_BYTES];
	uint8_t root[KEY_BYTES]; /* pinned: signs the keysets */
	bool deployed;           /* there is a keyset */
	struct keyset keyset;
	struct hash keyset_hash; /* of its envelope */
	uint32_t change_cap;     /* peers that one document may change; 0: CHANGE_CAP_PERCENT */
};

/** Why something is not signed, for the answer and the log. */
struct refusal {
	uint64_t last; /* generation last signed for the document, 0: none */
	bool cosign;   /* with an operator's co-signature it would be signed */
	char reason[REASON_BYTES];
};

/** Fill in the reason. @return -EPERM, so that a check can write `return refuse(...)` */
int refuse(struct refusal *refusal, const char *format, ...) _printf_(2, 3);

/* -- key.c -- */

/** Make DIR/online.key (0600) and DIR/online.pub. @return 0; -EEXIST there is one; negative errno, logged */
_must_check_ int key_make(const char *dir, uint8_t public_key[static KEY_BYTES]);
/** Read DIR/online.key. @return 0; negative errno, logged */
_must_check_ int key_load(const char *dir, uint8_t secret[static SECRET_KEY_BYTES], uint8_t public_key[static KEY_BYTES]);
/** Read a public key from a file that holds it as 64 hexadecimal digits or as base64. @return 0; negative errno, logged */
_must_check_ int key_read_public(const char *path, uint8_t key[static KEY_BYTES]);

/* -- check_keyset.c -- */

/** Read the keyset that was taken earlier; none yet is fine. @return 0; negative errno, logged */
_must_check_ int keyset_load(struct signd *signd);
/** Take a keyset: signed by the pinned root, of the same deployment, not older. Commits. @return 0; -EPERM refused; negative errno */
_must_check_ int keyset_take(struct signd *signd, struct view envelope, struct refusal *refusal);
/** May our key sign now? @return 0; -EPERM */
_must_check_ int keyset_permits(const struct signd *signd, struct refusal *refusal);
/** Deployment and epoch are the keyset's. @return 0; -EPERM */
_must_check_ int header_check(const struct signd *signd, const struct document_header *header, struct refusal *refusal);

/* -- check_network.c -- */

/** The blobs that came with a sign_network, by name. */
struct node_set;
/** @param bytes borrowed for as long as the set lives @return 0; -EBADMSG; -ENOMEM */
_must_check_ int node_set_new(const uint8_t *bytes, size_t n, struct node_set **set);
void node_set_free(struct node_set *set);
DEFINE_CLEANUP(struct node_set *, node_set_free)

/** @return 0; -ENOENT */
_must_check_ int node_set_find(const struct node_set *set, const struct hash *name, struct view *bytes);

/* -- check_list.c -- */

/** What an operator signed beside a manifest. */
struct operators_word {
	bool listed;    /* the network has an admission list */
	bool news;      /* another one than with the last manifest */
	struct admission list;
	bool cosigned;  /* for this very manifest */
};

/**
 * Take in what came with a manifest: the admission list, signed by an operator and not older than the last one, or the last one if none came; and the
 * co-signature. Within a transaction.
 * @return 0; -EPERM refused; negative errno
 */
_must_check_ int list_take(struct signd *signd, const struct network_document *network, struct view payload, struct view list, struct view cosign,
			   const struct node_set *nodes, struct operators_word *word, struct refusal *refusal);
/** Is this the very list that was taken last? */
bool list_is_last(struct signd *signd, const struct id *network, struct view list);
/**
 * Hold a manifest against its operators' list: it is locked exactly if that says so, its peers are on it, and those of networks that are bridged with it. And against the
 * lists of networks that it is bridged with.
 * @param last NULL: none
 */
_must_check_ int list_check(struct signd *signd, const struct network_document *network, const struct network_document *last,
			    const struct node_set *nodes, const struct operators_word *word, struct refusal *refusal);

/**
 * Check a network document against the last one and take its members in. Within a transaction, which the caller ends.
 * @param last the last document signed, NULL: none
 * @return 0; -EPERM refused; negative errno
 */
_must_check_ int network_check(struct signd *signd, const struct network_document *network, const struct network_document *last,
			       const struct node_set *nodes, const struct operators_word *word, struct refusal *refusal);

/* -- check_host.c -- */

/** Check a host document and note its networks. Within a transaction. @return 0; -EPERM refused; negative errno */
_must_check_ int host_check(struct signd *signd, const struct host_document *host, struct refusal *refusal);
/** Check a head against what was signed. Changes nothing. @return 0; -EPERM refused; negative errno */
_must_check_ int head_check(struct signd *signd, const struct head *head, struct refusal *refusal);

/* -- sign.c -- */

/** The message callback of the sign socket. */
int sign_message(struct channel *channel, struct message *message, void *arg);
