/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The status of a host, for people and for programs.
 */
#pragma once

#include "cli/loopback/host.h"
#include "cli/loopback/meshview.h"

/* What fetchd says of itself. */
struct link_report {
	bool asked;    /* this user may ask */
	bool answered; /* and it did */
	int error;     /* why not: negative errno */
	bool enrolled, online;
	char url[1025], last_error[1025], last_code[32];
	uint64_t last_answer;             /* Unix ms; 0: none yet */
	uint64_t skew_ahead, skew_behind; /* seconds that this host's clock is ahead or behind */
};

/* How the peers of a view are, by their last handshake. */
struct peer_tally {
	uint64_t all, fresh, old, never;
	uint64_t rx_bytes, tx_bytes;
};

/* WireGuard rejects a session after 180 s (REJECT_AFTER_TIME): a handshake within it is a tunnel that works or idles. */
#define HANDSHAKE_FRESH_S 180

#define CLOCK_TOLD_S 5 /* a clock that is off by more is told of */

/**
 * Print it. Both read the view's peers to their end.
 * @param counted the view holds the peers, so their handshakes can be counted
 * @param peers list them one by one
 * @return CLI_OK, or what the program ends with (reported)
 */
_must_check_ int report_text(struct cli *cli, struct mesh_view *view, const struct link_report *link, bool counted, bool peers);
_must_check_ int report_json(struct cli *cli, struct mesh_view *view, const struct link_report *link, bool counted, bool peers);

#define WORDS 32
/** Words for a person, written to out. */
const char *words_ago(uint64_t seconds, char out[static WORDS]);
const char *words_amount(uint64_t bytes, char out[static WORDS]);
/** What a state of netd's means, and what to do about it. */
const char *words_state(const char *state);

/** Count a peer in. @param now Unix seconds */
void peer_tally_add(struct peer_tally *tally, const struct mesh_peer *peer, uint64_t now);
/** A view that ends in the middle of its peers. @return CLI_UNREACHABLE, reported */
int report_broken(struct cli *cli);
