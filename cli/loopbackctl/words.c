/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/words.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "libipc/types.h"

int number_parse(const struct cli_voice *voice, const char *option, const char *text, uint64_t min, uint64_t max,
		 uint64_t *number)
{
	unsigned long long value = 0;
	char *end = NULL;

	errno = 0;
	if (text && isdigit((unsigned char)text[0]))
		value = strtoull(text, &end, 10);
	if (!end || *end || errno || value < min || value > max)
		return cli_fail(voice, CLI_USAGE, "usage", "--%s %s: expected a number from %" PRIu64 " to %" PRIu64, option,
				text ? text : "", min, max);
	*number = value;
	return CLI_OK;
}

int duration_parse(const struct cli_voice *voice, const char *option, const char *text, uint64_t *seconds)
{
	static const struct {
		char letter;
		uint64_t seconds;
	} units[] = { { '\0', 1 }, { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 7 * 86400 } };
	unsigned long long value = 0;
	char *end = NULL;

	errno = 0;
	if (isdigit((unsigned char)text[0]))
		value = strtoull(text, &end, 10);
	for (size_t i = 0; end && !errno && i < ARRAY_SIZE(units); i++) {
		if (*end != units[i].letter || (*end && end[1]) || value > 1000ull * 366 * 86400 / units[i].seconds)
			continue;
		*seconds = value * units[i].seconds;
		return CLI_OK;
	}
	return cli_fail(voice, CLI_USAGE, "usage", "--%s %s: expected a duration such as 90s, 15m, 1h or 7d", option, text);
}

int date_parse(const struct cli_voice *voice, const char *option, const char *text, uint64_t *seconds)
{
	static const char *const forms[] = { "%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ" };

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct tm tm = { .tm_mday = 1 };
		const char *end = strptime(text, forms[i], &tm);
		int day = tm.tm_mday;
		time_t at;

		if (!end || *end)
			continue;
		at = timegm(&tm);
		/* timegm() would make 2027-03-02 of 2027-02-30 */
		if (at <= 0 || tm.tm_mday != day)
			break;
		*seconds = (uint64_t)at;
		return CLI_OK;
	}
	return cli_fail(voice, CLI_USAGE, "usage", "--%s %s: expected a date such as 2027-01-31 or 2027-01-31T12:00:00Z", option,
			text);
}

int name_check(const struct cli_voice *voice, const char *option, const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");

	if (n == strlen(text) && n > 0 && n <= NAME_BYTES_MAX && text[0] != '-' && text[n - 1] != '-')
		return CLI_OK;
	return cli_fail(voice, CLI_USAGE, "usage", "--%s %s: expected 1 to %d of a-z, 0-9 and '-', with no '-' at either end",
			option, text, NAME_BYTES_MAX);
}
