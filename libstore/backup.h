/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups of a process's database. One file: a head of 512 bytes of text, then the database as SQLite keeps it.
 *
 *     loopback backup 1
 *     of PROCESS
 *     schema NUMBER
 *     version LOOPBACK-VERSION
 *     made MILLISECONDS       Unix time
 *     bytes NUMBER            of the database, which follows the head
 *     blake2b-256 HEX         of the database
 *
 * The rest of the head is line feeds. It is written last: a backup that was cut off has none. There is no key in a backup, neither of signd
 * nor of hosts; whoever can change one changes what the control plane will say after it was restored.
 */
#pragma once

#include "libstore/store.h"

struct backup {
	int schema;
	char version[32]; /* of the program that made it */
	int64_t made;     /* ms of Unix time */
	uint64_t bytes;
	struct hash hash;
};

/**
 * Write a consistent copy of DIR's database into a new file of mode 0600, while its daemon runs or not. The database is read by the owner of
 * DIR, the file is written by whoever calls.
 * @param path must not exist yet
 * @return 0; -EEXIST; another negative errno; logged. On failure path does not exist.
 */
_must_check_ int backup_write(const struct store_kind *kind, const char *dir, const char *path, struct backup *backup);

/** What else is to be done to a database before it is one: within no transaction yet. @return 0; negative errno, logged: nothing is restored */
typedef int backup_adapt_fn(struct store *store, void *arg);

/**
 * Put the database of a backup into DIR, which must hold none, nor traces of one. This process becomes DIR's owner.
 * @param adapt may be NULL
 * @return 0; -EEXIST; -EBADMSG the file is no backup of this process, or a damaged one; -EPROTONOSUPPORT of a newer schema; another negative
 * errno; logged. On failure DIR holds no database.
 */
_must_check_ int backup_restore(const struct store_kind *kind, const char *dir, const char *path, backup_adapt_fn *adapt, void *arg,
				struct backup *backup);
