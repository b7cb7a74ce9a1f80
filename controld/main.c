/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "controld/agent.h"
#include "controld/diffs.h"
#include "controld/http.h"
#include "controld/mesh.h"
#include "controld/polls.h"
#include "controld/reconcile.h"
#include "controld/upkeep.h"
#include "libipc/log.h"
#include "libipc/service.h"
#include "privileges/tables.h"

#define SIGND_DEFAULT "/run/loopback/signd/sign.sock"

static const char usage[] =
	"usage: controld init --state DIR --keyset FILE\n"
	"       controld --state DIR --listen ADDRESS:PORT [--tls-cert FILE --tls-key FILE] [--signd PATH] [--behind-proxy]\n"
	"                [--user NAME]\n"
	"\n"
	"The control plane: desired state, API, documents.\n"
	"\n"
	"  init               make the database in DIR and write DIR/admin.credential\n"
	"  --state DIR        where the database is kept\n"
	"  --keyset FILE      the first keyset, signed by the root (loopbackctl root sign-keyset)\n"
	"  --listen ADDRESS:PORT\n"
	"  --tls-cert FILE, --tls-key FILE  PEM; without them only a loopback address is listened on\n"
	"  --behind-proxy     a proxy does TLS and sets X-Forwarded-For\n"
	"  --signd PATH       signd's socket (default: " SIGND_DEFAULT ")\n"
	"  --user NAME        whom to become when started as root (default: _lb-controld)\n"
	"  --help, --version\n";

struct options {
	const char *state, *keyset, *signd, *user;
	struct http_options http;
};

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
static int prepare(struct controld *controld, const struct options *options)
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

static int load(struct controld *controld, const struct options *options)
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

static int serve(struct controld *controld, const struct options *options)
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
	upkeep_stop(controld);
	polls_free(controld->polls);
	http_free(controld->http);
	signer_free(controld->signer);
	diffs_free(controld->diffs);
	mesh_forget_all(controld);
	callers_free(controld);
	store_free(controld->store);
	free(controld->keyset_bytes);
	loop_free(controld->loop);
}

static int run_serve(const struct options *options)
{
	struct controld controld = { .started = (uint64_t)time(NULL), .behind_proxy = options->http.behind_proxy };
	int r;

	if (!options->http.listen) {
		log_error("--listen ADDRESS:PORT is needed; --help tells more");
		return -EINVAL;
	}
	r = serve(&controld, options);
	stop(&controld);
	return r;
}

/* @return 0 go on; 1 all is said; -EINVAL */
static int options_parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "state", required_argument, NULL, 's' },    { "keyset", required_argument, NULL, 'k' },
		{ "listen", required_argument, NULL, 'l' },   { "tls-cert", required_argument, NULL, 'c' },
		{ "tls-key", required_argument, NULL, 'y' },  { "signd", required_argument, NULL, 'd' },
		{ "behind-proxy", no_argument, NULL, 'p' },   { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },	      { "user", required_argument, NULL, 'U' },
		{ 0 },
	};
	int c;

	options->signd = SIGND_DEFAULT;
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 's':
			options->state = optarg;
			break;
		case 'k':
			options->keyset = optarg;
			break;
		case 'l':
			options->http.listen = optarg;
			break;
		case 'c':
			options->http.tls_cert = optarg;
			break;
		case 'y':
			options->http.tls_key = optarg;
			break;
		case 'd':
			options->signd = optarg;
			break;
		case 'U':
			options->user = optarg;
			break;
		case 'p':
			options->http.behind_proxy = true;
			break;
		case 'h':
			(void)fputs(usage, stdout);
			return 1;
		case 'v':
			(void)puts("controld " LOOPBACK_VERSION);
			return 1;
		default:
			return -EINVAL;
		}
	}
	if (options->state)
		return 0;
	log_error("--state DIR is needed; --help tells more");
	return -EINVAL;
}

static int run_init(const struct options *options)
{
	if (options->keyset)
		return controld_init(options->state, options->keyset);
	log_error("init: --keyset FILE is needed: the first keyset, from `loopbackctl root sign-keyset`");
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	bool init;
	int r;

	log_open("controld");
	r = options_parse(argc, argv, &options);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	init = optind < argc && strcmp(argv[optind], "init") == 0;
	if (optind + (init ? 1 : 0) != argc) {
		log_error("\"%s\" is not understood; --help tells more", argv[optind + (init ? 1 : 0)]);
		return EXIT_FAILURE;
	}
	if (sodium_init() < 0) {
		log_error("libsodium does not start");
		return EXIT_FAILURE;
	}
	r = init ? run_init(&options) : run_serve(&options);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
