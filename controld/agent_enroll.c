/* SPDX-License-Identifier: Apache-2.0 */
/* Enrolment: a token, a registration, a name; in one change the host exists, is in the token's networks and has its documents. */
#include <errno.h>
#include <string.h>

#include "controld/agent.h"
#include "controld/call.h"
#include "controld/duplicates.h"
#include "controld/health.h"
#include "controld/membership.h"
#include "controld/registration.h"
#include "controld/secrets.h"
#include "libipc/log.h"

struct enrolment {
	struct view bytes; /* of the registration */
	struct registration registration;
	char name[NAME_BYTES_MAX + 1];
	struct id token, workspace, organization;
	bool once, again; /* again: this host used this token before */
	bool known;       /* the host is in the database */
};

static int body_read(struct agent_call *call, struct pack_reader *reader, struct enrolment *enrolment)
{
	static const struct pack_limits limits = { .bytes = AGENT_BODY_MAX, .depth = 1, .elements = 4 };
	struct pack_cursor body;
	int r = pack_open(reader, call->request->body, call->request->n, &limits, &body);

	if (r == 0) {
		enrolment->bytes = pack_bytes(&body, ENVELOPE_BYTES_MAX);
		pack_text_copy(&body, enrolment->name, sizeof(enrolment->name));
		r = pack_done(&body);
	}
	if (r < 0)
		return problem_set(&call->problem, 400, "malformed", "enroll: expected [registration, host name].");
	if (!name_valid(enrolment->name))
		return problem_set(&call->problem, 400, "malformed",
				   "The host's name must be 1 to 63 of a-z, 0-9 and hyphen, with no hyphen at either end.");
	return registration_read(call->controld, enrolment->bytes, &enrolment->registration, &call->problem);
}

static int token_check(struct agent_call *call, struct enrolment *enrolment)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const char *bearer = bearer_of(request_header(call->request, "Authorization"));
	struct hash hash;
	struct id used_by;
	int r;

	if (!bearer || secret_parse(bearer, &enrolment->token, &hash) < 0)
		return problem_set(&call->problem, 401, "token-unknown", "Expected a token: \"Authorization: Bearer ID.SECRET\".");
	r = store_first(call->controld->store, &rows,
			"SELECT t.hash, t.expires, t.revoked, t.once, t.used, t.used_by, t.workspace, w.organization FROM tokens t"
			" JOIN workspaces w ON w.id = t.workspace WHERE t.id = $1",
			"d", &enrolment->token);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT || !secret_matches(&hash, row_bytes(&rows, 0)))
		return problem_set(&call->problem, 401, "token-unknown", "The token is unknown. Was it copied whole?");
	if (!row_null(&rows, 2))
		return problem_set(&call->problem, 401, "token-revoked", "The token was revoked. Ask for a new one.");
	if (row_i64(&rows, 1) <= now_ms())
		return problem_set(&call->problem, 401, "token-expired", "The token has expired. Ask for a new one.");
	enrolment->once = row_i64(&rows, 3) != 0;
	used_by = row_id(&rows, 5);
	enrolment->again = !row_null(&rows, 4) && id_equal(&used_by, &enrolment->registration.header.id);
	if (enrolment->once && !row_null(&rows, 4) && !enrolment->again)
		return problem_set(&call->problem, 401, "token-used", "The token was for one host, which has used it. Ask for a new one.");
	enrolment->workspace = row_id(&rows, 6);
	enrolment->organization = row_id(&rows, 7);
	return 0;
}

static int host_check(struct agent_call *call, struct enrolment *enrolment)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const struct registration *registration = &enrolment->registration;
	char two[HEALTH_REASON];
	struct id workspace;
	struct view before;
	int r = store_first(call->controld->store, &rows,
			    "SELECT state, workspace, registration, registration_generation, wg_counter FROM hosts WHERE id = $1", "d",
			    &registration->header.id);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	enrolment->known = true;
	if (strcmp(row_text(&rows, 0), "retired") == 0)
		return problem_set(&call->problem, 409, "host-retired",
				   "This identity was retired and cannot come back. `loopback leave --forget-keys` makes a new one.");
	r = duplicate_describe(call->controld, &registration->header.id, two, sizeof(two));
	if (r != 0)
		return r < 0 ? r : problem_set(&call->problem, 409, "duplicate-host", "%s Then enrol it as a new host.", two);
	workspace = row_id(&rows, 1);
	if (!id_equal(&workspace, &enrolment->workspace))
		return problem_set(&call->problem, 403, "token-workspace",
				   "The token is for another workspace than the one that this host belongs to. Ask for one of that workspace, or "
				   "make a new identity with `loopback leave --forget-keys`.");
	before = row_bytes(&rows, 2);
	if (before.n == enrolment->bytes.n && memcmp(before.p, enrolment->bytes.p, before.n) == 0)
		return 0;
	if (registration->header.generation <= row_u64(&rows, 3) || registration->statement.counter < row_u64(&rows, 4))
		return problem_set(&call->problem, 409, "registration-older",
				   "A later registration of this host was taken in before. Was it restored from a backup? "
				   "`loopback leave --forget-keys` makes a new identity.");
	return 0;
}

static int host_insert(struct change *change, const struct enrolment *enrolment)
{
	const struct registration *registration = &enrolment->registration;
	int r = store_exec(change->controld->store,
			   "INSERT INTO hosts (id, organization, workspace, name, state, created, registration, registration_generation,"
			   " host_key, wg_counter, wg_signature, transport_key, listen_port, backend, version, reported)"
			   " VALUES ($1, $2, $3, $4, 'active', $5, $6, 0, $7, 0, $8, $9, 0, '', '', '')",
			   "dddtibbbb", &registration->header.id, &enrolment->organization, &enrolment->workspace, enrolment->name, now_ms(),
			   enrolment->bytes.p, enrolment->bytes.n, registration->statement.host_key, (size_t)KEY_BYTES,
			   registration->statement.signature, (size_t)SIGNATURE_BYTES, registration->transport_key, (size_t)KEY_BYTES);

	return r < 0 ? r : 0;
}

/* A host that is known comes back under the name that it has now; what its peers know of it may change. */
static int host_update(struct change *change, const struct enrolment *enrolment)
{
	int r = membership_touch(change, &enrolment->registration.header.id);

	if (r == 0)
		r = store_exec(change->controld->store, "UPDATE hosts SET state = 'active', name = $1 WHERE id = $2", "td", enrolment->name,
			       &enrolment->registration.header.id);
	return r < 0 ? r : 0;
}

/* The token counts in the same transaction, so that one that is for one host cannot serve two. */
static int token_use(struct change *change, const struct enrolment *enrolment)
{
	int r = store_exec(change->controld->store,
			   "UPDATE tokens SET uses = uses + 1, used = COALESCE(used, $1), used_by = COALESCE(used_by, $2) WHERE id = $3", "idd",
			   now_ms(), &enrolment->registration.header.id, &enrolment->token);

	return r < 0 ? r : 0;
}

static int join_networks(struct change *change, const struct enrolment *enrolment)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_query(change->controld->store, &rows, "SELECT network FROM token_networks WHERE token = $1 ORDER BY network", "d",
			    &enrolment->token);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		struct id network = row_id(&rows, 0);

		r = membership_join(change, &network, &enrolment->registration.header.id);
	}
	return r;
}

static int enrol(struct agent_call *call, const struct enrolment *enrolment, struct change *change)
{
	const struct id *host = &enrolment->registration.header.id;
	char who[ID_TEXT + 8], text[ID_TEXT];
	int r = enrolment->known ? host_update(change, enrolment) : host_insert(change, enrolment);

	if (r == 0)
		r = registration_store(change, &enrolment->registration, enrolment->bytes, call->seen[0] ? call->seen : NULL);
	if (r == 0 && enrolment->known)
		r = membership_follow(change, host);
	if (r == 0)
		r = join_networks(change, enrolment);
	if (r == 0)
		r = token_use(change, enrolment);
	if (r == 0)
		r = change_host_joins(change, host);
	(void)snprintf(who, sizeof(who), "token:%s", id_format(&enrolment->token, text));
	if (r == 0)
		r = audit_note(call->controld, who, "enroll", id_format(host, text), enrolment->name);
	return r < 0 ? r : change_commit(change);
}

int agent_enroll(struct agent_call *call)
{
	_cleanup_reader_ struct pack_reader reader = { 0 };
	_cleanup_writer_ struct pack_writer answer = { 0 };
	_cleanup_change_ struct change change = { 0 };
	struct enrolment enrolment = { 0 };
	char id[ID_TEXT];
	int r = body_read(call, &reader, &enrolment);

	if (r == 0)
		r = token_check(call, &enrolment);
	if (r == 0)
		r = host_check(call, &enrolment);
	if (r < 0)
		return r;
	r = change_begin(call->controld, &change);
	if (r == 0)
		r = enrol(call, &enrolment, &change);
	if (r < 0) {
		problem_of(&change.problem, r);
		call->problem = change.problem;
		return r;
	}
	log_info("host %s (%s) enrolled", enrolment.name, id_format(&enrolment.registration.header.id, id));
	pack_put_array(&answer, 1);
	pack_put_bytes(&answer, enrolment.registration.header.id.b, ID_BYTES);
	agent_answer(call, &answer);
	return answer.error;
}
