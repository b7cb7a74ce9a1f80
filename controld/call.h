/* SPDX-License-Identifier: Apache-2.0 */
/* One call of the operators' API, as its handler sees it. */
#pragma once

#include <jansson.h>

#include "controld/change.h"
#include "controld/http.h"
#include "controld/secrets.h"

#define CALL_SEGMENTS_MAX 2
#define LIST_LIMIT_DEFAULT 100
#define LIST_LIMIT_MAX 1000
#define LIST_CURSOR_MAX 200

struct call {
	struct controld *controld;
	struct request *request;
	struct change change;     /* open for calls that change something; its problem serves all */
	struct id credential;
	char who[64];             /* for the audit log */
	const char *segments[CALL_SEGMENTS_MAX]; /* what stood where the route has '*' */
	json_t *body;             /* an object; NULL if there was no body */
	json_t *answer;           /* the handler's, consumed by the dispatcher; NULL: 204 */
	unsigned status;          /* of success; 200 unless the handler says otherwise */
	char object[ID_TEXT];     /* what was changed, for the audit log */
	bool secret;              /* the answer shows a secret: it is never kept for a replay */
};

/** @return 0; -EREMOTEIO call->change.problem says why; negative errno */
typedef int handler_fn(struct call *call);

#define call_problem(call, ...) problem_set(&(call)->change.problem, __VA_ARGS__)

/* -- fields.c: strict reading of JSON ------------------------------------------------------------------------------------------- */

enum json_kind { JSON_TEXT, JSON_NAME, JSON_NUMBER, JSON_FLAG, JSON_TEXTS, JSON_TEXT_OR_NULL };

struct json_field {
	const char *key;
	enum json_kind kind;
	bool required;
	void *out;        /* const char **, int64_t *, bool *, json_t ** (array of strings); all borrowed from the body; untouched if absent */
	int64_t min, max; /* of a number; of a text's or array's length */
};

/** Read the body; a key that is not listed, a wrong type, a value out of bounds is a 400 that names the key. @return 0; -EREMOTEIO */
_must_check_ int fields_read(struct call *call, const struct json_field *fields, size_t count);
/** A DNS label: [a-z0-9-]{1,63}, no hyphen at either end. */
bool name_valid(const char *name);

/* -- resolve.c: ids and names, lists ---------------------------------------------------------------------------------------------- */

enum object_kind { OBJECT_ORGANIZATION, OBJECT_WORKSPACE, OBJECT_NETWORK, OBJECT_HOST, OBJECT_TOKEN, OBJECT_CREDENTIAL, OBJECT_BRIDGE, OBJECT_JOB };

/** Find an object by id or by name. @return 0; -EREMOTEIO 404, or 409 if the name is ambiguous */
_must_check_ int resolve(struct call *call, enum object_kind kind, const char *text, struct id *id);
/** ?limit= and ?after=. @param after receives "" for the first page */
_must_check_ int list_page(struct call *call, int64_t *limit, const char **after);
/** A row as an object of a list; its "id" is the cursor. @return owned by the caller; NULL if memory is out */
typedef json_t *list_item_fn(struct call *call, const struct rows *rows);
/** Answer with {"items", "next"}: the rows of a query that asked for limit + 1. @return 0; negative errno */
_must_check_ int list_answer(struct call *call, struct rows *rows, int64_t limit, list_item_fn *item);
/** The whole of a plain list. @param sql takes the cursor as $1 (text) and the number of rows as $2 */
_must_check_ int list_plain(struct call *call, const char *sql, list_item_fn *item);
/** Has the caller named the object it works on; for the audit log. */
void call_object(struct call *call, const struct id *id);

/* -- Handlers, api_*.c ------------------------------------------------------------------------------------------------------------ */

handler_fn version_get, organizations_list, organization_create, workspaces_list, workspace_create, keyset_get, keyset_put;
handler_fn networks_list, network_create, network_get, network_change, network_delete, network_status, network_reapply, network_rotate;
handler_fn admission_get, admission_put, cosign_get, cosign_put;
handler_fn bridges_list, bridge_create, bridge_get, bridge_delete, jobs_list, job_get;
handler_fn hosts_list, host_get, host_join, host_leave, host_retire, host_endpoint, host_reapply, host_rotate;
handler_fn tokens_list, token_create, token_revoke, credentials_list, credential_create, credential_revoke, audit_list;
handler_fn packages_list;

/** Make a credential. Within a transaction. @param permissions separated by blanks */
_must_check_ int credential_make(struct store *store, const char *description, const char *permissions, struct id *id,
				 char text[static BEARER_TEXT]);
