/* SPDX-License-Identifier: Apache-2.0 */
/*
 * swarm: thousands of agents in one process, against a real control plane.
 *
 *   swarm PORT ROOT-KEY-HEX DEPLOYMENT-HEX TOKEN [tls]
 *
 * Reads commands from stdin, one a line, and answers each with one line of JSON:
 *
 *   enroll N LANES     N more agents, over so many connections at a time
 *   park SECONDS       poll with all of them, until each waits in a long poll; new ones begin with the network as the first has it
 *   active N           the first N of them poll from now on; the others are members and no more
 *   anew               counters and times begin again
 *   news SECONDS NS    wait until each has learned something and its receipt was taken; times since NS (CLOCK_MONOTONIC)
 *   drop               hang up on everything at once
 *   cold               one more agent, which looks at all that it is sent: how many requests until it has everything; since when it is a member
 *   count              how many are parked, what failed
 */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "tests/bench/swarm/agent.h"

#define AGENTS_MAX 60000
#define ACTIVE_MAX 19000 /* descriptors are capped at 20,000 */
#define EVENTS 512

static void turn(struct swarm *swarm, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(swarm->server.epoll, events, EVENTS, timeout_ms);

	for (int i = 0; i < count; i++)
		agent_event(events[i].data.ptr);
}

static int grow(struct swarm *swarm, unsigned count)
{
	if (swarm->count + count > AGENTS_MAX)
		return -E2BIG;
	for (unsigned i = 0; i < count; i++)
		agent_make(&swarm->agents[swarm->count + i], swarm, swarm->count + i);
	swarm->count += count;
	swarm->active = swarm->count < ACTIVE_MAX ? swarm->count : ACTIVE_MAX;
	return 0;
}

static void cmd_enroll(struct swarm *swarm, unsigned count, unsigned lanes)
{
	unsigned first = swarm->count, next = first, before = swarm->enrolled;
	uint64_t begun = now_ns();

	if (grow(swarm, count) < 0)
		return;
	while (swarm->enrolled - before < count && swarm->failures == 0) {
		unsigned under_way = next - first - (swarm->enrolled - before);

		while (next < swarm->count && under_way < lanes && swarm->failures == 0) {
			if (agent_enroll(&swarm->agents[next]) < 0)
				swarm->failures++;
			next++;
			under_way++;
		}
		turn(swarm, 1000);
		for (unsigned i = first; i < next; i++) /* a host's own connection begins with its first poll */
			if (swarm->agents[i].state == AGENT_IDLE && swarm->agents[i].connection.fd >= 0)
				connection_close(&swarm->agents[i].connection);
	}
	(void)printf("{\"seconds\": %.3f", (double)(now_ns() - begun) / 1e9);
}

/* As if it had been told of the network before, like the first: ten thousand hosts that come for all of it at once would be 17 GB. */
static void learn_from_first(struct swarm *swarm, struct agent *agent)
{
	const struct agent *first = &swarm->agents[0];

	for (unsigned i = 0; agent != first && agent->held_count == 0 && i < first->held_count; i++)
		if (first->held[i].type != DOC_host)
			agent->told[agent->told_count++] = first->held[i];
	if (agent->held_count == 0) {
		memcpy(agent->held, agent->told, sizeof(agent->held));
		agent->held_count = agent->told_count;
	}
	agent->told_count = 0;
}

static void cmd_park(struct swarm *swarm, unsigned seconds)
{
	uint64_t begun = now_ns(), until = begun + (uint64_t)seconds * 1000000000;

	if (swarm->count && swarm->agents[0].state == AGENT_IDLE && agent_poll(&swarm->agents[0], false) < 0)
		swarm->failures++;
	while (swarm->count && swarm->agents[0].state != AGENT_PARKED && swarm->failures == 0 && now_ns() < until)
		turn(swarm, 100);
	for (unsigned i = 1; i < swarm->active; i++)
		learn_from_first(swarm, &swarm->agents[i]);
	for (unsigned i = 0; i < swarm->active; i++) {
		if (swarm->agents[i].state == AGENT_IDLE && agent_poll(&swarm->agents[i], false) < 0)
			swarm->failures++;
		if (i % 64 == 0)
			turn(swarm, 0);
	}
	while (swarm->parked < swarm->active && swarm->failures == 0 && now_ns() < until)
		turn(swarm, 100);
	(void)printf("{\"seconds\": %.3f", (double)(now_ns() - begun) / 1e9);
}

static int order(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void put_times(const char *name, double *times, unsigned count)
{
	qsort(times, count, sizeof(times[0]), order);
	(void)printf(", \"%s\": {\"p50\": %.4f, \"p99\": %.4f, \"max\": %.4f}", name, times[count / 2], times[(count * 99ULL) / 100],
		     times[count - 1]);
}

static void cmd_news(struct swarm *swarm, unsigned seconds, uint64_t since)
{
	uint64_t until = now_ns() + (uint64_t)seconds * 1000000000, bytes = 0, most = 0;
	_cleanup_free_ double *learned = calloc(swarm->count + 1, sizeof(*learned)), *taken = calloc(swarm->count + 1, sizeof(*taken));
	unsigned have = 0;

	while (have < swarm->active && swarm->failures == 0 && now_ns() < until) {
		turn(swarm, 20);
		have = 0;
		for (unsigned i = 0; i < swarm->active; i++)
			have += swarm->agents[i].acknowledged_ns > since && swarm->agents[i].state == AGENT_PARKED;
	}
	have = 0;
	for (unsigned i = 0; learned && taken && i < swarm->active; i++) {
		const struct agent *agent = &swarm->agents[i];

		if (agent->acknowledged_ns <= since)
			continue;
		learned[have] = (double)(agent->learned_ns - since) / 1e9;
		taken[have++] = (double)(agent->acknowledged_ns - since) / 1e9;
		bytes += agent->body_bytes;
		most = agent->body_bytes > most ? agent->body_bytes : most;
	}
	(void)printf("{\"told\": %u, \"bytes_mean\": %" PRIu64 ", \"bytes_max\": %" PRIu64, have, have ? bytes / have : 0, most);
	if (have) {
		put_times("learned", learned, have);
		put_times("receipt", taken, have);
	}
}

static void cmd_drop(struct swarm *swarm)
{
	for (unsigned i = 0; i < swarm->count; i++) {
		connection_close(&swarm->agents[i].connection);
		swarm->agents[i].state = AGENT_IDLE;
	}
	swarm->parked = 0;
	(void)printf("{\"dropped\": %u", swarm->count);
}

static void cmd_cold(struct swarm *swarm)
{
	unsigned active = swarm->active;
	struct agent *agent;
	uint64_t enrolled;

	cmd_enroll(swarm, 1, 1);
	enrolled = now_ns();
	swarm->active = active; /* it is a guest */
	agent = &swarm->agents[swarm->count - 1];
	agent_count_anew(agent);
	agent->thorough = true;
	if (agent_poll(agent, false) < 0)
		swarm->failures++;
	while (!agent->learned_ns && swarm->failures == 0)
		turn(swarm, 100);
	agent->state = AGENT_IDLE;
	connection_close(&agent->connection);
	/* The last request is the receipt's. */
	(void)printf(", \"since\": %" PRIu64 ", \"requests\": %" PRIu64 ", \"bytes\": %" PRIu64, enrolled, agent->requests - 1, agent->body_bytes);
}

static void obey(struct swarm *swarm, const char *line)
{
	char verb[16] = "";
	unsigned a = 0, b = 0;
	uint64_t since = 0;

	(void)sscanf(line, "%15s %u %u", verb, &a, &b);
	if (strcmp(verb, "enroll") == 0) {
		cmd_enroll(swarm, a, b);
	} else if (strcmp(verb, "park") == 0) {
		cmd_park(swarm, a);
	} else if (strcmp(verb, "news") == 0 && sscanf(line, "%*s %*u %" SCNu64, &since) == 1) {
		cmd_news(swarm, a, since);
	} else if (strcmp(verb, "drop") == 0) {
		cmd_drop(swarm);
	} else if (strcmp(verb, "cold") == 0) {
		cmd_cold(swarm);
	} else if (strcmp(verb, "active") == 0) {
		swarm->active = a < swarm->count && a < ACTIVE_MAX ? a : swarm->active;
		(void)printf("{\"active\": %u", swarm->active);
	} else if (strcmp(verb, "anew") == 0 || strcmp(verb, "count") == 0) {
		for (unsigned i = 0; verb[0] == 'a' && i < swarm->count; i++)
			agent_count_anew(&swarm->agents[i]);
		(void)printf("{\"agents\": %u", swarm->count);
	} else {
		(void)printf("{\"error\": \"there is no such command\"");
	}
	(void)printf(", \"parked\": %u, \"failures\": %u, \"failure\": \"%s\"}\n", swarm->parked, swarm->failures, swarm->failure);
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	static struct swarm swarm; /* the one context; static for its size */
	char line[256];
	size_t n;

	if (argc < 5 || sodium_init() < 0 || sodium_hex2bin(swarm.keyset.root, KEY_BYTES, argv[2], strlen(argv[2]), NULL, &n, NULL) != 0 ||
	    sodium_hex2bin(swarm.deployment.b, ID_BYTES, argv[3], strlen(argv[3]), NULL, &n, NULL) != 0) {
		(void)fprintf(stderr, "Usage: swarm PORT ROOT-KEY DEPLOYMENT TOKEN [tls]\n");
		return EXIT_FAILURE;
	}
	swarm.server.epoll = epoll_create1(EPOLL_CLOEXEC);
	swarm.server.address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
						     .sin_addr = { htonl(INADDR_LOOPBACK) } };
	(void)snprintf(swarm.token, sizeof(swarm.token), "%s", argv[4]);
	if (argc > 5 && gnutls_certificate_allocate_credentials(&swarm.server.tls) < 0)
		return EXIT_FAILURE;
	swarm.agents = calloc(AGENTS_MAX, sizeof(swarm.agents[0]));
	if (!swarm.agents || swarm.server.epoll < 0)
		return EXIT_FAILURE;
	while (fgets(line, sizeof(line), stdin))
		obey(&swarm, line);
	for (unsigned i = 0; i < swarm.count; i++)
		agent_free(&swarm.agents[i]);
	free(swarm.agents);
	return EXIT_SUCCESS;
}
