/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is too large for a frame travels as a memfd that nobody can change any more (memfd_create(2), F_ADD_SEALS).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "libipc/types.h"

/** A new sealed memfd with these bytes. @return the descriptor; negative errno */
_must_check_ int memfd_of(const char *name, const void *bytes, size_t n);

/** The two halves of memfd_of(), for those who write piece by piece. */
_must_check_ int memfd_open(const char *name);
_must_check_ int memfd_seal(int fd);

/**
 * Read a memfd from a peer whole.
 * @param max refuse more bytes than this
 * @param bytes receives memory of n bytes, owned by the caller: free()
 * @return 0; -EPERM it is not sealed against shrinking, growing and writing; -EMSGSIZE; -ENOMEM
 */
_must_check_ int memfd_read(int fd, size_t max, uint8_t **bytes, size_t *n);

/** Walk the blobs of a buffer written as `blobs` describes (32-bit big-endian length, bytes). *at starts at 0. @return 1 one more in *blob; 0 the end; -EBADMSG */
_must_check_ int blob_next(const uint8_t *bytes, size_t n, size_t *at, struct view *blob);
/** Append one blob to a memfd that is not sealed yet. */
_must_check_ int blob_append(int fd, const void *bytes, size_t n);
