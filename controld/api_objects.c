/* SPDX-License-Identifier: Apache-2.0 */
/* Version, organizations, workspaces, the keyset, the audit log. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "controld/call.h"
#include "controld/polls.h"
#include "controld/reconcile.h"
#include "libipc/log.h"

int version_get(struct call *call)
{
	char id[ID_TEXT];

	call->answer = json_pack("{s:s, s:s, s:s}", "version", LOOPBACK_VERSION, "deployment",
				 id_format(&call->controld->keyset.header.deployment, id), "name", call->controld->keyset.name);
	return call->answer ? 0 : -ENOMEM;
}

static json_t *organization_item(_unused_ struct call *call, const struct rows *rows)
{
	return json_pack("{s:s, s:s, s:I}", "id", row_text(rows, 0), "name", row_text(rows, 1), "created", (json_int_t)row_i64(rows, 2));
}

int organizations_list(struct call *call)
{
	return list_plain(call, "SELECT id, name, created FROM organizations WHERE id > $1 ORDER BY id LIMIT $2", organization_item);
}

int organization_create(struct call *call)
{
	const char *name = NULL;
	const struct json_field fields[] = { { "name", JSON_NAME, true, &name, 0, 0 } };
	struct id id;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r < 0)
		return r;
	randombytes_buf(id.b, sizeof(id.b));
	r = store_exec(call->controld->store, "INSERT INTO organizations (id, name, created) VALUES ($1, $2, $3)", "dti", &id, name, now_ms());
	if (r == -EEXIST)
		return call_problem(call, 409, "exists", "There is an organization \"%s\" already.", name);
	if (r < 0)
		return r;
	call_object(call, &id);
	call->status = 201;
	call->answer = json_pack("{s:s, s:s}", "id", call->object, "name", name);
	return call->answer ? 0 : -ENOMEM;
}

static json_t *workspace_item(_unused_ struct call *call, const struct rows *rows)
{
	return json_pack("{s:s, s:s, s:s, s:I}", "id", row_text(rows, 0), "name", row_text(rows, 1), "organization", row_text(rows, 2), "created",
			 (json_int_t)row_i64(rows, 3));
}

int workspaces_list(struct call *call)
{
	return list_plain(call, "SELECT id, name, organization, created FROM workspaces WHERE id > $1 ORDER BY id LIMIT $2", workspace_item);
}

int workspace_create(struct call *call)
{
	const char *name = NULL, *organization = NULL;
	const struct json_field fields[] = { { "name", JSON_NAME, true, &name, 0, 0 },
					     { "organization", JSON_TEXT, true, &organization, 1, NAME_BYTES_MAX } };
	char text[ID_TEXT];
	struct id id, parent;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r == 0)
		r = resolve(call, OBJECT_ORGANIZATION, organization, &parent);
	if (r < 0)
		return r;
	randombytes_buf(id.b, sizeof(id.b));
	r = store_exec(call->controld->store, "INSERT INTO workspaces (id, organization, name, created) VALUES ($1, $2, $3, $4)", "ddti", &id,
		       &parent, name, now_ms());
	if (r == -EEXIST)
		return call_problem(call, 409, "exists", "There is a workspace \"%s\" in this organization already.", name);
	if (r < 0)
		return r;
	call_object(call, &id);
	call->status = 201;
	call->answer = json_pack("{s:s, s:s, s:s}", "id", call->object, "name", name, "organization", id_format(&parent, text));
	return call->answer ? 0 : -ENOMEM;
}

/* -- The keyset -------------------------------------------------------------------------------------------------------------------- */

static int keyset_answer(struct call *call, const struct keyset *keyset, struct view bytes)
{
	size_t room = sodium_base64_encoded_len(bytes.n, sodium_base64_VARIANT_ORIGINAL);
	char *text = malloc(room);

	if (!text)
		return -ENOMEM;
	(void)sodium_bin2base64(text, room, bytes.p, bytes.n, sodium_base64_VARIANT_ORIGINAL);
	call->answer = json_pack("{s:s, s:I, s:I, s:s}", "name", keyset->name, "epoch", (json_int_t)keyset->header.epoch, "generation",
				 (json_int_t)keyset->header.generation, "envelope", text);
	free(text);
	return call->answer ? 0 : -ENOMEM;
}

int keyset_get(struct call *call)
{
	return keyset_answer(call, &call->controld->keyset, (struct view){ call->controld->keyset_bytes, call->controld->keyset_n });
}

static int keyset_check(struct call *call, struct view bytes, struct keyset *keyset)
{
	const struct keyset *now = &call->controld->keyset;
	int r = keyset_open(bytes.p, bytes.n, now->root, keyset);

	if (r == -EKEYREJECTED)
		return call_problem(call, 403, "wrong-root", "The keyset is not signed by the root key of this deployment.");
	if (r < 0)
		return call_problem(call, 400, "malformed", "\"envelope\": this is no keyset.");
	if (!id_equal(&keyset->header.deployment, &now->header.deployment))
		return call_problem(call, 409, "other-deployment", "The keyset is of another deployment.");
	if (!document_newer(&keyset->header, &now->header))
		return call_problem(call, 409, "not-newer", "The keyset has epoch %u and generation %llu, the one in force %u and %llu.",
				    keyset->header.epoch, (unsigned long long)keyset->header.generation, now->header.epoch,
				    (unsigned long long)now->header.generation);
	return 0;
}

static void keyset_committed(struct controld *controld)
{
	if (controld_keyset_load(controld) < 0)
		return; /* the one before goes on until the next start; the log says why */
	reconcile_soon(controld); /* of a new epoch, every document is signed anew */
	polls_wake_all(controld);
}

int keyset_put(struct call *call)
{
	const char *text = NULL;
	const struct json_field fields[] = { { "envelope", JSON_TEXT, true, &text, 4, 2 * ENVELOPE_BYTES_MAX } };
	uint8_t bytes[ENVELOPE_BYTES_MAX];
	struct sign_refusal refusal = { 0 };
	struct keyset keyset;
	size_t n = 0;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r < 0)
		return r;
	if (sodium_base642bin(bytes, sizeof(bytes), text, strlen(text), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
		return call_problem(call, 400, "malformed", "\"envelope\": expected base64 of at most %d bytes.", ENVELOPE_BYTES_MAX);
	r = keyset_check(call, (struct view){ bytes, n }, &keyset);
	if (r < 0)
		return r;
	/* signd takes it first. Should our own commit fail after that, the same call brings us level: signd knows this keyset then. */
	r = signer_keyset(call->controld->signer, (struct view){ bytes, n }, &refusal);
	if (r == -EPERM)
		return call_problem(call, 409, "signer-refused", "The signer refused: %s", refusal.reason);
	if (r == 0)
		r = store_meta_put(call->controld->store, "keyset", bytes, n);
	if (r < 0)
		return r;
	call->change.committed = keyset_committed;
	return keyset_answer(call, &keyset, (struct view){ bytes, n });
}

/* -- The audit log ------------------------------------------------------------------------------------------------------------------ */

static json_t *audit_item(_unused_ struct call *call, const struct rows *rows)
{
	char id[24];

	(void)snprintf(id, sizeof(id), "%lld", (long long)row_i64(rows, 0));
	return json_pack("{s:s, s:I, s:s, s:s, s:s, s:s}", "id", id, "at", (json_int_t)row_i64(rows, 1), "who", row_text(rows, 2), "what",
			 row_text(rows, 3), "object", row_text(rows, 4), "detail", row_text(rows, 5));
}

int audit_list(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const char *after;
	int64_t limit;
	int r = list_page(call, &limit, &after);

	if (r == 0)
		r = store_query(call->controld->store, &rows,
				"SELECT number, at, who, what, object, detail FROM audit WHERE number > $1 ORDER BY number LIMIT $2", "ii",
				(int64_t)strtoll(after, NULL, 10), limit + 1);
	return r < 0 ? r : list_answer(call, &rows, limit, audit_item);
}
