/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files: secrets, keys, certificates, configuration. Written whole or not at all.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "libipc/cleanup.h"

/**
 * Read a file whole; "-" is stdin.
 * @param buffer receives it, always terminated; room counts the terminator
 * @return bytes read; -EMSGSIZE it is longer; another negative errno. The buffer is wiped on failure.
 */
_must_check_ ssize_t file_read(const char *path, char *buffer, size_t room);

/** As file_read() for one line of text: white space around it is cut off. @return its length; -EBADMSG there is more than one
 * line, or none */
_must_check_ ssize_t file_read_line(const char *path, char *buffer, size_t room);

/** Is this a file that others than its owner may read or write? "-" and what is not a regular file are nobody's business. */
bool file_is_open_to_others(const char *path);

/** Write a new file; one that exists stays as it is. @return 0; -EEXIST; another negative errno */
_must_check_ int file_create(const char *path, const void *bytes, size_t n, mode_t mode);

/** Write a file, replacing an existing one in a single step. @return 0; negative errno */
_must_check_ int file_replace(const char *path, const void *bytes, size_t n, mode_t mode);
