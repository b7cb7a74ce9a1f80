/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts. */
#include <errno.h>
#include <string.h>

#include "controld/agent.h"
#include "controld/call.h"
#include "controld/duplicates.h"
#include "controld/endpoints.h"
#include "controld/health.h"
#include "controld/membership.h"
#include "controld/polls.h"
#include "libipc/log.h"

json_t *endpoint_json(const struct rows *rows, int first_column);

/* Of the columns endpoint, reported, seen, listen_port: what peers are told, the first of two. */
json_t *endpoint_json(const struct rows *rows, int first_column)
{
	struct endpoint endpoints[ENDPOINTS_MAX];
	char text[ENDPOINT_TEXT];

	if (endpoints_choose(row_text(rows, first_column), row_text(rows, first_column + 1), row_text(rows, first_column + 2),
			     (uint16_t)row_i64(rows, first_column + 3), endpoints) == 0)
		return json_null();
	return json_string(endpoint_format(&endpoints[0], text));
}

static json_t *receipt_json(struct store *store, const char *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *entries;
	int r = store_first(store, &rows,
			    "SELECT outcome, code, reason, at, entries, apply_us, peers, confirm, mended FROM receipts WHERE host = $1"
			    " ORDER BY generation DESC LIMIT 1",
			    "t", host);

	if (r < 0)
		return json_null();
	entries = json_loads(row_text(&rows, 4), 0, NULL);
	return json_pack("{s:s, s:s, s:s, s:I, s:o, s:I, s:I, s:s, s:I}", "outcome", row_text(&rows, 0), "code", row_text(&rows, 1), "reason",
			 row_text(&rows, 2), "at", (json_int_t)row_i64(&rows, 3), "generations", entries ? entries : json_array(), "apply_us",
			 (json_int_t)row_i64(&rows, 5), "peers", (json_int_t)row_i64(&rows, 6), "confirm", row_text(&rows, 7), "mended",
			 (json_int_t)row_i64(&rows, 8));
}

static json_t *networks_json(struct store *store, const char *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *networks = json_array();
	json_t *network = NULL;
	char current[ID_TEXT] = "";
	int r = store_query(store, &rows,
			    "SELECT n.id, n.name, a.address, m.waits FROM memberships m JOIN networks n ON n.id = m.network"
			    " LEFT JOIN addresses a ON a.network = m.network AND a.host = m.host WHERE m.host = $1 ORDER BY n.id, a.position",
			    "t", host);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (strcmp(current, row_text(&rows, 0)) != 0) {
			(void)snprintf(current, sizeof(current), "%s", row_text(&rows, 0));
			network = json_pack("{s:s, s:s, s:[], s:b}", "id", row_text(&rows, 0), "name", row_text(&rows, 1), "addresses",
					    "awaiting_admission", (int)row_i64(&rows, 3));
			(void)json_array_append_new(networks, network);
		}
		if (network && row_text(&rows, 2))
			(void)json_array_append_new(json_object_get(network, "addresses"), json_string(row_text(&rows, 2)));
		r = 0;
	}
	return networks;
}

#define HOST_COLUMNS                                                                                                             \
	"SELECT h.id, h.name, h.workspace, h.state, h.last_poll, h.backend, h.version, h.seen, h.endpoint, h.reported, h.seen,"  \
	" h.listen_port, h.created, h.wg_key, h.mended_total, h.mended_at, h.wg_assigned, h.assignable FROM hosts h"

static json_t *host_json(struct controld *controld, const struct rows *rows)
{
	struct id id = row_id(rows, 0);
	int64_t last_poll = caller_last_poll(controld, &id);
	json_t *receipt = receipt_json(controld->store, row_text(rows, 0));
	struct view key = row_bytes(rows, 13);
	struct health health = { .state = "" };
	char key_text[KEY_BASE64_TEXT];

	if (health_judge(controld, &id, &health) < 0)
		health = (struct health){ .state = "unknown", .reason = "The database cannot tell." };
	if (row_i64(rows, 4) > last_poll)
		last_poll = row_i64(rows, 4);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:{s:I, s:o}, s:o, s:o, s:s, s:s, s:o, s:s?, s:s?, s:s, s:b, s:o, s:o, s:I}", "id",
			 row_text(rows, 0), "name", row_text(rows, 1), "workspace", row_text(rows, 2), "state", health.state, "state_reason",
			 health.reason, "state_since", (json_int_t)health.since, "drift", "mended", (json_int_t)row_i64(rows, 14), "at",
			 row_null(rows, 15) ? json_null() : json_integer(row_i64(rows, 15)), "duplicate", duplicate_json(controld, &id),
			 "last_poll", last_poll ? json_integer(last_poll) : json_null(), "backend", row_text(rows, 5), "agent_version",
			 row_text(rows, 6), "endpoint", endpoint_json(rows, 8), "seen_address", row_text(rows, 7), "public_key",
			 key.n == KEY_BYTES ? key_format(key.p, key_text) : NULL, "key_made_by",
			 row_i64(rows, 16) ? "control-plane" : "host", "takes_assigned_keys", (int)row_i64(rows, 17), "networks",
			 networks_json(controld->store, row_text(rows, 0)), "receipt", receipt, "created", (json_int_t)row_i64(rows, 12));
}

static int host_answer(struct call *call, const struct id *id)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(call->controld->store, &rows, HOST_COLUMNS " WHERE h.id = $1", "d", id);

	if (r < 0)
		return r;
	call->answer = host_json(call->controld, &rows);
	call_object(call, id);
	return call->answer ? 0 : -ENOMEM;
}

static json_t *host_item(struct call *call, const struct rows *rows)
{
	return host_json(call->controld, rows);
}

int hosts_list(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const char *workspace = request_argument(call->request, "workspace");
	const char *network = request_argument(call->request, "network");
	struct id workspace_id = { 0 }, network_id = { 0 };
	const char *after;
	int64_t limit;
	int r = list_page(call, &limit, &after);

	if (r == 0 && workspace)
		r = resolve(call, OBJECT_WORKSPACE, workspace, &workspace_id);
	if (r == 0 && network)
		r = resolve(call, OBJECT_NETWORK, network, &network_id);
	if (r == 0)
		r = store_query(call->controld->store, &rows,
				HOST_COLUMNS " WHERE h.id > $1 AND ($2 IS NULL OR h.workspace = $2) AND ($3 IS NULL OR EXISTS"
					     " (SELECT 1 FROM memberships m WHERE m.host = h.id AND m.network = $3)) ORDER BY h.id LIMIT $4",
				"tddi", after, workspace ? &workspace_id : NULL, network ? &network_id : NULL, limit + 1);
	return r < 0 ? r : list_answer(call, &rows, limit, host_item);
}

int host_get(struct call *call)
{
	struct id id;
	int r = resolve(call, OBJECT_HOST, call->segments[0], &id);

	return r < 0 ? r : host_answer(call, &id);
}

int host_join(struct call *call)
{
	const char *name = NULL;
	const struct json_field fields[] = { { "network", JSON_TEXT, true, &name, 1, NAME_BYTES_MAX } };
	struct id host, network;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r == 0)
		r = resolve(call, OBJECT_HOST, call->segments[0], &host);
	if (r == 0)
		r = resolve(call, OBJECT_NETWORK, name, &network);
	if (r == 0)
		r = membership_join(&call->change, &network, &host);
	return r < 0 ? r : host_answer(call, &host);
}

int host_leave(struct call *call)
{
	struct id host, network;
	int r = resolve(call, OBJECT_HOST, call->segments[0], &host);

	if (r == 0)
		r = resolve(call, OBJECT_NETWORK, call->segments[1], &network);
	if (r == 0)
		r = membership_leave(&call->change, &network, &host);
	return r < 0 ? r : host_answer(call, &host);
}

int host_retire(struct call *call)
{
	struct id host;
	int r = resolve(call, OBJECT_HOST, call->segments[0], &host);

	if (r == 0)
		r = membership_leave_all(&call->change, &host);
	if (r == 0)
		r = addresses_release(&call->change, &host);
	/* Its WireGuard key is nobody's from now on; its identity stays known, so that it cannot come back. */
	if (r == 0)
		r = store_exec(call->controld->store, "UPDATE hosts SET state = 'retired', wg_key = NULL WHERE id = $1", "d", &host);
	if (r >= 0)
		r = change_host_leaves(&call->change, &host);
	return r < 0 ? r : host_answer(call, &host);
}

int host_endpoint(struct call *call)
{
	const char *text = NULL;
	const struct json_field fields[] = { { "endpoint", JSON_TEXT_OR_NULL, true, &text, 1, ENDPOINT_TEXT } };
	struct endpoint endpoint;
	char clean[64];
	struct id host;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r == 0 && text && (endpoint_parse(text, &endpoint) < 0 || endpoint.port == 0))
		return call_problem(call, 400, "malformed", "\"endpoint\": expected 192.0.2.1:51820 or [2001:db8::1]:51820, found \"%s\".",
				    log_clean(clean, sizeof(clean), text, strlen(text)));
	if (r == 0)
		r = resolve(call, OBJECT_HOST, call->segments[0], &host);
	if (r == 0)
		r = membership_touch(&call->change, &host);
	if (r == 0)
		r = store_exec(call->controld->store, "UPDATE hosts SET endpoint = $1 WHERE id = $2", "td", text, &host);
	if (r >= 0)
		r = membership_follow(&call->change, &host);
	return r < 0 ? r : host_answer(call, &host);
}
