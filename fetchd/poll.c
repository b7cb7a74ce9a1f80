/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/poll.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fetchd/fetchd.h"
#include "libdoc/host.h"
#include "libipc/log.h"
#include "libipc/pack.h"

#define PARK_S 50                /* the server allows 55 */
#define SILENCE_S 20             /* beyond that a poll is dead */
#define EARLY_MS 1000            /* an answer before that was not parked */
#define RETIRED_MS (3600 * 1000) /* a retired host asks once an hour whether it still is */
#define UNKNOWN_FAILURES 6       /* an unknown host starts at the longest back-off */
#define RESTARTS_FREE 5          /* see restart() */
#define FRUITLESS_MAX 5         /* see fruitless_ms() */
#define BACKOFF_MAX_MS 60000

uint64_t backoff_ms(unsigned failures)
{
	uint64_t whole = failures == 0 ? 0 : failures > 6 ? BACKOFF_MAX_MS : 1000ULL << (failures - 1);

	if (whole > BACKOFF_MAX_MS)
		whole = BACKOFF_MAX_MS;
	return whole - (whole ? randombytes_uniform((uint32_t)(whole / 2)) : 0);
}

/* -- When ------------------------------------------------------------------------------------------------------------------------------- */

static bool possible(const struct fetchd *fetchd)
{
	const struct state *state = &fetchd->state;

	return state->url[0] && (state->enrolled || state->token[0]) && fetchd->netd.channel && fetchd->netd.known && fetchd->netd.asked &&
	       !enroll_registering(fetchd);
}

/* From the loop, never at once: messages of netd that are already on their way ride along. */
static void schedule(struct fetchd *fetchd)
{
	struct poller *poll = &fetchd->poll;
	uint64_t now = loop_now_ms();

	if (poll->transfer || !possible(fetchd))
		return;
	loop_timer_set(poll->timer, poll->not_before > now ? poll->not_before - now : 0);
}

static void wait_at_least(struct poller *poll, uint64_t milliseconds)
{
	uint64_t until = loop_now_ms() + milliseconds;

	if (until > poll->not_before)
		poll->not_before = until;
}

/*
 * There is news: the poll under way is given up and the next one carries it. Each costs a connection, so a netd that had news all the time
 * would keep us busy: after a few quick ones in a row they come a second apart.
 */
static void restart(struct fetchd *fetchd)
{
	struct poller *poll = &fetchd->poll;

	if (poll->transfer) {
		bool quick = loop_now_ms() - poll->started < EARLY_MS;

		poll->restarts = quick ? poll->restarts + 1 : 0;
		if (poll->restarts > RESTARTS_FREE)
			wait_at_least(poll, EARLY_MS);
		link_cancel(&poll->transfer);
	}
	schedule(fetchd);
}

static void note_error(struct fetchd *fetchd, const char *code, const char *text)
{
	struct poller *poll = &fetchd->poll;

	/* Once for each new trouble, not once for each try. */
	if (strcmp(poll->last_error, text) != 0)
		log_warning("%s", text);
	(void)snprintf(poll->last_error, sizeof(poll->last_error), "%s", text);
	(void)snprintf(poll->last_code, sizeof(poll->last_code), "%s", code);
	poll->online = false;
}

static void failed(struct fetchd *fetchd, const char *code, const char *text)
{
	struct poller *poll = &fetchd->poll;

	note_error(fetchd, code, text);
	poll->failures++;
	poll->settled = false; /* the next one is not parked: it is to tell that the control plane is back */
	wait_at_least(poll, backoff_ms(poll->failures));
	schedule(fetchd);
}

/* -- Receipts ----------------------------------------------------------------------------------------------------------------------------- */

static void receipts_drop(struct poller *poll, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		free(poll->receipts[i].bytes);
	poll->receipt_count -= count;
	memmove(poll->receipts, poll->receipts + count, poll->receipt_count * sizeof(poll->receipts[0]));
	poll->receipts_sent = poll->receipts_sent > count ? poll->receipts_sent - count : 0;
}

void poll_receipt(struct fetchd *fetchd, struct view receipt)
{
	struct poller *poll = &fetchd->poll;
	struct waiting_receipt copy = { .bytes = malloc(receipt.n), .n = receipt.n };

	if (!copy.bytes) {
		log_error("no memory for a receipt of netd's; the control plane will not see it");
		return;
	}
	memcpy(copy.bytes, receipt.p, receipt.n);
	if (poll->receipt_count == RECEIPTS_MAX) {
		log_warning("%d receipts wait for the control plane; the oldest is dropped, the newer ones tell where this host stands",
			    RECEIPTS_MAX);
		receipts_drop(poll, 1);
	}
	poll->receipts[poll->receipt_count++] = copy;
	restart(fetchd);
}

/* -- The question ------------------------------------------------------------------------------------------------------------------------- */

static bool registration_is_news(const struct fetchd *fetchd)
{
	const struct poller *poll = &fetchd->poll;
	struct hash now;

	if (fetchd->netd.registration_n == 0)
		return false;
	hash_of(fetchd->netd.registration, fetchd->netd.registration_n, &now);
	return !poll->registration_known || !hash_equal(&now, &poll->registration);
}

static void answered(struct link_answer *answer, void *arg);

static void start(void *arg)
{
	struct fetchd *fetchd = arg;
	struct poller *poll = &fetchd->poll;
	const struct netd_channel *netd = &fetchd->netd;
	struct pack_writer body = { 0 };
	struct link_request request = {
		.url = fetchd->state.url,
		.ca = fetchd->state.ca,
		.path = "/v1/agent/poll",
		.proof = LINK_SIGNED,
		.host = netd->host,
		.answer_max = ANSWER_BYTES_MAX,
	};
	bool news = registration_is_news(fetchd);
	int r;

	if (poll->transfer || !possible(fetchd))
		return;
	poll->parks = poll->receipt_count == 0 && !news && poll->settled;
	poll->receipts_sent = poll->receipt_count;
	if (news)
		hash_of(netd->registration, netd->registration_n, &poll->registration_sent);
	pack_put_array(&body, 5);
	pack_put_bytes(&body, netd->nonce, sizeof(netd->nonce));
	pack_put_bytes(&body, netd->have, netd->have_n);
	pack_put_array(&body, poll->receipt_count);
	for (unsigned i = 0; i < poll->receipt_count; i++)
		pack_put_bytes(&body, poll->receipts[i].bytes, poll->receipts[i].n);
	pack_put_bytes(&body, netd->registration, news ? netd->registration_n : 0);
	pack_put_u64(&body, poll->parks ? PARK_S : 0);
	request.body = (struct view){ body.bytes, body.n };
	request.patience_s = SILENCE_S + (poll->parks ? PARK_S : 0);
	poll->started = loop_now_ms();
	r = body.error < 0 ? body.error : link_start(fetchd->link, &request, answered, fetchd, &poll->transfer);
	pack_writer_free(&body);
	if (r < 0)
		failed(fetchd, "local", strerror(-r));
}

/* -- The answer --------------------------------------------------------------------------------------------------------------------------- */

void stash_to_cache(struct fetchd *fetchd)
{
	struct stash *stash = &fetchd->stash;

	for (size_t i = 0; i < stash->count; i++)
		cache_put(&fetchd->cache, &stash->blobs[i].name, stash->blobs[i].bytes.p, stash->blobs[i].bytes.n);
	stash_free(stash);
}

static void refused(struct fetchd *fetchd, const struct link_answer *answer)
{
	struct poller *poll = &fetchd->poll;

	if (answer->status == 410) {
		poll->standing = STANDING_RETIRED;
		note_error(fetchd, answer->code, answer->text);
		log_notice("the control plane retired this host: polling stops but for one try an hour; `loopback leave --forget-keys` makes a new identity");
		wait_at_least(poll, RETIRED_MS);
		schedule(fetchd);
		return;
	}
	if (answer->status == 401 && strcmp(answer->code, "unknown-host") == 0) {
		if (fetchd->state.token[0]) {
			enroll_resume(fetchd);
			return;
		}
		poll->standing = STANDING_UNKNOWN_HOST;
		if (poll->failures < UNKNOWN_FAILURES)
			poll->failures = UNKNOWN_FAILURES;
	}
	if (answer->status == 401 && strcmp(answer->code, "signature") == 0 && strcmp(poll->last_error, answer->text) != 0)
		log_warning("has this host's transport key changed (a new state folder)? Then a new enrolment makes it known: loopback enroll");
	if (answer->status == 413 && poll->receipt_count > 0) {
		log_warning("the control plane finds the poll too large; the oldest receipt is dropped");
		receipts_drop(poll, 1);
	}
	failed(fetchd, answer->code, answer->text);
}

static void good(struct fetchd *fetchd)
{
	struct poller *poll = &fetchd->poll;
	struct timespec now;

	if (!poll->online)
		log_info("in touch with the control plane at %s", fetchd->state.url);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	poll->last_answer = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	poll->online = true;
	poll->standing = STANDING_GOOD;
	poll->last_error[0] = poll->last_code[0] = '\0';
	poll->failures = 0;
	poll->early = poll->parks && loop_now_ms() - poll->started < EARLY_MS;
	receipts_drop(poll, poll->receipts_sent);
	poll->receipts_sent = 0;
	if (registration_is_news(fetchd)) {
		poll->registration = poll->registration_sent;
		poll->registration_known = true;
	}
	/* An enrolment whose answer we did not live to see. */
	if (fetchd->state.token[0] && state_enrolled(&fetchd->state) < 0)
		log_warning("the next start of fetchd takes the enrolment up again");
}

static void answered(struct link_answer *answer, void *arg)
{
	struct fetchd *fetchd = arg;
	struct view keyset, head;
	int r;

	if (answer->error) {
		failed(fetchd, answer->code, answer->text);
		return;
	}
	if (answer->status != 200) {
		refused(fetchd, answer);
		return;
	}
	stash_to_cache(fetchd);
	r = poll_answer_open(&answer->body, answer->n, &keyset, &head, &fetchd->stash);
	if (r < 0 || head.n == 0) {
		char text[LINK_TEXT_BYTES];

		(void)snprintf(text, sizeof(text), "%.128s: the answer to a poll is not one (%zu bytes): is this a control plane?",
			       fetchd->state.url, answer->n);
		failed(fetchd, LINK_CODE_PROTOCOL, text);
		return;
	}
	good(fetchd);
	r = keyset.n ? netd_send_keyset(fetchd, keyset) : 0;
	if (r == 0)
		r = netd_send_offer(fetchd, head);
	if (r < 0) {
		(void)log_errno(r, "cannot hand netd what the control plane answered");
		schedule(fetchd);
	}
}

/* No longer than 16 s: whoever mends what netd refuses waits for the next poll. */
static uint64_t fruitless_ms(const struct poller *poll)
{
	return backoff_ms(poll->fruitless < FRUITLESS_MAX ? poll->fruitless : FRUITLESS_MAX);
}

/* -- What the others tell ----------------------------------------------------------------------------------------------------------------- */

int poll_init(struct fetchd *fetchd)
{
	return loop_timer_new(fetchd->loop, start, fetchd, &fetchd->poll.timer);
}

void poll_stop(struct fetchd *fetchd)
{
	link_cancel(&fetchd->poll.transfer);
	receipts_drop(&fetchd->poll, fetchd->poll.receipt_count);
	loop_timer_free(&fetchd->poll.timer);
}

void poll_asked(struct fetchd *fetchd)
{
	struct poller *poll = &fetchd->poll;

	if (fetchd->netd.offered) { /* no word about the last head, and already the next question */
		fetchd->netd.offered = false;
		poll->fruitless++;
		wait_at_least(poll, fruitless_ms(poll));
	}
	restart(fetchd); /* a poll under way carries a nonce that is no longer outstanding */
}

void poll_judged(struct fetchd *fetchd, uint64_t outcome)
{
	struct poller *poll = &fetchd->poll;
	bool good_outcome = outcome == OUTCOME_applied || outcome == OUTCOME_unchanged;

	poll->settled = outcome == OUTCOME_unchanged;
	if (outcome == OUTCOME_applied || (outcome == OUTCOME_unchanged && !poll->early))
		poll->fruitless = 0;
	else
		poll->fruitless++;
	/* The first refusal is told at once; then the same offer would be refused as fast as three processes can go round. */
	if (poll->fruitless > (good_outcome ? 0U : 1U))
		wait_at_least(poll, fruitless_ms(poll));
}

void poll_identity_changed(struct fetchd *fetchd)
{
	if (registration_is_news(fetchd))
		restart(fetchd);
	else
		schedule(fetchd);
}

void poll_netd_gone(struct fetchd *fetchd)
{
	link_cancel(&fetchd->poll.transfer);
	loop_timer_stop(fetchd->poll.timer);
	fetchd->poll.settled = false;
	stash_to_cache(fetchd);
}

void poll_registered(struct fetchd *fetchd, const struct hash *registration)
{
	struct poller *poll = &fetchd->poll;

	poll->registration = *registration;
	poll->registration_known = true;
}

void poll_reset(struct fetchd *fetchd)
{
	struct poller *poll = &fetchd->poll;

	link_cancel(&poll->transfer);
	loop_timer_stop(poll->timer);
	poll->not_before = 0;
	poll->failures = poll->fruitless = poll->restarts = 0;
	poll->registration_known = poll->online = poll->settled = false;
	poll->standing = STANDING_GOOD;
	poll->last_error[0] = poll->last_code[0] = '\0';
	schedule(fetchd);
}
