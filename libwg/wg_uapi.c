/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A userspace WireGuard over its configuration protocol (https://www.wireguard.com/xplatform/).
 *
 * Operations are sent one by one, each no longer than a buffer: wireguard-go reads ahead while it carries one out and loses what
 * it read, so nothing may follow before the answer. But the answer is awaited only when the next operation is ready: while wireguard-go
 * carries out one, the caller prepares the next. After an error it takes the rest of the operation for new ones; therefore any
 * failure closes the connection and the next operation makes a new one. A second connection, which carries nothing, is the lifeline.
 */
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "libwg/tun.h"
#include "libwg/wg_internal.h"

#define OPERATION_BYTES 65536 /* some 400 peers; of 10,000, 8 KiB takes 4 % longer and 1 MiB no less */
#define ANSWER_BYTES 16384    /* what is read at once; a line must fit */
#define CONNECT_SECONDS 2
#define PATIENCE_US 10000000  /* for all operations together: what drips would else hold up a caller who has a watchdog to feed */
#define ANSWER_BYTES_MAX (64 * 1024 * 1024) /* of one answer: 65,536 peers with ten AllowedIPs each */
#define LINE_BYTES 160        /* more than the longest line that we write, a key in hexadecimal */

struct uapi {
	struct wg wg;
	int fd;
	bool outstanding;  /* an operation was sent whose answer was not read yet */
	int sent;          /* what sending it came to: 0, or -EPIPE if it was hung up on half-way */
	size_t n;          /* bytes of the operation being written */
	size_t begin, end; /* what was read of the answer and not yet parsed */
	size_t answered;   /* bytes of the answer so far */
	uint64_t patience_us, since_us; /* what is left, and when that was so */
	char operation[OPERATION_BYTES];
	char answer[ANSWER_BYTES];
};

/** A line of an answer, both parts terminated; @return 0 or negative errno, which ends the operation */
typedef int line_fn(const char *key, const char *value, void *arg);

static struct uapi *uapi_of(struct wg *wg)
{
	return (struct uapi *)wg;
}

/* -- Patience: what operations and answers take is taken from it, and time in between brings it back ------------------------------- */

static uint64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void patience_rest(struct uapi *uapi)
{
	uint64_t now = now_us();

	uapi->patience_us += now - uapi->since_us;
	if (uapi->patience_us > PATIENCE_US)
		uapi->patience_us = PATIENCE_US;
	uapi->since_us = now;
}

/* @return milliseconds left; 0: none */
static int patience_spend(struct uapi *uapi)
{
	uint64_t now = now_us(), taken = now - uapi->since_us;

	uapi->patience_us -= taken < uapi->patience_us ? taken : uapi->patience_us;
	uapi->since_us = now;
	return (int)(uapi->patience_us / 1000);
}

/* Until the device gives (POLLIN) or takes (POLLOUT) something. */
static int wait_for(struct uapi *uapi, short events)
{
	struct pollfd device = { .fd = uapi->fd, .events = events };
	int left = patience_spend(uapi);
	int r = left ? poll(&device, 1, left) : 0;

	if (r == 0)
		return -ETIMEDOUT;
	return r < 0 && errno != EINTR ? -errno : 0;
}

/* -- Operations and answers ---------------------------------------------------------------------------------------------------------- */

/* connect() heeds the time-out (socket(7)): it waits while the backlog is full. */
static int dial(const char *name)
{
	const struct timeval timeout = { .tv_sec = CONNECT_SECONDS };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int r;

	if (fd < 0)
		return -errno;
	uapi_address(name, &address);
	r = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ? -errno : 0;
	if (r == 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		r = errno == ENOENT || errno == ECONNREFUSED ? -ENODEV : errno == EAGAIN ? -ETIMEDOUT : -errno;
	return r < 0 ? r : TAKE_FD(fd);
}

/* Have a connection on which nothing is outstanding. An idle one never has anything to read; if it does, it broke. */
static int connected(struct uapi *uapi)
{
	struct pollfd idle = { .fd = uapi->fd, .events = POLLIN };

	uapi->begin = uapi->end = 0;
	if (uapi->fd >= 0 && poll(&idle, 1, 0) == 0)
		return 0;
	uapi->fd = close_fd(uapi->fd);
	if (patience_spend(uapi) == 0)
		return -ETIMEDOUT;
	uapi->fd = dial(uapi->wg.name);
	return uapi->fd < 0 ? uapi->fd : 0;
}

/* An operation that is refused half-way is answered and then hung up on: -EPIPE here, and the answer says why. */
static int transmit(struct uapi *uapi)
{
	size_t sent = 0;
	int r = 0;

	while (r == 0 && sent < uapi->n) {
		ssize_t n = send(uapi->fd, uapi->operation + sent, uapi->n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0)
			sent += (size_t)n;
		else if (errno != EINTR)
			r = errno == EAGAIN ? wait_for(uapi, POLLOUT) : -errno;
	}
	return r;
}

static int fill(struct uapi *uapi)
{
	ssize_t n;

	memmove(uapi->answer, uapi->answer + uapi->begin, uapi->end - uapi->begin);
	uapi->end -= uapi->begin;
	uapi->begin = 0;
	if (uapi->end == sizeof(uapi->answer) || uapi->answered > ANSWER_BYTES_MAX)
		return -EPROTO; /* a line, or an answer, longer than any */
	if (patience_spend(uapi) == 0)
		return -ETIMEDOUT;
	n = recv(uapi->fd, uapi->answer + uapi->end, sizeof(uapi->answer) - uapi->end, MSG_DONTWAIT);
	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return errno == EAGAIN ? wait_for(uapi, POLLIN) : errno == EINTR ? 0 : -errno;
	uapi->end += (size_t)n;
	uapi->answered += (size_t)n;
	return 0;
}

/* The next line of the answer, terminated in place. */
static int next_line(struct uapi *uapi, char **line)
{
	char *newline;
	int r;

	while (!(newline = memchr(uapi->answer + uapi->begin, '\n', uapi->end - uapi->begin))) {
		r = fill(uapi);
		if (r < 0)
			return r;
	}
	*newline = '\0';
	*line = uapi->answer + uapi->begin;
	uapi->begin = (size_t)(newline + 1 - uapi->answer);
	return 0;
}

static int number(const char *text, uint64_t max, uint64_t *value)
{
	unsigned long long parsed;
	char *end;

	errno = 0;
	parsed = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || parsed > max)
		return -EPROTO;
	*value = parsed;
	return 0;
}

/* Lines up to errno=N, which wireguard-go writes negative and the protocol positive, and the blank one after it. */
static int read_answer(struct uapi *uapi, line_fn *each, void *arg)
{
	uint64_t error;
	char *line, *value;
	int r;

	uapi->answered = 0;
	for (;;) {
		r = next_line(uapi, &line);
		if (r < 0)
			return r;
		value = strchr(line, '=');
		if (!value)
			return -EPROTO;
		*value++ = '\0';
		if (strcmp(line, "errno") == 0)
			break;
		r = each ? each(line, value, arg) : -EPROTO;
		if (r < 0)
			return r;
	}
	r = number(value + (value[0] == '-'), 4095, &error);
	if (r == 0)
		r = next_line(uapi, &line);
	if (r < 0)
		return r;
	return *line || uapi->begin != uapi->end ? -EPROTO : -(int)error;
}

/* Read the answer that is outstanding, if one is, and leave no trace of it. */
static int settle(struct uapi *uapi, line_fn *each, void *arg)
{
	int r;

	if (!uapi->outstanding)
		return 0;
	patience_rest(uapi);
	r = read_answer(uapi, each, arg);
	(void)patience_spend(uapi);
	if (r == 0)
		r = uapi->sent;
	if (r < 0)
		uapi->fd = close_fd(uapi->fd);
	sodium_memzero(uapi->answer, sizeof(uapi->answer));
	uapi->outstanding = false;
	return r;
}

/* Send what was written once the operation before it has been answered. */
static int operate(struct uapi *uapi)
{
	int r = settle(uapi, NULL, NULL);

	patience_rest(uapi);
	if (r == 0)
		r = connected(uapi);
	if (r == 0) {
		uapi->sent = transmit(uapi);
		uapi->outstanding = uapi->sent != -ETIMEDOUT;
		r = uapi->outstanding ? 0 : -ETIMEDOUT;
	}
	(void)patience_spend(uapi);
	if (r < 0)
		uapi->fd = close_fd(uapi->fd);
	sodium_memzero(uapi->operation, uapi->n);
	uapi->n = 0;
	return r;
}

static void write_line(struct uapi *uapi, const char *key, const char *value)
{
	size_t key_bytes = strlen(key), value_bytes = strlen(value);
	char *to = uapi->operation + uapi->n;

	memcpy(to, key, key_bytes);
	to[key_bytes] = '=';
	memcpy(to + key_bytes + 1, value, value_bytes);
	to[key_bytes + 1 + value_bytes] = '\n';
	uapi->n += key_bytes + value_bytes + 2;
}

static void write_number(struct uapi *uapi, const char *key, unsigned value)
{
	char text[12];

	(void)snprintf(text, sizeof(text), "%u", value);
	write_line(uapi, key, text);
}

static void write_key(struct uapi *uapi, const char *key, const uint8_t bytes[static KEY_BYTES])
{
	char text[2 * KEY_BYTES + 1];

	write_line(uapi, key, hex_format(bytes, KEY_BYTES, text));
	sodium_memzero(text, sizeof(text));
}

static int set_operation(struct uapi *uapi)
{
	uapi->operation[uapi->n++] = '\n';
	uapi->wg.sets++;
	return operate(uapi);
}

static int uapi_flush(struct wg *wg)
{
	struct uapi *uapi = uapi_of(wg);
	int r = uapi->n ? set_operation(uapi) : 0;

	return r < 0 ? r : settle(uapi, NULL, NULL);
}

/* Have room for so many lines in an operation that has begun; the blank line that ends it always fits. */
static int room(struct uapi *uapi, size_t lines)
{
	int r = 0;

	if (uapi->n + lines * LINE_BYTES + 1 > sizeof(uapi->operation))
		r = set_operation(uapi);
	if (r == 0 && uapi->n == 0)
		write_line(uapi, "set", "1");
	return r;
}

static void uapi_device(struct wg *wg, const struct wg_device *device)
{
	struct uapi *uapi = uapi_of(wg);

	write_line(uapi, "set", "1");
	if (device->set_private_key)
		write_key(uapi, "private_key", device->private_key);
	if (device->set_listen_port)
		write_number(uapi, "listen_port", device->listen_port);
}

static int uapi_allowed(struct uapi *uapi, const struct wg_peer *peer)
{
	char text[PREFIX_TEXT];
	size_t n;
	int r;

	for (size_t i = 0; i < peer->allowed_count; i++) {
		n = uapi->n;
		r = room(uapi, 2);
		if (r < 0)
			return r;
		if (uapi->n < n) /* another operation has begun */
			write_key(uapi, "public_key", peer->public_key);
		write_line(uapi, "allowed_ip", prefix_format(&peer->allowed[i], text));
	}
	return 0;
}

static int uapi_peer(struct wg *wg, const struct wg_peer *peer)
{
	struct uapi *uapi = uapi_of(wg);
	char text[ENDPOINT_TEXT];
	int r = room(uapi, 4);

	if (r < 0)
		return r;
	write_key(uapi, "public_key", peer->public_key);
	if (peer->remove) {
		write_line(uapi, "remove", "true");
		return 0;
	}
	if (peer->set_endpoint)
		write_line(uapi, "endpoint", endpoint_format(&peer->endpoint, text));
	if (peer->set_keepalive)
		write_number(uapi, "persistent_keepalive_interval", peer->keepalive);
	if (peer->replace_allowed)
		write_line(uapi, "replace_allowed_ips", "true");
	return uapi_allowed(uapi, peer);
}

static void uapi_drop(struct wg *wg)
{
	struct uapi *uapi = uapi_of(wg);

	sodium_memzero(uapi->operation, uapi->n);
	uapi->n = 0;
	if (uapi->outstanding) /* a change that is given up half-way: its answer is of no use any more */
		uapi->fd = close_fd(uapi->fd);
	uapi->outstanding = false;
}

/* Of the private key, only the public half is kept. */
static int take_private_key(struct wg_reader *reader, const char *value)
{
	uint8_t key[KEY_BYTES];
	int r = hex_parse(value, key, sizeof(key));

	if (r == 0 && !sodium_is_zero(key, sizeof(key)))
		r = crypto_scalarmult_base(reader->device.public_key, key);
	sodium_memzero(key, sizeof(key));
	return r < 0 ? -EPROTO : 0;
}

static int take_public_key(struct wg_reader *reader, const char *value)
{
	uint8_t key[KEY_BYTES];

	if (hex_parse(value, key, sizeof(key)) < 0)
		return -EPROTO;
	wg_reader_peer(reader, key);
	return 0;
}

/* A link-local endpoint comes with a zone, "[fe80::1%eth0]:51820", which struct endpoint has no place for. */
static int take_endpoint(struct wg_reader *reader, const char *value)
{
	size_t zone = strcspn(value, "%");
	const char *rest = strchr(value + zone, ']');
	char text[ENDPOINT_TEXT];

	if (value[zone] && rest)
		(void)snprintf(text, sizeof(text), "%.*s%s", (int)zone, value, rest);
	else
		(void)snprintf(text, sizeof(text), "%s", value);
	return endpoint_parse(text, &reader->peer.endpoint) < 0 ? -EPROTO : 0;
}

static int take_allowed(struct wg_reader *reader, const char *value)
{
	struct prefix prefix;

	if (prefix_parse(value, &prefix) < 0)
		return -EPROTO;
	wg_reader_allowed(reader, &prefix);
	return 0;
}

/* Keys that are not known, and those that are and must not leave (preshared_key), are passed over. */
static int take_line(const char *key, const char *value, void *arg)
{
	struct wg_reader *reader = arg;
	struct wg_peer_state *peer = &reader->peer;
	uint64_t small = 0;
	int r = 0;

	if (strcmp(key, "public_key") == 0)
		return take_public_key(reader, value);
	if (strcmp(key, "private_key") == 0)
		return take_private_key(reader, value);
	if (strcmp(key, "allowed_ip") == 0)
		return take_allowed(reader, value);
	if (strcmp(key, "endpoint") == 0)
		return take_endpoint(reader, value);
	if (strcmp(key, "last_handshake_time_sec") == 0) {
		r = number(value, INT64_MAX / 1000, &peer->handshake);
		peer->handshake_ms = peer->handshake * 1000;
		return r;
	}
	if (strcmp(key, "last_handshake_time_nsec") == 0) { /* follows the seconds */
		r = number(value, 999999999, &small);
		peer->handshake_ms = peer->handshake * 1000 + small / 1000000;
		return r;
	}
	if (strcmp(key, "rx_bytes") == 0)
		return number(value, UINT64_MAX, &peer->rx_bytes);
	if (strcmp(key, "tx_bytes") == 0)
		return number(value, UINT64_MAX, &peer->tx_bytes);
	if (strcmp(key, "persistent_keepalive_interval") == 0) {
		r = number(value, UINT16_MAX, &small);
		peer->keepalive = (uint16_t)small;
	} else if (strcmp(key, "listen_port") == 0) {
		r = number(value, UINT16_MAX, &small);
		reader->device.listen_port = (uint16_t)small;
	}
	return r;
}

static int uapi_dump(struct wg *wg, wg_dump_fn *each, void *arg)
{
	struct wg_reader reader = { .each = each, .arg = arg };
	struct uapi *uapi = uapi_of(wg);
	int r;

	if (wg->changing)
		return -EBUSY; /* the buffer holds what was put */
	write_line(uapi, "get", "1");
	uapi->operation[uapi->n++] = '\n';
	r = operate(uapi);
	if (r == 0)
		r = settle(uapi, take_line, &reader);
	return r < 0 ? r : wg_reader_end(&reader);
}

static void uapi_close(struct wg *wg)
{
	struct uapi *uapi = uapi_of(wg);

	close_fd(uapi->fd);
	close_fd(wg->lifeline);
	uapi_drop(wg);
	free(uapi);
}

static const struct wg_ops uapi_ops = {
	.device = uapi_device,
	.peer = uapi_peer,
	.flush = uapi_flush,
	.drop = uapi_drop,
	.dump = uapi_dump,
	.close = uapi_close,
};

int wg_uapi_open(const char *name, struct wg **wg)
{
	_cleanup_close_ int lifeline = dial(name), fd = -1;
	struct uapi *uapi;

	if (lifeline < 0)
		return lifeline;
	fd = dial(name);
	if (fd < 0)
		return fd;
	uapi = calloc(1, sizeof(*uapi));
	if (!uapi)
		return -ENOMEM;
	uapi->wg.ops = &uapi_ops;
	(void)snprintf(uapi->wg.name, sizeof(uapi->wg.name), "%s", name);
	uapi->wg.lifeline = TAKE_FD(lifeline);
	uapi->fd = TAKE_FD(fd);
	uapi->patience_us = PATIENCE_US;
	uapi->since_us = now_us();
	*wg = &uapi->wg;
	return 0;
}
