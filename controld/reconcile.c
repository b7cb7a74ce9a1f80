/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/reconcile.h"

#include <errno.h>
#include <string.h>

#include "controld/admission.h"
#include "controld/change.h"
#include "controld/registration.h"
#include "libipc/log.h"
#include "libipc/memfd.h"

#define SLICE 16            /* documents signed anew in one go: requests are served in between */
#define SLICE_PAUSE_MS 20
#define RETRY_FIRST_MS 1000 /* after a failure; then twice as long each time, up to a minute */
#define RETRY_MAX_MS 60000

/* Ask for a signature of what we have: signd gives it again if that is what it signed last. @return 0 the same; 1 not */
static int differs(struct controld *controld, enum document_type type, const struct id *id)
{
	_cleanup_rows_ struct rows rows = { 0 };
	_cleanup_writer_ struct pack_writer again = { 0 };
	_cleanup_close_ int nodes = -1;
	struct sign_refusal refusal;
	struct envelope envelope;
	struct view bytes;
	int r = store_first(controld->store, &rows, "SELECT envelope FROM documents WHERE type = $1 AND id = $2", "id", (int64_t)type, id);

	if (r < 0)
		return r == -ENOENT ? 1 : r;
	bytes = row_bytes(&rows, 0);
	r = envelope_open(bytes.p, bytes.n, &envelope);
	if (r == 0 && type == DOC_network) {
		nodes = memfd_of("nodes", "", 0);
		r = nodes < 0 ? nodes : 0;
	}
	if (r == 0)
		r = signer_sign(controld->signer, type, envelope.payload, nodes, &again, &refusal);
	return r == -EPERM ? 1 : r;
}

static int add_networks(struct change *change, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_query(change->controld->store, &rows,
			    "SELECT network FROM memberships WHERE host = $1 UNION SELECT e.other FROM memberships m"
			    " JOIN bridge_ends e ON e.network = m.network AND e.named = 1 WHERE m.host = $1",
			    "d", host);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		struct id network = row_id(&rows, 0);

		r = differs(change->controld, DOC_network, &network);
		if (r > 0)
			r = change_network(change, &network, true);
	}
	return r;
}

int reconcile_host(struct controld *controld, const struct id *host)
{
	_cleanup_change_ struct change change = { 0 };
	char id[ID_TEXT];
	int r = registrations_finish(controld);

	if (r == 0)
		r = admissions_finish(controld);
	if (r == 0)
		r = change_begin(controld, &change);
	if (r == 0)
		r = add_networks(&change, host);
	if (r == 0) {
		r = differs(controld, DOC_host, host);
		if (r > 0)
			r = change_host_joins(&change, host);
	}
	if (r == 0)
		r = change_commit(&change);
	if (r < 0)
		return log_errno(r, "host %s: documents cannot be brought level with signd: %s", id_format(host, id), change.problem.detail);
	return 0;
}

/* -- In the background ------------------------------------------------------------------------------------------------------------- */

/* @return documents added; negative errno */
static int add_stale(struct change *change)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int count = 0;
	int r = store_query(change->controld->store, &rows,
			    "SELECT d.type, d.id FROM documents d LEFT JOIN hosts h ON d.type = 4 AND h.id = d.id WHERE d.epoch < $1"
			    " AND (d.type = 3 OR h.state <> 'retired') ORDER BY d.type LIMIT $2",
			    "ii", (int64_t)change->controld->keyset.header.epoch, (int64_t)SLICE);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		struct id id = row_id(&rows, 1);

		count++;
		r = row_i64(&rows, 0) == DOC_network ? change_network(change, &id, true) : change_host_joins(change, &id);
	}
	return r < 0 ? r : count;
}

static int renew_slice(struct controld *controld)
{
	_cleanup_change_ struct change change = { 0 };
	int count;
	int r = change_begin(controld, &change);

	if (r < 0)
		return r;
	count = add_stale(&change);
	if (count > 0)
		r = change_commit(&change);
	if (r < 0)
		log_error("documents of the new epoch cannot be signed yet: %s", change.problem.detail);
	return count < 0 ? count : r < 0 ? r : count;
}

static uint64_t retry_ms(unsigned failures)
{
	uint64_t ms = failures < 7 ? (uint64_t)RETRY_FIRST_MS << (failures - 1) : RETRY_MAX_MS;

	return ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
}

static void on_housekeeping(void *arg)
{
	struct controld *controld = arg;
	int r = registrations_finish(controld);

	if (r == 0)
		r = admissions_finish(controld);
	if (r == 0)
		r = renew_slice(controld);
	controld->housekeeping_failures = r < 0 ? controld->housekeeping_failures + 1 : 0;
	if (r < 0)
		loop_timer_set(controld->housekeeping, retry_ms(controld->housekeeping_failures));
	else if (r > 0)
		loop_timer_set(controld->housekeeping, SLICE_PAUSE_MS);
}

void reconcile_soon(struct controld *controld)
{
	loop_timer_set(controld->housekeeping, 0);
}

int reconcile_start(struct controld *controld)
{
	int r = loop_timer_new(controld->loop, on_housekeeping, controld, &controld->housekeeping);

	if (r == 0)
		reconcile_soon(controld);
	return r;
}

void reconcile_stop(struct controld *controld)
{
	loop_timer_free(&controld->housekeeping);
}
