/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <string.h>

#include "privileges/generate/generate.h"

static void write_path(FILE *out, const struct privilege *row)
{
	const char *access = row->kind == PRIVILEGE_PATH   ? row->number == PATH_RW ? "rwk" : "r"
			     : row->number == VIEW_CONNECT ? "rw"
			     : row->number == VIEW_CODE    ? "mr"
							   : "r";
	/* AppArmor sees names behind links. /var/run is one on the host, and a folder in the root that the unit gives. */
	bool run = strncmp(row->path, "/var/run/", strlen("/var/run/")) == 0;

	/* The table does not say whether it is a folder; a rule for what there is not gives nothing. */
	(void)fprintf(out, "  # %s\n  %s%s{,/,/**} %s,\n", row->why, run ? "/{,var/}" : "",
		      run ? row->path + strlen("/var/") : row->path, access);
}

/* CAP_NET_ADMIN is net_admin here. */
static void write_capability(FILE *out, const struct privilege *row)
{
	(void)fprintf(out, "  # %s\n  capability ", row->why);
	for (const char *at = row->name + strlen("CAP_"); *at; at++)
		(void)fputc(tolower(*at), out);
	(void)fprintf(out, ",\n");
}

static void write_families(FILE *out, const struct process *process)
{
	static const struct {
		const char *family, *word;
	} known[] = { { "AF_INET", "inet" }, { "AF_INET6", "inet6" }, { "AF_NETLINK", "netlink" } };

	(void)fprintf(out, "  network unix stream,\n  network unix dgram,\n  network unix seqpacket,\n");
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!process_has_family(process, known[i].family))
			continue;
		if (strcmp(known[i].word, "netlink") == 0)
			(void)fprintf(out, "  network netlink raw,\n");
		else
			(void)fprintf(out, "  network %s stream,\n  network %s dgram,\n", known[i].word, known[i].word);
	}
	(void)fprintf(
		out,
		"  unix (accept, bind, connect, create, getattr, getopt, listen, receive, send, setattr, setopt, shutdown),\n");
}

/* What a descriptor from outside of the mount namespace is called is no rule's business: attach_disconnected. */
void apparmor_write(FILE *out, const struct process *process)
{
	(void)fprintf(out,
		      "# SPDX-License-Identifier: Apache-2.0\n"
		      "# Generated from %s/privileges.def: what no rule names is refused. There are none for ptrace, signals to "
		      "others, mounts, D-Bus.\n"
		      "abi <abi/3.0>,\n\n"
		      "profile loopback-%s flags=(attach_disconnected) {\n"
		      "  # The end: the service manager's signals, and its own abort().\n"
		      "  signal (receive) peer=unconfined,\n"
		      "  signal (send, receive) peer=loopback-%s,\n\n"
		      "  # Itself.\n"
		      "  %s mr,\n",
		      process->name, process->name, process->name, process->program);
	if (process->becomes)
		(void)fprintf(out, "  # What it becomes, under this same profile.\n  %s ixmr,\n", process->becomes);
	(void)fputc('\n', out);
	FOR_EACH_ROW(row, process)
		if (row->kind == PRIVILEGE_CAP)
			write_capability(out, row);
	write_families(out, process);
	(void)fputc('\n', out);
	FOR_EACH_ROW(row, process)
		if (row->kind == PRIVILEGE_PATH || row->kind == PRIVILEGE_VIEW)
			write_path(out, row);
		else if (row->kind == PRIVILEGE_HOLD &&
			 row->name[0] == '/') /* AppArmor judges files that are handed over as well */
			(void)fprintf(out, "  # %s\n  %s rw,\n", row->why, row->name);
	(void)fprintf(out, "\n  # Additions of this site.\n  include if exists <local/loopback-%s>\n}\n", process->name);
}
