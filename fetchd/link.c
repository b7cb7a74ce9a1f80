/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/link_internal.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "libipc/log.h"

#define SILENCE_S 20         /* between two pieces of an answer */
#define ANSWER_S 30          /* for a whole answer from its first byte, and as long again as it takes at this rate: */
#define ANSWER_BYTES_A_MS 32
#define HEADER_BYTES_MAX 32768
#define BODY_START_BYTES 4096

/* -- curl's sockets and time-outs on our loop -------------------------------------------------------------------------------------- */

static void collect(struct link *link);

static void socket_ready(int fd, uint32_t events, void *arg)
{
	struct link *link = arg;
	int action = 0, running;

	if (events & (EPOLLIN | EPOLLHUP))
		action |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		action |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		action |= CURL_CSELECT_ERR;
	(void)curl_multi_socket_action(link->multi, fd, action, &running);
	collect(link);
}

static void timer_due(void *arg)
{
	struct link *link = arg;
	int running;

	(void)curl_multi_socket_action(link->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(link);
}

static int socket_wanted(CURL *easy _unused_, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct link *link = arg;
	struct loop_watch *watch = socket_arg;
	uint32_t events = 0;
	int r = 0;

	if (what == CURL_POLL_REMOVE) {
		loop_watch_remove(&watch);
		(void)curl_multi_assign(link->multi, fd, NULL);
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	if (watch) {
		r = loop_watch_change(watch, events);
	} else {
		r = loop_watch_add(link->loop, fd, events, socket_ready, link, &watch);
		if (r == 0)
			(void)curl_multi_assign(link->multi, fd, watch);
	}
	if (r < 0)
		(void)log_errno(r, "cannot watch a connection to the control plane; its request will time out");
	return r < 0 ? -1 : 0;
}

static int timer_wanted(CURLM *multi _unused_, long milliseconds, void *arg)
{
	struct link *link = arg;

	if (milliseconds < 0)
		loop_timer_stop(link->timer);
	else
		loop_timer_set(link->timer, (uint64_t)milliseconds);
	return 0;
}

/* -- An answer as it arrives -------------------------------------------------------------------------------------------------------- */

/* Every answer tells the server's time. Believed only for the `created` of our signatures. */
static void date_seen(struct link *link, const char *line, size_t n)
{
	char text[64];
	time_t date;

	if (n < 6 || n - 5 >= sizeof(text) || strncasecmp(line, "date:", 5) != 0)
		return;
	memcpy(text, line + 5, n - 5);
	text[n - 5] = '\0';
	date = curl_getdate(text, NULL);
	if (date > 0)
		link->ahead_s = (int64_t)time(NULL) - (int64_t)date;
}

/*
 * Something came. The next piece may take its time, but not so that all of them together hold us for ever: a server that sends a byte now
 * and then has ANSWER_S.
 */
static void arrived(struct transfer *transfer)
{
	uint64_t now = loop_now_ms();
	uint64_t end, patience = SILENCE_S * 1000;

	if (transfer->began == 0)
		transfer->began = now;
	end = transfer->began + ANSWER_S * 1000 + transfer->n / ANSWER_BYTES_A_MS;
	if (end < now + patience)
		patience = end > now ? end - now : 0;
	loop_timer_set(transfer->silence, patience);
}

size_t link_header_arrived(char *line, size_t size, size_t count, void *arg)
{
	struct transfer *transfer = arg;
	size_t n = size * count;

	arrived(transfer);
	transfer->header_bytes += n;
	if (transfer->header_bytes > HEADER_BYTES_MAX) {
		transfer->failure = -EMSGSIZE;
		return 0;
	}
	date_seen(transfer->link, line, n);
	return n;
}

static int body_grow(struct transfer *transfer, size_t n)
{
	size_t room = transfer->room ? transfer->room : BODY_START_BYTES;
	uint8_t *grown;

	if (n > transfer->answer_max - transfer->n)
		return -EMSGSIZE;
	while (room - transfer->n < n)
		room *= 2;
	if (room == transfer->room)
		return 0;
	grown = realloc(transfer->answer, room);
	if (!grown)
		return -ENOMEM;
	transfer->answer = grown;
	transfer->room = room;
	return 0;
}

size_t link_body_arrived(char *bytes, size_t size, size_t count, void *arg)
{
	struct transfer *transfer = arg;
	size_t n = size * count;

	arrived(transfer);
	transfer->failure = body_grow(transfer, n);
	if (transfer->failure < 0)
		return 0;
	memcpy(transfer->answer + transfer->n, bytes, n);
	transfer->n += n;
	return n;
}

static void answer_drop(struct transfer *transfer)
{
	free(transfer->answer);
	transfer->answer = NULL;
	transfer->n = transfer->room = transfer->header_bytes = 0;
	transfer->began = 0;
	transfer->failure = 0;
	transfer->curl_text[0] = '\0';
}

static void release(struct transfer *transfer)
{
	loop_timer_stop(transfer->silence);
	link_headers_drop(transfer);
	free(transfer->body);
	transfer->body = NULL;
	answer_drop(transfer);
	transfer->busy = false;
	if (transfer->owner)
		*transfer->owner = NULL;
	transfer->owner = NULL;
}

static int launch(struct transfer *transfer)
{
	/* With a setting that cannot be used nobody is asked: not past the proxy either. The answer comes from the loop, as all do. */
	if (transfer->proxied && transfer->link->proxy->error[0]) {
		loop_timer_set(transfer->silence, 0);
		return 0;
	}
	if (curl_multi_add_handle(transfer->link->multi, transfer->easy) != CURLM_OK)
		return -ENOMEM;
	loop_timer_set(transfer->silence, (uint64_t)transfer->patience_s * 1000);
	return 0;
}

/* -- The end of a request ----------------------------------------------------------------------------------------------------------- */

/* Sign once more if the server says that our clock is wrong: its Date has corrected it meanwhile. */
static bool ask_again(struct transfer *transfer, const struct link_answer *answer)
{
	if (transfer->again || transfer->proof != LINK_SIGNED || answer->status != 401 || strcmp(answer->code, "clock") != 0)
		return false;
	transfer->again = true;
	link_headers_drop(transfer);
	answer_drop(transfer);
	if (link_headers_make(transfer, NULL) < 0 || curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers) != CURLE_OK)
		return false;
	return launch(transfer) == 0;
}

static void finish(struct transfer *transfer, CURLcode code)
{
	struct link_answer answer = { .error = link_error_of(transfer, code) };
	link_done_fn *done = transfer->done;
	void *arg = transfer->arg;
	long status = 0;

	(void)curl_multi_remove_handle(transfer->link->multi, transfer->easy);
	(void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	if (answer.error) {
		link_describe_failure(transfer, code, answer.error, answer.text, sizeof(answer.text));
		(void)snprintf(answer.code, sizeof(answer.code), "%s", link_error_code(transfer, code, answer.error));
	} else {
		answer.status = (unsigned)status;
		answer.body = TAKE_PTR(transfer->answer);
		answer.n = transfer->n;
		if (status != 200)
			link_describe_status(transfer, &answer);
		if (ask_again(transfer, &answer)) {
			free(answer.body);
			return;
		}
	}
	release(transfer);
	done(&answer, arg);
	free(answer.body);
}

static void collect(struct link *link)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(link->multi, &left))) {
		CURLcode code = message->data.result;
		char *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		finish((struct transfer *)(void *)transfer, code);
	}
}

static void silence_due(void *arg)
{
	struct transfer *transfer = arg;

	if (transfer->proxied && transfer->link->proxy->error[0]) {
		transfer->failure = -EINVAL;
		finish(transfer, CURLE_FAILED_INIT);
		return;
	}
	transfer->failure = -ETIMEDOUT;
	(void)snprintf(transfer->curl_text, sizeof(transfer->curl_text), transfer->began ? "its answer comes too slowly" : "it says nothing");
	finish(transfer, CURLE_OPERATION_TIMEDOUT);
}

/* -- What the others call ----------------------------------------------------------------------------------------------------------- */

static int transfer_init(struct link *link, struct transfer *transfer)
{
	transfer->link = link;
	return loop_timer_new(link->loop, silence_due, transfer, &transfer->silence);
}

int link_new(struct loop *loop, const uint8_t *secret, const struct proxy *proxy, struct link **out)
{
	_cleanup_(link_free) struct link *link = calloc(1, sizeof(*link));
	int r;

	if (!link)
		return -ENOMEM;
	link->loop = loop;
	link->secret = secret;
	randombytes_buf(link->mark, sizeof(link->mark));
	link->proxy = proxy;
	link->multi = curl_multi_init();
	if (!link->multi)
		return -ENOMEM;
	r = loop_timer_new(loop, timer_due, link, &link->timer);
	for (unsigned i = 0; r == 0 && i < LINK_REQUESTS_MAX; i++)
		r = transfer_init(link, &link->transfers[i]);
	if (r < 0)
		return r;
	(void)curl_multi_setopt(link->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
	(void)curl_multi_setopt(link->multi, CURLMOPT_SOCKETDATA, link);
	(void)curl_multi_setopt(link->multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
	(void)curl_multi_setopt(link->multi, CURLMOPT_TIMERDATA, link);
	(void)curl_multi_setopt(link->multi, CURLMOPT_MAXCONNECTS, 2L);
	*out = TAKE_PTR(link);
	return 0;
}

void link_free(struct link *link)
{
	if (!link)
		return;
	for (unsigned i = 0; i < LINK_REQUESTS_MAX; i++) {
		struct transfer *transfer = &link->transfers[i];

		if (transfer->busy) {
			(void)curl_multi_remove_handle(link->multi, transfer->easy);
			release(transfer);
		}
		if (transfer->easy)
			curl_easy_cleanup(transfer->easy);
		loop_timer_free(&transfer->silence);
	}
	if (link->multi)
		(void)curl_multi_cleanup(link->multi);
	loop_timer_free(&link->timer);
	free(link);
}

/* Everything that the request borrows is copied, so that it can be sent again. */
static int transfer_fill(struct transfer *transfer, const struct link_request *request)
{
	transfer->again = false;
	transfer->proof = request->proof;
	transfer->host = request->host;
	transfer->patience_s = request->patience_s;
	transfer->answer_max = request->answer_max;
	if (strlen(request->url) >= sizeof(transfer->url) || strlen(request->path) >= sizeof(transfer->path) ||
	    request->answer_max > ANSWER_BYTES_MAX)
		return -EINVAL;
	memcpy(transfer->url, request->url, strlen(request->url) + 1);
	memcpy(transfer->path, request->path, strlen(request->path) + 1);
	if (request->body.p) {
		transfer->body = malloc(request->body.n + 1);
		if (!transfer->body)
			return -ENOMEM;
		memcpy(transfer->body, request->body.p, request->body.n);
		transfer->body_n = request->body.n;
	}
	return link_headers_make(transfer, request->token);
}

int link_start(struct link *link, const struct link_request *request, link_done_fn *done, void *arg, struct transfer **owner)
{
	struct transfer *transfer = NULL;
	int r;

	for (unsigned i = 0; i < LINK_REQUESTS_MAX && !transfer; i++)
		if (!link->transfers[i].busy)
			transfer = &link->transfers[i];
	if (!transfer)
		return -EBUSY;
	if (!transfer->easy)
		transfer->easy = curl_easy_init();
	if (!transfer->easy)
		return -ENOMEM;
	transfer->busy = true;
	transfer->done = done;
	transfer->arg = arg;
	r = transfer_fill(transfer, request);
	if (r == 0)
		r = link_options_set(transfer, request->ca);
	if (r == 0)
		r = launch(transfer);
	if (r < 0) {
		release(transfer);
		return r;
	}
	transfer->owner = owner;
	*owner = transfer;
	return 0;
}

void link_cancel(struct transfer **owner)
{
	struct transfer *transfer = *owner;

	*owner = NULL;
	if (!transfer)
		return;
	(void)curl_multi_remove_handle(transfer->link->multi, transfer->easy);
	release(transfer);
}

int64_t link_clock_ahead(const struct link *link)
{
	return link->ahead_s;
}
