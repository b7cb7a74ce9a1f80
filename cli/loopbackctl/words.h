/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values as operators write them. Each function reports what it cannot understand, by the option's name, as a usage error.
 */
#pragma once

#include <stdint.h>

#include "cli/common/voice.h"

/** @return CLI_OK or CLI_USAGE, reported */
_must_check_ int number_parse(const struct cli_voice *voice, const char *option, const char *text, uint64_t min, uint64_t max,
			      uint64_t *number);

/** "90", "90s", "15m", "1h", "7d", "2w" in seconds. @return CLI_OK or CLI_USAGE, reported */
_must_check_ int duration_parse(const struct cli_voice *voice, const char *option, const char *text, uint64_t *seconds);

/** "2027-01-31" (its beginning) or "2027-01-31T12:00:00Z", UTC, in Unix seconds. @return CLI_OK or CLI_USAGE, reported */
_must_check_ int date_parse(const struct cli_voice *voice, const char *option, const char *text, uint64_t *seconds);

/** Is this a name as objects have them: a DNS label in lower case? @return CLI_OK or CLI_USAGE, reported */
_must_check_ int name_check(const struct cli_voice *voice, const char *option, const char *text);
