/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of this host: interface, addresses, ways, port, firewall, disk. Nothing is changed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/loopback/doctor.h"
#include "cli/loopback/support_run.h"

#define STATE_FOLDER "/var/lib/loopback/netd"
#define NFT_SECONDS 3
#define LINE_BYTES 512
#define HOLDERS_MAX 8 /* sockets of one port */

/* -- Interface and addresses ----------------------------------------------------------------------------------------------------------- */

/* The kernel goes by the larger of an interface's value and "all" (Documentation/networking/ip-sysctl.rst). */
static bool is_strict(const char *interface)
{
	const char *const names[] = { "all", interface };
	int highest = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_fclose_ FILE *file = NULL;
		char path[128];
		int value = 0;

		(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", names[i]);
		file = fopen(path, "re");
		if (file && fscanf(file, "%d", &value) == 1 && value > highest)
			highest = value;
	}
	return highest == 1;
}

static int address_seen(const struct rtnl_address *address, void *arg)
{
	struct facts *facts = arg;
	bool overlay = address->index == facts->host.link.index && facts->host.link_there;
	unsigned *count = overlay ? &facts->host.overlay_count : &facts->host.underlay_count;
	struct seen_address *seen = &(overlay ? facts->host.overlay : facts->host.underlay)[*count];

	if (*count == ADDRESSES_SEEN_MAX || address->scope != 0 || (!overlay && address->address.family == 4 && address->address.b[0] == 127))
		return 0;
	*seen = (struct seen_address){ .index = address->index, .address = address->address };
	if (!if_indextoname((unsigned)address->index, seen->interface))
		(void)snprintf(seen->interface, sizeof(seen->interface), "?");
	seen->strict = is_strict(seen->interface);
	++*count;
	return 0;
}

static void look_at_disk(struct host_facts *host)
{
	struct statvfs disk;

	host->disk_free = host->files_free = UINT64_MAX;
	if (statvfs(STATE_FOLDER, &disk) < 0) {
		host->disk_error = -errno;
		return;
	}
	host->disk_free = (uint64_t)disk.f_bavail * disk.f_frsize;
	if (disk.f_files > 0)
		host->files_free = disk.f_favail;
}

void doctor_host(struct facts *facts, struct rtnl *rtnl)
{
	struct host_facts *host = &facts->host;
	int r = 0;

	look_at_disk(host);
	if (!rtnl || facts->netd_error || !facts->view.interface[0])
		return;
	r = rtnl_link_get(rtnl, facts->view.interface, &host->link);
	host->link_there = r == 0;
	if (r == 0 || r == -ENODEV)
		r = rtnl_address_each(rtnl, address_seen, facts);
	host->error = r;
}

static void way_of(struct rtnl *rtnl, const struct prefix *to, int *error, struct rtnl_way *way)
{
	*error = rtnl_way_to(rtnl, to, way);
}

void doctor_ways(struct facts *facts, struct rtnl *rtnl)
{
	for (size_t i = 0; i < facts->peer_count; i++) {
		struct doctor_peer *peer = &facts->peers[i];
		struct prefix under = { .family = peer->endpoint.family, .length = (uint8_t)family_bits(peer->endpoint.family) };
		int error;

		if (!peer->probed || !peer->echo.to.family)
			continue;
		way_of(rtnl, &peer->echo.to, &peer->way_error, &peer->way);
		if (peer->way_error || !if_indextoname((unsigned)peer->way.index, peer->way_name))
			(void)snprintf(peer->way_name, sizeof(peer->way_name), "nowhere");
		memcpy(under.b, peer->endpoint.b, sizeof(under.b));
		if (peer->has_endpoint)
			way_of(rtnl, &under, &error, &peer->under_way);
	}
}

/* -- Who has the UDP port --------------------------------------------------------------------------------------------------------------- */

/* Inodes of sockets that are bound to the port: the fields of /proc/net/udp (proc(5)). */
static int find_sockets(const char *path, uint64_t port, uint64_t *inodes, unsigned *count)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char line[LINE_BYTES];

	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		unsigned local = 0;
		uint64_t inode = 0;

		if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %*x %*x:%*x %*x:%*x %*x %*u %*u %" SCNu64, &local, &inode) == 2 &&
		    local == port && *count < HOLDERS_MAX)
			inodes[(*count)++] = inode;
	}
	return 0;
}

static bool has_socket(int process, const uint64_t *inodes, unsigned count)
{
	int folder = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = folder < 0 ? NULL : fdopendir(folder);
	bool found = false;

	if (!list) {
		close_fd(folder);
		return false;
	}
	for (const struct dirent *entry = readdir(list); entry && !found; entry = readdir(list)) {
		char link[64], wanted[64];
		ssize_t n = readlinkat(folder, entry->d_name, link, sizeof(link) - 1);

		for (unsigned i = 0; n > 0 && i < count; i++) {
			link[n] = '\0';
			(void)snprintf(wanted, sizeof(wanted), "socket:[%" PRIu64 "]", inodes[i]);
			found = found || strcmp(link, wanted) == 0;
		}
	}
	(void)closedir(list);
	return found;
}

static const char *comm_of(int process, char name[static 32])
{
	_cleanup_close_ int comm = openat(process, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t n = comm < 0 ? 0 : read(comm, name, 31);

	name[n > 0 ? n : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
	return name;
}

/* The next process of a list of /proc. @return its folder, the caller's; -1 at the end */
static int next_process(DIR *list, char pid[static 16])
{
	const struct dirent *entry;
	int process;

	while ((entry = readdir(list))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		process = openat(dirfd(list), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (process < 0)
			continue;
		(void)snprintf(pid, 16, "%.15s", entry->d_name);
		return process;
	}
	return -1;
}

bool doctor_runs(const char *daemon)
{
	DIR *list = opendir("/proc");
	struct stat network, its;
	bool found = false;
	char pid[16], name[32];
	int process;

	if (!list || stat("/proc/self/ns/net", &network) < 0) {
		if (list)
			(void)closedir(list);
		return true; /* nobody knows */
	}
	while (!found && (process = next_process(list, pid)) >= 0) {
		found = strcmp(comm_of(process, name), daemon) == 0 && fstatat(process, "ns/net", &its, 0) == 0 && its.st_ino == network.st_ino;
		(void)close(process);
	}
	(void)closedir(list);
	return found;
}

/* A kernel tunnel's socket is nobody's; a userspace one's is wireguard-go's. */
static void find_holder(struct port_facts *port, bool kernel, const uint64_t *inodes, unsigned count)
{
	DIR *list = opendir("/proc");
	char pid[16], name[32];
	int process;

	if (!list) {
		port->error = -errno;
		return;
	}
	while (!port->foreign && (process = next_process(list, pid)) >= 0) {
		port->foreign = has_socket(process, inodes, count) && (strcmp(comm_of(process, name), "wireguard-go") != 0 || kernel);
		if (port->foreign)
			(void)snprintf(port->holder, sizeof(port->holder), "%s (process %s)", name, pid);
		(void)close(process);
	}
	(void)closedir(list);
}

void doctor_port(struct facts *facts)
{
	struct port_facts *port = &facts->host.port;
	uint64_t inodes[HOLDERS_MAX];
	unsigned count = 0;
	int six;

	if (facts->netd_error)
		return;
	port->error = find_sockets("/proc/net/udp", facts->view.listen_port, inodes, &count);
	six = find_sockets("/proc/net/udp6", facts->view.listen_port, inodes, &count);
	if (six < 0 && six != -ENOENT)
		port->error = six;
	port->held = count > 0;
	if (port->error == 0 && !facts->root)
		port->error = -EACCES;
	if (port->held && facts->root)
		find_holder(port, strcmp(facts->view.backend, "kernel") == 0, inodes, count);
}

/* -- Firewall --------------------------------------------------------------------------------------------------------------------------- */

/* A word with anything but letters, digits and underscores around it. */
static bool names_word(const char *line, const char *word)
{
	static const char inside[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
	size_t n = strlen(word);

	for (const char *at = strstr(line, word); at; at = strstr(at + 1, word))
		if ((at == line || !strchr(inside, at[-1])) && (at[n] == '\0' || !strchr(inside, at[n])))
			return true;
	return false;
}

void doctor_firewall_read(char *text, uint64_t port, const char *interface, struct firewall_facts *firewall)
{
	bool closed = false, named = false;
	char number[24], *rest = NULL;

	(void)snprintf(number, sizeof(number), "%" PRIu64, port);
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		bool mesh = names_word(line, number) || names_word(line, interface);

		line += strspn(line, " \t");
		closed = closed || (strstr(line, "hook input") && strstr(line, "policy drop"));
		named = named || (mesh && !names_word(line, "drop") && !names_word(line, "reject"));
		if (!mesh || (!names_word(line, "drop") && !names_word(line, "reject")) || firewall->count == RULES_SEEN_MAX)
			continue;
		(void)snprintf(firewall->rules[firewall->count++], RULE_BYTES, "%.*s", RULE_BYTES - 1, line);
	}
	firewall->closed_input = closed && !named;
}

void doctor_firewall(struct facts *facts, int stop)
{
	static const char *const argv[] = { "/usr/sbin/nft", "--stateless", "--numeric", "list", "ruleset", NULL };
	_cleanup_piece_ struct piece_output output = { .bytes = NULL };
	struct firewall_facts *firewall = &facts->host.firewall;
	char *text;

	firewall->error = -EACCES;
	if (!facts->root)
		return;
	firewall->error = piece_run(argv, NULL, NFT_SECONDS, stop, &output);
	if (firewall->error == 0 && (output.timed_out || output.cut || output.status != 0))
		firewall->error = -EIO;
	text = firewall->error == 0 ? strndup(output.bytes ? output.bytes : "", output.n) : NULL;
	if (!text)
		return;
	doctor_firewall_read(text, facts->view.listen_port, facts->view.interface[0] ? facts->view.interface : "lb0", firewall);
	free(text);
}
