/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results: aligned columns for people, the objects themselves with --json.
 */
#pragma once

#include "cli/loopbackctl/ctl.h"

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

/** Print an array of objects. @param none what a person reads when it is empty @return CLI_OK or what the program ends with */
int print_list(struct cli *cli, const json_t *items, const struct column *columns, size_t count, const char *none);

/** Print one object, a line for each column. @return CLI_OK or what the program ends with */
int print_object(struct cli *cli, const json_t *object, const struct column *columns, size_t count);

/** With --json, print a value. @return CLI_OK or what the program ends with */
int print_json(struct cli *cli, const json_t *value);
