/* SPDX-License-Identifier: Apache-2.0 */
/* Networks. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "controld/bridges.h"
#include "controld/call.h"
#include "controld/documents.h"
#include "controld/membership.h"
#include "controld/mesh.h"
#include "libipc/log.h"

/* Where no range is given: the next /16 of the shared address space (RFC 6598). */
#define POOL_FIRST 64
#define POOL_LAST 127

static json_t *cidrs_json(struct store *store, const char *network)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *cidrs = json_array();
	int r = store_query(store, &rows, "SELECT cidr FROM cidrs WHERE network = $1 ORDER BY position", "t", network);

	while (r == 0 && (r = rows_next(&rows)) > 0)
		r = json_array_append_new(cidrs, json_string(row_text(&rows, 0)));
	return cidrs;
}

static json_t *bridged_json(struct store *store, const char *network)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *bridges = json_array();
	int r = store_query(store, &rows,
			    "SELECT b.id, b.state, n.id, n.name FROM bridge_ends e JOIN bridges b ON b.id = e.bridge JOIN networks n ON n.id = e.other"
			    " WHERE e.network = $1 ORDER BY n.name",
			    "t", network);

	while (r == 0 && (r = rows_next(&rows)) > 0)
		r = json_array_append_new(bridges, json_pack("{s:s, s:s, s:s, s:s}", "bridge", row_text(&rows, 0), "state", row_text(&rows, 1),
							     "network", row_text(&rows, 2), "name", row_text(&rows, 3)));
	return bridges;
}

#define NETWORK_COLUMNS "SELECT n.id, n.name, n.organization, n.workspace, n.mtu, n.keepalive, n.flags, n.created, d.generation," \
	" (SELECT count(*) FROM memberships m WHERE m.network = n.id),"                                                        \
	" (SELECT count(*) FROM memberships m WHERE m.network = n.id AND m.waits = 1), l.generation"                           \
	" FROM networks n LEFT JOIN documents d ON d.type = 3 AND d.id = n.id LEFT JOIN documents l ON l.type = 8 AND l.id = n.id"

static json_t *network_json(struct store *store, const struct rows *rows)
{
	return json_pack("{s:s, s:s, s:s, s:s?, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "id", row_text(rows, 0), "name", row_text(rows, 1),
			 "organization", row_text(rows, 2), "workspace", row_text(rows, 3), "mtu", (json_int_t)row_i64(rows, 4), "keepalive",
			 (json_int_t)row_i64(rows, 5), "locked", (int)(row_i64(rows, 6) & NETWORK_LOCKED), "created",
			 (json_int_t)row_i64(rows, 7), "generation", (json_int_t)row_i64(rows, 8), "hosts", (json_int_t)row_i64(rows, 9),
			 "awaiting_admission", (json_int_t)row_i64(rows, 10), "admission_generation", (json_int_t)row_i64(rows, 11), "bridges",
			 bridged_json(store, row_text(rows, 0)), "cidrs", cidrs_json(store, row_text(rows, 0)));
}

static int network_answer(struct call *call, const struct id *id)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(call->controld->store, &rows, NETWORK_COLUMNS " WHERE n.id = $1", "d", id);

	if (r < 0)
		return r;
	call->answer = network_json(call->controld->store, &rows);
	return call->answer ? 0 : -ENOMEM;
}

static json_t *network_item(struct call *call, const struct rows *rows)
{
	return network_json(call->controld->store, rows);
}

int networks_list(struct call *call)
{
	return list_plain(call, NETWORK_COLUMNS " WHERE n.id > $1 ORDER BY n.id LIMIT $2", network_item);
}

int network_get(struct call *call)
{
	struct id id;
	int r = resolve(call, OBJECT_NETWORK, call->segments[0], &id);

	return r < 0 ? r : network_answer(call, &id);
}

/* -- Creating ---------------------------------------------------------------------------------------------------------------------- */

/* Ranges that mean something else to every host (RFC 6890). */
static bool range_usable(const struct prefix *range)
{
	static const struct prefix not_ours[] = {
		{ 4, 8, { 0 } },		      { 4, 8, { 127 } },	    { 4, 16, { 169, 254 } }, { 4, 3, { 224 } },
		{ 6, 8, { 0 } },		      { 6, 10, { 0xfe, 0x80 } },    { 6, 8, { 0xff } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(not_ours); i++)
		if (prefix_overlaps(range, &not_ours[i]))
			return false;
	return true;
}

static int ranges_parse(struct call *call, json_t *texts, const char *key, struct prefix *ranges, unsigned *count)
{
	json_t *text;
	size_t i;
	char clean[64];

	json_array_foreach(texts, i, text) {
		const char *given = json_string_value(text);

		if (prefix_parse(given, &ranges[i]) < 0 || !range_usable(&ranges[i]))
			return call_problem(call, 400, "malformed",
					    "\"%s\": \"%s\" is no range that an overlay can have; expected one like 100.64.0.0/16, with no bits "
					    "beyond its length.",
					    key, log_clean(clean, sizeof(clean), given, strlen(given)));
		for (size_t j = 0; j < i; j++)
			if (prefix_overlaps(&ranges[i], &ranges[j]))
				return call_problem(call, 400, "malformed", "\"%s\": \"%s\" overlaps another one of them.", key, given);
	}
	*count = (unsigned)json_array_size(texts);
	return 0;
}

/* The first /16 of the pool that no network of the organization meets. */
static int range_from_pool(struct call *call, const struct id *organization, struct prefix *range)
{
	_cleanup_rows_ struct rows rows = { 0 };
	bool taken[POOL_LAST + 1] = { false };
	struct prefix other;
	int r = store_query(call->controld->store, &rows,
			    "SELECT c.cidr FROM cidrs c JOIN networks n ON n.id = c.network WHERE n.organization = $1", "d", organization);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		r = prefix_parse(row_text(&rows, 0), &other);
		for (unsigned i = POOL_FIRST; r == 0 && i <= POOL_LAST; i++) {
			const struct prefix candidate = { 4, 16, { 100, (uint8_t)i } };

			taken[i] = taken[i] || prefix_overlaps(&candidate, &other);
		}
	}
	if (r < 0)
		return r;
	for (unsigned i = POOL_FIRST; i <= POOL_LAST; i++) {
		if (taken[i])
			continue;
		*range = (struct prefix){ 4, 16, { 100, (uint8_t)i } };
		return 0;
	}
	return call_problem(call, 409, "pool-exhausted", "Every /16 of 100.64.0.0/10 is taken in this organization; give \"cidrs\".");
}

static int scope_read(struct call *call, const char *organization, const char *workspace, struct id *parent, struct id *within)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r;

	if (!organization == !workspace)
		return call_problem(call, 400, "malformed", "Expected either \"workspace\" or \"organization\".");
	if (organization)
		return resolve(call, OBJECT_ORGANIZATION, organization, parent);
	r = resolve(call, OBJECT_WORKSPACE, workspace, within);
	if (r == 0)
		r = store_first(call->controld->store, &rows, "SELECT organization FROM workspaces WHERE id = $1", "d", within);
	if (r == 0)
		*parent = row_id(&rows, 0);
	return r;
}

static int ranges_store(struct call *call, const struct id *network, unsigned first_position, const struct prefix *ranges, unsigned count)
{
	char text[PREFIX_TEXT];
	int64_t first, last;
	int r = 0;

	for (unsigned i = 0; i < count && r >= 0; i++) {
		addresses_bounds(&ranges[i], &first, &last);
		r = store_exec(call->controld->store, "INSERT INTO cidrs (network, position, cidr, next, last) VALUES ($1, $2, $3, $4, $5)",
			       "ditii", network, (int64_t)first_position + i, prefix_format(&ranges[i], text), first, last);
	}
	return r < 0 ? r : 0;
}

int network_create(struct call *call)
{
	const char *name = NULL, *organization = NULL, *workspace = NULL;
	json_t *cidrs = NULL;
	int64_t mtu = MTU_DEFAULT, keepalive = KEEPALIVE_DEFAULT;
	const struct json_field fields[] = { { "name", JSON_NAME, true, &name, 0, 0 },
					     { "organization", JSON_TEXT, false, &organization, 1, NAME_BYTES_MAX },
					     { "workspace", JSON_TEXT, false, &workspace, 1, NAME_BYTES_MAX },
					     { "cidrs", JSON_TEXTS, false, &cidrs, 0, CIDRS_MAX },
					     { "mtu", JSON_NUMBER, false, &mtu, MTU_MIN, MTU_MAX },
					     { "keepalive", JSON_NUMBER, false, &keepalive, 0, KEEPALIVE_MAX } };
	struct prefix ranges[CIDRS_MAX];
	struct id id, parent, within = { 0 };
	unsigned count = 0;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r == 0)
		r = scope_read(call, organization, workspace, &parent, &within);
	if (r == 0)
		r = ranges_parse(call, cidrs, "cidrs", ranges, &count);
	if (r == 0 && count == 0)
		r = range_from_pool(call, &parent, &ranges[count++]);
	if (r < 0)
		return r;
	randombytes_buf(id.b, sizeof(id.b));
	r = store_exec(call->controld->store,
		       "INSERT INTO networks (id, organization, workspace, name, mtu, keepalive, flags, created)"
		       " VALUES ($1, $2, $3, $4, $5, $6, 0, $7)",
		       "dddtiii", &id, &parent, workspace ? &within : NULL, name, mtu, keepalive, now_ms());
	if (r == -EEXIST)
		return call_problem(call, 409, "exists", "There is a network \"%s\" in this organization already.", name);
	if (r >= 0)
		r = ranges_store(call, &id, 0, ranges, count);
	if (r == 0)
		r = change_network(&call->change, &id, true);
	if (r < 0)
		return r;
	call_object(call, &id);
	call->status = 201;
	return network_answer(call, &id);
}

/* -- Changing ------------------------------------------------------------------------------------------------------------------------- */

struct network_settings {
	int64_t mtu, keepalive; /* -1: as they are */
	struct prefix ranges[CIDRS_MAX]; /* to be added */
	unsigned count;
};

static int settings_put(struct call *call, const struct id *id, const struct network_settings *settings)
{
	int r = store_exec(call->controld->store,
			   "UPDATE networks SET mtu = CASE WHEN $1 < 0 THEN mtu ELSE $1 END,"
			   " keepalive = CASE WHEN $2 < 0 THEN keepalive ELSE $2 END WHERE id = $3",
			   "iid", settings->mtu, settings->keepalive, id);

	return r < 0 ? r : 0;
}

/* Ranges follow those that there are: what hosts have they keep. */
static int ranges_add(struct call *call, const struct id *id, const struct network_settings *settings)
{
	_cleanup_rows_ struct rows rows = { 0 };
	unsigned held = 0;
	int r = store_query(call->controld->store, &rows, "SELECT cidr FROM cidrs WHERE network = $1 ORDER BY position", "d", id);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		struct prefix range;

		r = prefix_parse(row_text(&rows, 0), &range);
		for (unsigned i = 0; r == 0 && i < settings->count; i++)
			if (prefix_overlaps(&range, &settings->ranges[i]))
				return call_problem(call, 409, "cidr-overlap", "A range to be added overlaps %s, which the network has already.",
						    row_text(&rows, 0));
		held++;
	}
	if (r == 0 && held + settings->count > CIDRS_MAX)
		return call_problem(call, 409, "too-many-ranges", "The network has %u ranges; %d is the most there can be.", held, CIDRS_MAX);
	rows_end(&rows);
	if (r == 0)
		r = ranges_store(call, id, held, settings->ranges, settings->count);
	return r < 0 ? r : reach_check_network(&call->change, id);
}

int network_change(struct call *call)
{
	struct network_settings settings = { .mtu = -1, .keepalive = -1 };
	json_t *cidrs = NULL;
	const struct json_field fields[] = { { "mtu", JSON_NUMBER, false, &settings.mtu, MTU_MIN, MTU_MAX },
					     { "keepalive", JSON_NUMBER, false, &settings.keepalive, 0, KEEPALIVE_MAX },
					     { "add_cidrs", JSON_TEXTS, false, &cidrs, 1, CIDRS_MAX } };
	struct id id;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r == 0 && settings.mtu < 0 && settings.keepalive < 0 && !cidrs)
		return call_problem(call, 400, "malformed", "Nothing to change: expected \"mtu\", \"keepalive\" or \"add_cidrs\".");
	if (r == 0)
		r = resolve(call, OBJECT_NETWORK, call->segments[0], &id);
	if (r == 0 && cidrs)
		r = ranges_parse(call, cidrs, "add_cidrs", settings.ranges, &settings.count);
	if (r == 0)
		r = change_network(&call->change, &id, true);
	if (r == 0)
		r = settings_put(call, &id, &settings);
	if (r == 0 && cidrs)
		r = ranges_add(call, &id, &settings);
	if (r < 0)
		return r;
	call_object(call, &id);
	return network_answer(call, &id);
}

/* -- Deleting ------------------------------------------------------------------------------------------------------------------------- */

static int bridged_check(struct call *call, const struct id *id)
{
	char bridges[512];
	int r = bridges_of(call->controld, id, bridges, sizeof(bridges));

	if (r == 0 && bridges[0])
		return call_problem(call, 409, "bridged", "The network is bridged with %s. Delete that first (loopbackctl bridge delete).", bridges);
	return r;
}

int network_delete(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct id id;
	int r = resolve(call, OBJECT_NETWORK, call->segments[0], &id);

	if (r == 0)
		r = store_first(call->controld->store, &rows, "SELECT count(*) FROM memberships WHERE network = $1", "d", &id);
	if (r == 0 && row_i64(&rows, 0) > 0)
		return call_problem(call, 409, "not-empty", "%lld hosts are in this network; take them out of it first.",
				    (long long)row_i64(&rows, 0));
	rows_end(&rows);
	if (r == 0)
		r = bridged_check(call, &id);
	if (r == 0)
		r = store_exec(call->controld->store, "DELETE FROM documents WHERE type IN ($1, $2) AND id = $3", "iid",
			       (int64_t)DOC_network, (int64_t)DOC_admission, &id);
	if (r >= 0)
		r = store_exec(call->controld->store, "DELETE FROM networks WHERE id = $1", "d", &id);
	if (r < 0)
		return r;
	mesh_forget(call->controld, &id); /* should the commit fail, it is loaded again */
	call_object(call, &id);
	return 0;
}

/* -- Status ------------------------------------------------------------------------------------------------------------------------ */

#define STATUS_COLUMNS                                                                                                          \
	"SELECT h.id, h.name, h.backend, h.endpoint, h.reported, h.seen, h.listen_port, m.generation, m.acknowledged, m.outcome," \
	" m.reason, m.apply_us, a.address, h.mended_total, h.health, h.health_reason FROM memberships m JOIN hosts h ON h.id = m.host" \
	" LEFT JOIN addresses a ON a.network = m.network AND a.host = m.host WHERE m.network = $1 AND m.waits = 0 ORDER BY h.id, a.position"

json_t *endpoint_json(const struct rows *rows, int first_column);

static json_t *member_json(const struct rows *rows)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:[], s:s, s:o, s:o, s:o, s:s?, s:s?, s:o}", "id", row_text(rows, 0), "name",
			 row_text(rows, 1), "state", row_text(rows, 14), "state_reason", row_text(rows, 15), "mended", (json_int_t)row_i64(rows, 13),
			 "addresses", "backend", row_text(rows, 2), "endpoint", endpoint_json(rows, 3), "acknowledged_generation",
			 row_null(rows, 7) ? json_null() : json_integer(row_i64(rows, 7)), "acknowledged_at",
			 row_null(rows, 8) ? json_null() : json_integer(row_i64(rows, 8)), "outcome", row_text(rows, 9), "reason",
			 row_text(rows, 10), "apply_us", row_null(rows, 11) ? json_null() : json_integer(row_i64(rows, 11)));
}

struct convergence {
	uint64_t generation;
	bool all;
	int64_t last; /* acknowledgement */
};

static int members_json(struct call *call, const struct id *network, json_t *hosts, struct convergence *convergence)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *member = NULL;
	struct id current = { 0 };
	int r = store_query(call->controld->store, &rows, STATUS_COLUMNS, "d", network);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		struct id host = row_id(&rows, 0);

		r = 0;
		if (!member || !id_equal(&host, &current)) {
			member = member_json(&rows);
			if (!member || json_array_append_new(hosts, member) < 0)
				return -ENOMEM;
			current = host;
			if (row_null(&rows, 7) || row_u64(&rows, 7) < convergence->generation)
				convergence->all = false;
			else if (row_i64(&rows, 8) > convergence->last)
				convergence->last = row_i64(&rows, 8);
		}
		if (row_text(&rows, 12))
			(void)json_array_append_new(json_object_get(member, "addresses"), json_string(row_text(&rows, 12)));
	}
	return r;
}

int network_status(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct convergence convergence = { .all = true };
	struct document_row document = { 0 };
	json_t *hosts = json_array();
	struct id id;
	int64_t took;
	int r = resolve(call, OBJECT_NETWORK, call->segments[0], &id);

	if (r == 0)
		r = document_get(call->controld, DOC_network, &id, &document);
	if (r == 0)
		r = store_first(call->controld->store, &rows, "SELECT id, name FROM networks WHERE id = $1", "d", &id);
	convergence.generation = document.generation;
	if (r == 0)
		r = members_json(call, &id, hosts, &convergence);
	if (r < 0) {
		json_decref(hosts);
		return r;
	}
	took = convergence.last - document.committed;
	call->answer = json_pack("{s:s, s:s, s:I, s:I, s:b, s:o, s:o}", "id", row_text(&rows, 0), "name", row_text(&rows, 1), "generation",
				 (json_int_t)document.generation, "changed_at", (json_int_t)document.committed, "converged",
				 (int)convergence.all, "convergence_ms",
				 convergence.all && convergence.last > 0 ? json_integer(took > 0 ? took : 0) : json_null(), "hosts", hosts);
	return call->answer ? 0 : -ENOMEM;
}
