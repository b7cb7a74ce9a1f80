/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/bridges.h"

#include <errno.h>
#include <string.h>

#include "controld/mesh.h"

int bridge_read(struct controld *controld, const struct id *id, struct bridge *bridge)
{
	_cleanup_rows_ struct rows rows = { 0 };
	unsigned count = 0;
	int r = store_query(controld->store, &rows,
			    "SELECT e.network, n.name, b.state FROM bridges b JOIN bridge_ends e ON e.bridge = b.id"
			    " JOIN networks n ON n.id = e.network WHERE b.id = $1 ORDER BY e.network",
			    "d", id);

	*bridge = (struct bridge){ .id = *id };
	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (count == 2)
			return -EBADMSG;
		bridge->networks[count] = row_id(&rows, 0);
		(void)snprintf(bridge->names[count++], sizeof(bridge->names[0]), "%s", row_text(&rows, 1));
		(void)snprintf(bridge->state, sizeof(bridge->state), "%s", row_text(&rows, 2));
		r = 0;
	}
	return r < 0 ? r : count == 2 ? 0 : -ENOENT;
}

int bridges_of(struct controld *controld, const struct id *network, char *text, size_t room)
{
	_cleanup_rows_ struct rows rows = { 0 };
	size_t at = 0;
	int r = store_query(controld->store, &rows,
			    "SELECT n.name, e.bridge FROM bridge_ends e JOIN networks n ON n.id = e.other WHERE e.network = $1 ORDER BY n.name",
			    "d", network);

	text[0] = '\0';
	while (r == 0 && (r = rows_next(&rows)) > 0) {
		int n = snprintf(text + at, room - at, "%s%s (bridge %s)", at ? ", " : "", row_text(&rows, 0), row_text(&rows, 1));

		at = n < 0 || (size_t)n >= room - at ? room - 1 : at + (size_t)n;
		r = 0;
	}
	return r;
}

int bridge_name(struct change *change, const struct id *id, bool named)
{
	struct bridge bridge;
	int r = bridge_read(change->controld, id, &bridge);

	for (unsigned i = 0; i < 2 && r == 0; i++)
		r = change_network(change, &bridge.networks[i], true);
	if (r == 0)
		r = store_exec(change->controld->store, "UPDATE bridge_ends SET named = $1 WHERE bridge = $2", "id", (int64_t)named, id);
	return r < 0 ? r : 0;
}

/* -- What speaks against a bridge -------------------------------------------------------------------------------------------------- */

struct end {
	char name[NAME_BYTES_MAX + 1];
	struct id organization;
	int64_t bridges;
};

static int end_read(struct change *change, const struct id *network, struct end *end)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(change->controld->store, &rows,
			    "SELECT n.name, n.organization, (SELECT count(*) FROM bridge_ends e WHERE e.network = n.id) FROM networks n"
			    " WHERE n.id = $1",
			    "d", network);

	if (r < 0)
		return r;
	(void)snprintf(end->name, sizeof(end->name), "%s", row_text(&rows, 0));
	end->organization = row_id(&rows, 1);
	end->bridges = row_i64(&rows, 2);
	return 0;
}

static int pair_check(struct change *change, const struct id networks[static 2], const struct end ends[static 2])
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r;

	if (id_equal(&networks[0], &networks[1]))
		return problem_set(&change->problem, 409, "self-bridge",
				   "Network %s cannot be bridged with itself: its hosts are peers already. Name two networks.", ends[0].name);
	if (!id_equal(&ends[0].organization, &ends[1].organization))
		return problem_set(&change->problem, 409, "other-organization",
				   "Networks %s and %s belong to two organizations. Only networks of one organization can be bridged.", ends[0].name,
				   ends[1].name);
	r = store_first(change->controld->store, &rows,
			"SELECT b.id, b.state FROM bridge_ends e JOIN bridges b ON b.id = e.bridge WHERE e.network = $1 AND e.other = $2", "dd",
			&networks[0], &networks[1]);
	if (r == 0)
		return problem_set(&change->problem, 409, "bridge-exists", "Networks %s and %s are bridged already: bridge %s, which is %s.%s",
				   ends[0].name, ends[1].name, row_text(&rows, 0), row_text(&rows, 1),
				   strcmp(row_text(&rows, 1), "deleting") == 0 ? " Wait until it is gone (loopbackctl job list)." : "");
	if (r != -ENOENT)
		return r;
	for (unsigned i = 0; i < 2; i++)
		if (ends[i].bridges >= BRIDGES_MAX)
			return problem_set(&change->problem, 409, "too-many-bridges",
					   "Network %s has %d bridges, which is the most there can be. Delete one first (loopbackctl bridge list).",
					   ends[i].name, BRIDGES_MAX);
	return 0;
}

int bridge_insert(struct change *change, const struct id *id, const struct id networks[static 2])
{
	struct store *store = change->controld->store;
	struct end ends[2];
	int r = end_read(change, &networks[0], &ends[0]);

	if (r == 0)
		r = end_read(change, &networks[1], &ends[1]);
	if (r == 0)
		r = pair_check(change, networks, ends);
	if (r == 0)
		r = store_exec(store, "INSERT INTO bridges (id, organization, state, created) VALUES ($1, $2, 'creating', $3)", "ddi", id,
			       &ends[0].organization, now_ms());
	for (unsigned i = 0; i < 2 && r >= 0; i++)
		r = store_exec(store, "INSERT INTO bridge_ends (network, other, bridge, named) VALUES ($1, $2, $3, 0)", "ddd", &networks[i],
			       &networks[1 - i], id);
	for (unsigned i = 0; i < 2 && r >= 0; i++)
		r = reach_check_network(change, &networks[i]);
	return r < 0 ? r : 0;
}
