/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loopback doctor: what is wrong with this host's part in the mesh, and what to do about it.
 *
 * Three steps. Facts are gathered (doctor_gather.c asks the daemons, doctor_host.c the kernel, doctor_probe.c the network); each check judges
 * them, and does nothing else (doctor_judge*.c); what they found is told (doctor_report.c). Which checks there are stands in doctor_checks.def.
 * Nothing of the host is changed.
 */
#pragma once

#include "cli/loopback/doctor_probe.h"
#include "cli/loopback/host.h"
#include "cli/loopback/meshview.h"
#include "cli/loopback/report.h"
#include "libwg/rtnl.h"

#define CHECK(name, rests_on, asks) CHECK_##name,
#define CAUSE(code, means, advice)
enum doctor_check {
#include "cli/loopback/doctor_checks.def"
	DOCTOR_CHECKS
};
#undef CHECK
#undef CAUSE

#define CHECK(name, rests_on, asks)
#define CAUSE(code, means, advice) CAUSE_##code,
enum doctor_cause {
#include "cli/loopback/doctor_checks.def"
	DOCTOR_CAUSES
};
#undef CHECK
#undef CAUSE

/* In the order of their weight for the exit status. */
enum doctor_result {
	DOCTOR_OK,
	DOCTOR_NOT_APPLICABLE,
	DOCTOR_NOT_ASKED, /* a check that it rests on has a problem */
	DOCTOR_UNKNOWN,   /* it could not be looked at */
	DOCTOR_PROBLEM,
};

/* -- Facts ----------------------------------------------------------------------------------------------------------------------------- */

#define PROBED_MAX 6         /* peers that are asked something, at most */
#define ADDRESSES_SEEN_MAX 32
#define RULES_SEEN_MAX 6
#define RULE_BYTES 200

struct doctor_peer {
	bool there; /* on the device */
	bool known; /* signed for; else host says nothing */
	bool own;   /* this host itself */
	struct id host;
	uint8_t wg_key[KEY_BYTES];
	unsigned allowed_count; /* of those given here; the device may have more */
	struct prefix allowed[ADDRESSES_MAX];
	bool has_endpoint;
	struct endpoint endpoint;
	uint64_t keepalive;
	uint64_t handshake, rx, tx;                   /* at first */
	uint64_t handshake_after, rx_after, tx_after; /* after all was asked */

	bool probed; /* the rest is known */
	int way_error;
	struct rtnl_way way; /* to its first address */
	char way_name[16];
	struct echo echo;        /* a small packet over the tunnel */
	unsigned passes, fails;  /* bytes of the largest packet that came back, of the smallest larger one that did not; 0: none did, all did */
	struct echo under;       /* the same to its endpoint, without the tunnel */
	struct knock knock;      /* a UDP datagram to its endpoint */
	struct rtnl_way under_way;
};

struct seen_address {
	int index;
	char interface[16];
	bool strict; /* the interface's rp_filter, with "all", is 1 */
	struct prefix address; /* with its on-link length */
};

struct port_facts {
	int error;
	bool held;      /* anybody listens at it */
	bool foreign;   /* and it is not the tunnel */
	char holder[64]; /* a program and its process */
};

struct firewall_facts {
	int error; /* the rules could not be read */
	unsigned count;
	char rules[RULES_SEEN_MAX][RULE_BYTES]; /* that drop and name the port or the interface */
	bool closed_input;  /* a chain on input drops by default, and no rule names the port */
};

struct host_facts {
	int error; /* of rtnetlink: what is below is not known */
	bool link_there;
	struct rtnl_link link;
	unsigned overlay_count, underlay_count;
	struct seen_address overlay[ADDRESSES_SEEN_MAX], underlay[ADDRESSES_SEEN_MAX];
	int disk_error;
	uint64_t disk_free, files_free; /* bytes; UINT64_MAX: the file system does not say */
	struct port_facts port;
	struct firewall_facts firewall;
};

struct facts {
	bool root;
	uint64_t now; /* Unix seconds, when the peers were last looked at */
	bool netd_runs, fetchd_runs; /* there is such a process in this host's network; true if nobody knows */
	int netd_error;
	struct mesh_view view; /* the latest; its peers are below */
	uint64_t mended_before;
	unsigned observed_ms; /* between the two looks at the peers; 0: there was one */
	struct link_report link;
	struct host_facts host;
	size_t peer_count;
	struct doctor_peer *peers;
	size_t chosen; /* 1 + place of the only peer that is to be examined; 0: all */
};

/** How a peer is, by all that was seen. */
enum condition {
	PEER_WELL,
	PEER_IDLE,      /* nobody spoke, nobody asked */
	PEER_QUIET,     /* the tunnel carries, the echo is not answered */
	PEER_LOST,      /* there is a session, and nothing comes back */
	PEER_HALF,      /* it speaks to us, and no handshake comes about */
	PEER_UNHEARD,   /* nothing of it comes here */
	PEER_NOWHERE,   /* no endpoint is known */
};
enum condition doctor_condition(const struct facts *facts, const struct doctor_peer *peer);
/** Is this peer to be judged: on the device, signed, not this host, and among those that are to be examined? */
bool doctor_concerns(const struct facts *facts, const struct doctor_peer *peer);

/* -- Diagnosis ------------------------------------------------------------------------------------------------------------------------- */

#define FINDINGS_MAX 8

struct finding {
	enum doctor_cause cause;
	const char *kind; /* "host", "peer", "interface", "network", "control plane" */
	char object[128], expected[256], found[768];
	char advice[320]; /* empty: the cause's */
	char host[ID_TEXT]; /* of a peer; else empty */
};

struct diagnosis {
	enum doctor_result result;
	char text[640]; /* what was found, in short */
	unsigned count; /* of findings; more than FINDINGS_MAX are counted */
	struct finding findings[FINDINGS_MAX + 1]; /* the last is for those that are only counted */
};

typedef void doctor_judge_fn(const struct facts *facts, struct diagnosis *diagnosis);
#define CHECK(name, rests_on, asks) doctor_judge_fn judge_##name;
#define CAUSE(code, means, advice)
#include "cli/loopback/doctor_checks.def"
#undef CHECK
#undef CAUSE

struct doctor_row {
	const char *name, *asks;
	unsigned rests_on; /* bits 1 << CHECK_x */
	doctor_judge_fn *judge;
};
extern const struct doctor_row doctor_rows[DOCTOR_CHECKS];
struct cause_row {
	const char *code, *means, *advice;
};
extern const struct cause_row doctor_causes[DOCTOR_CAUSES];

const char *doctor_result_name(enum doctor_result result);

/** Judge all checks in their order; one that rests on a problem is not asked. Pure. */
void doctor_judge(const struct facts *facts, struct diagnosis diagnoses[static DOCTOR_CHECKS]);
/** The worst there is: DOCTOR_OK, DOCTOR_UNKNOWN or DOCTOR_PROBLEM. */
enum doctor_result doctor_worst(const struct diagnosis diagnoses[static DOCTOR_CHECKS]);

/* For judges: say how it is. */
void diagnosis_say(struct diagnosis *diagnosis, enum doctor_result result, const char *format, ...) _printf_(3, 4);
/** Add a problem. @return it, to be filled in */
struct finding *diagnosis_problem(struct diagnosis *diagnosis, enum doctor_cause cause, const char *kind, const char *format, ...) _printf_(4, 5);
/** A problem of a peer, which is named by its address and host. */
struct finding *diagnosis_peer(struct diagnosis *diagnosis, enum doctor_cause cause, const struct doctor_peer *peer);
void finding_expected(struct finding *finding, const char *format, ...) _printf_(2, 3);
void finding_found(struct finding *finding, const char *format, ...) _printf_(2, 3);
void finding_do(struct finding *finding, const char *format, ...) _printf_(2, 3);

#define NAMED_BYTES 128
/** "100.64.0.2 (host 0123...)" */
const char *doctor_named(const struct doctor_peer *peer, char out[static NAMED_BYTES]);
/** An address without the length that says nothing. */
const char *doctor_address(const struct prefix *address, char out[static PREFIX_TEXT]);

/* -- Gathering ------------------------------------------------------------------------------------------------------------------------- */

/**
 * All facts. facts->peers is the caller's: facts_free().
 * @param peer words that name the only peer to be examined; NULL: some are
 * @return CLI_OK; -EINTR Ctrl-C; what cli_fail() gave: no such peer
 */
_must_check_ int doctor_gather(struct cli *cli, const char *peer, struct facts *facts);
void facts_free(struct facts *facts);
#define _cleanup_facts_ CLEANUP(facts_free)

/** What the kernel says of this host: doctor_host.c. @param rtnl NULL: it cannot be asked, facts->host.error says why */
void doctor_host(struct facts *facts, struct rtnl *rtnl);
/** Is there a process of this name in our network namespace? A service manager's socket takes connections for one that is dead. */
bool doctor_runs(const char *daemon);
/** Who has the UDP port? */
void doctor_port(struct facts *facts);
/** Rules of nftables, which hold those of iptables today, that may drop the mesh's packets. */
void doctor_firewall(struct facts *facts, int stop);
/** Read the rules as `nft list ruleset` tells them. Pure: text is cut into lines. */
void doctor_firewall_read(char *text, uint64_t port, const char *interface, struct firewall_facts *firewall);
/** Ways to peers that are probed. */
void doctor_ways(struct facts *facts, struct rtnl *rtnl);

void doctor_report_text(const struct facts *facts, const struct diagnosis diagnoses[static DOCTOR_CHECKS]);
void doctor_report_json(const struct facts *facts, const struct diagnosis diagnoses[static DOCTOR_CHECKS]);
