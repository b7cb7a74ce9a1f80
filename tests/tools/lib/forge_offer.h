/* SPDX-License-Identifier: Apache-2.0 */
/* forge's fetchd at work: heads, and the blobs that netd wants, as they should be or not. */
#pragma once

#include "libipc/memfd.h"
#include "tests/tools/lib/forge_talk.h"

#define BLOBS_A_MESSAGE 1000
#define BLOBS_BYTES_MAX (8 * 1024 * 1024) /* libipc/messages.def */

/* -- Heads ------------------------------------------------------------------------------------------------------------------- */

static void head_fill(struct forge *forge, struct words *words, const struct connection *connection, struct head *head)
{
	const char *networks = word_of(words, "networks"), *nonce = word_of(words, "nonce"), *deployment = word_of(words, "deployment");
	uint64_t claim = number_of(words, "claim", 0);
	bool lists = number_of(words, "lists", 1) != 0;
	struct lies lies = { .type = 0 };

	if (deployment)
		(void)snprintf(lies.deployment, sizeof(lies.deployment), "%s", deployment);
	head->header = header_next(forge, &forge->host, &lies, &forge->head_generation);
	head->host = forge->host;
	if (number_of(words, "other-host", 0))
		derive(forge, "another host", 0, head->host.b, ID_BYTES);
	memcpy(head->nonce, connection->nonce, sizeof(head->nonce));
	if (nonce && strcmp(nonce, "used") == 0)
		memcpy(head->nonce, connection->used, sizeof(head->nonce));
	else if (nonce)
		derive(forge, nonce, 3, head->nonce, sizeof(head->nonce));
	head->count = 0;
	head->entries[head->count] = entry_of(DOC_keyset, &forge->keyset.header, &forge->keyset_name);
	if (number_of(words, "other-keyset", 0))
		derive(forge, "another keyset", 0, head->entries[0].hash.b, HASH_BYTES);
	head->count++;
	if (number_of(words, "host", 1))
		head->entries[head->count++] = forge->host_entry;
	for (unsigned i = 0; i < forge->network_count; i++) {
		if (!named_in(&forge->networks[i], networks))
			continue;
		head->entries[head->count] = forge->networks[i].entry;
		head->entries[head->count++].generation += claim;
		if (forge->networks[i].list.type && lists)
			head->entries[head->count++] = forge->networks[i].list;
	}
	if (number_of(words, "twice", 0))
		head->entries[head->count++] = forge->host_entry;
}

/*
 * Lies about the head: sign=KEY type=network/1 nonce=used|random other-host=1 other-keyset=1 deployment=NAME networks=a,b host=0 lists=0
 * twice=1 claim=N (its networks' generations are so many too high), and about its bytes: replay=1 (the ones before once more)
 * truncate=BYTES (of its length) flip=BYTE tail=1
 */
static int head_make(struct forge *forge, struct words *words, const struct connection *connection, struct pack_writer *envelope)
{
	CLEANUP(pack_writer_free) struct pack_writer payload = { .bytes = NULL };
	_cleanup_free_ struct head *head = calloc(1, sizeof(*head));
	const char *signer = word_of(words, "sign");
	const struct named_key *key = key_named(forge, signer ? signer : "online");
	struct lies lies = { .type = 0 };
	uint64_t truncate, flip;
	int r;

	if (!head || !key)
		return -ENOMEM;
	head_fill(forge, words, connection, head);
	r = head_encode(head, &payload);
	if (r == 0)
		r = lies_read(forge, words, &lies);
	if (r == 0 && number_of(words, "replay", 0))
		pack_put_raw(envelope, forge->last_head.bytes, forge->last_head.n);
	else if (r == 0)
		r = envelope_sign(lies.type ? lies.type : DOC_head, payload.bytes, payload.n, key->secret, envelope);
	if (r < 0)
		return r;
	truncate = number_of(words, "truncate", envelope->n);
	flip = number_of(words, "flip", UINT64_MAX);
	if (number_of(words, "tail", 0))
		pack_put_raw(envelope, "", 1);
	else if (truncate < envelope->n)
		envelope->n = truncate;
	if (flip < envelope->n)
		envelope->bytes[flip] ^= 1;
	return envelope->error;
}

/* -- Bringing what is wanted ------------------------------------------------------------------------------------------------- */

/*
 * How a fetchd brings blobs: honestly, or with one of these.
 *   corrupt=N      one byte of the Nth blob of the offer
 *   withhold=N     leave the Nth out and say so (lack)
 *   silent=1       leave everything out and say nothing
 *   split=N        so many a message
 *   reverse=1      the last first
 *   unwanted=1     one more that nobody asked for
 *   twice-blob=1   the first twice
 *   torn=1         the list ends within a blob
 *   unsealed=1     a memfd that can still change
 *   descriptors=N  so many of them
 *   large=1        more bytes than a message may have
 *   wait=MS        before each message
 */
struct manner {
	uint64_t corrupt, withhold, split, descriptors, wait_ms;
	bool silent, reverse, unwanted, twice, torn, unsealed, large;
};

static struct manner manner_read(struct words *words)
{
	return (struct manner){
		.corrupt = number_of(words, "corrupt", UINT64_MAX),
		.withhold = number_of(words, "withhold", UINT64_MAX),
		.split = number_of(words, "split", BLOBS_A_MESSAGE),
		.descriptors = number_of(words, "descriptors", 1),
		.wait_ms = number_of(words, "wait", 0),
		.silent = number_of(words, "silent", 0),
		.reverse = number_of(words, "reverse", 0),
		.unwanted = number_of(words, "unwanted", 0),
		.twice = number_of(words, "twice-blob", 0),
		.torn = number_of(words, "torn", 0),
		.unsealed = number_of(words, "unsealed", 0),
		.large = number_of(words, "large", 0),
	};
}

struct delivery {
	struct forge *forge;
	struct connection *connection;
	struct manner manner;
	uint64_t rounds, blobs, bytes, messages;
	struct pack_writer list; /* of the message being filled */
	uint64_t in_list;
};

static void list_put(struct delivery *delivery, const uint8_t *bytes, size_t n)
{
	uint8_t length[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };

	pack_put_raw(&delivery->list, length, sizeof(length));
	pack_put_raw(&delivery->list, bytes, n);
	delivery->in_list++;
	delivery->bytes += n;
}

static int memfd_fill(const struct delivery *delivery, int *out)
{
	_cleanup_close_ int fd = memfd_open("blobs");
	size_t n = delivery->list.n - (delivery->manner.torn ? 1 : 0);
	int r = fd;

	if (fd >= 0)
		r = write(fd, delivery->list.bytes, n) == (ssize_t)n ? 0 : -EIO;
	if (r == 0 && delivery->manner.large)
		r = ftruncate(fd, BLOBS_BYTES_MAX + 1) < 0 ? -errno : 0;
	if (r == 0 && !delivery->manner.unsealed)
		r = memfd_seal(fd);
	if (r == 0)
		*out = TAKE_FD(fd);
	return r;
}

static int list_send(struct delivery *delivery)
{
	struct msg_blobs blobs = { .count = delivery->in_list, .bytes = delivery->list.n };
	_cleanup_close_ int fd = -1;
	int fds[8], r;

	if (delivery->in_list == 0)
		return 0;
	if (delivery->manner.wait_ms)
		(void)poll(NULL, 0, (int)delivery->manner.wait_ms);
	r = memfd_fill(delivery, &fd);
	for (unsigned i = 0; i < 8; i++)
		fds[i] = fd;
	if (r == 0)
		r = say(delivery->connection, MSG_blobs, &blobs, fds, (unsigned)delivery->manner.descriptors);
	delivery->messages++;
	delivery->list.n = 0;
	delivery->in_list = 0;
	return r;
}

static int deliver_one(struct delivery *delivery, const struct hash *name)
{
	uint8_t copy[ENVELOPE_BYTES_MAX];
	struct view bytes;
	int r = blobs_get(delivery->forge->blobs, name, &bytes);

	if (r < 0 || bytes.n > sizeof(copy))
		return wrong(delivery->forge, "netd wants a blob that forge never made");
	memcpy(copy, bytes.p, bytes.n);
	if (delivery->blobs == delivery->manner.corrupt)
		copy[bytes.n / 2] ^= 1;
	list_put(delivery, copy, bytes.n);
	if (delivery->manner.twice && delivery->blobs == 0)
		list_put(delivery, copy, bytes.n);
	delivery->blobs++;
	if (delivery->in_list >= delivery->manner.split || delivery->list.n > BLOBS_BYTES_MAX - ENVELOPE_BYTES_MAX)
		r = list_send(delivery);
	return r;
}

static int say_lack(struct delivery *delivery, const uint8_t *hash)
{
	struct msg_lack lack = { .hashes = { hash, HASH_BYTES }, .reason = text_view("forge keeps it") };

	return say(delivery->connection, MSG_lack, &lack, NULL, 0);
}

/* Answer one want. */
static int deliver(struct delivery *delivery, const struct msg_want *want)
{
	CLEANUP(pack_writer_free) struct pack_writer hashes = { .bytes = NULL };
	size_t count = want->hashes.n / HASH_BYTES;
	int r = 0;

	delivery->rounds++;
	if (delivery->manner.silent)
		return 0;
	pack_put_raw(&hashes, want->hashes.p, want->hashes.n); /* the frame is overwritten by what follows */
	if (delivery->manner.unwanted)
		list_put(delivery, delivery->forge->keyset_envelope.bytes, delivery->forge->keyset_envelope.n);
	for (size_t i = 0; r == 0 && i < count; i++) {
		const uint8_t *at = hashes.bytes + HASH_BYTES * (delivery->manner.reverse ? count - 1 - i : i);
		struct hash name;

		memcpy(name.b, at, HASH_BYTES);
		if (delivery->blobs == delivery->manner.withhold) {
			r = list_send(delivery);
			return r < 0 ? r : say_lack(delivery, at);
		}
		r = deliver_one(delivery, &name);
	}
	return r < 0 ? r : list_send(delivery);
}

/* -- A whole offer ----------------------------------------------------------------------------------------------------------- */

static int result_report(struct forge *forge, const struct msg_result *result)
{
	put_text(&forge->answer, "outcome", outcome_name((enum outcome)result->outcome));
	put_text_n(&forge->answer, "reason", result->reason.p, result->reason.n);
	return result->receipt.n ? receipt_report(forge, "receipt", result->receipt) : 0;
}

/* Serve until netd says what became of it, hangs up, or says nothing for too long. */
static int serve(struct forge *forge, struct words *words, struct delivery *delivery, uint64_t begun, const char *until)
{
	int timeout = (int)number_of(words, "timeout", ANSWER_MS);
	struct message message;
	int r;

	do {
		r = hear(forge, delivery->connection, timeout, &message);
		if (r == MSG_want && until && strcmp(until, "want") == 0)
			break;
		if (r == MSG_want) {
			int sent = deliver(delivery, &message.body.want);

			/* After a descriptor too many, say, it may have hung up already: hear() tells. */
			if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET)
				return sent;
		}
		if (r == MSG_in_force && until && strcmp(until, "in_force") == 0)
			break;
	} while (r == MSG_want || r == MSG_identity || r == MSG_ask || r == MSG_in_force);
	if (r < 0 && r != -EPIPE && r != -ETIMEDOUT)
		return wrong(forge, "offer: %s", strerror(-r));
	put_number(&forge->answer, "us", now_us() - begun);
	put_flag(&forge->answer, "closed", r == -EPIPE);
	put_flag(&forge->answer, "silence", r == -ETIMEDOUT);
	put_flag(&forge->answer, "wanted", r == MSG_want);
	put_number(&forge->answer, "rounds", delivery->rounds);
	put_number(&forge->answer, "blobs", delivery->blobs);
	put_number(&forge->answer, "bytes", delivery->bytes);
	return r == MSG_result ? result_report(forge, &message.body.result) : 0;
}

/* Have the nonce that is outstanding now: newer ones that wait to be read count. */
static int nonce_fetch(struct forge *forge, struct connection *connection)
{
	struct message message;
	int r;

	do
		r = hear(forge, connection, 0, &message);
	while (r > 0);
	if (r == -ETIMEDOUT && !connection->asked)
		r = hear_until(forge, connection, MSG_ask, ANSWER_MS, &message);
	return r == -ETIMEDOUT && connection->asked ? 0 : r;
}

/* offer [on=] [until=sent|want] [timeout=MS] [lies about the head] [manner of bringing blobs] */
static int cmd_offer(struct forge *forge, struct words *words)
{
	CLEANUP(pack_writer_free) struct pack_writer head = { .bytes = NULL }, list = { .bytes = NULL };
	struct delivery delivery = { .forge = forge, .connection = connection_named(forge, words), .manner = manner_read(words) };
	const char *until = word_of(words, "until");
	uint64_t begun;
	int r = delivery.connection && delivery.connection->fd >= 0 ? 0 : -ENOTCONN;

	if (r == 0)
		r = nonce_fetch(forge, delivery.connection);
	if (r >= 0)
		r = head_make(forge, words, delivery.connection, &head);
	if (r < 0)
		return wrong(forge, "cannot offer: %s", strerror(-r));
	begun = now_us();
	r = say(delivery.connection, MSG_offer, &(struct msg_offer){ .head = { head.bytes, head.n } }, NULL, 0);
	if (r < 0)
		return wrong(forge, "cannot offer: %s", strerror(-r));
	delivery.connection->asked = false;
	put_number(&forge->answer, "head", head.n);
	pack_writer_free(&forge->last_head);
	forge->last_head = head;
	head = (struct pack_writer){ .bytes = NULL };
	if (until && strcmp(until, "sent") == 0)
		return 0;
	r = serve(forge, words, &delivery, begun, until);
	list = delivery.list; /* to be freed */
	return r;
}

/* await [on=] [until=in_force] [timeout=]: the rest of an offer that was left in the middle, or what netd says by itself */
static int cmd_await(struct forge *forge, struct words *words)
{
	struct delivery delivery = { .forge = forge, .connection = connection_named(forge, words), .manner = manner_read(words) };
	int r;

	if (!delivery.connection || delivery.connection->fd < 0)
		return wrong(forge, "not connected");
	r = serve(forge, words, &delivery, now_us(), word_of(words, "until"));
	pack_writer_free(&delivery.list);
	return r;
}

/* bring [on=]: blobs that nobody asked for */
static int cmd_bring(struct forge *forge, struct words *words)
{
	struct delivery delivery = { .forge = forge, .connection = connection_named(forge, words), .manner = manner_read(words) };
	int r = delivery.connection ? 0 : -ENOTCONN;

	list_put(&delivery, forge->keyset_envelope.bytes, forge->keyset_envelope.n);
	if (r == 0)
		r = list_send(&delivery);
	pack_writer_free(&delivery.list);
	return r;
}
