/* SPDX-License-Identifier: Apache-2.0 */
/* What loopback audit reads out of unit files, and what it calls a difference. */
#include "cli/loopback/audit_unit.h"
#include "tests/unit/unit.h"

static const char shipped_text[] =
	"[Unit]\n"
	"Description=PrivateUsers=no is not a setting here\n"
	"[Service]\n"
	"# PrivateTmp=no\n"
	"; PrivateTmp=no\n"
	"User=_lb-fetchd\n"
	"CapabilityBoundingSet=\n"
	"NoNewPrivileges=true\n"
	"  PrivateUsers = yes  \n"
	"ProtectSystem=strict\n"
	"BindPaths=/a \\\n"
	"  /b\n"
	"BindPaths=/c\n"
	"MemoryMax=1G\n"
	"[Install]\n"
	"WantedBy=multi-user.target\n";

static struct unit unit_of(const char *text)
{
	struct unit unit = { .list = NULL };

	ck_assert_int_eq(unit_read(&unit, "shipped", text), 0);
	return unit;
}

/* The shipped unit with a drop-in. */
static struct unit unit_with(const char *dropin)
{
	struct unit unit = unit_of(shipped_text);

	ck_assert_int_eq(unit_read(&unit, "dropin", "[Service]\n"), 0);
	ck_assert_int_eq(unit_read(&unit, "dropin", dropin), 0);
	return unit;
}

static void expect_value(const struct unit *unit, const char *key, const char *value)
{
	_cleanup_phrase_ struct phrase is = { .text = NULL };
	bool is_set = unit_value(unit, key, &is);

	ck_assert_int_eq(is_set, value != NULL);
	if (value)
		ck_assert_str_eq(phrase_text(&is), value);
}

START_TEST(sections_comments_blanks_and_long_lines)
{
	_cleanup_unit_ struct unit unit = unit_of(shipped_text);

	expect_value(&unit, "User", "_lb-fetchd");
	expect_value(&unit, "PrivateUsers", "yes");
	expect_value(&unit, "PrivateTmp", NULL);
	expect_value(&unit, "Description", NULL);
	expect_value(&unit, "WantedBy", NULL);
	expect_value(&unit, "CapabilityBoundingSet", "");
	expect_value(&unit, "BindPaths", "/a     /b /c");
}
END_TEST

START_TEST(lists_add_up_and_an_empty_one_begins_anew)
{
	_cleanup_unit_ struct unit unit =
		unit_of("[Service]\nBindPaths=/a\nBindPaths=/b\nBindPaths=\nBindPaths=/c\nUser=a\nUser=b\n");

	expect_value(&unit, "BindPaths", "/c");
	expect_value(&unit, "User", "b");
}
END_TEST

START_TEST(flags_in_all_spellings)
{
	_cleanup_unit_ struct unit unit =
		unit_of("[Service]\nA=yes\nB=on\nC=1\nD=true\nE=no\nF=off\nG=0\nH=false\nI=strict\nJ=\nK=NO\n");
	static const char *const set[] = { "A", "B", "C", "D", "I" }, *const unset[] = { "E", "F", "G", "H", "J", "K", "L" };

	for (size_t i = 0; i < ARRAY_SIZE(set); i++)
		ck_assert(unit_flag(&unit, set[i]));
	for (size_t i = 0; i < ARRAY_SIZE(unset); i++)
		ck_assert(!unit_flag(&unit, unset[i]));
}
END_TEST

static void expect_changes(const char *dropin, unsigned count, const char *words)
{
	_cleanup_unit_ struct unit shipped = unit_of(shipped_text), in_force = unit_with(dropin);
	_cleanup_phrase_ struct phrase out = { .text = NULL };

	ck_assert_uint_eq(unit_changes(&shipped, &in_force, &out), count);
	ck_assert_msg(strstr(phrase_text(&out), words), "\"%s\" is not in \"%s\"", words, phrase_text(&out));
}

START_TEST(what_a_drop_in_changes_is_named_with_its_file)
{
	expect_changes("[Service]\n", 0, "");
	expect_changes("[Service]\nPrivateUsers=no\n", 1, "dropin sets PrivateUsers=no; shipped: yes");
	expect_changes("[Service]\nPrivateUsers=1\n", 0, ""); /* the same in other words */
	expect_changes("[Service]\nBindPaths=/d\n", 1, "dropin sets BindPaths=, which adds /d");
	expect_changes("[Service]\nBindPaths=\n", 1, "shipped: /a     /b /c");
	expect_changes("[Service]\nBindPaths=\nBindPaths=/a /d\n", 1, "adds /d and lacks /b /c");
	expect_changes("[Service]\nCapabilityBoundingSet=CAP_SYS_ADMIN\n", 1, "sets CapabilityBoundingSet=CAP_SYS_ADMIN");
	expect_changes("[Service]\nExecStart=/bin/sh\nUser=root\n", 2, "dropin sets User=root; shipped: _lb-fetchd");
	expect_changes("[Service]\nSomeSettingOfTheFuture=x\n", 1, "SomeSettingOfTheFuture=x; shipped: not set");
	expect_changes("[Service]\nMemoryMax=2G\nNice=3\nCPUQuota=20%\nLimitNOFILE=9\nRestartSec=9\nEnvironment=A=b\n", 0, "");
	expect_changes("[Service]\nLimitCORE=infinity\n", 1, "LimitCORE=infinity");
}
END_TEST

START_TEST(a_setting_that_is_gone_is_named)
{
	_cleanup_unit_ struct unit shipped = unit_of(shipped_text),
				   in_force = unit_of("[Service]\nUser=_lb-fetchd\nBindPaths=/c /b /a\n");
	_cleanup_phrase_ struct phrase out = { .text = NULL };

	ck_assert_uint_ge(unit_changes(&shipped, &in_force, &out), 3);
	ck_assert_ptr_nonnull(strstr(phrase_text(&out), "ProtectSystem is not set; shipped: strict"));
	ck_assert_ptr_nonnull(strstr(phrase_text(&out), "NoNewPrivileges is not set; shipped: true"));
	ck_assert_ptr_null(strstr(phrase_text(&out), "User is"));
}
END_TEST

static void expect_against_table(const struct privileges *privileges, const char *text, unsigned count, const char *words)
{
	_cleanup_unit_ struct unit unit = unit_of(text);
	_cleanup_phrase_ struct phrase out = { .text = NULL };

	ck_assert_msg(unit_against_table(&unit, privileges, &out) == count, "%s", phrase_text(&out));
	ck_assert_msg(strstr(phrase_text(&out), words), "\"%s\" is not in \"%s\"", words, phrase_text(&out));
}

START_TEST(the_unit_gives_what_the_table_has)
{
#define NETD "[Service]\nUser=_lb-netd\nNoNewPrivileges=yes\n"
	expect_against_table(&fetchd_privileges, shipped_text, 0, "");
	expect_against_table(&netd_privileges, shipped_text, 3, "User=_lb-fetchd, where the table has _lb-netd");
	expect_against_table(&netd_privileges,
			     NETD "CapabilityBoundingSet=CAP_BPF CAP_NET_ADMIN\nAmbientCapabilities=cap_net_admin CAP_BPF\n", 0,
			     "");
	expect_against_table(&netd_privileges, NETD "AmbientCapabilities=CAP_NET_ADMIN CAP_BPF\n", 1,
			     "CapabilityBoundingSet=(not set)");
	expect_against_table(
		&netd_privileges,
		NETD "CapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF CAP_PERFMON\nAmbientCapabilities=CAP_NET_ADMIN CAP_BPF\n", 1,
		"CapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF CAP_PERFMON, where the table has CAP_NET_ADMIN CAP_BPF");
	expect_against_table(
		&fetchd_privileges,
		"[Service]\nUser=_lb-fetchd\nNoNewPrivileges=yes\nCapabilityBoundingSet=\nAmbientCapabilities=CAP_BPF\n", 1,
		"AmbientCapabilities=CAP_BPF, where the table has none");
	expect_against_table(&fetchd_privileges,
			     "[Service]\nUser=_lb-fetchd\nNoNewPrivileges=no\nCapabilityBoundingSet=\nSupplementaryGroups=disk\n",
			     2, "SupplementaryGroups=disk");
}
END_TEST

START_TEST(what_systemd_goes_by_is_what_the_files_say)
{
	_cleanup_unit_ struct unit in_force = unit_of(shipped_text), shown = { .list = NULL }, other = { .list = NULL };
	_cleanup_phrase_ struct phrase none = { .text = NULL }, out = { .text = NULL };

	ck_assert_int_eq(unit_read_properties(&shown,
					      "User=_lb-fetchd\nPrivateUsers=yes\nNoNewPrivileges=yes\nProtectSystem=strict\n"
					      "CapabilityBoundingSet=\nNeedDaemonReload=no"),
			 0);
	ck_assert_uint_eq(unit_against_manager(&in_force, &shown, &none), 0);
	ck_assert_int_eq(unit_read_properties(&other, "PrivateUsers=no\nProtectSystem=full\nNeedDaemonReload=yes\n"), 0);
	ck_assert_uint_eq(unit_against_manager(&in_force, &other, &out), 3);
	ck_assert_ptr_nonnull(strstr(phrase_text(&out), "systemd goes by ProtectSystem=full, the files say strict"));
}
END_TEST

UNIT_MAIN("loopback: audit of units", sections_comments_blanks_and_long_lines, lists_add_up_and_an_empty_one_begins_anew,
	  flags_in_all_spellings, what_a_drop_in_changes_is_named_with_its_file, a_setting_that_is_gone_is_named,
	  the_unit_gives_what_the_table_has, what_systemd_goes_by_is_what_the_files_say)
