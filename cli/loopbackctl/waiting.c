/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/waiting.h"

#include <string.h>
#include <time.h>

#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/words.h"

#define WAIT_MAX_S 86400
#define POLL_FIRST_MS 200 /* most of what is waited for takes a second or two */
#define POLL_LAST_MS 2000

int waiting_read(struct cli *cli, const struct cli_args *args, uint64_t otherwise, uint64_t *seconds)
{
	const char *patience = cli_value(args, "wait");
	int r = CLI_OK;

	*seconds = otherwise;
	if (patience)
		r = duration_parse(&cli->voice, "wait", patience, seconds);
	if (!r && *seconds > WAIT_MAX_S)
		r = cli_fail(&cli->voice, CLI_USAGE, "usage", "--wait %s: at most a day", patience);
	return r;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pause_ms(uint64_t ms)
{
	struct timespec time = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&time, NULL);
}

static void tell(const struct cli *cli, const char *line, char last[static PROGRESS_BYTES])
{
	if (strcmp(line, last) == 0)
		return;
	(void)snprintf(last, PROGRESS_BYTES, "%s", line);
	cli_note(&cli->voice, "%s", line);
}

int waiting_until(struct cli *cli, const char *path, uint64_t seconds, waiting_over_fn *over, waiting_line_fn *line, json_t **state)
{
	uint64_t deadline = now_ms() + seconds * 1000, pause = POLL_FIRST_MS;
	char text[PROGRESS_BYTES], last[PROGRESS_BYTES] = "";

	while (!over(*state)) {
		json_t *newer = NULL;
		uint64_t now = now_ms();
		int r;

		line(*state, text);
		tell(cli, text, last);
		if (now >= deadline)
			return CLI_REFUSED;
		pause_ms(pause < deadline - now ? pause : deadline - now);
		pause = pause * 3 / 2 < POLL_LAST_MS ? pause * 3 / 2 : POLL_LAST_MS;
		r = api_call(cli, "GET", path, NULL, &newer);
		if (r)
			return r;
		json_decref(*state);
		*state = newer;
	}
	return CLI_OK;
}
