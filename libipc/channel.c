/* SPDX-License-Identifier: Apache-2.0 */
#include "libipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "libipc/log.h"
#include "libipc/pack.h"

struct queued {
	struct queued *next;
	int fds[FRAME_FDS_MAX];
	unsigned fd_count;
	size_t n;
	uint8_t frame[];
};

struct channel {
	struct loop *loop;
	struct loop_watch *watch;
	struct loop_timer *stall; /* runs while something is queued */
	int fd;
	enum party self, peer;
	enum phase phase;
	uid_t uid;
	pid_t pid;
	struct channel_events events;
	void *arg;
	struct pack_reader reader;
	struct queued *first, **last;
	size_t queued_bytes;
	int failure;      /* why it is about to close; 0: it is not */
	unsigned busy;    /* callbacks in progress: memory stays */
	bool dead;
	struct listener *listener; /* whose count it is in; NULL */
	struct channel *next;      /* in the listener's list */
	uint8_t frame[FRAME_BYTES_MAX];   /* received */
	uint8_t sending[FRAME_BYTES_MAX]; /* being encoded; not on the stack, which is cleared at each call */
};

struct listener {
	struct loop *loop;
	struct loop_watch *watch;
	int fd;
	struct listener_config config;
	struct channel *channels;
	unsigned count;
};

/* -- Frames on a socket ------------------------------------------------------------------------------------------------------- */

static void close_fds(int *fds)
{
	for (unsigned i = 0; i < FRAME_FDS_MAX; i++)
		fds[i] = close_fd(fds[i]);
}

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * FRAME_FDS_MAX)];
};

/*
 * Receive one frame and its descriptors, close-on-exec.
 * @return length; 0 hung up; -EAGAIN; -EMSGSIZE frame or descriptors truncated
 */
static ssize_t frame_receive(int fd, uint8_t *frame, int fds[static FRAME_FDS_MAX], unsigned *fd_count, int flags)
{
	union control control;
	struct iovec vector = { .iov_base = frame, .iov_len = FRAME_BYTES_MAX };
	struct msghdr header = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	ssize_t n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | flags);

	*fd_count = 0;
	for (unsigned i = 0; i < FRAME_FDS_MAX; i++)
		fds[i] = -1;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *message = CMSG_FIRSTHDR(&header); message; message = CMSG_NXTHDR(&header, message)) {
		size_t count = (message->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (message->cmsg_level != SOL_SOCKET || message->cmsg_type != SCM_RIGHTS || count > FRAME_FDS_MAX)
			continue;
		memcpy(fds, CMSG_DATA(message), count * sizeof(int));
		*fd_count = (unsigned)count;
	}
	if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		close_fds(fds);
		return -EMSGSIZE;
	}
	/* Hung up; or an empty frame, which counts as that, and which may carry descriptors all the same. */
	if (n == 0)
		close_fds(fds);
	return n;
}

static int frame_send(int fd, const uint8_t *frame, size_t n, const int *fds, unsigned fd_count)
{
	union control control = { .bytes = { 0 } };
	struct iovec vector = { .iov_base = (void *)(uintptr_t)frame, .iov_len = n };
	struct msghdr header = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes };
	struct cmsghdr *message;

	if (fd_count == 0) /* nearly all; the plain call is the quicker */
		return send(fd, frame, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
	header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
	message = CMSG_FIRSTHDR(&header);
	message->cmsg_level = SOL_SOCKET;
	message->cmsg_type = SCM_RIGHTS;
	message->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
	memcpy(CMSG_DATA(message), fds, sizeof(int) * fd_count);
	return sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Judge a frame in the order that the header promises; on success the descriptors have moved into the message. */
static int frame_judge(struct pack_reader *reader, const uint8_t *frame, size_t n, int *fds, unsigned fd_count, enum party from,
		       enum party to, enum phase phase, struct message *message, const char **why)
{
	const struct message_type *type;
	int r = message_decode(reader, frame, n, from, to, message, &type, why);

	if (r < 0)
		return r;
	*why = "not in this phase";
	if (type->phase != PHASE_ANY && type->phase != phase)
		return -EPROTO;
	*why = "more or fewer descriptors than this message carries";
	if (fd_count != type->fds)
		return -EPROTO;
	for (unsigned i = 0; i < fd_count; i++)
		message->fds[i] = TAKE_FD(fds[i]);
	return 0;
}

/* -- Life of a channel -------------------------------------------------------------------------------------------------------- */

static void unqueue(struct channel *channel)
{
	struct queued *frame = channel->first;

	channel->first = frame->next;
	if (!channel->first)
		channel->last = &channel->first;
	channel->queued_bytes -= frame->n;
	close_fds(frame->fds);
	free(frame);
}

static void release(struct channel *channel)
{
	pack_reader_free(&channel->reader);
	free(channel);
}

void channel_free(struct channel *channel)
{
	if (!channel || channel->dead)
		return;
	channel->dead = true;
	loop_watch_remove(&channel->watch);
	loop_timer_free(&channel->stall);
	channel->fd = close_fd(channel->fd);
	while (channel->first)
		unqueue(channel);
	if (channel->listener) {
		struct channel **link = &channel->listener->channels;

		while (*link != channel)
			link = &(*link)->next;
		*link = channel->next;
		channel->listener->count--;
	}
	if (channel->busy == 0)
		release(channel);
}

/* Tell the owner, then free. The only place that calls the closed callback. */
static void fail(struct channel *channel, int error)
{
	channel->busy++;
	if (!channel->dead && channel->events.closed)
		channel->events.closed(channel, error, channel->arg);
	channel->busy--;
	if (!channel->dead)
		channel_free(channel);
	else if (channel->busy == 0)
		release(channel);
}

static void refuse(struct channel *channel, int error, const char *why)
{
	log_warning("closing the channel to %s (pid %d, uid %u): %s: %s", party_name(channel->peer), (int)channel->pid,
		    (unsigned)channel->uid, why, strerror(-error));
	channel->failure = error;
}

static void stalled(void *arg)
{
	struct channel *channel = arg;

	refuse(channel, -ETIMEDOUT, "it takes nothing any more");
	fail(channel, -ETIMEDOUT);
}

static void flush(struct channel *channel)
{
	bool progress = false;

	while (channel->first && channel->failure == 0) {
		struct queued *frame = channel->first;
		int r = frame_send(channel->fd, frame->frame, frame->n, frame->fds, frame->fd_count);

		if (r == -EAGAIN || r == -EINTR)
			break;
		if (r < 0) {
			channel->failure = r;
			return;
		}
		unqueue(channel);
		progress = true;
	}
	if (!channel->first) {
		loop_timer_stop(channel->stall);
		if (channel->failure == 0)
			channel->failure = loop_watch_change(channel->watch, EPOLLIN);
	} else if (progress) {
		loop_timer_set(channel->stall, CHANNEL_STALL_MS);
	}
}

/* One frame a call: the loop comes back as long as there are more, and no busy peer starves the others. */
static void receive(struct channel *channel)
{
	const char *why = "longer than a frame may be, or with too many descriptors";
	struct message message;
	int fds[FRAME_FDS_MAX];
	unsigned fd_count;
	ssize_t n = frame_receive(channel->fd, channel->frame, fds, &fd_count, MSG_DONTWAIT);
	int r;

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n == 0 || n == -ECONNRESET) {
		channel->failure = -EPIPE;
		return;
	}
	r = n < 0 ? (int)n
		  : frame_judge(&channel->reader, channel->frame, (size_t)n, fds, fd_count, channel->peer, channel->self, channel->phase,
				&message, &why);
	if (r < 0) {
		close_fds(fds);
		refuse(channel, r, why);
		return;
	}
	r = channel->events.message(channel, &message, channel->arg);
	close_fds(message.fds);
	if (r < 0 && channel->failure == 0)
		channel->failure = r;
}

static void ready(int fd _unused_, uint32_t events, void *arg)
{
	struct channel *channel = arg;

	channel->busy++;
	if (events & EPOLLOUT)
		flush(channel);
	if (!channel->dead && channel->failure == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		receive(channel);
	channel->busy--;
	if (channel->dead) {
		if (channel->busy == 0)
			release(channel);
		return;
	}
	if (channel->failure < 0)
		fail(channel, channel->failure == -EPIPE ? 0 : channel->failure);
}

int channel_new(struct loop *loop, int fd, enum party self, enum party peer, enum phase phase, const struct channel_events *events,
		void *arg, struct channel **out)
{
	_cleanup_close_ int socket_fd = fd;
	_cleanup_free_ struct channel *channel = calloc(1, sizeof(*channel));
	struct ucred credentials = { 0 };
	socklen_t length = sizeof(credentials);
	int r;

	if (!channel)
		return -ENOMEM;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0)
		return -errno;
	channel->loop = loop;
	channel->self = self;
	channel->peer = peer;
	channel->phase = phase;
	channel->uid = credentials.uid;
	channel->pid = credentials.pid;
	channel->events = *events;
	channel->arg = arg;
	channel->last = &channel->first;
	r = loop_timer_new(loop, stalled, channel, &channel->stall);
	if (r < 0)
		return r;
	r = loop_watch_add(loop, fd, EPOLLIN, ready, channel, &channel->watch);
	if (r < 0) {
		loop_timer_free(&channel->stall);
		return r;
	}
	channel->fd = TAKE_FD(socket_fd);
	*out = TAKE_PTR(channel);
	return 0;
}

int channel_dial(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int channel_connect(struct loop *loop, const char *path, enum party self, enum party peer, const struct channel_events *events,
		    void *arg, struct channel **channel)
{
	int fd = channel_dial(path);

	return fd < 0 ? fd : channel_new(loop, fd, self, peer, PHASE_READY, events, arg, channel);
}

void channel_phase_set(struct channel *channel, enum phase phase)
{
	channel->phase = phase;
}

enum phase channel_phase(const struct channel *channel)
{
	return channel->phase;
}

uid_t channel_peer_uid(const struct channel *channel)
{
	return channel->uid;
}

pid_t channel_peer_pid(const struct channel *channel)
{
	return channel->pid;
}

size_t channel_queued(const struct channel *channel)
{
	return channel->queued_bytes;
}

/* -- Sending ------------------------------------------------------------------------------------------------------------------ */

static int enqueue(struct channel *channel, const uint8_t *frame, size_t n, const int *fds, unsigned fd_count)
{
	struct queued *queued;
	int r;

	if (channel->queued_bytes + n > CHANNEL_QUEUE_BYTES)
		return -ENOBUFS;
	queued = malloc(sizeof(*queued) + n);
	if (!queued)
		return -ENOMEM;
	*queued = (struct queued){ .fds = { -1, -1 }, .fd_count = fd_count, .n = n };
	memcpy(queued->frame, frame, n);
	for (unsigned i = 0; i < fd_count; i++) {
		queued->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (queued->fds[i] < 0) {
			r = -errno;
			close_fds(queued->fds);
			free(queued);
			return r;
		}
	}
	if (!channel->first) {
		loop_timer_set(channel->stall, CHANNEL_STALL_MS);
		r = loop_watch_change(channel->watch, EPOLLIN | EPOLLOUT);
		if (r < 0) {
			close_fds(queued->fds);
			free(queued);
			return r;
		}
	}
	*channel->last = queued;
	channel->last = &queued->next;
	channel->queued_bytes += n;
	return 0;
}

int channel_send(struct channel *channel, enum message_number number, const void *body, const int *fds)
{
	const struct message_type *type = message_type_of((uint64_t)number);
	uint8_t *frame = channel->sending;
	size_t n = 0;
	int r;

	if (channel->dead)
		return -EPIPE;
	if (!type || type->from != channel->self || type->to != channel->peer)
		return -EINVAL;
	r = message_encode(number, body, frame, FRAME_BYTES_MAX, &n);
	if (r < 0)
		return r;
	if (!channel->first) {
		r = frame_send(channel->fd, frame, n, fds, type->fds);
		if (r != -EAGAIN && r != -EINTR)
			return r == -ECONNRESET ? -EPIPE : r;
	}
	r = enqueue(channel, frame, n, fds, type->fds);
	if (r == -ENOBUFS && channel->failure == 0) {
		refuse(channel, r, "it lets too much pile up");
		loop_timer_set(channel->stall, 0); /* closes from the loop, not under the caller's feet */
	}
	return r;
}

/* -- Listening ---------------------------------------------------------------------------------------------------------------- */

static void turn_away(int fd, const struct listener *listener, const struct ucred *who, const char *why)
{
	log_warning("turned away a connection for %s from pid %d, uid %u: %s", party_name(listener->config.peer), (int)who->pid,
		    (unsigned)who->uid, why);
	close_fd(fd);
}

static unsigned count_of(const struct listener *listener, uid_t uid)
{
	unsigned count = 0;

	for (const struct channel *channel = listener->channels; channel; channel = channel->next)
		count += channel->uid == uid;
	return count;
}

static void accept_one(int fd, uint32_t events _unused_, void *arg)
{
	struct listener *listener = arg;
	const struct listener_config *config = &listener->config;
	struct ucred who = { 0 };
	socklen_t length = sizeof(who);
	struct channel *channel;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r;

	if (peer < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			(void)log_errno(errno, "cannot accept a connection for %s", party_name(config->peer));
		return;
	}
	if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0 || (!config->any_uid && who.uid != config->uid)) {
		turn_away(peer, listener, &who, "this socket is not for this user");
		return;
	}
	if (listener->count >= config->channels_max || (config->uid_max && count_of(listener, who.uid) >= config->uid_max)) {
		turn_away(peer, listener, &who, "too many connections already");
		return;
	}
	r = channel_new(listener->loop, peer, config->self, config->peer, config->phase, &config->events, config->arg, &channel);
	if (r < 0) {
		(void)log_errno(r, "cannot take a connection for %s", party_name(config->peer));
		return;
	}
	channel->listener = listener;
	channel->next = listener->channels;
	listener->channels = channel;
	listener->count++;
	if (config->accepted && config->accepted(channel, config->arg) < 0)
		channel_free(channel);
}

int listener_new(struct loop *loop, int fd, const struct listener_config *config, struct listener **out)
{
	_cleanup_close_ int socket_fd = fd;
	_cleanup_free_ struct listener *listener = calloc(1, sizeof(*listener));
	int r;

	if (!listener)
		return -ENOMEM;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	listener->loop = loop;
	listener->config = *config;
	r = loop_watch_add(loop, fd, EPOLLIN, accept_one, listener, &listener->watch);
	if (r < 0)
		return r;
	listener->fd = TAKE_FD(socket_fd);
	*out = TAKE_PTR(listener);
	return 0;
}

void listener_free(struct listener *listener)
{
	if (!listener)
		return;
	while (listener->channels)
		channel_free(listener->channels);
	loop_watch_remove(&listener->watch);
	close_fd(listener->fd);
	free(listener);
}

/* -- Blocking forms ----------------------------------------------------------------------------------------------------------- */

int channel_receive(int fd, enum party self, enum party peer, int timeout_ms, uint8_t *frame, struct message *answer)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct pack_reader reader = { .ready = false };
	const char *why = "";
	int fds[FRAME_FDS_MAX];
	unsigned fd_count;
	ssize_t n;
	int r;

	do
		r = poll(&poll_fd, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	n = frame_receive(fd, frame, fds, &fd_count, 0);
	if (n <= 0)
		return n == 0 || n == -ECONNRESET ? -EPIPE : (int)n;
	r = frame_judge(&reader, frame, (size_t)n, fds, fd_count, peer, self, PHASE_ANY, answer, &why);
	pack_reader_free(&reader); /* the fields are views of the frame */
	if (r < 0) {
		close_fds(fds);
		log_warning("the answer of %s is not acceptable: %s", party_name(peer), why);
		return -EPROTO;
	}
	return 0;
}

int channel_call(int fd, enum party self, enum party peer, enum message_number number, const void *body, const int *fds, int timeout_ms,
		 uint8_t *frame, struct message *answer)
{
	const struct message_type *type = message_type_of((uint64_t)number);
	size_t n = 0;
	int r;

	if (!type || type->from != self || type->to != peer)
		return -EINVAL;
	r = message_encode(number, body, frame, FRAME_BYTES_MAX, &n);
	if (r < 0)
		return r;
	r = frame_send(fd, frame, n, fds, type->fds);
	if (r < 0)
		return r == -ECONNRESET ? -EPIPE : r;
	return channel_receive(fd, self, peer, timeout_ms, frame, answer);
}
