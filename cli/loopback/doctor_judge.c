/* SPDX-License-Identifier: Apache-2.0 */
/* How checks are judged, and those of the daemons, the control plane and the documents. Pure: facts in, diagnoses out. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/loopback/doctor.h"
#include "libdoc/host.h"

#define DISK_FREE_MIN (1024 * 1024) /* bytes: the journal of a small network, written anew */
#define FILES_FREE_MIN 8
#define CLOCK_WRONG_S 60   /* beyond what a network delays */
#define DRIFT_AGAIN 3      /* mended so often: it will not be the last time */

/* -- The tables ------------------------------------------------------------------------------------------------------------------------ */

#define CHECK(name, rests_on, asks) [CHECK_##name] = { #name, asks, rests_on, judge_##name },
#define CAUSE(code, means, advice)
const struct doctor_row doctor_rows[DOCTOR_CHECKS] = {
#include "cli/loopback/doctor_checks.def"
};
#undef CHECK
#undef CAUSE

#define CHECK(name, rests_on, asks)
#define CAUSE(code, means, advice) [CAUSE_##code] = { #code, means, advice },
const struct cause_row doctor_causes[DOCTOR_CAUSES] = {
#include "cli/loopback/doctor_checks.def"
};
#undef CHECK
#undef CAUSE

const char *doctor_result_name(enum doctor_result result)
{
	static const char *const names[] = {
		[DOCTOR_OK] = "ok", [DOCTOR_NOT_APPLICABLE] = "not-applicable", [DOCTOR_NOT_ASKED] = "not-asked",
		[DOCTOR_UNKNOWN] = "unknown", [DOCTOR_PROBLEM] = "problem",
	};

	return names[result];
}

/* -- Saying it ------------------------------------------------------------------------------------------------------------------------- */

void diagnosis_say(struct diagnosis *diagnosis, enum doctor_result result, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(diagnosis->text, sizeof(diagnosis->text), format, arguments);
	va_end(arguments);
	diagnosis->result = result;
}

struct finding *diagnosis_problem(struct diagnosis *diagnosis, enum doctor_cause cause, const char *kind, const char *format, ...)
{
	struct finding *finding = &diagnosis->findings[diagnosis->count < FINDINGS_MAX ? diagnosis->count : FINDINGS_MAX];
	va_list arguments;

	*finding = (struct finding){ .cause = cause, .kind = kind };
	va_start(arguments, format);
	(void)vsnprintf(finding->object, sizeof(finding->object), format, arguments);
	va_end(arguments);
	diagnosis->count++;
	if (diagnosis->count == 1)
		diagnosis_say(diagnosis, DOCTOR_PROBLEM, "%s: %s", doctor_causes[cause].code, finding->object);
	else
		diagnosis_say(diagnosis, DOCTOR_PROBLEM, "%u problems, %s: %s the first", diagnosis->count,
			      doctor_causes[diagnosis->findings[0].cause].code, diagnosis->findings[0].object);
	return finding;
}

void finding_expected(struct finding *finding, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(finding->expected, sizeof(finding->expected), format, arguments);
	va_end(arguments);
}

void finding_found(struct finding *finding, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(finding->found, sizeof(finding->found), format, arguments);
	va_end(arguments);
}

void finding_do(struct finding *finding, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(finding->advice, sizeof(finding->advice), format, arguments);
	va_end(arguments);
}

/* -- All of them ----------------------------------------------------------------------------------------------------------------------- */

void doctor_judge(const struct facts *facts, struct diagnosis diagnoses[static DOCTOR_CHECKS])
{
	unsigned wrong = 0; /* a bit for each check that has a problem, or could not be asked because of one */

	for (unsigned i = 0; i < DOCTOR_CHECKS; i++) {
		unsigned because = doctor_rows[i].rests_on & wrong, first = 0;

		diagnoses[i] = (struct diagnosis){ .result = DOCTOR_OK };
		while (because && !(because & 1U << first))
			first++;
		if (because)
			diagnosis_say(&diagnoses[i], DOCTOR_NOT_ASKED, "it rests on %s", doctor_rows[first].name);
		else
			doctor_rows[i].judge(facts, &diagnoses[i]);
		if (diagnoses[i].result == DOCTOR_PROBLEM || diagnoses[i].result == DOCTOR_NOT_ASKED)
			wrong |= 1U << i;
	}
}

enum doctor_result doctor_worst(const struct diagnosis diagnoses[static DOCTOR_CHECKS])
{
	enum doctor_result worst = DOCTOR_OK;

	for (unsigned i = 0; i < DOCTOR_CHECKS; i++)
		if (diagnoses[i].result >= DOCTOR_UNKNOWN && diagnoses[i].result > worst)
			worst = diagnoses[i].result;
	return worst;
}

static const char only_root[] = "only root may look; try again with sudo";

/* -- Daemons --------------------------------------------------------------------------------------------------------------------------- */

void judge_state_folder(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct host_facts *host = &facts->host;
	char words[WORDS];

	if (host->disk_error == -EACCES || host->disk_error == -EPERM)
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "%s", only_root);
	else if (host->disk_error == -ENOENT)
		diagnosis_say(diagnosis, DOCTOR_NOT_APPLICABLE, "netd has no state here yet");
	else if (host->disk_error)
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "%s", strerror(-host->disk_error));
	else if (host->disk_free < DISK_FREE_MIN || host->files_free < FILES_FREE_MIN) {
		struct finding *finding = diagnosis_problem(diagnosis, CAUSE_disk_full, "host", "/var/lib/loopback/netd");

		finding_expected(finding, "at least 1 MiB, and room for %d files", FILES_FREE_MIN);
		finding_found(finding, "%s free%s", words_amount(host->disk_free, words),
			      host->files_free < FILES_FREE_MIN ? ", and no room for files (inodes)" : "");
	} else {
		diagnosis_say(diagnosis, DOCTOR_OK, "%s free", words_amount(host->disk_free, words));
	}
}

void judge_netd(const struct facts *facts, struct diagnosis *diagnosis)
{
	int error = facts->netd_error;
	bool down = error == -ENOENT || error == -ECONNREFUSED || !facts->netd_runs, version = error == -EPROTO || error == -EBADMSG || error == -ENOTSUP;
	struct finding *finding;

	if (error == 0) {
		diagnosis_say(diagnosis, DOCTOR_OK, "%s", facts->view.state);
	} else if (error == -EACCES || error == -EPERM) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "%s", only_root);
	} else {
		finding = diagnosis_problem(diagnosis, down ? CAUSE_netd_down : version ? CAUSE_netd_version : CAUSE_netd_silent, "host", "netd");
		finding_expected(finding, "an answer at netd/view.sock");
		finding_found(finding, "%s", down ? "there is no such process" : version ? "an answer of another form" : strerror(-error));
	}
}

void judge_fetchd(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct link_report *link = &facts->link;
	bool down = link->error == -ENOENT || link->error == -ECONNREFUSED || !facts->fetchd_runs;
	struct finding *finding;

	if (link->answered) {
		diagnosis_say(diagnosis, DOCTOR_OK, "answers");
	} else if (!link->asked) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "%s", only_root);
	} else {
		finding = diagnosis_problem(diagnosis, down ? CAUSE_fetchd_down : CAUSE_fetchd_silent, "host", "fetchd");
		finding_expected(finding, "an answer at fetchd/admin.sock");
		finding_found(finding, "%s", down ? "there is no such process" : strerror(-link->error));
	}
}

void judge_enrolled(const struct facts *facts, struct diagnosis *diagnosis)
{
	const char *state = facts->view.state;
	char id[ID_TEXT];
	enum doctor_cause cause = CAUSE_not_enrolled;

	if (facts->netd_error) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "netd could not be asked");
		return;
	}
	if (strcmp(state, "unenrolled") == 0)
		cause = CAUSE_enrolment_unfinished;
	else if (strcmp(state, "unpinned") != 0 && facts->link.answered && !facts->link.enrolled)
		cause = CAUSE_enrolment_lost;
	else if (strcmp(state, "unpinned") != 0) {
		diagnosis_say(diagnosis, DOCTOR_OK, "host %s", facts->view.has_host ? id_format(&facts->view.host, id) : "of no id yet");
		return;
	}
	finding_found(diagnosis_problem(diagnosis, cause, "host", "this host"), "netd is %s; fetchd %s", state,
		      !facts->link.answered ? "was not asked" : facts->link.enrolled ? "is enrolled" : "is not enrolled");
	finding_expected(&diagnosis->findings[0], "both netd and fetchd are enrolled");
}

/* -- Tunnel ---------------------------------------------------------------------------------------------------------------------------- */

void judge_port(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct port_facts *port = &facts->host.port;
	bool used = strcmp(facts->view.state, "running") == 0 && facts->view.network_count > 0;
	struct finding *finding;

	if (port->error) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "%s", port->error == -EACCES ? only_root : strerror(-port->error));
	} else if (port->foreign) {
		finding = diagnosis_problem(diagnosis, CAUSE_port_taken, "host", "UDP port %" PRIu64, facts->view.listen_port);
		finding_expected(finding, "held by the tunnel alone (%s backend)", facts->view.backend);
		finding_found(finding, "held by %s", port->holder);
	} else if (!port->held && used) {
		finding = diagnosis_problem(diagnosis, CAUSE_port_closed, "host", "UDP port %" PRIu64, facts->view.listen_port);
		finding_expected(finding, "the tunnel listens");
		finding_found(finding, "nobody listens");
	} else {
		diagnosis_say(diagnosis, DOCTOR_OK, "%" PRIu64 "%s", facts->view.listen_port, port->held ? "" : ", not in use yet");
	}
}

static bool has_overlay_address(const struct host_facts *host, const struct prefix *address)
{
	for (unsigned i = 0; i < host->overlay_count; i++)
		if (host->overlay[i].address.family == address->family && memcmp(host->overlay[i].address.b, address->b, sizeof(address->b)) == 0)
			return true;
	return false;
}

static void judge_addresses(const struct facts *facts, struct diagnosis *diagnosis)
{
	char text[PREFIX_TEXT];

	for (unsigned i = 0; i < facts->view.network_count; i++)
		for (unsigned j = 0; j < facts->view.networks[i].address_count; j++) {
			const struct prefix *address = &facts->view.networks[i].addresses[j];
			struct finding *finding;

			if (has_overlay_address(&facts->host, address) || facts->host.overlay_count == ADDRESSES_SEEN_MAX)
				continue;
			finding = diagnosis_problem(diagnosis, CAUSE_address_missing, "interface", "%s", facts->view.interface);
			finding_expected(finding, "%s of network %s", doctor_address(address, text), facts->view.networks[i].name);
			finding_found(finding, "the interface does not have it");
		}
}

void judge_tunnel(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct mesh_view *view = &facts->view;
	const struct host_facts *host = &facts->host;
	struct finding *finding = NULL;

	if (strcmp(view->state, "waiting-tunnel") == 0) {
		finding = diagnosis_problem(diagnosis, CAUSE_tunnel_missing, "interface", "%s", view->interface);
		finding_found(finding, "netd waits for wg-launch, which brings the userspace tunnel");
	} else if (strcmp(view->state, "broken") == 0) {
		finding = diagnosis_problem(diagnosis, CAUSE_device_broken, "interface", "%s", view->interface);
		finding_found(finding, "%s (%s)", view->reason[0] ? view->reason : "netd's log has the reason", view->code[0] ? view->code : "broken");
	} else if (host->error) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "the kernel cannot be asked: %s", strerror(-host->error));
		return;
	} else if (!host->link_there) {
		finding = diagnosis_problem(diagnosis, CAUSE_interface_missing, "interface", "%s", view->interface);
		finding_found(finding, "there is no such interface");
	} else if (view->network_count > 0 && !host->link.up) {
		finding = diagnosis_problem(diagnosis, CAUSE_interface_down, "interface", "%s", view->interface);
		finding_found(finding, "it is down");
	}
	if (finding) {
		finding_expected(finding, "there and up, with the addresses of %u network%s", view->network_count, view->network_count == 1 ? "" : "s");
		return;
	}
	judge_addresses(facts, diagnosis);
	if (!diagnosis->count)
		diagnosis_say(diagnosis, DOCTOR_OK, "%s, %s, MTU %u%s", view->interface, view->backend, host->link.mtu,
			      view->network_count ? "" : "; this host is in no network");
}

/* -- The control plane ----------------------------------------------------------------------------------------------------------------- */

static enum doctor_cause cause_of_code(const char *code)
{
	static const struct {
		const char *code;
		enum doctor_cause cause;
	} table[] = {
		{ "resolve", CAUSE_control_unreachable },
		{ "connect", CAUSE_control_unreachable },
		{ "silent", CAUSE_control_silent },
		{ "certificate", CAUSE_control_tls },
		{ "tls", CAUSE_control_tls },
		{ "certificate-time", CAUSE_control_certificate_time },
		{ "proxy", CAUSE_control_proxy },
		{ "unknown-host", CAUSE_control_unknown_host },
		{ "signature", CAUSE_control_unknown_host },
		{ "retired", CAUSE_control_retired },
		{ "clock", CAUSE_control_twin },
		{ "replay", CAUSE_control_twin },
		{ "superseded", CAUSE_control_twin },
		{ "duplicate-host", CAUSE_control_twin },
		{ "other-machine", CAUSE_control_twin },
		{ "signer-unavailable", CAUSE_control_signer },
		{ "signer-behind", CAUSE_control_signer },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].code, code) == 0)
			return table[i].cause;
	return CAUSE_control_refuses;
}

void judge_control_plane(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct link_report *link = &facts->link;
	struct finding *finding;
	char words[WORDS];

	if (!link->answered) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "fetchd could not be asked");
	} else if (link->online) {
		diagnosis_say(diagnosis, DOCTOR_OK, "%.500s answers", link->url);
	} else if (!link->last_error[0]) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "%.500s: it was not asked yet; try again", link->url);
	} else {
		finding = diagnosis_problem(diagnosis, cause_of_code(link->last_code), "control plane", "%.127s", link->url);
		finding_expected(finding, "it answers");
		finding_found(finding, "%.600s; membership is %s%s", link->last_error,
			      facts->view.head_age == VIEW_NEVER ? "not proven fresh since netd started" : "fresh as of ",
			      facts->view.head_age == VIEW_NEVER ? "" : words_ago(facts->view.head_age, words));
	}
}

void judge_clock(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct link_report *link = &facts->link;
	uint64_t off = link->skew_ahead > link->skew_behind ? link->skew_ahead : link->skew_behind;
	const char *side = link->skew_ahead ? "ahead of" : "behind";
	struct finding *finding;

	if (!link->answered)
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "fetchd could not be asked");
	else if (off == 0 && !link->last_answer)
		diagnosis_say(diagnosis, DOCTOR_NOT_APPLICABLE, "no answer of the control plane to compare it with");
	else if (off <= CLOCK_WRONG_S && off > CLOCK_TOLD_S)
		diagnosis_say(diagnosis, DOCTOR_OK, "%" PRIu64 " s %s the control plane's", off, side);
	else if (off <= CLOCK_WRONG_S)
		diagnosis_say(diagnosis, DOCTOR_OK, "as the control plane's");
	else {
		finding = diagnosis_problem(diagnosis, CAUSE_clock_skew, "host", "this host's clock");
		finding_expected(finding, "within %d s of the control plane's", CLOCK_WRONG_S);
		finding_found(finding, "%" PRIu64 " s %s the control plane's (or that one's is wrong)", off, side);
	}
}

/* -- Documents ------------------------------------------------------------------------------------------------------------------------- */

void judge_documents(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct mesh_view *view = &facts->view;
	char words[WORDS];

	if (view->outcome == OUTCOME_refused || view->outcome == OUTCOME_reverted) {
		struct finding *finding = diagnosis_problem(diagnosis, view->outcome == OUTCOME_refused ? CAUSE_refused : CAUSE_reverted,
							    "host", "this host");

		finding_expected(finding, "what the control plane offers is put in force");
		finding_found(finding, "%s, %s: %s (%s)", outcome_name((enum outcome)view->outcome), words_ago(view->outcome_age, words), view->reason,
			      view->code);
	} else if (view->outcome == 0) {
		diagnosis_say(diagnosis, DOCTOR_OK, "nothing was offered since netd started");
	} else {
		diagnosis_say(diagnosis, DOCTOR_OK, "the last was taken, %s", words_ago(view->outcome_age, words));
	}
}

void judge_confirm(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct mesh_view *view = &facts->view;
	const char *name = confirm_name((enum confirm)view->confirm);
	char words[WORDS];

	if (view->confirm_code[0]) {
		struct finding *finding = diagnosis_problem(diagnosis, view->confirm == CONFIRM_restored ? CAUSE_restored : CAUSE_unconfirmed,
							    "host", "this host");

		finding_expected(finding, "a fresh head soon after the change");
		finding_found(finding, "%s, %s: %s", name ? name : "?", words_ago(view->confirm_age, words), view->confirm_reason);
	} else if (view->confirm == CONFIRM_none) {
		diagnosis_say(diagnosis, DOCTOR_NOT_APPLICABLE, "there is nothing to confirm");
	} else {
		diagnosis_say(diagnosis, DOCTOR_OK, "%s", name ? name : "?");
	}
}

void judge_fresh(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct mesh_view *view = &facts->view;
	bool never = view->head_age == VIEW_NEVER;
	char words[WORDS], answer[WORDS];
	struct finding *finding;

	if (!view->stale) {
		diagnosis_say(diagnosis, DOCTOR_OK, "fresh as of %s", words_ago(view->head_age, words));
		return;
	}
	finding = diagnosis_problem(diagnosis, CAUSE_stale, "host", "this host's membership");
	finding_expected(finding, "a fresh head within 15 minutes");
	finding_found(finding, "%s%s; the control plane's last answer came %s", never ? "none since netd started" : "the last came ",
		      never ? "" : words_ago(view->head_age, words),
		      !facts->link.last_answer ? "never" :
		      facts->now > facts->link.last_answer / 1000 ? words_ago(facts->now - facts->link.last_answer / 1000, answer) : "just now");
}

/* -- Keys that are being replaced -------------------------------------------------------------------------------------------------------- */

void judge_keys(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct mesh_view *view = &facts->view;

	if (!view->rotation.hosts || view->rotation.second) {
		diagnosis_say(diagnosis, DOCTOR_OK, view->rotation.hosts ? "those of %" PRIu64 " hosts are, and there is one" : "none is", view->rotation.hosts);
		return;
	}
	finding_found(diagnosis_problem(diagnosis, CAUSE_second_missing, "interface", "%.14sn", view->interface), "none, and the keys of %" PRIu64 " hosts are being replaced",
		      view->rotation.hosts);
	finding_expected(&diagnosis->findings[0], "one beside %s, on UDP port %" PRIu64, view->interface, view->listen_port == UINT16_MAX ? view->listen_port - 1 : view->listen_port + 1);
}

/* -- Who else works on it -------------------------------------------------------------------------------------------------------------- */

void judge_drift(const struct facts *facts, struct diagnosis *diagnosis)
{
	uint64_t mended = facts->view.mended;

	if (mended < DRIFT_AGAIN) {
		diagnosis_say(diagnosis, DOCTOR_OK, mended ? "mended %" PRIu64 " times since netd started" : "nobody was seen to", mended);
		return;
	}
	finding_found(diagnosis_problem(diagnosis, CAUSE_drift, "interface", "%s", facts->view.interface), "mended %" PRIu64 " times since netd started%s",
		      mended, mended > facts->mended_before ? ", and again while this was looked at" : "");
	finding_expected(&diagnosis->findings[0], "nobody but netd changes it");
}
