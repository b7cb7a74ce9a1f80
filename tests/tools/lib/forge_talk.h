/* SPDX-License-Identifier: Apache-2.0 */
/* forge's fetchd: connections to netd, what an honest one says, and what others might. */
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>

#include "libipc/memfd.h"
#include "tests/tools/lib/forge_mesh.h"

#define ANSWER_MS 20000
#define BLOBS_A_MESSAGE 1000
#define BLOBS_BYTES_MAX (8 * 1024 * 1024) /* libipc/messages.def */

/* -- Connections ---------------------------------------------------------------------------------------------------------------------- */

static struct connection *connection_named(struct forge *forge, struct words *words)
{
	const char *name = word_of(words, "on");

	for (unsigned i = 0; i < forge->connection_count; i++)
		if (strcmp(forge->connections[i].name, name ? name : "documents") == 0)
			return &forge->connections[i];
	return NULL;
}

static struct connection *connection_place(struct forge *forge, const char *name)
{
	struct connection *connection = NULL;

	for (unsigned i = 0; i < forge->connection_count; i++)
		if (strcmp(forge->connections[i].name, name) == 0)
			connection = &forge->connections[i];
	if (!connection && forge->connection_count < CONNECTIONS_MAX) {
		connection = &forge->connections[forge->connection_count++];
		connection->fd = -1;
	}
	if (!connection)
		return NULL;
	close_fd(connection->fd);
	*connection = (struct connection){ .fd = -1 };
	(void)snprintf(connection->name, sizeof(connection->name), "%s", name);
	return connection;
}

/* connect PATH [as=USER] [on=documents]: netd sees that user's uid */
static int cmd_connect(struct forge *forge, struct words *words)
{
	const char *path = word_at(words, 1), *user = word_of(words, "as"), *name = word_of(words, "on");
	struct connection *connection = connection_place(forge, name ? name : "documents");
	const struct passwd *account = user ? getpwnam(user) : NULL;

	if (!path || !connection || (user && !account))
		return wrong(forge, "expected PATH as=USER, and at most %d connections", CONNECTIONS_MAX);
	if (account && seteuid(account->pw_uid) < 0)
		return wrong(forge, "cannot become %s: %s", user, strerror(errno));
	connection->fd = channel_dial(path);
	if (account && seteuid(0) < 0)
		return wrong(forge, "cannot become root again: %s", strerror(errno));
	return connection->fd < 0 ? wrong(forge, "%s: %s", path, strerror(-connection->fd)) : 0;
}

/* disconnect [on=documents] */
static int cmd_disconnect(struct forge *forge, struct words *words)
{
	struct connection *connection = connection_named(forge, words);

	if (!connection)
		return wrong(forge, "no such connection");
	connection->fd = close_fd(connection->fd);
	connection->asked = false;
	return 0;
}

static int identity_take(struct forge *forge, const struct msg_identity *identity)
{
	struct registration registration;
	int r;

	memcpy(forge->host_key, identity->host_key, KEY_BYTES);
	host_id_of(forge->host_key, &forge->host);
	if (identity->registration.n == 0)
		return 0;
	r = registration_open(identity->registration.p, identity->registration.n, &registration);
	if (r < 0 || memcmp(registration.statement.host_key, forge->host_key, KEY_BYTES) != 0)
		return wrong(forge, "the registration does not verify: %s", strerror(-r));
	forge->statement = registration.statement;
	forge->known = true;
	return 0;
}

/* The next message; what netd says of itself and what it asks for is taken note of. @return its number; -EPIPE it has hung up; -ETIMEDOUT */
static int hear(struct forge *forge, struct connection *connection, int timeout_ms, struct message *message)
{
	int r = channel_receive(connection->fd, PARTY_FETCHD, PARTY_NETD, timeout_ms, forge->frame, message);

	if (r < 0)
		return r;
	if (message->number == MSG_identity)
		r = identity_take(forge, &message->body.identity);
	if (message->number == MSG_ask) {
		memcpy(connection->used, connection->nonce, sizeof(connection->used));
		memcpy(connection->nonce, message->body.ask.nonce, sizeof(connection->nonce));
		connection->asked = true;
	}
	return r < 0 ? r : (int)message->number;
}

static int hear_until(struct forge *forge, struct connection *connection, enum message_number number, int timeout_ms, struct message *message)
{
	uint64_t end = now_us() + (uint64_t)timeout_ms * 1000;
	int r;

	do {
		uint64_t now = now_us();

		r = now > end ? -ETIMEDOUT : hear(forge, connection, (int)((end - now) / 1000), message);
	} while (r > 0 && r != (int)number && r != MSG_result);
	return r;
}

static int say(struct connection *connection, enum message_number number, const void *body, const int *fds, unsigned fd_count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 8)];
	} control = { .bytes = { 0 } };
	uint8_t frame[FRAME_BYTES_MAX];
	struct iovec vector = { .iov_base = frame };
	struct msghdr header = { .msg_iov = &vector, .msg_iovlen = 1 };
	int r = message_encode(number, body, frame, sizeof(frame), &vector.iov_len);

	if (r < 0)
		return r;
	if (fd_count > 0) {
		struct cmsghdr *part;

		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		part = CMSG_FIRSTHDR(&header);
		part->cmsg_level = SOL_SOCKET;
		part->cmsg_type = SCM_RIGHTS;
		part->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(part), fds, sizeof(int) * fd_count);
	}
	return sendmsg(connection->fd, &header, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* -- An honest fetchd's first words ---------------------------------------------------------------------------------------------------- */

/* hello [on=]: and wait for who the host is */
static int cmd_hello(struct forge *forge, struct words *words)
{
	struct connection *connection = connection_named(forge, words);
	const struct named_key *key = key_named(forge, "transport");
	struct msg_hello hello = { .transport_key = key->public };
	struct message message;
	int r = connection ? say(connection, MSG_hello, &hello, NULL, 0) : -ENOTCONN;

	if (r == 0)
		r = hear_until(forge, connection, MSG_identity, ANSWER_MS, &message);
	if (r != MSG_identity)
		return wrong(forge, "no identity after hello: %s", r < 0 ? strerror(-r) : "a result");
	put_flag(&forge->answer, "pinned", message.body.identity.pinned);
	put_flag(&forge->answer, "deployed", message.body.identity.deployed);
	put_hex(&forge->answer, "host", forge->host.b, ID_BYTES);
	put_hex(&forge->answer, "root", message.body.identity.root_key, KEY_BYTES);
	return 0;
}

/* hand-over [on=]: the keyset, as fetchd does it; netd takes it (and says who it is now) or refuses it */
static int cmd_hand_over(struct forge *forge, struct words *words)
{
	struct connection *connection = connection_named(forge, words);
	struct msg_keyset keyset = { .envelope = { forge->keyset_envelope.bytes, forge->keyset_envelope.n } };
	char reason[REASON_BYTES_MAX + 1] = "";
	struct message message;
	bool taken;
	int r = connection ? say(connection, MSG_keyset, &keyset, NULL, 0) : -ENOTCONN;

	if (r == 0)
		r = hear_until(forge, connection, MSG_identity, ANSWER_MS, &message);
	if (r < 0)
		return wrong(forge, "no answer to a keyset: %s", strerror(-r));
	taken = r == MSG_identity;
	if (!taken) {
		connection->asked = false; /* the outstanding nonce ended with the refusal */
		(void)text_copy(reason, sizeof(reason), message.body.result.reason);
	}
	put_flag(&forge->answer, "taken", taken);
	put_text(&forge->answer, "reason", reason);
	return 0;
}

/* listen [on=] [for=MS]: what netd says by itself; closed if it hung up */
static int cmd_listen(struct forge *forge, struct words *words)
{
	struct connection *connection = connection_named(forge, words);
	uint64_t end = now_us() + number_of(words, "for", 100) * 1000;
	struct message message;
	bool asked = false;
	int r = 0;

	if (!connection || connection->fd < 0)
		return wrong(forge, "not connected");
	for (uint64_t now = now_us(); r >= 0 && now <= end; now = now_us()) {
		r = hear(forge, connection, (int)((end - now) / 1000), &message);
		asked = asked || r == MSG_ask;
	}
	put_flag(&forge->answer, "closed", r == -EPIPE);
	put_flag(&forge->answer, "asked", asked);
	return r < 0 && r != -EPIPE && r != -ETIMEDOUT ? wrong(forge, "listen: %s", strerror(-r)) : 0;
}

/* pin PATH [root=root]: over the admin socket, as root */
static int cmd_pin(struct forge *forge, struct words *words)
{
	const char *path = word_at(words, 1), *name = word_of(words, "root");
	const struct named_key *root = key_named(forge, name ? name : "root");
	struct msg_pin pin = { .root_key = root ? root->public : NULL };
	_cleanup_close_ int fd = path && root ? channel_dial(path) : -EINVAL;
	struct message message;
	int r = fd < 0 ? fd : channel_call(fd, PARTY_ADMIN, PARTY_NETD, MSG_pin, &pin, NULL, ANSWER_MS, forge->frame, &message);

	if (r < 0 || message.number != MSG_admin_done)
		return wrong(forge, "pin: %s", strerror(-r));
	put_flag(&forge->answer, "pinned", message.body.admin_done.ok);
	put_text_n(&forge->answer, "text", message.body.admin_done.text.p, message.body.admin_done.text.n);
	return 0;
}

/* -- Heads ---------------------------------------------------------------------------------------------------------------------------- */

static void head_fill(struct forge *forge, struct words *words, const struct connection *connection, struct head *head)
{
	const char *networks = word_of(words, "networks"), *nonce = word_of(words, "nonce"), *deployment = word_of(words, "deployment");
	uint64_t claim = number_of(words, "claim", 0);
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
	}
	if (number_of(words, "twice", 0))
		head->entries[head->count++] = forge->host_entry;
}

/*
 * Lies about the head: sign=KEY type=network/1 nonce=used|random other-host=1 other-keyset=1 deployment=NAME networks=a,b host=0 twice=1
 * claim=N (its networks' generations are so many too high),
 * and about its bytes: replay=1 (the ones before once more), truncate=BYTES (of its length), flip=BYTE, tail=1
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

/* -- Bringing what is wanted ---------------------------------------------------------------------------------------------------------- */

/*
 * How a fetchd brings blobs: honestly, or with one of these. corrupt=N one byte of the Nth blob of the offer; withhold=N leave the Nth out and
 * say so (lack); silent=1 leave everything out and say nothing; split=N so many a message; reverse=1; unwanted=1 one more that nobody asked for;
 * twice-blob=1 the first twice; torn=1 the list ends within a blob; unsealed=1; descriptors=N; wait=MS before each message; large=1 more than may be.
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

/* -- A whole offer ---------------------------------------------------------------------------------------------------------------------- */

static int receipt_report(struct forge *forge, struct view bytes)
{
	_cleanup_free_ struct head_entry *entries = calloc(HEAD_ENTRIES_MAX, sizeof(*entries));
	struct receipt receipt = { .entries = entries };
	int r = entries ? receipt_open(bytes.p, bytes.n, forge->host_key, &receipt) : -ENOMEM;

	if (r < 0)
		return wrong(forge, "the receipt does not verify: %s", strerror(-r));
	if (receipt.header.generation <= forge->receipt_generation)
		return wrong(forge, "the receipt's generation does not grow");
	forge->receipt_generation = receipt.header.generation;
	put(&forge->answer, ", \"receipt\": {\"generation\": %" PRIu64, receipt.header.generation);
	put_text(&forge->answer, "outcome", outcome_name(receipt.outcome));
	put_text(&forge->answer, "code", receipt.code);
	put_text(&forge->answer, "reason", receipt.reason);
	put_number(&forge->answer, "entries", receipt.count);
	put_number(&forge->answer, "apply_us", receipt.apply_us);
	put_number(&forge->answer, "peers", receipt.peers);
	put(&forge->answer, "}");
	return 0;
}

static int result_report(struct forge *forge, const struct msg_result *result)
{
	put_text(&forge->answer, "outcome", outcome_name((enum outcome)result->outcome));
	put_text_n(&forge->answer, "reason", result->reason.p, result->reason.n);
	return result->receipt.n ? receipt_report(forge, result->receipt) : 0;
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
	} while (r == MSG_want || r == MSG_identity || r == MSG_ask);
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

/* await [on=] [timeout=]: the rest of an offer that was left in the middle */
static int cmd_await(struct forge *forge, struct words *words)
{
	struct delivery delivery = { .forge = forge, .connection = connection_named(forge, words), .manner = manner_read(words) };
	int r;

	if (!delivery.connection || delivery.connection->fd < 0)
		return wrong(forge, "not connected");
	r = serve(forge, words, &delivery, now_us(), NULL);
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

/* -- What no process of ours says ------------------------------------------------------------------------------------------------------- */

/* A frame by its kind. @return length; -EINVAL */
static ssize_t odd_frame(struct forge *forge, const char *kind, uint8_t *frame, size_t room)
{
	const uint8_t *key = forge->seed;
	size_t n = 0;
	int r = 0;

	memset(frame, 0, room);
	if (strcmp(kind, "garbage") == 0) {
		derive(forge, "garbage", 0, frame, 64);
		frame[0] = 0xc1; /* never used by msgpack */
		n = 64;
	} else if (strcmp(kind, "empty") == 0) {
		frame[0] = 0x90;
		n = 1;
	} else if (strcmp(kind, "nested") == 0) {
		n = 2000;
		memset(frame, 0x91, n - 1); /* arrays of one array each */
	} else if (strcmp(kind, "unknown") == 0) {
		frame[0] = 0x91;
		frame[1] = 0x7f;
		n = 2;
	} else if (strcmp(kind, "hello") == 0) {
		r = message_encode(MSG_hello, &(struct msg_hello){ .transport_key = key }, frame, room, &n);
	} else if (strcmp(kind, "tail") == 0) {
		r = message_encode(MSG_hello, &(struct msg_hello){ .transport_key = key }, frame, room, &n);
		n++;
	} else if (strcmp(kind, "field") == 0) { /* hello with one field more */
		r = message_encode(MSG_hello, &(struct msg_hello){ .transport_key = key }, frame, room, &n);
		frame[0]++;
		n++;
	} else if (strcmp(kind, "ask") == 0) { /* netd's own */
		r = message_encode(MSG_ask, &(struct msg_ask){ .nonce = key }, frame, room, &n);
	} else if (strcmp(kind, "pin") == 0) { /* root's */
		r = message_encode(MSG_pin, &(struct msg_pin){ .root_key = key }, frame, room, &n);
	} else if (strcmp(kind, "tunnel") == 0) { /* wg-launch's */
		r = message_encode(MSG_tunnel_request, &(struct msg_tunnel_request){ .unused_ = { 0 } }, frame, room, &n);
	} else if (strcmp(kind, "offer") == 0) {
		r = message_encode(MSG_offer, &(struct msg_offer){ .head = { key, 32 } }, frame, room, &n);
	} else if (strcmp(kind, "keyset") == 0) { /* a good one */
		struct view envelope = { forge->keyset_envelope.bytes, forge->keyset_envelope.n };

		r = message_encode(MSG_keyset, &(struct msg_keyset){ .envelope = envelope }, frame, room, &n);
	} else if (strcmp(kind, "view") == 0) {
		r = message_encode(MSG_view_get, &(struct msg_view_get){ .peers = true }, frame, room, &n);
	} else {
		r = -EINVAL;
	}
	return r < 0 ? r : (ssize_t)n;
}

struct raw_frame {
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 8)];
	} control;
	struct iovec vector;
	struct msghdr header;
	uint8_t bytes[2 * FRAME_BYTES_MAX];
};

/* KIND [bytes=N] [descriptors=N]: filled up to N bytes with zeros */
static int raw_fill(struct forge *forge, struct words *words, const struct connection *connection, struct raw_frame *raw)
{
	const char *kind = word_at(words, 1);
	ssize_t n = kind ? odd_frame(forge, kind, raw->bytes, sizeof(raw->bytes)) : -EINVAL;
	unsigned descriptors = (unsigned)number_of(words, "descriptors", 0);

	if (!connection || connection->fd < 0 || n < 0 || descriptors > 8)
		return wrong(forge, "expected a kind of frame and a connection");
	raw->vector = (struct iovec){ .iov_base = raw->bytes, .iov_len = number_of(words, "bytes", (uint64_t)n) };
	raw->header = (struct msghdr){ .msg_iov = &raw->vector, .msg_iovlen = 1 };
	if (raw->vector.iov_len > sizeof(raw->bytes))
		return wrong(forge, "at most %zu bytes", sizeof(raw->bytes));
	if (descriptors) {
		struct cmsghdr *part = &raw->control.align;

		raw->header.msg_control = raw->control.bytes;
		raw->header.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors);
		part->cmsg_level = SOL_SOCKET;
		part->cmsg_type = SCM_RIGHTS;
		part->cmsg_len = CMSG_LEN(sizeof(int) * descriptors);
		for (unsigned i = 0; i < descriptors; i++)
			memcpy(CMSG_DATA(part) + i * sizeof(int), &connection->fd, sizeof(int));
	}
	return 0;
}

/* send KIND [on=] [bytes=N] [descriptors=N] [times=N]: until netd hangs up or takes no more. Nothing is read meanwhile. */
static int cmd_send(struct forge *forge, struct words *words)
{
	const struct connection *connection = connection_named(forge, words);
	static struct raw_frame raw;
	uint64_t times = number_of(words, "times", 1), sent = 0;
	int r = raw_fill(forge, words, connection, &raw);

	while (r == 0 && sent < times && sendmsg(connection->fd, &raw.header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		sent++;
	if (r == 0)
		put_number(&forge->answer, "sent", sent);
	return r;
}

/* flood KIND [on=] [for=MS]: as fast as netd takes it, for so long, or until it hangs up. Nothing is read meanwhile. */
static int cmd_flood(struct forge *forge, struct words *words)
{
	const struct connection *connection = connection_named(forge, words);
	static struct raw_frame raw;
	uint64_t end = now_us() + number_of(words, "for", 1000) * 1000, sent = 0;
	int r = raw_fill(forge, words, connection, &raw);

	while (r == 0 && now_us() < end) {
		struct pollfd ready = { .fd = connection->fd, .events = POLLOUT };

		if (sendmsg(connection->fd, &raw.header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			sent++;
		else if (errno != EAGAIN)
			break;
		else
			(void)poll(&ready, 1, 10);
	}
	if (r == 0)
		put_number(&forge->answer, "sent", sent);
	return r;
}
