/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests on the sign socket. Check, commit, sign, answer; in this order.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "libipc/log.h"
#include "libipc/memfd.h"
#include "signd/signd.h"

static int answer_signed(struct channel *channel, struct view envelope)
{
	struct msg_sign_done answer = { .envelope = envelope };

	return channel_send(channel, MSG_sign_done, &answer, NULL);
}

static int answer_refused(struct channel *channel, const struct refusal *refusal)
{
	struct msg_sign_refused answer = { .last = refusal->last, .reason = text_view(refusal->reason), .cosign = refusal->cosign };

	log_warning("refused: %s", refusal->reason);
	return channel_send(channel, MSG_sign_refused, &answer, NULL);
}

/* The very same payload as last time has the very same signature: a control plane that lost the answer gets it again. */
static bool signed_already(const struct signed_document *last, struct view payload)
{
	struct envelope envelope;

	return last->envelope && envelope_open(last->envelope, last->envelope_n, &envelope) == 0 && envelope.payload.n == payload.n &&
	       memcmp(envelope.payload.p, payload.p, payload.n) == 0;
}

/* What holds for every document with a generation. */
static int succession_check(const struct signd *signd, const struct document_header *header, const struct signed_document *last,
			    struct refusal *refusal)
{
	int r;

	r = header_check(signd, header, refusal);
	if (r < 0)
		return r;
	if (last->envelope && !id_equal(&header->organization, &last->organization))
		return refuse(refusal, "the document belonged to another organization before; that never changes");
	if (header->generation != last->generation + 1)
		return refuse(refusal, "generation %" PRIu64 " does not follow %" PRIu64 ", which was signed last", header->generation,
			      last->generation);
	return 0;
}

/* The key's only use for documents that last: sign, and note what was signed. */
static int sign_and_note(struct signd *signd, enum document_type type, struct view payload, const struct document_header *header,
			 struct pack_writer *envelope)
{
	struct signed_document document = {
		.type = type,
		.id = header->id,
		.organization = header->organization,
		.epoch = header->epoch,
		.generation = header->generation,
	};
	int r = envelope_sign(type, payload.p, payload.n, signd->secret, envelope);

	if (r < 0)
		return r;
	document.envelope = envelope->bytes;
	document.envelope_n = envelope->n;
	hash_of(envelope->bytes, envelope->n, &document.hash);
	return state_document_put(signd->state, &document);
}

static int network_step(struct signd *signd, const struct msg_sign_network *request, const struct node_set *nodes,
			const struct network_document *network, const struct signed_document *last, struct refusal *refusal,
			struct pack_writer *out)
{
	struct operators_word word = { .listed = false };
	struct network_document before;
	struct envelope envelope;
	int r;

	r = keyset_permits(signd, refusal);
	if (r == 0)
		r = succession_check(signd, &network->header, last, refusal);
	if (r == 0 && last->envelope) {
		r = envelope_open(last->envelope, last->envelope_n, &envelope);
		if (r == 0)
			r = network_document_decode(envelope.payload, &before);
	}
	if (r == 0)
		r = list_take(signd, network, request->payload, request->list, request->cosign, nodes, &word, refusal);
	if (r == 0)
		r = network_check(signd, network, last->envelope ? &before : NULL, nodes, &word, refusal);
	if (r == 0)
		r = sign_and_note(signd, DOC_network, request->payload, &network->header, out);
	return r;
}

/* Run one step in a transaction of its own; what it signed leaves after the commit. */
static int finish(struct signd *signd, struct channel *channel, int r, const struct refusal *refusal, const struct pack_writer *out)
{
	if (r == 0)
		r = state_commit(signd->state);
	if (r == 0)
		return answer_signed(channel, (struct view){ out->bytes, out->n });
	state_rollback(signd->state);
	return r == -EPERM ? answer_refused(channel, refusal) : r;
}

static int sign_network(struct signd *signd, struct channel *channel, const struct msg_sign_network *request, int fd)
{
	_cleanup_document_ struct signed_document last = { 0 };
	_cleanup_writer_ struct pack_writer out = { 0 };
	_cleanup_(node_set_free) struct node_set *nodes = NULL;
	_cleanup_free_ uint8_t *bytes = NULL;
	struct refusal refusal = { 0 };
	struct network_document network;
	size_t n;
	int r;

	r = memfd_read(fd, NODES_BYTES_MAX, &bytes, &n);
	if (r == 0)
		r = node_set_new(bytes, n, &nodes);
	if (r < 0)
		return r == -ENOMEM ? r : -EPROTO;
	if (network_document_decode(request->payload, &network) < 0) {
		(void)refuse(&refusal, "network: malformed document");
		return answer_refused(channel, &refusal);
	}
	r = state_document(signd->state, DOC_network, &network.header.id, true, &last);
	if (r < 0 && r != -ENOENT)
		return r;
	refusal.last = last.generation;
	/* With a list that signd has not taken yet it is not the same. */
	if (signed_already(&last, request->payload) && (request->list.n == 0 || list_is_last(signd, &network.header.id, request->list)))
		return answer_signed(channel, (struct view){ last.envelope, last.envelope_n });

	r = state_begin(signd->state);
	if (r == 0)
		r = network_step(signd, request, nodes, &network, &last, &refusal, &out);
	return finish(signd, channel, r, &refusal, &out);
}

static int sign_host(struct signd *signd, struct channel *channel, struct view payload)
{
	_cleanup_document_ struct signed_document last = { 0 };
	_cleanup_writer_ struct pack_writer out = { 0 };
	struct refusal refusal = { 0 };
	struct host_document host;
	int r;

	if (host_document_decode(payload, &host) < 0) {
		(void)refuse(&refusal, "host: malformed document");
		return answer_refused(channel, &refusal);
	}
	r = state_document(signd->state, DOC_host, &host.header.id, true, &last);
	if (r < 0 && r != -ENOENT)
		return r;
	refusal.last = last.generation;
	if (signed_already(&last, payload))
		return answer_signed(channel, (struct view){ last.envelope, last.envelope_n });

	r = state_begin(signd->state);
	if (r == 0)
		r = keyset_permits(signd, &refusal);
	if (r == 0)
		r = succession_check(signd, &host.header, &last, &refusal);
	if (r == 0)
		r = host_check(signd, &host, &refusal);
	if (r == 0)
		r = sign_and_note(signd, DOC_host, payload, &host.header, &out);
	return finish(signd, channel, r, &refusal, &out);
}

/* Heads have no state: they say again, for one nonce, what is signed already. */
static int sign_head(struct signd *signd, struct channel *channel, struct view payload)
{
	uint8_t buffer[ENVELOPE_BYTES_MAX];
	struct pack_writer out = pack_writer_over(buffer, sizeof(buffer));
	struct refusal refusal = { 0 };
	struct head head;
	int r;

	if (head_decode(payload, &head) < 0) {
		(void)refuse(&refusal, "head: malformed document");
		return answer_refused(channel, &refusal);
	}
	r = keyset_permits(signd, &refusal);
	if (r == 0)
		r = header_check(signd, &head.header, &refusal);
	if (r == 0)
		r = head_check(signd, &head, &refusal);
	if (r == 0)
		r = envelope_sign(DOC_head, payload.p, payload.n, signd->secret, &out);
	if (r == -EPERM)
		return answer_refused(channel, &refusal);
	return r < 0 ? r : answer_signed(channel, (struct view){ out.bytes, out.n });
}

static int sign_keyset(struct signd *signd, struct channel *channel, struct view envelope)
{
	struct refusal refusal = { 0 };
	int r = keyset_take(signd, envelope, &refusal);

	if (r == -EPERM)
		return answer_refused(channel, &refusal);
	return r < 0 ? r : answer_signed(channel, envelope);
}

int sign_message(struct channel *channel, struct message *message, void *arg)
{
	struct signd *signd = arg;
	struct refusal refusal = { 0 };

	switch (message->number) {
	case MSG_sign_keyset:
		return sign_keyset(signd, channel, message->body.sign_keyset.envelope);
	case MSG_sign_network:
		return sign_network(signd, channel, &message->body.sign_network, message->fds[0]);
	case MSG_sign:
		if (message->body.sign.type == DOC_head)
			return sign_head(signd, channel, message->body.sign.payload);
		if (message->body.sign.type == DOC_host)
			return sign_host(signd, channel, message->body.sign.payload);
		(void)refuse(&refusal, "a document of type %" PRIu64 " is not for signd to sign", message->body.sign.type);
		return answer_refused(channel, &refusal);
	default:
		return -EPROTO; /* messages.def sends nothing else here */
	}
}
