/* SPDX-License-Identifier: Apache-2.0 */
/* mesh.log through torn writes, flipped bits and full disks: what was in force, or what is; never something between. */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "netd/journal.h"
#include "tests/unit/documents.h"

static struct head_entry entry_of(uint64_t number)
{
	struct head_entry entry = { .type = DOC_network, .id = id_of(number), .epoch = 1, .generation = number };

	hash_of(&number, sizeof(number), &entry.hash);
	return entry;
}

static bool entries_are(const struct journal_end *end, uint64_t number, unsigned count)
{
	if (end->count != count)
		return false;
	for (unsigned i = 0; i < count; i++) {
		struct head_entry entry = entry_of(number + i);

		if (end->entries[i].type != entry.type || end->entries[i].generation != entry.generation ||
		    !id_equal(&end->entries[i].id, &entry.id) || !hash_equal(&end->entries[i].hash, &entry.hash))
			return false;
	}
	return true;
}

/* The bytes that a number stands for, and their name. */
static struct hash blob_of(uint64_t number, uint8_t *bytes, size_t n)
{
	struct dice dice = dice_of(number);
	struct hash name;

	dice_fill(&dice, bytes, n);
	hash_of(bytes, n, &name);
	return name;
}

#define BLOB_BYTES 200

static void add_blob(struct journal *journal, uint64_t number, size_t n)
{
	_cleanup_free_ uint8_t *bytes = malloc(n);

	(void)blob_of(number, bytes, n);
	ck_assert_int_eq(journal_add(journal, (struct view){ bytes, n }), 0);
}

static bool has_blob(const struct blobs *blobs, uint64_t number, size_t n)
{
	_cleanup_free_ uint8_t *bytes = malloc(n);
	struct hash name = blob_of(number, bytes, n);
	struct view found;

	return blobs_get(blobs, &name, &found) == 0 && found.n == n && memcmp(found.p, bytes, n) == 0;
}

/* One transaction: `count` entries from `number` on, each with a blob. */
static int transact(struct journal *journal, uint64_t number, unsigned count)
{
	struct head_entry entries[HEAD_ENTRIES_MAX];
	int r;

	for (unsigned i = 0; i < count; i++) {
		entries[i] = entry_of(number + i);
		add_blob(journal, number + i, BLOB_BYTES);
	}
	r = journal_intent(journal, entries, count);
	return r < 0 ? r : journal_commit(journal, entries, count);
}

/* Of the host whose log it is; a journal borrows it. */
static const uint8_t *host_secret(uint64_t number)
{
	static struct actor host;

	host = actor_of(number);
	return host.secret;
}

struct opened {
	struct blobs *blobs;
	struct journal *journal;
	struct journal_end end;
};

static struct opened reopened(const struct folder *folder)
{
	struct opened opened = { .blobs = NULL };

	ck_assert_int_eq(blobs_new(&opened.blobs), 0);
	ck_assert_int_eq(journal_open(folder->fd, host_secret(3), opened.blobs, &opened.end, &opened.journal), 0);
	return opened;
}

static void opened_end(struct opened *opened)
{
	journal_close(opened->journal);
	blobs_free(opened->blobs);
}
#define _cleanup_opened_ CLEANUP(opened_end)

static size_t log_bytes(const struct folder *folder)
{
	struct stat stat;

	ck_assert_int_eq(fstatat(folder->fd, "mesh.log", &stat, 0), 0);
	return (size_t)stat.st_size;
}

/* A log of two transactions, and where the records of interest end. */
struct sample {
	uint8_t bytes[16384];
	size_t n, first_intent, first_commit, second_intent;
};

static size_t position(const struct folder *folder, struct sample *sample)
{
	ssize_t n = file_get(folder, "mesh.log", sample->bytes, sizeof(sample->bytes));

	ck_assert_int_ge(n, 0);
	return (size_t)n;
}

static struct sample sample_make(void)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_opened_ struct opened opened = reopened(&folder);
	struct head_entry one[2] = { entry_of(10), entry_of(11) }, two[3] = { entry_of(20), entry_of(21), entry_of(22) };
	struct sample sample = { .n = 0 };

	for (uint64_t i = 10; i < 12; i++)
		add_blob(opened.journal, i, BLOB_BYTES);
	ck_assert_int_eq(journal_intent(opened.journal, one, 2), 0);
	sample.first_intent = position(&folder, &sample);
	ck_assert_int_eq(journal_commit(opened.journal, one, 2), 0);
	sample.first_commit = position(&folder, &sample);
	for (uint64_t i = 20; i < 23; i++)
		add_blob(opened.journal, i, BLOB_BYTES);
	ck_assert_int_eq(journal_intent(opened.journal, two, 3), 0);
	sample.second_intent = position(&folder, &sample);
	ck_assert_int_eq(journal_commit(opened.journal, two, 3), 0);
	sample.n = position(&folder, &sample);
	return sample;
}

/* The first blobs are there with the first entries, the second ones with the second: what a commit names is whole. */
static void assert_whole(const struct opened *opened)
{
	bool one = entries_are(&opened->end, 10, 2), two = entries_are(&opened->end, 20, 3);

	ck_assert(one || two || opened->end.count == 0);
	for (uint64_t i = 10; (one || two) && i < 12; i++)
		ck_assert(has_blob(opened->blobs, i, BLOB_BYTES));
	for (uint64_t i = 20; two && i < 23; i++)
		ck_assert(has_blob(opened->blobs, i, BLOB_BYTES));
}

/* -- Tests -------------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_new_journal_is_empty)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_opened_ struct opened opened = reopened(&folder);
	struct stat stat;

	ck_assert_uint_eq(opened.end.count, 0);
	ck_assert(!opened.end.interrupted);
	ck_assert_int_eq(fstatat(folder.fd, "mesh.log", &stat, 0), 0);
	ck_assert_uint_eq(stat.st_mode & 0777, 0600);
}
END_TEST

START_TEST(the_last_commit_counts)
{
	_cleanup_folder_ struct folder folder = folder_new();

	for (uint64_t round = 1; round <= 5; round++) {
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert(round == 1 ? opened.end.count == 0 : entries_are(&opened.end, (round - 1) * 100, 3));
		ck_assert_int_eq(transact(opened.journal, round * 100, 3), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 500, 3));
	ck_assert(!opened.end.interrupted);
	for (uint64_t round = 1; round <= 5; round++)
		ck_assert(has_blob(opened.blobs, round * 100, BLOB_BYTES));
}
END_TEST

START_TEST(a_log_cut_anywhere_is_old_or_new)
{
	struct sample sample = sample_make();

	for (size_t n = 0; n <= sample.n; n++) {
		_cleanup_folder_ struct folder folder = folder_new();

		file_put(&folder, "mesh.log", sample.bytes, n);
		_cleanup_opened_ struct opened opened = reopened(&folder);
		if (n < sample.first_commit)
			ck_assert_uint_eq(opened.end.count, 0);
		else if (n < sample.n)
			ck_assert(entries_are(&opened.end, 10, 2));
		else
			ck_assert(entries_are(&opened.end, 20, 3));
		assert_whole(&opened);
		ck_assert_int_eq(opened.end.interrupted, (n >= sample.first_intent && n < sample.first_commit) ||
								 (n >= sample.second_intent && n < sample.n));
		/* The torn tail is gone from the file, and what comes next is found again. */
		ck_assert_uint_le(log_bytes(&folder), n);
		if (n % 16 == 0) {
			ck_assert_int_eq(transact(opened.journal, 30, 1), 0);
			_cleanup_opened_ struct opened later = reopened(&folder);
			ck_assert(entries_are(&later.end, 30, 1));
		}
	}
}
END_TEST

START_TEST(a_flipped_bit_anywhere_is_old_or_new)
{
	struct sample sample = sample_make();

	for (size_t i = 0; i < sample.n; i++) {
		_cleanup_folder_ struct folder folder = folder_new();

		sample.bytes[i] ^= (uint8_t)(1 << i % 8);
		file_put(&folder, "mesh.log", sample.bytes, sample.n);
		sample.bytes[i] ^= (uint8_t)(1 << i % 8);
		_cleanup_opened_ struct opened opened = reopened(&folder);
		/* Used up to the damage. */
		if (i < sample.first_commit)
			ck_assert_uint_eq(opened.end.count, 0);
		else
			ck_assert(entries_are(&opened.end, 10, 2));
		assert_whole(&opened);
	}
}
END_TEST

/* A whole record of any kind, as netd/journal.h describes it. */
static size_t put_record(uint8_t *out, uint8_t kind, const void *body, size_t n)
{
	uint8_t *at = out;

	*at++ = kind;
	for (unsigned i = 0; i < 4; i++)
		*at++ = (uint8_t)(n >> (24 - 8 * i));
	memcpy(at, body, n);
	at += n;
	ck_assert_int_eq(crypto_generichash(at, 16, out, (size_t)(at - out), NULL, 0), 0);
	return (size_t)(at - out) + 16;
}

START_TEST(a_whole_record_that_is_not_ours_is_damage)
{
	/* Kinds that there are not, a commit that names nothing readable, and one that begins well. */
	static const struct {
		uint8_t kind;
		const char *body;
	} records[] = { { 0, "" }, { 5, "" }, { 255, "body" }, { 3, "" }, { 3, "junk" }, { 3, "\x91\x96\x03" } };
	struct sample sample = sample_make();

	for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
		_cleanup_folder_ struct folder folder = folder_new();
		uint8_t bytes[16384 + 64];
		size_t n = sample.first_commit;

		/* The first commit, the record, the second transaction. */
		memcpy(bytes, sample.bytes, n);
		n += put_record(bytes + n, records[i].kind, records[i].body, strlen(records[i].body));
		memcpy(bytes + n, sample.bytes + sample.first_commit, sample.n - sample.first_commit);
		file_put(&folder, "mesh.log", bytes, n + sample.n - sample.first_commit);
		{
			_cleanup_opened_ struct opened opened = reopened(&folder);

			ck_assert(entries_are(&opened.end, 10, 2));
			ck_assert_uint_eq(log_bytes(&folder), sample.first_commit);
			ck_assert_int_eq(transact(opened.journal, 30, 1), 0);
		}
		_cleanup_opened_ struct opened opened = reopened(&folder);
		ck_assert(entries_are(&opened.end, 30, 1));
	}
}
END_TEST

START_TEST(a_commit_that_another_host_signed_is_damage)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_(blobs_free) struct blobs *blobs = NULL;
	_cleanup_(journal_close) struct journal *journal = NULL;
	struct journal_end end;

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
	}
	ck_assert_int_eq(blobs_new(&blobs), 0);
	ck_assert_int_eq(journal_open(folder.fd, host_secret(4), blobs, &end, &journal), 0);
	ck_assert_uint_eq(end.count, 0);
	ck_assert_uint_eq(log_bytes(&folder), 0);
}
END_TEST

START_TEST(garbage_is_an_empty_journal)
{
	for (uint64_t seed = 1; seed <= 50; seed++) {
		_cleanup_folder_ struct folder folder = folder_new();
		struct dice dice = dice_of(seed);
		uint8_t bytes[512];

		dice_fill(&dice, bytes, sizeof(bytes));
		bytes[1] = bytes[2] = (uint8_t)(seed % 2 ? 0 : bytes[1]); /* half of them with a length that fits */
		file_put(&folder, "mesh.log", bytes, sizeof(bytes));
		_cleanup_opened_ struct opened opened = reopened(&folder);
		ck_assert_uint_eq(opened.end.count, 0);
		ck_assert_uint_eq(log_bytes(&folder), 0);
	}
}
END_TEST

START_TEST(an_abort_leaves_what_was_in_force)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct head_entry next = entry_of(20);

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
		add_blob(opened.journal, 20, BLOB_BYTES);
		ck_assert_int_eq(journal_intent(opened.journal, &next, 1), 0);
		journal_abort(opened.journal);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 10, 2));
	ck_assert(!opened.end.interrupted);
}
END_TEST

START_TEST(a_change_that_is_given_up_leaves_nothing_in_the_file)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct head_entry next = entry_of(20);
	size_t before;

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
		before = log_bytes(&folder);
		for (unsigned i = 0; i < 20; i++) {
			add_blob(opened.journal, 20, BLOB_BYTES);
			ck_assert_int_eq(journal_intent(opened.journal, &next, 1), 0);
			journal_abort(opened.journal);
		}
		ck_assert_uint_eq(log_bytes(&folder), before);
		add_blob(opened.journal, 20, BLOB_BYTES);
		ck_assert_int_eq(journal_intent(opened.journal, &next, 1), 0);
	}
	/* Nor one that a crash interrupted. */
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 10, 2));
	ck_assert(opened.end.interrupted);
	ck_assert_uint_eq(log_bytes(&folder), before);
}
END_TEST

/* libc's, but for the test below: the disk is gone. */
static bool disk_gone;

int ftruncate(int fd, off_t n)
{
	if (disk_gone) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_ftruncate, fd, n);
}

START_TEST(a_reset_that_fails_changes_nothing)
{
	_cleanup_folder_ struct folder folder = folder_new();

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
		disk_gone = true;
		ck_assert_int_eq(journal_reset(opened.journal), -EIO);
		disk_gone = false;
		/* What comes next is written behind what is there, not over it. */
		ck_assert_int_eq(transact(opened.journal, 30, 1), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 30, 1));
	ck_assert(has_blob(opened.blobs, 10, BLOB_BYTES));
}
END_TEST

START_TEST(blobs_of_an_abandoned_set_are_not_written_with_the_next)
{
	_cleanup_folder_ struct folder folder = folder_new();

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		add_blob(opened.journal, 99, BLOB_BYTES);
		journal_abort(opened.journal);
		ck_assert_int_eq(transact(opened.journal, 10, 1), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(has_blob(opened.blobs, 10, BLOB_BYTES));
	ck_assert(!has_blob(opened.blobs, 99, BLOB_BYTES));
}
END_TEST

START_TEST(a_reset_forgets_everything)
{
	_cleanup_folder_ struct folder folder = folder_new();

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 10, 2), 0);
		ck_assert_int_eq(journal_reset(opened.journal), 0);
		ck_assert_uint_eq(log_bytes(&folder), 0);
		ck_assert_int_eq(transact(opened.journal, 30, 1), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 30, 1));
	ck_assert(!has_blob(opened.blobs, 10, BLOB_BYTES));
}
END_TEST

START_TEST(a_full_head_fits)
{
	_cleanup_folder_ struct folder folder = folder_new();

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 1000, HEAD_ENTRIES_MAX), 0);
	}
	_cleanup_opened_ struct opened opened = reopened(&folder);
	ck_assert(entries_are(&opened.end, 1000, HEAD_ENTRIES_MAX));
}
END_TEST

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
		ck_assert_int_eq(journal_commit(opened.journal, next, HEAD_ENTRIES_MAX), 0);
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
		ck_assert_int_eq(journal_commit(journal, &entry, 1), 0);
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

START_TEST(a_link_in_place_of_the_log_is_not_followed)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_(blobs_free) struct blobs *blobs = NULL;
	struct journal *journal = NULL;
	struct journal_end end;

	file_put(&folder, "elsewhere", "", 0);
	ck_assert_int_eq(symlinkat("elsewhere", folder.fd, "mesh.log"), 0);
	ck_assert_int_eq(blobs_new(&blobs), 0);
	ck_assert_int_eq(journal_open(folder.fd, host_secret(3), blobs, &end, &journal), -ELOOP);
}
END_TEST

UNIT_MAIN("netd: journal", a_new_journal_is_empty, the_last_commit_counts, a_log_cut_anywhere_is_old_or_new,
	  a_flipped_bit_anywhere_is_old_or_new, a_whole_record_that_is_not_ours_is_damage,
	  a_commit_that_another_host_signed_is_damage, garbage_is_an_empty_journal,
	  an_abort_leaves_what_was_in_force, a_change_that_is_given_up_leaves_nothing_in_the_file, a_reset_that_fails_changes_nothing,
	  blobs_of_an_abandoned_set_are_not_written_with_the_next, a_reset_forgets_everything, a_full_head_fits,
	  a_full_disk_refuses_the_intent_and_keeps_the_log, a_disk_that_fills_up_after_the_intent_still_takes_the_commit,
	  a_write_cut_short_does_not_count, a_long_log_is_written_anew, a_short_log_or_a_useful_one_stays,
	  a_disk_without_room_for_a_new_log_keeps_the_long_one, a_compaction_that_was_cut_short_is_cleared_away,
	  a_link_in_place_of_the_log_is_not_followed)
