/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/common/columns.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/common/voice.h"

#define CELL_BYTES_MAX 2048

static int make_room(struct columns *columns)
{
	size_t room = columns->room > 0 ? 2 * columns->room : 64;
	char **grown;

	if (columns->filled < columns->room)
		return 0;
	grown = reallocarray(columns->cells, room, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	columns->cells = grown;
	columns->room = room;
	return 0;
}

void columns_cell(struct columns *columns, const char *format, ...)
{
	char text[CELL_BYTES_MAX], clean[CELL_BYTES_MAX];
	char *cell;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	if (columns->error || make_room(columns) < 0) {
		columns->error = -ENOMEM;
		return;
	}
	cell = strdup(text[0] ? cli_clean(clean, sizeof(clean), text, strlen(text)) : "-");
	if (!cell)
		columns->error = -ENOMEM;
	else
		columns->cells[columns->filled++] = cell;
}

/* Characters, not bytes. */
static size_t width_of(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static void print_row(const char *const *cells, const size_t *widths, size_t count)
{
	for (size_t c = 0; c < count; c++) {
		/* the last column is not padded, so that lines end where their text ends */
		int pad = c + 1 < count ? (int)(widths[c] - width_of(cells[c]) + 2) : 0;

		(void)printf("%s%*s", cells[c], pad, "");
	}
	(void)fputc('\n', stdout);
}

int columns_print(const struct columns *columns)
{
	size_t widths[COLUMNS_MAX];

	if (columns->error)
		return columns->error;
	for (size_t c = 0; c < columns->count; c++)
		widths[c] = width_of(columns->titles[c]);
	for (size_t i = 0; i < columns->filled; i++) {
		size_t width = width_of(columns->cells[i]);

		if (width > widths[i % columns->count])
			widths[i % columns->count] = width;
	}
	print_row(columns->titles, widths, columns->count);
	for (size_t i = 0; i + columns->count <= columns->filled; i += columns->count)
		print_row((const char *const *)columns->cells + i, widths, columns->count);
	return 0;
}

void columns_free(struct columns *columns)
{
	for (size_t i = 0; i < columns->filled; i++)
		free(columns->cells[i]);
	free(columns->cells);
}
