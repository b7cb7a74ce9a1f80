/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/support_pieces.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/loopback/support_secrets.h"

#define LISTED_MAX 5000 /* of one folder: a cache can hold very many */
#define DEPTH_MAX 4
#define PATH_BYTES 512

/* -- Files that are shown as they are ---------------------------------------------------------------------------------------- */

static void show(const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	char bytes[4096];
	size_t n;

	(void)printf("-- %s\n", path);
	if (!file) {
		(void)printf("(%s)\n", strerror(errno));
		return;
	}
	while ((n = fread(bytes, 1, sizeof(bytes), file)) > 0)
		(void)fwrite(bytes, 1, n, stdout);
}

static int show_all(const char *const *paths)
{
	for (; *paths; paths++)
		show(*paths);
	return 0;
}

static int system_files(void)
{
	static const char *const paths[] = { "/etc/os-release",
					     "/proc/version",
					     "/proc/uptime",
					     "/proc/loadavg",
					     "/proc/meminfo",
					     "/proc/sys/kernel/random/boot_id",
					     "/sys/module/wireguard/version",
					     NULL };

	return show_all(paths);
}

static int resolver_files(void)
{
	static const char *const paths[] = { "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", NULL };

	return show_all(paths);
}

static int sysctls(void)
{
	static const char *const names[] = {
		"net/ipv4/ip_forward",
		"net/ipv4/conf/all/rp_filter",
		"net/ipv4/conf/default/rp_filter",
		"net/ipv4/conf/lb0/rp_filter",
		"net/ipv4/conf/all/src_valid_mark",
		"net/ipv6/conf/all/disable_ipv6",
		"net/ipv6/conf/default/disable_ipv6",
		"net/ipv6/conf/all/forwarding",
		"net/core/rmem_max",
		"net/core/wmem_max",
		"net/core/netdev_max_backlog",
		"kernel/unprivileged_bpf_disabled",
		"kernel/yama/ptrace_scope",
		"kernel/core_pattern",
		"fs/file-max",
		"kernel/pid_max",
	};
	char path[128], value[256];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_fclose_ FILE *file = NULL;

		(void)snprintf(path, sizeof(path), "/proc/sys/%s", names[i]);
		file = fopen(path, "re");
		(void)printf("%s = %s", names[i], file && fgets(value, sizeof(value), file) ? value : "(not there)\n");
	}
	return 0;
}

static int clocks(void)
{
	static const struct {
		clockid_t id;
		const char *name;
	} ids[] = { { CLOCK_REALTIME, "realtime" }, { CLOCK_MONOTONIC, "monotonic" }, { CLOCK_BOOTTIME, "boottime" } };
	char text[32];
	struct timespec now;
	struct tm utc;

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (clock_gettime(ids[i].id, &now) == 0)
			(void)printf("%s %" PRId64 ".%03ld\n", ids[i].name, (int64_t)now.tv_sec, now.tv_nsec / 1000000);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &utc) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &utc) > 0)
		(void)printf("%s\n", text);
	return 0;
}

/* -- Lists of files, never what is in them ----------------------------------------------------------------------------------- */

static const char *user_name(uid_t uid, char *number, size_t room)
{
	const struct passwd *user = getpwuid(uid);

	(void)snprintf(number, room, "%u", uid);
	return user ? user->pw_name : number;
}

static const char *group_name(gid_t gid, char *number, size_t room)
{
	const struct group *group = getgrgid(gid);

	(void)snprintf(number, room, "%u", gid);
	return group ? group->gr_name : number;
}

static void list_one(const char *path, const struct stat *file)
{
	static const char kinds[] = { [S_IFIFO >> 12] = 'p', [S_IFCHR >> 12] = 'c', [S_IFDIR >> 12] = 'd', [S_IFBLK >> 12] = 'b',
				      [S_IFREG >> 12] = '-', [S_IFLNK >> 12] = 'l', [S_IFSOCK >> 12] = 's' };
	char user[16], group[16], when[32] = "?";
	struct tm utc;

	if (gmtime_r(&file->st_mtime, &utc))
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
	(void)printf("%c %04o %-12s %-12s %10" PRId64 " %s %s\n", kinds[(file->st_mode & S_IFMT) >> 12], file->st_mode & 07777,
		     user_name(file->st_uid, user, sizeof(user)), group_name(file->st_gid, group, sizeof(group)),
		     (int64_t)file->st_size, when, path);
}

static void list(const char *path, unsigned depth, unsigned *left)
{
	struct dirent *entry;
	struct stat file;
	DIR *folder;

	if (lstat(path, &file) < 0) {
		(void)printf("? %s: %s\n", path, strerror(errno));
		return;
	}
	list_one(path, &file);
	if (!S_ISDIR(file.st_mode) || depth == DEPTH_MAX)
		return;
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		char below[PATH_BYTES];
		int n = snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || n < 0 || (size_t)n >= sizeof(below))
			continue;
		if (*left == 0) {
			(void)printf("... more in %s are not listed\n", path);
			break;
		}
		--*left;
		list(below, depth + 1, left);
	}
	if (folder)
		(void)closedir(folder);
}

static int file_lists(void)
{
	static const char *const folders[] = { "/etc/loopback",	    "/var/lib/loopback",    "/var/cache/loopback",
					       "/run/loopback",	    "/run/wireguard",	    "/usr/libexec/loopback",
					       "/usr/bin/loopback", "/usr/bin/loopbackctl", "/usr/bin/wireguard-go",
					       "/dev/net/tun" };

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		unsigned left = LISTED_MAX;

		list(folders[i], 0, &left);
	}
	return 0;
}

/* -- The table --------------------------------------------------------------------------------------------------------------- */

#define FILL(name, holds, seconds, fill)    { name, holds, seconds, { NULL }, fill }
#define RUN(name, holds, seconds, ...)      { name, holds, seconds, { __VA_ARGS__ }, NULL }
#define VERSION_OF(name) \
	RUN("version/" name ".txt", "version of " name, 5, "/usr/libexec/loopback/" name, "--version")
#define JOURNAL(unit)                                                                                                    \
	RUN("journal/" unit ".txt", "journal of " unit ", the newest 4,000 lines", 20, "/usr/bin/journalctl", "--quiet", \
	    "--no-pager", "--utc", "--output=short-iso-precise", "--lines=4000", "--unit", unit)
#define IP(name, holds, ...)                RUN("network/" name ".txt", holds, 10, "/usr/sbin/ip", __VA_ARGS__)
#define UNITS                               "loopback-*"

/* Environment= is not among them: it may hold anything. */
#define UNIT_PROPERTIES                                                                                          \
	"--property=Id,LoadState,UnitFileState,ActiveState,SubState,Result,ConditionResult,NRestarts,MainPID,"   \
	"ExecMainStatus,ExecMainCode,ActiveEnterTimestamp,InactiveEnterTimestamp,MemoryCurrent,CPUUsageNSec,"    \
	"TasksCurrent,FragmentPath,DropInPaths,NeedDaemonReload"

const struct piece support_pieces[] = {
	RUN("version/loopback.txt", "version of loopback", 5, "loopback", "--version"),
	VERSION_OF("netd"),
	VERSION_OF("fetchd"),
	VERSION_OF("wg-launch"),
	VERSION_OF("controld"),
	VERSION_OF("signd"),
	RUN("version/packages-deb.txt", "our packages and what they stand on", 10, "/usr/bin/dpkg-query", "--show",
	    "--showformat=${db:Status-Abbrev} ${Package} ${Version} ${Architecture}\\n", "loopback-*", "wireguard*",
	    "libcurl4*", "libsodium*", "libseccomp2", "systemd"),
	RUN("version/packages-rpm.txt", "our packages and what they stand on", 20, "/usr/bin/rpm", "--query", "--all",
	    "loopback-*", "wireguard*", "libcurl*", "libsodium*", "libseccomp*", "systemd"),
	FILL("system.txt", "distribution, kernel, memory, load", 5, system_files),
	RUN("kernel.txt", "kernel", 5, "/usr/bin/uname", "-a"),
	FILL("clock.txt", "the clocks", 5, clocks),
	RUN("time.txt", "is the clock kept right?", 10, "/usr/bin/timedatectl", "show"),
	RUN("disk.txt", "disk space", 10, "/usr/bin/df", "-kP", "/", "/var/lib/loopback", "/var/cache/loopback", "/run",
	    "/etc/loopback"),
	RUN("inodes.txt", "inodes", 10, "/usr/bin/df", "-iP", "/", "/var/lib/loopback", "/var/cache/loopback"),
	RUN("status.json", "this host, its networks, its control plane", 20, "loopback", "status", "--json"),
	RUN("mesh.json", "the same with every peer", 30, "loopback", "status", "--peers", "--json"),
	RUN("audit.json", "the processes' rights", 60, "loopback", "audit", "--json"),
	RUN("doctor.json", "what is wrong with it, by its own word", 30, "loopback", "doctor", "--json"),
	FILL("files.txt", "our folders: names, modes, owners, sizes", 20, file_lists),
	FILL("environment.txt", "/etc/loopback/*.env, without what could be secret", 5, environment_files),
	RUN("units.txt", "our units as the service manager sees them", 20, "/usr/bin/systemctl", "show", "--no-pager", "--all",
	    UNIT_PROPERTIES, UNITS),
	RUN("unit-list.txt", "our units, one a line", 20, "/usr/bin/systemctl", "list-units", "--no-pager", "--all", "--full",
	    UNITS),
	JOURNAL("loopback-netd.service"),
	JOURNAL("loopback-fetchd.service"),
	JOURNAL("loopback-wg.service"),
	JOURNAL("loopback-controld.service"),
	JOURNAL("loopback-signd.service"),
	IP("links", "interfaces", "-details", "-statistics", "link", "show"),
	IP("addresses", "addresses", "address", "show"),
	IP("routes4", "routes", "-4", "route", "show", "table", "all"),
	IP("routes6", "routes, IPv6", "-6", "route", "show", "table", "all"),
	IP("rules4", "routing rules", "-4", "rule", "show"),
	IP("rules6", "routing rules, IPv6", "-6", "rule", "show"),
	RUN("network/sockets.txt", "who listens", 10, "/usr/bin/ss", "--no-header", "--listening", "--numeric", "--udp", "--tcp",
	    "--processes"),
	RUN("network/wireguard.txt", "WireGuard, its keys hidden", 10, "/usr/bin/wg", "show"),
	FILL("network/sysctls.txt", "kernel settings that matter", 5, sysctls),
	FILL("network/resolver.txt", "how names are resolved", 5, resolver_files),
};
const size_t support_piece_count = ARRAY_SIZE(support_pieces);
