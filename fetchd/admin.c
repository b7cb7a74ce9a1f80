/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/admin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fetchd/fetchd.h"
#include "libipc/log.h"
#include "libipc/pack.h"

#define CLIENTS_MAX 8
#define LEAVE_PATIENCE_S 20

void admin_state(struct channel *client, bool done, bool ok, const char *text)
{
	struct msg_enroll_state state = { .done = done, .ok = ok, .text = text_view(text) };
	int r;

	if (state.text.n > 1024)
		state.text.n = 1024;
	r = channel_send(client, MSG_enroll_state, &state, NULL);
	if (r < 0 && r != -EPIPE)
		(void)log_errno(r, "cannot tell the client of the admin socket how things stand");
}

/* -- link_get --------------------------------------------------------------------------------------------------------------------------------- */

static int answer_link(const struct fetchd *fetchd, struct channel *client)
{
	const struct poller *poll = &fetchd->poll;
	int64_t ahead = link_clock_ahead(fetchd->link);
	struct msg_link link = {
		.enrolled = fetchd->state.enrolled,
		.online = poll->online,
		.url = text_view(fetchd->state.url),
		.last_answer = poll->last_answer,
		.last_error = text_view(poll->last_error),
		.last_code = text_view(poll->last_code),
		.clock_skew_ahead = ahead > 0 ? (uint64_t)ahead & UINT32_MAX : 0,
		.clock_skew_behind = ahead < 0 ? (uint64_t)-ahead & UINT32_MAX : 0,
	};

	return channel_send(client, MSG_link, &link, NULL);
}

/* -- leave ------------------------------------------------------------------------------------------------------------------------------------ */

static void leave_end(struct fetchd *fetchd, bool ok, const char *text)
{
	struct channel *client = fetchd->admin.leaver;

	fetchd->admin.leaver = NULL;
	log_notice("leave: %s", text);
	if (client)
		admin_state(client, true, ok, text);
}

static void forget(struct fetchd *fetchd, const char *text)
{
	if (state_forget(&fetchd->state) < 0) {
		leave_end(fetchd, false, "the file that names the control plane cannot be removed; see fetchd's log");
		return;
	}
	poll_reset(fetchd);
	leave_end(fetchd, true, text);
}

static void leave_failed(struct fetchd *fetchd, const char *why)
{
	char text[800];

	if (fetchd->admin.force) {
		(void)snprintf(text, sizeof(text),
			       "the control plane is forgotten, though it could not be told (%s): it shows this host as offline until it is retired there", why);
		forget(fetchd, text);
	} else {
		(void)snprintf(text, sizeof(text), "the control plane could not be told: %s. Nothing was changed; try again, or use --force", why);
		leave_end(fetchd, false, text);
	}
}

static void leave_answered(struct link_answer *answer, void *arg)
{
	struct fetchd *fetchd = arg;

	if (answer->error == 0 && answer->status == 200)
		forget(fetchd, "the control plane was told that this host leaves, and is forgotten");
	else if (answer->status == 410 || (answer->status == 401 && strcmp(answer->code, "unknown-host") == 0))
		forget(fetchd, "the control plane did not know this host any more; it is forgotten");
	else
		leave_failed(fetchd, answer->text);
}

static int leave_post(struct fetchd *fetchd, struct view departure)
{
	uint8_t bytes[640];
	struct pack_writer body = pack_writer_over(bytes, sizeof(bytes));
	struct link_request request = {
		.url = fetchd->state.url,
		.ca = fetchd->state.ca,
		.path = "/v1/agent/leave",
		.proof = LINK_SIGNED,
		.host = fetchd->netd.host,
		.patience_s = LEAVE_PATIENCE_S,
		.answer_max = 65536,
	};

	pack_put_array(&body, 1);
	pack_put_bytes(&body, departure.p, departure.n);
	request.body = (struct view){ body.bytes, body.n };
	return body.error < 0 ? body.error : link_start(fetchd->link, &request, leave_answered, fetchd, &fetchd->admin.leaving);
}

static void leave(struct fetchd *fetchd, struct channel *client, bool force, struct view departure)
{
	struct admin *admin = &fetchd->admin;
	int r;

	if (admin->leaving) {
		admin_state(client, true, false, "this host is leaving already");
		return;
	}
	enroll_cancel(fetchd, "broken off: this host leaves");
	admin->leaver = client;
	admin->force = force;
	if (fetchd->state.url[0] == '\0') {
		leave_end(fetchd, true, "this host has no control plane");
	} else if (!fetchd->state.enrolled) {
		forget(fetchd, "the enrolment was not complete; it is forgotten");
	} else if (!fetchd->netd.known) {
		leave_failed(fetchd, "netd does not answer, and it knows who this host is");
	} else if (departure.n == 0) {
		leave_failed(fetchd, "netd signed no departure, and the control plane believes nobody else");
	} else {
		r = leave_post(fetchd, departure);
		if (r < 0)
			leave_failed(fetchd, strerror(-r));
	}
}

/* -- The socket ------------------------------------------------------------------------------------------------------------------------------- */

static int message(struct channel *client, struct message *message, void *arg)
{
	struct fetchd *fetchd = arg;

	switch (message->number) {
	case MSG_enroll:
		enroll_begin(fetchd, client, &message->body.enroll);
		return 0;
	case MSG_leave:
		leave(fetchd, client, message->body.leave.force, message->body.leave.departure);
		return 0;
	case MSG_link_get:
		return answer_link(fetchd, client);
	default:
		return -EPROTO;
	}
}

static void closed(struct channel *client, int error _unused_, void *arg)
{
	struct fetchd *fetchd = arg;

	if (fetchd->admin.leaver == client)
		fetchd->admin.leaver = NULL;
	enroll_client_gone(fetchd, client);
}

int admin_start(struct fetchd *fetchd, int fd)
{
	struct listener_config config = {
		.self = PARTY_FETCHD,
		.peer = PARTY_ADMIN,
		.phase = PHASE_READY,
		.uid = 0,
		.channels_max = CLIENTS_MAX,
		.events = { .message = message, .closed = closed },
		.arg = fetchd,
	};

	return listener_new(fetchd->loop, fd, &config, &fetchd->admin.listener);
}

void admin_stop(struct fetchd *fetchd)
{
	link_cancel(&fetchd->admin.leaving);
	fetchd->admin.leaver = NULL;
	listener_free(fetchd->admin.listener);
	fetchd->admin.listener = NULL;
}
