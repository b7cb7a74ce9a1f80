/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents about one host: what the control plane gives it, and what it says of itself.
 */
#pragma once

#include "libdoc/assigned.h"
#include "libdoc/envelope.h"
#include "libdoc/head.h"

/*
 * -- The host document, signed online: [header, name, [[network id, [address ...]] ...], rotate, assigned]. header.id is the host's. rotate: the counter of the
 * WireGuard key that is to be replaced; 0: none is. assigned: the key that is to follow it, in a box (libdoc/assigned.h), or empty: the host makes one. --------
 */

struct host_network {
	struct id network;
	unsigned address_count;
	struct prefix addresses[ADDRESSES_MAX]; /* of full length */
};

struct host_document {
	struct document_header header;
	char name[NAME_BYTES_MAX + 1];
	unsigned network_count;
	struct host_network networks[NETWORKS_MAX]; /* no network twice */
	uint64_t rotate; /* a key with this counter is to get a successor */
	bool assigned;   /* which is in the box; only with rotate */
	uint8_t box[ASSIGNED_BYTES];
};

_must_check_ int host_document_encode(const struct host_document *host, struct pack_writer *payload);
_must_check_ int host_document_decode(struct view payload, struct host_document *host);

/* -- The statement: a host vouches for its own WireGuard key. It stands in every peer entry. -------------------------------------- */

/*
 * Signed as DSSE type "loopback/statement/1" over msgpack [deployment, host key, WireGuard key, counter]; the signature alone travels, for
 * the entry holds the rest. The counter grows with each new key, so that an old key cannot come back.
 */
struct statement {
	uint8_t host_key[KEY_BYTES]; /* Ed25519 */
	uint8_t wg_key[KEY_BYTES];   /* X25519, public */
	uint64_t counter;
	uint8_t signature[SIGNATURE_BYTES];
};

/** Fill in the signature. */
_must_check_ int statement_sign(struct statement *statement, const struct id *deployment, const uint8_t secret[static SECRET_KEY_BYTES]);
/* Of the next key in an entry whose statement has this host key: what is written of it is [WireGuard key, counter, signature], or [] for none (counter 0). */
void statement_next_write(struct pack_writer *writer, const struct statement *next);
void statement_next_read(struct pack_cursor *cursor, const struct statement *statement, struct statement *next);
#define STATEMENT_NEXT_ELEMENTS 3

/** @return 0; -EKEYREJECTED */
_must_check_ int statement_verify(const struct statement *statement, const struct id *deployment);

/* -- The registration, signed by the host key: who I am and how I am reached. ----------------------------------------------------- */

/* [header, host key, [WireGuard key, counter, signature], next, transport key, listen port, backend, version, [endpoint address ...], flags]; next: as in a peer entry */
#define REGISTRATION_ADDRESSES_MAX 8

enum registration_flags {
	REGISTRATION_ASSIGNABLE = 1 << 0, /* the host takes a WireGuard key that the control plane makes */
};

struct registration {
	struct document_header header; /* id: the host's; generation: grows with each one */
	struct statement statement;
	struct statement next; /* of the key that is to follow; counter 0: none */
	uint8_t transport_key[KEY_BYTES]; /* fetchd's; what signs requests (RFC 9421) */
	uint16_t listen_port;
	char backend[16];  /* "kernel", "userspace", "none" while undecided */
	char version[32];  /* of the agent */
	unsigned address_count;
	struct endpoint addresses[REGISTRATION_ADDRESSES_MAX]; /* global underlay addresses, with the listen port */
	uint32_t flags;
};

_must_check_ int registration_encode(const struct registration *registration, struct pack_writer *payload);
/** Verify by the host key that it names, its statement too, that header.id is that key's id, and decode. @return 0; -EKEYREJECTED; -EBADMSG; -EMSGSIZE */
_must_check_ int registration_open(const void *bytes, size_t n, struct registration *registration);

/* -- Receipt and departure, signed by the host key. --------------------------------------------------------------------------------- */

#define OUTCOMES(O)                                                                                              \
	O(applied, 1)   /* what the head names is in force */                                                    \
	O(unchanged, 2) /* it was in force already; no receipt is made */                                        \
	O(refused, 3)   /* something in it is not acceptable; what ran before runs on */                         \
	O(reverted, 4)  /* it was acceptable, applying failed, what ran before is in force again */              \
	O(broken, 5)    /* applying failed and going back failed too; netd tries again until one works */

enum outcome {
#define O(name, number) OUTCOME_##name = (number),
	OUTCOMES(O)
#undef O
};
const char *outcome_name(enum outcome outcome);

#define REASON_BYTES_MAX 500

/* Has a fresh head come since a change, which shows that the change did not cut this host off? (DESIGN: confirm) */
#define CONFIRMS(C)                                                                                               \
	C(none, 0)        /* nothing to confirm: nothing in force, or the control plane was not heard of before the change */ \
	C(confirmed, 1)   /* a head came for a nonce made after the change */                                      \
	C(unconfirmed, 2) /* none came yet; or none came in time, and there was nothing whose return could help */ \
	C(restored, 3)    /* none came in time: addresses, routes, MTU and endpoints are those from before the change */

enum confirm {
#define C(name, number) CONFIRM_##name = (number),
	CONFIRMS(C)
#undef C
};
const char *confirm_name(enum confirm confirm);

/*
 * [header, outcome, code, reason, [entry ...], applied in us, peers, confirm, mended, moving]: entries as in a head: what was offered, or what is in
 * force. header.id: the host's
 */
struct receipt {
	struct document_header header; /* generation: grows with each receipt, so that none can be replayed */
	enum outcome outcome;
	char code[32];                      /* a stable word for programs: "overlap", "missing-node", ... */
	char reason[REASON_BYTES_MAX + 1];  /* for a person */
	unsigned count;
	struct head_entry *entries; /* room for HEAD_ENTRIES_MAX; the caller's */
	uint64_t apply_us;          /* from offer to result */
	uint64_t peers;             /* in force now */
	enum confirm confirm;       /* of what is in force */
	uint64_t mended;            /* times that drift of the device was found and mended since netd started (M12) */
	uint64_t moving;            /* peers to move over to, of those that get a new key, or all if it gets one itself; or to move back from, plus one (M10) */
};

_must_check_ int receipt_encode(const struct receipt *receipt, struct pack_writer *payload);
/** Verify by host_key and decode. receipt->entries must have room for HEAD_ENTRIES_MAX. @return 0; -EKEYREJECTED; -EBADMSG */
_must_check_ int receipt_open(const void *bytes, size_t n, const uint8_t host_key[static KEY_BYTES], struct receipt *receipt);

/* Departure payload: [header, host key]. */
_must_check_ int departure_encode(const struct document_header *header, const uint8_t host_key[static KEY_BYTES], struct pack_writer *payload);
_must_check_ int departure_open(const void *bytes, size_t n, const uint8_t host_key[static KEY_BYTES], struct document_header *header);
