/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a change: has it cut this host off from its control plane? (M7)
 *
 * A head for a nonce that was made after the change confirms it. If none comes in time, what brings reachability comes back as it was when the control plane
 * was last heard: addresses, routes, MTU, endpoints. Authority does not: peers, keys and AllowedIPs stay as the new documents say, or
 * whoever can cut the line could undo a tightening. This happens once for each change; then the state is held, and shown, until another one comes.
 */
#include <string.h>

#include "libipc/log.h"
#include "netd/netd.h"

#define ARM_MS (60 * 1000) /* a control plane that was not heard for longer before a change is not missed because of it */

/* -- References: what is in force keeps its blobs, and so does what may have to come back ------------------------------------------- */

static int hold_node(const struct hash *name, struct view bytes _unused_, void *arg)
{
	blobs_hold((struct blobs *)(uintptr_t)((struct mesh_walk *)arg)->blobs, name);
	return 0;
}

static int list_node(const struct hash *name, struct view bytes _unused_, void *arg)
{
	struct pack_writer *list = ((struct mesh_walk *)arg)->arg;

	pack_put_raw(list, name->b, HASH_BYTES);
	return list->error;
}

/* Hold a mesh's documents, and its nodes that do not stand at the same place of another one, which is held already (NULL: none is). */
static int references_hold(struct blobs *blobs, const struct mesh *beside, const struct mesh *mesh)
{
	struct mesh_walk walk = { .blobs = blobs, .events.fresh = hold_node, .old = beside, .new = mesh };

	for (unsigned i = 0; mesh && i < mesh->count; i++)
		blobs_hold(blobs, &mesh->entries[i].hash);
	return mesh_diff(&walk);
}

/* Let go of what references_hold() held. (It waits until the walk is over, for it frees what is being walked.) */
static int references_drop(struct blobs *blobs, const struct mesh *beside, const struct mesh *mesh)
{
	CLEANUP(pack_writer_free) struct pack_writer stale = { .bytes = NULL };
	struct mesh_walk walk = { .blobs = blobs, .events.fresh = list_node, .old = beside, .new = mesh, .arg = &stale };
	int r = mesh_diff(&walk);

	for (size_t i = 0; r == 0 && i < stale.n; i += HASH_BYTES) {
		struct hash name;

		memcpy(name.b, stale.bytes + i, HASH_BYTES);
		blobs_drop(blobs, &name);
	}
	for (unsigned i = 0; mesh && i < mesh->count; i++)
		blobs_drop(blobs, &mesh->entries[i].hash);
	return r;
}

static void references_checked(int r)
{
	if (r < 0)
		(void)log_errno(r, "cannot count references; some memory stays in use until the next start");
}

/* -- States ------------------------------------------------------------------------------------------------------------------------- */

static bool pending(const struct gate *gate)
{
	return gate->state == CONFIRM_unconfirmed || gate->state == CONFIRM_restored;
}

static void enter(struct netd *netd, enum confirm state)
{
	netd->gate.state = state;
	netd->gate.why = (struct refusal){ .code = "" };
	netd->gate.since_ms = loop_now_ms();
	loop_timer_stop(netd->gate.deadline);
	view_renew(netd);
}

/* The way back is not needed any more. */
static void forget_before(struct netd *netd)
{
	if (netd->gate.before)
		references_checked(references_drop(netd->blobs, netd->mesh, netd->gate.before));
	mesh_free(netd->gate.before);
	netd->gate.before = NULL;
	netd->overlay.restored = false;
	netd->overlay.reach = NULL;
}

static void wait_for_head(struct netd *netd)
{
	enter(netd, CONFIRM_unconfirmed);
	loop_timer_set(netd->gate.deadline, netd->gate.patience_ms);
}

bool confirm_armed(const struct netd *netd)
{
	return netd->gate.patience_ms && netd->fresh_ms && loop_now_ms() - netd->fresh_ms <= ARM_MS;
}

void confirm_replaced(struct netd *netd, struct mesh *new, bool armed)
{
	struct gate *gate = &netd->gate;
	const struct mesh *beside = pending(gate) ? gate->before : netd->mesh;

	references_checked(references_hold(netd->blobs, beside, new));
	if (pending(gate)) {
		references_checked(references_drop(netd->blobs, beside, netd->mesh));
		mesh_free(netd->mesh);
	} else {
		gate->before = netd->mesh;
	}
	netd->mesh = new;
	netd->overlay.restored = false;
	netd->overlay.reach = NULL;
	wait_for_head(netd);
	if (armed)
		return;
	forget_before(netd);
	enter(netd, CONFIRM_none);
}

void confirm_heard(struct netd *netd)
{
	if (netd->gate.state != CONFIRM_unconfirmed)
		return; /* restored: that the control plane is heard again does not make the change a good one */
	netd->gate.untold = netd->gate.why.code[0] != '\0'; /* the control plane was told otherwise */
	forget_before(netd);
	enter(netd, CONFIRM_confirmed);
	journal_mark(netd->journal, CONFIRM_confirmed);
	journal_compact(netd->journal, netd->blobs, netd->mesh->entries, netd->mesh->count);
}

void confirm_forget(struct netd *netd)
{
	mesh_free(netd->gate.before);
	netd->gate.before = NULL;
	netd->overlay.restored = false;
	netd->overlay.reach = NULL;
	enter(netd, CONFIRM_none);
}

/* -- The way back ------------------------------------------------------------------------------------------------------------------- */

/* @return 1 something came back; 0 there was nothing that could; negative errno */
static int bring_back(struct netd *netd)
{
	uint64_t sets = rtnl_sets(netd->overlay.rtnl);
	unsigned differed = 0;
	int r;

	netd->overlay.restored = true;
	netd->overlay.reach = netd->gate.before;
	r = overlay_reconcile(&netd->overlay, netd->mesh, &differed);
	if (r < 0)
		return r;
	return differed > 0 || rtnl_sets(netd->overlay.rtnl) != sets;
}

static void overdue(void *arg)
{
	struct netd *netd = arg;
	struct gate *gate = &netd->gate;
	int r;

	if (gate->state != CONFIRM_unconfirmed)
		return;
	if (netd->engine != ENGINE_RUNNING) { /* without a device nothing can be brought back, nor was anything cut off by it */
		loop_timer_set(gate->deadline, gate->patience_ms);
		return;
	}
	r = bring_back(netd);
	if (r == 0) {
		netd->overlay.restored = false;
		(void)refuse(&gate->why, "unconfirmed", "no word from the control plane for %u s since the last change, which moved no address, route, MTU "
			     "or endpoint in use: it stays in force", gate->patience_ms / 1000);
	} else {
		enter(netd, CONFIRM_restored);
		(void)refuse(&gate->why, "restored", "no word from the control plane for %u s since the last change: addresses, routes, MTU and endpoints are "
			     "as before it; what it took away stays away. Mend the change, or re-apply it: loopbackctl host reapply",
			     gate->patience_ms / 1000);
		journal_mark(netd->journal, CONFIRM_restored);
	}
	log_error("%s (%s)", gate->why.reason, gate->why.code);
	view_renew(netd);
	documents_tell(netd);
	if (r < 0)
		engine_anew(netd, r);
}

/* -- Start -------------------------------------------------------------------------------------------------------------------------- */

int confirm_open(struct netd *netd)
{
	return loop_timer_new(netd->loop, overdue, netd, &netd->gate.deadline);
}

void confirm_resume(struct netd *netd, enum confirm state, struct mesh *before)
{
	struct gate *gate = &netd->gate;

	references_checked(references_hold(netd->blobs, netd->mesh, before));
	gate->before = before;
	if (state != CONFIRM_restored) {
		wait_for_head(netd);
		return;
	}
	enter(netd, state);
	(void)refuse(&gate->why, "restored", "the last change was not confirmed before netd started anew: addresses, routes, MTU and endpoints are as before it. "
		     "Mend the change, or re-apply it: loopbackctl host reapply");
	netd->overlay.restored = true;
	netd->overlay.reach = before;
}
