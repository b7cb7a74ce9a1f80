/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/permissions.h"

#include <string.h>

static const char *const known[] = { "read", "networks.write", "hosts.write", "tokens.list", "tokens.mint", "tokens.revoke", "admin" };

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = words; at && *at; at += strspn(at, " ")) {
		size_t length = strcspn(at, " ");

		if (length == n && memcmp(at, word, n) == 0)
			return true;
		at += length;
	}
	return false;
}

bool permission_granted(const char *granted, const char *wanted)
{
	return has_word(granted, "admin") || has_word(granted, wanted);
}

bool permission_known(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i], name) == 0)
			return true;
	return false;
}
