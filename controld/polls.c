/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/polls.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "controld/agent.h"
#include "controld/diffs.h"
#include "controld/documents.h"
#include "controld/duplicates.h"
#include "controld/http.h"
#include "controld/reconcile.h"
#include "libipc/log.h"

#define TICK_MS 500      /* how exactly a wait ends */
#define ATTEMPTS_MAX 3   /* heads asked for before the host is sent away, while nothing changes */
#define OVERTAKEN_MS 15000 /* how long changes may overtake its heads before the host is sent away; fetchd waits for 20 s at least */
#define TELLING_MIN 100  /* a batch of more keeps those who were told from those who were not, see http.c */
#define CALM_DIVISOR 20  /* after a batch of n answers the next waits n/20 ms: a storm of changes is told in batches */
#define CALM_MIN_MS 100  /* but at least so long: a host whose every answer is followed by two polls makes no more than 20 a second, of 48 */

struct poll {
	struct poll *next, *previous;
	struct controld *controld;
	struct request *request;
	struct id host, organization;
	uint8_t nonce[32];
	uint64_t deadline; /* loop_now_ms() */
	bool woken;        /* something changed: to be answered with the next batch */
	bool asking;       /* a head is on its way */
	unsigned attempts;
	uint64_t overtaken; /* since when changes overtake its heads, loop_now_ms(); 0: they do not */
	unsigned have_count, named_count;
	struct head_entry *have;  /* of the host */
	struct head_entry *named; /* in the head that is on its way; NULL otherwise */
	unsigned network_count;
	struct id networks[];     /* whose changes concern it */
};

struct polls {
	struct controld *controld;
	struct poll *first;
	struct idmap by_host;
	struct loop_timer *tick, *batch;
	uint64_t calm_until;
	bool batch_due;
	bool telling;     /* a batch of many is under way */
	bool overtaken;   /* changes overtook the last batch */
	bool holding;     /* so they wait for this one */
	unsigned asking;  /* polls whose heads are on their way */
};

static void poll_ask(struct poll *poll);
static void batch_soon(struct polls *polls);

/* -- The list ------------------------------------------------------------------------------------------------------------------------ */

/* It has its head, or never will. */
static void asked(struct poll *poll)
{
	struct polls *polls = poll->controld->polls;

	poll->asking = false;
	if (--polls->asking > 0 || (!polls->telling && !polls->holding))
		return;
	polls->telling = polls->holding = false;
	http_release(poll->controld->http);
}

bool polls_telling(const struct controld *controld)
{
	return controld->polls->telling;
}

bool polls_hold_changes(const struct controld *controld)
{
	return controld->polls->holding;
}

static void poll_unlink(struct poll *poll)
{
	struct polls *polls = poll->controld->polls;

	if (poll->previous)
		poll->previous->next = poll->next;
	else
		polls->first = poll->next;
	if (poll->next)
		poll->next->previous = poll->previous;
	if (idmap_get(&polls->by_host, &poll->host) == poll)
		(void)idmap_remove(&polls->by_host, &poll->host);
	if (poll->request)
		poll->request->poll = NULL;
	if (poll->asking) {
		signer_forget(poll->controld->signer, poll);
		asked(poll);
	}
	free(poll->have);
	free(poll->named);
	free(poll);
}

static void poll_refuse(struct poll *poll, unsigned status, const char *code, const char *detail)
{
	struct problem problem = { 0 };
	struct request *request = poll->request;

	(void)problem_set(&problem, status, code, "%s", detail);
	poll_unlink(poll);
	agent_refuse(request, &problem);
}

void poll_abandon(_unused_ struct controld *controld, struct request *request)
{
	struct poll *poll = request->poll;

	if (poll)
		poll_unlink(poll);
}

static const struct head_entry *entry_find(const struct head_entry *entries, unsigned count, const struct head_entry *like)
{
	for (unsigned i = 0; i < count; i++)
		if (entries[i].type == like->type && id_equal(&entries[i].id, &like->id))
			return &entries[i];
	return NULL;
}

/* Would the host learn anything? */
static bool news(const struct head_entry *have, unsigned have_count, const struct head_entry *named, unsigned named_count)
{
	if (have_count != named_count)
		return true;
	for (unsigned i = 0; i < named_count; i++) {
		const struct head_entry *entry = entry_find(have, have_count, &named[i]);

		if (!entry || !hash_equal(&entry->hash, &named[i].hash))
			return true;
	}
	return false;
}

static void digest_of(const struct head_entry *have, unsigned have_count, const struct head_entry *named, unsigned named_count,
		      struct hash *digest)
{
	crypto_generichash_state state;

	(void)crypto_generichash_init(&state, NULL, 0, HASH_BYTES);
	for (unsigned i = 0; i < have_count; i++)
		(void)crypto_generichash_update(&state, have[i].hash.b, HASH_BYTES);
	for (unsigned i = 0; i < named_count; i++)
		(void)crypto_generichash_update(&state, named[i].hash.b, HASH_BYTES);
	(void)crypto_generichash_final(&state, digest->b, HASH_BYTES);
}

/* -- The answer ---------------------------------------------------------------------------------------------------------------------- */

/* An answer that is being put together: a host's own part, and nodes that many hosts get. */
struct parts {
	struct pack_writer own;
	uint32_t count;    /* of blobs */
	size_t shared_bytes;
	unsigned shared_count;
	struct shared *shared[HEAD_ENTRIES_MAX];
};

static void parts_free(struct parts *parts)
{
	pack_writer_free(&parts->own);
	for (unsigned i = 0; i < parts->shared_count; i++)
		shared_drop(parts->shared[i]);
}

static int parts_nodes(struct poll *poll, const struct head_entry *entry, const struct head_entry *had, struct parts *parts)
{
	static const struct hash none;
	struct shared *nodes;
	int r = diffs_get(poll->controld, &entry->id, had ? &had->root : &none, &entry->root, &nodes);

	if (r < 0)
		return r;
	if (nodes->n == 0 || parts->shared_bytes + nodes->n > ANSWER_BYTES_MAX) { /* several large networks at once: all of this one is asked for by name */
		shared_drop(nodes);
		return 0;
	}
	parts->shared[parts->shared_count++] = nodes;
	parts->shared_bytes += nodes->n;
	parts->count += nodes->count;
	return 0;
}

static int parts_entry(struct poll *poll, const struct head_entry *entry, struct pack_writer *documents, struct parts *parts)
{
	const struct head_entry *had = entry_find(poll->have, poll->have_count, entry);
	int r;

	if (entry->type == DOC_keyset || (had && hash_equal(&had->hash, &entry->hash)))
		return 0;
	r = document_append(poll->controld, entry, documents);
	if (r < 0)
		return r == -ENOENT ? -EAGAIN : r; /* it was replaced while the head was signed */
	parts->count++;
	if ((entry->type != DOC_network && entry->type != DOC_admission) || (had && hash_equal(&had->root, &entry->root)))
		return 0;
	return parts_nodes(poll, entry, had, parts);
}

static int parts_write(struct poll *poll, struct view head, struct parts *parts)
{
	_cleanup_writer_ struct pack_writer documents = { 0 };
	const struct head_entry *had = entry_find(poll->have, poll->have_count, &poll->named[0]);
	bool keyset_news = !had || !hash_equal(&had->hash, &poll->named[0].hash);
	int r = 0;

	for (unsigned i = 0; i < poll->named_count && r == 0; i++)
		r = parts_entry(poll, &poll->named[i], &documents, parts);
	if (r < 0)
		return r;
	pack_put_array(&parts->own, 3);
	pack_put_bytes(&parts->own, poll->controld->keyset_bytes, keyset_news ? poll->controld->keyset_n : 0);
	pack_put_bytes(&parts->own, head.p, head.n);
	pack_put_array(&parts->own, parts->count);
	pack_put_raw(&parts->own, documents.bytes, documents.n);
	return parts->own.error;
}

/*
 * Has something changed while the head was signed? Then nothing is wrong, and asking at once would only be overtaken by the next change: while hosts join by the
 * hundred a second, three heads in a row would be. It is told with the next batch.
 */
static bool overtaken(struct poll *poll)
{
	struct head_entry now[HEAD_ENTRIES_MAX];
	struct id organization;
	uint64_t ms = loop_now_ms();
	int count = documents_current(poll->controld, &poll->host, &organization, now);

	if (count <= 0 || !news(now, (unsigned)count, poll->named, poll->named_count))
		return false;
	if (!poll->overtaken)
		poll->overtaken = ms;
	if (ms - poll->overtaken > OVERTAKEN_MS)
		return false;
	poll->attempts = 0;
	poll->woken = true;
	poll->controld->polls->overtaken = true;
	batch_soon(poll->controld->polls);
	return true;
}

/* signd does not know what we named, and nothing has changed since: a crash left the two apart. */
static void head_refused(struct poll *poll, const struct sign_refusal *refusal)
{
	log_warning("signd: %s; bringing both level", refusal->reason);
	if (reconcile_host(poll->controld, &poll->host) < 0)
		poll_refuse(poll, 503, "signer-unavailable", "The signer and the control plane differ; try again.");
	else
		poll_ask(poll);
}

static void on_head(void *arg, int result, struct view head, const struct sign_refusal *refusal)
{
	struct parts parts = { .count = 0 };
	struct poll *poll = arg;
	struct request *request = poll->request;
	int r = result;

	asked(poll);
	if (r == 0)
		r = parts_write(poll, head, &parts);
	if (r == 0) {
		machine_was_answered(poll->controld, &poll->host);
		poll_unlink(poll);
		request_answer_shared(request, 200, "application/msgpack", parts.own.bytes, parts.own.n, parts.shared, parts.shared_count);
		return;
	}
	parts_free(&parts);
	if ((r == -EPERM || r == -EAGAIN) && overtaken(poll))
		return;
	if (poll->attempts >= ATTEMPTS_MAX)
		poll_refuse(poll, 503, r == -ECOMM || r == -EPERM ? "signer-unavailable" : "busy",
			    "No head could be signed for this host; try again.");
	else if (r == -EPERM)
		head_refused(poll, refusal);
	else if (r == -ECOMM || r == -EAGAIN)
		poll_ask(poll);
	else
		poll_refuse(poll, 503, "busy", "The control plane could not put the answer together; try again.");
}

/* What is current for the host, to be named in a head. */
static int poll_name(struct poll *poll)
{
	struct head_entry named[HEAD_ENTRIES_MAX];
	int count = documents_current(poll->controld, &poll->host, &poll->organization, named);
	struct head_entry *copy;

	if (count < 0)
		return count;
	copy = malloc((size_t)count * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, named, (size_t)count * sizeof(*copy));
	free(poll->named);
	poll->named = copy;
	poll->named_count = (unsigned)count;
	return 0;
}

static int head_request(struct poll *poll)
{
	uint8_t buffer[ENVELOPE_BYTES_MAX];
	struct pack_writer payload = pack_writer_over(buffer, sizeof(buffer));
	struct head head;
	int r = poll_name(poll);

	if (r < 0)
		return r;
	head.header = (struct document_header){ .deployment = poll->controld->keyset.header.deployment,
						.organization = poll->organization,
						.id = poll->host,
						.epoch = poll->controld->keyset.header.epoch,
						.generation = poll->named[1].generation, /* the host's own document */
						.issued = (uint64_t)time(NULL) };
	head.host = poll->host;
	memcpy(head.nonce, poll->nonce, sizeof(head.nonce));
	head.count = poll->named_count;
	memcpy(head.entries, poll->named, poll->named_count * sizeof(head.entries[0]));
	r = head_encode(&head, &payload);
	if (r == 0)
		r = signer_head(poll->controld->signer, (struct view){ payload.bytes, payload.n }, on_head, poll);
	return r;
}

/* Ask signd for a head; its answer is the host's. */
static void poll_ask(struct poll *poll)
{
	int r;

	poll->woken = false;
	poll->attempts++;
	r = head_request(poll);
	if (r == 0) {
		poll->asking = true;
		poll->controld->polls->asking++;
	} else if (r == -ECOMM)
		poll_refuse(poll, 503, "signer-unavailable", "The signer does not answer; try again.");
	else if (r == -ENOENT)
		poll_refuse(poll, 410, "retired", "This host has no documents any more.");
	else
		poll_refuse(poll, 503, "busy", "The control plane could not ask for a head; try again.");
}

/* -- Waiting -------------------------------------------------------------------------------------------------------------------------- */

static struct poll *poll_new(struct controld *controld, struct request *request, const struct poll_question *question,
			     const struct head_entry *named, unsigned named_count)
{
	size_t have_bytes = question->have_count * sizeof(question->have[0]);
	struct poll *poll = calloc(1, sizeof(*poll) + named_count * sizeof(poll->networks[0]));

	if (!poll)
		return NULL;
	poll->controld = controld;
	poll->request = request;
	poll->host = question->host;
	memcpy(poll->nonce, question->nonce, sizeof(poll->nonce));
	poll->have = malloc(have_bytes ? have_bytes : 1);
	if (!poll->have) {
		free(poll);
		return NULL;
	}
	memcpy(poll->have, question->have, have_bytes);
	poll->have_count = question->have_count;
	for (unsigned i = 0; i < named_count; i++)
		if (named[i].type == DOC_network)
			poll->networks[poll->network_count++] = named[i].id;
	return poll;
}

static int poll_link(struct poll *poll)
{
	struct polls *polls = poll->controld->polls;
	struct poll *before = idmap_get(&polls->by_host, &poll->host);

	if (before) /* its connection is gone, only we have not heard of it yet */
		poll_refuse(before, 409, "superseded", "A later poll of this host came in.");
	if (idmap_put(&polls->by_host, &poll->host, poll) < 0)
		return -ENOMEM;
	poll->next = polls->first;
	if (poll->next)
		poll->next->previous = poll;
	else
		loop_timer_set(polls->tick, TICK_MS);
	polls->first = poll;
	poll->request->poll = poll;
	return 0;
}

bool poll_is_parked(const struct controld *controld, const struct id *host)
{
	const struct poll *poll = idmap_get(&controld->polls->by_host, host);

	return poll && request_alive(poll->request);
}

int poll_begin(struct controld *controld, struct request *request, const struct poll_question *question)
{
	struct head_entry named[HEAD_ENTRIES_MAX];
	struct id organization;
	struct poll *poll;
	struct hash digest;
	uint64_t wait = (uint64_t)question->wait * 1000;
	unsigned delay;
	int count = documents_current(controld, &question->host, &organization, named);

	if (count < 0)
		return count;
	poll = poll_new(controld, request, question, named, (unsigned)count);
	if (!poll)
		return -ENOMEM;
	if (poll_link(poll) < 0) {
		free(poll->have);
		free(poll);
		return -ENOMEM;
	}
	if (news(question->have, question->have_count, named, (unsigned)count)) {
		digest_of(question->have, question->have_count, named, (unsigned)count, &digest);
		delay = caller_delay(controld, &question->host, &digest);
		wait = delay < wait ? delay : wait;
	}
	poll->deadline = loop_now_ms() + wait;
	if (wait == 0)
		poll_ask(poll);
	return 0;
}

static void on_tick(void *arg)
{
	struct polls *polls = arg;
	uint64_t now = loop_now_ms();
	struct poll *next;

	for (struct poll *poll = polls->first; poll; poll = next) {
		next = poll->next;
		if (!poll->asking && !poll->woken && poll->deadline <= now)
			poll_ask(poll);
	}
	if (polls->first)
		loop_timer_set(polls->tick, TICK_MS);
}

/* -- Waking ---------------------------------------------------------------------------------------------------------------------------- */

static void on_batch(void *arg)
{
	struct polls *polls = arg;
	struct poll *next;
	unsigned count = 0;

	polls->batch_due = false;
	for (struct poll *poll = polls->first; poll; poll = next) {
		next = poll->next;
		if (!poll->woken || poll->asking)
			continue;
		poll_ask(poll);
		count++;
	}
	polls->telling = polls->asking > TELLING_MIN;
	polls->holding = polls->asking > 0 && polls->overtaken;
	polls->overtaken = false;
	if (count)
		polls->calm_until = loop_now_ms() + (count / CALM_DIVISOR > CALM_MIN_MS ? count / CALM_DIVISOR : CALM_MIN_MS);
}

static void batch_soon(struct polls *polls)
{
	uint64_t now = loop_now_ms();

	if (polls->batch_due)
		return;
	polls->batch_due = true;
	loop_timer_set(polls->batch, polls->calm_until > now ? polls->calm_until - now : 0);
}

void polls_wake_network(struct controld *controld, const struct id *network)
{
	for (struct poll *poll = controld->polls->first; poll; poll = poll->next)
		for (unsigned i = 0; i < poll->network_count && !poll->woken; i++)
			poll->woken = id_equal(&poll->networks[i], network);
	batch_soon(controld->polls);
}

void polls_wake_host(struct controld *controld, const struct id *host)
{
	struct poll *poll = idmap_get(&controld->polls->by_host, host);

	if (!poll)
		return;
	poll->woken = true;
	batch_soon(controld->polls);
}

void polls_wake_all(struct controld *controld)
{
	for (struct poll *poll = controld->polls->first; poll; poll = poll->next)
		poll->woken = true;
	batch_soon(controld->polls);
}

int polls_new(struct controld *controld, struct polls **out)
{
	struct polls *polls = calloc(1, sizeof(*polls));

	if (!polls)
		return -ENOMEM;
	polls->controld = controld;
	if (loop_timer_new(controld->loop, on_tick, polls, &polls->tick) < 0 ||
	    loop_timer_new(controld->loop, on_batch, polls, &polls->batch) < 0) {
		loop_timer_free(&polls->tick);
		free(polls);
		return -ENOMEM;
	}
	*out = polls;
	return 0;
}

void polls_free(struct polls *polls)
{
	if (!polls)
		return;
	while (polls->first) /* the server does not stop while connections sleep */
		poll_refuse(polls->first, 503, "busy", "The control plane restarts; ask again.");
	loop_timer_free(&polls->tick);
	loop_timer_free(&polls->batch);
	idmap_free(&polls->by_host);
	free(polls);
}
