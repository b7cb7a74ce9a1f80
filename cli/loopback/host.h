/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loopback, the host's own program: one context for a run, the commands, and the daemons' sockets.
 */
#pragma once

#include <stdint.h>

#include "cli/common/command.h"
#include "cli/common/voice.h"
#include "libipc/channel.h"

#define RUN_DEFAULT "/run/loopback"

struct cli {
	struct cli_voice voice;
	const char *run;                /* folder of the daemons' sockets */
	uint8_t frame[FRAME_BYTES_MAX]; /* of the latest answer; views of a message point into it */
};

cli_run_fn loopback_enroll, loopback_leave, loopback_status, loopback_doctor, loopback_audit, loopback_support_bundle;

/* A socket of a daemon, under the run folder. */
struct daemon_socket {
	const char *daemon; /* "netd" */
	const char *path;   /* "netd/admin.sock" */
	enum party self, peer;
};
extern const struct daemon_socket netd_admin, netd_view, fetchd_admin;

/**
 * Connect to a daemon. Reports failures itself.
 * @param fd receives the descriptor, owned by the caller
 * @return CLI_OK; CLI_UNREACHABLE it does not run; CLI_REFUSED this user may not
 */
_must_check_ int daemon_dial(struct cli *cli, const struct daemon_socket *socket, int *fd);

/** The same without a word: for what is told if it is there. @return the descriptor or a negative errno */
_must_check_ int daemon_dial_quietly(const struct cli *cli, const struct daemon_socket *socket);

/**
 * Send a message and wait for one answer. Reports failures itself.
 * @param expected what the answer must be; anything else is a failure
 * @param answer valid until the next call; its descriptors belong to the caller
 * @return CLI_OK; CLI_UNREACHABLE
 */
_must_check_ int daemon_call(struct cli *cli, const struct daemon_socket *socket, int fd, enum message_number number,
			     const void *body, enum message_number expected, int timeout_ms, struct message *answer);

/** daemon_call() without a word. @return 0; a negative errno, -EPROTO if the answer is not the expected one */
_must_check_ int daemon_call_quietly(struct cli *cli, const struct daemon_socket *socket, int fd, enum message_number number,
				     const void *body, enum message_number expected, int timeout_ms, struct message *answer);

/** Wait for one more message of the daemon. @return as daemon_call_quietly() */
_must_check_ int daemon_receive_quietly(struct cli *cli, const struct daemon_socket *socket, int fd, enum message_number expected,
					int timeout_ms, struct message *answer);

/** Report what the quiet forms returned. @return CLI_UNREACHABLE */
int daemon_no_answer(struct cli *cli, const struct daemon_socket *socket, int error);
