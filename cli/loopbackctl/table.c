/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/table.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/common/columns.h"

#define CELL_BYTES_MAX 2048

struct cell {
	char text[CELL_BYTES_MAX];
	size_t n;
};

static void cell_add(struct cell *cell, const char *text)
{
	const char *comma = cell->n > 0 ? ", " : "";
	int n = snprintf(cell->text + cell->n, sizeof(cell->text) - cell->n, "%s%s", comma, text);

	cell->n += n < 0 ? 0 : (size_t)n;
	if (cell->n >= sizeof(cell->text))
		cell->n = sizeof(cell->text) - 1;
}

static const json_t *reach(const json_t *object, const char *key)
{
	const char *dot = strchr(key, '.');
	char head[64];

	if (!dot)
		return json_object_get(object, key);
	(void)snprintf(head, sizeof(head), "%.*s", (int)(dot - key), key);
	return reach(json_object_get(object, head), dot + 1);
}

static void cell_ago(struct cell *cell, json_int_t ms)
{
	struct timespec now;
	json_int_t s;
	char text[64];

	(void)clock_gettime(CLOCK_REALTIME, &now);
	s = now.tv_sec - ms / 1000;
	if (s < 0)
		s = 0;
	if (s < 120)
		(void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT " s ago", s);
	else if (s < 2 * 3600)
		(void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT " min ago", s / 60);
	else if (s < 2 * 86400)
		(void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT " h ago", s / 3600);
	else
		(void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT " d ago", s / 86400);
	cell_add(cell, text);
}

static void cell_time(struct cell *cell, json_int_t ms)
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;
	char text[64];

	if (gmtime_r(&seconds, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%SZ", &tm) > 0)
		cell_add(cell, text);
}

static void cell_micro(struct cell *cell, json_int_t us)
{
	char text[64];

	if (us < 1000)
		(void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT " us", us);
	else
		(void)snprintf(text, sizeof(text), "%.1f ms", (double)us / 1000);
	cell_add(cell, text);
}

static void cell_array(struct cell *cell, const json_t *array, enum shape shape)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item) {
		const json_t *text = shape == AS_NAMES ? json_object_get(item, "name") : item;

		if (shape == AS_ADDRESSES)
			cell_array(cell, json_object_get(item, "addresses"), AS_LIST);
		else if (json_is_string(text))
			cell_add(cell, json_string_value(text));
	}
}

static void cell_number(struct cell *cell, const json_t *value, enum shape shape)
{
	json_int_t number = json_integer_value(value);
	char text[64];

	if (shape == AS_AGO) {
		cell_ago(cell, number);
	} else if (shape == AS_TIME) {
		cell_time(cell, number);
	} else if (shape == AS_MICRO) {
		cell_micro(cell, number);
	} else {
		(void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, number);
		cell_add(cell, text);
	}
}

/* What a person reads for a value; empty if it is absent. */
static void cell_of(const json_t *object, const struct column *column, struct cell *cell)
{
	const json_t *value = reach(object, column->key);

	cell->n = 0;
	cell->text[0] = '\0';
	if (json_is_array(value))
		cell_array(cell, value, column->shape);
	else if (json_is_string(value))
		cell_add(cell, json_string_value(value));
	else if (json_is_integer(value))
		cell_number(cell, value, column->shape);
	else if (json_is_boolean(value))
		cell_add(cell, json_is_true(value) ? "yes" : "no");
}

int print_json(struct cli *cli, const json_t *value)
{
	if (json_dumpf(value, stdout, JSON_INDENT(2)) < 0 || fputc('\n', stdout) == EOF)
		return cli_fail(&cli->voice, CLI_REFUSED, "output", "cannot write the result");
	return CLI_OK;
}

static int print_rows(struct cli *cli, const json_t *rows, const struct listing *listing)
{
	const char *titles[COLUMNS_MAX];
	_cleanup_columns_ struct columns table = { .titles = titles, .count = listing->count };
	const json_t *row;
	size_t i;

	for (size_t c = 0; c < listing->count; c++)
		titles[c] = listing->columns[c].title;
	json_array_foreach(rows, i, row) {
		for (size_t c = 0; c < listing->count; c++) {
			struct cell cell;

			cell_of(row, &listing->columns[c], &cell);
			columns_cell(&table, "%s", cell.text);
		}
	}
	return columns_print(&table) == 0 ? CLI_OK : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
}

int print_list(struct cli *cli, json_t *items, const struct listing *listing)
{
	_cleanup_json_ json_t *sorted = NULL;

	if (cli->voice.json)
		return print_json(cli, items);
	if (json_array_size(items) == 0) {
		cli_note(&cli->voice, "%s", listing->none);
		return CLI_OK;
	}
	names_put(cli, items, listing->namings);
	sorted = json_object_get(json_array_get(items, 0), "name") ? sorted_by_name(items) : json_incref(items);
	return sorted ? print_rows(cli, sorted, listing) : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
}

int print_object(struct cli *cli, json_t *object, const struct listing *listing)
{
	size_t width = 0;

	if (cli->voice.json)
		return print_json(cli, object);
	names_put(cli, object, listing->namings);
	for (size_t c = 0; c < listing->count; c++)
		width = strlen(listing->columns[c].title) > width ? strlen(listing->columns[c].title) : width;
	for (size_t c = 0; c < listing->count; c++) {
		struct cell cell;
		char clean[CELL_BYTES_MAX];

		cell_of(object, &listing->columns[c], &cell);
		(void)printf("%-*s  %s\n", (int)width, listing->columns[c].title,
			     cell.n > 0 ? cli_clean(clean, sizeof(clean), cell.text, cell.n) : "-");
	}
	return CLI_OK;
}
