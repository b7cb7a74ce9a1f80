/* SPDX-License-Identifier: Apache-2.0 */
/* fetchd: the only process of the agent with internet sockets. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "fetchd/fetchd.h"
#include "libipc/log.h"
#include "libipc/service.h"
#include "privileges/tables.h"

struct options {
	const char *state, *cache, *netd, *admin, *user;
	struct proxy_options proxy;
};

static const char usage[] =
	"Usage: fetchd [OPTION]...\n"
	"Carry documents between netd and the control plane, over HTTPS.\n"
	"\n"
	"  --state DIR    transport key and control plane (/var/lib/loopback/fetchd)\n"
	"  --cache DIR    blobs, may be deleted at any time (/var/cache/loopback/fetchd)\n"
	"  --netd PATH    netd's socket (/run/loopback/netd/documents.sock)\n"
	"  --admin PATH   make root's socket here, if no service manager passes one named \"admin\"\n"
	"  --user NAME    become this user; needed when started as root\n"
	"  --proxy URL    HTTP proxy on the way, http:// or https://HOST:PORT; \"none\" for none\n"
	"  --no-proxy LIST  hosts reached without it, separated by commas\n"
	"  --proxy-ca FILE  PEM of the only CA to believe of an https:// proxy; below /etc\n"
	"  --help, --version\n"
	"\n"
	"Without --proxy it comes from https_proxy (else all_proxy) and no_proxy of the environment; a\n"
	"password, as in http://NAME:PASSWORD@HOST:PORT, belongs there and nowhere else.\n";

/* @return 0; 1 answered, exit well; -EINVAL */
static int options_read(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
		{ "state", required_argument, NULL, 's' }, { "cache", required_argument, NULL, 'c' },
		{ "netd", required_argument, NULL, 'n' },  { "admin", required_argument, NULL, 'a' },
		{ "user", required_argument, NULL, 'u' },  { "proxy", required_argument, NULL, 'p' },
		{ "no-proxy", required_argument, NULL, 'x' }, { "proxy-ca", required_argument, NULL, 'C' },
		{ "help", no_argument, NULL, 'h' },        { "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 's':
			options->state = optarg;
			break;
		case 'c':
			options->cache = optarg;
			break;
		case 'n':
			options->netd = optarg;
			break;
		case 'a':
			options->admin = optarg;
			break;
		case 'u':
			options->user = optarg;
			break;
		case 'p':
			options->proxy.proxy = optarg;
			break;
		case 'x':
			options->proxy.no_proxy = optarg;
			break;
		case 'C':
			options->proxy.ca_file = optarg;
			break;
		case 'h':
			(void)fputs(usage, stdout);
			return 1;
		case 'v':
			(void)puts("fetchd " LOOPBACK_VERSION);
			return 1;
		default:
			return -EINVAL;
		}
	}
	if (optind < argc) {
		log_error("unexpected argument \"%s\"; see --help", argv[optind]);
		return -EINVAL;
	}
	return 0;
}

/* -- Before the sandbox ----------------------------------------------------------------------------------------------------------------------- */

/* A unit that gives fetchd a capability is a mistake which is not to be papered over by dropping it. */
static int refuse_privileges(const struct options *options)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (geteuid() == 0 && options->user)
		return 0;
	if (geteuid() == 0) {
		log_error("fetchd does not run as root: start it as its own user, or name one with --user");
		return -EPERM;
	}
	if (syscall(SYS_capget, &header, data) < 0)
		return log_errno(errno, "cannot read capabilities");
	if (data[0].permitted || data[1].permitted) {
		log_error("fetchd was started with capabilities (%08x%08x) and needs none; take AmbientCapabilities= out of its unit",
			  data[1].permitted, data[0].permitted);
		return -EPERM;
	}
	return 0;
}

/*
 * Load the modules that this host resolves names with. The C library would do that at the first look-up, and mapping code is
 * what the filter forbids. A module that is not there is skipped, as the C library does.
 */
static void resolver_preload(void)
{
	_cleanup_fclose_ FILE *file = fopen("/etc/nsswitch.conf", "re");
	char line[512], path[128], *rest, *word;

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "hosts:", 6) != 0)
			continue;
		for (word = strtok_r(line + 6, " \t\n", &rest); word && *word != '#'; word = strtok_r(NULL, " \t\n", &rest)) {
			if (*word == '[' || strchr(word, '/') || strlen(word) > 64)
				continue;
			(void)snprintf(path, sizeof(path), "libnss_%s.so.2", word);
			(void)dlopen(path, RTLD_NOW); /* for life */
		}
	}
	(void)dlopen("libgcc_s.so.1", RTLD_NOW); /* what the end of a thread may want */
}

static int admin_socket(const struct options *options)
{
	int fd = service_socket("admin");

	if (fd == -ENOENT && options->admin)
		fd = service_listen(options->admin, (unsigned)-1, 0600);
	if (fd < 0)
		return log_errno(fd, "no admin socket: the service manager passes none named \"admin\"%s",
				 options->admin ? ", and one cannot be made" : ", and --admin is not given");
	return fd;
}

static int libraries_init(void)
{
	/* One arena: the resolver's thread is short-lived, and what it frees should be ours again. Large buffers go back to the kernel. */
	(void)mallopt(M_ARENA_MAX, 1);
	(void)mallopt(M_MMAP_THRESHOLD, 65536);
	(void)mallopt(M_TRIM_THRESHOLD, 131072);
	if (sodium_init() < 0 || curl_global_init(CURL_GLOBAL_SSL) != 0) {
		log_error("libsodium or libcurl does not start");
		return -ENOSYS;
	}
	resolver_preload();
	return 0;
}

static int sandbox(const struct options *options)
{
	const struct sandbox_place places[] = { { "state", options->state }, { "cache", options->cache }, { 0 } };

	return sandbox_enter(&fetchd_privileges, options->user, places);
}

/* -- Life --------------------------------------------------------------------------------------------------------------------------------------- */

static void signalled(int signal, void *arg)
{
	struct fetchd *fetchd = arg;

	log_info("signal %d: stopping", signal);
	loop_stop(fetchd->loop, 0);
}

static int parts_start(struct fetchd *fetchd, const struct options *options, int admin_fd)
{
	int r = admin_start(fetchd, admin_fd);

	if (r == 0)
		r = state_open(options->state, &fetchd->state);
	if (r < 0)
		return r;
	cache_open(options->cache, CACHE_BYTES_MAX, &fetchd->cache);
	r = want_init(fetchd);
	if (r == 0)
		r = poll_init(fetchd);
	if (r == 0)
		r = enroll_init(fetchd);
	if (r == 0)
		r = netd_channel_start(fetchd, options->netd);
	if (r < 0)
		return r;
	proxy_open(&options->proxy, &fetchd->proxy);
	return link_new(fetchd->loop, fetchd->state.transport_secret, &fetchd->proxy, &fetchd->link);
}

static void parts_stop(struct fetchd *fetchd)
{
	if (fetchd->link) { /* the last to start: so all did */
		netd_channel_stop(fetchd);
		enroll_stop(fetchd);
		poll_stop(fetchd);
		want_stop(fetchd);
		link_free(fetchd->link);
	}
	admin_stop(fetchd);
	stash_to_cache(fetchd);
	cache_close(&fetchd->cache);
	state_close(&fetchd->state);
	proxy_close(&fetchd->proxy);
}

static int live(struct fetchd *fetchd, const struct options *options)
{
	static const int signals[] = { SIGTERM, SIGINT, 0 };
	int admin_fd;
	int r = loop_new(&fetchd->loop);

	if (r == 0)
		r = loop_signals(fetchd->loop, signals, signalled, fetchd);
	if (r == 0)
		r = service_open();
	if (r < 0)
		return log_errno(r, "cannot start");
	admin_fd = admin_socket(options);
	if (admin_fd < 0)
		return admin_fd;
	(void)service_sockets_close_rest();
	r = libraries_init();
	if (r == 0)
		r = sandbox(options);
	if (r < 0) {
		close_fd(admin_fd);
		return r;
	}
	/* Files and peers are read only from here on. */
	r = parts_start(fetchd, options, admin_fd);
	if (r == 0)
		r = loop_watchdog(fetchd->loop);
	if (r == 0) {
		service_notify("READY=1");
		r = loop_run(fetchd->loop);
		service_notify("STOPPING=1");
	}
	parts_stop(fetchd);
	return r;
}

int main(int argc, char **argv)
{
	struct options options = {
		.state = "/var/lib/loopback/fetchd",
		.cache = "/var/cache/loopback/fetchd",
		.netd = "/run/loopback/netd/documents.sock",
	};
	static struct fetchd fetchd = { .state.dir = -1, .cache.dir = -1 };
	int r;

	log_open("fetchd");
	r = options_read(argc, argv, &options);
	if (r != 0)
		return r < 0 ? 2 : 0;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return 1;
	r = refuse_privileges(&options);
	if (r == 0)
		r = live(&fetchd, &options);
	loop_free(fetchd.loop);
	return r < 0 ? 1 : 0;
}
