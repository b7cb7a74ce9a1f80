/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What unit tests share: one suite a program, random numbers that are the same in every run, folders that go away again, children
 * whose end is judged, descriptors that are counted.
 */
#pragma once

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "libipc/cleanup.h"

#define UNIT_TIMEOUT 120 /* seconds a test; sanitizer builds on a busy machine are slow */

/** Run tests, each in a process of its own. @return what main() returns */
static inline int unit_run(const char *name, const TTest *const *tests, size_t count)
{
	Suite *suite = suite_create(name);
	TCase *cases = tcase_create(name);
	SRunner *runner;
	int failed;

	tcase_set_timeout(cases, UNIT_TIMEOUT);
	for (size_t i = 0; i < count; i++)
		tcase_add_test(cases, tests[i]);
	suite_add_tcase(suite, cases);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/** UNIT_MAIN("trie", one_test, another_test) */
#define UNIT_MAIN(name, ...)                                       \
	int main(void)                                             \
	{                                                          \
		const TTest *const tests[] = { __VA_ARGS__ };      \
		return unit_run(name, tests, ARRAY_SIZE(tests));   \
	}

/** xorshift64*, Marsaglia and Vigna: the same numbers from the same seed, everywhere. */
struct dice {
	uint64_t state;
};

static inline struct dice dice_of(uint64_t seed)
{
	return (struct dice){ seed * 0x9e3779b97f4a7c15ULL + 1 };
}

static inline uint64_t dice_roll(struct dice *dice)
{
	dice->state ^= dice->state >> 12;
	dice->state ^= dice->state << 25;
	dice->state ^= dice->state >> 27;
	return dice->state * 0x2545f4914f6cdd1dULL;
}

/** A number below n. */
static inline uint32_t dice_below(struct dice *dice, uint32_t n)
{
	return (uint32_t)((dice_roll(dice) >> 32) * n >> 32);
}

static inline void dice_fill(struct dice *dice, void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)bytes)[i] = (uint8_t)(dice_roll(dice) >> 56);
}

/** A new folder of mode 0700; folder_remove() takes it away with all that is in it. */
struct folder {
	char path[40];
	int fd;
};

static inline struct folder folder_new(void)
{
	struct folder folder = { .path = "/tmp/loopback-unit-XXXXXX", .fd = -1 };

	ck_assert_ptr_nonnull(mkdtemp(folder.path));
	folder.fd = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(folder.fd, 0);
	return folder;
}

static inline int folder_remove_one(const char *path, const struct stat *stat, int flag, struct FTW *where)
{
	(void)stat, (void)flag, (void)where;
	return remove(path);
}

static inline void folder_removep(struct folder *folder)
{
	(void)close_fd(folder->fd);
	(void)nftw(folder->path, folder_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}
#define _cleanup_folder_ CLEANUP(folder_removep)

static inline void file_put(const struct folder *folder, const char *name, const void *bytes, size_t n)
{
	_cleanup_close_ int fd = openat(folder->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
}

/** Read a file whole. @return its size, at most max; -1 there is none */
static inline ssize_t file_get(const struct folder *folder, const char *name, void *bytes, size_t max)
{
	_cleanup_close_ int fd = openat(folder->fd, name, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : read(fd, bytes, max);
}

/** Descriptors that this process has open. */
static inline unsigned descriptors_open(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	ck_assert_ptr_nonnull(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

/** Run in a forked child, which must not use ck_assert*() but return 0 or EXPECT(). @return its status as waitpid(2) gives it */
static inline int in_child(int (*run)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(run(arg));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/** In a child: say which line failed, and end with 1. */
#define EXPECT(condition)                                                                        \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			(void)dprintf(2, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
			return 1;                                                                \
		}                                                                                \
	} while (0)

#define ck_assert_exited_well(status)                                                                                             \
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status %#x, its own words are above", \
		      (unsigned)(status))
