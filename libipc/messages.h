/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What messages.def generates: numbers, structs, and the table that encoding, decoding and the sender check walk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libipc/types.h"

#define FRAME_BYTES_MAX 65536 /* one frame; anything larger travels as a sealed memfd */
#define FRAME_FDS_MAX 2

enum party { PARTY_NETD, PARTY_FETCHD, PARTY_ADMIN, PARTY_VIEWER, PARTY_LAUNCH, PARTY_CONTROLD, PARTY_SIGND };

/* ANY matches every phase. A channel begins in START or READY, as its owner says. */
enum phase { PHASE_ANY, PHASE_START, PHASE_READY, PHASE_WANTED };

enum field_kind { FIELD_u64, FIELD_flag, FIELD_key, FIELD_bytes, FIELD_text };

/* MSG_hello ... */
enum message_number {
#define M(name, number, from, to, phase, bytes, fds, fields) MSG_##name = (number),
#include "libipc/messages.def"
#undef M
};

/* struct msg_hello ... : fields are borrowed in both directions; key fields point to 32 bytes. */
#define MEMBER_u64(name) uint64_t name;
#define MEMBER_flag(name) bool name;
#define MEMBER_key(name) const uint8_t *name;
#define MEMBER_bytes(name) struct view name;
#define MEMBER_text(name) struct view name;
#define F(kind, name, bound) MEMBER_##kind(name)
#define M(name, number, from, to, phase, bytes, fds, fields) \
	struct msg_##name {                                  \
		char unused_[1]; /* C has no empty structs */ \
		fields                                       \
	};
#include "libipc/messages.def"
#undef M
#undef F

union message_body {
#define M(name, number, from, to, phase, bytes, fds, fields) struct msg_##name name;
#include "libipc/messages.def"
#undef M
};

/** A received message: which one, its fields, its descriptors. Descriptors belong to the channel until taken with TAKE_FD(). */
struct message {
	enum message_number number;
	union message_body body;
	int fds[FRAME_FDS_MAX];
};

/** What is done with each field of a message in turn: encode, decode, print. field points into the struct msg_*. */
struct field_visitor {
	void (*field)(struct field_visitor *visitor, enum field_kind kind, void *field, const char *name, uint64_t bound);
};

struct message_type {
	const char *name;
	enum message_number number;
	enum party from, to;
	enum phase phase;
	size_t bytes;         /* longest frame */
	unsigned fds;         /* exactly so many descriptors */
	uint32_t field_count;
	void (*walk)(struct field_visitor *visitor, void *body); /* generated: visits the fields in their order */
};

/** The table, in the order of messages.def. */
extern const struct message_type message_types[];
extern const size_t message_type_count;

/** @return the row of a number, NULL if there is none */
const struct message_type *message_type_of(uint64_t number);
const char *party_name(enum party party);
const char *phase_name(enum phase phase);

/**
 * Write a frame. Allocates nothing.
 * @param body the struct msg_* of that number
 * @param n receives the frame's length
 * @return 0; -EMSGSIZE a field is over its bound, or the frame over its bytes; -EINVAL no such message
 */
_must_check_ int message_encode(enum message_number number, const void *body, uint8_t *frame, size_t room, size_t *n);

struct pack_reader;

/**
 * Judge a frame: length, schema, sender, and write its fields. Phase and descriptors are the channel's to judge.
 * @param from who is at the other end, @param to who this process is
 * @param message untouched on failure; its fds are set to -1
 * @param why receives a constant text that says what was wrong
 * @return 0; -EMSGSIZE; -EBADMSG; -EPROTO a message that nobody may send here
 */
_must_check_ int message_decode(struct pack_reader *reader, const uint8_t *frame, size_t n, enum party from, enum party to,
				struct message *message, const struct message_type **type, const char **why);

/** A text field from a C string. */
struct view text_view(const char *text);
/** Copy a text field to a terminated string, cut to size. @return out */
const char *text_copy(char *out, size_t size, struct view text);
