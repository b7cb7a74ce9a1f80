/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "cli/loopback/host.h"

const struct daemon_socket netd_admin = { "netd", "netd/admin.sock", PARTY_ADMIN, PARTY_NETD };
const struct daemon_socket netd_view = { "netd", "netd/view.sock", PARTY_VIEWER, PARTY_NETD };
const struct daemon_socket fetchd_admin = { "fetchd", "fetchd/admin.sock", PARTY_ADMIN, PARTY_FETCHD };

static int make_path(const struct cli *cli, const struct daemon_socket *socket, char out[static PATH_MAX])
{
	int n = snprintf(out, PATH_MAX, "%s/%s", cli->run, socket->path);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int daemon_dial_quietly(const struct cli *cli, const struct daemon_socket *socket)
{
	char path[PATH_MAX];
	int r = make_path(cli, socket, path);

	return r < 0 ? r : channel_dial(path);
}

int daemon_dial(struct cli *cli, const struct daemon_socket *socket, int *fd)
{
	int r = daemon_dial_quietly(cli, socket);

	if (r == -EACCES || r == -EPERM)
		return cli_fail(&cli->voice, CLI_REFUSED, "permission", "only root may ask %s for this; try again with sudo",
				socket->daemon);
	if (r == -ENOENT || r == -ECONNREFUSED)
		return cli_fail(&cli->voice, CLI_UNREACHABLE, "not-running",
				"%s does not run: nobody listens at %s/%s. See: systemctl status "
				"loopback-%s",
				socket->daemon, cli->run, socket->path, socket->daemon);
	if (r < 0)
		return cli_fail(&cli->voice, CLI_UNREACHABLE, "not-running", "cannot connect to %s at %s/%s: %s", socket->daemon,
				cli->run, socket->path, strerror(-r));
	*fd = r;
	return CLI_OK;
}

int daemon_no_answer(struct cli *cli, const struct daemon_socket *socket, int error)
{
	if (error == -ETIMEDOUT)
		return cli_fail(&cli->voice, CLI_UNREACHABLE, "no-answer",
				"%s does not answer; see: systemctl status loopback-%s", socket->daemon, socket->daemon);
	if (error == -EPROTO)
		return cli_fail(&cli->voice, CLI_UNREACHABLE, "protocol",
				"%s answered with something else than was asked; are loopback and the "
				"daemons of one version?",
				socket->daemon);
	return cli_fail(&cli->voice, CLI_UNREACHABLE, "no-answer",
			"%s closed the connection without an answer (%s); see: journalctl -u "
			"loopback-%s",
			socket->daemon, strerror(-error), socket->daemon);
}

/* The table lets a daemon send several kinds of answers on one socket; only one of them answers this. */
static int check_kind(struct message *answer, enum message_number expected)
{
	const struct message_type *type = message_type_of(answer->number);

	if (answer->number == expected)
		return 0;
	for (unsigned i = 0; type && i < type->fds; i++)
		answer->fds[i] = close_fd(answer->fds[i]);
	return -EPROTO;
}

int daemon_call_quietly(struct cli *cli, const struct daemon_socket *socket, int fd, enum message_number number, const void *body,
			enum message_number expected, int timeout_ms, struct message *answer)
{
	int r = channel_call(fd, socket->self, socket->peer, number, body, NULL, timeout_ms, cli->frame, answer);

	return r < 0 ? r : check_kind(answer, expected);
}

int daemon_call(struct cli *cli, const struct daemon_socket *socket, int fd, enum message_number number, const void *body,
		enum message_number expected, int timeout_ms, struct message *answer)
{
	int r = daemon_call_quietly(cli, socket, fd, number, body, expected, timeout_ms, answer);

	return r < 0 ? daemon_no_answer(cli, socket, r) : CLI_OK;
}

int daemon_receive_quietly(struct cli *cli, const struct daemon_socket *socket, int fd, enum message_number expected,
			   int timeout_ms, struct message *answer)
{
	int r = channel_receive(fd, socket->self, socket->peer, timeout_ms, cli->frame, answer);

	return r < 0 ? r : check_kind(answer, expected);
}
