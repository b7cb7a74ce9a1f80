/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/agent.h"

#include <errno.h>
#include <string.h>

#include "controld/change.h"
#include "controld/duplicates.h"
#include "controld/membership.h"
#include "controld/secrets.h"
#include "libipc/log.h"

#define MSGPACK "application/msgpack"

static const struct {
	const char *method, *path;
	bool is_signed;
	agent_fn *handler;
} agent_routes[] = {
	{ "GET", "/v1/agent/keyset", false, agent_keyset }, { "POST", "/v1/agent/enroll", false, agent_enroll },
	{ "POST", "/v1/agent/poll", true, agent_poll },	    { "POST", "/v1/agent/blobs", true, agent_blobs },
	{ "POST", "/v1/agent/leave", true, agent_leave },   { "GET", "/v1/agent/install.sh", false, agent_install },
	{ "GET", "/v1/agent/packages/*", false, agent_package },
};

void agent_answer(struct agent_call *call, struct pack_writer *body)
{
	size_t n = body->n;

	request_answer(call->request, 200, MSGPACK, TAKE_PTR(body->bytes), n);
	body->n = body->room = 0;
}

void agent_refuse(struct request *request, const struct problem *problem)
{
	_cleanup_writer_ struct pack_writer body = { 0 };
	size_t n;

	pack_put_array(&body, 2);
	pack_put_text(&body, problem->code);
	pack_put_text(&body, problem->detail);
	n = body.error ? 0 : body.n;
	request_answer(request, problem->status, MSGPACK, n ? TAKE_PTR(body.bytes) : NULL, n);
	body.n = n ? 0 : body.n;
}

/* A route that ends in a star has one more segment, which is not empty. */
static bool path_fits(const char *route, const char *path)
{
	size_t n = strlen(route) - 1;

	if (route[n] != '*')
		return strcmp(route, path) == 0;
	return strncmp(route, path, n) == 0 && path[n] && !strchr(path + n, '/');
}

static int run(struct agent_call *call)
{
	const struct request *request = call->request;
	bool path_known = false;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(agent_routes); i++) {
		if (!path_fits(agent_routes[i].path, request->path))
			continue;
		path_known = true;
		if (strcmp(agent_routes[i].method, request->method) != 0)
			continue;
		if (request->overlong)
			return problem_set(&call->problem, 413, "too-large", "The body is longer than %u bytes.", AGENT_BODY_MAX);
		r = agent_routes[i].is_signed ? signature_check(call) : 0;
		return r < 0 ? r : agent_routes[i].handler(call);
	}
	if (path_known)
		return problem_set(&call->problem, 405, "method", "This path does not know that method.");
	return problem_set(&call->problem, 404, "not-found", "There is no such path.");
}

void agent_dispatch(struct request *request)
{
	struct agent_call call = { .controld = request->controld, .request = request };
	int r;

	if (request_client(request, call.seen) < 0)
		call.seen[0] = '\0';
	r = run(&call);
	if (r >= 0)
		return;
	problem_of(&call.problem, r);
	agent_refuse(request, &call.problem);
}

int agent_keyset(struct agent_call *call)
{
	uint8_t *copy = malloc(call->controld->keyset_n);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, call->controld->keyset_bytes, call->controld->keyset_n);
	request_answer(call->request, 200, MSGPACK, copy, call->controld->keyset_n);
	return 0;
}

/* -- Leaving ----------------------------------------------------------------------------------------------------------------------- */

/* netd numbers all that it signs. A departure from before the registration by which this host came (back) is somebody's keepsake. */
static int departure_is_new(struct agent_call *call, uint64_t generation)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_query(call->controld->store, &rows, "SELECT registration_generation FROM hosts WHERE id = $1", "d", &call->host);

	if (r == 0)
		r = rows_next(&rows);
	if (r < 0)
		return r;
	if (r == 0 || generation <= row_u64(&rows, 0))
		return problem_set(&call->problem, 409, "departure-older", "The departure is older than this host's registration; ask netd for a new one.");
	return 0;
}

static int leave_read(struct agent_call *call)
{
	static const struct pack_limits limits = { .bytes = AGENT_BODY_MAX, .depth = 1, .elements = 4 };
	_cleanup_reader_ struct pack_reader reader = { 0 };
	struct document_header header;
	struct pack_cursor body;
	struct view departure;
	int r = pack_open(&reader, call->request->body, call->request->n, &limits, &body);

	if (r < 0)
		return problem_set(&call->problem, 400, "malformed", "leave: expected [departure].");
	departure = pack_bytes(&body, ENVELOPE_BYTES_MAX);
	if (pack_done(&body) < 0)
		return problem_set(&call->problem, 400, "malformed", "leave: expected [departure].");
	r = departure_open(departure.p, departure.n, call->host_key, &header);
	if (r < 0 || !id_equal(&header.id, &call->host) || !id_equal(&header.deployment, &call->controld->keyset.header.deployment))
		return problem_set(&call->problem, 401, "signature", "The departure is not one that this host signed.");
	return departure_is_new(call, header.generation);
}

int agent_leave(struct agent_call *call)
{
	_cleanup_writer_ struct pack_writer body = { 0 };
	_cleanup_change_ struct change change = { 0 };
	char text[ID_TEXT], who[ID_TEXT + 8];
	int r = machine_check(call);

	if (r == 0)
		r = leave_read(call);
	if (r < 0)
		return r;
	r = change_begin(call->controld, &change);
	if (r == 0)
		r = membership_leave_all(&change, &call->host);
	if (r == 0)
		r = store_exec(call->controld->store, "UPDATE hosts SET state = 'left' WHERE id = $1", "d", &call->host);
	(void)snprintf(who, sizeof(who), "host:%s", id_format(&call->host, text));
	if (r >= 0)
		r = audit_note(call->controld, who, "leave", text, "");
	if (r == 0)
		r = change_commit(&change);
	if (r < 0) {
		problem_of(&change.problem, r);
		call->problem = change.problem;
		return r;
	}
	pack_put_array(&body, 0);
	agent_answer(call, &body);
	return body.error;
}
