/* SPDX-License-Identifier: Apache-2.0 */
/* Who is let in, and calls that wait for an answer. */
#include <grp.h>

#include "libipc/channel.h"
#include "libipc/service.h"
#include "tests/unit/frames.h"

static const uint8_t key[KEY_BYTES] = { 7 };

/* -- Listeners ------------------------------------------------------------------------------------------------------------------------------ */

struct hall {
	struct folder folder;
	struct loop *loop;
	struct listener *listener;
	char path[64];
	unsigned accepted, messages, closed;
	int verdict;
};

static int hall_accepted(struct channel *channel, void *arg)
{
	struct hall *hall = arg;

	ck_assert_ptr_nonnull(channel);
	hall->accepted++;
	return hall->verdict;
}

static int hall_message(struct channel *channel _unused_, struct message *message _unused_, void *arg)
{
	((struct hall *)arg)->messages++;
	return 0;
}

static void hall_closed(struct channel *channel _unused_, int error _unused_, void *arg)
{
	((struct hall *)arg)->closed++;
}

static void hall_open_limited(struct hall *hall, uid_t uid, bool any_uid, unsigned channels_max, unsigned uid_max)
{
	struct listener_config config = {
		.self = PARTY_NETD, .peer = PARTY_VIEWER, .phase = PHASE_READY, .uid = uid, .any_uid = any_uid, .channels_max = channels_max,
		.uid_max = uid_max,
		.events = { hall_message, hall_closed }, .accepted = hall_accepted, .arg = hall,
	};
	int fd;

	*hall = (struct hall){ .folder = folder_new() };
	ck_assert_int_eq(chmod(hall->folder.path, 0755), 0);
	(void)snprintf(hall->path, sizeof(hall->path), "%s/view", hall->folder.path);
	ck_assert_int_eq(loop_new(&hall->loop), 0);
	fd = service_listen(hall->path, (unsigned)-1, 0666);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(listener_new(hall->loop, fd, &config, &hall->listener), 0);
}

static void hall_open(struct hall *hall, uid_t uid, bool any_uid, unsigned channels_max)
{
	hall_open_limited(hall, uid, any_uid, channels_max, 0);
}

static void hall_end(struct hall *hall)
{
	listener_free(hall->listener);
	loop_free(hall->loop);
	folder_removep(&hall->folder);
}
#define _cleanup_hall_ CLEANUP(hall_end)

static void hall_turns(struct hall *hall)
{
	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_eq(loop_once(hall->loop, 0), 0);
}

static bool hung_up(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

START_TEST(a_listener_takes_so_many_and_no_more)
{
	_cleanup_hall_ struct hall hall;
	int fds[5];

	hall_open(&hall, 0, true, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = channel_dial(hall.path);
		ck_assert_int_ge(fds[i], 0);
	}
	hall_turns(&hall);
	ck_assert_uint_eq(hall.accepted, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		ck_assert_int_eq(hung_up(fds[i]), i >= 3);
	/* One goes, and there is room for another. */
	(void)close(fds[0]);
	(void)close(fds[4]);
	hall_turns(&hall);
	ck_assert_uint_eq(hall.closed, 1);
	fds[0] = channel_dial(hall.path);
	hall_turns(&hall);
	ck_assert_uint_eq(hall.accepted, 4);
	for (unsigned i = 0; i < 4; i++)
		(void)close(fds[i]);
}
END_TEST

static int visit_thrice_as_nobody(void *arg)
{
	const char *path = arg;
	int fds[3];
	char byte;

	EXPECT(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	for (unsigned i = 0; i < 3; i++)
		EXPECT((fds[i] = channel_dial(path)) >= 0);
	return recv(fds[2], &byte, 1, 0) == 0 && !hung_up(fds[0]) && !hung_up(fds[1]) ? 0 : 2;
}

START_TEST(one_uid_cannot_take_all_that_is_for_everybody)
{
	_cleanup_hall_ struct hall hall;
	int fds[2], status;
	pid_t child;

	ck_assert_msg(getuid() == 0, "this test becomes another user: run it as root");
	hall_open_limited(&hall, 0, true, 4, 2);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(visit_thrice_as_nobody(hall.path));
	while (hall.accepted < 2)
		ck_assert_int_eq(loop_once(hall.loop, 10), 0);
	for (unsigned i = 0; i < 2; i++)
		fds[i] = channel_dial(hall.path);
	while (waitpid(child, &status, WNOHANG) == 0)
		ck_assert_int_eq(loop_once(hall.loop, 10), 0);
	ck_assert_exited_well(status);
	hall_turns(&hall);
	ck_assert_uint_eq(hall.accepted, 4);
	ck_assert(!hung_up(fds[0]) && !hung_up(fds[1]));
	(void)close(fds[0]);
	(void)close(fds[1]);
}
END_TEST

START_TEST(a_listener_can_turn_away)
{
	_cleanup_hall_ struct hall hall;
	unsigned before;
	int fd;

	hall_open(&hall, 0, true, 3);
	before = descriptors_open();
	hall.verdict = -EACCES;
	for (unsigned i = 0; i < 10; i++) {
		fd = channel_dial(hall.path);
		hall_turns(&hall);
		ck_assert(hung_up(fd));
		(void)close(fd);
	}
	ck_assert_uint_eq(hall.accepted, 10);
	ck_assert_uint_eq(hall.closed, 0);
	ck_assert_uint_eq(descriptors_open(), before);
}
END_TEST

static int visit_as_nobody(void *arg)
{
	const char *path = arg;
	char byte;
	int fd;

	EXPECT(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	fd = channel_dial(path);
	EXPECT(fd >= 0);
	return recv(fd, &byte, 1, 0) == 0 ? 0 : 2; /* waits until it is hung up on */
}

START_TEST(a_listener_takes_its_own_uid_only)
{
	_cleanup_hall_ struct hall hall;
	pid_t child;
	int status, fd;

	ck_assert_msg(getuid() == 0, "this test becomes another user: run it as root");
	hall_open(&hall, getuid(), false, 3);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(visit_as_nobody(hall.path));
	while (waitpid(child, &status, WNOHANG) == 0)
		ck_assert_int_eq(loop_once(hall.loop, 10), 0);
	ck_assert_exited_well(status);
	ck_assert_uint_eq(hall.accepted, 0);
	fd = channel_dial(hall.path);
	hall_turns(&hall);
	ck_assert_uint_eq(hall.accepted, 1);
	ck_assert_int_eq(send_message(fd, MSG_view_get, &(struct msg_view_get){ .peers = true }, 0), 0);
	hall_turns(&hall);
	ck_assert_uint_eq(hall.messages, 1);
	(void)close(fd);
}
END_TEST

START_TEST(a_listener_takes_its_channels_along)
{
	_cleanup_hall_ struct hall hall;
	int one, two;

	hall_open(&hall, 0, true, 3);
	one = channel_dial(hall.path);
	two = channel_dial(hall.path);
	hall_turns(&hall);
	listener_free(hall.listener);
	hall.listener = NULL;
	ck_assert(hung_up(one) && hung_up(two));
	ck_assert_uint_eq(hall.closed, 0);
	(void)close(one);
	(void)close(two);
	ck_assert_int_eq(channel_dial(hall.path), -ECONNREFUSED);
}
END_TEST

START_TEST(a_path_that_is_too_long_is_an_error)
{
	char path[200];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(channel_dial(path), -ENAMETOOLONG);
}
END_TEST

/* -- Blocking forms ------------------------------------------------------------------------------------------------------------------------- */

struct answer {
	const char *what;
	const void *body;
	enum message_number number;
	unsigned fds;
	int expected;
};

START_TEST(a_call_takes_the_answer_that_the_table_allows)
{
	struct msg_view view = { .bytes = 3 };
	struct msg_admin_done done = { .ok = true, .host_key = key };
	const struct answer answers[] = {
		{ "the answer", &view, MSG_view, 1, 0 },
		{ "the answer without its descriptor", &view, MSG_view, 0, -EPROTO },
		{ "the answer with one descriptor too many", &view, MSG_view, 2, -EPROTO },
		{ "the answer with far too many", &view, MSG_view, 3, -EMSGSIZE },
		{ "an answer to somebody else", &done, MSG_admin_done, 0, -EPROTO },
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		uint8_t frame[FRAME_BYTES_MAX];
		struct message message;
		unsigned before = descriptors_open();
		int fds[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
		ck_assert_int_eq(send_message(fds[1], answers[i].number, answers[i].body, answers[i].fds), 0);
		ck_assert_msg(channel_call(fds[0], PARTY_VIEWER, PARTY_NETD, MSG_view_get, &(struct msg_view_get){ .peers = true }, NULL, 1000,
					   frame, &message) == answers[i].expected,
			      "%s", answers[i].what);
		if (answers[i].expected == 0) {
			ck_assert_uint_eq(message.body.view.bytes, 3);
			ck_assert_int_ge(message.fds[0], 0);
			(void)close(message.fds[0]);
		}
		(void)close(fds[0]);
		(void)close(fds[1]);
		ck_assert_uint_eq(descriptors_open(), before);
	}
}
END_TEST

START_TEST(a_call_does_not_wait_for_ever)
{
	uint8_t frame[FRAME_BYTES_MAX];
	struct message message;
	unsigned before = descriptors_open();
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(channel_receive(fds[0], PARTY_VIEWER, PARTY_NETD, 20, frame, &message), -ETIMEDOUT);
	ck_assert_int_eq(send_raw(fds[1], "", 0, 2), 0);
	ck_assert_int_eq(channel_receive(fds[0], PARTY_VIEWER, PARTY_NETD, 20, frame, &message), -EPIPE);
	ck_assert_uint_eq(descriptors_open(), before + 2);
	(void)close(fds[1]);
	ck_assert_int_eq(channel_receive(fds[0], PARTY_VIEWER, PARTY_NETD, 20, frame, &message), -EPIPE);
	ck_assert_int_eq(channel_call(fds[0], PARTY_VIEWER, PARTY_NETD, MSG_view_get, &(struct msg_view_get){ .peers = true }, NULL, 20, frame,
				      &message),
			 -EPIPE);
	ck_assert_int_eq(channel_call(fds[0], PARTY_VIEWER, PARTY_NETD, MSG_pin, NULL, NULL, 20, frame, &message), -EINVAL);
	(void)close(fds[0]);
}
END_TEST

UNIT_MAIN("ipc: listener, calls", a_listener_takes_so_many_and_no_more, one_uid_cannot_take_all_that_is_for_everybody,
	  a_listener_can_turn_away, a_listener_takes_its_own_uid_only, a_listener_takes_its_channels_along,
	  a_path_that_is_too_long_is_an_error, a_call_takes_the_answer_that_the_table_allows, a_call_does_not_wait_for_ever)
