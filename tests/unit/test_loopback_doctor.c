/* SPDX-License-Identifier: Apache-2.0 */
/* How loopback doctor judges: facts in, diagnoses out. What makes the facts is tested on real hosts (tests/netns/test_doctor.py). */
#include "cli/loopback/doctor.h"
#include "libdoc/host.h"
#include "tests/unit/unit.h"

#define NOW 1800000000
#define PEERS 4

static struct facts facts;
static struct doctor_peer peers[PEERS];
static struct diagnosis diagnoses[DOCTOR_CHECKS];

static struct prefix address_of(const char *text)
{
	struct prefix prefix;

	ck_assert_int_eq(prefix_parse(text, &prefix), 0);
	return prefix;
}

static void peer_well(struct doctor_peer *peer, unsigned number)
{
	char text[PREFIX_TEXT];

	*peer = (struct doctor_peer){ .there = true, .known = true, .allowed_count = 1, .has_endpoint = true, .keepalive = 25, .probed = true };
	peer->host.b[0] = peer->wg_key[0] = (uint8_t)number;
	(void)snprintf(text, sizeof(text), "100.64.0.%u", number);
	peer->allowed[0] = peer->echo.to = address_of(text);
	(void)snprintf(text, sizeof(text), "192.0.2.%u:51820", number);
	ck_assert_int_eq(endpoint_parse(text, &peer->endpoint), 0);
	peer->handshake = peer->handshake_after = NOW - 20;
	peer->rx = peer->tx = 1000;
	peer->rx_after = peer->tx_after = 1200;
	peer->echo.answered = true;
	peer->passes = 1380;
	peer->way.index = 7;
	peer->under_way.index = 2;
}

/* A host on which everything is as it should be: two peers, and itself. */
static void all_well(void)
{
	facts = (struct facts){ .root = true, .now = NOW, .netd_runs = true, .fetchd_runs = true, .observed_ms = 1000, .peers = peers, .peer_count = 3 };
	(void)snprintf(facts.view.interface, sizeof(facts.view.interface), "lb0");
	(void)snprintf(facts.view.backend, sizeof(facts.view.backend), "kernel");
	(void)snprintf(facts.view.state, sizeof(facts.view.state), "running");
	facts.view.has_host = facts.view.has_key = facts.view.has_device_key = true;
	facts.view.listen_port = facts.view.device_port = 51820;
	facts.view.network_count = 1;
	facts.view.networks[0].address_count = 1;
	facts.view.networks[0].addresses[0] = address_of("100.64.0.9");
	facts.view.outcome = OUTCOME_unchanged;
	facts.view.confirm = CONFIRM_confirmed;
	facts.link = (struct link_report){ .asked = true, .answered = true, .enrolled = true, .online = true, .last_answer = (uint64_t)NOW * 1000 };
	facts.host.link_there = true;
	facts.host.link = (struct rtnl_link){ .index = 7, .mtu = 1380, .up = true };
	facts.host.overlay_count = facts.host.underlay_count = 1;
	facts.host.overlay[0] = (struct seen_address){ .index = 7, .address = address_of("100.64.0.9") };
	facts.host.underlay[0] = (struct seen_address){ .index = 2, .interface = "eth0", .address = { 4, 24, { 192, 0, 2, 9 } } };
	facts.host.disk_free = 1U << 30;
	facts.host.files_free = 1000;
	facts.host.port.held = true;
	peer_well(&peers[0], 1);
	peer_well(&peers[1], 2);
	peer_well(&peers[2], 9);
	peers[2].there = peers[2].probed = false;
	peers[2].own = true;
}

static void judge(void)
{
	doctor_judge(&facts, diagnoses);
}

/* All that is wrong, as codes in their order. */
static const char *wrong(void)
{
	static char codes[1024];
	size_t n = 0;

	judge();
	codes[0] = '\0';
	for (unsigned i = 0; i < DOCTOR_CHECKS; i++) {
		ck_assert((diagnoses[i].result == DOCTOR_PROBLEM) == (diagnoses[i].count > 0));
		for (unsigned f = 0; f < diagnoses[i].count && f < FINDINGS_MAX; f++)
			n += (size_t)snprintf(codes + n, sizeof(codes) - n, "%s%s", n ? " " : "", doctor_causes[diagnoses[i].findings[f].cause].code);
	}
	return codes;
}

/* Every finding says what a person needs. */
static void complete(void)
{
	for (unsigned i = 0; i < DOCTOR_CHECKS; i++)
		for (unsigned f = 0; f < diagnoses[i].count && f < FINDINGS_MAX; f++) {
			const struct finding *finding = &diagnoses[i].findings[f];

			ck_assert(finding->object[0] && finding->expected[0] && finding->found[0] && finding->kind);
			ck_assert(doctor_causes[finding->cause].means[0] && doctor_causes[finding->cause].advice[0]);
		}
}

START_TEST(a_host_that_is_well)
{
	all_well();
	ck_assert_str_eq(wrong(), "");
	ck_assert_int_eq(doctor_worst(diagnoses), DOCTOR_OK);
	for (unsigned i = 0; i < DOCTOR_CHECKS; i++)
		ck_assert_msg(diagnoses[i].result <= DOCTOR_NOT_APPLICABLE && diagnoses[i].text[0], "%s: %s", doctor_rows[i].name, diagnoses[i].text);
}
END_TEST

/* A check rests only on checks before it; each has a name of its own, and words. */
START_TEST(the_table_is_in_order)
{
	for (unsigned i = 0; i < DOCTOR_CHECKS; i++) {
		ck_assert_uint_eq(doctor_rows[i].rests_on >> i, 0);
		ck_assert(doctor_rows[i].asks[strlen(doctor_rows[i].asks) - 1] == '?');
	}
}
END_TEST

/* A dead netd is one problem, not ten: whatever else is amiss is not asked. */
START_TEST(a_root_cause_silences_what_rests_on_it)
{
	all_well();
	facts.netd_error = -ECONNREFUSED;
	facts.host.link_there = peers[0].echo.answered = false;
	peers[1].fails = 1340;
	ck_assert_str_eq(wrong(), "netd_down");
	complete();
	ck_assert_int_eq(diagnoses[CHECK_tunnel].result, DOCTOR_NOT_ASKED);
	ck_assert_int_eq(diagnoses[CHECK_path_mtu].result, DOCTOR_NOT_ASKED);
	ck_assert_ptr_nonnull(strstr(diagnoses[CHECK_path_mtu].text, "netd"));
	facts.netd_error = -ETIMEDOUT;
	ck_assert_str_eq(wrong(), "netd_silent");
	facts.netd_runs = false;
	ck_assert_str_eq(wrong(), "netd_down");
	facts.netd_error = -ENOTSUP;
	facts.netd_runs = true;
	ck_assert_str_eq(wrong(), "netd_version");
}
END_TEST

START_TEST(each_fact_leads_to_its_cause)
{
	struct {
		const char *code;
		void *at;
		size_t n;
		const void *value;
	} rows[] = {
		{ "disk_full", &facts.host.disk_free, sizeof(uint64_t), &(uint64_t){ 4096 } },
		{ "disk_full", &facts.host.files_free, sizeof(uint64_t), &(uint64_t){ 0 } },
		{ "not_enrolled", facts.view.state, 9, "unpinned" },
		{ "enrolment_unfinished", facts.view.state, 11, "unenrolled" },
		{ "enrolment_lost", &facts.link.enrolled, 1, &(bool){ false } },
		{ "port_taken", &facts.host.port.foreign, 1, &(bool){ true } },
		{ "port_closed", &facts.host.port.held, 1, &(bool){ false } },
		{ "tunnel_missing", facts.view.state, 15, "waiting-tunnel" },
		{ "device_broken", facts.view.state, 7, "broken" },
		{ "interface_missing", &facts.host.link_there, 1, &(bool){ false } },
		{ "interface_down", &facts.host.link.up, 1, &(bool){ false } },
		{ "address_missing", &facts.host.overlay_count, sizeof(unsigned), &(unsigned){ 0 } },
		{ "clock_skew", &facts.link.skew_behind, sizeof(uint64_t), &(uint64_t){ 3600 } },
		{ "refused", &facts.view.outcome, sizeof(uint64_t), &(uint64_t){ OUTCOME_refused } },
		{ "reverted", &facts.view.outcome, sizeof(uint64_t), &(uint64_t){ OUTCOME_reverted } },
		{ "unconfirmed", facts.view.confirm_code, 12, "unconfirmed" },
		{ "stale", &facts.view.stale, 1, &(bool){ true } },
		{ "own_key_differs", facts.view.device_key, 1, &(uint8_t){ 1 } },
		{ "own_port_differs", &facts.view.device_port, sizeof(uint64_t), &(uint64_t){ 51821 } },
		{ "peer_missing", &peers[0].there, 1, &(bool){ false } },
		{ "peer_foreign", &peers[0].known, 1, &(bool){ false } },
		{ "second_missing", &facts.view.rotation.hosts, sizeof(uint64_t), &(uint64_t){ 2 } },
		{ "drift", &facts.view.mended, sizeof(uint64_t), &(uint64_t){ 3 } },
		{ "route_hidden", &peers[0].way.index, sizeof(int), &(int){ 2 } },
		{ "route_hidden", &peers[0].way_error, sizeof(int), &(int){ -ENETUNREACH } },
		{ "mtu_black_hole", &peers[0].fails, sizeof(unsigned), &(unsigned){ 1384 } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		all_well();
		memcpy(rows[i].at, rows[i].value, rows[i].n);
		ck_assert_msg(strcmp(wrong(), rows[i].code) == 0, "row %zu: expected %s, found %s", i, rows[i].code, wrong());
		complete();
	}
}
END_TEST

START_TEST(the_control_plane_by_the_code_of_its_last_error)
{
	static const char *const rows[][2] = {
		{ "resolve", "control_unreachable" },        { "connect", "control_unreachable" },
		{ "silent", "control_silent" },              { "certificate", "control_tls" },
		{ "tls", "control_tls" },                    { "certificate-time", "control_certificate_time" },
		{ "proxy", "control_proxy" },                { "unknown-host", "control_unknown_host" },
		{ "signature", "control_unknown_host" },     { "retired", "control_retired" },
		{ "duplicate-host", "control_twin" },        { "signer-unavailable", "control_signer" },
		{ "busy", "control_refuses" },               { "a word of next year", "control_refuses" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		all_well();
		facts.link.online = false;
		facts.view.stale = true; /* follows from it, and is not told beside it */
		(void)snprintf(facts.link.url, sizeof(facts.link.url), "https://control.example");
		(void)snprintf(facts.link.last_error, sizeof(facts.link.last_error), "no");
		(void)snprintf(facts.link.last_code, sizeof(facts.link.last_code), "%s", rows[i][0]);
		ck_assert_str_eq(wrong(), rows[i][1]);
		complete();
		ck_assert_int_eq(diagnoses[CHECK_fresh].result, DOCTOR_NOT_ASKED);
	}
	facts.link.last_error[0] = '\0'; /* just started: nothing is known, which is not well */
	ck_assert_str_eq(wrong(), "stale");
	ck_assert_int_eq(diagnoses[CHECK_control_plane].result, DOCTOR_UNKNOWN);
}
END_TEST

/* What a peer that does not answer has, by what was sent and received. */
START_TEST(silence_has_a_reason)
{
	struct {
		const char *code;
		uint64_t handshake, rx, rx_after;
		bool under, endpoint;
		int knock;
	} rows[] = {
		{ "udp_blocked", 0, 0, 0, true, true, 0 },
		{ "udp_blocked", NOW - 500, 9000, 9000, true, true, 0 },
		{ "udp_blocked", NOW - 50, 9000, 9000, true, true, 0 }, /* a session, and nothing comes back */
		{ "asymmetric_path", 0, 148, 148, true, true, 0 },
		{ "asymmetric_path", NOW - 500, 9000, 9148, true, true, 0 },
		{ "port_unreachable", 0, 0, 0, true, true, -ECONNREFUSED },
		{ "peer_unreachable", 0, 0, 0, false, true, 0 },
		{ "no_endpoint", 0, 0, 0, false, false, 0 },
		{ "firewall_drops", 0, 0, 0, false, true, -EPERM },
		{ "", NOW - 50, 9000, 9100, true, true, 0 }, /* the tunnel carries; a ping is no right of ours */
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		all_well();
		peers[1].echo.answered = false;
		peers[1].passes = 0;
		peers[1].handshake = peers[1].handshake_after = rows[i].handshake;
		peers[1].rx = rows[i].rx;
		peers[1].rx_after = rows[i].rx_after;
		peers[1].has_endpoint = rows[i].endpoint;
		if (rows[i].endpoint)
			peers[1].under.to = address_of("192.0.2.2");
		peers[1].under.answered = rows[i].under;
		peers[1].knock.error = rows[i].knock;
		ck_assert_msg(strcmp(wrong(), rows[i].code) == 0, "row %zu: expected %s, found %s", i, rows[i].code, wrong());
		complete();
	}
}
END_TEST

/* A peer that nobody spoke to is well; one that should have shaken hands is not, though it was not asked. */
START_TEST(peers_that_were_not_asked)
{
	all_well();
	peers[1].probed = peers[1].echo.answered = false;
	ck_assert_str_eq(wrong(), "");
	peers[1].handshake = peers[1].handshake_after = 0;
	peers[1].rx = peers[1].rx_after = 0;
	ck_assert_str_eq(wrong(), "udp_blocked");
	peers[1].keepalive = 0;
	ck_assert_str_eq(wrong(), "");
	facts.chosen = 1;
	peers[1].keepalive = 25;
	ck_assert_str_eq(wrong(), "");
	facts.chosen = 2;
	ck_assert_str_eq(wrong(), "udp_blocked");
}
END_TEST

START_TEST(another_key_with_a_peers_address)
{
	all_well();
	peers[1].there = false;
	peer_well(&peers[3], 2);
	peers[3].known = false;
	peers[3].wg_key[0] = 77;
	facts.peer_count = 4;
	ck_assert_str_eq(wrong(), "peer_key_differs");
	complete();
	ck_assert_str_eq(diagnoses[CHECK_peer_keys].findings[0].host, "02000000000000000000000000000000");
	peers[3].allowed[0] = address_of("100.64.0.200");
	ck_assert_str_eq(wrong(), "peer_missing peer_foreign");
}
END_TEST

/* A missing host has an entry for each of its endpoints, and is one host. */
START_TEST(a_missing_peer_is_counted_once)
{
	all_well();
	peers[1].there = peers[0].there = false;
	peers[1].host = peers[0].host;
	memcpy(peers[1].wg_key, peers[0].wg_key, KEY_BYTES);
	ck_assert_str_eq(wrong(), "peer_missing");
}
END_TEST

START_TEST(many_problems_are_counted_and_some_told)
{
	static struct doctor_peer many[100];

	all_well();
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++) {
		peer_well(&many[i], 10 + i);
		many[i].fails = 1384;
	}
	facts.peers = many;
	facts.peer_count = ARRAY_SIZE(many);
	(void)wrong();
	ck_assert_uint_eq(diagnoses[CHECK_path_mtu].count, ARRAY_SIZE(many));
	ck_assert_ptr_nonnull(strstr(diagnoses[CHECK_path_mtu].text, "100 problems"));
}
END_TEST

START_TEST(an_address_that_peers_are_told_of)
{
	all_well();
	ck_assert_int_eq(endpoint_parse("192.0.2.77:51820", &peers[2].endpoint), 0); /* in the host's own network, and not its own */
	ck_assert_str_eq(wrong(), "address_untold");
	complete();
	ck_assert_int_eq(endpoint_parse("203.0.113.5:51820", &peers[2].endpoint), 0); /* a NAT's, or an operator's choice */
	ck_assert_str_eq(wrong(), "");
	ck_assert_ptr_nonnull(strstr(diagnoses[CHECK_address_told].text, "NAT"));
}
END_TEST

START_TEST(a_strict_filter_matters_where_ways_differ)
{
	all_well();
	facts.host.underlay[0].strict = true;
	ck_assert_str_eq(wrong(), "");
	peers[1].under_way.index = 3;
	peers[1].echo.answered = false;
	ck_assert_str_eq(wrong(), "rp_filter_strict");
	complete();
}
END_TEST

/* What a firewall drops on purpose is not a problem as long as nobody misses it. */
START_TEST(rules_count_where_packets_are_missing)
{
	all_well();
	facts.host.firewall.count = 1;
	(void)snprintf(facts.host.firewall.rules[0], RULE_BYTES, "ip saddr 203.0.113.0/24 udp dport 51820 drop");
	ck_assert_str_eq(wrong(), "");
	peers[1].echo.answered = false;
	peers[1].handshake_after = peers[1].rx_after = peers[1].rx = 0;
	ck_assert_str_eq(wrong(), "firewall_drops");
	complete();
	ck_assert_ptr_nonnull(strstr(diagnoses[CHECK_firewall].findings[0].found, "203.0.113.0/24"));
	facts.host.firewall = (struct firewall_facts){ .error = -ENOENT };
	judge();
	ck_assert_int_eq(diagnoses[CHECK_firewall].result, DOCTOR_UNKNOWN);
	ck_assert_int_eq(diagnoses[CHECK_handshake].result, DOCTOR_PROBLEM);
}
END_TEST

START_TEST(rules_are_read)
{
	struct {
		const char *text;
		unsigned count;
		bool closed;
	} rows[] = {
		{ "", 0, false },
		{ "table inet f {\n chain i {\n  type filter hook input priority 0; policy accept;\n  udp dport 51820 drop\n }\n}\n", 1, false },
		{ "  udp dport 5182 drop\n  udp dport 518200 drop\n  iifname \"lb01\" drop\n  tcp dport 22 drop\n", 0, false },
		{ "  iifname \"lb0\" reject\n  oifname \"lb0\" counter packets 0 bytes 0 drop\n", 2, false },
		{ "  udp dport { 53, 51820 } drop\n  udp dport 51820 accept\n", 1, false },
		{ "  type filter hook input priority filter; policy drop;\n  tcp dport 22 accept\n", 0, true },
		{ "  type filter hook input priority filter; policy drop;\n  udp dport 51820 accept\n", 0, false },
		{ "  type filter hook forward priority filter; policy drop;\n", 0, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct firewall_facts firewall = { .error = 0 };
		char text[512];

		(void)snprintf(text, sizeof(text), "%s", rows[i].text);
		doctor_firewall_read(text, 51820, "lb0", &firewall);
		ck_assert_msg(firewall.count == rows[i].count && firewall.closed_input == rows[i].closed, "row %zu: %u rules, %d", i, firewall.count,
			      firewall.closed_input);
	}
}
END_TEST

/* Very long and very many lines are cut, not overrun. */
START_TEST(rules_without_bounds)
{
	struct firewall_facts firewall = { .error = 0 };
	char *text = malloc(200000);
	size_t n = 0;

	ck_assert_ptr_nonnull(text);
	for (unsigned i = 0; i < 20; i++) {
		n += (size_t)snprintf(text + n, 200000 - n, "udp dport 51820 ");
		memset(text + n, 'x', 5000);
		n += 5000;
		n += (size_t)snprintf(text + n, 200000 - n, " drop\n");
	}
	doctor_firewall_read(text, 51820, "lb0", &firewall);
	free(text);
	ck_assert_uint_eq(firewall.count, RULES_SEEN_MAX);
	ck_assert_uint_eq(strlen(firewall.rules[0]), RULE_BYTES - 1);
}
END_TEST

/* What only root may see is unknown, never well. */
START_TEST(without_root_much_is_unknown)
{
	all_well();
	facts.root = facts.link.asked = facts.link.answered = false;
	facts.host.disk_error = facts.host.port.error = facts.host.firewall.error = -EACCES;
	peers[0].echo.answered = peers[1].echo.answered = false;
	peers[0].passes = peers[1].passes = 0;
	ck_assert_str_eq(wrong(), "");
	ck_assert_int_eq(doctor_worst(diagnoses), DOCTOR_UNKNOWN);
	ck_assert_int_eq(diagnoses[CHECK_fetchd].result, DOCTOR_UNKNOWN);
	ck_assert_int_eq(diagnoses[CHECK_port].result, DOCTOR_UNKNOWN);
	ck_assert_int_eq(diagnoses[CHECK_path_mtu].result, DOCTOR_UNKNOWN);
	ck_assert_int_eq(diagnoses[CHECK_handshake].result, DOCTOR_OK); /* their handshakes are fresh: everybody may see that */
}
END_TEST

/* All of a large mesh is missing, and one key has its addresses: judged in one pass. */
START_TEST(a_large_mesh_that_is_missing)
{
	struct doctor_peer *many = calloc(PEERS_MAX, sizeof(*many));

	ck_assert_ptr_nonnull(many);
	all_well();
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		many[i] = (struct doctor_peer){ .known = true, .allowed_count = 1, .allowed[0] = { 4, 32, { 100, 64, (uint8_t)(i >> 8), (uint8_t)i } } };
		memcpy(many[i].wg_key, &i, sizeof(i));
	}
	many[PEERS_MAX - 1].known = false;
	many[PEERS_MAX - 1].there = true;
	many[PEERS_MAX - 1].allowed[0] = many[5].allowed[0];
	facts.peers = many;
	facts.peer_count = PEERS_MAX;
	judge();
	ck_assert_uint_eq(diagnoses[CHECK_peer_keys].count, PEERS_MAX - 1);
	ck_assert_int_eq(diagnoses[CHECK_peer_keys].findings[5].cause, CAUSE_peer_key_differs);
	free(many);
}
END_TEST

/* Both families, small and large, over this machine's own loopback; root only. */
START_TEST(echoes_come_back)
{
	struct echo echoes[] = {
		{ .to = address_of("127.0.0.1") }, { .to = address_of("127.0.0.1"), .bytes = 1380, .whole = true },
		{ .to = address_of("::1") },       { .to = address_of("::1"), .bytes = 1380, .whole = true },
		{ .to = { .family = 0 } },
	};
	struct knock knock = { .fd = -1 };
	int r = echo_ask(echoes, ARRAY_SIZE(echoes), 3000, -1);

	if (r == -EPERM || r == -EACCES)
		return;
	ck_assert_int_eq(r, 0);
	for (size_t i = 0; i < 4; i++)
		ck_assert_msg(echoes[i].answered || (i >= 2 && echoes[i].error), "echo %zu: %d", i, echoes[i].error);
	ck_assert(!echoes[4].answered);
	ck_assert_int_eq(endpoint_parse("127.0.0.1:9", &knock.to), 0); /* "discard", which nobody serves any more */
	knock_send(&knock);
	knock_end(&knock);
	ck_assert_int_eq(knock.error, -ECONNREFUSED);
}
END_TEST

UNIT_MAIN("doctor", a_host_that_is_well, the_table_is_in_order, a_root_cause_silences_what_rests_on_it, each_fact_leads_to_its_cause,
	  the_control_plane_by_the_code_of_its_last_error, silence_has_a_reason, peers_that_were_not_asked, another_key_with_a_peers_address,
	  a_missing_peer_is_counted_once, many_problems_are_counted_and_some_told, an_address_that_peers_are_told_of,
	  a_strict_filter_matters_where_ways_differ, rules_count_where_packets_are_missing, rules_are_read, rules_without_bounds,
	  without_root_much_is_unknown, a_large_mesh_that_is_missing, echoes_come_back)
