/* SPDX-License-Identifier: Apache-2.0 */
/* Frames that no process of ours sends, or not there, or not then. */
#pragma once

#include "tests/tools/lib/forge_talk.h"

/* A frame by its kind. @return length; -EINVAL */
static ssize_t odd_frame(struct forge *forge, const char *kind, uint8_t *frame, size_t room)
{
	const uint8_t *key = forge->seed;
	size_t n = 0;
	int r = 0;

	memset(frame, 0, room);
	if (strcmp(kind, "garbage") == 0) {
		derive(forge, "garbage", 0, frame, 64);
		frame[0] = 0xc1; /* never used by msgpack */
		n = 64;
	} else if (strcmp(kind, "empty") == 0) {
		frame[0] = 0x90;
		n = 1;
	} else if (strcmp(kind, "nested") == 0) {
		n = 2000;
		memset(frame, 0x91, n - 1); /* arrays of one array each */
	} else if (strcmp(kind, "unknown") == 0) {
		frame[0] = 0x91;
		frame[1] = 0x7f;
		n = 2;
	} else if (strcmp(kind, "hello") == 0) {
		r = message_encode(MSG_hello, &(struct msg_hello){ .transport_key = key }, frame, room, &n);
	} else if (strcmp(kind, "tail") == 0) {
		r = message_encode(MSG_hello, &(struct msg_hello){ .transport_key = key }, frame, room, &n);
		n++;
	} else if (strcmp(kind, "field") == 0) { /* hello with one field more */
		r = message_encode(MSG_hello, &(struct msg_hello){ .transport_key = key }, frame, room, &n);
		frame[0]++;
		n++;
	} else if (strcmp(kind, "ask") == 0) { /* netd's own */
		r = message_encode(MSG_ask, &(struct msg_ask){ .nonce = key }, frame, room, &n);
	} else if (strcmp(kind, "pin") == 0) { /* root's */
		r = message_encode(MSG_pin, &(struct msg_pin){ .root_key = key }, frame, room, &n);
	} else if (strcmp(kind, "tunnel") == 0) { /* wg-launch's */
		r = message_encode(MSG_tunnel_request, &(struct msg_tunnel_request){ .unused_ = { 0 } }, frame, room, &n);
	} else if (strcmp(kind, "offer") == 0) {
		r = message_encode(MSG_offer, &(struct msg_offer){ .head = { key, 32 } }, frame, room, &n);
	} else if (strcmp(kind, "keyset") == 0) { /* a good one */
		struct view envelope = { forge->keyset_envelope.bytes, forge->keyset_envelope.n };

		r = message_encode(MSG_keyset, &(struct msg_keyset){ .envelope = envelope }, frame, room, &n);
	} else if (strcmp(kind, "view") == 0) {
		r = message_encode(MSG_view_get, &(struct msg_view_get){ .peers = true }, frame, room, &n);
	} else {
		r = -EINVAL;
	}
	return r < 0 ? r : (ssize_t)n;
}

struct raw_frame {
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 8)];
	} control;
	struct iovec vector;
	struct msghdr header;
	uint8_t bytes[2 * FRAME_BYTES_MAX];
};

/* KIND [bytes=N] [descriptors=N]: filled up to N bytes with zeros */
static int raw_fill(struct forge *forge, struct words *words, const struct connection *connection, struct raw_frame *raw)
{
	const char *kind = word_at(words, 1);
	ssize_t n = kind ? odd_frame(forge, kind, raw->bytes, sizeof(raw->bytes)) : -EINVAL;
	unsigned descriptors = (unsigned)number_of(words, "descriptors", 0);

	if (!connection || connection->fd < 0 || n < 0 || descriptors > 8)
		return wrong(forge, "expected a kind of frame and a connection");
	raw->vector = (struct iovec){ .iov_base = raw->bytes, .iov_len = number_of(words, "bytes", (uint64_t)n) };
	raw->header = (struct msghdr){ .msg_iov = &raw->vector, .msg_iovlen = 1 };
	if (raw->vector.iov_len > sizeof(raw->bytes))
		return wrong(forge, "at most %zu bytes", sizeof(raw->bytes));
	if (descriptors) {
		struct cmsghdr *part = &raw->control.align;

		raw->header.msg_control = raw->control.bytes;
		raw->header.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors);
		part->cmsg_level = SOL_SOCKET;
		part->cmsg_type = SCM_RIGHTS;
		part->cmsg_len = CMSG_LEN(sizeof(int) * descriptors);
		for (unsigned i = 0; i < descriptors; i++)
			memcpy(CMSG_DATA(part) + i * sizeof(int), &connection->fd, sizeof(int));
	}
	return 0;
}

/* send KIND [on=] [bytes=N] [descriptors=N] [times=N]: until netd hangs up or takes no more. Nothing is read meanwhile. */
static int cmd_send(struct forge *forge, struct words *words)
{
	const struct connection *connection = connection_named(forge, words);
	static struct raw_frame raw;
	uint64_t times = number_of(words, "times", 1), sent = 0;
	int r = raw_fill(forge, words, connection, &raw);

	while (r == 0 && sent < times && sendmsg(connection->fd, &raw.header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		sent++;
	if (r == 0)
		put_number(&forge->answer, "sent", sent);
	return r;
}

/* flood KIND [on=] [for=MS]: as fast as netd takes it, for so long, or until it hangs up. Nothing is read meanwhile. */
static int cmd_flood(struct forge *forge, struct words *words)
{
	const struct connection *connection = connection_named(forge, words);
	static struct raw_frame raw;
	uint64_t end = now_us() + number_of(words, "for", 1000) * 1000, sent = 0;
	int r = raw_fill(forge, words, connection, &raw);

	while (r == 0 && now_us() < end) {
		struct pollfd ready = { .fd = connection->fd, .events = POLLOUT };

		if (sendmsg(connection->fd, &raw.header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			sent++;
		else if (errno != EAGAIN)
			break;
		else
			(void)poll(&ready, 1, 10);
	}
	if (r == 0)
		put_number(&forge->answer, "sent", sent);
	return r;
}
