/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/common/emit.h"
#include "cli/loopback/doctor.h"

#define FORMAT_VERSION 1
#define CLEAN_BYTES 2048

/* What others wrote is among it. */
static void line(const char *lead, const char *text)
{
	char clean[CLEAN_BYTES];

	(void)printf("%s%s\n", lead, cli_clean(clean, sizeof(clean), text, strlen(text)));
}

static const char *advice_of(const struct finding *finding)
{
	return finding->advice[0] ? finding->advice : doctor_causes[finding->cause].advice;
}

static unsigned count_of(const struct diagnosis diagnoses[static DOCTOR_CHECKS], enum doctor_result result)
{
	unsigned count = 0;

	for (unsigned i = 0; i < DOCTOR_CHECKS; i++)
		count += result == DOCTOR_PROBLEM ? diagnoses[i].count : diagnoses[i].result == result;
	return count;
}

static void tell_finding(const struct finding *finding)
{
	(void)printf("\n%s: ", doctor_causes[finding->cause].code);
	line("", finding->object);
	line("  means     ", doctor_causes[finding->cause].means);
	if (finding->expected[0])
		line("  expected  ", finding->expected);
	if (finding->found[0])
		line("  found     ", finding->found);
	line("  do        ", advice_of(finding));
}

void doctor_report_text(const struct facts *facts, const struct diagnosis diagnoses[static DOCTOR_CHECKS])
{
	static const char *const words[] = {
		[DOCTOR_OK] = "ok", [DOCTOR_NOT_APPLICABLE] = "-", [DOCTOR_NOT_ASKED] = "not asked", [DOCTOR_UNKNOWN] = "UNKNOWN",
		[DOCTOR_PROBLEM] = "PROBLEM",
	};
	unsigned problems = count_of(diagnoses, DOCTOR_PROBLEM), unknown = count_of(diagnoses, DOCTOR_UNKNOWN);
	char lead[64];

	if (!facts->root)
		(void)puts("Without root much cannot be seen, and no peer can be asked: sudo loopback doctor\n");
	for (unsigned i = 0; i < DOCTOR_CHECKS; i++) {
		(void)snprintf(lead, sizeof(lead), "%-9s  %-13s  ", words[diagnoses[i].result], doctor_rows[i].name);
		line(lead, diagnoses[i].text);
	}
	if (problems)
		(void)printf("\n%u problem%s%s\n", problems, problems == 1 ? "" : "s", problems == 1 ? "" : "; the most probable reason for all of it first");
	else
		(void)printf("\nno problem found%s\n", unknown ? ", as far as could be seen" : "");
	for (unsigned i = 0; i < DOCTOR_CHECKS; i++) {
		for (unsigned f = 0; f < diagnoses[i].count && f < FINDINGS_MAX; f++)
			tell_finding(&diagnoses[i].findings[f]);
		if (diagnoses[i].count > FINDINGS_MAX)
			(void)printf("\n%s: %u more like these\n", doctor_rows[i].name, diagnoses[i].count - FINDINGS_MAX);
	}
}

static void emit_finding(struct emit *emit, const struct finding *finding)
{
	emit_object(emit, NULL);
	emit_text(emit, "code", doctor_causes[finding->cause].code);
	emit_text(emit, "kind", finding->kind);
	emit_text(emit, "object", finding->object);
	emit_text(emit, "host", finding->host[0] ? finding->host : NULL);
	emit_text(emit, "means", doctor_causes[finding->cause].means);
	emit_text(emit, "expected", finding->expected);
	emit_text(emit, "found", finding->found);
	emit_text(emit, "do", advice_of(finding));
	emit_end(emit);
}

void doctor_report_json(const struct facts *facts, const struct diagnosis diagnoses[static DOCTOR_CHECKS])
{
	struct emit emit = emit_to(stdout);
	char name[256] = "", id[ID_TEXT];

	(void)gethostname(name, sizeof(name) - 1);
	emit_object(&emit, NULL);
	emit_u64(&emit, "format", FORMAT_VERSION);
	emit_text(&emit, "version", LOOPBACK_VERSION);
	emit_text(&emit, "name", name);
	emit_text(&emit, "host", facts->netd_error == 0 && facts->view.has_host ? id_format(&facts->view.host, id) : NULL);
	emit_bool(&emit, "root", facts->root);
	emit_u64(&emit, "observed_ms", facts->observed_ms);
	emit_text(&emit, "result", doctor_result_name(doctor_worst(diagnoses)));
	emit_u64(&emit, "problems", count_of(diagnoses, DOCTOR_PROBLEM));
	emit_u64(&emit, "unknown", count_of(diagnoses, DOCTOR_UNKNOWN));
	emit_array(&emit, "checks");
	for (unsigned i = 0; i < DOCTOR_CHECKS; i++) {
		emit_object(&emit, NULL);
		emit_text(&emit, "check", doctor_rows[i].name);
		emit_text(&emit, "asks", doctor_rows[i].asks);
		emit_text(&emit, "result", doctor_result_name(diagnoses[i].result));
		emit_text(&emit, "found", diagnoses[i].text);
		emit_u64(&emit, "problem_count", diagnoses[i].count);
		emit_array(&emit, "problems");
		for (unsigned f = 0; f < diagnoses[i].count && f < FINDINGS_MAX; f++)
			emit_finding(&emit, &diagnoses[i].findings[f]);
		emit_end(&emit);
		emit_end(&emit);
	}
	emit_end(&emit);
	emit_end(&emit);
}
