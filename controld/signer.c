/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/signer.h"

#include <errno.h>
#include <string.h>

#include "libipc/channel.h"
#include "libipc/log.h"
#include "libipc/memfd.h"

#define CALL_TIMEOUT_MS 20000 /* a first signing of 50,000 peers verifies as many statements */
#define WINDOW 512            /* heads in flight; the rest waits here, where it costs no queue */

struct head_request {
	struct head_request *next;
	signer_head_fn *call;
	void *arg;
	size_t n;
	uint8_t payload[];
};

struct head_queue {
	struct head_request *first, **end;
};

struct signer {
	struct loop *loop;
	char *path;
	uint8_t *keyset;
	size_t keyset_n;
	int fd; /* for calls that wait; -1: not connected */
	uint8_t *frame;
	struct channel *channel; /* for heads; NULL: not connected */
	struct head_queue sent, waiting;
	unsigned in_flight;
};

static void queue_push(struct head_queue *queue, struct head_request *request)
{
	request->next = NULL;
	*queue->end = request;
	queue->end = &request->next;
}

static struct head_request *queue_pop(struct head_queue *queue)
{
	struct head_request *request = queue->first;

	if (!request)
		return NULL;
	queue->first = request->next;
	if (!queue->first)
		queue->end = &queue->first;
	return request;
}

/* Everything that is under way is lost. */
static void heads_fail(struct signer *signer)
{
	struct head_queue lost[2] = { signer->sent, signer->waiting };

	signer->sent.first = signer->waiting.first = NULL;
	signer->sent.end = &signer->sent.first;
	signer->waiting.end = &signer->waiting.first;
	signer->in_flight = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(lost); i++) {
		for (struct head_request *request = lost[i].first, *next; request; request = next) {
			next = request->next;
			if (request->arg)
				request->call(request->arg, -ECOMM, (struct view){ 0 }, NULL);
			free(request);
		}
	}
}

int signer_new(struct loop *loop, const char *path, struct signer **signer)
{
	_cleanup_(signer_free) struct signer *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->loop = loop;
	made->fd = -1;
	made->sent.end = &made->sent.first;
	made->waiting.end = &made->waiting.first;
	made->path = strdup(path);
	made->frame = malloc(FRAME_BYTES_MAX);
	if (!made->path || !made->frame)
		return -ENOMEM;
	*signer = TAKE_PTR(made);
	return 0;
}

static void queue_clear(struct head_queue *queue)
{
	for (struct head_request *request; (request = queue_pop(queue));)
		free(request);
}

void signer_free(struct signer *signer)
{
	if (!signer)
		return;
	queue_clear(&signer->sent);
	queue_clear(&signer->waiting);
	channel_free(signer->channel);
	signer->fd = close_fd(signer->fd);
	free(signer->path);
	free(signer->keyset);
	free(signer->frame);
	free(signer);
}

/* -- Calls that wait -------------------------------------------------------------------------------------------------------------- */

static int call(struct signer *signer, enum message_number number, const void *body, const int *fds, struct pack_writer *envelope,
		struct sign_refusal *refusal)
{
	struct message answer;
	int r;

	r = channel_call(signer->fd, PARTY_CONTROLD, PARTY_SIGND, number, body, fds, CALL_TIMEOUT_MS, signer->frame, &answer);
	if (r < 0) {
		signer->fd = close_fd(signer->fd); /* a late answer must not be taken for the next one */
		log_errno(r, "signd: no answer");
		return -ECOMM;
	}
	if (answer.number == MSG_sign_refused) {
		refusal->last = answer.body.sign_refused.last;
		refusal->cosign = answer.body.sign_refused.cosign;
		(void)log_clean(refusal->reason, sizeof(refusal->reason), answer.body.sign_refused.reason.p, answer.body.sign_refused.reason.n);
		return -EPERM;
	}
	if (envelope)
		pack_put_raw(envelope, answer.body.sign_done.envelope.p, answer.body.sign_done.envelope.n);
	return envelope ? envelope->error : 0;
}

static int call_keyset(struct signer *signer, struct sign_refusal *refusal)
{
	struct msg_sign_keyset request = { .envelope = { signer->keyset, signer->keyset_n } };

	return signer->keyset ? call(signer, MSG_sign_keyset, &request, NULL, NULL, refusal) : 0;
}

static int dial(struct signer *signer)
{
	struct sign_refusal refusal = { 0 };
	int r;

	if (signer->fd >= 0)
		return 0;
	signer->fd = channel_dial(signer->path);
	if (signer->fd < 0) {
		log_errno(signer->fd, "signd: cannot connect to %s; documents stay as they are", signer->path);
		signer->fd = -1;
		return -ECOMM;
	}
	r = call_keyset(signer, &refusal);
	if (r == -EPERM) /* what it refuses to sign under its own keyset it will say itself */
		log_error("signd does not take our keyset: %s", refusal.reason);
	return r == -EPERM ? 0 : r;
}

int signer_keyset(struct signer *signer, struct view envelope, struct sign_refusal *refusal)
{
	uint8_t *copy = malloc(envelope.n);
	int r;

	if (!copy)
		return -ENOMEM;
	memcpy(copy, envelope.p, envelope.n);
	free(signer->keyset);
	signer->keyset = copy;
	signer->keyset_n = envelope.n;
	r = dial(signer);
	return r < 0 ? r : call_keyset(signer, refusal);
}

static int sign(struct signer *signer, enum message_number number, const void *request, const int *fds, struct pack_writer *envelope,
		struct sign_refusal *refusal)
{
	int r = -ECOMM;

	for (int attempt = 0; attempt < 2 && r == -ECOMM; attempt++) {
		r = dial(signer);
		if (r == 0)
			r = call(signer, number, request, fds, envelope, refusal);
	}
	return r;
}

int signer_sign(struct signer *signer, enum document_type type, struct view payload, int nodes, struct pack_writer *envelope,
		struct sign_refusal *refusal)
{
	struct msg_sign request = { .type = type, .payload = payload };

	if (type == DOC_network)
		return signer_sign_network(signer, payload, (struct view){ 0 }, (struct view){ 0 }, nodes, envelope, refusal);
	return sign(signer, MSG_sign, &request, NULL, envelope, refusal);
}

int signer_sign_network(struct signer *signer, struct view payload, struct view list, struct view cosign, int nodes,
			struct pack_writer *envelope, struct sign_refusal *refusal)
{
	struct msg_sign_network request = { .payload = payload, .list = list, .cosign = cosign };

	return sign(signer, MSG_sign_network, &request, &nodes, envelope, refusal);
}

/* -- Heads ------------------------------------------------------------------------------------------------------------------------ */

static int head_send(struct signer *signer, const struct head_request *request)
{
	struct msg_sign message = { .type = DOC_head, .payload = { request->payload, request->n } };

	return channel_send(signer->channel, MSG_sign, &message, NULL);
}

static void heads_push(struct signer *signer)
{
	while (signer->in_flight < WINDOW && signer->waiting.first) {
		if (head_send(signer, signer->waiting.first) < 0)
			return; /* the channel closes by itself and says so */
		queue_push(&signer->sent, queue_pop(&signer->waiting));
		signer->in_flight++;
	}
}

static int head_answered(_unused_ struct channel *channel, struct message *message, void *arg)
{
	struct signer *signer = arg;
	struct head_request *request = queue_pop(&signer->sent);
	struct sign_refusal refusal = { 0 };

	if (!request)
		return -EPROTO;
	signer->in_flight--;
	if (message->number == MSG_sign_refused) {
		refusal.last = message->body.sign_refused.last;
		(void)log_clean(refusal.reason, sizeof(refusal.reason), message->body.sign_refused.reason.p,
				message->body.sign_refused.reason.n);
		if (request->arg)
			request->call(request->arg, -EPERM, (struct view){ 0 }, &refusal);
	} else if (request->arg) {
		request->call(request->arg, 0, message->body.sign_done.envelope, NULL);
	}
	free(request);
	heads_push(signer);
	return 0;
}

static void heads_closed(_unused_ struct channel *channel, int error, void *arg)
{
	struct signer *signer = arg;

	signer->channel = NULL;
	log_warning("signd: connection for heads lost%s%s; those under way are asked for again", error ? ": " : "",
		    error ? strerror(-error) : "");
	heads_fail(signer);
}

static const struct channel_events head_events = { .message = head_answered, .closed = heads_closed };

int signer_head(struct signer *signer, struct view payload, signer_head_fn *function, void *arg)
{
	struct head_request *request;

	/* The other connection carries the keyset to a signd that has just come up. */
	if (!signer->channel &&
	    (dial(signer) < 0 ||
	     channel_connect(signer->loop, signer->path, PARTY_CONTROLD, PARTY_SIGND, &head_events, signer, &signer->channel) < 0))
		return -ECOMM;
	request = malloc(sizeof(*request) + payload.n);
	if (!request)
		return -ENOMEM;
	request->call = function;
	request->arg = arg;
	request->n = payload.n;
	memcpy(request->payload, payload.p, payload.n);
	queue_push(&signer->waiting, request);
	heads_push(signer);
	return 0;
}

void signer_forget(struct signer *signer, const void *arg)
{
	struct head_queue *queues[] = { &signer->sent, &signer->waiting };

	for (unsigned i = 0; i < ARRAY_SIZE(queues); i++)
		for (struct head_request *request = queues[i]->first; request; request = request->next)
			if (request->arg == arg)
				request->arg = NULL;
}
