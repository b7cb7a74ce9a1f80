/* SPDX-License-Identifier: Apache-2.0 */
/* The words of an enrolment, and how long to wait between tries. */
#include "fetchd/enroll_words.h"
#include "fetchd/fetchd.h"
#include "tests/unit/unit.h"

#define CERTIFICATE "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"

static int check(const char *url, const char *token, const char *ca, const char *name, struct state *wanted)
{
	struct msg_enroll message = {
		.url = text_view(url), .token = text_view(token), .ca = text_view(ca), .host_name = text_view(name)
	};
	const char *why = NULL;
	int r = enroll_words_check(&message, wanted, &why);

	ck_assert(r == 0 || (why && *why && (!*token || !strstr(why, token))));
	return r;
}

START_TEST(good_words_are_taken_over)
{
	CLEANUP(state_close) struct state wanted = { .dir = -1 };

	ck_assert_int_eq(check("https://cp.example:8443/", "ID.SECRET-_1", CERTIFICATE, "web-3", &wanted), 0);
	ck_assert_str_eq(wanted.url, "https://cp.example:8443");
	ck_assert_str_eq(wanted.token, "ID.SECRET-_1");
	ck_assert_str_eq(wanted.ca, CERTIFICATE);
	ck_assert_str_eq(wanted.host_name, "web-3");
	ck_assert_int_eq(check("http://127.0.0.1:1", "a.b", "", "x", &wanted), 0);
	ck_assert_ptr_null(wanted.ca);
	ck_assert_int_eq(check("http://[::1]:1", "a.b", "", "x", &wanted), 0);
	ck_assert_int_eq(check("https://[2001:db8::1]", "a.b", "", "x", &wanted), 0);
}
END_TEST

START_TEST(bad_words_are_refused)
{
	static const struct {
		const char *url, *token, *ca, *name;
	} bad[] = {
		{ "", "a.b", "", "x" },
		{ "cp.example", "a.b", "", "x" },
		{ "ftp://cp.example", "a.b", "", "x" },
		{ "file:///etc/passwd", "a.b", "", "x" },
		{ "http://cp.example", "a.b", "", "x" },
		{ "http://localhost", "a.b", "", "x" },
		{ "http://127.0.0.1.example", "a.b", "", "x" },
		{ "http://[::2]", "a.b", "", "x" },
		{ "https://cp.example/base", "a.b", "", "x" },
		{ "https://cp.example/?q", "a.b", "", "x" },
		{ "https://cp.example/#f", "a.b", "", "x" },
		{ "https://user@cp.example", "a.b", "", "x" },
		{ "https://user:word@cp.example", "a.b", "", "x" },
		{ "https://cp.example\r\nHost: evil", "a.b", "", "x" },
		{ "https://cp.example:99999", "a.b", "", "x" },
		{ "https://cp.example", "", "", "x" },
		{ "https://cp.example", "ab", "", "x" },
		{ "https://cp.example", ".b", "", "x" },
		{ "https://cp.example", "a.", "", "x" },
		{ "https://cp.example", "a.b.c", "", "x" },
		{ "https://cp.example", "a.b\nX: y", "", "x" },
		{ "https://cp.example", "a.b", "no PEM", "x" },
		{ "https://cp.example", "a.b", "", "" },
		{ "https://cp.example", "a.b", "", "-x" },
		{ "https://cp.example", "a.b", "", "x-" },
		{ "https://cp.example", "a.b", "", "X" },
		{ "https://cp.example", "a.b", "", "x.y" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP(state_close) struct state wanted = { .dir = -1 };

		ck_assert_msg(check(bad[i].url, bad[i].token, bad[i].ca, bad[i].name, &wanted) < 0, "row %zu", i);
		ck_assert_str_eq(wanted.url, "");
		ck_assert_str_eq(wanted.token, "");
	}
}
END_TEST

START_TEST(each_refusal_says_what_to_do)
{
	static const char *const codes[] = { "token-unknown",	"token-expired",     "token-revoked", "token-used",
					     "token-workspace", "wrong-root",	     "address-exhausted", "host-retired" };
	struct link_answer answer = { .status = 401 };
	char text[600];

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		(void)snprintf(answer.code, sizeof(answer.code), "%s", codes[i]);
		(void)snprintf(answer.text, sizeof(answer.text), "detail");
		enroll_refusal_text(&answer, text, sizeof(text));
		ck_assert_ptr_nonnull(strstr(text, codes[i]));
		ck_assert_ptr_nonnull(strstr(text, "detail"));
		ck_assert_ptr_null(strstr(text, "refused the enrolment")); /* that is for codes nobody knows */
	}
	(void)snprintf(answer.code, sizeof(answer.code), "new-code");
	enroll_refusal_text(&answer, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "new-code"));
	ck_assert_ptr_nonnull(strstr(text, "401"));
}
END_TEST

START_TEST(waiting_doubles_to_a_minute_with_half_of_it_by_chance)
{
	ck_assert_uint_eq(backoff_ms(0), 0);
	for (unsigned failures = 1; failures < 1000; failures = failures < 20 ? failures + 1 : failures * 7) {
		uint64_t whole = failures > 6 ? 60000 : 1000ULL << (failures - 1);

		if (whole > 60000)
			whole = 60000;
		for (unsigned i = 0; i < 50; i++) {
			uint64_t wait = backoff_ms(failures);

			ck_assert_uint_le(wait, whole);
			ck_assert_uint_ge(wait, whole / 2);
		}
	}
}
END_TEST

UNIT_MAIN("fetchd enroll", good_words_are_taken_over, bad_words_are_refused, each_refusal_says_what_to_do,
	  waiting_doubles_to_a_minute_with_half_of_it_by_chance)
