/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens, by which hosts enrol, and credentials, by which operators and machines call. Their secrets are shown once. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "cli/common/file.h"
#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/context.h"
#include "cli/loopbackctl/table.h"
#include "cli/loopbackctl/words.h"

#define SECRET_BYTES_MAX 512
#define TTL_MAX_S (366ull * 86400)

/* Give a secret to its owner: into a new file of mode 0600, or on stdout; with --json within the object, unless it has a file. */
static int hand_over(struct cli *cli, const struct cli_args *args, json_t *object, const char *key, const char *secret)
{
	const char *path = cli_value(args, "out");
	char line[SECRET_BYTES_MAX + 2];
	int r;

	if (!path && cli->voice.json)
		return print_json(cli, object);
	if (!path) {
		(void)printf("%s\n", secret);
		return CLI_OK;
	}
	(void)snprintf(line, sizeof(line), "%s\n", secret);
	r = file_create(path, line, strlen(line), 0600);
	sodium_memzero(line, sizeof(line));
	if (r < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "file",
				"cannot write %s: %s. The %s was made and is lost now; revoke it: loopbackctl %s "
				"revoke %s",
				path, strerror(-r), key, key, json_string_value(json_object_get(object, "id")));
	(void)json_object_del(object, key);
	return cli->voice.json ? print_json(cli, object) : CLI_OK;
}

/* A list option as an array of strings. */
static int put_list(struct cli *cli, json_t *body, const char *key, const struct cli_args *args, const char *option)
{
	json_t *array = json_array();
	const char *value;
	unsigned at = 0;

	if (json_object_set_new(body, key, array) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	while ((value = cli_next(args, option, &at)))
		if (json_array_append_new(array, json_string(value)) < 0)
			return cli_fail(&cli->voice, CLI_USAGE, "usage", "--%s: that is not UTF-8", option);
	return CLI_OK;
}

static int put_description(struct cli *cli, json_t *body, const struct cli_args *args)
{
	const char *description = cli_value(args, "description");

	if (description && json_object_set_new(body, "description", json_string(description)) < 0)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "--description: that is not UTF-8");
	return CLI_OK;
}

/* -- Tokens. ----------------------------------------------------------------------------------------------------- */

int token_list(struct cli *cli, const struct cli_args *args)
{
	static const struct column columns[] = {
		{ "ID", "id", AS_TEXT },
		{ "WORKSPACE", "workspace", AS_TEXT },
		{ "NETWORKS", "networks", AS_LIST },
		{ "EXPIRES", "expires", AS_TIME },
		{ "ONCE", "once", AS_YES },
		{ "USES", "uses", AS_NUMBER },
		{ "LAST USE", "used", AS_AGO },
		{ "REVOKED", "revoked", AS_AGO },
		{ "DESCRIPTION", "description", AS_TEXT },
	};
	static const struct naming namings[] = { { "workspace", "/v1/workspaces" },
						 { "networks", "/v1/networks" },
						 { NULL, NULL } };
	static const struct listing listing = { columns, ARRAY_SIZE(columns), namings, "No tokens." };
	_cleanup_json_ json_t *items = NULL;
	int r = api_list(cli, "/v1/tokens", &items);

	(void)args;
	return r ? r : print_list(cli, items, &listing);
}

static int token_body(struct cli *cli, const struct cli_args *args, json_t *body)
{
	uint64_t ttl = 3600;
	int r = CLI_OK;

	if (cli_has(args, "ttl"))
		r = duration_parse(&cli->voice, "ttl", cli_value(args, "ttl"), &ttl);
	if (!r && (ttl == 0 || ttl > TTL_MAX_S))
		r = cli_fail(&cli->voice, CLI_USAGE, "usage", "--ttl %s: a token lives between a second and 366 days",
			     cli_value(args, "ttl"));
	if (!r)
		r = put_list(cli, body, "networks", args, "network");
	if (!r)
		r = put_description(cli, body, args);
	if (!r && (json_object_set_new(body, "workspace", json_string(cli_value(args, "workspace"))) < 0 ||
		   json_object_set_new(body, "ttl", json_integer((json_int_t)ttl)) < 0 ||
		   json_object_set_new(body, "once", json_boolean(cli_has(args, "once"))) < 0))
		r = cli_fail(&cli->voice, CLI_USAGE, "usage", "--workspace: that is not UTF-8");
	return r;
}

int token_create(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_object();
	_cleanup_json_ json_t *answer = NULL;
	char token[SECRET_BYTES_MAX], hex[2 * KEY_BYTES + 1];
	struct context context;
	const char *half;
	int n, r = context_get(cli, &context);

	if (r)
		return r;
	/* Hosts believe the root that their token names. So it comes from the operator's own file, or there is no token: a
	 * control plane that could name it could name another. */
	if (!context.has_root)
		return cli_fail(&cli->voice, CLI_REFUSED, "no-root",
				"context '%s' has no root public key, which every token carries, and the "
				"control plane is not asked for it. Get root.pub from whoever keeps the root key, then: "
				"loopbackctl context set %s "
				"--root-pub FILE",
				context.name, context.name);
	r = token_body(cli, args, body);
	if (!r)
		r = api_call(cli, "POST", "/v1/tokens", body, &answer);
	if (r)
		return r;
	half = json_string_value(json_object_get(answer, "token"));
	n = half ? snprintf(token, sizeof(token), "%s.%s", half, hex_format(context.root, KEY_BYTES, hex)) : -1;
	if (n < 0 || (size_t)n >= sizeof(token) || json_object_set_new(answer, "token", json_string(token)) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "answer", "the control plane answered without a token");
	r = hand_over(cli, args, answer, "token", token);
	sodium_memzero(token, sizeof(token));
	return r;
}

static int revoke_secret(struct cli *cli, const char *collection, const char *what, const char *id)
{
	char path[API_PATH_MAX];
	int r = api_path(cli, path, collection, id, "revoke", NULL);

	if (!r)
		r = api_call(cli, "POST", path, NULL, NULL);
	if (!r)
		cli_note(&cli->voice, "%s %s is revoked.", what, id);
	return r;
}

int token_revoke(struct cli *cli, const struct cli_args *args)
{
	return revoke_secret(cli, "tokens", "Token", args->words[0]);
}

/* -- Credentials. ------------------------------------------------------------------------------------------------ */

int credential_list(struct cli *cli, const struct cli_args *args)
{
	static const struct column columns[] = {
		{ "ID", "id", AS_TEXT },          { "PERMISSIONS", "permissions", AS_LIST }, { "CREATED", "created", AS_TIME },
		{ "REVOKED", "revoked", AS_AGO }, { "DESCRIPTION", "description", AS_TEXT },
	};
	static const struct listing listing = { columns, ARRAY_SIZE(columns), NULL, "No credentials." };
	_cleanup_json_ json_t *items = NULL;
	int r = api_list(cli, "/v1/credentials", &items);

	(void)args;
	return r ? r : print_list(cli, items, &listing);
}

int credential_create(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_object();
	_cleanup_json_ json_t *answer = NULL;
	const char *secret;
	int r = put_list(cli, body, "permissions", args, "permission");

	if (!r)
		r = put_description(cli, body, args);
	if (!r)
		r = api_call(cli, "POST", "/v1/credentials", body, &answer);
	if (r)
		return r;
	secret = json_string_value(json_object_get(answer, "credential"));
	if (!secret || strlen(secret) > SECRET_BYTES_MAX)
		return cli_fail(&cli->voice, CLI_REFUSED, "answer", "the control plane answered without a credential");
	return hand_over(cli, args, answer, "credential", secret);
}

int credential_revoke(struct cli *cli, const struct cli_args *args)
{
	return revoke_secret(cli, "credentials", "Credential", args->words[0]);
}
