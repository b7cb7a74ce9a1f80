/* SPDX-License-Identifier: Apache-2.0 */
/* Organizations, workspaces, networks, hosts: what the API says of them, in columns. */
#include <string.h>

#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/lists.h"
#include "cli/loopbackctl/table.h"
#include "cli/loopbackctl/words.h"
#include "libdoc/network.h"

static int list(struct cli *cli, const char *path, const struct listing *listing)
{
	_cleanup_json_ json_t *items = NULL;
	int r = api_list(cli, path, &items);

	return r ? r : print_list(cli, items, listing);
}

/* Call and show the object that comes back. */
static int call_and_show(struct cli *cli, const char *method, const char *path, const json_t *body, const struct listing *listing)
{
	_cleanup_json_ json_t *answer = NULL;
	int r = api_call(cli, method, path, body, &answer);

	return r ? r : print_object(cli, answer, listing);
}

/* Add an option's value to a body, if it was given. */
static int put_text(struct cli *cli, json_t *body, const char *key, const char *value)
{
	if (value && json_object_set_new(body, key, json_string(value)) < 0)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "--%s: that is not UTF-8", key);
	return CLI_OK;
}

static int put_number(struct cli *cli, json_t *body, const char *key, const char *text, uint64_t min, uint64_t max)
{
	uint64_t number;
	int r;

	if (!text)
		return CLI_OK;
	r = number_parse(&cli->voice, key, text, min, max, &number);
	if (!r && json_object_set_new(body, key, json_integer((json_int_t)number)) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	return r;
}

/* -- Organizations and workspaces. ------------------------------------------------------------------------------- */

static const struct column organization_columns[] = { { "NAME", "name", AS_TEXT }, { "ID", "id", AS_TEXT } };
static const struct listing organizations = { organization_columns, ARRAY_SIZE(organization_columns), NULL, "No organizations." };

static const struct column workspace_columns[] = { { "NAME", "name", AS_TEXT },
						   { "ORGANIZATION", "organization", AS_TEXT },
						   { "ID", "id", AS_TEXT } };
static const struct naming workspace_namings[] = { { "organization", "/v1/organizations" }, { NULL, NULL } };
static const struct listing workspaces = { workspace_columns, ARRAY_SIZE(workspace_columns), workspace_namings,
					   "No workspaces." };

int organization_list(struct cli *cli, const struct cli_args *args)
{
	(void)args;
	return list(cli, "/v1/organizations", &organizations);
}

int organization_create(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_object();
	int r = put_text(cli, body, "name", args->words[0]);

	return r ? r : call_and_show(cli, "POST", "/v1/organizations", body, &organizations);
}

int workspace_list(struct cli *cli, const struct cli_args *args)
{
	(void)args;
	return list(cli, "/v1/workspaces", &workspaces);
}

int workspace_create(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_object();
	int r = put_text(cli, body, "name", args->words[0]);

	if (!r)
		r = put_text(cli, body, "organization", cli_value(args, "organization"));
	return r ? r : call_and_show(cli, "POST", "/v1/workspaces", body, &workspaces);
}

/* -- Networks. --------------------------------------------------------------------------------------------------- */

static const struct column network_columns[] = {
	{ "NAME", "name", AS_TEXT },
	{ "CIDRS", "cidrs", AS_LIST },
	{ "HOSTS", "hosts", AS_NUMBER },
	{ "BRIDGED WITH", "bridges", AS_NAMES },
	{ "GENERATION", "generation", AS_NUMBER },
	{ "MTU", "mtu", AS_NUMBER },
	{ "KEEPALIVE", "keepalive", AS_NUMBER },
	{ "LOCKED", "locked", AS_YES },
	{ "AWAITING", "awaiting_admission", AS_NUMBER },
	{ "ORGANIZATION", "organization", AS_TEXT },
	{ "WORKSPACE", "workspace", AS_TEXT },
	{ "ID", "id", AS_TEXT },
};
static const struct naming network_namings[] = { { "organization", "/v1/organizations" },
						 { "workspace", "/v1/workspaces" },
						 { NULL, NULL } };
static const struct listing networks = { network_columns, ARRAY_SIZE(network_columns), network_namings, "No networks." };

int network_list(struct cli *cli, const struct cli_args *args)
{
	(void)args;
	return list(cli, "/v1/networks", &networks);
}

/* The ranges of an option that repeats. */
static int put_ranges(struct cli *cli, const struct cli_args *args, const char *option, json_t *body, const char *key)
{
	json_t *cidrs = json_array();
	const char *cidr;
	unsigned at = 0;

	if (json_object_set_new(body, key, cidrs) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	while ((cidr = cli_next(args, option, &at))) {
		struct prefix prefix;

		if (prefix_parse(cidr, &prefix) < 0)
			return cli_fail(&cli->voice, CLI_USAGE, "usage",
					"--%s %s: expected a range such as 100.64.0.0/16 or fd00:1::/64, with no bits "
					"set beyond its length",
					option, cidr);
		if (json_array_append_new(cidrs, json_string(cidr)) < 0)
			return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	}
	return CLI_OK;
}

static int network_body(struct cli *cli, const struct cli_args *args, json_t *body)
{
	int r = put_ranges(cli, args, "cidr", body, "cidrs");

	if (r)
		return r;
	if (cli_has(args, "workspace") == cli_has(args, "organization"))
		return cli_fail(&cli->voice, CLI_USAGE, "usage",
				"whose network is it? Give either --workspace or --organization");
	r = put_text(cli, body, "name", args->words[0]);
	if (!r)
		r = put_text(cli, body, "workspace", cli_value(args, "workspace"));
	if (!r)
		r = put_text(cli, body, "organization", cli_value(args, "organization"));
	if (!r)
		r = put_number(cli, body, "mtu", cli_value(args, "mtu"), MTU_MIN, MTU_MAX);
	return r ? r : put_number(cli, body, "keepalive", cli_value(args, "keepalive"), 0, KEEPALIVE_MAX);
}

int network_create(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_object();
	int r = network_body(cli, args, body);

	return r ? r : call_and_show(cli, "POST", "/v1/networks", body, &networks);
}

int network_set(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_object();
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "networks", args->words[0], NULL);

	if (!r)
		r = put_number(cli, body, "mtu", cli_value(args, "mtu"), MTU_MIN, MTU_MAX);
	if (!r)
		r = put_number(cli, body, "keepalive", cli_value(args, "keepalive"), 0, KEEPALIVE_MAX);
	if (!r && cli_has(args, "add-cidr"))
		r = put_ranges(cli, args, "add-cidr", body, "add_cidrs");
	if (!r && json_object_size(body) == 0)
		r = cli_fail(&cli->voice, CLI_USAGE, "usage", "nothing to set: give --mtu, --keepalive or --add-cidr");
	return r ? r : call_and_show(cli, "PATCH", path, body, &networks);
}

int network_show(struct cli *cli, const struct cli_args *args)
{
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "networks", args->words[0], NULL);

	return r ? r : call_and_show(cli, "GET", path, NULL, &networks);
}

int network_delete(struct cli *cli, const struct cli_args *args)
{
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "networks", args->words[0], NULL);

	if (!r)
		r = api_call(cli, "DELETE", path, NULL, NULL);
	if (!r)
		cli_note(&cli->voice, "Network '%s' is deleted.", args->words[0]);
	return r;
}

/* -- Hosts. ------------------------------------------------------------------------------------------------------ */

static const struct column host_columns[] = {
	{ "NAME", "name", AS_TEXT },
	{ "STATE", "state", AS_TEXT },
	{ "ADDRESSES", "networks", AS_ADDRESSES },
	{ "NETWORKS", "networks", AS_NAMES },
	{ "WORKSPACE", "workspace", AS_TEXT },
	{ "LAST POLL", "last_poll", AS_AGO },
	{ "LAST RESULT", "receipt.outcome", AS_TEXT },
	{ "ID", "id", AS_TEXT },
	{ "REASON", "state_reason", AS_TEXT },
};

static const struct column host_details[] = {
	{ "Name", "name", AS_TEXT },
	{ "Id", "id", AS_TEXT },
	{ "Workspace", "workspace", AS_TEXT },
	{ "State", "state", AS_TEXT },
	{ "Because", "state_reason", AS_TEXT },
	{ "Since", "state_since", AS_TIME },
	{ "Networks", "networks", AS_NAMES },
	{ "Addresses", "networks", AS_ADDRESSES },
	{ "Endpoint", "endpoint", AS_TEXT },
	{ "Seen address", "seen_address", AS_TEXT },
	{ "Key", "public_key", AS_TEXT },
	{ "Made by", "key_made_by", AS_TEXT },
	{ "Backend", "backend", AS_TEXT },
	{ "Agent version", "agent_version", AS_TEXT },
	{ "Last poll", "last_poll", AS_AGO },
	{ "Last result", "receipt.outcome", AS_TEXT },
	{ "Code", "receipt.code", AS_TEXT },
	{ "Reason", "receipt.reason", AS_TEXT },
	{ "At", "receipt.at", AS_TIME },
	{ "Confirm", "receipt.confirm", AS_TEXT },
	{ "Drift mended", "drift.mended", AS_NUMBER },
	{ "Last drift", "drift.at", AS_TIME },
	{ "First machine", "duplicate.first_address", AS_TEXT },
	{ "Its last poll", "duplicate.first_poll", AS_TIME },
	{ "Second machine", "duplicate.second_address", AS_TEXT },
	{ "Its last poll ", "duplicate.second_poll", AS_TIME },
};

static const struct naming host_namings[] = { { "workspace", "/v1/workspaces" }, { NULL, NULL } };
static const struct listing hosts = { host_columns, ARRAY_SIZE(host_columns), host_namings, "No hosts." };
static const struct listing host = { .columns = host_details, .count = ARRAY_SIZE(host_details), .namings = host_namings };

int host_list(struct cli *cli, const struct cli_args *args)
{
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "hosts", NULL);

	if (!r)
		r = api_query(cli, path, "workspace", cli_value(args, "workspace"));
	if (!r)
		r = api_query(cli, path, "network", cli_value(args, "network"));
	return r ? r : list(cli, path, &hosts);
}

int host_show(struct cli *cli, const struct cli_args *args)
{
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "hosts", args->words[0], NULL);

	return r ? r : call_and_show(cli, "GET", path, NULL, &host);
}

int host_join(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_object();
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "hosts", args->words[0], "networks", NULL);

	if (!r)
		r = put_text(cli, body, "network", args->words[1]);
	return r ? r : call_and_show(cli, "POST", path, body, &host);
}

/* A change after which the host is shown as it stands then; answers without content are asked for again. */
static int change_and_show(struct cli *cli, const char *method, const char *path, const json_t *body, const struct cli_args *args)
{
	_cleanup_json_ json_t *answer = NULL;
	int r = api_call(cli, method, path, body, &answer);

	if (r)
		return r;
	if (!json_object_get(answer, "id"))
		return host_show(cli, args);
	return print_object(cli, answer, &host);
}

int host_leave(struct cli *cli, const struct cli_args *args)
{
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "hosts", args->words[0], "networks", args->words[1], NULL);

	return r ? r : change_and_show(cli, "DELETE", path, NULL, args);
}

int host_retire(struct cli *cli, const struct cli_args *args)
{
	char path[API_PATH_MAX];
	_cleanup_json_ json_t *answer = NULL;
	int r = api_path(cli, path, "hosts", args->words[0], "retire", NULL);

	if (!r)
		r = api_call(cli, "POST", path, NULL, &answer);
	if (r)
		return r;
	lists_remind(cli, json_string_value(json_object_get(answer, "id")));
	return print_object(cli, answer, &host);
}

int host_endpoint(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_object();
	const char *text = args->count > 1 ? args->words[1] : NULL;
	struct endpoint endpoint;
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "hosts", args->words[0], "endpoint", NULL);

	if (r)
		return r;
	if (cli_has(args, "clear") == (text != NULL))
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "give either ADDRESS:PORT or --clear");
	if (text && endpoint_parse(text, &endpoint) < 0)
		return cli_fail(&cli->voice, CLI_USAGE, "usage",
				"'%s' is not an endpoint: expected 192.0.2.1:51820 or [2001:db8::1]:51820", text);
	if (json_object_set_new(body, "endpoint", text ? json_string(text) : json_null()) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	return change_and_show(cli, "PUT", path, body, args);
}

/* -- The control plane itself. ----------------------------------------------------------------------------------- */

int version_show(struct cli *cli, const struct cli_args *args)
{
	static const struct column columns[] = {
		{ "Control plane", "version", AS_TEXT },
		{ "Deployment", "name", AS_TEXT },
		{ "Deployment id", "deployment", AS_TEXT },
	};
	static const struct listing listing = { .columns = columns, .count = ARRAY_SIZE(columns) };

	(void)args;
	return call_and_show(cli, "GET", "/v1/version", NULL, &listing);
}

int audit_list(struct cli *cli, const struct cli_args *args)
{
	static const struct column columns[] = {
		{ "NUMBER", "id", AS_TEXT }, { "AT", "at", AS_TIME },         { "WHO", "who", AS_TEXT },
		{ "WHAT", "what", AS_TEXT }, { "OBJECT", "object", AS_TEXT }, { "DETAIL", "detail", AS_TEXT },
	};
	static const struct listing listing = { columns, ARRAY_SIZE(columns), NULL, "Nothing was changed yet." };

	(void)args;
	return list(cli, "/v1/audit", &listing);
}
