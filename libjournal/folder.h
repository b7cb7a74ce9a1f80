/* SPDX-License-Identifier: Apache-2.0 */
/* Small files of a folder that is one process's own: read whole, replaced whole. Links are not followed. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libipc/cleanup.h"

/** @return bytes read; -ENOENT; -EMSGSIZE longer than max; negative errno */
_must_check_ ssize_t folder_read(int folder, const char *name, void *bytes, size_t max);
/** Write, fsync, rename, fsync of the folder: what is there afterwards is the old or the new. Mode 0600. @return 0; negative errno */
_must_check_ int folder_write(int folder, const char *name, const void *bytes, size_t n);
/** @return 0, also if there is none; negative errno */
_must_check_ int folder_remove(int folder, const char *name);

/** One more than what the file says, which says so then; 1 if there is none. *count is right also if it cannot be written. @return 0; negative errno of writing */
_must_check_ int folder_count(int folder, const char *name, uint64_t *count);

/* 64 bits, big endian, as these files have them. */
void put_counter(uint8_t out[static 8], uint64_t value);
uint64_t get_counter(const uint8_t in[static 8]);
