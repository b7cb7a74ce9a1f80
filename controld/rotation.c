/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/rotation.h"

#include <errno.h>

#include "controld/membership.h"
#include "libdoc/host.h"
#include "libipc/log.h"

#define AT_ONCE 8 /* hosts of a wave; each is told of what its peers do */
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

/* Of host r.host: its owner takes no keys, or operators locked a network that it reaches: who makes the keys of its hosts is in it. */
#define TAKES_NO_KEY                                                                                                              \
	"EXISTS (SELECT 1 FROM hosts o WHERE o.id = r.host AND o.assignable = 0) OR EXISTS (SELECT 1 FROM networks n"            \
	" WHERE n.flags & 1 AND (n.id IN (SELECT m.network FROM memberships m WHERE m.host = r.host) OR n.id IN"                 \
	" (SELECT e.other FROM memberships m JOIN bridge_ends e ON e.network = m.network WHERE m.host = r.host)))"

int rotation_assignable(struct change *change, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(change->controld->store, &rows, "SELECT r.name, r.assignable FROM (SELECT id AS host, name, assignable FROM hosts) r"
			    " WHERE r.host = $1 AND (" TAKES_NO_KEY ")", "d", host);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (row_i64(&rows, 1))
		return problem_set(&change->problem, 409, "network-locked", "A network that host %s reaches is locked: nobody but the host makes its keys.",
				   row_text(&rows, 0));
	return problem_set(&change->problem, 409, "host-takes-no-key", "Host %s takes no key that the control plane makes. Its owner allows it with --assigned-keys in "
			   "NETD_OPTIONS of /etc/loopback/netd.env; without \"assigned\" the host makes the key.", row_text(&rows, 0));
}

int rotation_add(struct change *change, const struct id *job, const struct id *host, int64_t seconds, bool assigned)
{
	int r = store_exec(change->controld->store,
			   "INSERT INTO rotations (host, job, state, counter, seconds, deadline, assigned) SELECT id, $1, 'wanted', wg_counter, $2, 0, $3 FROM hosts"
			   " WHERE id = $4 AND state = 'active' ON CONFLICT (host) DO UPDATE SET job = excluded.job, state = excluded.state,"
			   " counter = excluded.counter, seconds = excluded.seconds, deadline = 0, next_key = NULL, next_counter = NULL,"
			   " next_signature = NULL, assigned = excluded.assigned, box = NULL, assigned_key = NULL"
			   " WHERE rotations.state IN ('done', 'given-up')",
			   "diid", job, seconds, (int64_t)assigned, host);

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
			       "UPDATE rotations SET state = CASE state WHEN 'asked' THEN 'announced' ELSE state END, next_key = $1, next_counter = $2, next_signature = $3, box = NULL WHERE host = $4"
			       " AND state IN ('asked', 'announced', 'both') AND counter = $5 AND COALESCE(assigned_key, $1) = $1",
			       "bibdi", registration->next.wg_key, (size_t)KEY_BYTES, (int64_t)registration->next.counter,
			       registration->next.signature, (size_t)SIGNATURE_BYTES, &registration->header.id,
			       (int64_t)registration->statement.counter);
	return r < 0 ? r : 0;
}

/* -- Steps ------------------------------------------------------------------------------------------------------------------------ */

#define STEP_HOSTS "SELECT r.host FROM rotations r JOIN hosts h ON h.id = r.host WHERE r.job = $1 AND "

/* Everybody in its networks, itself included, has the newest documents in force and has nothing left to move over to, or back from. */
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

/* Nobody who shares a network with it, or a bridge, is in a wave. */
#define TURN_HAS_COME                                                                                                             \
	"NOT EXISTS (SELECT 1 FROM rotations o JOIN memberships theirs ON theirs.host = o.host JOIN memberships mine ON mine.host = r.host" \
	" WHERE o.state IN ('asked', 'announced', 'both', 'swapping', 'settling') AND (theirs.network = mine.network"           \
	" OR EXISTS (SELECT 1 FROM bridge_ends e WHERE e.network = theirs.network AND e.other = mine.network)))"

static const struct step steps[] = {
	{ STEP_HOSTS "r.state = 'wanted' AND h.state = 'active' AND $2 > 0 AND " TURN_HAS_COME,
	  "UPDATE rotations SET counter = (SELECT wg_counter FROM hosts WHERE id = $1), state = 'asked',"
	  " deadline = $2 + MIN(seconds, " TEXT(ROTATION_ASK_SECONDS) ") * 1000 WHERE host = $1",
	  false, "is asked for a new key" },
	{ STEP_HOSTS "r.state NOT IN ('done', 'given-up') AND h.state <> 'active' AND $2 > 0",
	  "UPDATE rotations SET state = 'given-up', box = NULL WHERE host = $1 AND $2 > 0", false, NULL },
	{ STEP_HOSTS "r.state IN ('wanted', 'asked') AND r.assigned = 1 AND (" TAKES_NO_KEY ") AND $2 > 0",
	  "UPDATE rotations SET state = 'given-up', box = NULL WHERE host = $1 AND $2 > 0", false, "takes no key that is made here; it keeps its own" },
	{ STEP_HOSTS "r.deadline <= $2 AND (r.state = 'asked' OR (r.state = 'both' AND " ITSELF_AWAY "))",
	  "UPDATE rotations SET state = 'given-up', box = NULL WHERE host = $1 AND $2 > 0", true, "did not follow in time; it keeps its key" },
	{ STEP_HOSTS "r.state = 'announced' AND $2 > 0 AND NOT EXISTS (SELECT 1 FROM rotations o WHERE o.job = $1 AND o.state = 'asked')",
	  "WITH at (host, now) AS (SELECT $1, $2) UPDATE rotations SET state = 'both', deadline = (SELECT now FROM at) + seconds * 1000"
	  " WHERE host = (SELECT host FROM at)", true, NULL },
	/* On its own, and before signd sees it: signd never goes back. */
	{ STEP_HOSTS "r.state = 'both' AND (r.deadline <= $2 OR " ALL_MOVED ")", "UPDATE rotations SET state = 'swapping' WHERE host = $1 AND $2 > 0",
	  false, NULL },
	{ STEP_HOSTS "r.state = 'settling' AND (r.deadline <= $2 OR " ALL_MOVED ")", "UPDATE rotations SET state = 'done' WHERE host = $1 AND $2 > 0",
	  false, NULL },
	{ STEP_HOSTS "r.state = 'swapping' AND $2 > 0",
	  "UPDATE hosts SET wg_key = r.next_key, wg_counter = r.next_counter, wg_signature = r.next_signature, wg_assigned = r.assigned FROM rotations r"
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

/* Make the key that a host is to have, if it is not to make it itself. What stays here opens nothing. */
static int key_assign(struct store *store, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	uint8_t host_key[KEY_BYTES], box[ASSIGNED_BYTES], public[KEY_BYTES];
	int r = store_first(store, &rows, "SELECT h.host_key FROM rotations r JOIN hosts h ON h.id = r.host WHERE r.host = $1 AND r.assigned = 1", "d", host);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	row_fixed(&rows, 0, host_key, sizeof(host_key));
	r = assigned_make(host_key, box, public);
	if (r == 0)
		r = store_exec(store, "UPDATE rotations SET box = $1, assigned_key = $2 WHERE host = $3", "bbd", box, sizeof(box), public, sizeof(public), host);
	return r < 0 ? r : 0;
}

static int host_step(struct change *change, const struct step *step, const struct id *host)
{
	struct store *store = change->controld->store;
	int r = step->entries ? membership_touch(change, host) : 0;

	if (r == 0 && step == &steps[0])
		r = key_assign(store, host);
	if (r == 0)
		r = store_exec(store, step->update, "di", host, now_ms());
	if (r >= 0 && step == &steps[ARRAY_SIZE(steps) - 1])
		r = store_exec(store, "UPDATE rotations SET state = 'settling', deadline = $1 WHERE host = $2", "id",
			       now_ms() + ROTATION_SETTLE_SECONDS * 1000, host);
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
