/* SPDX-License-Identifier: Apache-2.0 */
/* Names that end up in shells, URLs and file systems; the head of a backup; backup and restore without a daemon. */
#include "controld/packages.h"
#include "controld/restore.h"
#include "libstore/backup_head.h"
#include "tests/unit/unit.h"

#include <ctype.h>

START_TEST(names_of_packages)
{
	static const struct {
		const char *file, *format, *name, *version, *architecture;
	} good[] = {
		{ "loopback-agent_0.1.0_amd64.deb", "deb", "loopback-agent", "0.1.0", "amd64" },
		{ "loopback-agent_0.2.0~rc1+b2-1_arm64.deb", "deb", "loopback-agent", "0.2.0~rc1+b2-1", "arm64" },
		{ "a_1_all.deb", "deb", "a", "1", "all" },
		{ "loopback-agent-0.1.0-1.x86_64.rpm", "rpm", "loopback-agent", "0.1.0-1", "x86_64" },
		{ "a-b-c-1.2-3.el9.noarch.rpm", "rpm", "a-b-c", "1.2-3.el9", "noarch" },
	};
	struct package package;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(package_parse(good[i].file, &package), 0);
		ck_assert_str_eq(package.file, good[i].file);
		ck_assert_str_eq(package.format, good[i].format);
		ck_assert_str_eq(package.name, good[i].name);
		ck_assert_str_eq(package.version, good[i].version);
		ck_assert_str_eq(package.architecture, good[i].architecture);
	}
}
END_TEST

START_TEST(what_is_no_name_of_a_package)
{
	static const char *const bad[] = {
		"", ".", "..", ".deb", "deb", "a.deb", "a_1.deb", "_1_amd64.deb", "a__amd64.deb", "a_1_.deb", "-a_1_amd64.deb", ".a_1_amd64.deb",
		"a_-1_amd64.deb", "a_.1_amd64.deb", "a_1_amd64.deb.", "a_1_amd64.DEB", "a_1_amd64.deb ", " a_1_amd64.deb", "A_1_amd64.deb", "a/b_1_amd64.deb",
		"../a_1_amd64.deb", "a_1_am/d64.deb", "a_1'_amd64.deb", "a_1\"_amd64.deb", "a_1$x_amd64.deb", "a_1`_amd64.deb", "a_1;_amd64.deb",
		"a_1&_amd64.deb", "a_1|_amd64.deb", "a_1 _amd64.deb", "a_1\n_amd64.deb", "a_1\\_amd64.deb", "a_1*_amd64.deb", "a_1?_amd64.deb",
		"a_1%_amd64.deb", "a_1#_amd64.deb", "a_1:2_amd64.deb", "a_1@ROOT@_amd64.deb", "a_1\xc3\xa9_amd64.deb", "a_1_amd64.rpm", "a-1.x86_64.rpm",
		"-1-1.x86_64.rpm", "a-1-1.rpm", "a--1.x86_64.rpm", "a-1-.x86_64.rpm", "a-1-1..rpm",
	};
	char longest[PACKAGE_FILE_MAX + 2];
	struct package package;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(package_parse(bad[i], &package) == -EINVAL, "%s", bad[i]);
	memset(longest, 'a', sizeof(longest));
	memcpy(longest + sizeof(longest) - 13, "_1_amd64.deb", 13);
	ck_assert_int_eq(package_parse(longest, &package), -EINVAL);
	for (unsigned c = 1; c < 256; c++) {
		char name[] = "loopback-agent_0.?_amd64.deb";

		*strchr(name, '?') = (char)c;
		ck_assert_int_eq(package_parse(name, &package), isalnum((int)c) || strchr(".+~-", (int)c) ? 0 : -EINVAL);
	}
}
END_TEST

START_TEST(urls_for_a_script)
{
	static const char *const good[] = { "https://control.example", "https://control.example:8443", "http://127.0.0.1:8080", "https://[fd00::1]:8443",
					    "https://a/b/c" };
	static const char *const bad[] = { "", "https://", "control.example", "ftp://a", "https://a/", "https://a'b", "https://a\"b", "https://a b", "https://a$b",
					   "https://a`b", "https://a;b", "https://a\\b", "https://a\nb", "https://a&b", "https://a?b", "https://a#b", "https://a@b",
					   "HTTPS://a" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_msg(install_url_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(!install_url_valid(bad[i]), "%s", bad[i]);
}
END_TEST

static struct backup some_backup(void)
{
	struct backup backup = { .schema = 2, .version = "0.1.0", .made = 1764000000123, .bytes = 81920 };

	memset(backup.hash.b, 0xab, HASH_BYTES);
	return backup;
}

START_TEST(a_head_has_one_form)
{
	const struct backup backup = some_backup();
	char head[BACKUP_HEAD_BYTES], wrong[BACKUP_HEAD_BYTES];
	struct backup again;

	backup_head_format(&control_store, &backup, head);
	ck_assert_int_eq(backup_head_parse(&control_store, head, &again), 0);
	ck_assert_int_eq(again.schema, 2);
	ck_assert_uint_eq(again.bytes, 81920);
	ck_assert_str_eq(again.version, "0.1.0");
	ck_assert_mem_eq(again.hash.b, backup.hash.b, HASH_BYTES);
	/* Any byte that is another one: not a head, or a head that says another thing in its one form. */
	for (size_t at = 0; at < sizeof(head); at++) {
		memcpy(wrong, head, sizeof(head));
		wrong[at] = (char)(wrong[at] == '0' ? '1' : wrong[at] == '1' ? '2' : wrong[at] + 1);
		if (backup_head_parse(&control_store, wrong, &again) == 0) {
			char formatted[BACKUP_HEAD_BYTES];

			backup_head_format(&control_store, &again, formatted);
			ck_assert_mem_eq(formatted, wrong, sizeof(wrong));
		}
	}
	memset(wrong, 0, sizeof(wrong));
	ck_assert_int_eq(backup_head_parse(&control_store, wrong, &again), -EBADMSG);
}
END_TEST

START_TEST(a_backup_of_another_process_is_none)
{
	static const struct store_kind other = { .process = "signd", .file = "state.db", .version = 1 };
	const struct backup backup = some_backup();
	char head[BACKUP_HEAD_BYTES];
	struct backup again;

	backup_head_format(&other, &backup, head);
	ck_assert_int_eq(backup_head_parse(&control_store, head, &again), -EBADMSG);
}
END_TEST

START_TEST(what_was_committed_comes_back)
{
	_cleanup_folder_ struct folder from = folder_new(), to = folder_new();
	_cleanup_(store_free) struct store *store = NULL;
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ uint8_t *value = NULL;
	struct backup backup;
	size_t n = 0;
	int before;

	ck_assert_int_gt(asprintf(&path, "%s/backup", from.path), 0);
	ck_assert_int_eq(store_open(&control_store, from.path, true, &store), 0);
	ck_assert_int_eq(store_begin(store, true), 0);
	ck_assert_int_eq(store_meta_put(store, "word", "xyz", 3), 0);
	ck_assert_int_eq(store_commit(store), 0);
	ck_assert_int_eq(store_begin(store, true), 0); /* what is under way is not in it */
	ck_assert_int_eq(store_meta_put(store, "word", "no", 2), 0);
	before = (int)descriptors_open();
	ck_assert_int_eq(backup_write(&control_store, from.path, path, &backup), 0);
	ck_assert_int_eq(backup_write(&control_store, from.path, path, &backup), -EEXIST);
	ck_assert_int_eq((int)descriptors_open(), before);
	store_rollback(store);
	store_free(TAKE_PTR(store));

	ck_assert_int_eq(backup_restore(&control_store, to.path, path, NULL, NULL, &backup), 0);
	ck_assert_int_eq(backup.schema, control_store.version);
	ck_assert_int_eq(store_open(&control_store, to.path, false, &store), 0);
	ck_assert_int_eq(store_meta(store, "word", &value, &n), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert_int_eq(backup_restore(&control_store, to.path, path, NULL, NULL, &backup), -EEXIST);
}
END_TEST

static int refuse(_unused_ struct store *store, _unused_ void *arg)
{
	return -EPERM;
}

START_TEST(what_is_not_adapted_is_not_restored)
{
	_cleanup_folder_ struct folder from = folder_new(), to = folder_new();
	_cleanup_(store_free) struct store *store = NULL;
	_cleanup_free_ char *path = NULL;
	struct backup backup;

	ck_assert_int_gt(asprintf(&path, "%s/backup", from.path), 0);
	ck_assert_int_eq(store_open(&control_store, from.path, true, &store), 0);
	ck_assert_int_eq(backup_write(&control_store, from.path, path, &backup), 0);
	ck_assert_int_eq(backup_restore(&control_store, to.path, path, refuse, NULL, &backup), -EPERM);
	ck_assert_int_eq(rmdir(to.path), 0); /* it is empty */
	ck_assert_int_eq(mkdir(to.path, 0700), 0);
}
END_TEST

UNIT_MAIN("packages and backups of controld", names_of_packages, what_is_no_name_of_a_package, urls_for_a_script, a_head_has_one_form,
	  a_backup_of_another_process_is_none, what_was_committed_comes_back, what_is_not_adapted_is_not_restored)
