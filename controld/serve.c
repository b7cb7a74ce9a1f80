/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon: what is opened before the sandbox is on, what is loaded after it, and the end. */
#include "controld/admission.h"
#include "controld/serve.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "controld/agent.h"
#include "controld/diffs.h"
#include "controld/duplicates.h"
#include "controld/health.h"
#include "controld/jobs.h"
#include "controld/mesh.h"
#include "controld/polls.h"
#include "controld/reconcile.h"
#include "controld/upkeep.h"
#include "libipc/log.h"
#include "libipc/service.h"
#include "privileges/tables.h"

static void signd_greet(struct controld *controld)
{
	struct sign_refusal refusal = { 0 };
	int r = signer_keyset(controld->signer, (struct view){ controld->keyset_bytes, controld->keyset_n }, &refusal);

	if (r == -EPERM)
		log_error("signd does not take our keyset: %s", refusal.reason);
	else if (r < 0)
		log_warning("signd is not there yet; nothing can change until it is");
}

static void on_signal(_unused_ int signal, void *arg)
{
	struct controld *controld = arg;

	loop_stop(controld->loop, 0);
}

/* What must be open before the sandbox is complete; nothing of a peer is read here. */
static int prepare(struct controld *controld, const struct serve_options *options)
{
	static const int signals[] = { SIGTERM, SIGINT, 0 };
	int r = loop_new(&controld->loop);

	if (r == 0)
		r = service_open();
	if (r == 0)
		r = loop_signals(controld->loop, signals, on_signal, controld);
	if (r == 0)
		r = http_new(controld, &options->http, &controld->http);
	(void)service_sockets_close_rest();
	return r;
}

static int load(struct controld *controld, const struct serve_options *options)
{
	int r = store_open(&control_store, options->state, false, &controld->store);

	if (r == 0)
		r = controld_keyset_load(controld);
	if (r == 0)
		r = signer_new(controld->loop, options->signd, &controld->signer);
	if (r == 0)
		r = diffs_new(&controld->diffs);
	if (r == 0)
		r = polls_new(controld, &controld->polls);
	return r;
}

static int serve(struct controld *controld, const struct serve_options *options)
{
	const struct sandbox_place places[] = { { "state", options->state }, { NULL, NULL } };
	int r = prepare(controld, options);

	if (r == 0)
		r = sandbox_enter(&controld_privileges, options->user, places);
	if (r == 0)
		r = load(controld, options);
	if (r < 0)
		return r;
	signd_greet(controld);
	r = reconcile_start(controld);
	if (r == 0)
		r = jobs_start(controld);
	if (r == 0)
		r = health_start(controld);
	if (r == 0)
		r = upkeep_start(controld);
	if (r == 0)
		r = loop_watchdog(controld->loop);
	if (r < 0)
		return r;
	service_notify("READY=1");
	log_info("ready: %s, port %u", controld->keyset.name, http_port(controld->http));
	r = loop_run(controld->loop);
	service_notify("STOPPING=1");
	if (callers_flush(controld) < 0)
		log_warning("the last polls could not be written down");
	return r;
}

static void stop(struct controld *controld)
{
	reconcile_stop(controld);
	jobs_stop(controld);
	health_stop(controld);
	upkeep_stop(controld);
	polls_free(controld->polls);
	http_free(controld->http);
	signer_free(controld->signer);
	diffs_free(controld->diffs);
	mesh_forget_all(controld);
	proposals_free(controld);
	callers_free(controld);
	machines_free(controld);
	store_free(controld->store);
	free(controld->keyset_bytes);
	loop_free(controld->loop);
}

int controld_serve(const struct serve_options *options)
{
	struct controld controld = {
		.started = (uint64_t)time(NULL),
		.behind_proxy = options->http.behind_proxy,
		.tls = options->http.tls_cert != NULL,
		.state = options->state,
		.url = options->url,
		.offline_after = options->offline_after ? options->offline_after : OFFLINE_AFTER_S,
		.degraded_after = options->degraded_after ? options->degraded_after : DEGRADED_AFTER_S,
	};
	int r;

	if (!options->http.listen) {
		log_error("--listen ADDRESS:PORT is needed; --help tells more");
		return -EINVAL;
	}
	if (options->url && !install_url_valid(options->url)) {
		log_error("--url: expected https://HOST[:PORT], without a slash at its end");
		return -EINVAL;
	}
	r = serve(&controld, options);
	stop(&controld);
	return r;
}
