/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a tar archive (POSIX.1-2017, pax, "ustar Interchange Format") of regular files that are in memory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "libipc/cleanup.h"

#define TAR_NAME_BYTES_MAX 100

/**
 * Append one file, owned by root, mode 0600.
 * @param name at most TAR_NAME_BYTES_MAX bytes @param modified Unix seconds
 * @return 0; -ENAMETOOLONG; -EFBIG; errors of write(2)
 */
_must_check_ int tar_add(int fd, const char *name, const void *bytes, size_t n, uint64_t modified);

/** Write the end of the archive. @return 0; errors of write(2) */
_must_check_ int tar_end(int fd);
