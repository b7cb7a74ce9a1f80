/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a backup, and what its writer and its reader share. */
#pragma once

#include "libstore/backup.h"

#define BACKUP_HEAD_BYTES 512
#define BACKUP_COPY_BYTES (64u * 1024)

/** Write the head's text. */
void backup_head_format(const struct store_kind *kind, const struct backup *backup, char head[static BACKUP_HEAD_BYTES]);
/** Read it, strictly. @return 0; -EBADMSG */
_must_check_ int backup_head_parse(const struct store_kind *kind, const char head[static BACKUP_HEAD_BYTES], struct backup *backup);

/**
 * Copy a file to another from where both stand, and hash it.
 * @param bytes receives how many it had
 * @return 0; negative errno
 */
_must_check_ int backup_copy(int from, int to, uint64_t *bytes, struct hash *hash);

/** Is this database whole, by SQLite's own check? @param schema receives its version @return 0; -EBADMSG, logged */
_must_check_ int backup_check(const char *path, int *schema);
