/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes docs/design/ipc.md: facts come from the table as it was compiled, words from the comments of libipc/messages.def, each of which
 * belongs to the row that follows it.
 */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libipc/channel.h"
#include "libipc/messages.h"

#define IPCDOC_SOURCE "libipc/messages.def"
#define IPCDOC_PAGE "docs/design/ipc.md"

struct ipcdoc {
	FILE *out;
	char comment[2048]; /* the last one, without its marks */
	bool within;        /* a comment goes on in the next line */
	size_t rows;
};

struct ipcdoc_field {
	struct field_visitor visitor;
	FILE *out;
	const char *separator;
};

static inline void ipcdoc_put_field(struct field_visitor *visitor, enum field_kind kind, void *field, const char *name, uint64_t bound)
{
	struct ipcdoc_field *at = (struct ipcdoc_field *)visitor;

	(void)field;
	(void)fprintf(at->out, "%s`%s` ", at->separator, name);
	at->separator = ", ";
	switch (kind) {
	case FIELD_u64: (void)fprintf(at->out, "u64 <= %" PRIu64, bound); return;
	case FIELD_flag: (void)fprintf(at->out, "flag"); return;
	case FIELD_key: (void)fprintf(at->out, "bin %d", KEY_BYTES); return;
	case FIELD_bytes: (void)fprintf(at->out, "bin <= %" PRIu64, bound); return;
	case FIELD_text: (void)fprintf(at->out, "text <= %" PRIu64, bound); return;
	}
}

static inline void ipcdoc_intro(FILE *out)
{
	(void)fprintf(out,
		      "# Messages between our processes\n\n"
		      "Written by `tests/tools/ipcdoc.c` from `%s`; a unit test fails when this page is not what it writes.\n\n"
		      "A frame is one SOCK_SEQPACKET datagram of at most %d bytes: a msgpack array `[number, field, field ...]`, fields in the order given here. "
		      "Numbers are unsigned, `flag` is a boolean, `bin N` a binary of exactly N bytes, `text` a string without NUL. What does not fit a frame travels "
		      "as a memfd that is sealed against writing, shrinking and growing.\n\n"
		      "A receiver judges in this order: length and truncation, a bounded walk over the raw bytes, the number, the row's bytes, who sends it to "
		      "whom, the fields (type and bound of each, none missing, none more), the phase, the count of descriptors. Whatever fails "
		      "closes the channel with one log line; nobody resynchronises. A peer that lets %d bytes pile up, or takes nothing for %d s, is closed as well.\n\n"
		      "*phase* is the state of the channel, at its receiver, in which a message is taken. *bytes* is the longest frame, *fds* the exact count of "
		      "descriptors.\n",
		      IPCDOC_SOURCE, FRAME_BYTES_MAX, CHANNEL_QUEUE_BYTES, CHANNEL_STALL_MS / 1000);
}

static inline void ipcdoc_view(FILE *out)
{
	(void)fprintf(out,
		      "\n## The view\n\n"
		      "What the memfd of `view` holds: msgpack, arrays with fixed places as everywhere. It has no private key, and no key that is not on every peer.\n\n"
		      "    [1, interface, backend, state, stale, age of the last head, host id, WireGuard public key, listen port,\n"
		      "     [network ...], [outcome, code, reason, age], mended, [confirm, code, reason, age],\n"
		      "     [next keys, own, to move, second], [device key, device port], [peer ...]]\n"
		      "    network: [id, name, epoch, generation, mtu, keepalive, [own address ...], [range ...], peers,\n"
		      "              locked, generation of its admission list]\n"
		      "    peer:    [host id, WireGuard key, [allowed ...], endpoint or nil, handshake, received, sent, keepalive, there]\n\n"
		      "*1* is the version of this form. *backend*: `kernel` or `userspace`. *state*: `unpinned`, `unenrolled`, `waiting-tunnel`, `running`, `broken`. Ages are in "
		      "seconds, 2^32-1 for never; *stale*: no fresh head for 15 minutes. *outcome* is a number as in receipts, 0 for none yet, with the code and the reason "
		      "of a refusal. *mended*: peers that were found to differ from what is signed, since netd started. *confirm* is a number as in receipts, with a code and a reason if there is something to worry about. *next keys* in force, *own*: one is this host's; *to move*: peers to move to the second interface, or back from it; *second*: there is one (rotation.md). The generation is 0 without a list. *device key* and *device port* are what the device has, which should be what was said before; empty and 0 without peers. *[peer ...]* is what the device says, empty "
		      "if it was not asked for; and with *there* false what is signed and not on the device, an entry for each endpoint: this host itself, which shows how others are told to reach it, and any peer that is missing. *host id* is empty for a key that nobody signed for, *handshake* in Unix seconds, 0 for never, then bytes, "
		      "then seconds. Addresses, ranges and endpoints are written as in [formats.md](formats.md).\n");
}

/* "-- fetchd and netd: the "documents" socket. ------": a heading and the head of a table. */
static inline void ipcdoc_section(struct ipcdoc *doc)
{
	const char *text = doc->comment + 3;
	size_t n = strlen(text);

	while (n > 0 && strchr("-. ", text[n - 1]))
		n--;
	(void)fprintf(doc->out, "\n## %.*s\n\n", (int)n, text);
	(void)fprintf(doc->out, "| no | message | from | to | phase | bytes | fds | fields | what |\n|---|---|---|---|---|---|---|---|---|\n");
	doc->comment[0] = '\0';
}

static inline int ipcdoc_row(struct ipcdoc *doc, const char *line)
{
	size_t n = strcspn(line, ",");
	const struct message_type *row = NULL;
	struct ipcdoc_field at = { .visitor.field = ipcdoc_put_field, .out = doc->out, .separator = "" };
	union message_body body;

	for (size_t i = 0; i < message_type_count; i++)
		if (strlen(message_types[i].name) == n && memcmp(message_types[i].name, line, n) == 0)
			row = &message_types[i];
	if (!row)
		return -ENOENT;
	(void)fprintf(doc->out, "| %d | `%s` | %s | %s | %s | %zu | %u | ", (int)row->number, row->name, party_name(row->from), party_name(row->to),
		      phase_name(row->phase), row->bytes, row->fds);
	row->walk(&at.visitor, &body);
	(void)fprintf(doc->out, " | %s |\n", doc->comment);
	doc->comment[0] = '\0';
	doc->rows++;
	return 0;
}

/* One line of a comment, without its marks, appended to what there is of it. */
static inline void ipcdoc_comment(struct ipcdoc *doc, const char *line)
{
	size_t at = strlen(doc->comment), n;
	const char *end = strstr(line, "*/");

	doc->within = !end;
	if (strncmp(line, "/*", 2) == 0)
		line += 2;
	line += strspn(line, " *\t");
	n = !end ? strcspn(line, "\n") : end > line ? (size_t)(end - line) : 0; /* a line may hold nothing but the end */
	while (n > 0 && line[n - 1] == ' ')
		n--;
	if (at && at + 1 < sizeof(doc->comment))
		doc->comment[at++] = ' ';
	if (n > sizeof(doc->comment) - at - 1)
		n = sizeof(doc->comment) - at - 1;
	memcpy(doc->comment + at, line, n);
	doc->comment[at + n] = '\0';
}

/**
 * Write the page.
 * @param source messages.def, open for reading
 * @return 0; -ENOENT the source names a row that the table does not have; -EBADMSG the table has rows that the source does not
 */
static inline int ipcdoc_write(FILE *source, FILE *out)
{
	struct ipcdoc doc = { .out = out };
	char line[4096];
	int r = 0;

	ipcdoc_intro(out);
	while (r == 0 && fgets(line, sizeof(line), source)) {
		if (doc.within || strncmp(line, "/*", 2) == 0) {
			if (!doc.within)
				doc.comment[0] = '\0';
			ipcdoc_comment(&doc, line);
			if (!doc.within && strncmp(doc.comment, "-- ", 3) == 0)
				ipcdoc_section(&doc);
		} else if (strncmp(line, "M(", 2) == 0) {
			r = ipcdoc_row(&doc, line + 2);
		}
	}
	if (r == 0 && doc.rows != message_type_count)
		r = -EBADMSG;
	if (r == 0)
		ipcdoc_view(out);
	return r;
}
