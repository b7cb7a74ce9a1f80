/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/health.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "controld/agent.h"
#include "controld/duplicates.h"
#include "libdoc/host.h"
#include "libipc/log.h"

#define SLICE 500       /* hosts judged in one go */
#define SLICE_EVERY_MS 500

#define TIME_TEXT 24

/* What a state is made of; texts are borrowed from the rows. */
struct facts {
	const char *name, *kept_state, *kept_state_reason, *membership; /* membership: active, left, retired */
	int64_t kept_since, created, last_poll, now;
	const char *outcome, *code, *reason, *confirm; /* of the last receipt; outcome NULL: none */
	const char *behind; /* a network whose newest manifest it has not acknowledged; "": its own document; NULL: nothing */
};

#define FACTS                                                                                                                     \
	"SELECT h.name, h.state, h.created, h.last_poll, h.health, h.health_reason, h.health_since, r.outcome, r.code, r.reason,"  \
	" r.confirm, CASE WHEN h.document_generation < d.generation THEN '' ELSE (SELECT n.name FROM memberships m"              \
	" JOIN documents s ON s.type = 3 AND s.id = m.network JOIN networks n ON n.id = m.network"                               \
	" WHERE m.host = h.id AND m.waits = 0 AND COALESCE(m.generation, -1) < s.generation LIMIT 1) END"                        \
	" FROM hosts h LEFT JOIN documents d ON d.type = 4 AND d.id = h.id LEFT JOIN receipts r ON r.host = h.id AND r.generation"  \
	" = (SELECT MAX(l.generation) FROM receipts l WHERE l.host = h.id) WHERE h.id = $1"

static void facts_read(const struct rows *rows, struct facts *facts)
{
	*facts = (struct facts){
		.name = row_text(rows, 0),
		.membership = row_text(rows, 1),
		.created = row_i64(rows, 2),
		.last_poll = row_i64(rows, 3),
		.kept_state = row_text(rows, 4),
		.kept_state_reason = row_text(rows, 5),
		.kept_since = row_i64(rows, 6),
		.outcome = row_text(rows, 7),
		.code = row_text(rows, 8),
		.reason = row_text(rows, 9),
		.confirm = row_text(rows, 10),
		.behind = row_text(rows, 11),
		.now = now_ms(),
	};
}

static const char *time_format(int64_t ms, char text[static TIME_TEXT])
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(text, TIME_TEXT, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		(void)snprintf(text, TIME_TEXT, "?");
	return text;
}

static void say(struct health *health, const char *state, const char *format, ...) _printf_(3, 4);
static void say(struct health *health, const char *state, const char *format, ...)
{
	va_list args;

	(void)snprintf(health->state, sizeof(health->state), "%s", state);
	va_start(args, format);
	(void)vsnprintf(health->reason, sizeof(health->reason), format, args);
	va_end(args);
}

/* While we did not run, nobody could poll: that is not held against a host that was there before. */
static bool misses_heartbeats(const struct controld *controld, const struct facts *facts)
{
	int64_t heard = facts->last_poll;

	if (strcmp(facts->kept_state, "offline") != 0 && heard < (int64_t)controld->started * 1000)
		heard = (int64_t)controld->started * 1000;
	if (!facts->outcome && heard < facts->created)
		heard = facts->created;
	return facts->now - heard > (int64_t)controld->offline_after * 1000;
}

static bool receipt_is_bad(const struct facts *facts)
{
	static const char *const good[] = { "applied", "unchanged" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (strcmp(facts->outcome, good[i]) == 0)
			return false;
	return true;
}

static bool confirm_is_bad(const struct facts *facts)
{
	return strcmp(facts->confirm, confirm_name(CONFIRM_unconfirmed)) == 0 || strcmp(facts->confirm, confirm_name(CONFIRM_restored)) == 0;
}

static int judge(struct controld *controld, const struct id *host, const struct facts *facts, struct health *health)
{
	char time[TIME_TEXT], duplicate[HEALTH_REASON];
	int64_t since;
	int r;

	if (strcmp(facts->membership, "retired") == 0)
		return say(health, "retired", "An operator retired it."), 0;
	if (strcmp(facts->membership, "active") != 0)
		return say(health, "offline", "It left (loopback leave)."), 0;
	if (misses_heartbeats(controld, facts)) {
		if (facts->last_poll)
			say(health, "offline", "It was heard last at %s UTC.", time_format(facts->last_poll, time));
		else
			say(health, "offline", "It has never polled.");
		return 0;
	}
	r = duplicate_describe(controld, host, duplicate, sizeof(duplicate));
	if (r < 0)
		return r;
	since = caller_behind_since(controld, host, facts->outcome && facts->behind);
	if (r > 0)
		say(health, "degraded", "%s", duplicate);
	else if (!facts->outcome)
		say(health, "enrolling", "%s", "");
	else if (receipt_is_bad(facts))
		say(health, "degraded", "%s: %s: %s", facts->outcome, facts->code, facts->reason);
	else if (confirm_is_bad(facts))
		say(health, "degraded", "%s: %s: %s", facts->confirm, facts->code, facts->reason);
	else if (since && facts->now - since > (int64_t)controld->degraded_after * 1000)
		say(health, "degraded", "Documents (%s%s) are staged since %s UTC and not acknowledged, though it polls. Is a proxy or a mirror on its way "
		    "frozen, or its netd stopped? On the host: loopback status.", facts->behind[0] ? "network " : "its own", facts->behind,
		    time_format(since, time));
	else
		say(health, "online", "%s", "");
	return 0;
}

/* @param facts lives as long as rows */
static int judge_read(struct controld *controld, const struct id *host, struct rows *rows, struct facts *facts, struct health *health)
{
	int64_t polled;
	int r = store_first(controld->store, rows, FACTS, "d", host);

	if (r < 0)
		return r;
	facts_read(rows, facts);
	polled = caller_last_poll(controld, host);
	if (polled > facts->last_poll)
		facts->last_poll = polled;
	r = judge(controld, host, facts, health);
	health->since = strcmp(health->state, facts->kept_state) == 0 ? facts->kept_since : facts->now;
	return r;
}

int health_judge(struct controld *controld, const struct id *host, struct health *health)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct facts facts;

	return judge_read(controld, host, &rows, &facts, health);
}

int health_settle(struct controld *controld, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct facts facts;
	struct health health;
	char id[ID_TEXT];
	bool moved;
	int r = judge_read(controld, host, &rows, &facts, &health);

	if (r < 0)
		return log_errno(r, "host %s: its state cannot be judged", id_format(host, id));
	caller_fine(controld, host, strcmp(health.state, "online") == 0);
	moved = strcmp(health.state, facts.kept_state) != 0;
	if (!moved && strcmp(health.reason, facts.kept_state_reason) == 0)
		return 0;
	if (moved)
		log_info("host %s (%s): %s, was %s%s%s", facts.name, id_format(host, id), health.state, facts.kept_state, health.reason[0] ? ": " : "",
			 health.reason);
	rows_end(&rows);
	r = store_exec(controld->store, "UPDATE hosts SET health = $1, health_reason = $2, health_since = $3 WHERE id = $4", "ttid", health.state,
		       health.reason, health.since, host);
	return r < 0 ? log_errno(r, "host %s: its state cannot be written down", id_format(host, id)) : 0;
}

int health_settle_alone(struct controld *controld, const struct id *host)
{
	int r = store_begin(controld->store, false);

	if (r == 0)
		r = health_settle(controld, host);
	if (r == 0)
		return store_commit(controld->store);
	store_rollback(controld->store);
	return r;
}

/* -- All hosts --------------------------------------------------------------------------------------------------------------------------- */

static int slice_read(struct controld *controld, struct id *hosts)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int count = 0;
	int r = store_query(controld->store, &rows, "SELECT id FROM hosts WHERE id > $1 ORDER BY id LIMIT $2", "ti", controld->judged,
			    (int64_t)SLICE);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		hosts[count++] = row_id(&rows, 0);
		r = 0;
	}
	return r < 0 ? r : count;
}

static int slice_settle(struct controld *controld)
{
	struct id hosts[SLICE];
	int count = slice_read(controld, hosts);
	int r = count < 0 ? count : store_begin(controld->store, false);

	if (r < 0)
		return r;
	for (int i = 0; i < count && r == 0; i++)
		r = health_settle(controld, &hosts[i]);
	if (count < SLICE)
		controld->judged[0] = '\0'; /* from the beginning */
	else
		(void)id_format(&hosts[count - 1], controld->judged);
	if (r == 0)
		return store_commit(controld->store);
	store_rollback(controld->store);
	return r;
}

static void on_health(void *arg)
{
	struct controld *controld = arg;

	if (slice_settle(controld) < 0)
		log_warning("states of hosts are as they were; they are judged again");
	if (controld->judged[0] == '\0' && duplicates_expire(controld) < 0)
		log_warning("duplicates that are gone are not forgotten yet");
	loop_timer_set(controld->health, SLICE_EVERY_MS);
}

int health_start(struct controld *controld)
{
	int r = loop_timer_new(controld->loop, on_health, controld, &controld->health);

	if (r == 0)
		loop_timer_set(controld->health, SLICE_EVERY_MS);
	return r;
}

void health_stop(struct controld *controld)
{
	loop_timer_free(&controld->health);
}
