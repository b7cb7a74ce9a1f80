/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/doctor_probe.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ICMP_BYTES 8 /* of an echo's head, in both families */
#define TRIES 3
#define RECEIVE_BYTES (ECHO_BYTES_MAX + 128)
#define ROOM_BYTES (4 * 1024 * 1024)

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int doctor_wait(unsigned milliseconds, int stop)
{
	struct pollfd ready = { .fd = stop, .events = POLLIN };
	uint64_t until = now_ms() + milliseconds;

	for (uint64_t now = now_ms(); now < until; now = now_ms())
		if (poll(&ready, 1, (int)(until - now)) > 0)
			return -EINTR;
	return 0;
}

/* -- Echoes ---------------------------------------------------------------------------------------------------------------------------- */

struct asking {
	int fds[2]; /* IPv4, IPv6 */
	uint16_t id;
	struct echo *echoes;
	size_t count;
};

static void asking_close(struct asking *asking)
{
	asking->fds[0] = close_fd(asking->fds[0]);
	asking->fds[1] = close_fd(asking->fds[1]);
}

static int socket_open(bool six)
{
	const int discover = six ? IPV6_PMTUDISC_PROBE : IP_PMTUDISC_PROBE; /* DF, whatever was learnt of the path before */
	const int room = ROOM_BYTES;
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, six ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (setsockopt(fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &discover, sizeof(discover)) < 0) {
		int r = -errno;

		(void)close(fd);
		return r;
	}
	return fd;
}

static uint16_t checksum(const uint8_t *bytes, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static socklen_t address_of(const struct prefix *to, uint16_t port, struct sockaddr_storage *address)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (to->family == 6) {
		memcpy(&six.sin6_addr, to->b, 16);
		memcpy(address, &six, sizeof(six));
		return sizeof(six);
	}
	memcpy(&four.sin_addr, to->b, 4);
	memcpy(address, &four, sizeof(four));
	return sizeof(four);
}

static void echo_send(struct asking *asking, size_t place)
{
	uint8_t packet[ECHO_BYTES_MAX] = { 0 };
	struct echo *echo = &asking->echoes[place];
	bool six = echo->to.family == 6;
	size_t outer = six ? 40 : 20, whole = echo->bytes ? echo->bytes : ECHO_BYTES_MIN, n;
	struct sockaddr_storage to;
	socklen_t to_n = address_of(&echo->to, 0, &to);
	uint16_t sum;

	if (whole > sizeof(packet))
		whole = sizeof(packet);
	n = whole > outer + ICMP_BYTES ? whole - outer : ICMP_BYTES;
	packet[0] = six ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
	packet[4] = (uint8_t)(asking->id >> 8);
	packet[5] = (uint8_t)asking->id;
	packet[6] = (uint8_t)(place >> 8);
	packet[7] = (uint8_t)place;
	sum = six ? 0 : checksum(packet, n); /* the kernel's work for IPv6 (RFC 3542, 3.1) */
	memcpy(packet + 2, &sum, sizeof(sum));
	if (asking->fds[six] < 0)
		echo->error = -EAFNOSUPPORT;
	else
		echo->error = sendto(asking->fds[six], packet, n, 0, (struct sockaddr *)(void *)&to, to_n) < 0 ? -errno : 0;
}

/* An answer that is ours, from whom it was asked of. */
static void echo_take(struct asking *asking, bool six, const uint8_t *bytes, size_t n, const struct sockaddr_storage *from)
{
	const uint8_t *icmp = bytes;
	struct prefix who = { .family = six ? 6 : 4, .length = six ? 128 : 32 };
	size_t place, head = 0;

	if (!six) {
		head = n > 0 ? (size_t)(bytes[0] & 0xf) * 4 : 0;
		memcpy(who.b, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
	} else {
		memcpy(who.b, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
	}
	if (n < head + ICMP_BYTES)
		return;
	icmp += head;
	place = (size_t)icmp[6] << 8 | icmp[7];
	if (icmp[0] != (six ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) || ((unsigned)icmp[4] << 8 | icmp[5]) != asking->id || place >= asking->count)
		return;
	if (prefix_equal(&asking->echoes[place].to, &who))
		asking->echoes[place].answered = true;
}

static void drain(struct asking *asking, bool six)
{
	uint8_t bytes[RECEIVE_BYTES];
	struct sockaddr_storage from;
	socklen_t from_n = sizeof(from);
	ssize_t n;

	while ((n = recvfrom(asking->fds[six], bytes, sizeof(bytes), 0, (struct sockaddr *)(void *)&from, &from_n)) >= 0) {
		echo_take(asking, six, bytes, (size_t)n, &from);
		from_n = sizeof(from);
	}
}

static bool all_answered(const struct asking *asking)
{
	for (size_t i = 0; i < asking->count; i++)
		if (asking->echoes[i].to.family && !asking->echoes[i].answered)
			return false;
	return true;
}

static int listen_until(struct asking *asking, uint64_t until, int stop)
{
	struct pollfd ready[] = { { asking->fds[0], POLLIN, 0 }, { asking->fds[1], POLLIN, 0 }, { stop, POLLIN, 0 } };

	for (uint64_t now = now_ms(); now < until && !all_answered(asking); now = now_ms()) {
		if (poll(ready, ARRAY_SIZE(ready), (int)(until - now)) <= 0)
			continue;
		if (ready[2].revents)
			return -EINTR;
		for (int six = 0; six < 2; six++)
			if (ready[six].revents)
				drain(asking, six);
	}
	return 0;
}

int echo_ask(struct echo *echoes, size_t count, unsigned milliseconds, int stop)
{
	CLEANUP(asking_close) struct asking asking = { .fds = { -1, -1 }, .echoes = echoes, .count = count };
	int r = 0;

	asking.fds[0] = socket_open(false);
	asking.fds[1] = socket_open(true);
	if (asking.fds[0] < 0 && asking.fds[1] < 0)
		return asking.fds[0];
	if (getrandom(&asking.id, sizeof(asking.id), 0) < 0)
		return -errno;
	for (unsigned turn = 0; r == 0 && turn < TRIES; turn++) {
		for (size_t i = 0; i < count; i++)
			if (echoes[i].to.family && !echoes[i].answered)
				echo_send(&asking, i);
		r = listen_until(&asking, now_ms() + milliseconds / TRIES, stop);
	}
	return r;
}

/* -- Knocks ---------------------------------------------------------------------------------------------------------------------------- */

void knock_send(struct knock *knock)
{
	struct prefix address = { .family = knock->to.family };
	const int yes = 1; /* soft errors too: no host there, prohibited */
	struct sockaddr_storage to;
	socklen_t to_n;

	knock->fd = -1;
	if (!knock->to.family)
		return;
	memcpy(address.b, knock->to.b, sizeof(address.b));
	to_n = address_of(&address, knock->to.port, &to);
	knock->fd = socket(address.family == 6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (knock->fd >= 0)
		(void)setsockopt(knock->fd, address.family == 6 ? IPPROTO_IPV6 : IPPROTO_IP, address.family == 6 ? IPV6_RECVERR : IP_RECVERR, &yes,
				 sizeof(yes));
	if (knock->fd < 0 || connect(knock->fd, (struct sockaddr *)(void *)&to, to_n) < 0 || send(knock->fd, "", 0, 0) < 0)
		knock->error = -errno;
}

void knock_listen(struct knock *knock)
{
	int error = 0;
	socklen_t n = sizeof(error);

	if (knock->fd >= 0 && knock->error == 0 && getsockopt(knock->fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0)
		knock->error = -error;
}

void knock_end(struct knock *knock)
{
	knock_listen(knock);
	knock->fd = close_fd(knock->fd);
}
