/* SPDX-License-Identifier: Apache-2.0 */
/* privileges: write what is generated from the tables of privileges. A tool of the build; it is not installed. */
#include <errno.h>
#include <string.h>

#include "libipc/log.h"
#include "privileges/generate/generate.h"

#define MARK "@PRIVILEGES " /* "@PRIVILEGES netd@", a line of its own in a unit's template */

static const char usage[] =
	"Usage: privileges systemd PROCESS      lines for [Service] of its unit\n"
	"       privileges unit TEMPLATE        the template, its line @PRIVILEGES PROCESS@ replaced by those\n"
	"       privileges apparmor PROCESS     its AppArmor profile\n"
	"       privileges page PROCESS TEXT    its page for auditors; TEXT says what taking it over buys\n"
	"       privileges index TEXT           the text, its line @PROCESSES@ replaced by a table of all processes\n"
	"Writes to standard output what the privileges.def of that process declares.\n";

static const struct process *process_of(const char *name)
{
	for (const struct process *process = processes; process->name; process++)
		if (strcmp(process->name, name) == 0)
			return process;
	log_error("there is no process %s in privileges/tables.c", name);
	return NULL;
}

static int write_unit(FILE *out, const char *path)
{
	_cleanup_fclose_ FILE *template = fopen(path, "re");
	const struct process *process = NULL;
	char line[1024];

	if (!template)
		return log_errno(errno, "cannot read %s", path);
	while (fgets(line, sizeof(line), template)) {
		if (strncmp(line, MARK, strlen(MARK)) != 0) {
			(void)fputs(line, out);
			continue;
		}
		line[strcspn(line, "\n") - 1] = '\0';
		process = process_of(line + strlen(MARK));
		if (!process)
			return -EINVAL;
		systemd_write(out, process);
	}
	if (!process) {
		log_error("%s: expected a line " MARK "PROCESS@, found none; its sandbox would be missing", path);
		return -EINVAL;
	}
	return ferror(template) ? -EIO : 0;
}

static int write_page(FILE *out, const char *name, const char *path)
{
	const struct process *process = process_of(name);
	_cleanup_fclose_ FILE *text = process ? fopen(path, "re") : NULL;

	if (!process)
		return -EINVAL;
	if (!text)
		return log_errno(errno, "cannot read %s", path);
	page_write(out, process, text);
	return ferror(text) ? -EIO : 0;
}

static int write_index(FILE *out, const char *path)
{
	_cleanup_fclose_ FILE *text = fopen(path, "re");
	char line[1024];

	if (!text)
		return log_errno(errno, "cannot read %s", path);
	while (fgets(line, sizeof(line), text)) {
		if (strcmp(line, "@PROCESSES@\n") == 0)
			page_write_overview(out);
		else
			(void)fputs(line, out);
	}
	return ferror(text) ? -EIO : 0;
}

static int write_for(FILE *out, const char *name, void (*writer)(FILE *out, const struct process *process))
{
	const struct process *process = process_of(name);

	if (process)
		writer(out, process);
	return process ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	int r = -EINVAL;

	log_open("privileges");
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return fputs(usage, stdout) < 0;
	if (argc == 3 && strcmp(argv[1], "systemd") == 0)
		r = write_for(stdout, argv[2], systemd_write);
	else if (argc == 3 && strcmp(argv[1], "unit") == 0)
		r = write_unit(stdout, argv[2]);
	else if (argc == 3 && strcmp(argv[1], "apparmor") == 0)
		r = write_for(stdout, argv[2], apparmor_write);
	else if (argc == 4 && strcmp(argv[1], "page") == 0)
		r = write_page(stdout, argv[2], argv[3]);
	else if (argc == 3 && strcmp(argv[1], "index") == 0)
		r = write_index(stdout, argv[2]);
	else
		(void)fputs(usage, stderr);
	if (r == 0 && (fflush(stdout) != 0 || ferror(stdout)))
		r = log_errno(EIO, "cannot write");
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
