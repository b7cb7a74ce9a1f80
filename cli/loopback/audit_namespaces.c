/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces (namespaces(7)): the host's where the unit does not say otherwise, its own where it does (systemd.exec(5)). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/loopback/audit_unit.h"

#define LINK_TEXT 64

static const struct space {
	enum audit_aspect aspect;
	const char *link;
	bool may_be_own; /* being further apart than the unit says is no right more */
	const char *settings[32];
} spaces[] = {
	{ AUDIT_ns_mount, "mnt", true,
	  { "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateIPC", "ProtectSystem", "ProtectHome",
	    "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc",
	    "ProcSubset", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths",
	    "TemporaryFileSystem", "BindPaths", "BindReadOnlyPaths", "RootDirectory", "RootImage" } },
	{ AUDIT_ns_network, "net", false, { "PrivateNetwork", "NetworkNamespacePath" } },
	{ AUDIT_ns_user, "user", false, { "PrivateUsers" } },
	{ AUDIT_ns_pid, "pid", false, { "PrivatePIDs" } },
	{ AUDIT_ns_ipc, "ipc", true, { "PrivateIPC" } },
	{ AUDIT_ns_uts, "uts", true, { "ProtectHostname" } },
	{ AUDIT_ns_cgroup, "cgroup", true, { NULL } },
};

static int link_of(const char *process, const char *name, char out[static LINK_TEXT])
{
	char path[64];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%s/ns/%s", process, name);
	n = readlink(path, out, LINK_TEXT - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

static const char *asked_for(const struct audited *audited, const struct space *space)
{
	for (size_t i = 0; i < ARRAY_SIZE(space->settings) && space->settings[i]; i++)
		if (unit_flag(audited->shipped, space->settings[i]))
			return space->settings[i];
	return NULL;
}

static void compare(struct audited *audited, const struct space *space, const char *host)
{
	char process[16], is[LINK_TEXT], reference[LINK_TEXT], declared[64] = "the host's", found[LINK_TEXT + 32];
	const char *setting = audited->shipped ? asked_for(audited, space) : NULL;
	bool own;
	int r;

	if (setting)
		(void)snprintf(declared, sizeof(declared), "its own (%s=)", setting);
	(void)snprintf(process, sizeof(process), "%d", (int)audited->pid);
	r = link_of(process, space->link, is);
	if (r == 0)
		r = link_of(host, space->link, reference);
	if (r < 0) {
		audit_unreadable(audited, space->aspect, declared, r);
		return;
	}
	own = strcmp(is, reference) != 0;
	(void)snprintf(found, sizeof(found), "%s (%s)", own ? "its own" : "the host's", is);
	if (!audited->shipped)
		audit_say(audited, space->aspect, AUDIT_UNKNOWN, "not determined: no unit file is installed that would say it",
			  found);
	else
		audit_say(audited, space->aspect,
			  own == (setting != NULL) || (own && space->may_be_own) ? AUDIT_SAME : AUDIT_DIFFERS, declared, found);
}

/* The host is where its service manager is; without one, where this program was called. */
void audit_namespaces(struct audited *audited)
{
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
		compare(audited, &spaces[i], audited->managed ? "1" : "self");
}
