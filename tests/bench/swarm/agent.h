/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent as the control plane sees it: netd and fetchd in one, with real keys. It verifies each head (signature, nonce), names blobs by hashing them, checks
 * that what it was sent is all that the new trie needs, signs receipts, and polls as fetchd does: after a change at once, then parked.
 */
#pragma once

#include "fetchd/answer.h"
#include "libdoc/head.h"
#include "libdoc/keyset.h"
#include "tests/bench/swarm/connection.h"

#define HELD_MAX 8 /* entries of a head: keyset, host, networks */

enum agent_state {
	AGENT_IDLE,
	AGENT_ENROLLING,
	AGENT_POLLING, /* asks for an answer at once */
	AGENT_FETCHING, /* nodes that were not in the answer */
	AGENT_PARKED,
};

struct agent {
	struct swarm *swarm;
	struct connection connection;
	enum agent_state state;
	uint8_t host_secret[SECRET_KEY_BYTES], transport_secret[SECRET_KEY_BYTES], wg_key[KEY_BYTES];
	struct id id;
	uint8_t nonce[32];
	unsigned held_count;
	struct head_entry held[HELD_MAX], told[HELD_MAX]; /* in force; of the head under way */
	unsigned told_count;
	uint64_t signed_count;   /* generation of the next thing that it signs */
	bool receipt_due;        /* goes with the next poll */
	bool thorough;           /* walks whole tries */
	uint64_t learned_ns, acknowledged_ns; /* when the last change was here whole; when its receipt was taken. CLOCK_MONOTONIC */
	uint64_t requests, body_bytes;        /* since agent_count_anew() */
	unsigned missing_count;
	struct hash *missing; /* names to be fetched */
	struct stash stash;   /* the answer under way */
};

struct swarm {
	struct server server;
	struct keyset keyset;
	bool keyset_known;
	struct id deployment; /* of the keyset */
	char token[256];      /* ID.SECRET */
	struct agent *agents;
	unsigned count, active, parked, enrolled, failures; /* active: the first of them, who poll */
	char failure[256]; /* the first */
};

void agent_make(struct agent *agent, struct swarm *swarm, uint64_t number);
void agent_free(struct agent *agent);
_must_check_ int agent_enroll(struct agent *agent);
/** Poll: parked if it has everything that it was told of. */
_must_check_ int agent_poll(struct agent *agent, bool park);
/** Something happened on its connection. Never fails: what goes wrong is counted in the swarm, and the agent is idle. */
void agent_event(struct agent *agent);
void agent_count_anew(struct agent *agent);
uint64_t now_ns(void);
