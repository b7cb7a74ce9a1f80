/* SPDX-License-Identifier: Apache-2.0 */
/* Overlay addresses against a naive search for the lowest free one; endpoints; which offsets of a range there are. */
#include "controld/endpoints.h"
#include "controld/membership.h"
#include "tests/unit/unit.h"

#define HOSTS 300

struct bench {
	struct folder folder;
	struct controld controld;
	struct change change;
	struct id network;
};

static struct id number_id(unsigned number)
{
	struct id id = { .b = { 1 } };

	memcpy(id.b + 4, &number, sizeof(number));
	return id;
}

static void execute(struct bench *bench, const char *sql)
{
	ck_assert_int_ge(store_exec(bench->controld.store, sql, ""), 0);
}

static void add_range(struct bench *bench, int64_t position, const char *text)
{
	struct prefix range;
	int64_t first, last;

	ck_assert_int_eq(prefix_parse(text, &range), 0);
	addresses_bounds(&range, &first, &last);
	ck_assert_int_ge(store_exec(bench->controld.store, "INSERT INTO cidrs (network, position, cidr, next, last) VALUES ($1, $2, $3, $4, $5)",
				    "ditii", &bench->network, position, text, first, last),
			 0);
}

static void bench_open(struct bench *bench, const char *range)
{
	*bench = (struct bench){ .folder = folder_new(), .network = { .b = { 7 } } };
	ck_assert_int_eq(store_open(&control_store, bench->folder.path, true, &bench->controld.store), 0);
	bench->change.controld = &bench->controld;
	execute(bench, "INSERT INTO organizations (id, name, created) VALUES ('o', 'o', 0)");
	execute(bench, "INSERT INTO workspaces (id, organization, name, created) VALUES ('w', 'o', 'w', 0)");
	ck_assert_int_ge(store_exec(bench->controld.store,
				    "INSERT INTO networks (id, organization, name, mtu, keepalive, flags, created) VALUES ($1, 'o', 'n', 1380, 25, 0, 0)",
				    "d", &bench->network),
			 0);
	add_range(bench, 0, range);
}

static void bench_close(struct bench *bench)
{
	store_free(bench->controld.store);
	folder_removep(&bench->folder);
}

static void add_host(struct bench *bench, const struct id *id)
{
	ck_assert_int_ge(store_exec(bench->controld.store,
				    "INSERT INTO hosts (id, organization, workspace, name, state, created, registration, registration_generation, host_key,"
				    " wg_counter, wg_signature, transport_key, listen_port, backend, version, reported)"
				    " VALUES ($1, 'o', 'w', 'h', 'active', 0, '', 0, '', 0, '', '', 0, '', '', '')",
				    "d", id),
			 0);
}

/* The last byte of the host's address in the first range of a /24. */
static unsigned address_of(struct bench *bench, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct prefix address;

	ck_assert_int_eq(store_first(bench->controld.store, &rows, "SELECT address FROM addresses WHERE host = $1", "d", host), 0);
	ck_assert_int_eq(prefix_parse(row_text(&rows, 0), &address), 0);
	return address.b[3];
}

START_TEST(the_lowest_free_address_as_a_naive_search_finds_it)
{
	struct dice dice = dice_of(4711);
	unsigned held[HOSTS] = { 0 }; /* address of each host, 0: none */
	bool taken[256] = { false };
	struct bench bench;

	bench_open(&bench, "10.0.0.0/24");
	for (unsigned i = 0; i < HOSTS; i++) {
		struct id id = number_id(i);

		add_host(&bench, &id);
	}
	for (unsigned round = 0; round < 3000; round++) {
		unsigned number = dice_below(&dice, HOSTS);
		struct id id = number_id(number);
		unsigned lowest = 1;

		if (held[number] && dice_below(&dice, 2)) {
			ck_assert_int_eq(addresses_release(&bench.change, &id), 0);
			taken[held[number]] = false;
			held[number] = 0;
			continue;
		}
		while (taken[lowest] && lowest < 255)
			lowest++;
		if (!held[number] && lowest == 255) {
			ck_assert_int_eq(addresses_assign(&bench.change, &bench.network, &id), -EREMOTEIO);
			ck_assert_str_eq(bench.change.problem.code, "address-exhausted");
			continue;
		}
		ck_assert_int_eq(addresses_assign(&bench.change, &bench.network, &id), 0);
		if (!held[number])
			held[number] = lowest;
		taken[held[number]] = true;
		ck_assert_uint_eq(address_of(&bench, &id), held[number]);
	}
	bench_close(&bench);
}
END_TEST

START_TEST(fifty_thousand_hosts_get_addresses_without_a_scan)
{
	struct bench bench;
	int64_t begun;

	bench_open(&bench, "10.0.0.0/14");
	add_range(&bench, 1, "fd00::/64");
	ck_assert_int_eq(store_begin(bench.controld.store, false), 0);
	for (unsigned i = 0; i < 50000; i++) {
		struct id id = number_id(i);

		add_host(&bench, &id);
		ck_assert_int_eq(addresses_assign(&bench.change, &bench.network, &id), 0);
	}
	begun = now_ms();
	for (unsigned i = 50000; i < 50100; i++) {
		struct id id = number_id(i);

		add_host(&bench, &id);
		ck_assert_int_eq(addresses_assign(&bench.change, &bench.network, &id), 0);
	}
	ck_assert_int_lt(now_ms() - begun, 1000); /* 10 ms each would show a scan, even with sanitizers */
	ck_assert_int_eq(store_commit(bench.controld.store), 0);
	bench_close(&bench);
}
END_TEST

START_TEST(offsets_of_a_range)
{
	static const struct {
		const char *range;
		int64_t first, last;
	} cases[] = {
		{ "10.0.0.0/24", 1, 254 },  { "10.0.0.0/30", 1, 2 }, { "10.0.0.0/31", 0, 1 },		 { "10.0.0.0/32", 0, 0 },
		{ "10.0.0.0/8", 1, 16777214 }, { "fd00::/64", 1, (1LL << 62) - 1 }, { "fd00::/120", 1, 255 }, { "fd00::/127", 0, 1 },
		{ "fd00::/128", 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct prefix range;
		int64_t first, last;

		ck_assert_int_eq(prefix_parse(cases[i].range, &range), 0);
		addresses_bounds(&range, &first, &last);
		ck_assert_int_eq(first, cases[i].first);
		ck_assert_int_eq(last, cases[i].last);
	}
}
END_TEST

static void expect_endpoints(const char *operator_set, const char *reported, const char *seen, const char *one, const char *two)
{
	struct endpoint endpoints[ENDPOINTS_MAX];
	char text[ENDPOINT_TEXT];
	unsigned count = endpoints_choose(operator_set, reported, seen, 51820, endpoints);

	ck_assert_uint_eq(count, (one ? 1U : 0U) + (two ? 1U : 0U));
	if (one)
		ck_assert_str_eq(endpoint_format(&endpoints[0], text), one);
	if (two)
		ck_assert_str_eq(endpoint_format(&endpoints[1], text), two);
}

START_TEST(endpoints_operator_then_reported_then_seen)
{
	expect_endpoints(NULL, "", NULL, NULL, NULL);
	expect_endpoints(NULL, NULL, NULL, NULL, NULL);
	expect_endpoints(NULL, "", "192.0.2.1", "192.0.2.1:51820", NULL);
	expect_endpoints(NULL, "", "2001:db8::1", "[2001:db8::1]:51820", NULL);
	expect_endpoints(NULL, "192.0.2.2:1 192.0.2.3:1", "192.0.2.1", "192.0.2.2:1", NULL);
	expect_endpoints(NULL, "192.0.2.2:1 [2001:db8::2]:1 [2001:db8::3]:1", NULL, "[2001:db8::2]:1", "192.0.2.2:1");
	expect_endpoints("198.51.100.1:7", "192.0.2.2:1", "192.0.2.1", "198.51.100.1:7", NULL);
	expect_endpoints(NULL, "garbage", "192.0.2.1", "192.0.2.1:51820", NULL);
	expect_endpoints(NULL, "", "garbage", NULL, NULL);
}
END_TEST

UNIT_MAIN("addresses", the_lowest_free_address_as_a_naive_search_finds_it, fifty_thousand_hosts_get_addresses_without_a_scan,
	  offsets_of_a_range, endpoints_operator_then_reported_then_seen)
