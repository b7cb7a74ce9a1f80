/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event, one line, for a person and for the journal.
 *
 * Lines go to stderr with the "<N>" priority prefix of sd-daemon(3) when stderr is the journal (JOURNAL_STREAM is set), and as
 * "name: text" otherwise. A message names the object, what was expected, what was found and what happens next. Text that came
 * from a peer passes through log_clean(): control characters never reach a terminal. Secrets are never arguments.
 */
#pragma once

#include <stddef.h>

#include "libipc/cleanup.h"

enum log_level { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6, LOG_DEBUG = 7 };

/** Name this process in its lines, read LOOPBACK_LOG_LEVEL (error, warning, notice, info, debug). name must stay valid. */
void log_open(const char *name);

/** Set the least important level that is still written. */
void log_level_set(enum log_level level);

/** Write one line. Longer than 1,000 bytes is cut. Does not change errno. */
void log_line(enum log_level level, const char *format, ...) _printf_(2, 3);

/**
 * Write one line at LOG_ERROR that ends in the text of an errno value.
 * @param error positive or negative errno
 * @return -abs(error), so that a caller can write `return log_errno(r, "...")`
 */
int log_errno(int error, const char *format, ...) _printf_(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/**
 * Copy text from an untrusted source with everything but printable ASCII replaced by '?'.
 * @return out, always terminated; cut to size - 1 bytes
 */
const char *log_clean(char *out, size_t size, const void *text, size_t len);
