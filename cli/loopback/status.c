/* SPDX-License-Identifier: Apache-2.0 */
/* loopback status: netd's view, and for root how fetchd stands with the control plane. */
#include "cli/loopback/status.h"

#include <errno.h>
#include <string.h>

#include "cli/loopback/meshview.h"
#include "cli/loopback/report.h"
#include "libipc/memfd.h"

#define VIEW_TIMEOUT_MS 20000 /* a dump of a large mesh takes a second */

/* Above so many peers their handshakes are only read when asked for: a dump costs netd more than any change does. */
#define PEERS_UNASKED_MAX 1000

static int take_view(struct cli *cli, const struct message *answer, struct mesh_view *view)
{
	_cleanup_close_ int fd = answer->fds[0];
	uint8_t *bytes = NULL;
	size_t n = 0;
	int r = memfd_read(fd, VIEW_BYTES_MAX, &bytes, &n);

	if (r < 0)
		return cli_fail(&cli->voice, CLI_UNREACHABLE, "protocol", "cannot read netd's view: %s", strerror(-r));
	r = mesh_view_decode(view, bytes, n);
	if (r < 0)
		return cli_fail(&cli->voice, CLI_UNREACHABLE, "protocol",
				"netd's view is not one that this loopback reads (%s); are loopback and "
				"netd of one version?",
				strerror(-r));
	return CLI_OK;
}

static int get_view(struct cli *cli, bool peers, struct mesh_view *view)
{
	_cleanup_close_ int fd = -1;
	struct msg_view_get body = { .peers = peers };
	struct message answer;
	int r = daemon_dial(cli, &netd_view, &fd);

	if (!r)
		r = daemon_call(cli, &netd_view, fd, MSG_view_get, &body, MSG_view, VIEW_TIMEOUT_MS, &answer);
	return r ? r : take_view(cli, &answer, view);
}

int netd_view_ask(struct cli *cli, bool peers, int timeout_ms, struct mesh_view *view)
{
	_cleanup_close_ int fd = daemon_dial_quietly(cli, &netd_view), answered = -1;
	struct msg_view_get body = { .peers = peers };
	struct message answer;
	uint8_t *bytes = NULL;
	size_t n = 0;
	int r = fd;

	if (r >= 0)
		r = daemon_call_quietly(cli, &netd_view, fd, MSG_view_get, &body, MSG_view, timeout_ms, &answer);
	if (r < 0)
		return r;
	answered = answer.fds[0];
	r = memfd_read(answered, VIEW_BYTES_MAX, &bytes, &n);
	return r < 0 ? r : mesh_view_decode(view, bytes, n);
}

bool netd_state_is(struct cli *cli, const char *state)
{
	_cleanup_mesh_view_ struct mesh_view view = { .bytes = NULL };

	return netd_view_ask(cli, false, VIEW_TIMEOUT_MS, &view) == 0 && strcmp(view.state, state) == 0;
}

void fetchd_link(struct cli *cli, int timeout_ms, struct link_report *link)
{
	_cleanup_close_ int fd = daemon_dial_quietly(cli, &fetchd_admin);
	struct msg_link_get body = { .unused_ = { 0 } };
	struct message answer;
	const struct msg_link *got;

	link->asked = fd != -EACCES && fd != -EPERM;
	link->error = fd;
	if (fd >= 0)
		link->error = daemon_call_quietly(cli, &fetchd_admin, fd, MSG_link_get, &body, MSG_link, timeout_ms, &answer);
	if (link->error < 0)
		return;
	got = &answer.body.link;
	link->answered = true;
	link->enrolled = got->enrolled;
	link->online = got->online;
	link->last_answer = got->last_answer;
	link->skew_ahead = got->clock_skew_ahead;
	link->skew_behind = got->clock_skew_behind;
	(void)text_copy(link->url, sizeof(link->url), got->url);
	(void)text_copy(link->last_error, sizeof(link->last_error), got->last_error);
	(void)text_copy(link->last_code, sizeof(link->last_code), got->last_code);
}

static uint64_t peers_expected(const struct mesh_view *view)
{
	uint64_t hosts = 0;

	for (unsigned i = 0; i < view->network_count; i++)
		hosts += view->networks[i].hosts;
	return hosts;
}

int loopback_status(struct cli *cli, const struct cli_args *args)
{
	_cleanup_mesh_view_ struct mesh_view view = { .bytes = NULL };
	struct link_report link = { .asked = false };
	bool list_peers = cli_has(args, "peers");
	bool counted;
	int r = get_view(cli, list_peers, &view);

	if (r)
		return r;
	counted = list_peers;
	if (!list_peers && peers_expected(&view) <= PEERS_UNASKED_MAX) {
		r = get_view(cli, true, &view);
		counted = true;
	}
	if (r)
		return r;
	fetchd_link(cli, LINK_TIMEOUT_MS, &link);
	r = cli->voice.json ? report_json(cli, &view, &link, counted, list_peers)
			    : report_text(cli, &view, &link, counted, list_peers);
	if (r)
		return r;
	return strcmp(view.state, "running") == 0 ? CLI_OK : CLI_REFUSED;
}
