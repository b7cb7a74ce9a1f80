/* SPDX-License-Identifier: Apache-2.0 */
/* The "admin" socket: root pins the root key of a deployment, and lets go of it. */
#include <errno.h>
#include <string.h>

#include "libipc/log.h"
#include "netd/netd.h"

static int answer(const struct netd *netd, struct channel *channel, bool ok, const char *text)
{
	struct msg_admin_done done = { .ok = ok, .text = text_view(text), .host_key = state_host_key(&netd->state) };

	return channel_send(channel, MSG_admin_done, &done, NULL);
}

static int on_pin(struct netd *netd, struct channel *channel, const struct msg_pin *pin)
{
	int r = state_pin(&netd->state, pin->root_key);

	if (r == -EEXIST)
		return answer(netd, channel, false, "this host belongs to a deployment with another root key; run loopback leave first");
	if (r < 0) {
		(void)log_errno(r, "cannot pin the root key");
		return answer(netd, channel, false, "the state folder of netd cannot be written");
	}
	log_notice("root key pinned by root (pid %d)", (int)channel_peer_pid(channel));
	documents_announce(netd);
	return answer(netd, channel, true, "pinned");
}

static int on_unpin(struct netd *netd, struct channel *channel, const struct msg_unpin *unpin)
{
	int r;

	documents_forget(netd);
	r = engine_clear(netd);
	if (r == 0)
		r = state_unpin(&netd->state, unpin->forget_keys);
	if (r == 0 && unpin->forget_keys && netd->engine == ENGINE_RUNNING)
		r = overlay_reconcile(&netd->overlay, NULL, NULL); /* the device gets the new key */
	netd->fresh_ms = 0;
	netd->last = (struct last_result){ .at_ms = 0 };
	documents_announce(netd);
	if (r < 0) {
		(void)log_errno(r, "cannot leave the deployment whole");
		return answer(netd, channel, false, "not everything could be forgotten; see the journal of netd and try again");
	}
	log_notice("the deployment was left, by root (pid %d)", (int)channel_peer_pid(channel));
	return answer(netd, channel, true, unpin->forget_keys ? "left; this is a new host now" : "left");
}

/* Whoever has fetchd has its transport key; the host's membership is not that key's to end. */
static int on_depart(struct netd *netd, struct channel *channel)
{
	CLEANUP(pack_writer_free) struct pack_writer payload = { .bytes = NULL };
	CLEANUP(pack_writer_free) struct pack_writer envelope = { .bytes = NULL };
	struct msg_departure answer = { .envelope = { .p = NULL } };
	struct document_header header;
	int r = 0;

	if (netd->state.deployed) {
		header = state_header(&netd->state);
		r = departure_encode(&header, state_host_key(&netd->state), &payload);
		if (r == 0)
			r = state_sign(&netd->state, DOC_departure, &payload, &envelope);
		log_notice("a departure was signed for root (pid %d)", (int)channel_peer_pid(channel));
	}
	answer.envelope = (struct view){ envelope.bytes, envelope.n };
	return r < 0 ? r : channel_send(channel, MSG_departure, &answer, NULL);
}

static int on_message(struct channel *channel, struct message *message, void *arg)
{
	struct netd *netd = arg;

	view_renew(netd);
	switch (message->number) {
	case MSG_pin:
		return on_pin(netd, channel, &message->body.pin);
	case MSG_unpin:
		return on_unpin(netd, channel, &message->body.unpin);
	case MSG_depart:
		return on_depart(netd, channel);
	default:
		return -EPROTO;
	}
}

int admin_listen(struct netd *netd, int fd)
{
	const struct listener_config config = {
		.self = PARTY_NETD,
		.peer = PARTY_ADMIN,
		.phase = PHASE_READY,
		.uid = 0,
		.channels_max = 4,
		.events = { on_message, NULL },
		.arg = netd,
	};

	return listener_new(netd->loop, fd, &config, &netd->admin);
}
