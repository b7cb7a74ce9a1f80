/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/refresh.h"

#include "controld/jobs.h"
#include "controld/membership.h"
#include "controld/mesh.h"

int refresh_host_start(struct change *change, const struct id *job, const struct id *host)
{
	struct id networks[NETWORKS_MAX];
	int count = membership_networks(change->controld, host, networks);
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
