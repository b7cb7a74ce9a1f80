/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <sodium.h>
#include <string.h>
#include <sys/resource.h>

#include "controld/listen.h"
#include "controld/polls.h"
#include "libipc/log.h"

#define CONNECTION_MEMORY 8192 /* of MHD, for each connection: headers, answer headers */
#define CONNECTION_TIMEOUT_S 75
#define DESCRIPTORS_KEPT 64 /* for everything that is no connection */
/* MHD walks all suspended connections whenever one of them wakes. With n of them, answers are let go every n / 2,000 ms: at once for a small
 * fleet, and for a large one the walk is paid once for many. */
#define ASLEEP_PER_MS 2000
#define RELEASED_AT_ONCE 256 /* deferred requests: each takes half a millisecond, and the last answers of the batch are still to be written */

struct http {
	struct controld *controld;
	struct MHD_Daemon *daemon;
	struct loop_watch *watch;
	struct loop_timer *timer;
	char *cert, *key;
	unsigned port;
	unsigned asleep; /* connections that are suspended */
	bool behind_proxy;
	struct request *waking; /* suspended ones that have their answer: they are let go together */
	struct request *deferred, **deferred_end; /* suspended ones that are handed over when the batch is told, first come first */
	bool releasing;
};

/* -- Options ----------------------------------------------------------------------------------------------------------------------- */

/* As many connections as descriptors allow. */
static unsigned connections_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024 - DESCRIPTORS_KEPT;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 && getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024 - DESCRIPTORS_KEPT;
	if (limit.rlim_cur > 1024 * 1024)
		limit.rlim_cur = 1024 * 1024;
	return limit.rlim_cur > 2 * DESCRIPTORS_KEPT ? (unsigned)limit.rlim_cur - DESCRIPTORS_KEPT : DESCRIPTORS_KEPT;
}

/* -- Driving MHD from the loop ----------------------------------------------------------------------------------------------------- */

static void release_some(struct http *http)
{
	for (unsigned i = 0; http->deferred && i < RELEASED_AT_ONCE; i++) {
		struct request *request = http->deferred;

		http->deferred = request->next_waking;
		http_wake(request);
	}
	if (http->deferred)
		return;
	http->deferred_end = NULL;
	http->releasing = false;
}

static void pump(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG timeout;

	(void)MHD_run(http->daemon);
	if (http->releasing && !http->waking)
		release_some(http);
	if (http->waking)
		return; /* the timer runs for them, and soon */
	if (MHD_get_timeout(http->daemon, &timeout) == MHD_YES)
		loop_timer_set(http->timer, timeout);
	else
		loop_timer_stop(http->timer);
}

void http_wake(struct request *request)
{
	struct http *http = request->controld->http;

	if (!http->waking)
		loop_timer_set(http->timer, http->asleep / ASLEEP_PER_MS);
	request->next_waking = http->waking;
	http->waking = request;
}

void http_release(struct http *http)
{
	http->releasing = http->deferred != NULL;
	if (http->releasing && !http->waking)
		loop_timer_set(http->timer, 0);
}

/*
 * While a change is told to thousands, those who were told first come back with their receipts, and would take half of the time from those who know nothing yet.
 * And while hosts join as fast as they can, each head would be out of date before it is signed. Both wait, a request once, until those who are being told are.
 */
static bool defer(struct request *request)
{
	struct http *http = request->controld->http;
	bool poll = strcmp(request->path, "/v1/agent/poll") == 0;
	bool change = !poll && strcmp(request->method, "GET") != 0 && strcmp(request->path, "/v1/agent/blobs") != 0;

	if (request->deferred || (!(poll && polls_telling(request->controld)) && !(change && polls_hold_changes(request->controld))))
		return false;
	MHD_suspend_connection(request->connection);
	request->suspended = request->deferred = true;
	http->asleep++;
	request->next_waking = NULL;
	*(http->deferred_end ? http->deferred_end : &http->deferred) = request;
	http->deferred_end = &request->next_waking;
	return true;
}

static void wake_all(struct http *http)
{
	for (struct request *request = http->waking, *next; request; request = next) {
		next = request->next_waking;
		request->suspended = false;
		http->asleep--;
		MHD_resume_connection(request->connection);
	}
	http->waking = NULL;
}

static void on_ready(_unused_ int fd, _unused_ uint32_t events, void *arg)
{
	pump(arg);
}

static void on_timer(void *arg)
{
	wake_all(arg);
	pump(arg);
}

/* -- Requests ---------------------------------------------------------------------------------------------------------------------- */

static struct request *request_new(struct http *http, struct MHD_Connection *connection, const char *url, const char *method)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->controld = http->controld;
	request->connection = connection;
	request->limit = strncmp(url, "/v1/agent/", 10) == 0 ? AGENT_BODY_MAX : OPERATOR_BODY_MAX;
	(void)snprintf(request->method, sizeof(request->method), "%s", method);
	request->path = strdup(url);
	if (!request->path) {
		free(request);
		return NULL;
	}
	return request;
}

/* Bodies hold tokens and credentials now and then. */
static void body_drop(struct request *request)
{
	if (request->body)
		sodium_memzero(request->body, request->room);
	free(TAKE_PTR(request->body));
	request->n = request->room = 0;
}

static int body_add(struct request *request, const char *bytes, size_t n)
{
	uint8_t *grown;
	size_t room = request->room ? request->room : 1024;

	if (request->overlong || n > request->limit - request->n) {
		request->overlong = true;
		body_drop(request);
		return 0;
	}
	while (room < request->n + n)
		room *= 2;
	if (room > request->room) {
		grown = realloc(request->body, room);
		if (!grown)
			return -ENOMEM;
		request->body = grown;
		request->room = room;
	}
	memcpy(request->body + request->n, bytes, n);
	request->n += n;
	return 0;
}

static enum MHD_Result queue_response(struct request *request)
{
	enum MHD_Result result = MHD_queue_response(request->connection, request->status, request->response);

	MHD_destroy_response(TAKE_PTR(request->response));
	return result;
}

/* A body that says it is too long is not waited for. */
static bool announced_overlong(const struct request *request)
{
	const char *length = request_header(request, "Content-Length");

	return length && strtoull(length, NULL, 10) > request->limit;
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
				 _unused_ const char *version, const char *upload, size_t *upload_n, void **state)
{
	struct request *request = *state;

	if (!request) {
		request = request_new(arg, connection, url, method);
		*state = request;
		if (!request)
			return MHD_NO;
		if (!announced_overlong(request))
			return MHD_YES;
		request->overlong = request->handed = true;
		http_dispatch(request);
		return request->response ? queue_response(request) : MHD_NO;
	}
	if (*upload_n > 0) {
		if (body_add(request, upload, *upload_n) < 0)
			return MHD_NO;
		*upload_n = 0;
		return MHD_YES;
	}
	if (!request->handed && defer(request))
		return MHD_YES;
	if (!request->handed) {
		request->handed = true;
		http_dispatch(request);
		body_drop(request);
		if (!request->response) {
			MHD_suspend_connection(connection);
			request->suspended = true;
			request->controld->http->asleep++;
			return MHD_YES;
		}
	}
	return request->response ? queue_response(request) : MHD_YES;
}

static void on_completed(_unused_ void *arg, _unused_ struct MHD_Connection *connection, void **state,
			 _unused_ enum MHD_RequestTerminationCode code)
{
	struct request *request = *state;

	if (!request)
		return;
	*state = NULL;
	poll_abandon(request->controld, request);
	if (request->response)
		MHD_destroy_response(request->response);
	body_drop(request);
	free(request->path);
	free(request);
}

/* -- Start and end ----------------------------------------------------------------------------------------------------------------- */

static void on_mhd_log(_unused_ void *arg, const char *format, va_list args)
{
	char line[512], clean[512];

	(void)vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = '\0';
	log_debug("libmicrohttpd: %s", log_clean(clean, sizeof(clean), line, strlen(line)));
}

static int options_check(const struct http_options *options, bool loopback)
{
	if (!options->tls_cert != !options->tls_key) {
		log_error("--tls-cert and --tls-key go together");
		return -EINVAL;
	}
	if (!options->tls_cert && !loopback && !options->behind_proxy) {
		log_error("--listen %s: plain HTTP, and not a loopback address. Give --tls-cert and --tls-key, or --behind-proxy if a "
			  "proxy in front of it does TLS",
			  options->listen);
		return -EINVAL;
	}
	return 0;
}

static int daemon_start(struct http *http, int fd)
{
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[] = { { MHD_OPTION_HTTPS_MEM_CERT, 0, http->cert },
					{ MHD_OPTION_HTTPS_MEM_KEY, 0, http->key },
					{ MHD_OPTION_END, 0, NULL } };

	if (http->cert)
		flags |= MHD_USE_TLS;
	else
		tls[0] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
	http->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_access, http, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
					MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
					MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
					(unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_CONNECTION_LIMIT, connections_max(), MHD_OPTION_ARRAY,
					tls, MHD_OPTION_END);
	return http->daemon ? 0 : -EIO;
}

int http_new(struct controld *controld, const struct http_options *options, struct http **out)
{
	_cleanup_(http_free) struct http *http = calloc(1, sizeof(*http));
	struct sockaddr_storage address;
	socklen_t length = 0;
	bool loopback = false;
	int fd = -1;
	int r;

	if (!http)
		return -ENOMEM;
	http->controld = controld;
	http->behind_proxy = options->behind_proxy;
	r = listen_parse(options->listen, &address, &length, &loopback);
	if (r < 0) {
		log_error("--listen: expected ADDRESS:PORT, such as 127.0.0.1:8080 or [::]:8443, found \"%s\"", options->listen);
		return r;
	}
	r = options_check(options, loopback);
	if (r == 0 && options->tls_cert)
		r = pem_read(options->tls_cert, &http->cert);
	if (r == 0 && options->tls_key)
		r = pem_read(options->tls_key, &http->key);
	if (r < 0)
		return r;
	fd = listen_open(options->listen, &address, length, &http->port);
	if (fd < 0)
		return fd;
	r = daemon_start(http, fd); /* owns fd when it works */
	if (r < 0) {
		(void)close_fd(fd);
		return log_errno(r, "the HTTP server does not start%s", http->cert ? "; do certificate and key fit each other?" : "");
	}
	r = loop_timer_new(controld->loop, on_timer, http, &http->timer);
	if (r == 0)
		r = loop_watch_add(controld->loop, MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, EPOLLIN, on_ready,
				   http, &http->watch);
	if (r == 0)
		*out = TAKE_PTR(http);
	return r;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	loop_watch_remove(&http->watch);
	while (http->deferred)
		release_some(http);
	wake_all(http); /* MHD does not stop while connections sleep */
	if (http->daemon)
		MHD_stop_daemon(http->daemon);
	loop_timer_free(&http->timer);
	free(http->cert);
	if (http->key)
		sodium_memzero(http->key, strlen(http->key));
	free(http->key);
	free(http);
}

unsigned http_port(const struct http *http)
{
	return http->port;
}
