/* SPDX-License-Identifier: Apache-2.0 */
/* Channels over real sockets: what a peer may do, and what gets it hung up on. */
#include <grp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#include "libipc/channel.h"
#include "libipc/pack.h"
#include "libipc/service.h"
#include "tests/unit/unit.h"

/* -- Time can be moved on: the loop reads the clock through the C library, and this program's comes first. ---------------------------- */

static time_t ahead; /* seconds */

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long r = syscall(SYS_clock_gettime, clock, now);

	if (r == 0 && clock == CLOCK_BOOTTIME)
		now->tv_sec += ahead;
	return (int)r;
}

/* -- One end is a channel in a loop, the other a bare socket -------------------------------------------------------------------------- */

struct side {
	struct loop *loop;
	struct channel *channel; /* NULL: gone */
	int peer;                /* the bare end */
	unsigned messages, closed;
	int error;
	int reply; /* what the callback returns */
	bool free_in_message, free_in_closed;
	int taken; /* a descriptor that came, if wanted */
	bool want_fd;
};

static int on_message(struct channel *channel, struct message *message, void *arg)
{
	struct side *side = arg;

	ck_assert_ptr_eq(channel, side->channel);
	side->messages++;
	if (side->want_fd)
		side->taken = TAKE_FD(message->fds[0]);
	if (side->free_in_message) {
		channel_free(channel);
		channel_free(channel); /* once more is harmless while the callback runs */
		side->channel = NULL;
	}
	return side->reply;
}

static void on_closed(struct channel *channel, int error, void *arg)
{
	struct side *side = arg;

	ck_assert_ptr_eq(channel, side->channel);
	side->closed++;
	side->error = error;
	if (side->free_in_closed)
		channel_free(channel);
	side->channel = NULL;
}

static const struct channel_events events = { on_message, on_closed };

/* netd's end of the documents socket unless said otherwise */
static void side_open(struct side *side, enum party self, enum party peer, enum phase phase)
{
	int fds[2];

	*side = (struct side){ .peer = -1, .taken = -1 };
	ck_assert_int_eq(loop_new(&side->loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	side->peer = fds[1];
	ck_assert_int_eq(channel_new(side->loop, fds[0], self, peer, phase, &events, side, &side->channel), 0);
}

static void side_end(struct side *side)
{
	channel_free(side->channel);
	loop_free(side->loop);
	(void)close_fd(side->peer);
	(void)close_fd(side->taken);
}
#define _cleanup_side_ CLEANUP(side_end)

static void turn(struct side *side)
{
	ck_assert_int_eq(loop_once(side->loop, 0), 0);
}

/* Send raw bytes with so many descriptors. */
static int send_raw(int socket, const void *bytes, size_t n, unsigned fd_count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 8)];
	} control = { .bytes = { 0 } };
	struct iovec vector = { (void *)(uintptr_t)bytes, n };
	struct msghdr header = { .msg_iov = &vector, .msg_iovlen = 1 };

	if (fd_count) {
		struct cmsghdr *message;
		int fds[8];

		for (unsigned i = 0; i < fd_count; i++)
			fds[i] = STDERR_FILENO;
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		message = CMSG_FIRSTHDR(&header);
		message->cmsg_level = SOL_SOCKET;
		message->cmsg_type = SCM_RIGHTS;
		message->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(message), fds, sizeof(int) * fd_count);
	}
	return sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static int send_message(int socket, enum message_number number, const void *body, unsigned fd_count)
{
	uint8_t frame[FRAME_BYTES_MAX];
	size_t n;
	int r = message_encode(number, body, frame, sizeof(frame), &n);

	return r < 0 ? r : send_raw(socket, frame, n, fd_count);
}

static const uint8_t key[KEY_BYTES] = { 7 };

static int send_hello(int socket)
{
	return send_message(socket, MSG_hello, &(struct msg_hello){ .transport_key = key }, 0);
}

#define assert_hung_up(side, because)                        \
	do {                                                 \
		ck_assert_uint_eq((side)->closed, 1);        \
		ck_assert_int_eq((side)->error, (because));  \
		ck_assert_ptr_null((side)->channel);         \
	} while (0)

/* -- What is let through -------------------------------------------------------------------------------------------------------------- */

START_TEST(a_message_in_its_phase_arrives)
{
	_cleanup_side_ struct side side;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_START);
	ck_assert_uint_eq(channel_peer_uid(side.channel), getuid());
	ck_assert_int_eq(channel_peer_pid(side.channel), getpid());
	ck_assert_int_eq(send_hello(side.peer), 0);
	turn(&side);
	ck_assert_uint_eq(side.messages, 1);
	ck_assert_uint_eq(side.closed, 0);
}
END_TEST

START_TEST(descriptors_arrive_and_what_is_not_taken_is_closed)
{
	_cleanup_side_ struct side side;
	struct msg_blobs blobs = { .count = 1, .bytes = 5 };
	unsigned before;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_WANTED);
	before = descriptors_open();
	for (unsigned i = 0; i < 10; i++) {
		ck_assert_int_eq(send_message(side.peer, MSG_blobs, &blobs, 1), 0);
		turn(&side);
	}
	ck_assert_uint_eq(side.messages, 10);
	ck_assert_uint_eq(descriptors_open(), before);
	side.want_fd = true;
	ck_assert_int_eq(send_message(side.peer, MSG_blobs, &blobs, 1), 0);
	turn(&side);
	ck_assert_uint_eq(descriptors_open(), before + 1);
	ck_assert_int_eq(fcntl(side.taken, F_GETFD), FD_CLOEXEC);
}
END_TEST

START_TEST(what_is_sent_arrives_whole_and_in_order)
{
	_cleanup_side_ struct side side;
	uint8_t hashes[32000], frame[FRAME_BYTES_MAX];
	unsigned sent = 0, got = 0;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_READY);
	/* More than the socket takes: the rest queues and follows as the peer reads. */
	for (; sent < 30; sent++) {
		struct msg_want want = { .hashes = { hashes, sizeof(hashes) } };

		memset(hashes, (int)sent, sizeof(hashes));
		ck_assert_int_eq(channel_send(side.channel, MSG_want, &want, NULL), 0);
	}
	ck_assert_uint_gt(channel_queued(side.channel), 0);
	while (got < sent) {
		ssize_t n = recv(side.peer, frame, sizeof(frame), MSG_DONTWAIT);

		if (n < 0) {
			ck_assert_int_eq(errno, EAGAIN);
			turn(&side);
			continue;
		}
		ck_assert_int_gt(n, 32000);
		ck_assert_uint_eq(frame[n - 1], got++);
	}
	ck_assert_uint_eq(channel_queued(side.channel), 0);
	ck_assert_uint_eq(side.closed, 0);
}
END_TEST

START_TEST(queued_descriptors_are_duplicates)
{
	_cleanup_side_ struct side side;
	struct msg_view view = { .bytes = 1 };
	unsigned before, sent = 0;

	side_open(&side, PARTY_NETD, PARTY_VIEWER, PHASE_READY);
	before = descriptors_open();
	while (channel_queued(side.channel) < 40) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(channel_send(side.channel, MSG_view, &view, &fd), 0);
		(void)close(fd); /* the caller's stays the caller's */
		sent++;
	}
	ck_assert_uint_gt(descriptors_open(), before);
	while (sent > 0) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(sizeof(int))];
		} control;
		char frame[64];
		struct iovec vector = { frame, sizeof(frame) };
		struct msghdr header = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control) };
		int fd;

		if (recvmsg(side.peer, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0) {
			turn(&side);
			continue;
		}
		ck_assert_ptr_nonnull(CMSG_FIRSTHDR(&header));
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(fd));
		ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
		(void)close(fd);
		sent--;
	}
	ck_assert_uint_eq(descriptors_open(), before);
}
END_TEST

/* -- What is hung up on ----------------------------------------------------------------------------------------------------------------- */

START_TEST(another_phase_is_refused)
{
	static const struct {
		enum phase phase;
		bool hello, offer, blobs;
	} allowed[] = { { PHASE_START, true, false, false }, { PHASE_READY, false, true, false }, { PHASE_WANTED, false, false, true } };
	static const enum message_number numbers[] = { MSG_hello, MSG_offer, MSG_blobs };

	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		for (size_t j = 0; j < ARRAY_SIZE(numbers); j++) {
			_cleanup_side_ struct side side;
			union message_body body = { .hello.transport_key = key };
			bool good = (allowed[i].hello && j == 0) || (allowed[i].offer && j == 1) || (allowed[i].blobs && j == 2);

			if (j > 0)
				memset(&body, 0, sizeof(body));
			side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_START);
			channel_phase_set(side.channel, allowed[i].phase);
			ck_assert_int_eq((int)channel_phase(side.channel), (int)allowed[i].phase);
			ck_assert_int_eq(send_message(side.peer, numbers[j], &body, numbers[j] == MSG_blobs ? 1 : 0), 0);
			turn(&side);
			ck_assert_uint_eq(side.messages, good ? 1 : 0);
			if (!good)
				assert_hung_up(&side, -EPROTO);
		}
}
END_TEST

START_TEST(a_message_of_another_sender_is_refused)
{
	_cleanup_side_ struct side side;
	struct msg_pin pin = { .root_key = key };

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_READY);
	ck_assert_int_eq(send_message(side.peer, MSG_pin, &pin, 0), 0);
	turn(&side);
	ck_assert_uint_eq(side.messages, 0);
	assert_hung_up(&side, -EPROTO);
}
END_TEST

START_TEST(more_or_fewer_descriptors_are_refused_and_none_leaks)
{
	struct msg_blobs blobs = { .count = 1, .bytes = 5 };
	struct msg_lack lack = { .hashes = { key, KEY_BYTES } };

	for (unsigned count = 0; count <= 8; count++) {
		_cleanup_side_ struct side side;
		unsigned before;

		side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_WANTED);
		before = descriptors_open();
		ck_assert_int_eq(send_message(side.peer, MSG_blobs, &blobs, count), 0);
		turn(&side);
		ck_assert_uint_eq(side.messages, count == 1 ? 1 : 0);
		/* One or two are counted against the row; more do not fit, and the kernel says so. */
		if (count != 1)
			assert_hung_up(&side, count <= FRAME_FDS_MAX ? -EPROTO : -EMSGSIZE);
		ck_assert_uint_eq(descriptors_open(), count == 1 ? before : before - 1);
	}
	for (unsigned count = 1; count <= 3; count++) {
		_cleanup_side_ struct side side;
		unsigned before;

		side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_WANTED);
		before = descriptors_open();
		ck_assert_int_eq(send_message(side.peer, MSG_lack, &lack, count), 0);
		turn(&side);
		ck_assert_uint_eq(side.closed, 1);
		ck_assert_uint_eq(descriptors_open(), before - 1);
	}
}
END_TEST

START_TEST(an_empty_frame_is_a_hang_up_and_leaks_nothing)
{
	for (unsigned count = 0; count <= 3; count++) {
		_cleanup_side_ struct side side;
		unsigned before;

		side_open(&side, PARTY_NETD, PARTY_VIEWER, PHASE_READY);
		before = descriptors_open();
		ck_assert_int_eq(send_raw(side.peer, "", 0, count), 0);
		turn(&side);
		ck_assert_uint_eq(side.messages, 0);
		ck_assert_uint_eq(side.closed, 1);
		ck_assert_uint_eq(descriptors_open(), before - 1);
	}
}
END_TEST

START_TEST(a_frame_that_is_too_long_is_refused)
{
	_cleanup_side_ struct side side;
	static uint8_t frame[FRAME_BYTES_MAX + 1];
	int room = 4 * FRAME_BYTES_MAX;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_START);
	ck_assert_int_eq(setsockopt(side.peer, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	ck_assert_int_eq(send_raw(side.peer, frame, sizeof(frame), 0), 0);
	turn(&side);
	assert_hung_up(&side, -EMSGSIZE);
}
END_TEST

START_TEST(nobody_resynchronises)
{
	_cleanup_side_ struct side side;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_START);
	ck_assert_int_eq(send_raw(side.peer, "\x92\xc0", 2, 0), 0);
	ck_assert_int_eq(send_hello(side.peer), 0);
	turn(&side);
	ck_assert_uint_eq(side.messages, 0);
	ck_assert_uint_eq(side.closed, 1);
	ck_assert_int_lt(send_hello(side.peer), 0);
}
END_TEST

START_TEST(a_peer_that_hangs_up_is_told_without_an_error)
{
	_cleanup_side_ struct side side;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_START);
	/* What it said before is heard before. */
	ck_assert_int_eq(send_hello(side.peer), 0);
	side.peer = close_fd(side.peer);
	turn(&side);
	turn(&side);
	ck_assert_uint_eq(side.messages, 1);
	assert_hung_up(&side, 0);
}
END_TEST

START_TEST(a_callbacks_error_closes)
{
	_cleanup_side_ struct side side;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_START);
	side.reply = -ECANCELED;
	ck_assert_int_eq(send_hello(side.peer), 0);
	ck_assert_int_eq(send_hello(side.peer), 0);
	turn(&side);
	ck_assert_uint_eq(side.messages, 1);
	assert_hung_up(&side, -ECANCELED);
}
END_TEST

START_TEST(a_channel_may_be_freed_within_its_callbacks)
{
	for (unsigned when = 0; when < 2; when++) {
		_cleanup_side_ struct side side;
		unsigned before = descriptors_open();

		side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_START);
		side.free_in_message = when == 0;
		side.free_in_closed = when == 1;
		side.reply = when == 1 ? -ECANCELED : 0;
		ck_assert_int_eq(send_hello(side.peer), 0);
		ck_assert_int_eq(send_hello(side.peer), 0);
		turn(&side);
		ck_assert_uint_eq(side.messages, 1);
		ck_assert_uint_eq(side.closed, when); /* not told of what it did itself */
		ck_assert_ptr_null(side.channel);
		ck_assert_uint_eq(descriptors_open(), before + 2); /* the loop and the bare end */
	}
}
END_TEST

START_TEST(a_flood_is_taken_in_turns)
{
	_cleanup_side_ struct side side;
	unsigned sent = 0;

	side_open(&side, PARTY_NETD, PARTY_VIEWER, PHASE_READY);
	while (send_message(side.peer, MSG_view_get, &(struct msg_view_get){ .peers = true }, 0) == 0)
		sent++;
	ck_assert_uint_gt(sent, 32);
	turn(&side);
	ck_assert_uint_gt(side.messages, 0);
	ck_assert_uint_lt(side.messages, sent); /* others get their turn before all of it is read */
	for (unsigned i = 0; i < sent; i++)
		turn(&side);
	ck_assert_uint_eq(side.messages, sent);
}
END_TEST

/* -- Peers that do not read --------------------------------------------------------------------------------------------------------------- */

static int send_want(struct side *side)
{
	static uint8_t hashes[32000];

	return channel_send(side->channel, MSG_want, &(struct msg_want){ .hashes = { hashes, sizeof(hashes) } }, NULL);
}

START_TEST(a_peer_that_lets_too_much_pile_up_is_closed)
{
	_cleanup_side_ struct side side;
	unsigned sent = 0;
	int r;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_READY);
	while ((r = send_want(&side)) == 0)
		ck_assert_uint_lt(sent++, 1000);
	ck_assert_int_eq(r, -ENOBUFS);
	ck_assert_uint_le(channel_queued(side.channel), CHANNEL_QUEUE_BYTES);
	ck_assert_uint_gt(channel_queued(side.channel), CHANNEL_QUEUE_BYTES - 33000);
	ck_assert_uint_eq(side.closed, 0); /* not under the caller's feet */
	turn(&side);
	ck_assert_uint_eq(side.closed, 1);
	ck_assert_int_lt(side.error, 0);
}
END_TEST

START_TEST(a_peer_that_takes_nothing_is_closed_after_a_while)
{
	_cleanup_side_ struct side side;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_READY);
	while (channel_queued(side.channel) == 0)
		ck_assert_int_eq(send_want(&side), 0);
	ahead = CHANNEL_STALL_MS / 1000 - 1;
	turn(&side);
	ck_assert_uint_eq(side.closed, 0);
	ahead = CHANNEL_STALL_MS / 1000 + 1;
	turn(&side);
	assert_hung_up(&side, -ETIMEDOUT);
}
END_TEST

START_TEST(a_slow_peer_is_not_a_stalled_one)
{
	_cleanup_side_ struct side side;
	static uint8_t frame[FRAME_BYTES_MAX];
	unsigned rounds = 0;

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_READY);
	while (channel_queued(side.channel) < 10 * sizeof(frame))
		ck_assert_int_eq(send_want(&side), 0);
	/* It takes a little within each stall time: the clock starts anew. */
	while (channel_queued(side.channel) > 0) {
		for (unsigned i = 0; i < 4; i++)
			(void)recv(side.peer, frame, sizeof(frame), MSG_DONTWAIT);
		ahead += CHANNEL_STALL_MS / 1000 - 1;
		turn(&side);
		ck_assert_uint_eq(side.closed, 0);
		ck_assert_uint_lt(rounds++, 100);
	}
	ck_assert_uint_gt(rounds, 3);
	/* And once all is out, nobody waits for anything. */
	ahead += 10 * CHANNEL_STALL_MS / 1000;
	turn(&side);
	ck_assert_uint_eq(side.closed, 0);
}
END_TEST

START_TEST(what_may_not_be_sent_is_not_sent)
{
	_cleanup_side_ struct side side;
	uint8_t frame[64];

	side_open(&side, PARTY_NETD, PARTY_FETCHD, PHASE_READY);
	ck_assert_int_eq(channel_send(side.channel, MSG_offer, &(struct msg_offer){ .head = { key, 3 } }, NULL), -EINVAL);
	ck_assert_int_eq(channel_send(side.channel, MSG_view, &(struct msg_view){ .bytes = 1 }, NULL), -EINVAL);
	ck_assert_int_eq(channel_send(side.channel, (enum message_number)255, NULL, NULL), -EINVAL);
	ck_assert_int_eq(channel_send(side.channel, MSG_result, &(struct msg_result){ .outcome = 99 }, NULL), -EMSGSIZE);
	ck_assert_int_eq(recv(side.peer, frame, sizeof(frame), MSG_DONTWAIT), -1);
	side.peer = close_fd(side.peer);
	ck_assert_int_eq(channel_send(side.channel, MSG_result, &(struct msg_result){ .outcome = 1 }, NULL), -EPIPE);
}
END_TEST

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

UNIT_MAIN("ipc: channel", a_message_in_its_phase_arrives, descriptors_arrive_and_what_is_not_taken_is_closed,
	  what_is_sent_arrives_whole_and_in_order, queued_descriptors_are_duplicates, another_phase_is_refused,
	  a_message_of_another_sender_is_refused, more_or_fewer_descriptors_are_refused_and_none_leaks,
	  an_empty_frame_is_a_hang_up_and_leaks_nothing, a_frame_that_is_too_long_is_refused, nobody_resynchronises,
	  a_peer_that_hangs_up_is_told_without_an_error, a_callbacks_error_closes, a_channel_may_be_freed_within_its_callbacks,
	  a_flood_is_taken_in_turns, a_peer_that_lets_too_much_pile_up_is_closed, a_peer_that_takes_nothing_is_closed_after_a_while,
	  a_slow_peer_is_not_a_stalled_one, what_may_not_be_sent_is_not_sent, a_listener_takes_so_many_and_no_more,
	  one_uid_cannot_take_all_that_is_for_everybody, a_listener_can_turn_away,
	  a_listener_takes_its_own_uid_only, a_listener_takes_its_channels_along, a_path_that_is_too_long_is_an_error,
	  a_call_takes_the_answer_that_the_table_allows, a_call_does_not_wait_for_ever)
