/* SPDX-License-Identifier: Apache-2.0 */
/* Proxy settings: what is understood, what is refused, who is reached without it; and that a password stays where it belongs. */
#include <curl/curl.h>

#include "fetchd/proxy.h"
#include "tests/unit/unit.h"

static struct proxy parsed(const char *text)
{
	struct proxy proxy = { .url = "" };
	int r = proxy_parse(&proxy, text, "test");

	ck_assert_int_eq(r == 0, proxy.error[0] == '\0');
	ck_assert_int_eq(r == 0, proxy.url[0] != '\0');
	return proxy;
}

START_TEST(urls_are_taken_apart)
{
	static const struct {
		const char *text, *url, *line;
	} good[] = {
		{ "http://proxy.example:3128", "http://proxy.example:3128", NULL },
		{ "http://proxy.example:3128/", "http://proxy.example:3128", NULL },
		{ "proxy.example", "http://proxy.example:3128", NULL },
		{ "proxy.example:8080", "http://proxy.example:8080", NULL },
		{ "HTTPS://proxy.example", "https://proxy.example:443", NULL },
		{ "http://192.0.2.1:80", "http://192.0.2.1:80", NULL },
		{ "http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128", NULL },
		{ "http://a:b@proxy.example:1", "http://proxy.example:1", "Proxy-Authorization: Basic YTpi" },
		{ "a:b@proxy.example:1", "http://proxy.example:1", "Proxy-Authorization: Basic YTpi" },
		{ "http://a@proxy.example:1", "http://proxy.example:1", "Proxy-Authorization: Basic YTo=" },
		{ "http://a:%40%2f%25%3A@proxy.example:1", "http://proxy.example:1", "Proxy-Authorization: Basic YTpALyU6" },
		{ "http://a:50%25%34%31@proxy.example:1", "http://proxy.example:1", "Proxy-Authorization: Basic YTo1MCU0MQ==" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CLEANUP(proxy_close) struct proxy proxy = parsed(good[i].text);

		ck_assert_str_eq(proxy.url, good[i].url);
		if (good[i].line)
			ck_assert_str_eq(proxy.authorization->data, good[i].line);
		else
			ck_assert_ptr_null(proxy.authorization);
		ck_assert_ptr_nonnull(strstr(proxy.shown, good[i].url));
	}
}
END_TEST

START_TEST(other_things_are_refused_without_repeating_a_password)
{
	static const char *const bad[] = {
		"socks5://a:hunter2@proxy.example:1080",
		"ftp://a:hunter2@proxy.example",
		"http://a:hunter2@proxy.example:99999",
		"http://a:hunter2@proxy.example/path",
		"http://a:hunter2@proxy.example?query",
		"http://a:hunter2@proxy.example#fragment",
		"http://a:hunter2/x@proxy.example",
		"http://a:hunter2%0d%0aX-Y:z@proxy.example",
		"http://a%0a:hunter2@proxy.example",
		"http://a%3ab:hunter2@proxy.example",
		"http://a:hunter2@",
		"http://a:hunter2@proxy example:1",
		"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP(proxy_close) struct proxy proxy = { .url = "" };

		ck_assert_msg(proxy_parse(&proxy, bad[i], "https_proxy") < 0, "row %zu: %s", i, bad[i]);
		ck_assert_str_eq(proxy.url, "");
		ck_assert_ptr_null(proxy.authorization);
		ck_assert_ptr_nonnull(strstr(proxy.error, "https_proxy"));
		ck_assert_ptr_null(strstr(proxy.error, "hunter2"));
		ck_assert(!proxy_passes_by(&proxy, "https://control.example"));
	}
}
END_TEST

START_TEST(a_list_names_hosts)
{
	static const struct {
		const char *list, *host;
		bool named;
	} rows[] = {
		{ "", "a.example", false },
		{ "*", "a.example", true },
		{ "b.example, *", "192.0.2.1", true },
		{ "example", "a.example", true },
		{ ".example", "a.example", true },
		{ ".a.example", "a.example", true },
		{ "A.Example.", "a.EXAMPLE", true },
		{ "a.example", "a.example.", true },
		{ "xa.example", "a.example", false },
		{ "a.example", "xa.example", false },
		{ "b.a.example", "a.example", false },
		{ "one two,three", "two", true },
		{ ",, ,three", "three", true },
		{ "192.0.2.1", "192.0.2.1", true },
		{ "192.0.2.1", "192.0.2.10", false },
		{ "2.1", "192.0.2.1", false },
		{ "192.0.2.0/24", "192.0.2.255", true },
		{ "192.0.2.0/24", "192.0.3.0", false },
		{ "192.0.2.0/25", "192.0.2.128", false },
		{ "192.0.2.0/31", "192.0.2.1", true },
		{ "0.0.0.0/0", "203.0.113.9", true },
		{ "192.0.2.0/33", "192.0.2.0", false },
		{ "192.0.2.0/", "192.0.2.0", false },
		{ "192.0.2.0/-1", "192.0.2.0", false },
		{ "192.0.2.0/24", "a.example", false },
		{ "2001:db8::/32", "[2001:db8:1::2]", true },
		{ "[2001:db8::1]", "[2001:DB8:0::1]", true },
		{ "2001:db8::/32", "[2001:db9::]", false },
		{ "::/0", "192.0.2.1", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ck_assert_msg(proxy_list_names(rows[i].list, rows[i].host) == rows[i].named, "row %zu: %s in %s", i, rows[i].host,
			      rows[i].list);
}
END_TEST

START_TEST(who_is_reached_without_it)
{
	CLEANUP(proxy_close) struct proxy none = { .url = "" }, proxy = parsed("http://proxy.example:1");

	ck_assert(proxy_passes_by(&none, "https://control.example:8443"));
	ck_assert(!proxy_passes_by(&proxy, "https://control.example:8443"));
	ck_assert(!proxy_passes_by(&proxy, "https://localhost:8443"));
	ck_assert(!proxy_passes_by(&proxy, "https://1a.example"));
	ck_assert(!proxy_passes_by(&proxy, "https://[2001:db8::1]"));
	ck_assert(proxy_passes_by(&proxy, "https://127.0.0.1:8443"));
	ck_assert(proxy_passes_by(&proxy, "http://127.1.2.3"));
	ck_assert(proxy_passes_by(&proxy, "https://[::1]:8443"));
	(void)strcpy(proxy.except, "control.example,2001:db8::/32");
	ck_assert(proxy_passes_by(&proxy, "https://control.example:8443"));
	ck_assert(proxy_passes_by(&proxy, "https://[2001:db8::1]"));
	ck_assert(!proxy_passes_by(&proxy, "https://other.example:8443"));
}
END_TEST

START_TEST(variables_are_wiped_where_they_stand)
{
	static char variables[][64] = { "HTTPS_PROXY=http://a:hunter2@upper.example:1",
					"https_proxy=http://a:hunter2@lower.example:1",
					"all_proxy=http://a:hunter2@all.example:1",
					"http_proxy=http://a:hunter2@plain.example:1",
					"no_proxy=one.example",
					"NO_PROXY=other.example" };
	const struct proxy_options options = { 0 };
	CLEANUP(proxy_close) struct proxy proxy = { .url = "" };

	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		ck_assert_int_eq(putenv(variables[i]), 0);
	proxy_open(&options, &proxy);
	ck_assert_str_eq(proxy.url, "http://lower.example:1");
	ck_assert_str_eq(proxy.except, "one.example");
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		size_t name = strcspn(variables[i], "=");

		for (size_t at = name + 1; at < sizeof(variables[i]); at++)
			ck_assert_int_eq(variables[i][at], 0);
		variables[i][name] = '\0';
		ck_assert_ptr_null(getenv(variables[i]));
	}
}
END_TEST

UNIT_MAIN("proxy", urls_are_taken_apart, other_things_are_refused_without_repeating_a_password, a_list_names_hosts,
	  who_is_reached_without_it, variables_are_wiped_where_they_stand)
