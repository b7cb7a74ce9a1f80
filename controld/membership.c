/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/membership.h"

#include <errno.h>
#include <string.h>

#include "controld/admission.h"
#include "controld/bridges.h"
#include "controld/mesh.h"

static bool is_member(struct controld *controld, const struct id *network, const struct id *host, int *error)
{
	_cleanup_rows_ struct rows rows = { 0 };

	*error = store_first(controld->store, &rows, "SELECT 1 FROM memberships WHERE network = $1 AND host = $2", "dd", network, host);
	if (*error == -ENOENT) {
		*error = 0;
		return false;
	}
	return *error == 0;
}

/* Is the network one that a host of this workspace may be in? */
static int scope_check(struct change *change, const struct id *network, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(change->controld->store, &rows,
			    "SELECT n.name, h.name, n.organization = h.organization, n.workspace IS NULL OR n.workspace = h.workspace, h.state"
			    " FROM networks n JOIN hosts h ON h.id = $1 WHERE n.id = $2",
			    "dd", host, network);

	if (r == -ENOENT)
		return problem_set(&change->problem, 404, "not-found", "There is no such network or host.");
	if (r < 0)
		return r;
	if (strcmp(row_text(&rows, 4), "active") != 0)
		return problem_set(&change->problem, 409, "host-not-active", "Host %s is %s; it cannot join a network.", row_text(&rows, 1),
				   row_text(&rows, 4));
	if (!row_i64(&rows, 2) || !row_i64(&rows, 3))
		return problem_set(&change->problem, 409, "other-scope", "Network %s belongs to another %s than host %s.", row_text(&rows, 0),
				   row_i64(&rows, 2) ? "workspace" : "organization", row_text(&rows, 1));
	return 0;
}

static int room_check(struct change *change, const struct id *network)
{
	struct mesh *mesh;
	int r = mesh_get(change->controld, network, &mesh);

	if (r == 0 && trie_count(mesh->trie) >= PEERS_MAX)
		return problem_set(&change->problem, 409, "network-full", "The network has %d hosts, which is the most there can be.",
				   PEERS_MAX);
	return r;
}

int membership_join(struct change *change, const struct id *network, const struct id *host)
{
	int waits = 0;
	int r;

	if (is_member(change->controld, network, host, &r))
		return 0;
	if (r == 0)
		r = scope_check(change, network, host);
	if (r == 0)
		r = change_network(change, network, false);
	if (r == 0)
		r = room_check(change, network);
	if (r == 0)
		r = addresses_assign(change, network, host);
	if (r == 0)
		r = waits = admission_waits(change->controld, network, host);
	if (r >= 0)
		r = store_exec(change->controld->store, "INSERT INTO memberships (network, host, joined, waits) VALUES ($1, $2, $3, $4)", "ddii",
			       network, host, now_ms(), (int64_t)waits);
	/* A host merges all that it reaches into one interface. */
	if (r >= 0)
		r = reach_check_host(change, host, network);
	if (r >= 0)
		r = mesh_follow(change->controld, network, host);
	return r < 0 ? r : change_host_joins(change, host);
}

int membership_leave(struct change *change, const struct id *network, const struct id *host)
{
	int r;

	if (!is_member(change->controld, network, host, &r))
		return r;
	r = change_network(change, network, false);
	if (r == 0)
		r = store_exec(change->controld->store, "DELETE FROM memberships WHERE network = $1 AND host = $2", "dd", network, host);
	if (r >= 0)
		r = mesh_follow(change->controld, network, host);
	return r < 0 ? r : change_host_leaves(change, host);
}

int membership_networks(struct controld *controld, const struct id *host, struct id *networks)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int count = 0;
	int r = store_query(controld->store, &rows, "SELECT network FROM memberships WHERE host = $1", "d", host);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (count == NETWORKS_MAX)
			return -E2BIG;
		networks[count++] = row_id(&rows, 0);
		r = 0;
	}
	return r < 0 ? r : count;
}

int membership_leave_all(struct change *change, const struct id *host)
{
	struct id networks[NETWORKS_MAX];
	int count = membership_networks(change->controld, host, networks);
	int r = count < 0 ? count : 0;

	for (int i = 0; i < count && r == 0; i++)
		r = membership_leave(change, &networks[i], host);
	return r;
}

int membership_touch(struct change *change, const struct id *host)
{
	struct id networks[NETWORKS_MAX];
	int count = membership_networks(change->controld, host, networks);
	int r = count < 0 ? count : 0;

	for (int i = 0; i < count && r == 0; i++)
		r = change_network(change, &networks[i], false);
	return r;
}

int membership_follow(struct change *change, const struct id *host)
{
	struct id networks[NETWORKS_MAX];
	int count = membership_networks(change->controld, host, networks);
	int r = count < 0 ? count : 0;

	for (int i = 0; i < count && r == 0; i++)
		r = mesh_follow(change->controld, &networks[i], host);
	return r;
}
