/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/duplicates.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "controld/health.h"
#include "controld/polls.h"
#include "libipc/log.h"

#define GRACE_MS 3000          /* a connection that is still open may be one whose machine lost its power */
#define BETWEEN_POLLS_MS 300   /* a holder that was answered asks again within this time, most of the time */
#define BETWEEN_GRACE_MS 1000  /* and within this one if netd was busy */
#define TURNS_MIN 2            /* taken by both before they are two: one may be a request that was late */
#define FORGET_AFTER_MS 600000 /* a second machine polls at least once a minute */

struct machine {
	char mark[MARK_CHARS + 1]; /* "": none */
	char address[ADDRESS_TEXT];
	int64_t first, last; /* ms of Unix time */
};

/* Of one host. */
struct machines {
	struct machine holder, former, second; /* former: whose place the holder took */
	int64_t told;     /* ms of Unix time: when a poll of the holder was last answered */
	int64_t grace;    /* ms that the second one waits for a word of the holder */
	bool answered;    /* the holder has polled since the second one did */
	unsigned turns;   /* that the second one took since */
	bool two;         /* told apart, and written down */
	bool silenced;
};

void machine_mark(const char *nonce, char mark[static MARK_CHARS + 1])
{
	mark[0] = '\0';
	if (strlen(nonce) <= MARK_CHARS || nonce[MARK_CHARS] != '.')
		return;
	memcpy(mark, nonce, MARK_CHARS);
	mark[MARK_CHARS] = '\0';
}

/* -- What was written down -------------------------------------------------------------------------------------------------------------- */

static void machine_read(const struct rows *rows, int column, struct machine *machine)
{
	struct view mark = row_bytes(rows, column);

	if (mark.n == MARK_CHARS)
		memcpy(machine->mark, mark.p, MARK_CHARS);
	(void)snprintf(machine->address, sizeof(machine->address), "%s", row_text(rows, column + 1));
	machine->first = machine->last = row_i64(rows, column + 2);
}

static int machines_load(struct controld *controld, const struct id *host, struct machines *machines)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows,
			    "SELECT holder, holder_address, holder_at, rival, rival_address, rival_at FROM duplicates WHERE host = $1", "d", host);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	machine_read(&rows, 0, &machines->holder);
	machine_read(&rows, 3, &machines->second);
	machines->holder.last = now_ms(); /* while we were away it could not poll */
	machines->two = true;
	return 0;
}

static int machines_get(struct controld *controld, const struct id *host, struct machines **machines)
{
	struct machines *made;
	int r;

	*machines = idmap_get(&controld->machines, host);
	if (*machines)
		return 0;
	made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	r = machines_load(controld, host, made);
	if (r == 0)
		r = idmap_put(&controld->machines, host, made);
	if (r < 0) {
		free(made);
		return r;
	}
	*machines = made;
	return 0;
}

void machines_free(struct controld *controld)
{
	struct machines *machines;
	size_t at = 0;

	while ((machines = idmap_next(&controld->machines, &at, NULL)))
		free(machines);
	idmap_free(&controld->machines);
}

static int two_note(struct controld *controld, const struct id *host, const struct machines *machines)
{
	const struct machine *holder = &machines->holder, *second = &machines->second;
	int r = store_exec(controld->store,
			   "INSERT INTO duplicates (host, holder, holder_address, holder_at, rival, rival_address, rival_at, since)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (host) DO UPDATE SET holder = excluded.holder,"
			   " holder_address = excluded.holder_address, holder_at = excluded.holder_at, rival = excluded.rival,"
			   " rival_address = excluded.rival_address, rival_at = excluded.rival_at",
			   "dbtibtii", host, holder->mark, (size_t)MARK_CHARS, holder->address, holder->last, second->mark, (size_t)MARK_CHARS,
			   second->address, second->last, now_ms());

	return r < 0 ? r : 0;
}

static int two_forget(struct controld *controld, const struct id *host)
{
	int r = store_exec(controld->store, "DELETE FROM duplicates WHERE host = $1", "d", host);

	return r < 0 ? r : 0;
}

/* -- A poll ------------------------------------------------------------------------------------------------------------------------------- */

static void heard(struct machine *machine, const struct agent_call *call, int64_t now)
{
	if (!machine->first)
		machine->first = now;
	machine->last = now;
	(void)snprintf(machine->address, sizeof(machine->address), "%s", call->seen);
}

static struct machine machine_new(const struct agent_call *call, int64_t now)
{
	struct machine machine = { .mark = "" };

	(void)snprintf(machine.mark, sizeof(machine.mark), "%s", call->mark);
	heard(&machine, call, now);
	return machine;
}

static int wait_refusal(struct agent_call *call, const struct machines *machines)
{
	(void)problem_set(&call->problem, 503, "other-machine",
			  "Another process with this host's identity is still connected, from %s. If this host was restarted, it is let in within seconds.",
			  machines->holder.address[0] ? machines->holder.address : "an unknown address");
	return MACHINE_WAITS;
}

static int second_refusal(struct agent_call *call, const struct machines *machines)
{
	(void)problem_set(&call->problem, 409, "duplicate-host",
			  "Another machine with this host's identity polls from %s; it was there first and stays, this one is in no network. A cloned disk? Here: "
			  "`loopback leave --force --forget-keys`, then enrol anew.",
			  machines->holder.address[0] ? machines->holder.address : "an unknown address");
	return machines->silenced ? MACHINE_SECOND : MACHINE_SILENCE;
}

static int holder_replace(struct agent_call *call, struct machines *machines, const struct machine *by)
{
	const bool was_second = machines->two && strcmp(by->mark, machines->second.mark) == 0;

	machines->former = machines->holder;
	machines->holder = *by;
	machines->turns = 0;
	machines->answered = false;
	if (was_second || !machines->two) {
		machines->second = (struct machine){ .mark = "" };
		machines->two = machines->silenced = false;
	}
	if (machines->two)
		return two_note(call->controld, &call->host, machines);
	return was_second ? two_forget(call->controld, &call->host) : 0;
}

/* The second one takes its turn. */
static int second_polls(struct agent_call *call, struct machines *machines, int64_t now)
{
	char id[ID_TEXT];
	int r;

	heard(&machines->second, call, now);
	if (machines->two) {
		if (now - machines->holder.last <= (int64_t)call->controld->offline_after * 1000 || poll_is_parked(call->controld, &call->host))
			return second_refusal(call, machines);
		log_notice("host %s: the machine that was first is silent; the second one, at %s, is let in", id_format(&call->host, id), call->seen);
		r = holder_replace(call, machines, &machines->second);
		return r < 0 ? r : MACHINE_HOLDS;
	}
	if (!machines->answered && now - machines->second.first >= machines->grace) {
		r = holder_replace(call, machines, &machines->second);
		return r < 0 ? r : MACHINE_HOLDS;
	}
	machines->turns += machines->answered;
	machines->answered = false;
	if (machines->turns < TURNS_MIN) {
		polls_wake_host(call->controld, &call->host);
		return wait_refusal(call, machines);
	}
	machines->two = true;
	machines->silenced = false;
	log_warning("host %s: two machines have its identity, at %s (first) and %s; the second is refused", id_format(&call->host, id),
		    machines->holder.address, machines->second.address);
	r = two_note(call->controld, &call->host, machines);
	if (r == 0)
		r = health_settle_alone(call->controld, &call->host);
	return r < 0 ? r : second_refusal(call, machines);
}

/* Somebody new: a restart, most of the time, whose predecessor's connection is closed. */
static int newcomer_polls(struct agent_call *call, struct machines *machines, int64_t now)
{
	struct machine machine = machine_new(call, now);
	const bool parked = poll_is_parked(call->controld, &call->host);

	machines->grace = parked ? GRACE_MS : BETWEEN_GRACE_MS;
	if (strcmp(call->mark, machines->former.mark) == 0) {
		/* It is back after another took its place: they are two, or this request was late. */
		machine.first = now;
		machines->second = machines->holder;
		machines->second.first = now;
		machines->holder = machine;
		machines->former = (struct machine){ .mark = "" };
		machines->answered = true;
		machines->turns = 0;
		machines->two = machines->silenced = false;
		return MACHINE_HOLDS;
	}
	if (parked || now - machines->told < BETWEEN_POLLS_MS) {
		machines->second = machine;
		machines->answered = false;
		machines->turns = 0;
		machines->two = machines->silenced = false;
		polls_wake_host(call->controld, &call->host);
		return wait_refusal(call, machines);
	}
	return holder_replace(call, machines, &machine) < 0 ? -EIO : MACHINE_HOLDS;
}

int machine_polls(struct agent_call *call)
{
	struct machines *machines;
	int64_t now = now_ms();
	int r;

	if (!call->mark[0])
		return MACHINE_HOLDS;
	r = machines_get(call->controld, &call->host, &machines);
	if (r < 0)
		return r;
	if (!machines->holder.mark[0])
		machines->holder = machine_new(call, now);
	if (strcmp(call->mark, machines->holder.mark) == 0) {
		heard(&machines->holder, call, now);
		machines->answered = true;
		return MACHINE_HOLDS;
	}
	if (machines->second.mark[0] && strcmp(call->mark, machines->second.mark) == 0)
		return second_polls(call, machines, now);
	return newcomer_polls(call, machines, now);
}

void machine_was_answered(struct controld *controld, const struct id *host)
{
	struct machines *machines = idmap_get(&controld->machines, host);

	if (machines)
		machines->told = now_ms();
}

void machine_silenced(struct controld *controld, const struct id *host)
{
	struct machines *machines = idmap_get(&controld->machines, host);

	if (machines)
		machines->silenced = true;
}

int machine_check(struct agent_call *call)
{
	struct machines *machines;
	int r = machines_get(call->controld, &call->host, &machines);

	if (r < 0 || !call->mark[0] || !machines->holder.mark[0] || strcmp(call->mark, machines->holder.mark) == 0)
		return r;
	if (machines->two && strcmp(call->mark, machines->second.mark) == 0)
		(void)second_refusal(call, machines);
	else if (poll_is_parked(call->controld, &call->host))
		(void)wait_refusal(call, machines);
	else
		return 0;
	return -EREMOTEIO;
}

/* -- For people ---------------------------------------------------------------------------------------------------------------------------- */

int duplicate_describe(struct controld *controld, const struct id *host, char *text, size_t room)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows, "SELECT holder_address, rival_address FROM duplicates WHERE host = $1", "d", host);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	(void)snprintf(text, room,
		       "Two machines have this identity, a clone of a disk perhaps: one at %s, which was first and is served, one at %s, which is "
		       "refused. On the one that should not be: loopback leave --force --forget-keys.",
		       row_text(&rows, 0), row_text(&rows, 1));
	return 1;
}

json_t *duplicate_json(struct controld *controld, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const struct machines *machines = idmap_get(&controld->machines, host);
	int64_t first, second;
	int r = store_first(controld->store, &rows,
			    "SELECT holder_address, holder_at, rival_address, rival_at, since FROM duplicates WHERE host = $1", "d", host);

	if (r < 0)
		return json_null();
	first = machines && machines->holder.last > row_i64(&rows, 1) ? machines->holder.last : row_i64(&rows, 1);
	second = machines && machines->second.last > row_i64(&rows, 3) ? machines->second.last : row_i64(&rows, 3);
	return json_pack("{s:s, s:I, s:s, s:I, s:I}", "first_address", row_text(&rows, 0), "first_poll", (json_int_t)first, "second_address",
			 row_text(&rows, 2), "second_poll", (json_int_t)second, "since", (json_int_t)row_i64(&rows, 4));
}

#define EXPIRE_AT_ONCE 64

/* @return how many stand in hosts[EXPIRE_AT_ONCE]; negative errno */
static int expired_read(struct controld *controld, struct id *hosts)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int64_t now = now_ms();
	int count = 0;
	int r = store_query(controld->store, &rows, "SELECT host, rival_at FROM duplicates", "");

	while (r == 0 && (r = rows_next(&rows)) > 0 && count < EXPIRE_AT_ONCE) {
		struct id host = row_id(&rows, 0);
		const struct machines *machines = idmap_get(&controld->machines, &host);
		int64_t last = row_i64(&rows, 1);

		if (machines && machines->second.last > last)
			last = machines->second.last;
		if (last < (int64_t)controld->started * 1000)
			last = (int64_t)controld->started * 1000;
		if (now - last > FORGET_AFTER_MS)
			hosts[count++] = host;
		r = 0;
	}
	return r < 0 ? r : count;
}

int duplicates_expire(struct controld *controld)
{
	struct id hosts[EXPIRE_AT_ONCE];
	char id[ID_TEXT];
	int count = expired_read(controld, hosts);
	int r = count < 0 ? count : 0;

	for (int i = 0; i < count && r == 0; i++) {
		struct machines *machines = idmap_get(&controld->machines, &hosts[i]);

		r = two_forget(controld, &hosts[i]);
		if (r == 0 && machines) {
			machines->second = (struct machine){ .mark = "" };
			machines->two = machines->silenced = false;
		}
		log_info("host %s: the second machine with its identity is gone", id_format(&hosts[i], id));
	}
	return r;
}
