/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of hosts, credentials of operators. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "controld/call.h"
#include "controld/permissions.h"
#include "controld/secrets.h"

#define TTL_DEFAULT_S 3600
#define TTL_MAX_S (366LL * 24 * 3600)
#define DESCRIPTION_MAX 200

/* -- Tokens ------------------------------------------------------------------------------------------------------------------------ */

static json_t *token_networks(struct store *store, const char *token)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *networks = json_array();
	int r = store_query(store, &rows, "SELECT network FROM token_networks WHERE token = $1 ORDER BY network", "t", token);

	while (r == 0 && (r = rows_next(&rows)) > 0)
		r = json_array_append_new(networks, json_string(row_text(&rows, 0)));
	return networks;
}

static json_t *integer_or_null(const struct rows *rows, int column)
{
	return row_null(rows, column) ? json_null() : json_integer(row_i64(rows, column));
}

static json_t *token_item(struct call *call, const struct rows *rows)
{
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:o, s:o, s:I, s:o}", "id", row_text(rows, 0), "workspace", row_text(rows, 1),
			 "description", row_text(rows, 2), "created", (json_int_t)row_i64(rows, 3), "expires", (json_int_t)row_i64(rows, 4),
			 "once", (int)row_i64(rows, 5), "revoked", integer_or_null(rows, 6), "used", integer_or_null(rows, 7), "uses",
			 (json_int_t)row_i64(rows, 8), "networks", token_networks(call->controld->store, row_text(rows, 0)));
}

int tokens_list(struct call *call)
{
	return list_plain(call,
			  "SELECT id, workspace, description, created, expires, once, revoked, used, uses FROM tokens"
			  " WHERE id > $1 ORDER BY id LIMIT $2",
			  token_item);
}

/* A token may name only networks that its workspace's hosts may join. */
static int token_network_add(struct call *call, const struct id *token, const struct id *workspace, const char *name)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct id network;
	int r = resolve(call, OBJECT_NETWORK, name, &network);

	if (r < 0)
		return r;
	r = store_first(call->controld->store, &rows,
			"SELECT 1 FROM networks n JOIN workspaces w ON w.organization = n.organization WHERE n.id = $1 AND w.id = $2"
			" AND (n.workspace IS NULL OR n.workspace = w.id)",
			"dd", &network, workspace);
	if (r == -ENOENT)
		return call_problem(call, 409, "other-scope", "Network \"%s\" is not one that hosts of this workspace may join.", name);
	if (r == 0)
		r = store_exec(call->controld->store,
			       "INSERT INTO token_networks (token, network) VALUES ($1, $2) ON CONFLICT (token, network) DO NOTHING", "dd",
			       token, &network);
	return r < 0 ? r : 0;
}

int token_create(struct call *call)
{
	const char *workspace = NULL, *description = "";
	json_t *networks = NULL, *name;
	int64_t ttl = TTL_DEFAULT_S;
	bool once = false;
	const struct json_field fields[] = { { "workspace", JSON_TEXT, true, &workspace, 1, NAME_BYTES_MAX },
					     { "networks", JSON_TEXTS, false, &networks, 0, NETWORKS_MAX },
					     { "description", JSON_TEXT, false, &description, 0, DESCRIPTION_MAX },
					     { "ttl", JSON_NUMBER, false, &ttl, 1, TTL_MAX_S },
					     { "once", JSON_FLAG, false, &once, 0, 0 } };
	char text[BEARER_TEXT];
	struct id id, parent;
	struct hash hash;
	int64_t expires;
	size_t i;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r == 0)
		r = resolve(call, OBJECT_WORKSPACE, workspace, &parent);
	if (r < 0)
		return r;
	secret_mint(&id, &hash, text);
	expires = now_ms() + ttl * 1000;
	r = store_exec(call->controld->store,
		       "INSERT INTO tokens (id, hash, workspace, description, created, expires, once, uses)"
		       " VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
		       "dhdtiii", &id, &hash, &parent, description, now_ms(), expires, (int64_t)once);
	json_array_foreach(networks, i, name)
		if (r >= 0)
			r = token_network_add(call, &id, &parent, json_string_value(name));
	if (r >= 0) {
		call_object(call, &id);
		call->status = 201;
		call->secret = true;
		call->answer = json_pack("{s:s, s:s, s:s, s:I, s:b, s:o}", "id", call->object, "token", text, "description", description,
					 "expires", (json_int_t)expires, "once", once, "networks",
					 token_networks(call->controld->store, call->object));
		r = call->answer ? 0 : -ENOMEM;
	}
	sodium_memzero(text, sizeof(text));
	return r;
}

int token_revoke(struct call *call)
{
	struct id id;
	int r = resolve(call, OBJECT_TOKEN, call->segments[0], &id);

	if (r == 0)
		r = store_exec(call->controld->store, "UPDATE tokens SET revoked = COALESCE(revoked, $1) WHERE id = $2", "id", now_ms(), &id);
	if (r < 0)
		return r;
	call_object(call, &id);
	return 0;
}

/* -- Credentials ------------------------------------------------------------------------------------------------------------------- */

int credential_make(struct store *store, const char *description, const char *permissions, struct id *id, char text[static BEARER_TEXT])
{
	struct hash hash;
	int r;

	secret_mint(id, &hash, text);
	r = store_exec(store, "INSERT INTO credentials (id, hash, description, permissions, created) VALUES ($1, $2, $3, $4, $5)", "dhtti", id,
		       &hash, description, permissions, now_ms());
	return r < 0 ? r : 0;
}

static json_t *words_array(const char *words)
{
	json_t *array = json_array();

	while (words && *words) {
		size_t n = strcspn(words, " ");

		(void)json_array_append_new(array, json_stringn(words, n));
		words += n + strspn(words + n, " ");
	}
	return array;
}

static json_t *credential_item(_unused_ struct call *call, const struct rows *rows)
{
	return json_pack("{s:s, s:s, s:o, s:I, s:o}", "id", row_text(rows, 0), "description", row_text(rows, 1), "permissions",
			 words_array(row_text(rows, 2)), "created", (json_int_t)row_i64(rows, 3), "revoked", integer_or_null(rows, 4));
}

int credentials_list(struct call *call)
{
	return list_plain(call, "SELECT id, description, permissions, created, revoked FROM credentials WHERE id > $1 ORDER BY id LIMIT $2",
			  credential_item);
}

int credential_create(struct call *call)
{
	const char *description = "";
	json_t *permissions = NULL, *name;
	const struct json_field fields[] = { { "description", JSON_TEXT, false, &description, 0, DESCRIPTION_MAX },
					     { "permissions", JSON_TEXTS, true, &permissions, 1, 16 } };
	char words[512] = "";
	char text[BEARER_TEXT];
	struct id id;
	size_t i;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r < 0)
		return r;
	json_array_foreach(permissions, i, name) {
		size_t at = strlen(words);

		if (!permission_known(json_string_value(name)))
			return call_problem(call, 400, "malformed",
					    "\"permissions\": expected read, networks.write, hosts.write, tokens.list, tokens.mint, tokens.revoke, admin.");
		(void)snprintf(words + at, sizeof(words) - at, "%s%s", at ? " " : "", json_string_value(name));
	}
	r = credential_make(call->controld->store, description, words, &id, text);
	if (r == 0) {
		call_object(call, &id);
		call->status = 201;
		call->secret = true;
		call->answer = json_pack("{s:s, s:s, s:s, s:o}", "id", call->object, "credential", text, "description", description,
					 "permissions", words_array(words));
		r = call->answer ? 0 : -ENOMEM;
	}
	sodium_memzero(text, sizeof(text));
	return r;
}

int credential_revoke(struct call *call)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct id id;
	int r = resolve(call, OBJECT_CREDENTIAL, call->segments[0], &id);

	if (r == 0)
		r = store_exec(call->controld->store, "UPDATE credentials SET revoked = COALESCE(revoked, $1) WHERE id = $2", "id", now_ms(),
			       &id);
	if (r < 0)
		return r;
	/* Nobody could undo it if the last administrator went. */
	r = store_query(call->controld->store, &rows, "SELECT permissions FROM credentials WHERE revoked IS NULL", "");
	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (permission_granted(row_text(&rows, 0), "admin")) {
			call_object(call, &id);
			return 0;
		}
		r = 0;
	}
	return r < 0 ? r : call_problem(call, 409, "last-administrator", "This is the last credential with the permission admin.");
}
