/* SPDX-License-Identifier: Apache-2.0 */
/* forge's fetchd: connections to netd, and its first words. */
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>

#include "tests/tools/lib/forge_mesh.h"

#define ANSWER_MS 20000

/* -- Connections ------------------------------------------------------------------------------------------------------------- */

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

/* Verify a receipt and put it in the answer. */
static int receipt_report(struct forge *forge, const char *key, struct view bytes)
{
	_cleanup_free_ struct head_entry *entries = calloc(HEAD_ENTRIES_MAX, sizeof(*entries));
	struct receipt receipt = { .entries = entries };
	int r = entries ? receipt_open(bytes.p, bytes.n, forge->host_key, &receipt) : -ENOMEM;

	if (r < 0)
		return wrong(forge, "the receipt does not verify: %s", strerror(-r));
	if (receipt.header.generation <= forge->receipt_generation)
		return wrong(forge, "the receipt's generation does not grow");
	forge->receipt_generation = receipt.header.generation;
	put(&forge->answer, ", \"%s\": {\"generation\": %" PRIu64, key, receipt.header.generation);
	put_text(&forge->answer, "outcome", outcome_name(receipt.outcome));
	put_text(&forge->answer, "code", receipt.code);
	put_text(&forge->answer, "reason", receipt.reason);
	put_number(&forge->answer, "entries", receipt.count);
	put_number(&forge->answer, "apply_us", receipt.apply_us);
	put_number(&forge->answer, "peers", receipt.peers);
	put_text(&forge->answer, "confirm", confirm_name(receipt.confirm));
	put_number(&forge->answer, "mended", receipt.mended);
	put(&forge->answer, "}");
	return 0;
}

/*
 * The next message; what netd says of itself and what it asks for is taken note of.
 * @return its number; -EPIPE it has hung up; -ETIMEDOUT
 */
static int hear(struct forge *forge, struct connection *connection, int timeout_ms, struct message *message)
{
	int r = channel_receive(connection->fd, PARTY_FETCHD, PARTY_NETD, timeout_ms, forge->frame, message);

	if (r < 0)
		return r;
	if (message->number == MSG_identity)
		r = identity_take(forge, &message->body.identity);
	if (message->number == MSG_in_force)
		r = receipt_report(forge, "in_force", message->body.in_force.receipt);
	if (message->number == MSG_ask) {
		memcpy(connection->used, connection->nonce, sizeof(connection->used));
		memcpy(connection->nonce, message->body.ask.nonce, sizeof(connection->nonce));
		connection->asked = true;
	}
	return r < 0 ? r : (int)message->number;
}

static int hear_until(struct forge *forge, struct connection *connection, enum message_number number, int timeout_ms,
		      struct message *message)
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

/* -- An honest fetchd's first words ------------------------------------------------------------------------------------------ */

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
