/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/audit_report.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "cli/common/emit.h"
#include "cli/common/voice.h"

#define LINE_BYTES 16384
#define FORMAT_VERSION 1

enum audit_result audit_worst(const struct audit *audit)
{
	enum audit_result worst = AUDIT_SAME;

	for (size_t i = 0; i < audit->count; i++)
		if (audited_result(&audit->list[i]) > worst)
			worst = audited_result(&audit->list[i]);
	return worst;
}

static unsigned count_of(const struct audit *audit, enum audit_result result)
{
	unsigned count = 0;

	for (size_t i = 0; i < audit->count; i++)
		for (unsigned c = 0; c < audit->list[i].count; c++)
			count += audit->list[i].checks[c].result == result;
	return count;
}

/* -- For people -------------------------------------------------------------------------------------------------------------- */

/* Names of files and programs are whatever others called them. */
static void line(const char *lead, const char *text)
{
	char clean[LINE_BYTES];

	(void)printf("%s%s\n", lead, cli_clean(clean, sizeof(clean), text, strlen(text)));
}

static void tell_check(const struct audit_check *check)
{
	static const char *const words[] = {
		[AUDIT_SAME] = "ok", [AUDIT_NOT_SHOWN] = "not shown", [AUDIT_UNKNOWN] = "UNKNOWN", [AUDIT_DIFFERS] = "DIFFERS",
	};
	char lead[64];

	if (check->result == AUDIT_SAME || check->result == AUDIT_NOT_SHOWN) {
		(void)snprintf(lead, sizeof(lead), "  %-9s  %-16s  ", words[check->result], audit_aspect_name(check->aspect));
		line(lead, check->found);
		return;
	}
	(void)printf("  %-9s  %s\n", words[check->result], audit_aspect_name(check->aspect));
	line("               declared  ", check->declared);
	line("               found     ", check->found);
	if (check->result != AUDIT_DIFFERS)
		return;
	line("               why       ", audit_aspect_why(check->aspect));
	line("               do        ", audit_aspect_todo(check->aspect));
}

static void tell_process(const struct audited *audited)
{
	if (audited->state == AUDIT_RUNNING)
		(void)printf("%s: process %d, %u thread%s, %s\n", audited->process->name, (int)audited->pid, audited->threads,
			     audited->threads == 1 ? "" : "s", audited->process->unit);
	else
		(void)printf("%s: %s\n", audited->process->name, audited->process->unit);
	for (unsigned i = 0; i < audited->count; i++)
		tell_check(&audited->checks[i]);
	(void)fputc('\n', stdout);
}

void audit_report_text(const struct audit *audit)
{
	unsigned differs = count_of(audit, AUDIT_DIFFERS), unknown = count_of(audit, AUDIT_UNKNOWN);
	unsigned same = count_of(audit, AUDIT_SAME), not_shown = count_of(audit, AUDIT_NOT_SHOWN);

	for (size_t i = 0; i < audit->count; i++)
		tell_process(&audit->list[i]);
	(void)printf("%zu process%s: %u as declared, %u different, %u not determined, %u not shown by the kernel\n", audit->count,
		     audit->count == 1 ? "" : "es", same, differs, unknown, not_shown);
}

/* -- For programs ------------------------------------------------------------------------------------------------------------ */

static void emit_check(struct emit *emit, const struct audit_check *check)
{
	emit_object(emit, NULL);
	emit_text(emit, "check", audit_aspect_name(check->aspect));
	emit_text(emit, "result", audit_result_name(check->result));
	emit_text(emit, "declared", check->declared);
	emit_text(emit, "found", check->found);
	if (check->result == AUDIT_DIFFERS) {
		emit_text(emit, "why", audit_aspect_why(check->aspect));
		emit_text(emit, "do", audit_aspect_todo(check->aspect));
	}
	emit_end(emit);
}

static void emit_process(struct emit *emit, const struct audited *audited)
{
	emit_object(emit, NULL);
	emit_text(emit, "name", audited->process->name);
	emit_text(emit, "program", audited->process->program);
	emit_text(emit, "unit", audited->process->unit);
	emit_text(emit, "user", audited->process->privileges->rows[0].path);
	if (audited->state == AUDIT_RUNNING)
		emit_u64(emit, "pid", (uint64_t)audited->pid);
	else
		emit_null(emit, "pid");
	emit_u64(emit, "threads", audited->threads);
	emit_text(emit, "result", audit_result_name(audited_result(audited)));
	emit_array(emit, "checks");
	for (unsigned i = 0; i < audited->count; i++)
		emit_check(emit, &audited->checks[i]);
	emit_end(emit);
	emit_end(emit);
}

void audit_report_json(const struct audit *audit)
{
	struct emit emit = emit_to(stdout);
	struct utsname host;

	emit_object(&emit, NULL);
	emit_u64(&emit, "format", FORMAT_VERSION);
	emit_text(&emit, "version", LOOPBACK_VERSION);
	emit_text(&emit, "host", uname(&host) == 0 ? host.nodename : NULL);
	emit_text(&emit, "kernel", uname(&host) == 0 ? host.release : NULL);
	emit_text(&emit, "service_manager", audit->systemd ? "systemd" : NULL);
	emit_text(&emit, "result", audit_result_name(audit_worst(audit)));
	emit_u64(&emit, "differences", count_of(audit, AUDIT_DIFFERS));
	emit_u64(&emit, "unknown", count_of(audit, AUDIT_UNKNOWN));
	emit_array(&emit, "processes");
	for (size_t i = 0; i < audit->count; i++)
		emit_process(&emit, &audit->list[i]);
	emit_end(&emit);
	emit_end(&emit);
}
