/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership made visible.
 *
 * A reader should be able to judge one function leak-free without opening another. So: a variable that owns something carries
 * a _cleanup_ attribute, descriptors start at -1, pointers at NULL, TAKE_*() moves ownership out, and an out-parameter is
 * untouched when its function fails. Functions return 0 (or a count) or a negative errno.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_ __attribute__((unused))
#define _noreturn_ __attribute__((noreturn))

#define CLEANUP(function) __attribute__((cleanup(function)))

/* DEFINE_CLEANUP(struct plan *, plan_free) makes plan_freep() and lets `_cleanup_(plan_free) struct plan *p = NULL;` work. */
#define DEFINE_CLEANUP(type, function)                              \
	static inline _unused_ void function##p(type *owned)        \
	{                                                           \
		if (*owned)                                         \
			function(*owned);                           \
	}
#define _cleanup_(function) CLEANUP(function##p)

static inline void freep(void *owned)
{
	free(*(void **)owned);
}
#define _cleanup_free_ CLEANUP(freep)

/* close(2) can report EINTR on Linux with the descriptor gone all the same: never retried. */
static inline int close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static inline void closep(const int *owned)
{
	(void)close_fd(*owned);
}
#define _cleanup_close_ CLEANUP(closep)

static inline void fclosep(FILE **owned)
{
	if (*owned)
		(void)fclose(*owned);
}
#define _cleanup_fclose_ CLEANUP(fclosep)

#define TAKE_PTR(pointer)                             \
	__extension__({                               \
		__typeof__(pointer) _taken = (pointer); \
		(pointer) = NULL;                     \
		_taken;                               \
	})

#define TAKE_FD(fd)              \
	__extension__({          \
		int _taken = (fd); \
		(fd) = -1;       \
		_taken;          \
	})

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
