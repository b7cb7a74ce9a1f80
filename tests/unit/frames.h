/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from a bare socket: right ones, and whatever else a peer may send. */
#pragma once

#include <sys/socket.h>

#include "libipc/messages.h"
#include "tests/unit/unit.h"

/* Send raw bytes with so many descriptors. */
static inline int send_raw(int socket, const void *bytes, size_t n, unsigned fd_count)
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

static inline int send_message(int socket, enum message_number number, const void *body, unsigned fd_count)
{
	uint8_t frame[FRAME_BYTES_MAX];
	size_t n;
	int r = message_encode(number, body, frame, sizeof(frame), &n);

	return r < 0 ? r : send_raw(socket, frame, n, fd_count);
}
