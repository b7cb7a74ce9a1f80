/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/rotation.h"

#include <errno.h>

#include "controld/membership.h"
#include "libdoc/host.h"
#include "libipc/log.h"

#define AT_ONCE 8 /* hosts of a job whose keys are being replaced; each is told of what its peers do */

int rotation_add(struct change *change, const struct id *job, const struct id *host, int64_t seconds)
{
	int r = store_exec(change->controld->store,
			   "INSERT INTO rotations (host, job, state, counter, seconds, deadline) SELECT id, $1, 'wanted', wg_counter, $2, 0 FROM hosts"
			   " WHERE id = $3 AND state = 'active' ON CONFLICT (host) DO UPDATE SET job = excluded.job, state = excluded.state,"
			   " counter = excluded.counter, seconds = excluded.seconds, deadline = 0, next_key = NULL, next_counter = NULL,"
			   " next_signature = NULL WHERE rotations.state IN ('done', 'given-up')",
			   "did", job, seconds, host);

	return r;
}

int rotation_start(struct change *change _unused_, const struct id *job _unused_, const struct id *object _unused_)
{
	return 0;
}

int rotation_announced(struct change *change, const struct registration *registration)
{
	int r = 0;

	if (registration->next.counter)
		r = store_exec(change->controld->store,
			       "UPDATE rotations SET state = 'both', next_key = $1, next_counter = $2, next_signature = $3 WHERE host = $4"
			       " AND state IN ('asked', 'both') AND counter = $5",
			       "bibdi", registration->next.wg_key, (size_t)KEY_BYTES, (int64_t)registration->next.counter,
			       registration->next.signature, (size_t)SIGNATURE_BYTES, &registration->header.id,
			       (int64_t)registration->statement.counter);
	return r < 0 ? r : 0;
}

/* -- Steps ------------------------------------------------------------------------------------------------------------------------ */

#define STEP_HOSTS "SELECT r.host FROM rotations r JOIN hosts h ON h.id = r.host WHERE r.job = $1 AND "

/* Everybody in its networks, itself included, has the newest documents in force and has moved over to all that there is to move over to. */
#define ALL_MOVED                                                                                                                 \
	"NOT EXISTS (SELECT 1 FROM memberships mine JOIN memberships m ON m.network = mine.network AND m.waits = 0"              \
	" JOIN documents d ON d.type = 3 AND d.id = m.network JOIN hosts p ON p.id = m.host WHERE mine.host = r.host"             \
	" AND (p.moving > 0 OR COALESCE(m.generation, -1) < d.generation))"
/* The host itself is out of the control plane's reach: with its old key it may well be in its peers'. */
#define ITSELF_AWAY                                                                                                               \
	"EXISTS (SELECT 1 FROM memberships m JOIN documents d ON d.type = 3 AND d.id = m.network WHERE m.host = r.host"           \
	" AND COALESCE(m.generation, -1) < d.generation)"

struct step {
	const char *hosts; /* query for those that take it: $1 the job, $2 now */
	const char *update; /* of a host's row: $1 the host, $2 now */
	bool entries;      /* its peer entries change */
	const char *told;
};

static const struct step steps[] = {
	{ STEP_HOSTS "r.state = 'wanted' AND h.state = 'active' AND (SELECT count(*) FROM rotations o WHERE o.job = $1 AND o.state IN ('asked', 'both',"
		     " 'swapping')) < 8 AND $2 > 0",
	  "UPDATE rotations SET counter = (SELECT wg_counter FROM hosts WHERE id = $1), state = 'asked', deadline = $2 + seconds * 1000"
	  " WHERE host = $1",
	  false, "is asked for a new key" },
	{ STEP_HOSTS "r.state NOT IN ('done', 'given-up') AND h.state <> 'active' AND $2 > 0",
	  "UPDATE rotations SET state = 'given-up' WHERE host = $1 AND $2 > 0", false, NULL },
	{ STEP_HOSTS "r.deadline <= $2 AND (r.state = 'asked' OR (r.state = 'both' AND " ITSELF_AWAY "))",
	  "UPDATE rotations SET state = 'given-up' WHERE host = $1 AND $2 > 0", true, "did not follow in time; it keeps its key" },
	/* On its own, and before signd sees it: signd never goes back. */
	{ STEP_HOSTS "r.state = 'both' AND (r.deadline <= $2 OR " ALL_MOVED ")", "UPDATE rotations SET state = 'swapping' WHERE host = $1 AND $2 > 0",
	  false, NULL },
	{ STEP_HOSTS "r.state = 'swapping' AND $2 > 0",
	  "UPDATE hosts SET wg_key = r.next_key, wg_counter = r.next_counter, wg_signature = r.next_signature FROM rotations r"
	  " WHERE hosts.id = $1 AND r.host = $1 AND hosts.state = 'active' AND $2 > 0",
	  true, "has its new key" },
};

static int hosts_find(struct controld *controld, const struct step *step, const struct id *job, struct id *hosts)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int count = 0;
	int r = store_query(controld->store, &rows, step->hosts, "di", job, now_ms());

	while (r == 0 && count < AT_ONCE && (r = rows_next(&rows)) > 0) {
		hosts[count++] = row_id(&rows, 0);
		r = 0;
	}
	return r < 0 ? r : count;
}

static int host_step(struct change *change, const struct step *step, const struct id *host)
{
	struct store *store = change->controld->store;
	int r = step->entries ? membership_touch(change, host) : 0;

	if (r == 0)
		r = store_exec(store, step->update, "di", host, now_ms());
	if (r >= 0 && step == &steps[ARRAY_SIZE(steps) - 1])
		r = store_exec(store, "UPDATE rotations SET state = 'done' WHERE host = $1", "d", host);
	if (r >= 0 && step->entries)
		r = membership_follow(change, host);
	if (r >= 0 && step->told)
		r = change_host_joins(change, host);
	return r < 0 ? r : 0;
}

static int step_take(struct controld *controld, const struct step *step, const struct id *job)
{
	_cleanup_change_ struct change change = { 0 };
	struct id hosts[AT_ONCE];
	char text[ID_TEXT];
	int count = hosts_find(controld, step, job, hosts);
	int r = count <= 0 ? count : change_begin(controld, &change);

	if (count <= 0)
		return r;
	for (int i = 0; r == 0 && i < count; i++)
		r = host_step(&change, step, &hosts[i]);
	if (r == 0)
		r = change_commit(&change);
	if (r < 0)
		return log_errno(r, "keys cannot be replaced yet: %s", change.problem.detail);
	for (int i = 0; step->told && i < count; i++)
		log_info("host %s: %s", id_format(&hosts[i], text), step->told);
	return count;
}

int rotation_step(struct controld *controld, const struct id *job)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(steps); i++)
		r = step_take(controld, &steps[i], job);
	if (r >= 0)
		r = store_first(controld->store, &rows, "SELECT count(*) FROM rotations WHERE job = $1 AND state NOT IN ('done', 'given-up')", "d", job);
	return r < 0 ? r : row_i64(&rows, 0) == 0;
}
