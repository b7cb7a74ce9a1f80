/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Aligned columns on a terminal. Cells are added row by row; whatever they hold, it cannot steer the terminal.
 */
#pragma once

#include <stddef.h>

#include "libipc/cleanup.h"

#define COLUMNS_MAX 16

struct columns {
	const char *const *titles; /* borrowed */
	size_t count;              /* of titles, at most COLUMNS_MAX */
	char **cells;
	size_t filled, room;
	int error; /* 0 or -ENOMEM; sticks */
};

/** Add the next cell; an empty one becomes a dash. */
void columns_cell(struct columns *columns, const char *format, ...) _printf_(2, 3);

/** Print titles and rows on stdout. @return 0; -ENOMEM, also of an earlier columns_cell() */
_must_check_ int columns_print(const struct columns *columns);

void columns_free(struct columns *columns);
#define _cleanup_columns_ CLEANUP(columns_free)
