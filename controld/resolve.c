/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "controld/call.h"
#include "libipc/log.h"

static const struct {
	const char *word;
	const char *by_id;
	const char *by_name; /* NULL: has no name */
} objects[] = {
	[OBJECT_ORGANIZATION] = { "organization", "SELECT id FROM organizations WHERE id = $1",
				  "SELECT id FROM organizations WHERE name = $1 LIMIT 2" },
	[OBJECT_WORKSPACE] = { "workspace", "SELECT id FROM workspaces WHERE id = $1",
			       "SELECT id FROM workspaces WHERE name = $1 LIMIT 2" },
	[OBJECT_NETWORK] = { "network", "SELECT id FROM networks WHERE id = $1", "SELECT id FROM networks WHERE name = $1 LIMIT 2" },
	[OBJECT_HOST] = { "host", "SELECT id FROM hosts WHERE id = $1",
			  /* A host that left gives its name to one that came under the same name. */
			  "SELECT id FROM hosts WHERE name = $1 AND state <> 'retired' AND (state <> 'left' OR NOT EXISTS"
			  " (SELECT 1 FROM hosts WHERE name = $1 AND state NOT IN ('left', 'retired'))) LIMIT 2" },
	[OBJECT_TOKEN] = { "token", "SELECT id FROM tokens WHERE id = $1", NULL },
	[OBJECT_CREDENTIAL] = { "credential", "SELECT id FROM credentials WHERE id = $1", NULL },
	[OBJECT_BRIDGE] = { "bridge", "SELECT id FROM bridges WHERE id = $1", NULL },
	[OBJECT_JOB] = { "job", "SELECT id FROM jobs WHERE id = $1", NULL },
};

static int not_found(struct call *call, enum object_kind kind, const char *text)
{
	char clean[80];

	return call_problem(call, 404, "not-found", "There is no %s \"%s\".", objects[kind].word,
			    log_clean(clean, sizeof(clean), text, strlen(text)));
}

int resolve(struct call *call, enum object_kind kind, const char *text, struct id *id)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct id found;
	int r;

	if (id_parse(text, &found) == 0) {
		r = store_first(call->controld->store, &rows, objects[kind].by_id, "d", &found);
		if (r == 0)
			*id = found;
		if (r != -ENOENT)
			return r;
	}
	if (!objects[kind].by_name)
		return not_found(call, kind, text);
	r = store_first(call->controld->store, &rows, objects[kind].by_name, "t", text);
	if (r == -ENOENT)
		return not_found(call, kind, text);
	if (r < 0)
		return r;
	found = row_id(&rows, 0);
	r = rows_next(&rows);
	if (r > 0)
		return call_problem(call, 409, "ambiguous", "More than one %s has the name \"%s\"; use the id.", objects[kind].word, text);
	if (r == 0)
		*id = found;
	return r;
}

int list_page(struct call *call, int64_t *limit, const char **after)
{
	const char *limit_text = request_argument(call->request, "limit");
	const char *after_text = request_argument(call->request, "after");
	char *end;

	*limit = LIST_LIMIT_DEFAULT;
	*after = after_text ? after_text : "";
	if (strlen(*after) > LIST_CURSOR_MAX)
		return call_problem(call, 400, "malformed", "\"after\": expected the \"next\" of an earlier answer.");
	if (limit_text) {
		*limit = strtoll(limit_text, &end, 10);
		if (*end || end == limit_text || *limit < 1 || *limit > LIST_LIMIT_MAX)
			return call_problem(call, 400, "malformed", "\"limit\": expected a number from 1 to %d.", LIST_LIMIT_MAX);
	}
	return 0;
}

int list_answer(struct call *call, struct rows *rows, int64_t limit, list_item_fn *item)
{
	json_t *items = json_array(), *next = NULL;
	int r = 0;

	while (r == 0 && (r = rows_next(rows)) > 0)
		r = json_array_append_new(items, item(call, rows)) < 0 ? -ENOMEM : 0;
	if (r < 0) {
		json_decref(items);
		return r;
	}
	if (items && (int64_t)json_array_size(items) > limit) {
		(void)json_array_remove(items, (size_t)limit);
		next = json_object_get(json_array_get(items, (size_t)limit - 1), "id");
	}
	call->answer = json_pack("{s:o, s:O}", "items", items, "next", next ? next : json_null());
	return call->answer ? 0 : -ENOMEM;
}

int list_plain(struct call *call, const char *sql, list_item_fn *item)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const char *after;
	int64_t limit;
	int r = list_page(call, &limit, &after);

	if (r == 0)
		r = store_query(call->controld->store, &rows, sql, "ti", after, limit + 1);
	return r < 0 ? r : list_answer(call, &rows, limit, item);
}

void call_object(struct call *call, const struct id *id)
{
	(void)id_format(id, call->object);
}
