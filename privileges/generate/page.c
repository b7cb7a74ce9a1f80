/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "libipc/messages.h"
#include "privileges/generate/generate.h"

static const char *const modes[] = { [VIEW_CONNECT] = "connect",
				     [VIEW_CODE] = "execute",
				     [VIEW_START] = "read at the start",
				     [VIEW_NAME] = "see that it is there" };

/* -- Rights ---------------------------------------------------------------------------------------- */

static void write_capabilities(FILE *out, const struct process *process)
{
	(void)fprintf(out, "\n## Capabilities\n\n");
	if (!process_has(process, PRIVILEGE_CAP)) {
		(void)fprintf(out, "None: permitted, effective, inheritable, bounding and ambient set are empty.\n");
		return;
	}
	(void)fprintf(out, "| capability | why |\n|---|---|\n");
	FOR_EACH_ROW(row, process)
		if (row->kind == PRIVILEGE_CAP)
			(void)fprintf(out, "| %s | %s |\n", row->name, row->why);
}

static void write_sockets(FILE *out, const struct process *process)
{
	(void)fprintf(out, "\n## Sockets and other descriptors\n\n| what | how | why |\n|---|---|---|\n");
	FOR_EACH_ROW(row, process) {
		if (row->kind == PRIVILEGE_SOCKET)
			(void)fprintf(out, "| %s%s%s | makes it | %s |\n", row->name, row->protocol == PROTOCOL_ANY ? "" : ", ",
				      row->protocol == PROTOCOL_ANY ? "" : row->path, row->why);
		else if (row->kind == PRIVILEGE_HOLD)
			(void)fprintf(out, "| %s | is handed it, or opened it before its filter; could not make it | %s |\n",
				      row->name, row->why);
		else if (row->kind == PRIVILEGE_PEER)
			(void)fprintf(out, "| user %s | may connect to it | %s |\n", row->name, row->why);
	}
}

static void write_files(FILE *out, const struct process *process)
{
	(void)fprintf(out, "\n## Files\n\nWhat Landlock lets it open, and what its unit shows it besides. Its root folder holds "
			   "nothing else but its program, a /proc with itself\n"
			   "alone in it, a /dev of pseudo devices, and temporary folders of its own.\n\n"
			   "| path | right | why |\n|---|---|---|\n");
	FOR_EACH_ROW(row, process) {
		if (row->kind == PRIVILEGE_PATH)
			(void)fprintf(out, "| `%s` | %s | %s |\n", row->path,
				      row->number == PATH_RW ? "read, write, make, remove" : "read", row->why);
		else if (row->kind == PRIVILEGE_VIEW)
			(void)fprintf(out, "| `%s` | %s | %s |\n", row->path, modes[row->number], row->why);
	}
}

/* A bar would end a cell of the table. */
static void write_cell(FILE *out, const char *text)
{
	for (; *text; text++)
		(void)fprintf(out, "%s%c", *text == '|' ? "\\" : "", *text);
}

static void write_call(FILE *out, const struct privilege *row)
{
	(void)fprintf(out, "| `%s` | ", row->name);
	if (row->compare == COMPARE_EQ)
		(void)fprintf(out, "argument %u is ", row->argument);
	else if (row->compare == COMPARE_MASK)
		(void)fprintf(out, "argument %u & ", row->argument);
	else if (row->compare == COMPARE_ABSENT)
		(void)fprintf(out, "refused as if the kernel lacked it");
	write_cell(out, row->path ? row->path : "");
	(void)fprintf(out, " | %s |\n", row->why);
}

static void write_calls(FILE *out, const struct process *process)
{
	(void)fprintf(out, "\n## System calls\n\n%s\n\n| call | only if | why |\n|---|---|---|\n",
		      process->becomes ? "Any other is refused, and kills if nobody calls it by mistake (wg-launch/filter.c)."
				       : "Any other kills the process.");
	FOR_EACH_ROW(row, process)
		if (row->kind == PRIVILEGE_SYS)
			write_call(out, row);
	(void)fprintf(out,
		      "\nOnly until that filter stands, before anything is read from a peer:\n\n| call | why |\n|---|---|\n");
	FOR_EACH_ROW(row, process)
		if (row->kind == PRIVILEGE_START)
			(void)fprintf(out, "| `%s` | %s |\n", row->name, row->why);
}

/* -- Messages ---------------------------------------------------------------------------------------- */

struct field_writer {
	struct field_visitor visitor;
	FILE *out;
	const char *separator;
};

static void write_field(struct field_visitor *visitor, enum field_kind kind _unused_, void *field _unused_, const char *name,
			uint64_t bound _unused_)
{
	struct field_writer *writer = (struct field_writer *)visitor;

	(void)fprintf(writer->out, "%s%s", writer->separator, name);
	writer->separator = ", ";
}

static void write_message(FILE *out, const struct message_type *type, enum party other)
{
	struct field_writer writer = { .visitor.field = write_field, .out = out, .separator = "" };
	union message_body body = { 0 };

	(void)fprintf(out, "| `%s` | %s | %s | %zu | %u | ", type->name, party_name(other), phase_name(type->phase), type->bytes,
		      type->fds);
	type->walk(&writer.visitor, &body);
	(void)fprintf(out, " |\n");
}

static void write_messages(FILE *out, const struct process *process)
{
	bool any = false;

	(void)fprintf(out, "\n## Who may send it what\n\n");
	for (size_t i = 0; i < message_type_count; i++) {
		if (strcmp(party_name(message_types[i].to), process->name) != 0)
			continue;
		if (!any)
			(void)fprintf(out,
				      "Anything else on these sockets closes the channel ([messages](../design/ipc.md)).\n\n"
				      "| message | from | phase | bytes | descriptors | fields |\n|---|---|---|---|---|---|\n");
		write_message(out, &message_types[i], message_types[i].from);
		any = true;
	}
	(void)fprintf(out, "%s",
		      any ? "\nWhat it may send:\n\n| message | to | phase | bytes | descriptors | fields "
			    "|\n|---|---|---|---|---|---|\n"
			  : "Nobody.\n");
	for (size_t i = 0; any && i < message_type_count; i++)
		if (strcmp(party_name(message_types[i].from), process->name) == 0)
			write_message(out, &message_types[i], message_types[i].to);
}

/* -- Pages ---------------------------------------------------------------------------------------- */

static void copy(FILE *out, FILE *text)
{
	char block[4096];

	for (size_t n = fread(block, 1, sizeof(block), text); n > 0; n = fread(block, 1, sizeof(block), text))
		(void)fwrite(block, 1, n, out);
}

void page_write(FILE *out, const struct process *process, FILE *takeover)
{
	(void)fprintf(out,
		      "# %s\n\nGenerated from `%s/privileges.def`, `libipc/messages.def` and `privileges/pages/%s.md` by `make "
		      "audit-pages`.\n\n"
		      "| | |\n|---|---|\n| program | `%s`%s%s |\n| user and group | `%s`; no other groups |\n| unit | `%s` |\n"
		      "| AppArmor profile | `loopback-%s` |\n",
		      process->name, process->name, process->name, process->program, process->becomes ? ", which becomes " : "",
		      process->becomes ? process->becomes : "", process_user(process), process->unit, process->name);
	(void)fprintf(out, "\n## What taking it over buys\n\n");
	copy(out, takeover);
	write_capabilities(out, process);
	write_sockets(out, process);
	write_files(out, process);
	write_messages(out, process);
	write_calls(out, process);
}

/* The words of all rows of a kind, one after the other. */
static void write_names(FILE *out, const struct process *process, enum privilege_kind kind)
{
	const char *separator = "";

	FOR_EACH_ROW(row, process) {
		if (row->kind != kind)
			continue;
		(void)fprintf(out, "%s%s", separator, row->name);
		if (kind == PRIVILEGE_SOCKET && row->protocol != PROTOCOL_ANY)
			(void)fprintf(out, " (%s)", row->path);
		separator = ", ";
	}
	(void)fprintf(out, "%s", *separator ? "" : "none");
}

static void write_writable(FILE *out, const struct process *process)
{
	const char *separator = "";

	FOR_EACH_ROW(row, process) {
		if (row->kind != PRIVILEGE_PATH || row->number != PATH_RW)
			continue;
		(void)fprintf(out, "%s`%s`", separator, row->path);
		separator = ", ";
	}
	(void)fprintf(out, "%s", *separator ? "" : "none");
}

static unsigned calls_count(const struct process *process)
{
	struct words calls = { 0 };

	FOR_EACH_ROW(row, process)
		if (row->kind == PRIVILEGE_SYS && row->compare != COMPARE_ABSENT)
			words_add(&calls, row->name);
	return (unsigned)calls.count;
}

void page_write_overview(FILE *out)
{
	(void)fprintf(out, "| process | user | capabilities | makes sockets | is handed | writes | system calls "
			   "|\n|---|---|---|---|---|---|---|\n");
	for (const struct process *process = processes; process->name; process++) {
		(void)fprintf(out, "| [%s](%s.md) | `%s` | ", process->name, process->name, process_user(process));
		write_names(out, process, PRIVILEGE_CAP);
		(void)fprintf(out, " | ");
		write_names(out, process, PRIVILEGE_SOCKET);
		(void)fprintf(out, " | ");
		write_names(out, process, PRIVILEGE_HOLD);
		(void)fprintf(out, " | ");
		write_writable(out, process);
		(void)fprintf(out, " | %u |\n", calls_count(process));
	}
}
