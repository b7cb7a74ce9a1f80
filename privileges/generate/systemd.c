/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "privileges/generate/generate.h"

#define OWN_FOLDER "/loopback/" /* what our units and sockets make is there; everything else a host may lack */

/* What is right for any process of ours, whatever its table says. */
static const char always[] =
	"# No new rights, nothing executable but what is named below, no other kind of system call.\n"
	"NoNewPrivileges=yes\n"
	"MemoryDenyWriteExecute=yes\n"
	"LockPersonality=yes\n"
	"RestrictRealtime=yes\n"
	"RestrictSUIDSGID=yes\n"
	"RestrictNamespaces=yes\n"
	"SystemCallArchitectures=native\n"
	"# Kernel, clock, name of the host, other processes, other people's IPC objects and keys: out of reach.\n"
	"ProtectKernelTunables=yes\n"
	"ProtectKernelModules=yes\n"
	"ProtectKernelLogs=yes\n"
	"ProtectControlGroups=yes\n"
	"ProtectClock=yes\n"
	"ProtectHostname=yes\n"
	"ProtectProc=invisible\n"
	"ProcSubset=pid\n"
	"PrivateIPC=yes\n"
	"RemoveIPC=yes\n"
	"KeyringMode=private\n"
	"LimitCORE=0\n"
	"UMask=0077\n";

static const char view_always[] =
	"# An empty root folder of its own; what follows is all there is in it. So no other daemon's socket, D-Bus, container "
	"engine, home or\n"
	"# control group has a name here, which Landlock alone could not promise: it holds back neither connect() nor chmod().\n"
	"PrivateMounts=yes\n"
	"ProtectSystem=strict\n"
	"ProtectHome=yes\n"
	"PrivateTmp=yes\n"
	"PrivateDevices=yes\n"
	"DevicePolicy=closed\n"
	"InaccessiblePaths=-+/sys/block -+/sys/bus -+/sys/class -+/sys/dev -+/sys/devices -+/sys/firmware -+/sys/fs "
	"-+/sys/hypervisor\n"
	"InaccessiblePaths=-+/sys/kernel -+/sys/module -+/sys/power -+/dev/hugepages -+/dev/mqueue -+/dev/pts -+/dev/shm\n"
	"InaccessiblePaths=-+/run/systemd/journal\n"
	"NoExecPaths=+/ +/tmp +/var/tmp\n";

static void write_identity(FILE *out, const struct process *process)
{
	struct words capabilities = { 0 };

	FOR_EACH_ROW(row, process)
		if (row->kind == PRIVILEGE_CAP)
			words_add(&capabilities, row->name);
	(void)fprintf(out, "User=%s\nGroup=%s\n", process_user(process), process_user(process));
	if (capabilities.count == 0)
		(void)fprintf(out, "CapabilityBoundingSet=\n");
	words_write(out, "CapabilityBoundingSet", &capabilities);
	words_write(out, "AmbientCapabilities", &capabilities);
}

static void write_users(FILE *out, const struct process *process)
{
	if (process_has(process, PRIVILEGE_CAP))
		(void)fprintf(out, "# No user namespace: its capabilities would be good for nothing outside of it.\n");
	else if (process_has(process, PRIVILEGE_PEER))
		(void)fprintf(out, "# No user namespace: in it every user is nobody, and it knows its peers by their uid.\n");
	else
		(void)fprintf(out, "PrivateUsers=yes\n");
}

static void write_network(FILE *out, const struct process *process)
{
	struct words families = { 0 };

	words_add(&families, "AF_UNIX"); /* the notification socket */
	FOR_EACH_ROW(row, process)
		if (row->kind == PRIVILEGE_SOCKET || (row->kind == PRIVILEGE_HOLD && strncmp(row->name, "AF_", 3) == 0))
			words_add(&families, row->name);
	words_write(out, "RestrictAddressFamilies", &families);
	if (!process_has_internet(process))
		(void)fprintf(out, "IPAddressDeny=any\n");
	if (families.count == 1 && !process_has(process, PRIVILEGE_CAP))
		(void)fprintf(out, "# Whoever speaks to it comes through a socket that systemd holds.\nPrivateNetwork=yes\n");
}

static void write_calls(FILE *out, const struct process *process)
{
	struct words calls = { 0 };

	FOR_EACH_ROW(row, process) {
		if ((row->kind == PRIVILEGE_SYS && row->compare != COMPARE_ABSENT) || row->kind == PRIVILEGE_START)
			words_add(&calls, row->name);
		else if (row->kind == PRIVILEGE_SOCKET)
			words_add(&calls, "socket");
	}
	(void)fprintf(out, "# Until the process's own filter stands, which knows arguments as well and kills: the stricter of "
			   "the two decides.\n"
			   "SystemCallErrorNumber=EPERM\n");
	words_write(out, "SystemCallFilter", &calls);
}

/* -- What there is in the root folder ---------------------------------------------------------------------------------------- */

/* Does path lie in folder, or is it the same? */
static bool within(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* Is it shown already, by a row for a folder that it lies in or by an earlier row for the same path? */
static bool is_shown(const struct process *process, const struct privilege *this)
{
	FOR_EACH_ROW(row, process) {
		if (row == this || (row->kind != PRIVILEGE_PATH && row->kind != PRIVILEGE_VIEW) || !within(this->path, row->path))
			continue;
		if (strcmp(this->path, row->path) != 0 || row < this)
			return true;
	}
	return false;
}

static const char *optional(const char *path)
{
	return strstr(path, OWN_FOLDER) ? "" : "-";
}

static void write_path(FILE *out, const struct process *process, const struct privilege *row)
{
	bool writable = row->kind == PRIVILEGE_PATH && row->number == PATH_RW;

	if (is_shown(process, row))
		return;
	/* /var/run is a link on the host; in the empty folder it is one that is made for the mount. */
	(void)fprintf(out, "%s=%s%s%s%s\n", writable ? "BindPaths" : "BindReadOnlyPaths", optional(row->path),
		      within(row->path, "/var/run") ? row->path + strlen("/var") : row->path,
		      within(row->path, "/var/run") ? ":" : "", within(row->path, "/var/run") ? row->path : "");
	if (writable)
		(void)fprintf(out, "NoExecPaths=%s+%s\n", optional(row->path), row->path);
	if (writable && within(row->path, "/dev"))
		(void)fprintf(out, "DeviceAllow=%s rw\n", row->path);
}

static void write_view(FILE *out, const struct process *process)
{
	(void)fprintf(out, "%sRootDirectory=/run/loopback/root/%s\n", view_always, process->name);
	(void)fprintf(out, "ExecPaths=+%s%s%s\n", process->program, process->becomes ? " -+" : "",
		      process->becomes ? process->becomes : "");
	(void)fprintf(out, "BindReadOnlyPaths=%s\n", process->program);
	if (process->becomes)
		(void)fprintf(out, "BindReadOnlyPaths=-%s\n", process->becomes);
	FOR_EACH_ROW(row, process) {
		if (row->kind == PRIVILEGE_VIEW && row->number == VIEW_CODE)
			(void)fprintf(out, "ExecPaths=-+%s\n", row->path);
		if (row->kind == PRIVILEGE_PATH || row->kind == PRIVILEGE_VIEW)
			write_path(out, process, row);
	}
}

void systemd_write(FILE *out, const struct process *process)
{
	(void)fprintf(
		out,
		"# -- Privileges: generated from %s/privileges.def, which says why. ----------------------------------------\n",
		process->name);
	write_identity(out, process);
	write_users(out, process);
	(void)fputs(always, out);
	write_network(out, process);
	write_calls(out, process);
	write_view(out, process);
	(void)fprintf(out, "AppArmorProfile=-loopback-%s\n", process->name);
}
