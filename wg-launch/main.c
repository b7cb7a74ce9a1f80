/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wg-launch: become an unprivileged wireguard-go, on hosts whose kernel has no WireGuard.
 *
 * wireguard-go usually runs as root, because it makes its interface itself. Here netd has made the TUN device and the socket over
 * which it configures the tunnel; this program fetches both, locks itself in, and turns into the distribution's wireguard-go.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "libipc/log.h"
#include "privileges/tables.h"
#include "wg-launch/filter.h"
#include "wg-launch/grant.h"

#define TUN_FD 3
#define UAPI_FD 4
#define FIRST_SPARE_FD 5
#define PATIENCE_S 1

struct options {
	const char *socket;
	const char *user;
	const char *program;
	bool next;
};

static const char usage[] =
	"Usage: wg-launch [OPTION]...\n"
	"Become an unprivileged wireguard-go that serves the tunnel which netd made.\n"
	"\n"
	"  --socket PATH   netd's tunnel socket (/run/loopback/netd/tunnel.sock)\n"
	"  --user NAME     started as root, become this user; without it, root is refused\n"
	"  --next          wait until netd needs a second tunnel, for keys that are being replaced\n"
	"  --program PATH  what to execute (/usr/bin/wireguard-go)\n"
	"  --help          show this\n"
	"  --version       show the version\n";

/* @return 0 go on; 1 all is said; -EINVAL */
static int options_parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "socket", required_argument, NULL, 's' }, { "user", required_argument, NULL, 'u' },
		{ "next", no_argument, NULL, 'n' },
		{ "program", required_argument, NULL, 'p' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },	     { NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 's')
			options->socket = optarg;
		else if (c == 'u')
			options->user = optarg;
		else if (c == 'p')
			options->program = optarg;
		else if (c == 'n')
			options->next = true;
		else if (c == 'h')
			return printf("%s", usage) < 0 ? -EIO : 1;
		else if (c == 'v')
			return printf("wg-launch %s\n", LOOPBACK_VERSION) < 0 ? -EIO : 1;
		else
			return -EINVAL;
	}
	if (optind == argc)
		return 0;
	log_error("unexpected argument %s; see --help", argv[optind]);
	return -EINVAL;
}

static int drop(const struct options *options)
{
	if (geteuid() == 0 && !options->user) {
		log_error("started as root: say --user NAME, or start it as _lb-wg; nothing is started");
		return -EPERM;
	}
	return sandbox_drop(&launch_privileges, options->user);
}

/* Put both where the environment will say they are, inheritable, and close everything else. */
static int place(struct grant *grant)
{
	int tun = fcntl(grant->tun, F_DUPFD_CLOEXEC, FIRST_SPARE_FD);
	int uapi = fcntl(grant->uapi, F_DUPFD_CLOEXEC, FIRST_SPARE_FD);

	if (tun < 0 || uapi < 0 || dup2(tun, TUN_FD) < 0 || dup2(uapi, UAPI_FD) < 0 || close_range(FIRST_SPARE_FD, ~0U, 0) < 0)
		return log_errno(errno, "cannot arrange the descriptors");
	grant->tun = TUN_FD;
	grant->uapi = UAPI_FD;
	return 0;
}

/* Does not return but on failure. */
static int become(const char *program, char *interface)
{
	static char name[] = "wireguard-go", foreground[] = "-f";
	static char tun[] = "WG_TUN_FD=3", uapi[] = "WG_UAPI_FD=4", level[] = "LOG_LEVEL=error";
	static char quiet[] = "WG_PROCESS_FOREGROUND=1"; /* no advice on stderr to use the kernel's */
	char *const argv[] = { name, foreground, interface, NULL };
	char *const envp[] = { tun, uapi, level, quiet, NULL };
	int r = filter_paths(&launch_privileges, program);

	if (r == 0)
		r = filter_calls(&launch_privileges, program);
	if (r < 0)
		return r;
	(void)execve(program, argv, envp);
	return log_errno(errno, "cannot execute %s", program);
}

int main(int argc, char **argv)
{
	struct options options = { .socket = "/run/loopback/netd/tunnel.sock", .program = "/usr/bin/wireguard-go" };
	struct grant grant = { .tun = -1, .uapi = -1 };
	int r;

	log_open("wg-launch");
	r = options_parse(argc, argv, &options);
	if (r != 0)
		return r < 0 ? 2 : 0;
	if (drop(&options) < 0)
		return EXIT_FAILURE;
	r = grant_ask(options.socket, options.next, &grant);
	if (r > 0) {
		log_notice("this host's tunnel is the kernel's; there is nothing to serve");
		return EXIT_SUCCESS;
	}
	if (r == 0)
		r = place(&grant);
	if (r == 0)
		r = become(options.program, grant.interface);
	/* Whatever it is will most likely be so again: the service manager starts another at once, and each says why in the log. */
	(void)sleep(PATIENCE_S);
	return EXIT_FAILURE;
}
