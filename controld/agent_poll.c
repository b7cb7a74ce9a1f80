/* SPDX-License-Identifier: Apache-2.0 */
/* A poll: what the host tells is taken in, then it waits for what is new. And blobs by name. */
#include <errno.h>
#include <string.h>

#include "controld/agent.h"
#include "controld/documents.h"
#include "controld/duplicates.h"
#include "controld/health.h"
#include "controld/polls.h"
#include "controld/registration.h"
#include "libipc/log.h"

#define WAIT_MAX_S 55
#define RECEIPTS_MAX 32
#define BLOBS_MAX 4096

struct poll_body {
	uint8_t nonce[32];
	struct view have, registration;
	struct view receipts[RECEIPTS_MAX];
	uint32_t receipt_count;
	unsigned wait;
};

static int poll_malformed(struct agent_call *call)
{
	return problem_set(&call->problem, 400, "malformed", "poll: expected [nonce, have, [receipt ...], registration, wait].");
}

static int poll_read(struct agent_call *call, struct pack_reader *reader, struct poll_body *poll)
{
	static const struct pack_limits limits = { .bytes = AGENT_BODY_MAX, .depth = 2, .elements = 8 + RECEIPTS_MAX };
	struct pack_cursor body, receipts;

	if (pack_open(reader, call->request->body, call->request->n, &limits, &body) < 0)
		return poll_malformed(call);
	pack_fixed(&body, poll->nonce, sizeof(poll->nonce));
	poll->have = pack_bytes(&body, AGENT_BODY_MAX);
	poll->receipt_count = pack_array(&body, 0, RECEIPTS_MAX, &receipts);
	for (uint32_t i = 0; i < poll->receipt_count; i++)
		poll->receipts[i] = pack_bytes(&receipts, ENVELOPE_BYTES_MAX);
	pack_close(&body, &receipts);
	poll->registration = pack_bytes(&body, ENVELOPE_BYTES_MAX);
	poll->wait = (unsigned)pack_u64(&body, WAIT_MAX_S);
	return pack_done(&body) < 0 ? poll_malformed(call) : 0;
}

/* First what changes the host's place in the mesh, then what it did with the last one. */
static int poll_take_in(struct agent_call *call, const struct poll_body *poll)
{
	int r = 0;

	if (poll->registration.n > 0)
		r = registration_update(call->controld, &call->host, poll->registration, call->seen[0] ? call->seen : NULL, &call->problem);
	else if (call->seen[0])
		r = registration_seen(call->controld, &call->host, call->seen, &call->problem);
	for (uint32_t i = 0; i < poll->receipt_count && r == 0; i++)
		r = receipt_take(call->controld, &call->host, call->host_key, poll->receipts[i]);
	return r;
}

/* The second of two machines learns that it is in no network: a document for its nonce alone, which no other host is ever shown. */
static int silence(struct agent_call *call, const struct poll_body *poll)
{
	_cleanup_writer_ struct pack_writer head = { 0 }, document = { 0 }, answer = { 0 };
	_cleanup_change_ struct change change = { 0 };
	int r = change_begin(call->controld, &change);

	if (r == 0)
		r = host_silence(call->controld, &call->host, poll->nonce, &head, &document, &change.problem);
	if (r == 0)
		r = change_commit(&change);
	if (r < 0) {
		log_warning("the second machine of a host cannot be silenced yet: %s", change.problem.detail);
		return -EREMOTEIO; /* it is refused, and asks again */
	}
	machine_silenced(call->controld, &call->host);
	polls_wake_host(call->controld, &call->host);
	pack_put_array(&answer, 3);
	pack_put_bytes(&answer, call->controld->keyset_bytes, call->controld->keyset_n);
	pack_put_bytes(&answer, head.bytes, head.n);
	pack_put_array(&answer, 1);
	pack_put_bytes(&answer, document.bytes, document.n);
	if (answer.error)
		return answer.error;
	agent_answer(call, &answer);
	return 0;
}

int agent_poll(struct agent_call *call)
{
	_cleanup_reader_ struct pack_reader reader = { 0 };
	struct head_entry have[HEAD_ENTRIES_MAX];
	struct poll_body poll;
	struct poll_question question = { .host = call->host, .have = have };
	int count = 0;
	bool was_fine;
	int r = poll_read(call, &reader, &poll);

	if (r < 0)
		return r;
	if (poll.have.n > 0)
		count = have_decode(poll.have.p, poll.have.n, have);
	if (count < 0)
		return poll_malformed(call);
	r = machine_polls(call);
	if (r == MACHINE_SILENCE)
		return silence(call, &poll);
	if (r != MACHINE_HOLDS)
		return r < 0 ? r : -EREMOTEIO;
	was_fine = caller_is_fine(call->controld, &call->host);
	r = caller_polled(call->controld, &call->host);
	/* One that was not heard of is back, or nothing is known of it yet. If that cannot be written down it is told all the same: it is not what it asks for. */
	if (r == 0 && !was_fine && health_settle_alone(call->controld, &call->host) < 0)
		log_debug("the host's state is judged again with those of all");
	if (r == 0)
		r = poll_take_in(call, &poll);
	if (r < 0)
		return r;
	memcpy(question.nonce, poll.nonce, sizeof(question.nonce));
	question.have_count = (unsigned)count;
	question.wait = poll.wait;
	return poll_begin(call->controld, call->request, &question);
}

/* -- Blobs ------------------------------------------------------------------------------------------------------------------------- */

/* The networks of a host, those that it reaches over a bridge included; the host is the statement's second parameter. */
#define REACHED                                                                                                  \
	"(SELECT network FROM memberships WHERE host = $2 AND waits = 0 UNION SELECT e.other FROM memberships m" \
	" JOIN bridge_ends e ON e.network = m.network AND e.named = 1 WHERE m.host = $2 AND m.waits = 0)"

/* A host gets nodes and documents of the networks that it reaches, its own document, and nothing else. */
static int blob_find(struct agent_call *call, const struct hash *name, struct rows *rows, struct view *bytes)
{
	int r = store_first(call->controld->store, rows,
			    "SELECT n.bytes FROM nodes n WHERE n.name = $1 AND n.network IN " REACHED
			    " UNION ALL SELECT l.bytes FROM list_nodes l WHERE l.name = $1 AND l.network IN " REACHED,
			    "hd", name, &call->host);

	if (r == -ENOENT)
		r = store_first(call->controld->store, rows,
				"SELECT d.envelope FROM documents d WHERE d.type IN (3, 8) AND d.hash = $1 AND d.id IN " REACHED, "hd", name,
				&call->host);
	if (r == -ENOENT)
		r = store_first(call->controld->store, rows, "SELECT envelope FROM documents WHERE type = 4 AND id = $1 AND hash = $2", "dh",
				&call->host, name);
	if (r == 0)
		*bytes = row_bytes(rows, 0);
	return r;
}

static int blobs_collect(struct agent_call *call, struct pack_cursor *names, uint32_t count, struct pack_writer *blobs, uint32_t *found)
{
	_cleanup_rows_ struct rows rows = { 0 };

	for (uint32_t i = 0; i < count; i++) {
		struct view bytes;
		struct hash name;
		int r;

		pack_fixed(names, name.b, sizeof(name.b));
		if (names->error)
			return 0;
		r = blob_find(call, &name, &rows, &bytes);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		if (blobs->n + bytes.n > ANSWER_BYTES_MAX)
			continue; /* it is asked for again */
		pack_put_bytes(blobs, bytes.p, bytes.n);
		(*found)++;
	}
	return blobs->error;
}

int agent_blobs(struct agent_call *call)
{
	static const struct pack_limits limits = { .bytes = AGENT_BODY_MAX, .depth = 2, .elements = 4 + BLOBS_MAX };
	_cleanup_reader_ struct pack_reader reader = { 0 };
	_cleanup_writer_ struct pack_writer blobs = { 0 }, answer = { 0 };
	struct pack_cursor body, names;
	uint32_t count, found = 0;
	int r;

	if (pack_open(&reader, call->request->body, call->request->n, &limits, &body) < 0)
		return problem_set(&call->problem, 400, "malformed", "blobs: expected [[hash ...]].");
	count = pack_array(&body, 0, BLOBS_MAX, &names);
	r = blobs_collect(call, &names, count, &blobs, &found);
	pack_close(&body, &names);
	if (r == 0 && pack_done(&body) < 0)
		return problem_set(&call->problem, 400, "malformed", "blobs: expected [[hash ...]], each of 32 bytes.");
	if (r < 0)
		return r;
	pack_put_array(&answer, 1);
	pack_put_array(&answer, found);
	pack_put_raw(&answer, blobs.bytes, blobs.n);
	if (answer.error)
		return answer.error;
	agent_answer(call, &answer);
	return 0;
}
