/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection between two of our processes: SOCK_SEQPACKET, one frame a message, typed by messages.def.
 *
 * Default deny, then hang up. A received frame is judged in this order: length, truncation, schema (bounded), sender, phase,
 * descriptors, and only then handed to the owner. Anything else closes the channel with one log line that says what was wrong.
 * Sending never blocks: frames queue up to a mark in bytes; a peer that does not read is closed as well.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "libipc/loop.h"
#include "libipc/messages.h"

#define CHANNEL_QUEUE_BYTES (1024 * 1024) /* a peer that lets more than this pile up has stalled */
#define CHANNEL_STALL_MS 10000            /* so has one that takes nothing for so long */

struct channel;

/** A message arrived; it is valid during the call. Descriptors that the callback does not take (TAKE_FD) are closed. Return 0; a negative errno closes the channel. */
typedef int channel_message_fn(struct channel *channel, struct message *message, void *arg);
/** The channel is closed, for this reason (0: the peer hung up). It is freed after the call. */
typedef void channel_closed_fn(struct channel *channel, int error, void *arg);

struct channel_events {
	channel_message_fn *message;
	channel_closed_fn *closed;
};

/**
 * Take over a connected socket.
 * @param fd consumed, also on failure
 * @param self who this process is on this channel; @param peer who may be at the other end
 */
_must_check_ int channel_new(struct loop *loop, int fd, enum party self, enum party peer, enum phase phase,
			     const struct channel_events *events, void *arg, struct channel **channel);

/** Connect to a listening socket and make a channel of it. Blocks no longer than connect(2) to a local socket does. */
_must_check_ int channel_connect(struct loop *loop, const char *path, enum party self, enum party peer,
				 const struct channel_events *events, void *arg, struct channel **channel);

/** Close and free now, without the closed callback. Safe within a callback of this very channel. NULL is fine. */
void channel_free(struct channel *channel);
DEFINE_CLEANUP(struct channel *, channel_free)

void channel_phase_set(struct channel *channel, enum phase phase);
enum phase channel_phase(const struct channel *channel);
/** The peer's credentials as the kernel vouched for them when it connected. Of a systemd socket, a client sees uid 0. */
uid_t channel_peer_uid(const struct channel *channel);
pid_t channel_peer_pid(const struct channel *channel);

/**
 * Queue a message.
 * @param fds duplicated, so the caller's stay the caller's; as many as the message's row says
 * @return 0; -EMSGSIZE; -ENOBUFS the queue is full (the channel then closes by itself in the next round); -EPIPE
 */
_must_check_ int channel_send(struct channel *channel, enum message_number number, const void *body, const int *fds);

/** Bytes waiting to be sent. */
size_t channel_queued(const struct channel *channel);

/** Accepts connections and makes channels of them. */
struct listener;

/** Decide on a new connection. Return the argument for its events through *arg; a negative errno turns it away. */
typedef int listener_accept_fn(struct channel *channel, void *listener_arg);

struct listener_config {
	enum party self, peer;
	enum phase phase;      /* in which a new channel begins */
	uid_t uid;             /* only this uid may connect */
	bool any_uid;          /* everybody may, uid is not looked at */
	unsigned channels_max; /* of this listener; one more is turned away, with a log line */
	unsigned uid_max;      /* of these, of one uid; 0: no limit of its own. So that nobody can take all that is for everybody */
	struct channel_events events;
	listener_accept_fn *accepted; /* may be NULL */
	void *arg;                    /* given to the events */
};

/** @param fd a listening socket, consumed also on failure */
_must_check_ int listener_new(struct loop *loop, int fd, const struct listener_config *config, struct listener **listener);
void listener_free(struct listener *listener);
DEFINE_CLEANUP(struct listener *, listener_free)

/* Blocking forms, for short-lived clients and for controld's calls to signd. */

/**
 * Send one message on a connected socket and wait for one answer that the table allows from peer to self.
 * @param frame holds the answer's bytes, FRAME_BYTES_MAX of them; views in *answer point into it
 * @param answer its descriptors belong to the caller
 * @return 0; -ETIMEDOUT; -EPIPE; -EPROTO the answer is not allowed
 */
_must_check_ int channel_call(int fd, enum party self, enum party peer, enum message_number number, const void *body, const int *fds,
			      int timeout_ms, uint8_t *frame, struct message *answer);
/** Wait for one more message, as channel_call() does after sending. */
_must_check_ int channel_receive(int fd, enum party self, enum party peer, int timeout_ms, uint8_t *frame, struct message *answer);
/** Connect a SOCK_SEQPACKET, close-on-exec. @return the descriptor or a negative errno */
_must_check_ int channel_dial(const char *path);
