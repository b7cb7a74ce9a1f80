/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operators' API: which call is meant, who calls and whether they may; then the handler, within a change if it changes something; then
 * the audit log, the commit and the answer.
 */
#include "controld/routes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "controld/agent.h"
#include "controld/call.h"
#include "controld/permissions.h"
#include "controld/secrets.h"
#include "libipc/log.h"

#define IDEMPOTENCY_KEY_MAX 128

struct route {
	const char *method, *path, *permission;
	bool changes;
	handler_fn *handler;
};

static const struct route routes[] = {
#define R(method, path, permission, changes, handler) { method, path, permission, changes, handler },
	ROUTES(R)
#undef R
};

/* -- Which call -------------------------------------------------------------------------------------------------------------------- */

/* Compare a path with a pattern; segments that meet '*' are cut out of a copy of the path. */
static bool path_matches(const char *pattern, const char *path, const char **segments, char *copy, size_t room)
{
	unsigned count = 0;

	while (*pattern) {
		size_t n;

		if (*pattern != '*') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		n = strcspn(path, "/");
		if (n == 0 || n + 1 > room || count == CALL_SEGMENTS_MAX)
			return false;
		memcpy(copy, path, n);
		copy[n] = '\0';
		segments[count++] = copy;
		copy += n + 1;
		room -= n + 1;
		path += n;
		pattern++;
	}
	return *path == '\0';
}

static int route_find(struct call *call, char *copy, size_t room, const struct route **route)
{
	bool path_known = false;

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!path_matches(routes[i].path, call->request->path, call->segments, copy, room))
			continue;
		path_known = true;
		if (strcmp(routes[i].method, call->request->method) == 0) {
			*route = &routes[i];
			return 0;
		}
	}
	if (path_known)
		return call_problem(call, 405, "method", "This path does not know the method %s.", call->request->method);
	return call_problem(call, 404, "not-found", "There is no such path.");
}

/* -- Who calls --------------------------------------------------------------------------------------------------------------------- */

static int authorize(struct call *call, const char *permission)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const char *bearer = bearer_of(request_header(call->request, "Authorization"));
	struct hash hash;
	int r;

	if (!*permission)
		return 0;
	if (!bearer || secret_parse(bearer, &call->credential, &hash) < 0)
		return call_problem(call, 401, "unauthorized", "Expected a credential: \"Authorization: Bearer ID.SECRET\".");
	r = store_first(call->controld->store, &rows, "SELECT hash, permissions, revoked FROM credentials WHERE id = $1", "d",
			&call->credential);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT || !secret_matches(&hash, row_bytes(&rows, 0)))
		return call_problem(call, 401, "unauthorized", "The credential is unknown.");
	if (!row_null(&rows, 2))
		return call_problem(call, 401, "revoked", "The credential was revoked.");
	if (!permission_granted(row_text(&rows, 1), permission))
		return call_problem(call, 403, "forbidden", "This call takes the permission %s, which the credential does not have.",
				    permission);
	(void)snprintf(call->who, sizeof(call->who), "credential:");
	(void)id_format(&call->credential, call->who + strlen(call->who));
	return 0;
}

/* -- Bodies ------------------------------------------------------------------------------------------------------------------------ */

static int body_parse(struct call *call)
{
	json_error_t error;
	char clean[JSON_ERROR_TEXT_LENGTH];

	if (call->request->overlong)
		return call_problem(call, 413, "too-large", "The body is longer than %u bytes.", OPERATOR_BODY_MAX);
	if (call->request->n == 0)
		return 0;
	call->body = json_loadb((const char *)call->request->body, call->request->n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (!call->body)
		return call_problem(call, 400, "malformed", "The body is not JSON: %s (line %d).",
				    log_clean(clean, sizeof(clean), error.text, strlen(error.text)), error.line);
	if (!json_is_object(call->body))
		return call_problem(call, 400, "malformed", "The body is not a JSON object.");
	return 0;
}

static void answer_problem(struct call *call)
{
	const struct problem *problem = &call->change.problem;
	json_t *body = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", "about:blank", "title", problem->code, "status", (int)problem->status,
				 "code", problem->code, "detail", problem->detail);
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;

	json_decref(body);
	request_answer(call->request, problem->status, "application/problem+json", text, text ? strlen(text) : 0);
	if (problem->status == 401)
		request_header_add(call->request, "WWW-Authenticate", "Bearer");
}

/* -- Replays of a POST (Idempotency-Key) -------------------------------------------------------------------------------------------- */

static void request_digest(const struct call *call, struct hash *digest)
{
	crypto_generichash_state state;

	(void)crypto_generichash_init(&state, NULL, 0, HASH_BYTES);
	(void)crypto_generichash_update(&state, (const uint8_t *)call->request->path, strlen(call->request->path) + 1);
	(void)crypto_generichash_update(&state, call->request->body, call->request->n);
	(void)crypto_generichash_final(&state, digest->b, HASH_BYTES);
}

static const char *idempotency_key(const struct call *call)
{
	return strcmp(call->request->method, "POST") == 0 ? request_header(call->request, "Idempotency-Key") : NULL;
}

/* @return 0 go on; 1 it was answered */
static int replay(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const char *key = idempotency_key(call);
	struct hash digest;
	struct view stored;
	const char *body;
	char *copy;
	int r;

	if (!key)
		return 0;
	if (strlen(key) == 0 || strlen(key) > IDEMPOTENCY_KEY_MAX)
		return call_problem(call, 400, "malformed", "Idempotency-Key: expected 1 to %d bytes.", IDEMPOTENCY_KEY_MAX);
	r = store_first(call->controld->store, &rows, "SELECT request, status, body FROM idempotency WHERE credential = $1 AND key = $2", "dt",
			&call->credential, key);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	request_digest(call, &digest);
	stored = row_bytes(&rows, 0);
	if (stored.n != HASH_BYTES || memcmp(stored.p, digest.b, HASH_BYTES) != 0)
		return call_problem(call, 422, "idempotency-mismatch", "This Idempotency-Key was used for another request.");
	body = row_text(&rows, 2);
	if (!body)
		return call_problem(call, 409, "already-done", "This was done already, and its answer held a secret, which is shown only once.");
	copy = strdup(body);
	if (!copy)
		return -ENOMEM;
	request_answer(call->request, (unsigned)row_i64(&rows, 1), "application/json", copy, strlen(copy));
	return 1;
}

static int remember(struct call *call, const char *text)
{
	const char *key = idempotency_key(call);
	struct hash digest;
	int r;

	if (!key)
		return 0;
	request_digest(call, &digest);
	r = store_exec(call->controld->store,
		       "INSERT INTO idempotency (credential, key, request, status, body, at) VALUES ($1, $2, $3, $4, $5, $6)", "dthiti",
		       &call->credential, key, &digest, (int64_t)call->status, call->secret ? NULL : text, now_ms());
	return r < 0 ? r : 0;
}

/* -- The call ---------------------------------------------------------------------------------------------------------------------- */

static int run_change(struct call *call, const struct route *route, char **text)
{
	char what[96];
	int r = change_begin(call->controld, &call->change);

	if (r == 0)
		r = route->handler(call);
	if (r < 0)
		return r;
	if (call->answer) {
		*text = json_dumps(call->answer, JSON_COMPACT);
		if (!*text)
			return -ENOMEM;
	}
	(void)snprintf(what, sizeof(what), "%s %s", route->method, route->path);
	r = audit_note(call->controld, call->who, what, call->object, "");
	if (r == 0)
		r = remember(call, *text);
	return r < 0 ? r : change_commit(&call->change);
}

static int run(struct call *call, const struct route *route, char **text)
{
	int r;

	if (route->changes)
		return run_change(call, route, text);
	r = route->handler(call);
	if (r == 0 && call->answer) {
		*text = json_dumps(call->answer, JSON_COMPACT);
		if (!*text)
			return -ENOMEM;
	}
	return r;
}

static void answer_text(struct request *request, unsigned status, char *text)
{
	if (text)
		request_answer(request, status, "application/json", text, strlen(text));
	else
		request_answer(request, 204, NULL, NULL, 0);
}

static void operator_dispatch(struct request *request)
{
	struct call call = { .controld = request->controld, .request = request, .status = 200 };
	const struct route *route = NULL;
	char segments[512];
	char *text = NULL;
	int r;

	r = route_find(&call, segments, sizeof(segments), &route);
	if (r == 0)
		r = authorize(&call, route->permission);
	if (r == 0)
		r = body_parse(&call);
	if (r == 0)
		r = replay(&call);
	if (r == 0) {
		r = run(&call, route, &text);
		if (r >= 0)
			answer_text(request, call.status, TAKE_PTR(text));
	}
	if (r < 0) {
		problem_of(&call.change.problem, r);
		answer_problem(&call);
	}
	change_end(&call.change);
	free(text);
	json_decref(call.answer);
	json_decref(call.body);
}

void http_dispatch(struct request *request)
{
	if (strncmp(request->path, "/v1/agent/", 10) == 0)
		agent_dispatch(request);
	else
		operator_dispatch(request);
}
