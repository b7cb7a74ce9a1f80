/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs, and the calls that do nothing but start one. */
#include <errno.h>
#include <string.h>

#include "controld/call.h"
#include "controld/jobs.h"
#include "controld/rotation.h"

static json_t *job_item(struct call *call, const struct rows *rows)
{
	struct id id = row_id(rows, 0);

	return job_json(call->controld, &id);
}

int jobs_list(struct call *call)
{
	return list_plain(call, "SELECT id FROM jobs WHERE id > $1 ORDER BY id LIMIT $2", job_item);
}

int job_get(struct call *call)
{
	struct id id;
	int r = resolve(call, OBJECT_JOB, call->segments[0], &id);

	if (r < 0)
		return r;
	call->answer = job_json(call->controld, &id);
	return call->answer ? 0 : -ENOMEM;
}

/* One of a kind at a time: asked for again while it is under way, it is the one that there is. */
static int job_begin(struct call *call, const char *kind, const struct id *object, const char *label)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct id job;
	int r = store_first(call->controld->store, &rows, "SELECT id FROM jobs WHERE object = $1 AND kind = $2 AND state = 'waiting'", "dt", object,
			    kind);

	if (r == 0)
		job = row_id(&rows, 0);
	else if (r == -ENOENT)
		r = job_add(&call->change, kind, object, label, &job);
	if (r < 0)
		return r;
	call_object(call, object);
	call->answer = job_json(call->controld, &job);
	call->status = 202;
	return call->answer ? 0 : -ENOMEM;
}

int host_reapply(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct id host;
	int r = resolve(call, OBJECT_HOST, call->segments[0], &host);

	if (r == 0)
		r = store_first(call->controld->store, &rows, "SELECT name, state FROM hosts WHERE id = $1", "d", &host);
	if (r < 0)
		return r;
	if (strcmp(row_text(&rows, 1), "active") != 0)
		return call_problem(call, 409, "host-not-active", "Host %s is %s; it applies nothing any more.", row_text(&rows, 0),
				    row_text(&rows, 1));
	return job_begin(call, "host-reapply", &host, row_text(&rows, 0));
}

int network_reapply(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct id network;
	int r = resolve(call, OBJECT_NETWORK, call->segments[0], &network);

	if (r == 0)
		r = store_first(call->controld->store, &rows, "SELECT name FROM networks WHERE id = $1", "d", &network);
	return r < 0 ? r : job_begin(call, "network-reapply", &network, row_text(&rows, 0));
}

/* -- Keys ------------------------------------------------------------------------------------------------------------------------- */

static int rotate_read(struct call *call, int64_t *seconds, bool *assigned)
{
	const struct json_field fields[] = {
		{ "deadline_s", JSON_NUMBER, false, seconds, ROTATION_SECONDS_MIN, ROTATION_SECONDS_MAX },
		{ "assigned", JSON_FLAG, false, assigned, 0, 0 },
	};

	*seconds = ROTATION_SECONDS;
	*assigned = false;
	return call->body ? fields_read(call, fields, ARRAY_SIZE(fields)) : 0;
}

static int rotate_answer(struct call *call, const struct id *object, const struct id *job)
{
	call_object(call, object);
	call->answer = job_json(call->controld, job);
	call->status = 202;
	return call->answer ? 0 : -ENOMEM;
}

int host_rotate(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int64_t seconds;
	bool assigned;
	struct id host, job;
	int r = rotate_read(call, &seconds, &assigned);

	if (r == 0)
		r = resolve(call, OBJECT_HOST, call->segments[0], &host);
	if (r == 0)
		r = store_first(call->controld->store, &rows, "SELECT name, state, (SELECT count(*) FROM memberships m WHERE m.host = hosts.id AND m.waits = 0)"
				" FROM hosts WHERE id = $1", "d", &host);
	if (r < 0)
		return r;
	if (strcmp(row_text(&rows, 1), "active") != 0)
		return call_problem(call, 409, "host-not-active", "Host %s is %s; it has no key any more.", row_text(&rows, 0), row_text(&rows, 1));
	if (row_i64(&rows, 2) == 0)
		return call_problem(call, 409, "no-network", "Host %s is in no network: nobody uses its key.", row_text(&rows, 0));
	r = assigned ? rotation_assignable(&call->change, &host) : 0;
	if (r == 0)
		r = job_add(&call->change, "host-rotate-key", &host, row_text(&rows, 0), &job);
	if (r == 0)
		r = rotation_add(&call->change, &job, &host, seconds, assigned);
	if (r == 0)
		return call_problem(call, 409, "rotation-under-way", "Host %s is getting a new key already; see loopbackctl job list.",
				    row_text(&rows, 0));
	return r < 0 ? r : rotate_answer(call, &host, &job);
}

/* Hosts that are getting a new key already are left to the job that they belong to. */
int network_rotate(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 }, members = { 0 };
	int64_t seconds;
	bool assigned;
	struct id network, job;
	int r = rotate_read(call, &seconds, &assigned);

	if (r == 0)
		r = resolve(call, OBJECT_NETWORK, call->segments[0], &network);
	if (r == 0)
		r = store_first(call->controld->store, &rows, "SELECT name FROM networks WHERE id = $1", "d", &network);
	if (r == 0)
		r = job_add(&call->change, "network-rotate-keys", &network, row_text(&rows, 0), &job);
	if (r == 0)
		r = store_query(call->controld->store, &members, "SELECT host FROM memberships WHERE network = $1 AND waits = 0", "d", &network);
	while (r == 0 && (r = rows_next(&members)) > 0) {
		struct id host = row_id(&members, 0);

		r = assigned ? rotation_assignable(&call->change, &host) : 0;
		if (r == 0)
			r = rotation_add(&call->change, &job, &host, seconds, assigned);
		r = r < 0 ? r : 0;
	}
	return r < 0 ? r : rotate_answer(call, &network, &job);
}
