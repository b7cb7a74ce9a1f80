/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time a round trip between two processes on one CPU: bare (blocking send and recv on a SOCK_SEQPACKET) and through libipc (loop, channel,
 * bounded decoding, sender and phase checks). Rounds of the two alternate. Prints one JSON object a round: {"bare_ns", "libipc_ns"}.
 *
 *   ipcbench ROUNDS MESSAGES
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "libipc/channel.h"

#define REQUEST_BYTES 2 /* what link_get takes on the wire, so that both sides carry the same */

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct msg_link answer_body(void)
{
	return (struct msg_link){ .enrolled = true,
				  .online = true,
				  .url = text_view("https://control.example:8443"),
				  .last_answer = 1700000000,
				  .last_error = text_view(""),
				  .clock_skew_ahead = 3 };
}

static void check(int r, const char *what)
{
	if (r >= 0)
		return;
	(void)fprintf(stderr, "ipcbench: %s: %s\n", what, strerror(-r));
	exit(1);
}

/* -- bare ------------------------------------------------------------------------------------------------------------------------- */

static _noreturn_ void bare_server(int fd, size_t answer)
{
	uint8_t frame[FRAME_BYTES_MAX] = { 0 };

	while (recv(fd, frame, sizeof(frame), 0) > 0)
		if (send(fd, frame, answer, MSG_NOSIGNAL) < 0)
			break;
	_exit(0);
}

static uint64_t bare_round(int fd, unsigned messages)
{
	uint8_t frame[FRAME_BYTES_MAX] = { 0 };
	uint64_t begin = now_ns();

	for (unsigned i = 0; i < messages; i++) {
		check(send(fd, frame, REQUEST_BYTES, MSG_NOSIGNAL) < 0 ? -errno : 0, "send");
		check(recv(fd, frame, sizeof(frame), 0) < 0 ? -errno : 0, "recv");
	}
	return (now_ns() - begin) / messages;
}

/* -- libipc ----------------------------------------------------------------------------------------------------------------------- */

static int serve(struct channel *channel, struct message *message _unused_, void *arg _unused_)
{
	struct msg_link body = answer_body();

	return channel_send(channel, MSG_link, &body, NULL);
}

static void served(struct channel *channel _unused_, int error _unused_, void *arg)
{
	loop_stop(arg, 0);
}

static _noreturn_ void libipc_server(int fd)
{
	static const struct channel_events events = { serve, served };
	struct channel *channel;
	struct loop *loop;

	check(loop_new(&loop), "loop");
	check(channel_new(loop, fd, PARTY_FETCHD, PARTY_ADMIN, PHASE_READY, &events, loop, &channel), "channel");
	_exit(loop_run(loop) < 0);
}

struct client {
	struct channel *channel;
	unsigned answers;
};

static int answered(struct channel *channel _unused_, struct message *message _unused_, void *arg)
{
	((struct client *)arg)->answers++;
	return 0;
}

static uint64_t libipc_round(struct loop *loop, struct client *client, unsigned messages)
{
	static const struct msg_link_get request;
	uint64_t begin = now_ns();

	for (unsigned i = 0; i < messages; i++) {
		unsigned before = client->answers;

		check(channel_send(client->channel, MSG_link_get, &request, NULL), "send");
		while (client->answers == before)
			check(loop_once(loop, -1), "loop");
	}
	return (now_ns() - begin) / messages;
}

/* A server in a process of its own; its end of the pair is the child's alone, so that closing ours ends it. */
static int start(bool bare, size_t answer, pid_t *pid)
{
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0, "socketpair");
	*pid = fork();
	check(*pid < 0 ? -errno : 0, "fork");
	if (*pid == 0) {
		(void)close(pair[0]);
		if (bare)
			bare_server(pair[1], answer);
		libipc_server(pair[1]);
	}
	(void)close(pair[1]);
	return pair[0];
}

int main(int argc, char **argv)
{
	static const struct channel_events events = { answered, NULL };
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 20, messages = argc > 2 ? (unsigned)atoi(argv[2]) : 5000;
	struct msg_link body = answer_body();
	struct client client = { .answers = 0 };
	uint8_t frame[FRAME_BYTES_MAX];
	struct loop *loop;
	pid_t pids[2];
	int bare, libipc;
	cpu_set_t one;
	size_t answer;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	check(sched_setaffinity(0, sizeof(one), &one) < 0 ? -errno : 0, "sched_setaffinity");
	check(message_encode(MSG_link, &body, frame, sizeof(frame), &answer), "encode");
	libipc = start(false, 0, &pids[0]);
	bare = start(true, answer, &pids[1]);
	check(loop_new(&loop), "loop");
	check(channel_new(loop, libipc, PARTY_ADMIN, PARTY_FETCHD, PHASE_READY, &events, &client, &client.channel), "channel");
	for (unsigned i = 0; i < rounds; i++) {
		unsigned long long bare_ns = bare_round(bare, messages), libipc_ns = libipc_round(loop, &client, messages);

		(void)printf("{\"bare_ns\": %llu, \"libipc_ns\": %llu}\n", bare_ns, libipc_ns);
	}
	(void)close(bare);
	channel_free(client.channel);
	for (unsigned i = 0; i < 2; i++)
		(void)kill(pids[i], SIGKILL), (void)waitpid(pids[i], NULL, 0);
	loop_free(loop);
	return 0;
}
