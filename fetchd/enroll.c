/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/enroll.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fetchd/enroll_words.h"
#include "fetchd/fetchd.h"
#include "libdoc/envelope.h"
#include "libdoc/host.h"
#include "libipc/log.h"
#include "libipc/pack.h"

#define PIN_MS 10000     /* netd has been told by the same `loopback enroll` a moment ago */
#define VERIFY_MS 20000
#define FIRST_MS 60000
#define PATIENCE_S 30

/* -- Telling ------------------------------------------------------------------------------------------------------------------------------ */

static void tell(struct fetchd *fetchd, bool done, bool ok, const char *format, ...) _printf_(4, 5);

static void tell(struct fetchd *fetchd, bool done, bool ok, const char *format, ...)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	char text[1000];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (done && !ok)
		log_error("enrolment: %s", text);
	else
		log_notice("enrolment: %s", text);
	if (enrolment->client)
		admin_state(enrolment->client, done, ok, text);
}

static void step(struct fetchd *fetchd, enum enroll_step to, uint64_t patience_ms)
{
	fetchd->enrolment.step = to;
	loop_timer_stop(fetchd->enrolment.timer);
	if (patience_ms)
		loop_timer_set(fetchd->enrolment.timer, patience_ms);
}

static void clear(struct fetchd *fetchd)
{
	struct enrolment *enrolment = &fetchd->enrolment;

	step(fetchd, ENROLL_IDLE, 0);
	link_cancel(&enrolment->transfer);
	state_close(&enrolment->wanted);
	free(enrolment->keyset);
	enrolment->keyset = NULL;
	enrolment->client = NULL;
	enrolment->begun = enrolment->keyset_sent = false;
	enrolment->failures = 0;
}

/* Final: what was begun is forgotten, unless this host belongs to a control plane all the same. */
static void fail(struct fetchd *fetchd, const char *text)
{
	bool forget = fetchd->enrolment.begun && !fetchd->state.enrolled;

	tell(fetchd, true, false, "%s", text);
	clear(fetchd);
	if (forget && state_forget(&fetchd->state) == 0)
		poll_reset(fetchd);
}

/* -- REGISTER ------------------------------------------------------------------------------------------------------------------------------ */

static void enroll_post(struct fetchd *fetchd);

static void registered(struct fetchd *fetchd)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	const struct state *wanted = &enrolment->wanted;
	char host[ID_TEXT];
	int r = state_set(&fetchd->state, wanted->url, wanted->ca, "", wanted->host_name);

	if (r == 0)
		r = state_enrolled(&fetchd->state);
	if (r < 0) {
		char text[200];

		(void)snprintf(text, sizeof(text), "the control plane registered this host, but fetchd cannot remember it: %s: mend that and enrol again",
			       strerror(-r));
		fail(fetchd, text);
		return;
	}
	tell(fetchd, false, false, "registered as %s (%s)", wanted->host_name, id_format(&fetchd->netd.host, host));
	tell(fetchd, false, false, "waiting for the first configuration");
	step(fetchd, ENROLL_FIRST, FIRST_MS);
	poll_reset(fetchd);
	poll_registered(fetchd, &enrolment->posted);
}

static void register_later(struct fetchd *fetchd, const char *text)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	uint64_t wait = backoff_ms(++enrolment->failures);

	tell(fetchd, false, false, "%s; trying again in %u s", text, (unsigned)((wait + 999) / 1000));
	loop_timer_set(enrolment->timer, wait);
}

static void register_answered(struct link_answer *answer, void *arg)
{
	struct fetchd *fetchd = arg;
	struct id host;
	char text[600];

	if (answer->error || answer->status >= 500) {
		register_later(fetchd, answer->text);
		return;
	}
	if (answer->status != 200) {
		enroll_refusal_text(answer, text, sizeof(text));
		fail(fetchd, text);
		return;
	}
	if (enroll_answer_open(answer->body, answer->n, &host) < 0)
		register_later(fetchd, "the answer to the registration is not one");
	else if (!id_equal(&host, &fetchd->netd.host))
		fail(fetchd, "the control plane registered another host id than this host's: is a proxy answering from a cache?");
	else
		registered(fetchd);
}

static void enroll_post(struct fetchd *fetchd)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	struct pack_writer body = { 0 };
	struct link_request request = {
		.url = enrolment->wanted.url,
		.ca = enrolment->wanted.ca,
		.path = "/v1/agent/enroll",
		.proof = LINK_TOKEN,
		.token = enrolment->wanted.token,
		.patience_s = PATIENCE_S,
		.answer_max = ENVELOPE_BYTES_MAX,
	};
	int r;

	step(fetchd, ENROLL_REGISTER, 0);
	if (enrolment->transfer || fetchd->netd.registration_n == 0)
		return; /* goes on when netd has said its registration (again) */
	hash_of(fetchd->netd.registration, fetchd->netd.registration_n, &enrolment->posted);
	pack_put_array(&body, 2);
	pack_put_bytes(&body, fetchd->netd.registration, fetchd->netd.registration_n);
	pack_put_text(&body, enrolment->wanted.host_name);
	request.body = (struct view){ body.bytes, body.n };
	r = body.error < 0 ? body.error : link_start(fetchd->link, &request, register_answered, fetchd, &enrolment->transfer);
	pack_writer_free(&body);
	if (r < 0)
		register_later(fetchd, strerror(-r));
}

/* -- VERIFY -------------------------------------------------------------------------------------------------------------------------------- */

static void verified(struct fetchd *fetchd)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	const struct state *wanted = &enrolment->wanted;
	int r = 0;

	free(enrolment->keyset);
	enrolment->keyset = NULL;
	tell(fetchd, false, false, "netd verified it");
	if (!fetchd->state.enrolled) {
		r = state_set(&fetchd->state, wanted->url, wanted->ca, wanted->token, wanted->host_name);
		if (r == 0)
			r = state_save(&fetchd->state);
	}
	enrolment->begun = true;
	if (r < 0) {
		fail(fetchd, "fetchd cannot write to its state folder; nothing was sent to the control plane");
		return;
	}
	enroll_post(fetchd);
}

/* Comes by here when the keyset has been fetched, and whenever netd says who it is. */
static void verify(struct fetchd *fetchd)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	int r;

	/* A deployed host takes keysets between heads, with its polls; the control plane judges its root from the registration. */
	if (fetchd->netd.deployed && fetchd->netd.registration_n > 0) {
		verified(fetchd);
		return;
	}
	if (enrolment->keyset_sent)
		return;
	r = netd_send_keyset(fetchd, (struct view){ enrolment->keyset, enrolment->keyset_n });
	if (r < 0 && r != -ENOTCONN) {
		fail(fetchd, "netd does not take the keyset; see netd's log");
		return;
	}
	enrolment->keyset_sent = r == 0;
}

/* -- KEYSET -------------------------------------------------------------------------------------------------------------------------------- */

static void keyset_answered(struct link_answer *answer, void *arg)
{
	struct fetchd *fetchd = arg;
	struct envelope envelope;
	char text[600];

	if (answer->error || answer->status != 200) {
		(void)snprintf(text, sizeof(text), "%s. Nothing was changed; enrol again when that is mended", answer->text);
		fail(fetchd, text);
		return;
	}
	if (envelope_open(answer->body, answer->n, &envelope) < 0 || envelope.type != DOC_keyset) {
		(void)snprintf(text, sizeof(text), "%.128s answered, but not with a keyset: is this a control plane?", fetchd->enrolment.wanted.url);
		fail(fetchd, text);
		return;
	}
	fetchd->enrolment.keyset = TAKE_PTR(answer->body);
	fetchd->enrolment.keyset_n = answer->n;
	tell(fetchd, false, false, "keyset fetched");
	step(fetchd, ENROLL_VERIFY, VERIFY_MS);
	verify(fetchd);
}

static void keyset_get(struct fetchd *fetchd)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	struct link_request request = {
		.url = enrolment->wanted.url,
		.ca = enrolment->wanted.ca,
		.path = "/v1/agent/keyset",
		.proof = LINK_OPEN,
		.patience_s = PATIENCE_S,
		.answer_max = ENVELOPE_BYTES_MAX,
	};
	int r;

	step(fetchd, ENROLL_KEYSET, 0);
	tell(fetchd, false, false, "asking %s for its keyset", enrolment->wanted.url);
	r = link_start(fetchd->link, &request, keyset_answered, fetchd, &enrolment->transfer);
	if (r < 0)
		fail(fetchd, strerror(-r));
}

/* -- The rest ------------------------------------------------------------------------------------------------------------------------------ */

static void patience_over(void *arg)
{
	struct fetchd *fetchd = arg;

	switch (fetchd->enrolment.step) {
	case ENROLL_PIN:
		fail(fetchd, fetchd->netd.known ? "netd has no root key pinned: `loopback enroll` gives it the one in the token first" :
						  "netd does not answer: is loopback-netd.service running?");
		break;
	case ENROLL_VERIFY:
		fail(fetchd, "netd says nothing about the keyset; see netd's log");
		break;
	case ENROLL_REGISTER:
		enroll_post(fetchd);
		break;
	case ENROLL_FIRST:
		tell(fetchd, true, false, "this host is enrolled, but no configuration came into force within %d s: %s. It goes on by itself; see `loopback status`",
		     FIRST_MS / 1000, fetchd->poll.last_error[0] ? fetchd->poll.last_error : "the control plane named none");
		clear(fetchd);
		break;
	case ENROLL_IDLE:
	case ENROLL_KEYSET:
		break;
	}
}

static void go(struct fetchd *fetchd)
{
	if (fetchd->netd.known && fetchd->netd.pinned)
		keyset_get(fetchd);
	else
		step(fetchd, ENROLL_PIN, PIN_MS);
}

void enroll_begin(struct fetchd *fetchd, struct channel *client, const struct msg_enroll *message)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	const char *why;

	if (enrolment->step == ENROLL_FIRST || (enrolment->begun && !enrolment->client))
		clear(fetchd); /* nobody waits for that one any more, or it has happened */
	if (enrolment->step != ENROLL_IDLE) {
		admin_state(client, true, false, "another enrolment is under way; wait for it to end");
		return;
	}
	if (enroll_words_check(message, &enrolment->wanted, &why) < 0) {
		admin_state(client, true, false, why);
		clear(fetchd);
		return;
	}
	enrolment->client = client;
	go(fetchd);
}

void enroll_resume(struct fetchd *fetchd)
{
	struct enrolment *enrolment = &fetchd->enrolment;
	const struct state *state = &fetchd->state;

	if (enrolment->step != ENROLL_IDLE)
		return;
	if (state_set(&enrolment->wanted, state->url, state->ca, state->token, state->host_name) < 0)
		return;
	tell(fetchd, false, false, "going on with the enrolment at %s", state->url);
	enrolment->begun = true;
	enroll_post(fetchd);
}

void enroll_cancel(struct fetchd *fetchd, const char *why)
{
	if (fetchd->enrolment.step == ENROLL_IDLE)
		return;
	tell(fetchd, true, false, "%s", why);
	clear(fetchd);
}

void enroll_client_gone(struct fetchd *fetchd, const struct channel *client)
{
	struct enrolment *enrolment = &fetchd->enrolment;

	if (enrolment->step == ENROLL_IDLE || enrolment->client != client)
		return;
	enrolment->client = NULL;
	if (enrolment->begun) {
		log_notice("enrolment: its client went away; it goes on");
		return;
	}
	log_notice("enrolment: its client went away before it had begun; nothing was changed");
	clear(fetchd);
}

bool enroll_registering(const struct fetchd *fetchd)
{
	return fetchd->enrolment.step == ENROLL_REGISTER && !fetchd->state.enrolled;
}

void enroll_netd_changed(struct fetchd *fetchd)
{
	const struct netd_channel *netd = &fetchd->netd;

	if (!netd->known)
		fetchd->enrolment.keyset_sent = false; /* it restarts, and is to be asked again */
	else if (fetchd->enrolment.step == ENROLL_PIN && netd->pinned)
		keyset_get(fetchd);
	else if (fetchd->enrolment.step == ENROLL_VERIFY)
		verify(fetchd);
	else if (fetchd->enrolment.step == ENROLL_REGISTER && fetchd->enrolment.failures == 0)
		enroll_post(fetchd);
}

void enroll_keyset_judged(struct fetchd *fetchd, uint64_t outcome, const char *reason)
{
	char text[800];

	if (fetchd->enrolment.step != ENROLL_VERIFY || outcome == OUTCOME_applied || outcome == OUTCOME_unchanged)
		return;
	(void)snprintf(text, sizeof(text),
		       "netd refused the control plane's keyset: %s. The token's root is not this control plane's: was the token made for another one?",
		       reason);
	fail(fetchd, text);
}

void enroll_offer_judged(struct fetchd *fetchd, uint64_t outcome, const char *reason)
{
	if (fetchd->enrolment.step != ENROLL_FIRST)
		return;
	if (outcome == OUTCOME_applied)
		tell(fetchd, true, true, "this host is enrolled and its first configuration is in force");
	else if (outcome == OUTCOME_unchanged)
		tell(fetchd, true, true, "this host is enrolled; there is nothing new to configure");
	else
		tell(fetchd, true, false, "this host is enrolled, but netd did not apply its first configuration: %s. What ran before runs on; see `loopback status`",
		     reason);
	clear(fetchd);
}

int enroll_init(struct fetchd *fetchd)
{
	fetchd->enrolment.wanted.dir = -1;
	return loop_timer_new(fetchd->loop, patience_over, fetchd, &fetchd->enrolment.timer);
}

void enroll_stop(struct fetchd *fetchd)
{
	clear(fetchd);
	loop_timer_free(&fetchd->enrolment.timer);
}
