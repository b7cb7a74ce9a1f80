/* SPDX-License-Identifier: Apache-2.0 */
/* A network's status: what is staged and what each host has acknowledged; and waiting until they are the same. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/table.h"
#include "cli/loopbackctl/waiting.h"
#include "cli/loopbackctl/words.h"

#define WAIT_DEFAULT_S 60

static int print_status(struct cli *cli, json_t *status)
{
	static const struct column columns[] = {
		{ "HOST", "name", AS_TEXT },
		{ "ADDRESSES", "addresses", AS_LIST },
		{ "ENDPOINT", "endpoint", AS_TEXT },
		{ "BACKEND", "backend", AS_TEXT },
		{ "ACKNOWLEDGED", "acknowledged_generation", AS_NUMBER },
		{ "WHEN", "acknowledged_at", AS_AGO },
		{ "APPLIED IN", "apply_us", AS_MICRO },
		{ "STATE", "state", AS_TEXT },
		{ "DRIFT", "mended", AS_NUMBER },
		{ "RESULT", "outcome", AS_TEXT },
		{ "REASON", "reason", AS_TEXT },
	};
	static const struct listing listing = { columns, ARRAY_SIZE(columns), NULL, "No host is in it." };
	json_int_t ms = json_integer_value(json_object_get(status, "convergence_ms"));
	char name[256];

	if (cli->voice.json)
		return print_json(cli, status);
	(void)printf("Network %s, generation %" JSON_INTEGER_FORMAT ", ",
		     cli_clean(name, sizeof(name), json_string_value(json_object_get(status, "name")) ?: "?",
			       json_string_length(json_object_get(status, "name"))),
		     json_integer_value(json_object_get(status, "generation")));
	if (!json_is_true(json_object_get(status, "converged")))
		(void)printf("not converged\n\n");
	else if (json_is_integer(json_object_get(status, "convergence_ms")))
		(void)printf("converged in %" JSON_INTEGER_FORMAT " ms\n\n", ms);
	else
		(void)printf("converged\n\n");
	return print_list(cli, json_object_get(status, "hosts"), &listing);
}

/* -- Waiting. ---------------------------------------------------------------------------------------------------- */

/* How many hosts have acknowledged the newest generation; *behind names the first that has not, NULL if there is none. */
static size_t count_acknowledged(const json_t *status, const json_t **behind)
{
	json_int_t generation = json_integer_value(json_object_get(status, "generation"));
	size_t count = 0, i;
	const json_t *host;

	*behind = NULL;
	json_array_foreach(json_object_get(status, "hosts"), i, host) {
		const json_t *acknowledged = json_object_get(host, "acknowledged_generation");

		if (json_is_integer(acknowledged) && json_integer_value(acknowledged) >= generation)
			count++;
		else if (!*behind)
			*behind = host;
	}
	return count;
}

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void progress(const json_t *status, char line[static PROGRESS_BYTES])
{
	const json_t *behind;
	size_t done = count_acknowledged(status, &behind);
	size_t all = json_array_size(json_object_get(status, "hosts"));
	const char *outcome = text_of(behind, "outcome"), *reason = text_of(behind, "reason");

	(void)snprintf(line, PROGRESS_BYTES, "generation %" JSON_INTEGER_FORMAT ": %zu of %zu hosts have acknowledged%s%s%s%s%s%s",
		       json_integer_value(json_object_get(status, "generation")), done, all, behind ? "; waiting for " : "",
		       behind && text_of(behind, "name") ? text_of(behind, "name") : "", outcome ? ", whose last result is " : "",
		       outcome ? outcome : "", outcome && reason && reason[0] ? ": " : "", outcome && reason ? reason : "");
}

static bool converged(const json_t *status)
{
	return json_is_true(json_object_get(status, "converged"));
}

int network_status(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *status = NULL;
	uint64_t seconds;
	char path[API_PATH_MAX];
	int waited = CLI_OK;
	int r = api_path(cli, path, "networks", args->words[0], "status", NULL);

	if (!r)
		r = waiting_read(cli, args, WAIT_DEFAULT_S, &seconds);
	if (!r)
		r = api_call(cli, "GET", path, NULL, &status);
	if (!r && cli_has(args, "wait"))
		r = waited = waiting_until(cli, path, seconds, converged, progress, &status);
	if (r == CLI_UNREACHABLE || (r && !waited))
		return r;
	r = print_status(cli, status);
	if (!r && waited)
		return cli_fail(&cli->voice, CLI_REFUSED, "not-converged",
				"network '%s' did not converge within %" PRIu64 " s; hosts that have not "
				"acknowledged keep trying, and loopbackctl host show tells what each last said",
				args->words[0], seconds);
	return r;
}
