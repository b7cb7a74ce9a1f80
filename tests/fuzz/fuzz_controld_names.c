/* SPDX-License-Identifier: Apache-2.0 */
/* What an administrator may hand over: names of packages, a URL, the head of a backup. What is accepted means nothing to a shell, and has one form. */
#include <stdlib.h>
#include <string.h>

#include "controld/packages.h"
#include "libstore/backup_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static bool is_harmless(const char *text, const char *more)
{
	for (; *text; text++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~_-", *text) && !strchr(more, *text))
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char head[BACKUP_HEAD_BYTES] = { 0 }, again[BACKUP_HEAD_BYTES];
	_cleanup_free_ char *text = malloc(n + 1);
	struct package package;
	struct backup backup;

	must(text != NULL);
	memcpy(text, bytes, n);
	text[n] = '\0';
	if (package_parse(text, &package) == 0)
		must(is_harmless(package.file, "") && strcmp(package.file, text) == 0 && is_harmless(package.name, "") && package.name[0] &&
		     package.version[0] && package.architecture[0]);
	if (install_url_valid(text))
		must(is_harmless(text, ":/[]"));
	memset(head, '\n', sizeof(head));
	memcpy(head, bytes, n < sizeof(head) ? n : sizeof(head));
	if (backup_head_parse(&control_store, head, &backup) == 0) {
		backup_head_format(&control_store, &backup, again);
		must(memcmp(head, again, sizeof(head)) == 0);
	}
	return 0;
}
