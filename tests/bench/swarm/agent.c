/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/swarm/agent.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fetchd/sign_request.h"
#include "libdoc/host.h"
#include "libdoc/network.h"
#include "libdoc/trie.h"

#define PARK_S 50        /* as fetchd */
#define FETCH_MAX 4096   /* names in one request for blobs */
#define LISTEN_PORT 51820

uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void agent_count_anew(struct agent *agent)
{
	agent->requests = agent->body_bytes = agent->learned_ns = agent->acknowledged_ns = 0;
}

static void fail(struct agent *agent, const char *what, int r)
{
	struct swarm *swarm = agent->swarm;

	if (swarm->failures++ == 0)
		(void)snprintf(swarm->failure, sizeof(swarm->failure), "%s: %s", what, strerror(-r));
	agent->state = AGENT_IDLE;
	connection_close(&agent->connection);
}

void agent_make(struct agent *agent, struct swarm *swarm, uint64_t number)
{
	uint8_t seed[crypto_sign_SEEDBYTES], key[KEY_BYTES];
	char text[64];

	*agent = (struct agent){ .swarm = swarm, .connection = { .server = &swarm->server, .fd = -1 }, .signed_count = 1 };
	for (unsigned i = 0; i < 3; i++) {
		(void)snprintf(text, sizeof(text), "swarm %llu %u", (unsigned long long)number, i);
		(void)crypto_generichash(seed, sizeof(seed), (const uint8_t *)text, strlen(text), NULL, 0);
		if (i == 0)
			(void)crypto_sign_seed_keypair(key, agent->host_secret, seed);
		else if (i == 1)
			(void)crypto_sign_seed_keypair(key, agent->transport_secret, seed);
		else
			memcpy(agent->wg_key, seed, KEY_BYTES);
	}
	host_id_of(agent->host_secret + KEY_BYTES, &agent->id);
}

void agent_free(struct agent *agent)
{
	connection_close(&agent->connection);
	stash_free(&agent->stash);
	free(agent->missing);
}

/* -- Requests ------------------------------------------------------------------------------------------------------------------------ */

static int request(struct agent *agent, const char *path, const char *headers, const struct pack_writer *body, enum agent_state state)
{
	int r = body->error;

	agent->requests++;
	agent->body_bytes += body->n;
	if (r == 0)
		r = connection_send(&agent->connection, path, headers, (struct view){ body->bytes, body->n }, agent);
	agent->state = r < 0 ? AGENT_IDLE : state;
	return r;
}

static int signed_request(struct agent *agent, const char *path, const struct pack_writer *body, enum agent_state state)
{
	struct request_facts facts = { .method = "POST", .path = path, .body = { body->bytes, body->n }, .host = agent->id,
				       .created = (uint64_t)time(NULL) };
	struct request_signature signature;
	char headers[1024];
	int r;

	randombytes_buf(facts.nonce, sizeof(facts.nonce));
	memcpy(facts.mark, agent->wg_key, sizeof(facts.mark));
	r = sign_request(&facts, agent->transport_secret, &signature);
	if (r < 0)
		return r;
	(void)snprintf(headers, sizeof(headers), "Content-Type: application/msgpack\r\n%s\r\n%s\r\n%s\r\n", signature.digest, signature.input,
		       signature.signature);
	return request(agent, path, headers, body, state);
}

static struct document_header header_next(struct agent *agent)
{
	return (struct document_header){ .deployment = agent->swarm->deployment, .id = agent->id, .epoch = 1, .generation = agent->signed_count++,
					 .issued = (uint64_t)time(NULL) };
}

static int registration_write(struct agent *agent, struct pack_writer *envelope)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct registration registration = { .header = header_next(agent), .listen_port = LISTEN_PORT, .backend = "kernel", .version = "swarm" };
	int r;

	memcpy(registration.statement.host_key, agent->host_secret + KEY_BYTES, KEY_BYTES);
	memcpy(registration.statement.wg_key, agent->wg_key, KEY_BYTES);
	registration.statement.counter = 1;
	memcpy(registration.transport_key, agent->transport_secret + KEY_BYTES, KEY_BYTES);
	r = statement_sign(&registration.statement, &agent->swarm->deployment, agent->host_secret);
	if (r == 0)
		r = registration_encode(&registration, &payload);
	return r < 0 ? r : envelope_sign(DOC_registration, payload.bytes, payload.n, agent->host_secret, envelope);
}

int agent_enroll(struct agent *agent)
{
	_cleanup_writer_ struct pack_writer registration = { .bytes = NULL }, body = { .bytes = NULL };
	char headers[512], name[64], id[ID_TEXT];
	int r = registration_write(agent, &registration);

	(void)snprintf(name, sizeof(name), "s-%.16s", id_format(&agent->id, id));
	(void)snprintf(headers, sizeof(headers), "Content-Type: application/msgpack\r\nAuthorization: Bearer %s\r\n", agent->swarm->token);
	pack_put_array(&body, 2);
	pack_put_bytes(&body, registration.bytes, registration.n);
	pack_put_text(&body, name);
	return r < 0 ? r : request(agent, "/v1/agent/enroll", headers, &body, AGENT_ENROLLING);
}

static int receipt_write(struct agent *agent, struct pack_writer *envelope)
{
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL };
	struct receipt receipt = { .header = header_next(agent), .outcome = OUTCOME_applied, .entries = agent->held, .apply_us = 1000 };
	int r;

	receipt.count = agent->held_count;
	if (receipt.count && receipt.entries[0].type == DOC_keyset) {
		receipt.entries++;
		receipt.count--;
	}
	r = receipt_encode(&receipt, &payload);
	return r < 0 ? r : envelope_sign(DOC_receipt, payload.bytes, payload.n, agent->host_secret, envelope);
}

int agent_poll(struct agent *agent, bool park)
{
	_cleanup_writer_ struct pack_writer body = { .bytes = NULL }, have = { .bytes = NULL }, receipt = { .bytes = NULL };
	int r = agent->held_count ? have_encode(agent->held, agent->held_count, &have) : 0;

	if (r == 0 && agent->receipt_due)
		r = receipt_write(agent, &receipt);
	if (r < 0)
		return r;
	randombytes_buf(agent->nonce, sizeof(agent->nonce));
	pack_put_array(&body, 5);
	pack_put_bytes(&body, agent->nonce, sizeof(agent->nonce));
	pack_put_bytes(&body, have.bytes, have.n);
	pack_put_array(&body, agent->receipt_due);
	if (agent->receipt_due)
		pack_put_bytes(&body, receipt.bytes, receipt.n);
	pack_put_bytes(&body, NULL, 0);
	pack_put_u64(&body, park ? PARK_S : 0);
	agent->swarm->parked += park;
	return signed_request(agent, "/v1/agent/poll", &body, park ? AGENT_PARKED : AGENT_POLLING);
}

static int fetch(struct agent *agent)
{
	_cleanup_writer_ struct pack_writer body = { .bytes = NULL };
	unsigned count = agent->missing_count < FETCH_MAX ? agent->missing_count : FETCH_MAX;

	pack_put_array(&body, 1);
	pack_put_array(&body, count);
	for (unsigned i = 0; i < count; i++)
		pack_put_bytes(&body, agent->missing[i].b, HASH_BYTES);
	return signed_request(agent, "/v1/agent/blobs", &body, AGENT_FETCHING);
}

/* -- Answers ------------------------------------------------------------------------------------------------------------------------- */

static int lookup(const struct hash *name, struct view *bytes, void *arg)
{
	const struct named_blob *blob = stash_find(&((struct agent *)arg)->stash, name);

	if (!blob)
		return -ENOENT;
	*bytes = blob->bytes;
	return 0;
}

static int note_missing(const struct hash *name, void *arg)
{
	struct agent *agent = arg;
	struct hash *grown = reallocarray(agent->missing, agent->missing_count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	agent->missing = grown;
	agent->missing[agent->missing_count++] = *name;
	return 0;
}

static struct head_entry *entry_like(struct head_entry *entries, unsigned count, const struct head_entry *like)
{
	for (unsigned i = 0; i < count; i++)
		if (entries[i].type == like->type && id_equal(&entries[i].id, &like->id))
			return &entries[i];
	return NULL;
}

/*
 * Is what came all that the new trie needs? A host of the many was given what differs from its old root, and must not lack a node of it; nodes at the places of
 * old ones are not looked at, for the old ones are not kept here. A thorough one looks at everything there is.
 */
static int network_take(struct agent *agent, struct head_entry *entry, const struct head_entry *before)
{
	const struct trie_diff_events events = { .missing = note_missing };
	const struct named_blob *blob = stash_find(&agent->stash, &entry->hash);
	struct network_document network;
	struct envelope envelope;
	int r = blob ? envelope_open(blob->bytes.p, blob->bytes.n, &envelope) : -ENOENT;

	if (r == 0)
		r = keyset_verify(&agent->swarm->keyset, &envelope, KEY_ONLINE);
	if (r == 0)
		r = network_document_decode(envelope.payload, &network);
	if (r < 0)
		return r;
	entry->root = network.root;
	if (before && !hash_equal(&before->root, &network.root))
		return stash_find(&agent->stash, &network.root) ? 0 : -ENOENT; /* the root is in every difference */
	return before || !agent->thorough ? 0 : trie_diff(NULL, &network.root, lookup, &events, agent);
}

static int head_take(struct agent *agent, struct view bytes)
{
	struct envelope envelope;
	struct head head;
	int r = envelope_open(bytes.p, bytes.n, &envelope);

	if (r == 0)
		r = keyset_verify(&agent->swarm->keyset, &envelope, KEY_ONLINE);
	if (r == 0)
		r = head_decode(envelope.payload, &head);
	if (r == 0 && (!id_equal(&head.host, &agent->id) || memcmp(head.nonce, agent->nonce, sizeof(agent->nonce)) != 0))
		r = -EKEYREJECTED;
	if (r == 0 && head.count > HELD_MAX)
		r = -E2BIG;
	if (r < 0)
		return r;
	memcpy(agent->told, head.entries, head.count * sizeof(agent->told[0]));
	agent->told_count = head.count;
	return 0;
}

/* @return 1 there is something new; 0 nothing; negative errno */
static int judge(struct agent *agent)
{
	int news = agent->told_count != agent->held_count, r = 0;

	agent->missing_count = 0;
	for (unsigned i = 0; r == 0 && i < agent->told_count; i++) {
		struct head_entry *entry = &agent->told[i], *before = entry_like(agent->held, agent->held_count, entry);

		if (before && hash_equal(&before->hash, &entry->hash)) {
			entry->root = before->root;
			continue;
		}
		news = 1;
		if (entry->type == DOC_network)
			r = network_take(agent, entry, before);
	}
	return r < 0 ? r : news;
}

static int keyset_take(struct swarm *swarm, struct view bytes)
{
	struct envelope envelope;
	int r;

	if (swarm->keyset_known || bytes.n == 0)
		return 0;
	r = envelope_open(bytes.p, bytes.n, &envelope);
	if (r == 0)
		r = keyset_open(bytes.p, bytes.n, swarm->keyset.root, &swarm->keyset);
	swarm->keyset_known = r == 0;
	return r;
}

static int adopt(struct agent *agent)
{
	memcpy(agent->held, agent->told, sizeof(agent->held));
	agent->held_count = agent->told_count;
	agent->learned_ns = now_ns();
	agent->receipt_due = true;
	return agent_poll(agent, false);
}

static int on_poll(struct agent *agent, struct answer *answer)
{
	struct view keyset, head;
	int r;

	agent->swarm->parked -= agent->state == AGENT_PARKED;
	agent->state = AGENT_IDLE;
	if (answer->status != 200)
		return -EPROTO;
	stash_free(&agent->stash);
	r = poll_answer_open(&answer->body, answer->n, &keyset, &head, &agent->stash);
	if (r == 0)
		r = keyset_take(agent->swarm, keyset);
	if (r == 0)
		r = head_take(agent, head);
	if (r == 0 && agent->receipt_due) {
		agent->receipt_due = false;
		agent->acknowledged_ns = now_ns();
	}
	if (r == 0)
		r = judge(agent);
	if (r == 1 && agent->missing_count)
		return fetch(agent);
	stash_free(&agent->stash);
	return r < 0 ? r : r == 1 ? adopt(agent) : agent_poll(agent, true);
}

/* Those of a first answer that was cut at its largest. What came with it is counted as checked: names are hashes. */
static int on_blobs(struct agent *agent, struct answer *answer)
{
	struct stash more = { .body = NULL };
	int r = answer->status == 200 ? blobs_answer_open(&answer->body, answer->n, &more) : -EPROTO;
	unsigned asked = agent->missing_count < FETCH_MAX ? agent->missing_count : FETCH_MAX;

	for (unsigned i = 0; r == 0 && i < asked; i++)
		if (!stash_find(&more, &agent->missing[i]))
			r = -ENOENT;
	stash_free(&more);
	if (r < 0)
		return r;
	agent->missing_count -= asked;
	memmove(agent->missing, agent->missing + asked, agent->missing_count * sizeof(agent->missing[0]));
	return agent->missing_count ? fetch(agent) : adopt(agent);
}

void agent_event(struct agent *agent)
{
	struct answer answer = { .body = NULL };
	char what[64], id[ID_TEXT];
	int r;

	if (agent->state == AGENT_IDLE)
		return;
	r = connection_advance(&agent->connection, &answer);
	if (r == 0)
		return;
	if (r < 0) {
		agent->swarm->parked -= agent->state == AGENT_PARKED;
		fail(agent, "connection", r);
		return;
	}
	agent->body_bytes += answer.n;
	switch (agent->state) {
	case AGENT_ENROLLING:
		agent->state = AGENT_IDLE;
		agent->swarm->enrolled += answer.status == 200;
		r = answer.status == 200 ? 0 : -EPROTO;
		break;
	case AGENT_FETCHING:
		r = on_blobs(agent, &answer);
		break;
	default:
		r = on_poll(agent, &answer);
	}
	if (r < 0) {
		(void)snprintf(what, sizeof(what), "answer %u to host %.8s", answer.status, id_format(&agent->id, id));
		fail(agent, what, r);
	}
	free(answer.body);
}
