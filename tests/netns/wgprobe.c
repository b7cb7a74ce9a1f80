/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives netd's kernel-facing functions by hand, for tests/netns/test_wg_backend.py. Prints one JSON object a line; what it says is
 * checked there against stock tools.
 *
 *   wgprobe available                    does the kernel have WireGuard
 *   wgprobe apply userspace|kernel NAME  changes from standard input, see read_change()
 *   wgprobe dump userspace|kernel NAME
 *   wgprobe lifeline NAME                until the device is gone
 *   wgprobe messages INDEX FAMILY        changes from standard input, as the netlink messages that the kernel would get, in hexadecimal
 *   wgprobe read                         such messages from standard input, as a dump
 *   wgprobe grant NAME SOCKET [swapped]  be netd for one wg-launch: make TUN and socket, hand them over
 *   wgprobe -f NAME                      be what wg-launch executes, and try what it must not: see misdeeds[]
 *   wgprobe links|addresses|routes
 *   wgprobe address|route add|delete NAME PREFIX [SOURCE]
 *   wgprobe link NAME MTU up|down        wgprobe link NAME delete|wireguard
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sodium.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "libipc/channel.h"
#include "libipc/log.h"
#include "libwg/netlink.h"
#include "libwg/rtnl.h"
#include "libwg/tun.h"
#include "libwg/wg.h"
#include "libwg/wg_internal.h"

#define LINE_BYTES (WG_MESSAGE_BYTES * 2 + 16)

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The most memory that this program has had resident (proc(5)); getrusage(2) would count what its parent had before execve(2). */
static long peak_kib(void)
{
	_cleanup_fclose_ FILE *status = fopen("/proc/self/status", "re");
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (strncmp(line, "VmHWM:", 6) == 0)
			return strtol(line + 6, NULL, 10);
	return 0;
}

static int done(int r)
{
	(void)printf("{\"result\": %d, \"peak_kib\": %ld}\n", r, peak_kib());
	(void)fflush(stdout);
	return 0;
}

/* One word of a peer's line. */
static int peer_word(char *word, struct wg_peer *peer, struct prefix *allowed, size_t room)
{
	char *value = strchr(word, '=');

	if (strcmp(word, "remove") == 0)
		peer->remove = true;
	else if (strcmp(word, "replace") == 0)
		peer->replace_allowed = true;
	else if (!value)
		return -EINVAL;
	else if (strncmp(word, "endpoint=", 9) == 0)
		return peer->set_endpoint = true, endpoint_parse(value + 1, &peer->endpoint);
	else if (strncmp(word, "keepalive=", 10) == 0)
		return peer->set_keepalive = true, peer->keepalive = (uint16_t)atoi(value + 1), 0;
	else if (strncmp(word, "allowed=", 8) == 0 && peer->allowed_count < room)
		return prefix_parse(value + 1, &allowed[peer->allowed_count++]);
	return 0;
}

static int read_peer(char *line, struct wg_peer *peer, struct prefix *allowed, size_t room)
{
	char *rest = NULL, *word = strtok_r(line, " \n", &rest);
	int r = word ? key_parse(word, peer->public_key) : -EINVAL;

	peer->allowed = allowed;
	while (r == 0 && (word = strtok_r(NULL, " \n", &rest)))
		r = peer_word(word, peer, allowed, room);
	return r;
}

/*
 * A change begins with "device [private=KEY] [port=N]" and ends with "commit"; between them one line a peer:
 * "KEY [remove] [replace] [endpoint=E] [keepalive=N] [allowed=P]..."
 */
static int read_device(char *line, struct wg_device *device)
{
	char *rest = NULL, *word = strtok_r(line, " \n", &rest);
	int r = 0;

	while (r == 0 && (word = strtok_r(NULL, " \n", &rest))) {
		if (strncmp(word, "private=", 8) == 0) {
			device->set_private_key = true;
			r = key_parse(word + 8, device->private_key);
		} else if (strncmp(word, "port=", 5) == 0) {
			device->set_listen_port = true;
			device->listen_port = (uint16_t)atoi(word + 5);
		} else {
			r = -EINVAL;
		}
	}
	return r;
}

static int apply_line(struct wg *wg, char *line)
{
	static struct prefix allowed[4096];
	struct wg_device device = { 0 };
	struct wg_peer peer = { 0 };
	int r;

	if (strncmp(line, "commit", 6) == 0)
		return wg_commit(wg);
	if (strncmp(line, "device", 6) == 0) {
		r = read_device(line, &device);
		return r < 0 ? r : wg_begin(wg, &device);
	}
	r = read_peer(line, &peer, allowed, ARRAY_SIZE(allowed));
	return r < 0 ? r : wg_put(wg, &peer);
}

static int apply(enum wg_backend_kind kind, const char *name)
{
	_cleanup_(wg_close) struct wg *wg = NULL;
	_cleanup_free_ char *line = NULL;
	double began = now();
	size_t size = 0;
	int r = wg_open(kind, name, &wg);

	if (r < 0)
		return done(r);
	while (getline(&line, &size, stdin) > 0) {
		bool commit = strncmp(line, "commit", 6) == 0;

		r = apply_line(wg, line);
		if (!commit && r == 0)
			continue;
		(void)printf("{\"result\": %d, \"commit\": %s, \"sets\": %llu, \"seconds\": %.6f}\n", r, commit ? "true" : "false",
			     (unsigned long long)wg_sets(wg), now() - began);
		(void)fflush(stdout);
	}
	return 0;
}

static int print_peer(const struct wg_device_state *device, const struct wg_peer_state *peer, void *arg)
{
	char text[ENDPOINT_TEXT];
	int *count = arg;

	if (!peer) {
		(void)printf("{\"public_key\": \"%s\", \"listen_port\": %u}\n", key_format(device->public_key, text), device->listen_port);
		return 0;
	}
	(*count)++;
	(void)printf("{\"peer\": \"%s\"", key_format(peer->public_key, text));
	(void)printf(", \"endpoint\": \"%s\"", peer->endpoint.family ? endpoint_format(&peer->endpoint, text) : "");
	(void)printf(", \"keepalive\": %u, \"handshake\": %llu, \"rx\": %llu, \"tx\": %llu, \"cut\": %s, \"allowed\": [", peer->keepalive,
		     (unsigned long long)peer->handshake, (unsigned long long)peer->rx_bytes, (unsigned long long)peer->tx_bytes,
		     peer->allowed_cut ? "true" : "false");
	for (size_t i = 0; i < peer->allowed_count; i++)
		(void)printf("%s\"%s\"", i ? ", " : "", prefix_format(&peer->allowed[i], text));
	(void)printf("]}\n");
	return 0;
}

static int dump(enum wg_backend_kind kind, const char *name)
{
	_cleanup_(wg_close) struct wg *wg = NULL;
	int count = 0, r = wg_open(kind, name, &wg);

	if (r == 0)
		r = wg_dump(wg, print_peer, &count);
	return done(r);
}

static int lifeline(const char *name)
{
	_cleanup_(wg_close) struct wg *wg = NULL;
	struct pollfd item = { .events = POLLIN };
	int r = wg_open(WG_USERSPACE, name, &wg);

	(void)done(r);
	if (r < 0)
		return 0;
	item.fd = wg_lifeline(wg);
	return done(poll(&item, 1, 30000));
}

static int print_message(struct wg_kernel *kernel, struct nlmsghdr *message)
{
	const uint8_t *bytes = (const uint8_t *)message;

	kernel->wg.sets++;
	(void)printf("{\"message\": \"");
	for (size_t i = 0; i < message->nlmsg_len; i++)
		(void)printf("%02x", bytes[i]);
	(void)printf("\"}\n");
	return 0;
}

static int messages(uint32_t index, uint16_t family)
{
	static struct wg_kernel kernel;
	static struct prefix allowed[4096];
	_cleanup_free_ char *line = NULL;
	struct wg_device device = { 0 };
	size_t size = 0;
	int r = 0;

	kernel.send = print_message;
	kernel.index = index;
	kernel.family = family;
	while (r == 0 && getline(&line, &size, stdin) > 0) {
		struct wg_peer peer = { 0 };

		if (strncmp(line, "commit", 6) == 0) {
			r = wg_message_flush(&kernel.wg);
		} else if (strncmp(line, "device", 6) == 0) {
			r = read_device(line, &device);
			if (device.set_private_key || device.set_listen_port)
				wg_message_device(&kernel.wg, &device);
		} else {
			r = read_peer(line, &peer, allowed, ARRAY_SIZE(allowed));
			if (r == 0)
				r = wg_message_peer(&kernel.wg, &peer);
		}
	}
	return done(r);
}

static int read_messages(void)
{
	static union {
		struct nlmsghdr header;
		uint8_t bytes[LINE_BYTES / 2];
	} message;
	static struct wg_reader reader;
	_cleanup_free_ char *line = NULL;
	int count = 0, r = 0;
	size_t size = 0;
	ssize_t n;

	reader.each = print_peer;
	reader.arg = &count;
	while (r == 0 && (n = getline(&line, &size, stdin)) > 1) {
		line[n - 1] = '\0';
		r = hex_parse(line, message.bytes, (size_t)(n - 1) / 2);
		if (r == 0)
			r = wg_message_read(&message.header, &reader);
	}
	return done(r < 0 ? r : wg_reader_end(&reader));
}

/* -- handing over ------------------------------------------------------------------------------------------------------------ */

struct grant {
	struct loop *loop;
	const char *name;
	int fds[2];
};

static int grant_asked(struct channel *channel, struct message *message, void *arg)
{
	struct grant *grant = arg;
	struct msg_tunnel_grant body = { .interface = text_view(grant->name) };

	if (message->number != MSG_tunnel_request)
		return -EPROTO;
	return channel_send(channel, MSG_tunnel_grant, &body, grant->fds);
}

static void grant_closed(_unused_ struct channel *channel, int error, void *arg)
{
	struct grant *grant = arg;

	loop_stop(grant->loop, error);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int grant(const char *name, const char *path, bool swapped)
{
	_cleanup_(loop_free) struct loop *loop = NULL;
	_cleanup_(listener_free) struct listener *listener = NULL;
	_cleanup_close_ int tun = -1, uapi = -1;
	struct grant state = { .name = name };
	const struct listener_config config = {
		.self = PARTY_NETD,
		.peer = PARTY_LAUNCH,
		.phase = PHASE_READY,
		.any_uid = true,
		.channels_max = 1,
		.events = { .message = grant_asked, .closed = grant_closed },
		.arg = &state,
	};
	int r = tun_open(name, &tun);

	if (r == 0)
		r = uapi_listen(name, &uapi);
	if (r == 0)
		r = loop_new(&loop);
	if (r == 0)
		r = listener_new(loop, listen_at(path), &config, &listener);
	(void)done(r);
	if (r < 0)
		return 0;
	state.loop = loop;
	state.fds[swapped ? 1 : 0] = tun;
	state.fds[swapped ? 0 : 1] = uapi;
	return done(loop_run(loop));
}

/* -- what a wireguard-go that was taken over might try --------------------------------------------------------------------------- */

static int try_mtu(const char *interface)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = { .ifr_mtu = 1280 };

	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	return ioctl(fd, SIOCSIFMTU, &request);
}

static int try_up(const char *interface)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = { .ifr_flags = IFF_UP };

	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	return ioctl(fd, SIOCSIFFLAGS, &request);
}

static int try_exec(_unused_ const char *interface)
{
	char *const argv[] = { NULL };

	return execve("/bin/true", argv, argv);
}

static int try_fork(_unused_ const char *interface)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid < 0 ? -1 : 0;
}

static int try_packet(_unused_ const char *interface)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static int try_netfilter(_unused_ const char *interface)
{
	return socket(AF_NETLINK, SOCK_RAW, 12);
}

static int try_read(_unused_ const char *interface)
{
	return open("/etc/hostname", O_RDONLY);
}

static int try_write(_unused_ const char *interface)
{
	return open("/tmp/lbwcwrite", O_WRONLY | O_CREAT, 0600);
}

static int try_ptrace(_unused_ const char *interface)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static int try_mount(_unused_ const char *interface)
{
	return mount("none", "/tmp", "tmpfs", 0, NULL);
}

static int try_unshare(_unused_ const char *interface)
{
	return unshare(CLONE_NEWUSER);
}

static int try_setuid(_unused_ const char *interface)
{
	return setuid(0);
}

/* Nothing wrong: which descriptors and variables there are, and then wait to be looked at. */
static int try_wait(_unused_ const char *interface)
{
	char byte;

	(void)printf("{\"fds\": [0");
	for (int fd = 1; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			(void)printf(", %d", fd);
	(void)printf("], \"environment\": [\"-\"");
	for (char **variable = environ; *variable; variable++)
		(void)printf(", \"%s\"", *variable);
	(void)printf("]}\n");
	(void)fflush(stdout);
	return (int)read(STDIN_FILENO, &byte, 1);
}

static const struct {
	const char *interface;
	int (*attempt)(const char *interface);
} misdeeds[] = {
	{ "lbwcmtu", try_mtu },	      { "lbwcup", try_up },	      { "lbwcexec", try_exec },	      { "lbwcfork", try_fork },
	{ "lbwcpacket", try_packet }, { "lbwcfilter", try_netfilter }, { "lbwcread", try_read },       { "lbwcwrite", try_write },
	{ "lbwcptrace", try_ptrace }, { "lbwcmount", try_mount },     { "lbwcunshare", try_unshare }, { "lbwcsetuid", try_setuid },
	{ "lbwcwait", try_wait },
};

static int misbehave(const char *interface)
{
	for (size_t i = 0; i < ARRAY_SIZE(misdeeds); i++)
		if (strcmp(misdeeds[i].interface, interface) == 0)
			return done(misdeeds[i].attempt(interface) < 0 ? -errno : 0);
	return 2;
}

/* -- rtnetlink ---------------------------------------------------------------------------------------------------------------- */

static int print_link(const struct rtnl_link *link, _unused_ void *arg)
{
	(void)printf("{\"index\": %d, \"name\": \"%s\", \"kind\": \"%s\", \"mtu\": %u, \"up\": %s, \"loopback\": %s}\n", link->index,
		     link->name, link->kind, link->mtu, link->up ? "true" : "false", link->loopback ? "true" : "false");
	return 0;
}

static int print_address(const struct rtnl_address *address, _unused_ void *arg)
{
	char text[PREFIX_TEXT];

	(void)printf("{\"index\": %d, \"scope\": %u, \"ours\": %s, \"usable\": %s, \"address\": \"%s\"}\n", address->index, address->scope,
		     address->ours ? "true" : "false", address->usable ? "true" : "false", prefix_format(&address->address, text));
	return 0;
}

static int print_route(const struct rtnl_route *route, _unused_ void *arg)
{
	char text[PREFIX_TEXT];

	(void)printf("{\"index\": %d, \"protocol\": %u, \"type\": %u, \"table\": %u, \"destination\": \"%s\"}\n", route->index,
		     route->protocol, route->type, route->table, prefix_format(&route->destination, text));
	return 0;
}

static int set_link(struct rtnl *rtnl, char **argv)
{
	struct rtnl_link link;
	int r;

	if (strcmp(argv[1], "wireguard") == 0)
		return rtnl_link_add_wireguard(rtnl, argv[0]);
	r = rtnl_link_get(rtnl, argv[0], &link);
	if (r < 0)
		return r;
	if (strcmp(argv[1], "delete") == 0)
		return rtnl_link_delete(rtnl, link.index);
	return rtnl_link_set(rtnl, link.index, (uint32_t)atoi(argv[1]), argv[2] && strcmp(argv[2], "up") == 0);
}

/* argv: address|route add|delete NAME PREFIX [SOURCE] */
static int set_overlay(struct rtnl *rtnl, char **argv)
{
	bool add = strcmp(argv[1], "add") == 0, address = strcmp(argv[0], "address") == 0;
	struct prefix prefix, source;
	struct rtnl_link link;
	int r = rtnl_link_get(rtnl, argv[2], &link);

	if (r == 0)
		r = prefix_parse(argv[3], &prefix);
	if (r == 0 && argv[4])
		r = prefix_parse(argv[4], &source);
	if (r < 0)
		return r;
	if (address)
		return add ? rtnl_address_add(rtnl, link.index, &prefix) : rtnl_address_delete(rtnl, link.index, &prefix);
	return add ? rtnl_route_add(rtnl, link.index, &prefix, argv[4] ? &source : NULL) :
		     rtnl_route_delete(rtnl, link.index, &prefix);
}

static int route_commands(int argc, char **argv)
{
	_cleanup_(rtnl_close) struct rtnl *rtnl = NULL;
	int r = rtnl_open(&rtnl);

	if (r < 0)
		return done(r);
	if (strcmp(argv[0], "links") == 0)
		return done(rtnl_link_each(rtnl, print_link, NULL));
	if (strcmp(argv[0], "addresses") == 0)
		return done(rtnl_address_each(rtnl, print_address, NULL));
	if (strcmp(argv[0], "routes") == 0)
		return done(rtnl_route_each(rtnl, print_route, NULL));
	if (strcmp(argv[0], "link") == 0 && argc >= 3)
		return done(set_link(rtnl, argv + 1));
	return argc >= 4 ? done(set_overlay(rtnl, argv)) : 2;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	enum wg_backend_kind kind = argc > 2 && strcmp(argv[2], "kernel") == 0 ? WG_KERNEL : WG_USERSPACE;

	log_open("wgprobe");
	if (sodium_init() < 0)
		return 1;
	if (strcmp(command, "available") == 0)
		return done(wg_kernel_available());
	if (strcmp(command, "apply") == 0 && argc == 4)
		return apply(kind, argv[3]);
	if (strcmp(command, "dump") == 0 && argc == 4)
		return dump(kind, argv[3]);
	if (strcmp(command, "lifeline") == 0 && argc == 3)
		return lifeline(argv[2]);
	if (strcmp(command, "messages") == 0 && argc == 4)
		return messages((uint32_t)atoi(argv[2]), (uint16_t)atoi(argv[3]));
	if (strcmp(command, "read") == 0)
		return read_messages();
	if (strcmp(command, "grant") == 0 && argc >= 4)
		return grant(argv[2], argv[3], argc > 4);
	if (strcmp(command, "-f") == 0 && argc == 3)
		return misbehave(argv[2]);
	return argc > 1 ? route_commands(argc - 1, argv + 1) : 2;
}
