/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/jobs.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "controld/bridges.h"
#include "controld/refresh.h"
#include "controld/rotation.h"
#include "libipc/log.h"

#define LOOK_EVERY_MS 300      /* while hosts are waited for */
#define LOOK_COST 20           /* counting takes at most this part of the time */
#define RETRY_MAX_MS 60000
#define PATIENCE_MS 300000     /* for hosts that are there and do not follow */
#define AT_ONCE 32             /* jobs looked at in one go */
#define NAMED_MAX 20           /* outstanding hosts named */

/* -- The kinds ----------------------------------------------------------------------------------------------------------------------- */

static int bridge_step(struct change *change, const struct id *job, const struct id *object, bool named)
{
	struct bridge bridge;
	int r = bridge_read(change->controld, object, &bridge);

	if (r == 0)
		r = bridge_name(change, object, named);
	for (unsigned i = 0; i < 2 && r == 0; i++)
		r = job_follow(change->controld, job, DOC_network, &bridge.networks[i]);
	return r;
}

static int bridge_create_start(struct change *change, const struct id *job, const struct id *object)
{
	return bridge_step(change, job, object, true);
}

static int bridge_delete_start(struct change *change, const struct id *job, const struct id *object)
{
	return bridge_step(change, job, object, false);
}

static int bridge_forget(struct change *change, const struct id *object)
{
	return store_exec(change->controld->store, "DELETE FROM bridges WHERE id = $1", "d", object);
}

static int bridge_activate(struct change *change, const struct id *object)
{
	return store_exec(change->controld->store, "UPDATE bridges SET state = 'active' WHERE id = $1", "d", object);
}

static int bridge_create_end(struct change *change, const struct id *object, bool failed)
{
	return failed ? bridge_forget(change, object) : bridge_activate(change, object);
}

static int bridge_delete_end(struct change *change, const struct id *object, bool failed)
{
	return failed ? bridge_activate(change, object) : bridge_forget(change, object);
}

static const struct job_kind kinds[] = {
	{ "bridge-create", bridge_create_start, bridge_create_end, NULL },
	{ "bridge-delete", bridge_delete_start, bridge_delete_end, NULL },
	{ "host-reapply", refresh_host_start, NULL, NULL },
	{ "network-reapply", refresh_network_start, NULL, NULL },
	{ "host-rotate-key", rotation_start, NULL, rotation_step },
	{ "network-rotate-keys", rotation_start, NULL, rotation_step },
};

static const struct job_kind *kind_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

/* -- Writing one down ------------------------------------------------------------------------------------------------------------------ */

/* Ids that grow: lists are in the order of creation. */
static void job_id(struct id *id)
{
	uint64_t ms = (uint64_t)now_ms();

	randombytes_buf(id->b, sizeof(id->b));
	for (unsigned i = 0; i < 6; i++)
		id->b[i] = (uint8_t)(ms >> (8 * (5 - i)));
}

int job_add(struct change *change, const char *kind, const struct id *object, const char *label, struct id *job)
{
	int r;

	job_id(job);
	r = store_exec(change->controld->store,
		       "INSERT INTO jobs (id, kind, object, label, state, attempts, due, until, total, done, outstanding, created)"
		       " VALUES ($1, $2, $3, $4, 'waiting', 0, 0, 0, 0, 0, '[]', $5)",
		       "dtdti", job, kind, object, label, now_ms());
	change->committed = jobs_soon;
	return r < 0 ? r : 0;
}

int job_cancel(struct change *change, const struct id *object, const char *why)
{
	int r = store_exec(change->controld->store,
			   "UPDATE jobs SET state = 'failed', error = $1, finished = $2 WHERE object = $3 AND state IN ('waiting', 'running')", "tid",
			   why, now_ms(), object);

	return r < 0 ? r : 0;
}

int job_follow(struct controld *controld, const struct id *job, enum document_type type, const struct id *id)
{
	int r = store_exec(controld->store,
			   "INSERT INTO job_documents (job, type, id, generation) VALUES ($1, $2, $3, 0) ON CONFLICT (job, type, id) DO NOTHING", "did",
			   job, (int64_t)type, id);

	return r < 0 ? r : 0;
}

/* -- Progress ------------------------------------------------------------------------------------------------------------------------ */

/* Each host that a job concerns, and whether it follows. A manifest names its bridges, so a host has a bridge when it has its own network. */
#define FOLLOWERS                                                                                                                  \
	" FROM (SELECT m.host AS host, MIN(CASE WHEN m.generation >= t.generation THEN 1 ELSE 0 END) AS follows FROM job_documents t" \
	" JOIN memberships m ON m.network = t.id AND m.waits = 0 WHERE t.job = $1 AND t.type = 3 GROUP BY m.host"                       \
	" UNION ALL SELECT o.id, CASE WHEN o.document_generation >= t.generation THEN 1 ELSE 0 END FROM job_documents t"              \
	" JOIN hosts o ON o.id = t.id WHERE t.job = $1 AND t.type = 4"                                                                \
	" UNION ALL SELECT r.host, CASE WHEN r.state = 'done' THEN 1 ELSE 0 END FROM rotations r WHERE r.job = $1) f"

struct progress {
	int64_t total, done, away; /* away: offline, and do not follow */
};

static int progress_count(struct controld *controld, const struct id *job, struct progress *progress)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows,
			    "SELECT count(*), COALESCE(SUM(f.follows), 0), COALESCE(SUM(CASE WHEN f.follows = 0 AND (SELECT h.health FROM hosts h"
			    " WHERE h.id = f.host) IN ('offline', 'retired') THEN 1 ELSE 0 END), 0)" FOLLOWERS,
			    "d", job);

	if (r == 0)
		*progress = (struct progress){ row_i64(&rows, 0), row_i64(&rows, 1), row_i64(&rows, 2) };
	return r;
}

/* Who does not follow, the first of them. @return owned by the caller; NULL memory is out */
static json_t *outstanding_json(struct controld *controld, const struct id *job)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *hosts = json_array();
	int r = store_query(controld->store, &rows,
			    "SELECT h.id, h.name, h.health, h.health_reason, h.health_since" FOLLOWERS " JOIN hosts h ON h.id = f.host WHERE f.follows = 0 ORDER BY h.name LIMIT $2",
			    "di", job, (int64_t)NAMED_MAX);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		r = json_array_append_new(hosts, json_pack("{s:s, s:s, s:s, s:s, s:I}", "id", row_text(&rows, 0), "name", row_text(&rows, 1),
							   "state", row_text(&rows, 2), "reason", row_text(&rows, 3), "state_since",
							   (json_int_t)row_i64(&rows, 4)));
	}
	if (r == 0)
		return hosts;
	json_decref(hosts);
	return NULL;
}

/* -- Steps ----------------------------------------------------------------------------------------------------------------------------- */

struct job {
	struct id id, object;
	const struct job_kind *kind;
	char label[2 * NAME_BYTES_MAX + 8], state[16];
	int64_t attempts, due, until;
};

static int job_read(struct controld *controld, const struct id *id, struct job *job)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows, "SELECT kind, object, label, state, attempts, due, until FROM jobs WHERE id = $1", "d", id);

	if (r < 0)
		return r;
	*job = (struct job){ .id = *id,
			     .object = row_id(&rows, 1),
			     .kind = kind_find(row_text(&rows, 0)),
			     .attempts = row_i64(&rows, 4),
			     .due = row_i64(&rows, 5),
			     .until = row_i64(&rows, 6) };
	(void)snprintf(job->label, sizeof(job->label), "%s", row_text(&rows, 2));
	(void)snprintf(job->state, sizeof(job->state), "%s", row_text(&rows, 3));
	return job->kind ? 0 : -EBADMSG;
}

/* All is signed: from these generations on a host follows. Still within the transaction. */
static int job_published(struct change *change)
{
	const struct job *job = change->published_arg;
	struct store *store = change->controld->store;
	int r = store_exec(store,
			   "UPDATE job_documents SET generation = (SELECT d.generation FROM documents d WHERE d.type = job_documents.type"
			   " AND d.id = job_documents.id) WHERE job = $1",
			   "d", &job->id);

	if (r >= 0)
		r = store_exec(store, "UPDATE jobs SET state = 'running', until = $1, error = NULL WHERE id = $2", "id", now_ms() + PATIENCE_MS,
			       &job->id);
	return r < 0 ? r : 0;
}

static int64_t retry_after(int64_t attempts)
{
	int64_t ms = attempts < 7 ? (int64_t)1000 << attempts : RETRY_MAX_MS;

	return (ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS) - (int64_t)randombytes_uniform(500);
}

/* It could not be signed: now, or at all. */
static int job_put_off(struct controld *controld, const struct job *job, const struct problem *problem)
{
	_cleanup_change_ struct change change = { 0 };
	const bool failed = problem->status < 500;
	int r = change_begin(controld, &change);

	if (r == 0 && failed && job->kind->end)
		r = job->kind->end(&change, &job->object, true);
	if (r >= 0)
		r = store_exec(controld->store,
			       "UPDATE jobs SET state = $1, attempts = attempts + 1, due = $2, error = $3, finished = $4 WHERE id = $5", "titid",
			       failed ? "failed" : "waiting", now_ms() + retry_after(job->attempts), problem->detail, failed ? now_ms() : 0, &job->id);
	if (r >= 0)
		r = change_commit(&change);
	log_warning("%s %s: %s%s", job->kind->name, job->label, problem->detail, failed ? "" : " It is tried again.");
	return r;
}

static int job_begin(struct controld *controld, struct job *job)
{
	_cleanup_change_ struct change change = { 0 };
	struct problem problem;
	int r = change_begin(controld, &change);

	change.published = job_published;
	change.published_arg = job;
	if (r == 0)
		r = job->kind->start(&change, &job->id, &job->object);
	if (r >= 0)
		r = change_commit(&change);
	if (r >= 0) {
		log_info("%s %s: signed; hosts follow", job->kind->name, job->label);
		return 0;
	}
	problem_of(&change.problem, r);
	problem = change.problem;
	change_end(&change);
	return job_put_off(controld, job, &problem);
}

static int job_finish(struct controld *controld, const struct job *job, const struct progress *progress)
{
	_cleanup_change_ struct change change = { 0 };
	json_t *outstanding = outstanding_json(controld, &job->id);
	char *text = outstanding ? json_dumps(outstanding, JSON_COMPACT) : NULL;
	int r = text ? change_begin(controld, &change) : -ENOMEM;

	json_decref(outstanding);
	if (r == 0 && job->kind->end)
		r = job->kind->end(&change, &job->object, false);
	if (r >= 0)
		r = store_exec(controld->store,
			       "UPDATE jobs SET state = 'done', total = $1, done = $2, outstanding = $3, finished = $4 WHERE id = $5", "iitid",
			       progress->total, progress->done, text, now_ms(), &job->id);
	free(text);
	if (r >= 0)
		r = change_commit(&change);
	if (r >= 0)
		log_info("%s %s: done, %" PRId64 " of %" PRId64 " hosts have followed", job->kind->name, job->label, progress->done,
			 progress->total);
	return r;
}

static int job_watch(struct controld *controld, const struct job *job)
{
	struct progress progress;
	int r = job->kind->step ? job->kind->step(controld, &job->id) : 1;

	if (r <= 0)
		return r;
	r = progress_count(controld, &job->id, &progress);
	if (r < 0)
		return r;
	if (!job->kind->step && progress.done + progress.away < progress.total && now_ms() < job->until)
		return 0;
	return job_finish(controld, job, &progress);
}

/* -- The reconciler's part ----------------------------------------------------------------------------------------------------------- */

/* @return how many ids stand in ids[AT_ONCE]; negative errno */
static int jobs_open(struct controld *controld, struct id *ids)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int count = 0;
	int r = store_query(controld->store, &rows, "SELECT id FROM jobs WHERE state IN ('waiting', 'running') ORDER BY id LIMIT $1", "i",
			    (int64_t)AT_ONCE);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		ids[count++] = row_id(&rows, 0);
		r = 0;
	}
	return r < 0 ? r : count;
}

static int jobs_look(struct controld *controld)
{
	struct id ids[AT_ONCE];
	struct job job;
	int count = jobs_open(controld, ids);

	for (int i = 0; i < count; i++) {
		int r = job_read(controld, &ids[i], &job);

		if (r == 0 && strcmp(job.state, "running") == 0)
			r = job_watch(controld, &job);
		else if (r == 0 && job.due <= now_ms())
			r = job_begin(controld, &job);
		if (r < 0)
			log_errno(r, "a job cannot go on yet; it is tried again");
	}
	return count;
}

static void on_jobs(void *arg)
{
	struct controld *controld = arg;
	uint64_t begun = loop_now_ms();
	int count = jobs_look(controld);
	uint64_t took = loop_now_ms() - begun;

	if (count != 0)
		loop_timer_set(controld->jobs, took * LOOK_COST > LOOK_EVERY_MS ? took * LOOK_COST : LOOK_EVERY_MS);
}

void jobs_soon(struct controld *controld)
{
	loop_timer_set(controld->jobs, 0);
}

int jobs_start(struct controld *controld)
{
	int r = loop_timer_new(controld->loop, on_jobs, controld, &controld->jobs);

	if (r == 0)
		jobs_soon(controld);
	return r;
}

void jobs_stop(struct controld *controld)
{
	loop_timer_free(&controld->jobs);
}

/* -- As the API shows it --------------------------------------------------------------------------------------------------------------- */

json_t *job_json(struct controld *controld, const struct id *id)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct progress progress;
	json_t *outstanding;
	int r = store_first(controld->store, &rows,
			    "SELECT id, kind, object, label, state, attempts, total, done, outstanding, error, created, finished FROM jobs WHERE id = $1",
			    "d", id);

	if (r < 0)
		return NULL;
	progress = (struct progress){ row_i64(&rows, 6), row_i64(&rows, 7), 0 };
	outstanding = NULL;
	if (strcmp(row_text(&rows, 4), "running") == 0) {
		if (progress_count(controld, id, &progress) == 0)
			outstanding = outstanding_json(controld, id);
	} else {
		outstanding = json_loads(row_text(&rows, 8), 0, NULL);
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:I, s:s?, s:I, s:o}", "id", row_text(&rows, 0), "kind",
			 row_text(&rows, 1), "object", row_text(&rows, 2), "label", row_text(&rows, 3), "state", row_text(&rows, 4), "total",
			 (json_int_t)progress.total, "done", (json_int_t)progress.done, "outstanding_count",
			 (json_int_t)(progress.total - progress.done), "outstanding", outstanding ? outstanding : json_array(), "attempts",
			 (json_int_t)row_i64(&rows, 5), "error", row_text(&rows, 9), "created", (json_int_t)row_i64(&rows, 10), "finished",
			 row_i64(&rows, 11) ? json_integer(row_i64(&rows, 11)) : json_null());
}
