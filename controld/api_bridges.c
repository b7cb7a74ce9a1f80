/* SPDX-License-Identifier: Apache-2.0 */
/* Bridges between networks. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "controld/bridges.h"
#include "controld/call.h"
#include "controld/jobs.h"

/* The last job of a bridge tells how far it has come. */
#define BRIDGE_COLUMNS                                                                                                   \
	"SELECT b.id, b.organization, b.state, b.created, (SELECT MAX(j.id) FROM jobs j WHERE j.object = b.id)"         \
	" FROM bridges b"

static json_t *ends_json(struct store *store, const char *bridge)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *ends = json_array();
	int r = store_query(store, &rows,
			    "SELECT n.id, n.name FROM bridge_ends e JOIN networks n ON n.id = e.network WHERE e.bridge = $1 ORDER BY n.name, n.id", "t",
			    bridge);

	while (r == 0 && (r = rows_next(&rows)) > 0)
		r = json_array_append_new(ends, json_pack("{s:s, s:s}", "id", row_text(&rows, 0), "name", row_text(&rows, 1)));
	return ends;
}

static json_t *bridge_json(struct controld *controld, const struct rows *rows)
{
	struct id job_id = row_id(rows, 4);
	json_t *job = row_null(rows, 4) ? NULL : job_json(controld, &job_id);

	return json_pack("{s:s, s:s, s:o, s:s, s:I, s:o}", "id", row_text(rows, 0), "organization", row_text(rows, 1), "networks",
			 ends_json(controld->store, row_text(rows, 0)), "state", row_text(rows, 2), "created", (json_int_t)row_i64(rows, 3), "job",
			 job ? job : json_null());
}

static int bridge_answer(struct call *call, const struct id *id)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(call->controld->store, &rows, BRIDGE_COLUMNS " WHERE b.id = $1", "d", id);

	if (r < 0)
		return r;
	call->answer = bridge_json(call->controld, &rows);
	call_object(call, id);
	return call->answer ? 0 : -ENOMEM;
}

static json_t *bridge_item(struct call *call, const struct rows *rows)
{
	return bridge_json(call->controld, rows);
}

int bridges_list(struct call *call)
{
	return list_plain(call, BRIDGE_COLUMNS " WHERE b.id > $1 ORDER BY b.id LIMIT $2", bridge_item);
}

int bridge_get(struct call *call)
{
	struct id id;
	int r = resolve(call, OBJECT_BRIDGE, call->segments[0], &id);

	return r < 0 ? r : bridge_answer(call, &id);
}

static int end_resolve(struct call *call, const char *text, struct id *network)
{
	int r = resolve(call, OBJECT_NETWORK, text, network);

	if (r == -EREMOTEIO && call->change.problem.status == 404)
		(void)snprintf(call->change.problem.code, sizeof(call->change.problem.code), "unknown-network");
	return r;
}

static int label_of(struct call *call, const struct id *id, char *label, size_t room)
{
	struct bridge bridge;
	int r = bridge_read(call->controld, id, &bridge);

	if (r == 0)
		(void)snprintf(label, room, "%s - %s", bridge.names[0], bridge.names[1]);
	return r;
}

int bridge_create(struct call *call)
{
	json_t *texts = NULL;
	const struct json_field fields[] = { { "networks", JSON_TEXTS, true, &texts, 2, 2 } };
	char label[2 * NAME_BYTES_MAX + 8];
	struct id id, networks[2], job;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	for (unsigned i = 0; i < 2 && r == 0; i++)
		r = end_resolve(call, json_string_value(json_array_get(texts, i)), &networks[i]);
	if (r < 0)
		return r;
	randombytes_buf(id.b, sizeof(id.b));
	r = bridge_insert(&call->change, &id, networks);
	if (r == 0)
		r = label_of(call, &id, label, sizeof(label));
	if (r == 0)
		r = job_add(&call->change, "bridge-create", &id, label, &job);
	call->status = 202;
	return r < 0 ? r : bridge_answer(call, &id);
}

int bridge_delete(struct call *call)
{
	char label[2 * NAME_BYTES_MAX + 8];
	struct bridge bridge;
	struct id id, job;
	int r = resolve(call, OBJECT_BRIDGE, call->segments[0], &id);

	if (r == 0)
		r = bridge_read(call->controld, &id, &bridge);
	if (r < 0)
		return r;
	if (strcmp(bridge.state, "deleting") == 0)
		return call_problem(call, 409, "bridge-busy", "The bridge of %s and %s is being deleted already (loopbackctl job list).",
				    bridge.names[0], bridge.names[1]);
	r = job_cancel(&call->change, &id, "The bridge was deleted before all hosts had it.");
	if (r == 0)
		r = store_exec(call->controld->store, "UPDATE bridges SET state = 'deleting' WHERE id = $1", "d", &id);
	if (r >= 0)
		r = label_of(call, &id, label, sizeof(label));
	if (r == 0)
		r = job_add(&call->change, "bridge-delete", &id, label, &job);
	call->status = 202;
	return r < 0 ? r : bridge_answer(call, &id);
}
