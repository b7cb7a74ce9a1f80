/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/registration.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "controld/agent.h"
#include "controld/endpoints.h"
#include "controld/membership.h"
#include "controld/reconcile.h"
#include "controld/rotation.h"
#include "libipc/log.h"

int registration_read(struct controld *controld, struct view bytes, struct registration *registration, struct problem *problem)
{
	int r = registration_open(bytes.p, bytes.n, registration);

	if (r == -EKEYREJECTED)
		return problem_set(problem, 401, "signature", "The registration is not signed by the host key that it names.");
	if (r < 0)
		return problem_set(problem, 400, "malformed", "The registration is malformed.");
	if (!id_equal(&registration->header.deployment, &controld->keyset.header.deployment))
		return problem_set(problem, 403, "wrong-root", "The host has pinned another deployment than \"%s\", which this one is. Check the "
				   "token and the address of the control plane.", controld->keyset.name);
	return 0;
}

int registration_store(struct change *change, const struct registration *registration, struct view bytes, const char *seen)
{
	const struct statement *statement = &registration->statement;
	char reported[ENDPOINTS_TEXT];
	int r = store_exec(change->controld->store,
			   "UPDATE hosts SET registration = $1, registration_generation = $2, wg_key = $3, wg_counter = $4, wg_signature = $5,"
			   " transport_key = $6, listen_port = $7, backend = $8, version = $9, reported = $10, seen = COALESCE($11, seen),"
			   " assignable = $12, wg_assigned = CASE wg_key WHEN $3 THEN wg_assigned ELSE 0 END WHERE id = $13",
			   "bibibbittttid", bytes.p, bytes.n, (int64_t)registration->header.generation, statement->wg_key, (size_t)KEY_BYTES,
			   (int64_t)statement->counter, statement->signature, (size_t)SIGNATURE_BYTES, registration->transport_key,
			   (size_t)KEY_BYTES, (int64_t)registration->listen_port, registration->backend, registration->version,
			   endpoints_join(registration, reported), seen, (int64_t)(registration->flags & REGISTRATION_ASSIGNABLE),
			   &registration->header.id);

	if (r == -EEXIST)
		return problem_set(&change->problem, 409, "key-in-use", "Another host has this WireGuard key. `loopback leave --forget-keys` "
				   "makes a new identity; a cloned disk image needs one.");
	return r < 0 ? r : rotation_announced(change, registration);
}

/* What stands in the database for this host. */
struct known {
	uint64_t generation, counter;
	uint8_t wg_key[KEY_BYTES];
	bool same; /* the very same bytes */
};

static int known_read(struct controld *controld, const struct id *host, struct view bytes, struct known *known)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct view before;
	int r = store_first(controld->store, &rows,
			    "SELECT registration, registration_generation, wg_counter, wg_key FROM hosts WHERE id = $1 AND state = 'active'",
			    "d", host);

	if (r < 0)
		return r;
	before = row_bytes(&rows, 0);
	known->same = before.n == bytes.n && memcmp(before.p, bytes.p, bytes.n) == 0;
	known->generation = row_u64(&rows, 1);
	known->counter = row_u64(&rows, 2);
	row_fixed(&rows, 3, known->wg_key, KEY_BYTES);
	return 0;
}

static int succession_check(const struct registration *registration, const struct known *known, struct problem *problem)
{
	const struct statement *statement = &registration->statement;

	if (registration->header.generation <= known->generation)
		return problem_set(problem, 409, "registration-older", "The registration has generation %" PRIu64 ", a later one (%" PRIu64
				   ") was taken in before. Was this host restored from a backup? `loopback leave --forget-keys` makes a new identity.",
				   registration->header.generation, known->generation);
	if (statement->counter < known->counter ||
	    (statement->counter == known->counter && memcmp(statement->wg_key, known->wg_key, KEY_BYTES) != 0))
		return problem_set(problem, 409, "registration-older", "The WireGuard key is older than the one that the host announced before.");
	return 0;
}

static int pending_put(struct controld *controld, const struct id *host, struct view bytes)
{
	int r = store_exec(controld->store,
			   "INSERT INTO pending_registrations (host, envelope) VALUES ($1, $2)"
			   " ON CONFLICT (host) DO UPDATE SET envelope = excluded.envelope",
			   "db", host, bytes.p, bytes.n);

	return r < 0 ? r : 0;
}

static int pending_drop(struct controld *controld, const struct id *host)
{
	int r = store_exec(controld->store, "DELETE FROM pending_registrations WHERE host = $1", "d", host);

	return r < 0 ? r : 0;
}

static int apply(struct controld *controld, const struct registration *registration, struct view bytes, const char *seen,
		 struct problem *problem)
{
	_cleanup_change_ struct change change = { 0 };
	const struct id *host = &registration->header.id;
	int r = change_begin(controld, &change);

	if (r == 0)
		r = membership_touch(&change, host);
	if (r == 0)
		r = registration_store(&change, registration, bytes, seen);
	if (r == 0)
		r = membership_follow(&change, host);
	if (r == 0)
		r = pending_drop(controld, host);
	if (r == 0)
		r = change_commit(&change);
	if (r < 0) {
		problem_of(&change.problem, r);
		*problem = change.problem;
	}
	return r;
}

int registration_update(struct controld *controld, const struct id *host, struct view bytes, const char *seen, struct problem *problem)
{
	struct registration registration;
	struct known known;
	int r = registration_read(controld, bytes, &registration, problem);

	if (r == 0 && !id_equal(&registration.header.id, host))
		return problem_set(problem, 403, "signature", "The registration is another host's.");
	if (r == 0)
		r = known_read(controld, host, bytes, &known);
	if (r < 0 || known.same)
		return r;
	/* Its next key came into force here, and it has not heard of that yet. */
	if (registration.next.counter && registration.next.counter == known.counter) {
		registration.statement = registration.next;
		registration.next.counter = 0;
	}
	r = succession_check(&registration, &known, problem);
	if (r < 0)
		return r;
	if (registration.statement.counter != known.counter) {
		r = pending_put(controld, host, bytes);
		if (r < 0)
			return r;
	}
	r = apply(controld, &registration, bytes, seen, problem);
	if (r == 0)
		return 0;
	/* Refused for good: the old key stays. What failed for want of an answer is tried again. */
	if (problem->status >= 500)
		reconcile_soon(controld);
	else if (pending_drop(controld, host) < 0)
		log_error("a refused registration stays in the list; it will be refused again");
	return r;
}

/* -- Where a host is heard from ----------------------------------------------------------------------------------------------------- */

static bool family_changes(const char *before, const char *after)
{
	return before && (strchr(before, ':') == NULL) != (strchr(after, ':') == NULL);
}

/* @return 1 peers are to be told; 0 */
static int seen_matters(struct controld *controld, const struct id *host, const char *seen)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows, "SELECT seen, endpoint, reported FROM hosts WHERE id = $1", "d", host);

	if (r < 0)
		return r;
	if (row_text(&rows, 0) && strcmp(row_text(&rows, 0), seen) == 0)
		return 0;
	return row_null(&rows, 1) && row_text(&rows, 2)[0] == '\0' && !family_changes(row_text(&rows, 0), seen);
}

int registration_seen(struct controld *controld, const struct id *host, const char *seen, struct problem *problem)
{
	_cleanup_change_ struct change change = { 0 };
	int r = seen_matters(controld, host, seen);

	if (r <= 0 || !caller_may_move(controld, host))
		return r < 0 ? r : 0;
	r = change_begin(controld, &change);
	if (r == 0)
		r = membership_touch(&change, host);
	if (r == 0)
		r = store_exec(controld->store, "UPDATE hosts SET seen = $1 WHERE id = $2", "td", seen, host);
	if (r >= 0)
		r = membership_follow(&change, host);
	if (r == 0)
		r = change_commit(&change);
	if (r < 0) {
		problem_of(&change.problem, r);
		*problem = change.problem;
	}
	return r;
}

/* -- After a crash ----------------------------------------------------------------------------------------------------------------- */

static int pending_first(struct controld *controld, struct id *host, uint8_t **bytes, size_t *n)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct view found;
	int r = store_first(controld->store, &rows, "SELECT host, envelope FROM pending_registrations LIMIT 1", "");

	if (r < 0)
		return r;
	found = row_bytes(&rows, 1);
	*bytes = malloc(found.n + 1);
	if (!*bytes)
		return -ENOMEM;
	memcpy(*bytes, found.p, found.n);
	*n = found.n;
	*host = row_id(&rows, 0);
	return 0;
}

int registrations_finish(struct controld *controld)
{
	for (;;) {
		_cleanup_free_ uint8_t *bytes = NULL;
		struct registration registration;
		struct problem problem = { 0 };
		struct id host;
		char text[ID_TEXT];
		size_t n = 0;
		int r = pending_first(controld, &host, &bytes, &n);

		if (r < 0)
			return r == -ENOENT ? 0 : r;
		r = registration_read(controld, (struct view){ bytes, n }, &registration, &problem);
		if (r == 0)
			r = apply(controld, &registration, (struct view){ bytes, n }, NULL, &problem);
		if (r < 0 && problem.status >= 500)
			return r;
		if (r < 0) {
			log_warning("host %s: the new key that it announced cannot be taken in: %s", id_format(&host, text), problem.detail);
			r = pending_drop(controld, &host);
		}
		if (r < 0)
			return r;
	}
}
