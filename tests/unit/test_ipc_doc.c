/* SPDX-License-Identifier: Apache-2.0 */
/* docs/design/ipc.md is what ipcdoc writes of the table. Runs in the root of the tree. */
#include "tests/tools/lib/ipcdoc.h"
#include "tests/unit/unit.h"

static size_t read_page(char **page)
{
	_cleanup_fclose_ FILE *file = fopen(IPCDOC_PAGE, "re");
	size_t room = 1 << 20, n;

	ck_assert_msg(file != NULL, "cannot open %s: run this in the root of the tree", IPCDOC_PAGE);
	*page = malloc(room);
	n = fread(*page, 1, room, file);
	ck_assert_uint_lt(n, room);
	return n;
}

START_TEST(the_page_is_what_the_table_says)
{
	_cleanup_fclose_ FILE *source = fopen(IPCDOC_SOURCE, "re");
	_cleanup_free_ char *page = NULL, *written = NULL;
	size_t page_n = read_page(&page), written_n = 0;
	FILE *out = open_memstream(&written, &written_n);
	size_t same = 0, line = 1;
	int r;

	ck_assert_ptr_nonnull(source);
	r = ipcdoc_write(source, out);
	ck_assert_int_eq(fclose(out), 0);
	ck_assert_int_eq(r, 0);
	for (; same < page_n && same < written_n && page[same] == written[same]; same++)
		line += page[same] == '\n';
	ck_assert_msg(page_n == written_n && same == page_n,
		      "%s differs from line %zu on; write it anew: build/tests/tools/ipcdoc >%s", IPCDOC_PAGE, line, IPCDOC_PAGE);
}
END_TEST

START_TEST(every_row_is_explained)
{
	_cleanup_free_ char *page = NULL;
	size_t n = read_page(&page);

	page[n - 1] = '\0';
	for (size_t i = 0; i < message_type_count; i++) {
		char row[64];
		const char *at, *end;

		(void)snprintf(row, sizeof(row), "| %d | `%s` |", (int)message_types[i].number, message_types[i].name);
		at = strstr(page, row);
		ck_assert_msg(at != NULL, "%s is not on the page", message_types[i].name);
		end = strchr(at, '\n');
		ck_assert_msg(end - at > 4 && memcmp(end - 4, "|  |", 4) != 0, "%s has no comment in %s", message_types[i].name, IPCDOC_SOURCE);
	}
}
END_TEST

UNIT_MAIN("ipc: the page", the_page_is_what_the_table_says, every_row_is_explained)
