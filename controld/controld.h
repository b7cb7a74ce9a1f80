/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controld: the desired state, the two HTTP interfaces over it, and the documents that carry it to the hosts.
 *
 * One thread, one loop. What a request changes is one transaction of the database (change.h); inside it signd signs, and only when all
 * of it is committed are waiting hosts told.
 */
#pragma once

#include "controld/idmap.h"
#include "controld/problem.h"
#include "controld/signer.h"
#include "libdoc/host.h"
#include "libdoc/keyset.h"
#include "libdoc/network.h"
#include "libipc/loop.h"
#include "libstore/store.h"

#define AGENT_BODY_MAX (256u * 1024)
#define OPERATOR_BODY_MAX (64u * 1024)
#define ANSWER_BYTES_MAX (6u * 1024 * 1024) /* of documents and nodes in one answer to an agent */

struct http;
struct polls;
struct diff_cache;

struct controld {
	struct loop *loop;
	struct store *store;
	struct signer *signer;
	struct http *http;
	struct polls *polls;
	struct diff_cache *diffs;
	struct idmap meshes;  /* network id -> struct mesh, loaded when first needed */
	struct idmap proposals; /* network id -> struct proposal: manifests that an operator could co-sign */
	struct idmap machines; /* host id -> struct machines: which processes poll for it */
	struct idmap callers; /* host id -> struct caller: what is remembered of a host's requests */
	struct keyset keyset;
	uint8_t *keyset_bytes;
	size_t keyset_n;
	struct hash keyset_hash;
	uint64_t started; /* Unix seconds: no request made before is believed */
	bool behind_proxy, tls;
	const char *state; /* folder; packages/ is within it */
	const char *url;   /* how hosts reach us, for the install script; NULL: as they say in their Host header */
	struct loop_timer *housekeeping; /* reconcile.c */
	unsigned housekeeping_failures;  /* in a row */
	struct loop_timer *jobs;         /* jobs.c */
	struct loop_timer *health;       /* health.c */
	char judged[ID_TEXT];            /* the host up to which states have been judged in this round */
	uint64_t offline_after, degraded_after; /* seconds */
	struct loop_timer *upkeep;       /* upkeep.c */
};

/** Milliseconds of Unix time. */
int64_t now_ms(void);

/** Take the keyset of the database into memory. @return 0; negative errno, logged */
_must_check_ int controld_keyset_load(struct controld *controld);
/** The root key that a keyset names, before anything of it is verified: for the first one, which is believed because an administrator hands it over. */
_must_check_ int keyset_root_claimed(struct view bytes, uint8_t root[static KEY_BYTES]);

/* install.c */
/** Is this an http:// or https:// URL, without a slash at its end, made of characters that mean nothing to a shell? */
bool install_url_valid(const char *url);

/* schema.c */
extern const struct store_kind control_store;

/* init.c */
/** Make the database in DIR, take the keyset, write DIR/admin.credential. @return 0; negative errno, logged */
_must_check_ int controld_init(const char *dir, const char *keyset_path);
/** Make a credential that may do everything, and write it to DIR/admin.credential, which must not exist. Within a transaction. @return 0; negative errno, logged */
_must_check_ int administrator_make(struct store *store, const char *dir, const char *description);
