/* SPDX-License-Identifier: Apache-2.0 */
/* The mesh in force and how it changes: verify, journal, apply, commit, or back. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <string.h>

#include "libipc/log.h"
#include "netd/lock.h"
#include "netd/netd.h"

/* -- The device ------------------------------------------------------------------------------------------------------------------- */

static void retry_due(void *arg)
{
	struct netd *netd = arg;

	engine_attach(netd);
	if (netd->engine == ENGINE_RUNNING)
		documents_announce(netd); /* nothing was asked for while nothing could be applied */
}

/* What is open may be of a device that is gone. */
void engine_anew(struct netd *netd, int r)
{
	(void)log_errno(r, "cannot compare %s with the signed configuration; looking for it anew", netd->overlay.name);
	engine_detach(netd);
	engine_attach(netd);
}

/* Once, and then every few minutes at most: somebody who works against us all the time has us mend, not talk. */
static void tell_drift(struct netd *netd)
{
	if (netd->told_ms && loop_now_ms() - netd->told_ms < DRIFT_MS)
		return;
	netd->told_ms = loop_now_ms();
	documents_tell(netd);
}

static void drift_due(void *arg)
{
	struct netd *netd = arg;
	unsigned mended = 0;
	int r;

	loop_timer_set(netd->drift, DRIFT_MS);
	if (netd->engine != ENGINE_RUNNING)
		return;
	r = overlay_reconcile(&netd->overlay, netd->mesh, &mended);
	netd->mended += mended;
	if (mended) {
		log_notice("drift: %u peers of %s differed from the signed configuration; mended", mended, netd->overlay.name);
		tell_drift(netd);
	}
	if (r < 0)
		engine_anew(netd, r);
}

static void look_due(void *arg)
{
	struct netd *netd = arg;
	uint64_t sets = rtnl_sets(netd->overlay.rtnl);
	int r;

	netd->look_set = false;
	if (netd->engine != ENGINE_RUNNING)
		return;
	netd->looked_ms = loop_now_ms();
	r = overlay_plumb(&netd->overlay, NULL, netd->mesh);
	if (r < 0) {
		engine_anew(netd, r);
	} else if (rtnl_sets(netd->overlay.rtnl) != sets) {
		netd->mended++;
		log_notice("drift: somebody changed %s, its addresses or its routes; mended", netd->overlay.name);
		tell_drift(netd);
	}
}

/* Who works against us, again and again, costs us little, and the log too. */
static void link_moved(int fd, uint32_t events _unused_, void *arg)
{
	struct netd *netd = arg;

	if (!rtnl_watch_drain(fd) || netd->look_set)
		return;
	netd->look_set = true;
	loop_timer_set(netd->look, loop_now_ms() - netd->looked_ms < LOOK_APART_MS ? LOOK_APART_MS : LOOK_MS);
}

static void lifeline_moved(int fd _unused_, uint32_t events, void *arg)
{
	struct netd *netd = arg;

	if (!(events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)))
		return;
	log_warning("the userspace tunnel of %s is gone; waiting for wg-launch to start another", netd->overlay.name);
	engine_detach(netd);
}

void engine_detach(struct netd *netd)
{
	loop_watch_remove(&netd->lifeline);
	loop_watch_remove(&netd->link);
	overlay_detach(&netd->overlay);
	netd->engine = ENGINE_WAITING;
	view_renew(netd);
}

void engine_attach(struct netd *netd)
{
	int r = 0;

	view_renew(netd);
	if (!netd->overlay.wg) {
		r = overlay_attach(&netd->overlay);
		if (r == -ENODEV && netd->overlay.kind == WG_USERSPACE) {
			netd->engine = ENGINE_WAITING; /* wg-launch will come and ask; for one that is there but does not answer, nobody will */
			return;
		}
		if (r == 0 && wg_lifeline(netd->overlay.wg) >= 0)
			r = loop_watch_add(netd->loop, wg_lifeline(netd->overlay.wg), EPOLLRDHUP, lifeline_moved, netd, &netd->lifeline);
		if (r == 0)
			r = loop_watch_add(netd->loop, netd->overlay.watch, EPOLLIN, link_moved, netd, &netd->link);
	}
	if (r == 0)
		r = overlay_reconcile(&netd->overlay, netd->mesh, NULL);
	if (r < 0) {
		(void)log_errno(r, "%s cannot be brought to the last known good; trying again in %d s", netd->overlay.name, RETRY_MS / 1000);
		engine_detach(netd); /* what is open may be of a device that is gone: the next attempt looks, or makes it, anew */
		netd->engine = ENGINE_BROKEN;
		loop_timer_set(netd->retry, RETRY_MS);
		return;
	}
	netd->engine = ENGINE_RUNNING;
	rotation_follow(netd);
	/* A tunnel that stood still may yet carry out what a change, or a netd, before this one sent it. */
	loop_timer_set(netd->drift, SETTLE_MS);
	log_info("%s is up (%s WireGuard), %u networks, %" PRIu64 " peers", netd->overlay.name,
		 netd->overlay.kind == WG_KERNEL ? "kernel" : "userspace", netd->mesh ? netd->mesh->network_count : 0,
		 netd->mesh ? netd->mesh->peers : 0);
}

const char *engine_state_name(const struct netd *netd)
{
	if (!netd->state.pinned)
		return "unpinned";
	if (netd->engine == ENGINE_BROKEN)
		return "broken";
	if (netd->engine == ENGINE_WAITING)
		return "waiting-tunnel";
	return netd->mesh ? "running" : "unenrolled";
}

/* -- Loading ---------------------------------------------------------------------------------------------------------------------- */

/* The documents verified by the keyset of their time, says this host's own signature; by today's they need not, or a new one whose documents have not come
 * yet would take the mesh down with the next restart. */
static int open_sealed(const struct netd *netd, const struct head_entry *entries, unsigned count, struct mesh **mesh, struct refusal *refusal)
{
	struct mesh sealed = { .count = count, .keyset = netd->state.keyset_name };

	memcpy(sealed.entries, entries, count * sizeof(entries[0]));
	return mesh_open(&netd->state, netd->blobs, &sealed, entries, count, mesh, refusal);
}

/* A change that was not confirmed before we ended: what there was before it. */
static void load_before(struct netd *netd, const struct journal_end *end)
{
	struct mesh *before = NULL;
	struct refusal refusal = { .code = "" };

	if (end->confirm != CONFIRM_unconfirmed && end->confirm != CONFIRM_restored)
		return;
	if (end->before_count == 0 || open_sealed(netd, end->before, end->before_count, &before, &refusal) == 0)
		confirm_resume(netd, end->confirm, before);
	else
		log_error("what was in force before the last change does not verify (%s: %s); the change stays", refusal.code, refusal.reason);
}

/* The disk is no more trusted than the network: hashes and statements again. */
static int load_last_known_good(struct netd *netd, const struct journal_end *end)
{
	_cleanup_(mesh_free) struct mesh *mesh = NULL;
	struct refusal refusal = { .code = "" };
	int r;

	if (end->count == 0 || !netd->state.deployed)
		return 0;
	r = open_sealed(netd, end->entries, end->count, &mesh, &refusal);
	if (r == 0)
		r = mesh_check(&netd->state, netd->blobs, NULL, mesh, netd->owners, NULL, NULL, &refusal);
	if (r < 0) {
		log_error("the last known good does not verify (%s: %s); waiting for the control plane", refusal.code, refusal.reason);
		return mesh_note_all(netd->blobs, NULL, netd->owners);
	}
	mesh->keyset = (struct hash){ { 0 } }; /* the next head's documents are verified by today's */
	rotation_count(netd, NULL, mesh);
	confirm_replaced(netd, TAKE_PTR(mesh), false);
	load_before(netd, end);
	return 0;
}

int engine_load(struct netd *netd)
{
	struct journal_end end;
	int r = journal_open(netd->state.folder, netd->state.host_secret, netd->blobs, &end, &netd->journal);

	if (r < 0)
		return log_errno(r, "cannot replay mesh.log");
	if (end.interrupted)
		log_notice("an apply was interrupted; the configuration from before it is in force");
	r = confirm_open(netd);
	if (r == 0)
		r = lock_load(&netd->state);
	if (r == 0)
		r = load_last_known_good(netd, &end);
	if (r < 0)
		return log_errno(r, "cannot load the last known good");
	blobs_sweep(netd->blobs);
	(void)malloc_trim(0); /* the replay held up to twice as much */
	r = loop_timer_new(netd->loop, drift_due, netd, &netd->drift);
	if (r == 0)
		r = loop_timer_new(netd->loop, look_due, netd, &netd->look);
	return r < 0 ? r : loop_timer_new(netd->loop, retry_due, netd, &netd->retry);
}

/* -- Changing --------------------------------------------------------------------------------------------------------------------- */

static int collect_blob(const struct hash *name _unused_, struct view bytes, void *arg)
{
	return journal_add(((struct mesh_walk *)arg)->arg, bytes);
}

/* Everything that the new mesh needs and the old one does not have goes to the journal before the first change. */
static int journal_begin(struct netd *netd, const struct mesh *new)
{
	struct mesh_walk walk = {
		.blobs = netd->blobs, .events.fresh = collect_blob, .old = netd->mesh, .new = new, .arg = netd->journal
	};
	int r = mesh_diff(&walk);

	for (unsigned i = 0; r == 0 && i < new->count; i++) {
		struct view bytes;

		if (blobs_get(netd->blobs, &new->entries[i].hash, &bytes) == 0)
			r = journal_add(netd->journal, bytes);
	}
	if (r == 0)
		r = journal_intent(netd->journal, new->entries, new->count);
	return r;
}

/* Back to what is in force. The device is read, for nobody knows how far the change got. */
static enum outcome go_back(struct netd *netd, int error, struct refusal *refusal)
{
	int r;

	(void)refuse(refusal, "apply", "the device refused the change: %s; the old configuration is in force again", strerror(-error));
	journal_abort(netd->journal);
	r = mesh_note_all(netd->blobs, netd->mesh, netd->owners);
	if (r == 0)
		/* One that has just been silent for as long as we wait is not waited for again: others wait for us. */
		r = error == -ETIMEDOUT ? error : overlay_reconcile(&netd->overlay, netd->mesh, NULL);
	if (r == 0)
		return OUTCOME_reverted;
	(void)refuse(refusal, "broken", "the device refused the change (%s) and the way back (%s); trying again", strerror(-error),
		     strerror(-r));
	netd->engine = ENGINE_BROKEN;
	loop_timer_set(netd->retry, RETRY_MS);
	return OUTCOME_broken;
}

/* Nothing was changed, or it can be emptied again: what was in force stays. */
static enum outcome stay(struct netd *netd, bool staged)
{
	int r = mesh_note_all(netd->blobs, netd->mesh, netd->owners);

	if (r == 0 && staged)
		r = overlay_reconcile(&netd->overlay, netd->mesh, NULL);
	if (r < 0) {
		(void)log_errno(r, "cannot put things back after a refusal; trying again");
		netd->engine = ENGINE_BROKEN;
		loop_timer_set(netd->retry, RETRY_MS);
	}
	return OUTCOME_refused;
}

/*
 * With reachability of another time in force the device is not what netd->mesh says: it is compared, and this change is another try with all of it as signed.
 * So it is when new generations say nothing new: somebody asked for the mesh to be applied again (M11).
 */
static int change_device(struct netd *netd, const struct mesh *new, bool staged)
{
	uint64_t sets = wg_sets(netd->overlay.wg) + rtnl_sets(netd->overlay.rtnl);
	bool restored = netd->overlay.restored;
	unsigned mended = 0;
	int r = 0;

	if (staged)
		return overlay_stage_end(&netd->overlay, new, 0);
	netd->overlay.restored = false;
	if (!restored)
		r = overlay_change(&netd->overlay, netd->mesh, new);
	if (r < 0 || wg_sets(netd->overlay.wg) + rtnl_sets(netd->overlay.rtnl) != sets)
		return r;
	r = overlay_reconcile(&netd->overlay, new, &mended);
	netd->mended += restored ? 0 : mended;
	return r;
}

static enum outcome put_in_force(struct netd *netd, struct mesh *new, bool staged, struct refusal *refusal)
{
	bool armed = confirm_armed(netd), restored = netd->overlay.restored;
	int r = lock_remember(&netd->state, new); /* first: what was once seen of a list is never forgotten, whatever becomes of this change */

	if (r == 0)
		r = journal_begin(netd, new);

	if (r < 0) {
		journal_abort(netd->journal);
		(void)refuse(refusal, "disk", "the state folder cannot take the new configuration (%s); the old one stays", strerror(-r));
		if (staged)
			r = overlay_stage_end(&netd->overlay, new, r);
		return stay(netd, staged);
	}
	r = change_device(netd, new, staged);
	if (r == 0)
		r = journal_commit(netd->journal, new->entries, new->count, armed);
	if (r < 0) {
		netd->overlay.restored = restored;
		return go_back(netd, r, refusal);
	}
	rotation_count(netd, netd->mesh, new);
	confirm_replaced(netd, new, armed);
	if (!armed)
		journal_compact(netd->journal, netd->blobs, new->entries, new->count);
	rotation_follow(netd);
	return OUTCOME_applied;
}

struct stage {
	struct overlay *overlay;
	const struct mesh *to;
};

static int stage_peer(const struct network_document *network, const struct peer *peer, void *arg)
{
	struct stage *stage = arg;

	return overlay_stage_peer(stage->overlay, stage->to, network, peer);
}

enum outcome engine_apply(struct netd *netd, struct mesh *offered, struct refusal *refusal)
{
	_cleanup_(mesh_free) struct mesh *new = offered;
	struct stage stage = { .overlay = &netd->overlay, .to = new };
	enum outcome outcome;
	bool staged;
	int r;

	if (netd->engine != ENGINE_RUNNING) {
		(void)refuse(refusal, "no-device", "there is no WireGuard device to apply to (%s); documents are taken as soon as there is",
			     engine_state_name(netd));
		return OUTCOME_refused;
	}
	(void)refuse(refusal, "apply", "the routes of this host cannot be read"); /* unless the check finds more to say */
	r = overlay_check_routes(&netd->overlay, netd->mesh, new, refusal);
	if (r < 0)
		return OUTCOME_refused;
	staged = !netd->mesh && overlay_stage_begin(&netd->overlay) == 0;
	r = mesh_check(&netd->state, netd->blobs, netd->mesh, new, netd->owners, staged ? stage_peer : NULL, &stage, refusal);
	if (r < 0) {
		if (refusal->code[0] == '\0')
			(void)refuse(refusal, "apply", "the device refused the configuration: %s", strerror(-r));
		if (staged)
			r = overlay_stage_end(&netd->overlay, new, r);
		return stay(netd, staged);
	}
	outcome = put_in_force(netd, new, staged, refusal);
	if (outcome == OUTCOME_applied)
		new = NULL; /* it belongs to netd now */
	return outcome;
}

int engine_clear(struct netd *netd)
{
	/* First what can fail: with the mesh still in force its owners stay noted. */
	int r = journal_reset(netd->journal);

	if (r == 0)
		r = mesh_note_all(netd->blobs, NULL, netd->owners);
	if (r < 0)
		return r;
	confirm_forget(netd);
	rotation_clear(netd);
	mesh_free(netd->mesh);
	netd->mesh = NULL;
	blobs_free(TAKE_PTR(netd->blobs));
	r = blobs_new(&netd->blobs);
	netd->overlay.blobs = netd->blobs;
	if (r == 0 && netd->engine == ENGINE_RUNNING)
		r = overlay_reconcile(&netd->overlay, NULL, NULL);
	return r;
}
