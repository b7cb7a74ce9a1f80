/* SPDX-License-Identifier: Apache-2.0 */
/* Bridges, re-applying, and the jobs that both are: started, shown, waited for. */
#include <stdio.h>
#include <string.h>

#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/table.h"
#include "cli/loopbackctl/waiting.h"
#include "cli/loopbackctl/words.h"

#define WAIT_DEFAULT_S 600 /* longer than the control plane waits for a host that is there */

static const struct column job_columns[] = {
	{ "KIND", "kind", AS_TEXT },   { "OF", "label", AS_TEXT },	    { "STATE", "state", AS_TEXT },     { "DONE", "done", AS_NUMBER },
	{ "HOSTS", "total", AS_NUMBER }, { "OUTSTANDING", "outstanding", AS_NAMES }, { "STARTED", "created", AS_AGO }, { "ERROR", "error", AS_TEXT },
	{ "ID", "id", AS_TEXT },
};
static const struct listing jobs = { job_columns, ARRAY_SIZE(job_columns), NULL, "No jobs." };

static const struct column job_details[] = {
	{ "Kind", "kind", AS_TEXT },
	{ "Of", "label", AS_TEXT },
	{ "State", "state", AS_TEXT },
	{ "Hosts", "total", AS_NUMBER },
	{ "Acknowledged", "done", AS_NUMBER },
	{ "Outstanding", "outstanding_count", AS_NUMBER },
	{ "Namely", "outstanding", AS_NAMES },
	{ "Error", "error", AS_TEXT },
	{ "Attempts", "attempts", AS_NUMBER },
	{ "Started", "created", AS_TIME },
	{ "Ended", "finished", AS_TIME },
	{ "Id", "id", AS_TEXT },
};
static const struct listing job = { .columns = job_details, .count = ARRAY_SIZE(job_details) };

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* -- Waiting --------------------------------------------------------------------------------------------------------- */

static void progress(const json_t *state, char line[static PROGRESS_BYTES])
{
	const json_t *first = json_array_get(json_object_get(state, "outstanding"), 0);
	const char *error = text_of(state, "error");
	char clean[256];

	if (strcmp(text_of(state, "state"), "waiting") == 0)
		(void)snprintf(line, PROGRESS_BYTES, "%s: not signed yet%s%s", text_of(state, "kind"), error[0] ? ": " : "",
			       cli_clean(clean, sizeof(clean), error, strlen(error)));
	else
		(void)snprintf(line, PROGRESS_BYTES,
			       "%s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " hosts have acknowledged%s%s%s%s", text_of(state, "kind"),
			       number_of(state, "done"), number_of(state, "total"), first ? "; waiting for " : "", text_of(first, "name"),
			       first ? ", which is " : "", text_of(first, "state"));
}

static bool over(const json_t *state)
{
	return strcmp(text_of(state, "state"), "done") == 0 || strcmp(text_of(state, "state"), "failed") == 0;
}

/* Until it is over. *state is what was last heard. */
static int wait_over(struct cli *cli, uint64_t seconds, json_t **state)
{
	char path[API_PATH_MAX], line[PROGRESS_BYTES];
	int r = api_path(cli, path, "jobs", text_of(*state, "id"), NULL);

	if (!r)
		r = waiting_until(cli, path, seconds, over, progress, state);
	if (r == CLI_REFUSED && !over(*state))
		return cli_fail(&cli->voice, CLI_REFUSED, "not-over", "job %s is not over yet; it goes on: loopbackctl job show", text_of(*state, "id"));
	if (!r) {
		progress(*state, line);
		cli_note(&cli->voice, "%s", line);
	}
	return r;
}

static int wait_read(struct cli *cli, const struct cli_args *args, uint64_t *seconds)
{
	return waiting_read(cli, args, WAIT_DEFAULT_S, seconds);
}

/* A job that failed fails the command; hosts that are away do not. */
static int verdict(struct cli *cli, const json_t *state)
{
	json_int_t away = number_of(state, "outstanding_count");

	if (strcmp(text_of(state, "state"), "failed") == 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "job-failed", "%s of %s failed: %s", text_of(state, "kind"), text_of(state, "label"),
				text_of(state, "error"));
	if (over(state) && away > 0)
		cli_note(&cli->voice, "Done; %" JSON_INTEGER_FORMAT " hosts are outstanding and follow when they return.", away);
	return CLI_OK;
}

/* What a call that starts a job ends with: wait, if that was asked for, and show the job. */
static int job_started(struct cli *cli, const struct cli_args *args, json_t *started)
{
	_cleanup_json_ json_t *state = json_incref(started);
	uint64_t seconds;
	int r = wait_read(cli, args, &seconds);

	if (!r && cli_has(args, "wait"))
		r = wait_over(cli, seconds, &state);
	if (!r)
		r = print_object(cli, state, &job);
	return r ? r : verdict(cli, state);
}

/* -- Jobs ---------------------------------------------------------------------------------------------------------------- */

int job_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *items = NULL;
	int r = api_list(cli, "/v1/jobs", &items);

	(void)args;
	return r ? r : print_list(cli, items, &jobs);
}

static int job_read(struct cli *cli, const char *id, json_t **state)
{
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "jobs", id, NULL);

	return r ? r : api_call(cli, "GET", path, NULL, state);
}

int job_show(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *state = NULL;
	int r = job_read(cli, args->words[0], &state);

	return r ? r : print_object(cli, state, &job);
}

int job_wait(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *state = NULL;
	uint64_t seconds;
	int r = wait_read(cli, args, &seconds);

	if (!r)
		r = job_read(cli, args->words[0], &state);
	if (!r)
		r = wait_over(cli, seconds, &state);
	if (!r)
		r = print_object(cli, state, &job);
	return r ? r : verdict(cli, state);
}

/* -- Re-applying ------------------------------------------------------------------------------------------------------ */

static int reapply(struct cli *cli, const struct cli_args *args, const char *objects)
{
	_cleanup_json_ json_t *started = NULL;
	char path[API_PATH_MAX];
	uint64_t seconds;
	int r = wait_read(cli, args, &seconds);

	if (!r)
		r = api_path(cli, path, objects, args->words[0], "reapply", NULL);
	if (!r)
		r = api_call(cli, "POST", path, NULL, &started);
	return r ? r : job_started(cli, args, started);
}

int host_reapply(struct cli *cli, const struct cli_args *args)
{
	return reapply(cli, args, "hosts");
}

int network_reapply(struct cli *cli, const struct cli_args *args)
{
	return reapply(cli, args, "networks");
}

/* -- Keys ------------------------------------------------------------------------------------------------------------- */

static int rotate(struct cli *cli, const struct cli_args *args, const char *objects, const char *verb)
{
	_cleanup_json_ json_t *started = NULL, *body = json_object();
	char path[API_PATH_MAX];
	uint64_t seconds, deadline = 0;
	int r = wait_read(cli, args, &seconds);

	if (!r && cli_has(args, "deadline"))
		r = duration_parse(&cli->voice, "deadline", cli_value(args, "deadline"), &deadline);
	if (!r && deadline)
		(void)json_object_set_new(body, "deadline_s", json_integer((json_int_t)deadline));
	if (!r && cli_has(args, "assigned"))
		(void)json_object_set_new(body, "assigned", json_true());
	if (!r)
		r = api_path(cli, path, objects, args->words[0], verb, NULL);
	if (!r)
		r = api_call(cli, "POST", path, body, &started);
	return r ? r : job_started(cli, args, started);
}

int host_rotate_key(struct cli *cli, const struct cli_args *args)
{
	return rotate(cli, args, "hosts", "rotate-key");
}

int network_rotate_keys(struct cli *cli, const struct cli_args *args)
{
	return rotate(cli, args, "networks", "rotate-keys");
}

/* -- Bridges ------------------------------------------------------------------------------------------------------------- */

static const struct column bridge_columns[] = {
	{ "NETWORKS", "networks", AS_NAMES },	{ "STATE", "state", AS_TEXT },	      { "ACKNOWLEDGED", "job.done", AS_NUMBER },
	{ "HOSTS", "job.total", AS_NUMBER },	{ "SINCE", "created", AS_AGO },	      { "ORGANIZATION", "organization", AS_TEXT },
	{ "ID", "id", AS_TEXT },
};
static const struct naming bridge_namings[] = { { "organization", "/v1/organizations" }, { NULL, NULL } };
static const struct listing bridges = { bridge_columns, ARRAY_SIZE(bridge_columns), bridge_namings, "No bridges." };

int bridge_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *items = NULL;
	int r = api_list(cli, "/v1/bridges", &items);

	(void)args;
	return r ? r : print_list(cli, items, &bridges);
}

int bridge_show(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *bridge = NULL;
	char path[API_PATH_MAX];
	int r = api_path(cli, path, "bridges", args->words[0], NULL);

	if (!r)
		r = api_call(cli, "GET", path, NULL, &bridge);
	return r ? r : print_object(cli, bridge, &bridges);
}

/* Without --wait the bridge is shown, with it the end of its job. */
static int bridge_changed(struct cli *cli, const struct cli_args *args, json_t *bridge)
{
	if (cli_has(args, "wait"))
		return job_started(cli, args, json_object_get(bridge, "job"));
	return print_object(cli, bridge, &bridges);
}

int bridge_create(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = json_pack("{s:[s, s]}", "networks", args->words[0], args->words[1]);
	_cleanup_json_ json_t *bridge = NULL;
	uint64_t seconds;
	int r = wait_read(cli, args, &seconds);

	if (!r && !body)
		r = cli_fail(&cli->voice, CLI_USAGE, "usage", "NETWORK: that is not UTF-8");
	if (!r)
		r = api_call(cli, "POST", "/v1/bridges", body, &bridge);
	return r ? r : bridge_changed(cli, args, bridge);
}

int bridge_delete(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *bridge = NULL;
	char path[API_PATH_MAX];
	uint64_t seconds;
	int r = wait_read(cli, args, &seconds);

	if (!r)
		r = api_path(cli, path, "bridges", args->words[0], NULL);
	if (!r)
		r = api_call(cli, "DELETE", path, NULL, &bridge);
	return r ? r : bridge_changed(cli, args, bridge);
}
