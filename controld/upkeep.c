/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/upkeep.h"

#include <errno.h>
#include <malloc.h>

#include "controld/agent.h"
#include "controld/jobs.h"
#include "libipc/log.h"

#define EVERY_MS 15000
#define NODES_KEPT_MS 3600000LL              /* a host that was away longer fetches the whole trie */
#define IDEMPOTENCY_KEPT_MS (24 * 3600000LL) /* a program that repeats a call does so within a day */

static int purge(struct controld *controld)
{
	int64_t now = now_ms();
	int r = store_begin(controld->store, false);

	if (r == 0)
		r = store_exec(controld->store, "DELETE FROM nodes WHERE replaced < $1", "i", now - NODES_KEPT_MS);
	if (r >= 0)
		r = store_exec(controld->store, "DELETE FROM list_nodes WHERE replaced < $1", "i", now - NODES_KEPT_MS);
	if (r >= 0)
		r = store_exec(controld->store, "DELETE FROM idempotency WHERE at < $1", "i", now - IDEMPOTENCY_KEPT_MS);
	if (r >= 0)
		r = store_exec(controld->store, "DELETE FROM jobs WHERE finished > 0 AND finished < $1", "i", now - JOB_KEPT_MS);
	if (r >= 0)
		return store_commit(controld->store);
	store_rollback(controld->store);
	return r;
}

static void on_upkeep(void *arg)
{
	struct controld *controld = arg;

	if (callers_flush(controld) < 0 || purge(controld) < 0)
		log_warning("upkeep of the database failed; it is tried again in %d s", EVERY_MS / 1000);
	(void)malloc_trim(0); /* what answers to thousands took is not kept for the next time */
	loop_timer_set(controld->upkeep, EVERY_MS);
}

int upkeep_start(struct controld *controld)
{
	int r = loop_timer_new(controld->loop, on_upkeep, controld, &controld->upkeep);

	if (r == 0)
		loop_timer_set(controld->upkeep, EVERY_MS);
	return r;
}

void upkeep_stop(struct controld *controld)
{
	loop_timer_free(&controld->upkeep);
}
