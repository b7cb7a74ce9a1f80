/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs on disk, each in a file named by its hash in hex.
 *
 * A convenience, never a truth: what is read is checked against its name, what is wrong or half written (nothing is fsynced) is dropped,
 * the folder may be emptied or missing, the disk may be full; fetchd then asks the control plane instead. Bounded: when it
 * has grown past its limit, the files that were written first go.
 */
#pragma once

#include "libipc/types.h"

#define CACHE_BYTES_MAX (64ULL * 1024 * 1024) /* of disk: each file counts in whole blocks */
#define BLOB_BYTES_MAX 16384                  /* documents and trie nodes are smaller */

struct cache {
	int dir;        /* -1: works without */
	uint64_t limit; /* bytes */
	uint64_t used;  /* bytes, as of what this process knows */
	bool complained; /* one log line when writing stops working, one when it works again */
};

/** Open the folder and learn its size. Never fails: without a folder there is no cache, and a log line says so. */
void cache_open(const char *path, uint64_t limit, struct cache *cache);
void cache_close(struct cache *cache);

/**
 * Read a blob.
 * @param buffer BLOB_BYTES_MAX bytes
 * @return its length; -ENOENT if it is not there, or not what its name says (then it is removed)
 */
_must_check_ ssize_t cache_get(struct cache *cache, const struct hash *name, uint8_t *buffer);

/** Keep a blob whose name the caller has computed. May do nothing. */
void cache_put(struct cache *cache, const struct hash *name, const void *bytes, size_t n);
