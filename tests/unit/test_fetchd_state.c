/* SPDX-License-Identifier: Apache-2.0 */
/* What fetchd remembers, and what it makes of a folder in bad repair. */
#include <sodium.h>

#include "fetchd/state.h"
#include "tests/unit/unit.h"

#define _cleanup_state_ CLEANUP(state_close)

static void open_state(const struct folder *folder, struct state *state)
{
	*state = (struct state){ .dir = -1 };
	ck_assert_int_eq(state_open(folder->path, state), 0);
}

START_TEST(a_first_start_makes_a_key_and_keeps_it)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state first = { .dir = -1 }, second = { .dir = -1 };
	struct stat stat;

	open_state(&folder, &first);
	ck_assert(!sodium_is_zero(first.transport_secret, sizeof(first.transport_secret)));
	ck_assert_str_eq(first.url, "");
	ck_assert(!first.enrolled);
	open_state(&folder, &second);
	ck_assert_mem_eq(first.transport_secret, second.transport_secret, sizeof(first.transport_secret));
	ck_assert_int_eq(fstatat(folder.fd, "transport.key", &stat, 0), 0);
	ck_assert_uint_eq(stat.st_mode & 0777, 0600);
	ck_assert_int_eq(stat.st_size, 32);
}
END_TEST

START_TEST(the_control_plane_is_remembered_and_the_token_only_until_enrolled)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = { .dir = -1 }, begun = { .dir = -1 }, done = { .dir = -1 };
	uint8_t bytes[1024];
	ssize_t n;

	open_state(&folder, &state);
	ck_assert_int_eq(state_set(&state, "https://cp.example", "PEM", "ID.SECRET", "web-3"), 0);
	ck_assert_int_eq(state_save(&state), 0);
	open_state(&folder, &begun);
	ck_assert_str_eq(begun.url, "https://cp.example");
	ck_assert_str_eq(begun.ca, "PEM");
	ck_assert_str_eq(begun.token, "ID.SECRET");
	ck_assert_str_eq(begun.host_name, "web-3");
	ck_assert(!begun.enrolled);
	ck_assert_int_eq(state_enrolled(&state), 0);
	open_state(&folder, &done);
	ck_assert(done.enrolled);
	ck_assert_str_eq(done.token, "");
	n = file_get(&folder, "link", bytes, sizeof(bytes));
	ck_assert_int_gt(n, 0);
	ck_assert_ptr_null(memmem(bytes, (size_t)n, "SECRET", 6));
}
END_TEST

START_TEST(forgetting_keeps_the_transport_key)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = { .dir = -1 }, after = { .dir = -1 };

	open_state(&folder, &state);
	ck_assert_int_eq(state_set(&state, "https://cp.example", NULL, "", "web-3"), 0);
	ck_assert_int_eq(state_enrolled(&state), 0);
	ck_assert_int_eq(state_forget(&state), 0);
	ck_assert_str_eq(state.url, "");
	ck_assert_int_eq(state_forget(&state), 0); /* once more does no harm */
	open_state(&folder, &after);
	ck_assert_str_eq(after.url, "");
	ck_assert_mem_eq(state.transport_secret, after.transport_secret, sizeof(state.transport_secret));
}
END_TEST

START_TEST(a_damaged_link_is_set_aside)
{
	static const uint8_t rubbish[] = "no msgpack";
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = { .dir = -1 };
	uint8_t bytes[64];

	file_put(&folder, "link", rubbish, sizeof(rubbish));
	open_state(&folder, &state);
	ck_assert_str_eq(state.url, "");
	ck_assert_int_eq(file_get(&folder, "link", bytes, sizeof(bytes)), -1);
	ck_assert_int_eq(file_get(&folder, "link.damaged", bytes, sizeof(bytes)), sizeof(rubbish));
}
END_TEST

START_TEST(every_truncation_of_a_link_is_noticed)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = { .dir = -1 };
	uint8_t bytes[512];
	ssize_t n;

	open_state(&folder, &state);
	ck_assert_int_eq(state_set(&state, "https://cp.example", "PEM", "ID.SECRET", "web-3"), 0);
	ck_assert_int_eq(state_save(&state), 0);
	n = file_get(&folder, "link", bytes, sizeof(bytes));
	ck_assert_int_gt(n, 20);
	for (ssize_t cut = 0; cut < n; cut++) {
		_cleanup_state_ struct state after = { .dir = -1 };

		file_put(&folder, "link", bytes, (size_t)cut);
		open_state(&folder, &after);
		ck_assert_str_eq(after.url, "");
		ck_assert_str_eq(after.token, "");
		ck_assert_ptr_null(after.ca);
	}
}
END_TEST

START_TEST(a_damaged_key_is_replaced)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = { .dir = -1 };
	uint8_t bytes[64];

	file_put(&folder, "transport.key", "short", 5);
	open_state(&folder, &state);
	ck_assert_int_eq(file_get(&folder, "transport.key", bytes, sizeof(bytes)), 32);
}
END_TEST

/* A kill between writing and renaming leaves a file beside, which is in nobody's way. */
START_TEST(what_a_killed_write_left_is_overwritten)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = { .dir = -1 }, after = { .dir = -1 };

	file_put(&folder, "link.new", "half", 4);
	file_put(&folder, "transport.key.new", "half", 4);
	open_state(&folder, &state);
	ck_assert_str_eq(state.url, "");
	ck_assert_int_eq(state_set(&state, "https://cp.example", NULL, "", "web-3"), 0);
	ck_assert_int_eq(state_enrolled(&state), 0);
	open_state(&folder, &after);
	ck_assert_str_eq(after.url, "https://cp.example");
}
END_TEST

UNIT_MAIN("fetchd state", a_first_start_makes_a_key_and_keeps_it, the_control_plane_is_remembered_and_the_token_only_until_enrolled,
	  forgetting_keeps_the_transport_key, a_damaged_link_is_set_aside, every_truncation_of_a_link_is_noticed, a_damaged_key_is_replaced,
	  what_a_killed_write_left_is_overwritten)
