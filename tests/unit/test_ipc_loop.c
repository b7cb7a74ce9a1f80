/* SPDX-License-Identifier: Apache-2.0 */
/* The loop, sealed memory, log lines. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "libipc/log.h"
#include "libipc/loop.h"
#include "libipc/memfd.h"
#include "tests/unit/unit.h"

/* -- Timers ----------------------------------------------------------------------------------------------------------------------------- */

struct record {
	struct loop *loop;
	char order[16];
	size_t n;
	struct loop_timer *timers[4];
	struct loop_watch *watches[4];
	int fds[8];
	unsigned hits[4];
};

static void note(struct record *record, char what)
{
	ck_assert_uint_lt(record->n, sizeof(record->order) - 1);
	record->order[record->n++] = what;
}

static void note_a(void *arg) { note(arg, 'a'); }
static void note_b(void *arg) { note(arg, 'b'); }
static void note_c(void *arg) { note(arg, 'c'); }

static void run_for(struct loop *loop, uint64_t milliseconds)
{
	uint64_t end = loop_now_ms() + milliseconds;

	while (loop_now_ms() < end)
		ck_assert_int_eq(loop_once(loop, 5), 0);
}

START_TEST(timers_fire_once_and_when_they_are_due)
{
	struct record record = { .n = 0 };
	uint64_t begun = loop_now_ms();

	ck_assert_int_eq(loop_new(&record.loop), 0);
	ck_assert_int_eq(loop_timer_new(record.loop, note_a, &record, &record.timers[0]), 0);
	ck_assert_int_eq(loop_timer_new(record.loop, note_b, &record, &record.timers[1]), 0);
	ck_assert_int_eq(loop_timer_new(record.loop, note_c, &record, &record.timers[2]), 0);
	loop_timer_set(record.timers[0], 60);
	loop_timer_set(record.timers[1], 20);
	loop_timer_set(record.timers[2], 40);
	while (record.n < 3)
		ck_assert_int_eq(loop_once(record.loop, -1), 0); /* waits for the next timer by itself */
	ck_assert_str_eq(record.order, "bca");
	ck_assert_uint_ge(loop_now_ms() - begun, 60);
	run_for(record.loop, 30);
	ck_assert_uint_eq(record.n, 3);
	loop_free(record.loop);
}
END_TEST

START_TEST(a_timer_can_be_stopped_and_set_anew)
{
	struct record record = { .n = 0 };

	ck_assert_int_eq(loop_new(&record.loop), 0);
	ck_assert_int_eq(loop_timer_new(record.loop, note_a, &record, &record.timers[0]), 0);
	ck_assert_int_eq(loop_timer_new(record.loop, note_b, &record, &record.timers[1]), 0);
	loop_timer_set(record.timers[0], 0);
	loop_timer_stop(record.timers[0]);
	loop_timer_set(record.timers[1], 0);
	loop_timer_set(record.timers[1], 30); /* the later word counts */
	run_for(record.loop, 15);
	ck_assert_str_eq(record.order, "");
	run_for(record.loop, 30);
	ck_assert_str_eq(record.order, "b");
	loop_free(record.loop);
}
END_TEST

static void free_both(void *arg)
{
	struct record *record = arg;

	note(record, 'f');
	loop_timer_free(&record->timers[0]);
	loop_timer_free(&record->timers[1]);
	loop_timer_free(&record->timers[1]);
	ck_assert_ptr_null(record->timers[0]);
}

START_TEST(a_timer_may_be_freed_within_a_callback)
{
	struct record record = { .n = 0 };

	/* Both are due in the same round, and each would free the other: one of them fires. */
	ck_assert_int_eq(loop_new(&record.loop), 0);
	ck_assert_int_eq(loop_timer_new(record.loop, free_both, &record, &record.timers[0]), 0);
	ck_assert_int_eq(loop_timer_new(record.loop, free_both, &record, &record.timers[1]), 0);
	loop_timer_set(record.timers[0], 0);
	loop_timer_set(record.timers[1], 0);
	run_for(record.loop, 10);
	ck_assert_str_eq(record.order, "f");
	loop_free(record.loop);
}
END_TEST

static void again(void *arg)
{
	struct record *record = arg;

	note(record, 'x');
	if (record->n < 5)
		loop_timer_set(record->timers[0], 0);
}

START_TEST(a_timer_that_sets_itself_does_not_hold_the_loop)
{
	struct record record = { .n = 0 };

	ck_assert_int_eq(loop_new(&record.loop), 0);
	ck_assert_int_eq(loop_timer_new(record.loop, again, &record, &record.timers[0]), 0);
	loop_timer_set(record.timers[0], 0);
	for (unsigned i = 1; i <= 7; i++) {
		ck_assert_int_eq(loop_once(record.loop, 0), 0);
		ck_assert_uint_eq(record.n, i < 5 ? i : 5); /* once a round */
	}
	loop_free(record.loop);
}
END_TEST

/* -- Descriptors -------------------------------------------------------------------------------------------------------------------------- */

static void drop_all(int fd _unused_, uint32_t events _unused_, void *arg)
{
	struct record *record = arg;

	note(record, 'd');
	for (size_t i = 0; i < ARRAY_SIZE(record->watches); i++)
		loop_watch_remove(&record->watches[i]);
}

START_TEST(a_watch_removed_in_a_round_is_not_called_in_it)
{
	struct record record = { .n = 0 };

	ck_assert_int_eq(loop_new(&record.loop), 0);
	for (size_t i = 0; i < 4; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, &record.fds[2 * i]), 0);
		ck_assert_int_eq(write(record.fds[2 * i + 1], "x", 1), 1);
		ck_assert_int_eq(loop_watch_add(record.loop, record.fds[2 * i], EPOLLIN, drop_all, &record, &record.watches[i]), 0);
	}
	/* All four are readable at once; the first that is called removes all, itself included. */
	ck_assert_int_eq(loop_once(record.loop, 0), 0);
	ck_assert_int_eq(loop_once(record.loop, 0), 0);
	ck_assert_str_eq(record.order, "d");
	loop_free(record.loop);
	for (size_t i = 0; i < 8; i++)
		(void)close(record.fds[i]);
}
END_TEST

static void count_events(int fd _unused_, uint32_t events, void *arg)
{
	struct record *record = arg;

	record->hits[0]++;
	record->hits[1] |= events;
}

START_TEST(a_watch_tells_what_it_was_asked_for)
{
	struct record record = { .n = 0 };

	ck_assert_int_eq(loop_new(&record.loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, record.fds), 0);
	ck_assert_int_eq(loop_watch_add(record.loop, record.fds[0], EPOLLIN, count_events, &record, &record.watches[0]), 0);
	ck_assert_int_eq(loop_once(record.loop, 0), 0);
	ck_assert_uint_eq(record.hits[0], 0);
	ck_assert_int_eq(loop_watch_change(record.watches[0], EPOLLOUT), 0);
	ck_assert_int_eq(loop_once(record.loop, 0), 0);
	ck_assert_uint_eq(record.hits[1], EPOLLOUT);
	ck_assert_int_eq(loop_watch_add(record.loop, record.fds[0], EPOLLIN, count_events, &record, &record.watches[1]), -EEXIST);
	ck_assert_ptr_null(record.watches[1]);
	loop_watch_remove(&record.watches[0]);
	loop_watch_remove(&record.watches[0]);
	loop_free(record.loop);
	(void)close(record.fds[0]);
	(void)close(record.fds[1]);
}
END_TEST

static void on_signal(int number, void *arg)
{
	struct record *record = arg;

	note(record, number == SIGTERM ? 't' : 'h');
	if (number == SIGTERM)
		loop_stop(record->loop, 17);
}

START_TEST(signals_come_through_the_loop)
{
	static const int signals[] = { SIGTERM, SIGHUP, 0 };
	struct record record = { .n = 0 };

	ck_assert_int_eq(loop_new(&record.loop), 0);
	ck_assert_int_eq(loop_signals(record.loop, signals, on_signal, &record), 0);
	ck_assert_int_eq(raise(SIGHUP), 0);
	ck_assert_int_eq(loop_once(record.loop, 0), 0);
	ck_assert_str_eq(record.order, "h");
	ck_assert_int_eq(raise(SIGTERM), 0);
	ck_assert_int_eq(loop_run(record.loop), 17);
	ck_assert_str_eq(record.order, "ht");
	loop_free(record.loop);
}
END_TEST

START_TEST(a_loop_leaves_no_descriptor_behind)
{
	static const int signals[] = { SIGHUP, 0 };
	unsigned before = descriptors_open();
	struct record record = { .n = 0 };

	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(loop_new(&record.loop), 0);
		ck_assert_int_eq(loop_signals(record.loop, signals, on_signal, &record), 0);
		loop_free(record.loop);
	}
	ck_assert_uint_eq(descriptors_open(), before);
}
END_TEST

/* -- Sealed memory --------------------------------------------------------------------------------------------------------------------------- */

START_TEST(what_is_sealed_is_read_whole)
{
	static uint8_t bytes[100000];
	uint8_t *again = NULL;
	size_t n = 0;
	int fd;

	memset(bytes, 'm', sizeof(bytes));
	fd = memfd_of("test", bytes, sizeof(bytes));
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(lseek(fd, 5, SEEK_SET), 5); /* wherever its owner left the offset */
	ck_assert_int_eq(memfd_read(fd, sizeof(bytes), &again, &n), 0);
	ck_assert_uint_eq(n, sizeof(bytes));
	ck_assert_mem_eq(again, bytes, n);
	free(again);
	ck_assert_int_eq(write(fd, "x", 1), -1);
	ck_assert_int_eq(ftruncate(fd, 1), -1);
	ck_assert_int_eq(memfd_read(fd, sizeof(bytes) - 1, &again, &n), -EMSGSIZE);
	(void)close(fd);
	fd = memfd_of("empty", NULL, 0);
	ck_assert_int_eq(memfd_read(fd, 0, &again, &n), 0);
	ck_assert_uint_eq(n, 0);
	free(again);
	(void)close(fd);
}
END_TEST

START_TEST(what_its_owner_can_change_is_not_read)
{
	static const int seals[] = { 0, F_SEAL_WRITE, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_WRITE | F_SEAL_GROW, F_SEAL_WRITE | F_SEAL_SHRINK };
	uint8_t *bytes = NULL;
	size_t n = 4711;
	int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	for (size_t i = 0; i < ARRAY_SIZE(seals); i++) {
		int fd = memfd_open("test");

		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(write(fd, "x", 1), 1);
		ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
		ck_assert_int_eq(memfd_read(fd, 100, &bytes, &n), -EPERM);
		(void)close(fd);
	}
	ck_assert_int_eq(memfd_read(file, 100000, &bytes, &n), -EPERM);
	ck_assert_int_eq(memfd_read(-1, 100, &bytes, &n), -EPERM);
	(void)close(file);
	ck_assert_uint_eq(n, 4711);
	ck_assert_ptr_null(bytes);
}
END_TEST

START_TEST(blobs_are_walked_one_by_one)
{
	uint8_t *bytes = NULL;
	struct view blob;
	size_t n, at = 0;
	int fd = memfd_open("test");

	ck_assert_int_eq(blob_append(fd, "one", 3), 0);
	ck_assert_int_eq(blob_append(fd, NULL, 0), 0);
	ck_assert_int_eq(blob_append(fd, "three", 5), 0);
	ck_assert_int_eq(memfd_seal(fd), 0);
	ck_assert_int_eq(memfd_read(fd, 100, &bytes, &n), 0);
	(void)close(fd);
	ck_assert_uint_eq(n, 3 * 4 + 8);
	ck_assert_int_eq(blob_next(bytes, n, &at, &blob), 1);
	ck_assert_uint_eq(blob.n, 3);
	ck_assert_mem_eq(blob.p, "one", 3);
	ck_assert_int_eq(blob_next(bytes, n, &at, &blob), 1);
	ck_assert_uint_eq(blob.n, 0);
	ck_assert_int_eq(blob_next(bytes, n, &at, &blob), 1);
	ck_assert_mem_eq(blob.p, "three", 5);
	ck_assert_int_eq(blob_next(bytes, n, &at, &blob), 0);
	/* Torn anywhere: an error, unless it is between two. */
	for (size_t cut = 0; cut < n; cut++) {
		_cleanup_free_ uint8_t *copy = malloc(cut ? cut : 1);
		int r;

		memcpy(copy, bytes, cut);
		at = 0;
		do
			r = blob_next(copy, cut, &at, &blob);
		while (r > 0);
		ck_assert_int_eq(r, cut == 0 || cut == 7 || cut == 11 ? 0 : -EBADMSG);
	}
	free(bytes);
	at = 0;
	ck_assert_int_eq(blob_next((const uint8_t *)"\xff\xff\xff\xffxxxx", 8, &at, &blob), -EBADMSG);
}
END_TEST

/* -- Log lines --------------------------------------------------------------------------------------------------------------------------------- */

START_TEST(text_of_a_peer_cannot_write_on_a_terminal)
{
	char out[8];

	ck_assert_str_eq(log_clean(out, sizeof(out), "a\033[2J\n\0z", 8), "a?[2J??");
	ck_assert_str_eq(log_clean(out, sizeof(out), "\x7f\x80\xff ~", 5), "??? ~");
	ck_assert_str_eq(log_clean(out, 1, "abc", 3), "");
	ck_assert_str_eq(log_clean(out, sizeof(out), NULL, 0), "");
}
END_TEST

/* What is written to standard error while this runs. */
static size_t captured(void (*say)(void), char *out, size_t size)
{
	int saved = dup(STDERR_FILENO), fd = memfd_create("stderr", MFD_CLOEXEC);
	ssize_t n;

	ck_assert_int_ge(dup2(fd, STDERR_FILENO), 0);
	say();
	ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
	n = pread(fd, out, size - 1, 0);
	ck_assert_int_ge(n, 0);
	out[n] = '\0';
	(void)close(saved);
	(void)close(fd);
	return (size_t)n;
}

static void say_three(void)
{
	char text[3000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	errno = 4711;
	log_open("test");
	log_level_set(LOG_NOTICE);
	log_info("not this");
	log_notice("this %d", 1);
	ck_assert_int_eq(log_errno(-ENOENT, "no %s", "file"), -ENOENT);
	ck_assert_int_eq(log_errno(ENOENT, "%s", text), -ENOENT);
	ck_assert_int_eq(errno, 4711);
}

START_TEST(one_event_is_one_line)
{
	char out[4096];
	size_t n = captured(say_three, out, sizeof(out));
	unsigned lines = 0;

	for (size_t i = 0; i < n; i++)
		lines += out[i] == '\n';
	ck_assert_uint_eq(lines, 3);
	ck_assert_int_eq(strncmp(out, "test: this 1\ntest: no file: No such file or directory\n", 54), 0);
	ck_assert_uint_le(n, 54 + 1024); /* the long one is cut */
}
END_TEST

UNIT_MAIN("ipc: loop, memfd, log", timers_fire_once_and_when_they_are_due, a_timer_can_be_stopped_and_set_anew,
	  a_timer_may_be_freed_within_a_callback, a_timer_that_sets_itself_does_not_hold_the_loop,
	  a_watch_removed_in_a_round_is_not_called_in_it, a_watch_tells_what_it_was_asked_for, signals_come_through_the_loop,
	  a_loop_leaves_no_descriptor_behind, what_is_sealed_is_read_whole, what_its_owner_can_change_is_not_read,
	  blobs_are_walked_one_by_one, text_of_a_peer_cannot_write_on_a_terminal, one_event_is_one_line)
