/* SPDX-License-Identifier: Apache-2.0 */
/* What a support bundle blanks and what it leaves; its archive; pieces that fail. */
#include <signal.h>
#include <sodium.h>
#include <time.h>

#include "cli/loopback/support_run.h"
#include "cli/loopback/support_scrub.h"
#include "cli/loopback/support_tar.h"
#include "tests/unit/unit.h"

static size_t known(char *text, const char *secret)
{
	_cleanup_secrets_ struct secrets secrets = { .count = 0 };

	ck_assert_int_eq(secrets_add(&secrets, secret, strlen(secret)), 0);
	return scrub_known(text, strlen(text), &secrets);
}

START_TEST(known_secrets_are_found_in_their_forms)
{
	static const struct {
		const char *secret, *text, *scrubbed;
	} rows[] = {
		{ "hunter22", "a hunter22 b", "a ******** b" },
		{ "hunter22", "hunter2 2 hunter2", "hunter2 2 hunter2" },
		{ "p@ss w/rd", "x=p%40ss%20w%2frd;", "x=***************;" },
		{ "p@ss w/rd", "x=p%40ss+w/rd;", "x=***********;" },
		{ "100%25%", "100%25% 100%2525%25 100%25", "******* *********** 100%25" },
		{ "a\"b\\c\"d", "a\\\"b\\\\c\\\"d", "**********" },
		{ "a\"b\\c\"d", "a\\x22b\\x5cc\\u0022d", "******************" },
		{ "gr\303\274\303\237e1", "gr\\u00fc\\u00dfe1 gr%C3%BC\303\237e1", "**************** ************" },
		{ "hunter22", "68756e7465723232", "****************" },
		{ "hunter22", "68:75:6E:74:65:72:32:32.", "***********************." },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[128];

		(void)snprintf(text, sizeof(text), "%s", rows[i].text);
		(void)known(text, rows[i].secret);
		ck_assert_msg(strcmp(text, rows[i].scrubbed) == 0, "row %zu: %s", i, text);
	}
}
END_TEST

/* All digits but those that the neighbours' bits are part of. */
START_TEST(base64_at_any_offset)
{
	static const int variants[] = { sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_URLSAFE_NO_PADDING };
	static const char secret[] = "\xfb\xff\xfe secret \x3f\x3e~~";

	for (size_t before = 0; before < 6; before++) {
		for (size_t after = 0; after < 3; after++) {
			for (size_t v = 0; v < ARRAY_SIZE(variants); v++) {
				uint8_t bytes[32] = { 0 };
				char text[64];

				memcpy(bytes + before, secret, strlen(secret));
				(void)sodium_bin2base64(text, sizeof(text), bytes, before + strlen(secret) + after, variants[v]);
				ck_assert_uint_eq(known(text, secret), 1);
				ck_assert_uint_ge(strlen(secret) * 8 / 6, strspn(strchr(text, '*'), "*"));
				ck_assert_uint_le((strlen(secret) * 8 - 10) / 6, strspn(strchr(text, '*'), "*"));
			}
		}
	}
}
END_TEST

START_TEST(what_looks_like_a_secret_is_blanked)
{
	static const char *const gone[] = {
		"https_proxy=http://office:XYZZY@proxy:1",
		"Authorization: Bearer XYZZYXYZZY.abc",
		"authorization: basic XYZZYXYZZY==",
		"token 0123456789abcdef.XYZZYXYZZYXYZZYXYZZYXYZZYXYZZYXYZZYXYZZYXYZZY.root",
		"DB_PASSWORD=XYZZY",
		"\"password\": \"XYZZY a b\"",
		"api_key : 'XYZZY'",
		"-----BEGIN EC PRIVATE KEY-----\nXYZZY\n-----END EC PRIVATE KEY-----\n",
		"-----BEGIN PRIVATE KEY-----\nXYZZY",
		"PrivateKey = XYZZY",
		"http://a:b@c/XYZZY@d",
	};
	static const char *const kept[] = {
		"fetchd: the token has expired: make a new one",
		"loopback-netd.service",
		"https://control.example:8443/v1/agent",
		"key gQSnFzCCXbY8WSJCHUtBdg6pNLcxvospi1G7NpUU9UI=",
		"64 bytes from 100.64.0.2",
		"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
		"",
		".",
		"://",
		"password",
		"Bearer ",
		"-----BEGIN ",
	};

	for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
		char text[256];

		(void)snprintf(text, sizeof(text), "%s", gone[i]);
		ck_assert_uint_ge(scrub_likely(text, strlen(text)), 1);
		ck_assert_msg(!strstr(text, "XYZZY"), "row %zu: %s", i, text);
		ck_assert_uint_eq(strlen(text), strlen(gone[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		char text[256];

		(void)snprintf(text, sizeof(text), "%s", kept[i]);
		(void)scrub_likely(text, strlen(text));
		ck_assert_str_eq(text, kept[i]);
	}
}
END_TEST

START_TEST(secrets_of_any_bytes_and_places)
{
	struct dice dice = dice_of(7);

	for (unsigned round = 0; round < 300; round++) {
		_cleanup_secrets_ struct secrets secrets = { .count = 0 };
		uint8_t secret[32];
		char text[200];
		size_t n = SECRET_BYTES_MIN + dice_roll(&dice) % 26, at;

		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = (char)(dice_roll(&dice) & 0xff);
		for (size_t i = 0; i < n; i++)
			secret[i] = (uint8_t)dice_roll(&dice);
		at = dice_roll(&dice) % (sizeof(text) - n + 1);
		memcpy(text + at, secret, n);
		ck_assert_int_eq(secrets_add(&secrets, secret, n), 0);
		ck_assert_int_eq(secrets_add(&secrets, secret, n), 0);
		ck_assert_uint_eq(secrets.count, 1);
		ck_assert_uint_ge(scrub_known(text, sizeof(text), &secrets), 1);
		ck_assert_ptr_null(memmem(text, sizeof(text), secret, n));
	}
}
END_TEST

/* A journal is written by others as well. One that is made for the purpose costs no more than any: the test's time-out is the
 * judge. */
START_TEST(text_that_is_made_to_take_long)
{
	static const char *const patterns[] = { "password", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----",
						"bearer ",  "://",	   "://@",
						"token=\"", "secret    ",  "a",
						"\\u0061",  "%61",	   "./" };
	size_t n = 4U << 20;
	_cleanup_free_ char *text = malloc(n);

	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		_cleanup_secrets_ struct secrets secrets = { .count = 0 };
		size_t length = strlen(patterns[i]);

		for (size_t k = 0; k < n; k++)
			text[k] = patterns[i][k % length];
		ck_assert_int_eq(secrets_add(&secrets, "aaaaaaaaaaaaaaaaaaaaaaab", 24), 0);
		(void)scrub_known(text, n, &secrets);
		(void)scrub_likely(text, n);
	}
}
END_TEST

START_TEST(short_ones_are_no_secrets_and_huge_ones_refused)
{
	_cleanup_secrets_ struct secrets secrets = { .count = 0 };
	static const uint8_t huge[SECRET_BYTES_MAX + 1];

	ck_assert_int_eq(secrets_add(&secrets, "short", 5), 0);
	ck_assert_uint_eq(secrets.count, 0);
	ck_assert_int_eq(secrets_add(&secrets, huge, sizeof(huge)), -EMSGSIZE);
	ck_assert_int_eq(secrets_add(&secrets, huge, SECRET_BYTES_MAX), 0);
}
END_TEST

START_TEST(an_archive_is_blocks)
{
	char path[] = "/tmp/support-test.XXXXXX", block[512];
	_cleanup_close_ int fd = mkostemp(path, O_CLOEXEC);
	static const char name[TAR_NAME_BYTES_MAX + 2] = { [0 ... TAR_NAME_BYTES_MAX] = 'n' };

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(tar_add(fd, name, "", 0, 0), -ENAMETOOLONG);
	ck_assert_int_eq(tar_add(fd, name + 1, "", 0, 0), 0);
	ck_assert_int_eq(tar_add(fd, "a", block, sizeof(block), 1), 0);
	ck_assert_int_eq(tar_add(fd, "b", "content", 7, 1), 0);
	ck_assert_int_eq(tar_end(fd), 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 512 * (1 + 2 + 2 + 2));
	ck_assert_int_eq(pread(fd, block, sizeof(block), 512L * 3), 512);
	ck_assert_str_eq(block, "b");
	ck_assert_str_eq(block + 124, "00000000007");
	ck_assert_mem_eq(block + 257, "ustar", 6);
	ck_assert_mem_eq(block + 263, "00", 2);
}
END_TEST

static int says_little(void)
{
	(void)printf("whole line\nhalf");
	return 3;
}

static int says_half_and_hangs(void)
{
	(void)printf("whole line\nhalf");
	(void)fflush(stdout);
	return pause();
}

static int floods(void)
{
	while (puts("a line") != EOF)
		;
	return 1;
}

START_TEST(pieces_are_bounded)
{
	static const char *const nothing[] = { "/no/such/program", NULL };
	_cleanup_piece_ struct piece_output little = { .bytes = NULL }, half = { .bytes = NULL }, flood = { .bytes = NULL };
	struct piece_output none = { .bytes = NULL };
	time_t begun = time(NULL);

	ck_assert_int_eq(piece_run(NULL, says_little, 10, -1, &little), 0);
	ck_assert(!little.cut && !little.timed_out && WIFEXITED(little.status) && WEXITSTATUS(little.status) == 3);
	ck_assert_uint_eq(little.n, strlen("whole line\nhalf"));
	ck_assert_int_eq(piece_run(NULL, says_half_and_hangs, 1, -1, &half), 0);
	ck_assert(half.timed_out && half.n == strlen("whole line\n"));
	ck_assert_int_eq(piece_run(NULL, floods, 10, -1, &flood), 0);
	ck_assert(flood.cut && flood.n <= PIECE_BYTES_MAX && flood.bytes[flood.n - 1] == '\n');
	ck_assert_int_eq(piece_run(nothing, NULL, 10, -1, &none), -ENOENT);
	ck_assert_ptr_null(none.bytes);
	ck_assert_int_le(time(NULL) - begun, 20);
}
END_TEST

UNIT_MAIN("support", known_secrets_are_found_in_their_forms, base64_at_any_offset, what_looks_like_a_secret_is_blanked,
	  secrets_of_any_bytes_and_places, text_that_is_made_to_take_long, short_ones_are_no_secrets_and_huge_ones_refused,
	  an_archive_is_blocks, pieces_are_bounded)
