/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A root key on paper: four lines "N: 0123 4567 89ab cdef 2b51" of eight bytes of the seed and two bytes of checksum each. The
 * checksum is the head of BLAKE2b-256 over the line's number (one byte, '1' to '4') and its eight bytes, so a mistyped or swapped
 * line is told by its number. The public key below them checks the whole.
 */
#include <ctype.h>
#include <string.h>

#include "cli/loopbackctl/rootkey.h"

#define LINES 4
#define LINE_SEED_BYTES (crypto_sign_SEEDBYTES / LINES)
#define LINE_CHECK_BYTES 2
#define LINE_TOTAL (LINE_SEED_BYTES + LINE_CHECK_BYTES)

static void line_check(unsigned number, const uint8_t *bytes, uint8_t check[static LINE_CHECK_BYTES])
{
	uint8_t input[1 + LINE_SEED_BYTES];
	struct hash hash;

	input[0] = (uint8_t)('0' + number);
	memcpy(input + 1, bytes, LINE_SEED_BYTES);
	hash_of(input, sizeof(input), &hash);
	memcpy(check, hash.b, LINE_CHECK_BYTES);
	sodium_memzero(input, sizeof(input));
}

void paper_print(FILE *out, const struct root_key *key)
{
	char public[2 * KEY_BYTES + 1];

	(void)fprintf(out,
		      "Loopback root key%s%s. Keep this page where you keep what must not be lost or seen.\n"
		      "To use it again: loopbackctl root restore --out FOLDER, and type in the lines below.\n\n",
		      key->name[0] ? " of " : "", key->name);
	for (unsigned line = 1; line <= LINES; line++) {
		uint8_t bytes[LINE_TOTAL];

		memcpy(bytes, key->secret + (line - 1) * LINE_SEED_BYTES, LINE_SEED_BYTES);
		line_check(line, bytes, bytes + LINE_SEED_BYTES);
		(void)fprintf(out, "%u:", line);
		for (unsigned i = 0; i < LINE_TOTAL; i += 2)
			(void)fprintf(out, " %02x%02x", bytes[i], bytes[i + 1]);
		(void)fputc('\n', out);
		sodium_memzero(bytes, sizeof(bytes));
	}
	(void)fprintf(out, "\npublic: %s\n", hex_format(key->public, KEY_BYTES, public));
}

/* Squeeze the white space out of what follows the colon. @return the digits' number, 0 if there is anything but digits or too
 * many */
static size_t digits_of(const char *text, char *out, size_t room)
{
	size_t n = 0;

	for (; *text; text++) {
		if (isspace((unsigned char)*text))
			continue;
		if (!isxdigit((unsigned char)*text) || n + 1 >= room)
			return 0;
		out[n++] = *text;
	}
	out[n] = '\0';
	return n;
}

struct reading {
	uint8_t seed[crypto_sign_SEEDBYTES];
	bool have[LINES + 1];
	uint8_t public[KEY_BYTES];
	bool have_public;
};

static int read_seed_line(const struct cli_voice *voice, unsigned number, const char *text, struct reading *reading)
{
	uint8_t bytes[LINE_TOTAL], check[LINE_CHECK_BYTES];
	char digits[2 * LINE_TOTAL + 2];
	size_t n = digits_of(text, digits, sizeof(digits));
	bool good = n == 2 * LINE_TOTAL && hex_parse(digits, bytes, sizeof(bytes)) == 0;

	if (!good) {
		sodium_memzero(digits, sizeof(digits));
		return cli_fail(voice, CLI_REFUSED, "paper",
				"line %u: expected five groups of four hexadecimal digits; type it again", number);
	}
	line_check(number, bytes, check);
	good = sodium_memcmp(check, bytes + LINE_SEED_BYTES, sizeof(check)) == 0;
	if (good) {
		memcpy(reading->seed + (number - 1) * LINE_SEED_BYTES, bytes, LINE_SEED_BYTES);
		reading->have[number] = true;
	}
	sodium_memzero(bytes, sizeof(bytes));
	sodium_memzero(digits, sizeof(digits));
	if (!good)
		return cli_fail(voice, CLI_REFUSED, "paper",
				"line %u: its last group does not fit the others; a digit is wrong, or lines are swapped",
				number);
	return CLI_OK;
}

static int read_line(const struct cli_voice *voice, const char *line, struct reading *reading)
{
	char digits[2 * KEY_BYTES + 2];

	while (isspace((unsigned char)*line))
		line++;
	if (line[0] >= '1' && line[0] <= '0' + LINES && line[1] == ':')
		return read_seed_line(voice, (unsigned)(line[0] - '0'), line + 2, reading);
	if (strncasecmp(line, "public:", 7) == 0) {
		if (digits_of(line + 7, digits, sizeof(digits)) != 2 * KEY_BYTES ||
		    hex_parse(digits, reading->public, KEY_BYTES) < 0)
			return cli_fail(voice, CLI_REFUSED, "paper",
					"the line 'public:': expected 64 hexadecimal digits; type it again, or leave it out");
		reading->have_public = true;
	}
	return CLI_OK;
}

static void reading_wipe(struct reading *reading)
{
	sodium_memzero(reading, sizeof(*reading));
}

static int judge(const struct cli_voice *voice, const struct reading *reading, struct root_key *key)
{
	for (unsigned line = 1; line <= LINES; line++)
		if (!reading->have[line])
			return cli_fail(voice, CLI_REFUSED, "paper", "line %u is missing; the page has lines 1 to %d", line,
					LINES);
	root_key_of_seed(key, reading->seed);
	if (reading->have_public && memcmp(key->public, reading->public, KEY_BYTES) != 0) {
		root_key_wipe(key);
		return cli_fail(voice, CLI_REFUSED, "paper",
				"the public key does not belong to the lines above it: are they of the same page?");
	}
	return CLI_OK;
}

int paper_read(const struct cli_voice *voice, FILE *in, struct root_key *key)
{
	CLEANUP(reading_wipe) struct reading reading = { .have_public = false };
	char line[512];
	int r = CLI_OK;

	(void)setvbuf(in, NULL, _IONBF, 0); /* no copy of the seed in a buffer that nobody wipes */
	/* a page typed on a terminal is whole with its last line; nobody has to know Ctrl-D */
	while (!r && !(reading.have[1] && reading.have[2] && reading.have[3] && reading.have[4] && reading.have_public) &&
	       fgets(line, sizeof(line), in))
		r = read_line(voice, line, &reading);
	sodium_memzero(line, sizeof(line));
	return r ? r : judge(voice, &reading, key);
}
