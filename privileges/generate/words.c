/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "libipc/log.h"
#include "privileges/generate/generate.h"

#define LINE_MAX_COLUMNS 130

bool process_has(const struct process *process, enum privilege_kind kind)
{
	FOR_EACH_ROW(row, process)
		if (row->kind == kind)
			return true;
	return false;
}

bool process_has_family(const struct process *process, const char *family)
{
	FOR_EACH_ROW(row, process)
		if ((row->kind == PRIVILEGE_SOCKET || row->kind == PRIVILEGE_HOLD) && strcmp(row->name, family) == 0)
			return true;
	return false;
}

bool process_has_internet(const struct process *process)
{
	return process_has_family(process, "AF_INET") || process_has_family(process, "AF_INET6");
}

void words_add(struct words *words, const char *word)
{
	for (size_t i = 0; i < words->count; i++)
		if (strcmp(words->at[i], word) == 0)
			return;
	if (words->count == sizeof(words->at) / sizeof(words->at[0])) {
		log_error("no room for %s: a table has more than %zu of a kind; make struct words larger", word, words->count);
		exit(EXIT_FAILURE);
	}
	words->at[words->count++] = word;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void words_write(FILE *out, const char *key, struct words *words)
{
	size_t column = 0;

	qsort(words->at, words->count, sizeof(words->at[0]), compare);
	for (size_t i = 0; i < words->count; i++) {
		if (column > 0 && column + 1 + strlen(words->at[i]) > LINE_MAX_COLUMNS) {
			(void)fputc('\n', out);
			column = 0;
		}
		column += (size_t)(column == 0 ? fprintf(out, "%s=%s", key, words->at[i]) : fprintf(out, " %s", words->at[i]));
	}
	if (column > 0)
		(void)fputc('\n', out);
}
