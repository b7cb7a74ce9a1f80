/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results: aligned columns for people, the objects themselves with --json.
 */
#pragma once

#include "cli/loopbackctl/ctl.h"
#include "cli/loopbackctl/names.h"

enum shape {
	AS_TEXT,
	AS_NUMBER,
	AS_LIST,      /* an array of strings */
	AS_NAMES,     /* an array of objects that have a name */
	AS_ADDRESSES, /* an array of objects that have addresses */
	AS_AGO,       /* a time in ms since 1970, told as a distance */
	AS_TIME,      /* a time in ms since 1970, told in UTC */
	AS_YES,       /* a boolean */
	AS_MICRO,     /* a duration in microseconds */
};

struct column {
	const char *title;
	const char *key; /* "receipt.outcome" reaches into an object */
	enum shape shape;
};

/* How a kind of object is shown. */
struct listing {
	const struct column *columns;
	size_t count;
	const struct naming *namings; /* ids that people read as names; may be NULL */
	const char *none;             /* what a person reads when there are none */
};

/** Print an array of objects, for people by name. @return CLI_OK or what the program ends with */
int print_list(struct cli *cli, json_t *items, const struct listing *listing);

/** Print one object, a line for each column. @return CLI_OK or what the program ends with */
int print_object(struct cli *cli, json_t *object, const struct listing *listing);

/** With --json, print a value. @return CLI_OK or what the program ends with */
int print_json(struct cli *cli, const json_t *value);
