/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/refresh.h"

#include <errno.h>

#include "controld/jobs.h"
#include "controld/membership.h"
#include "controld/mesh.h"

/* @return their number in networks[NETWORKS_MAX]; negative errno */
static int networks_of(struct controld *controld, const struct id *host, struct id *networks)
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

int refresh_host_start(struct change *change, const struct id *job, const struct id *host)
{
	struct id networks[NETWORKS_MAX];
	int count = networks_of(change->controld, host, networks);
	int r = count < 0 ? count : 0;

	for (int i = 0; i < count && r == 0; i++) {
		r = change_network(change, &networks[i], false);
		/* A range of another family that came later: now it gets its address in it. */
		if (r == 0)
			r = addresses_assign(change, &networks[i], host);
		if (r == 0)
			r = mesh_follow(change->controld, &networks[i], host);
	}
	if (r == 0)
		r = change_host_joins(change, host);
	return r < 0 ? r : job_follow(change->controld, job, DOC_host, host);
}

int refresh_network_start(struct change *change, const struct id *job, const struct id *network)
{
	int r;

	mesh_forget(change->controld, network); /* of what the database says, not of what we remember */
	r = change_network(change, network, true);
	return r < 0 ? r : job_follow(change->controld, job, DOC_network, network);
}
