/* SPDX-License-Identifier: Apache-2.0 */
/* mesh.log on a disk that is full or becomes so, and a log that has grown too long. */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "tests/unit/mesh_log.h"

/* A folder on a disk of its own, so small that it can be filled. */
static struct folder small_disk(const char *size)
{
	struct folder folder = folder_new();
	char options[32];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		ck_abort_msg("this test mounts a disk of its own: run it as root");
	(void)snprintf(options, sizeof(options), "size=%s", size);
	ck_assert_int_eq(mount("none", folder.path, "tmpfs", 0, options), 0);
	(void)close_fd(folder.fd);
	folder.fd = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(folder.fd, 0);
	return folder;
}

static void small_disk_end(struct folder *folder)
{
	folder->fd = close_fd(folder->fd);
	(void)umount2(folder->path, MNT_DETACH);
	(void)rmdir(folder->path);
}

static void fill(const struct folder *folder)
{
	_cleanup_close_ int fd = openat(folder->fd, "filler", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	static const uint8_t bytes[4096];
	ssize_t n;

	for (size_t step = sizeof(bytes); step > 0; step /= 16)
		while ((n = write(fd, bytes, step)) > 0)
			continue;
	ck_assert_int_eq(errno, ENOSPC);
}

START_TEST(a_full_disk_refuses_the_intent_and_keeps_the_log)
{
	CLEANUP(small_disk_end) struct folder folder = small_disk("256k");
	struct head_entry next = entry_of(20);

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);
		size_t before;

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
		before = log_bytes(&folder);
		add_blob(opened.journal, 20, 512 * 1024);
		ck_assert_int_eq(journal_intent(opened.journal, &next, 1), -ENOSPC);
		ck_assert_uint_eq(log_bytes(&folder), before);
		/* What is small enough still gets in. */
		ck_assert_int_eq(transact(opened.journal, 30, 1), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 30, 1));
}
END_TEST

START_TEST(a_disk_that_fills_up_after_the_intent_still_takes_the_commit)
{
	CLEANUP(small_disk_end) struct folder folder = small_disk("256k");
	struct head_entry next[HEAD_ENTRIES_MAX];

	for (unsigned i = 0; i < HEAD_ENTRIES_MAX; i++)
		next[i] = entry_of(500 + i);
	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
		add_blob(opened.journal, 500, BLOB_BYTES);
		ck_assert_int_eq(journal_intent(opened.journal, next, HEAD_ENTRIES_MAX), 0);
		fill(&folder);
		/* The largest commit there is: the device has the change already. */
		ck_assert_int_eq(journal_commit(opened.journal, next, HEAD_ENTRIES_MAX, false), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 500, HEAD_ENTRIES_MAX));
}
END_TEST

START_TEST(a_write_cut_short_does_not_count)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct rlimit limit, whole;
	struct head_entry next = entry_of(20);
	size_t before;

	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &whole), 0);
	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
		before = log_bytes(&folder);
		limit = (struct rlimit){ before + 100, whole.rlim_max };
		add_blob(opened.journal, 20, BLOB_BYTES);
		ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
		ck_assert_int_lt(journal_intent(opened.journal, &next, 1), 0);
		ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &whole), 0);
		ck_assert_uint_eq(log_bytes(&folder), before);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 10, 2));
	ck_assert(!has_blob(opened.blobs, 20, BLOB_BYTES));
}
END_TEST

/* Twelve large transactions, the last of which is in force. @return blobs that it needs */
static struct blobs *grown(struct journal *journal)
{
	struct blobs *needed = NULL;
	_cleanup_free_ uint8_t *bytes = malloc(200 * 1024);
	struct head_entry entry;
	struct hash name;

	ck_assert_int_eq(blobs_new(&needed), 0);
	for (uint64_t number = 1; number <= 12; number++) {
		entry = entry_of(number);
		add_blob(journal, number, 200 * 1024);
		ck_assert_int_eq(journal_intent(journal, &entry, 1), 0);
		ck_assert_int_eq(journal_commit(journal, &entry, 1, false), 0);
	}
	name = blob_of(12, bytes, 200 * 1024);
	ck_assert_int_eq(blobs_put(needed, &name, bytes, 200 * 1024), 0);
	return needed;
}

START_TEST(a_long_log_is_written_anew)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct head_entry last = entry_of(12);

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);
		_cleanup_(blobs_free) struct blobs *needed = grown(opened.journal);

		ck_assert_uint_gt(log_bytes(&folder), 2 * 1024 * 1024);
		journal_compact(opened.journal, needed, &last, 1);
		ck_assert_uint_lt(log_bytes(&folder), 256 * 1024);
		ck_assert_int_eq(faccessat(folder.fd, "mesh.log.new", F_OK, 0), -1);
		/* It goes on in the new file, not in the one that was replaced. */
		ck_assert_int_eq(transact(opened.journal, 30, 2), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 30, 2));
	ck_assert(has_blob(opened.blobs, 12, 200 * 1024));
	ck_assert(!has_blob(opened.blobs, 11, 200 * 1024));
}
END_TEST

START_TEST(a_short_log_or_a_useful_one_stays)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_opened_ struct opened opened = reopened(&folder);
	struct head_entry last = entry_of(12);
	size_t before;

	ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
	before = log_bytes(&folder);
	journal_compact(opened.journal, opened.blobs, &last, 1); /* nothing in it is of use, but it is short */
	ck_assert_uint_eq(log_bytes(&folder), before);
	blobs_free(grown(opened.journal));
	before = log_bytes(&folder);
	{
		_cleanup_opened_ struct opened all = reopened(&folder);

		journal_compact(opened.journal, all.blobs, &last, 1); /* all of it is of use */
	}
	ck_assert_uint_eq(log_bytes(&folder), before);
}
END_TEST

START_TEST(a_disk_without_room_for_a_new_log_keeps_the_long_one)
{
	CLEANUP(small_disk_end) struct folder folder = small_disk("3m");
	struct head_entry last = entry_of(12);

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);
		_cleanup_(blobs_free) struct blobs *needed = grown(opened.journal);
		size_t before = log_bytes(&folder);

		fill(&folder);
		journal_compact(opened.journal, needed, &last, 1);
		ck_assert_uint_eq(log_bytes(&folder), before);
		ck_assert_int_eq(faccessat(folder.fd, "mesh.log.new", F_OK, 0), -1);
		ck_assert_int_eq(unlinkat(folder.fd, "filler", 0), 0);
		ck_assert_int_eq(transact(opened.journal, 30, 1), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 30, 1));
}
END_TEST

START_TEST(a_compaction_that_was_cut_short_is_cleared_away)
{
	_cleanup_folder_ struct folder folder = folder_new();

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
	}
	file_put(&folder, "mesh.log.new", "half", 4);
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 10, 2));
	ck_assert_int_eq(faccessat(folder.fd, "mesh.log.new", F_OK, 0), -1);
}
END_TEST

UNIT_MAIN("netd: journal and disk", a_full_disk_refuses_the_intent_and_keeps_the_log,
	  a_disk_that_fills_up_after_the_intent_still_takes_the_commit, a_write_cut_short_does_not_count,
	  a_long_log_is_written_anew, a_short_log_or_a_useful_one_stays, a_disk_without_room_for_a_new_log_keeps_the_long_one,
	  a_compaction_that_was_cut_short_is_cleared_away)
