/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>

#include "libipc/log.h"
#include "libipc/service.h"
#include "netd/netd.h"
#include "privileges/tables.h"

#define STATE_FOLDER "/var/lib/loopback/netd"

static const char usage[] =
	"Usage: netd [OPTION...]\n"
	"Apply signed network documents to this host's overlay interface.\n"
	"\n"
	"  --interface NAME     the overlay interface (lb0)\n"
	"  --listen-port PORT   WireGuard's UDP port (51820)\n"
	"  --assigned-keys      take WireGuard keys that the control plane makes, unless a network is locked\n"
	"  --confirm SECONDS    a change after which the control plane is silent for so long gets reachability back (30; 0: never)\n"
	"  --backend KIND       kernel, userspace, or auto: the kernel's if it has WireGuard (auto)\n"
	"  --state FOLDER       keys, pinned root, last known good (" STATE_FOLDER ")\n"
	"  --user NAME          whom to become when started as root (_lb-netd)\n"
	"  --fetchd-user NAME   who may bring documents (_lb-fetchd)\n"
	"  --launch-user NAME   who may ask for a tunnel (_lb-wg)\n"
	"  --help, --version\n"
	"\n"
	"Its sockets (documents, view, admin, tunnel) are passed by the service manager. See netd(8).\n";

struct options {
	const char *interface, *backend, *state, *user, *fetchd_user, *launch_user;
	unsigned listen_port, confirm;
	bool assigned_keys;
};

static int options_read(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "interface", required_argument, NULL, 'i' },   { "listen-port", required_argument, NULL, 'p' },
		{ "assigned-keys", no_argument, NULL, 'a' },     { "confirm", required_argument, NULL, 'c' },
		{ "backend", required_argument, NULL, 'b' },     { "state", required_argument, NULL, 's' },
		{ "user", required_argument, NULL, 'u' },        { "fetchd-user", required_argument, NULL, 'f' },
		{ "launch-user", required_argument, NULL, 'l' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },           { NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'a': options->assigned_keys = true; break;
		case 'i': options->interface = optarg; break;
		case 'b': options->backend = optarg; break;
		case 's': options->state = optarg; break;
		case 'u': options->user = optarg; break;
		case 'f': options->fetchd_user = optarg; break;
		case 'l': options->launch_user = optarg; break;
		case 'p':
			if (service_option_number("--listen-port", optarg, 1, UINT16_MAX, &options->listen_port) < 0)
				return -EINVAL;
			break;
		case 'c':
			if (service_option_number("--confirm", optarg, 0, 3600, &options->confirm) < 0)
				return -EINVAL;
			break;
		case 'h': (void)fputs(usage, stdout); exit(0);
		case 'v': (void)puts("netd " LOOPBACK_VERSION); exit(0);
		default: (void)fputs(usage, stderr); return -EINVAL;
		}
	}
	if (optind < argc || strlen(options->interface) >= sizeof(((struct overlay *)NULL)->name)) {
		(void)fputs(usage, stderr);
		return -EINVAL;
	}
	return 0;
}

static int sockets_open(struct netd *netd, uid_t fetchd_uid, uid_t launch_uid)
{
	int documents = service_socket("documents"), view = service_socket("view");
	int admin = service_socket("admin"), tunnel = service_socket("tunnel");
	int r = 0;

	if (documents < 0 || view < 0 || admin < 0 || tunnel < 0) {
		log_error("the sockets documents, view, admin and tunnel must be passed by the service manager (LISTEN_FDNAMES)");
		return -ENOENT;
	}
	(void)service_sockets_close_rest();
	r = documents_listen(netd, documents, fetchd_uid);
	if (r == 0)
		r = view_listen(netd, view);
	if (r == 0)
		r = admin_listen(netd, admin);
	return r < 0 ? r : tunnel_listen(netd, tunnel, launch_uid);
}

static void on_signal(int signal _unused_, void *arg)
{
	struct netd *netd = arg;

	log_info("stopping; the mesh runs on");
	loop_stop(netd->loop, 0);
}

/* What must be open before the sandbox is complete; nothing of a peer is read here. */
static int prepare(struct netd *netd, const struct options *options)
{
	static const int signals[] = { SIGTERM, SIGINT, 0 };
	uid_t fetchd_uid = 0, launch_uid = 0;
	int r = service_open();

	netd->overlay.watch = -1;
	if (r == 0)
		r = service_user_id(options->fetchd_user, &fetchd_uid);
	if (r == 0)
		r = service_user_id(options->launch_user, &launch_uid);
	if (r == 0)
		r = loop_new(&netd->loop);
	if (r == 0)
		r = loop_signals(netd->loop, signals, on_signal, netd);
	if (r == 0)
		r = sockets_open(netd, fetchd_uid, launch_uid);
	return r;
}

/* After the drop, before the filter: files and devices, as the user that netd is from now on. */
static int load(struct netd *netd, const struct options *options)
{
	int r = wg_backend_named(options->backend, &netd->overlay.kind);

	if (r < 0)
		return log_errno(r, "--backend %s: expected kernel, userspace or auto, and a kernel that answers", options->backend);
	(void)snprintf(netd->overlay.name, sizeof(netd->overlay.name), "%s", options->interface);
	netd->overlay.listen_port = (uint16_t)options->listen_port;
	netd->gate.patience_ms = options->confirm * 1000;
	netd->assignable = options->assigned_keys;
	r = state_open(options->state, &netd->state);
	if (r == 0)
		r = blobs_new(&netd->blobs);
	if (r == 0)
		r = owners_new(&netd->owners);
	if (r == 0)
		r = rtnl_open(&netd->overlay.rtnl);
	netd->overlay.state = &netd->state;
	netd->overlay.blobs = netd->blobs;
	netd->overlay.owners = netd->owners;
	if (r == 0)
		r = rotation_open(netd);
	return r < 0 ? r : engine_load(netd);
}

static void unload(struct netd *netd)
{
	documents_forget(netd);
	listener_free(netd->documents);
	listener_free(netd->view);
	listener_free(netd->admin);
	listener_free(netd->tunnel);
	loop_watch_remove(&netd->lifeline);
	overlay_detach(&netd->overlay);
	beside_close(&netd->rotation.second, false);
	rtnl_close(netd->overlay.rtnl);
	journal_close(netd->journal);
	mesh_free(netd->mesh);
	owners_free(netd->owners);
	blobs_free(netd->blobs);
	state_close(&netd->state);
	loop_free(netd->loop);
}

int main(int argc, char **argv)
{
	static struct netd netd; /* the one context; static for its size */
	struct options options = {
		.interface = "lb0", .backend = "auto", .state = STATE_FOLDER, .fetchd_user = "_lb-fetchd", .launch_user = "_lb-wg",
		.listen_port = 51820, .confirm = 30,
	};
	struct sandbox_place places[] = { { "state", NULL }, { NULL, NULL } };
	int r;

	log_open("netd");
	if (options_read(argc, argv, &options) < 0)
		return 2;
	if (sodium_init() < 0)
		return 1;
	(void)mallopt(M_ARENA_MAX, 1);
	places[0].path = options.state;
	r = prepare(&netd, &options);
	if (r == 0)
		r = sandbox_drop(&netd_privileges, options.user);
	if (r == 0)
		r = sandbox_paths(&netd_privileges, places);
	if (r == 0)
		r = sandbox_filter(&netd_privileges);
	if (r == 0)
		r = load(&netd, &options);
	if (r == 0)
		r = loop_watchdog(netd.loop);
	if (r == 0) {
		engine_attach(&netd); /* the last known good, before anything is fetched (M15) */
		service_notify("READY=1");
		r = loop_run(netd.loop);
	}
	unload(&netd);
	return r < 0 ? 1 : 0;
}
