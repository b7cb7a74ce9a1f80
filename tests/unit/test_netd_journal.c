/* SPDX-License-Identifier: Apache-2.0 */
/* mesh.log through torn writes and flipped bits: what was in force, or what is; never something between. */
#include <sys/syscall.h>

#include "tests/unit/mesh_log.h"

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
	ck_assert_int_eq(journal_commit(opened.journal, one, 2, false), 0);
	sample.first_commit = position(&folder, &sample);
	for (uint64_t i = 20; i < 23; i++)
		add_blob(opened.journal, i, BLOB_BYTES);
	ck_assert_int_eq(journal_intent(opened.journal, two, 3), 0);
	sample.second_intent = position(&folder, &sample);
	ck_assert_int_eq(journal_commit(opened.journal, two, 3, false), 0);
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

static bool before_is(const struct journal_end *end, uint64_t number, unsigned count)
{
	struct journal_end before = { .count = end->before_count };

	memcpy(before.entries, end->before, sizeof(before.entries));
	return entries_are(&before, number, count);
}

/* What the control plane was last heard under is kept until a head confirms what came after it, however many changes that were. */
START_TEST(marks_say_what_there_is_to_go_back_to)
{
	_cleanup_folder_ struct folder folder = folder_new();
	static const struct {
		uint64_t commit; /* 0: none */
		bool unconfirmed;
		enum confirm mark, then; /* mark none: none is written */
		uint64_t before;
	} steps[] = {
		{ 100, true, CONFIRM_none, CONFIRM_unconfirmed, 0 }, /* the first: there was nothing */
		{ 0, false, CONFIRM_confirmed, CONFIRM_confirmed, 0 },
		{ 200, true, CONFIRM_none, CONFIRM_unconfirmed, 100 },
		{ 300, true, CONFIRM_none, CONFIRM_unconfirmed, 100 },
		{ 0, false, CONFIRM_restored, CONFIRM_restored, 100 },
		{ 400, true, CONFIRM_none, CONFIRM_unconfirmed, 100 },
		{ 0, false, CONFIRM_confirmed, CONFIRM_confirmed, 100 },
		{ 500, false, CONFIRM_none, CONFIRM_none, 400 },
		{ 600, true, CONFIRM_none, CONFIRM_unconfirmed, 500 },
	};
	uint64_t last = 0;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		{
			_cleanup_opened_ struct opened opened = reopened(&folder);

			if (steps[i].commit)
				ck_assert_int_eq(transact_marked(opened.journal, last = steps[i].commit, 2, steps[i].unconfirmed), 0);
			else
				journal_mark(opened.journal, steps[i].mark);
		}
		_cleanup_opened_ struct opened opened = reopened(&folder);
		ck_assert(entries_are(&opened.end, last, 2));
		ck_assert_int_eq(opened.end.confirm, steps[i].then);
		ck_assert_msg(before_is(&opened.end, steps[i].before, steps[i].before ? 2 : 0), "step %zu", i);
	}
}
END_TEST

/* A mark that is cut off leaves the one before it in force: the time to confirm begins anew. */
START_TEST(a_mark_cut_anywhere_is_not_there)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct sample sample = { .n = 0 };
	size_t whole;

	{
		_cleanup_opened_ struct opened opened = reopened(&folder);

		ck_assert_int_eq(transact(opened.journal, 100, 2), 0);
		ck_assert_int_eq(transact_marked(opened.journal, 200, 2, true), 0);
		sample.n = position(&folder, &sample);
		journal_mark(opened.journal, CONFIRM_restored);
	}
	whole = position(&folder, &sample);
	ck_assert_uint_gt(whole, sample.n);
	for (size_t n = sample.n; n <= whole; n++) {
		file_put(&folder, "mesh.log", sample.bytes, n);
		_cleanup_opened_ struct opened opened = reopened(&folder);
		ck_assert(entries_are(&opened.end, 200, 2));
		ck_assert_int_eq(opened.end.confirm, n < whole ? CONFIRM_unconfirmed : CONFIRM_restored);
		ck_assert(before_is(&opened.end, 100, 2));
	}
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
	  a_commit_that_another_host_signed_is_damage, garbage_is_an_empty_journal, an_abort_leaves_what_was_in_force,
	  a_change_that_is_given_up_leaves_nothing_in_the_file, a_reset_that_fails_changes_nothing,
	  blobs_of_an_abandoned_set_are_not_written_with_the_next, a_reset_forgets_everything, a_full_head_fits,
	  marks_say_what_there_is_to_go_back_to, a_mark_cut_anywhere_is_not_there, a_link_in_place_of_the_log_is_not_followed)
