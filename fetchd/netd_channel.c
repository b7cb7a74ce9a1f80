/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/netd_channel.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "fetchd/fetchd.h"
#include "libdoc/host.h"
#include "libipc/log.h"

#define RETRY_FIRST_MS 200
#define RETRY_MAX_MS 5000

static void dial(void *arg);

static void forget(struct netd_channel *netd)
{
	netd->known = netd->pinned = netd->deployed = netd->asked = netd->offered = netd->keyset_offered = false;
	netd->registration_n = netd->have_n = 0;
}

static void dial_later(struct netd_channel *netd)
{
	uint64_t wait = (uint64_t)RETRY_FIRST_MS << (netd->failures < 6 ? netd->failures : 6);

	netd->failures++;
	loop_timer_set(netd->retry, wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
}

static void closed(struct channel *channel _unused_, int error, void *arg)
{
	struct fetchd *fetchd = arg;

	log_notice("netd closed the line%s%s; dialling again", error ? ": " : "", error ? strerror(-error) : "");
	fetchd->netd.channel = NULL;
	forget(&fetchd->netd);
	want_drop(fetchd);
	poll_netd_gone(fetchd);
	enroll_netd_changed(fetchd);
	dial_later(&fetchd->netd);
}

static void take_identity(struct fetchd *fetchd, const struct msg_identity *identity)
{
	struct netd_channel *netd = &fetchd->netd;

	netd->known = true;
	netd->keyset_offered = false; /* a keyset that netd takes shows here */
	netd->failures = 0;
	netd->pinned = identity->pinned;
	netd->deployed = identity->deployed;
	memcpy(netd->host_key, identity->host_key, KEY_BYTES);
	memcpy(netd->root_key, identity->root_key, KEY_BYTES);
	host_id_of(netd->host_key, &netd->host);
	if (identity->registration.n)
		memcpy(netd->registration, identity->registration.p, identity->registration.n);
	netd->registration_n = identity->registration.n;
	enroll_netd_changed(fetchd);
	poll_identity_changed(fetchd);
}

static void take_ask(struct fetchd *fetchd, const struct msg_ask *ask)
{
	struct netd_channel *netd = &fetchd->netd;

	memcpy(netd->nonce, ask->nonce, sizeof(netd->nonce));
	if (ask->have.n)
		memcpy(netd->have, ask->have.p, ask->have.n);
	netd->have_n = ask->have.n;
	netd->asked = true;
	poll_asked(fetchd);
}

static void take_result(struct fetchd *fetchd, const struct msg_result *result)
{
	struct netd_channel *netd = &fetchd->netd;
	char reason[512];

	(void)log_clean(reason, sizeof(reason), result->reason.p, result->reason.n);
	if (netd->keyset_offered && !netd->offered) {
		netd->keyset_offered = false;
		log_notice("netd on the keyset: %s", reason);
		enroll_keyset_judged(fetchd, result->outcome, reason);
	} else {
		netd->offered = netd->keyset_offered = false;
		want_drop(fetchd);
		stash_to_cache(fetchd);
		if (result->outcome != OUTCOME_applied && result->outcome != OUTCOME_unchanged)
			log_warning("netd did not apply what the control plane offered: %s", reason);
		poll_judged(fetchd, result->outcome);
		enroll_offer_judged(fetchd, result->outcome, reason);
	}
	if (result->receipt.n)
		poll_receipt(fetchd, result->receipt);
}

static int message(struct channel *channel _unused_, struct message *message, void *arg)
{
	struct fetchd *fetchd = arg;

	switch (message->number) {
	case MSG_identity:
		take_identity(fetchd, &message->body.identity);
		return 0;
	case MSG_ask:
		take_ask(fetchd, &message->body.ask);
		return 0;
	case MSG_want:
		return want_begin(fetchd, message->body.want.hashes);
	case MSG_result:
		take_result(fetchd, &message->body.result);
		return 0;
	case MSG_in_force:
		if (message->body.in_force.receipt.n)
			poll_receipt(fetchd, message->body.in_force.receipt);
		return 0;
	default:
		return -EPROTO;
	}
}

static int hello(struct fetchd *fetchd)
{
	struct msg_hello hello = { .transport_key = fetchd->state.transport_secret + crypto_sign_SEEDBYTES };

	return channel_send(fetchd->netd.channel, MSG_hello, &hello, NULL);
}

static void dial(void *arg)
{
	static const struct channel_events events = { .message = message, .closed = closed };
	struct fetchd *fetchd = arg;
	struct netd_channel *netd = &fetchd->netd;
	int r = channel_connect(fetchd->loop, netd->path, PARTY_FETCHD, PARTY_NETD, &events, fetchd, &netd->channel);

	if (r == 0) {
		r = hello(fetchd);
		if (r == 0)
			return;
		channel_free(netd->channel);
		netd->channel = NULL;
	}
	if (netd->failures == 0)
		log_notice("netd cannot be reached at %s: %s; trying again until it can", netd->path, strerror(-r));
	dial_later(netd);
}

int netd_channel_start(struct fetchd *fetchd, const char *path)
{
	int r = loop_timer_new(fetchd->loop, dial, fetchd, &fetchd->netd.retry);

	if (r < 0)
		return r;
	fetchd->netd.path = path;
	loop_timer_set(fetchd->netd.retry, 0);
	return 0;
}

void netd_channel_stop(struct fetchd *fetchd)
{
	channel_free(fetchd->netd.channel);
	fetchd->netd.channel = NULL;
	forget(&fetchd->netd);
	loop_timer_free(&fetchd->netd.retry);
}

int netd_send_keyset(struct fetchd *fetchd, struct view envelope)
{
	struct msg_keyset keyset = { .envelope = envelope };
	int r;

	if (!fetchd->netd.channel)
		return -ENOTCONN;
	r = channel_send(fetchd->netd.channel, MSG_keyset, &keyset, NULL);
	if (r == 0)
		fetchd->netd.keyset_offered = true;
	return r;
}

int netd_send_offer(struct fetchd *fetchd, struct view head)
{
	struct msg_offer offer = { .head = head };
	int r;

	if (!fetchd->netd.channel)
		return -ENOTCONN;
	r = channel_send(fetchd->netd.channel, MSG_offer, &offer, NULL);
	if (r == 0) {
		fetchd->netd.offered = true;
		fetchd->netd.asked = false;
	}
	return r;
}
