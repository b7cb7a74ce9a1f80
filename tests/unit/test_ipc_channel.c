/* SPDX-License-Identifier: Apache-2.0 */
/* Channels over real sockets: what a peer may do, and what gets it hung up on. */
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "libipc/channel.h"
#include "tests/unit/frames.h"

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

UNIT_MAIN("ipc: channel", a_message_in_its_phase_arrives, descriptors_arrive_and_what_is_not_taken_is_closed,
	  what_is_sent_arrives_whole_and_in_order, queued_descriptors_are_duplicates, another_phase_is_refused,
	  a_message_of_another_sender_is_refused, more_or_fewer_descriptors_are_refused_and_none_leaks,
	  an_empty_frame_is_a_hang_up_and_leaks_nothing, a_frame_that_is_too_long_is_refused, nobody_resynchronises,
	  a_peer_that_hangs_up_is_told_without_an_error, a_callbacks_error_closes, a_channel_may_be_freed_within_its_callbacks,
	  a_flood_is_taken_in_turns, a_peer_that_lets_too_much_pile_up_is_closed,
	  a_peer_that_takes_nothing_is_closed_after_a_while, a_slow_peer_is_not_a_stalled_one, what_may_not_be_sent_is_not_sent)
