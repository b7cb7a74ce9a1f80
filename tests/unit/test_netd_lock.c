/* SPDX-License-Identifier: Apache-2.0 */
/* What netd remembers of locked networks: the file, and what an offered mesh is held against. What it does to peers: tests/netns/test_netd_locked.py. */
#include <fcntl.h>

#include "netd/lock.h"
#include "tests/unit/documents.h"

struct place {
	struct folder folder;
	struct state state;
};

static void place_free(struct place *place)
{
	place->state.folder = close_fd(place->state.folder);
	folder_removep(&place->folder);
}

static struct place place_new(void)
{
	struct place place = { .folder = folder_new() };

	place.state.folder = open(place.folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(place.state.folder, 0);
	return place;
}

/* One network with a list. */
struct offered {
	struct mesh mesh;
	struct network_document network;
	struct admission list;
};

static void offer(struct offered *offered, uint64_t network, uint64_t generation, uint32_t flags, const char *cidr)
{
	memset(offered, 0, sizeof(*offered));
	offered->network = (struct network_document){ .header.id = id_of(network), .name = "mesh", .flags = flags, .cidr_count = 1 };
	offered->network.cidrs[0] = prefix_of(cidr);
	offered->list = (struct admission){ .header.id = id_of(network), .header.generation = generation, .flags = flags };
	offered->mesh.networks = &offered->network;
	offered->mesh.lists = &offered->list;
	offered->mesh.network_count = offered->mesh.list_count = offered->mesh.count = offered->mesh.host.network_count = 1;
	offered->mesh.entries[0] = (struct head_entry){ .type = DOC_admission, .id = id_of(network), .generation = generation };
	hash_of(&generation, sizeof(generation), &offered->mesh.entries[0].hash);
}

static const char *refused(const struct state *state, struct offered *offered, struct refusal *refusal)
{
	*refusal = (struct refusal){ .code = "" };
	ck_assert_int_eq(lock_check_offer(state, &offered->mesh, refusal), refusal->code[0] ? -EBADMSG : 0);
	return refusal->code;
}

START_TEST(what_was_seen_is_held_against_what_comes)
{
	CLEANUP(place_free) struct place place = place_new();
	struct offered *offered = malloc(sizeof(*offered));
	struct refusal refusal;

	ck_assert_int_eq(lock_load(&place.state), 0); /* none yet */
	offer(offered, 1, 5, 1, "100.64.0.0/16");
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "");
	ck_assert_int_eq(lock_remember(&place.state, &offered->mesh), 0);
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "");
	memset(&place.state.locks, 0, sizeof(place.state.locks));
	ck_assert_int_eq(lock_load(&place.state), 0); /* as after a restart */

	offer(offered, 1, 4, 1, "100.64.0.0/16");
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "admission");
	offer(offered, 1, 4, 0, "100.64.0.0/16"); /* an old word that it is open is no better */
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "admission");
	offer(offered, 1, 5, 1, "100.64.0.0/16");
	offered->mesh.entries[0].hash.b[0] ^= 1;
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "admission");
	offer(offered, 1, 6, 1, "100.64.0.0/16");
	offered->network.flags = 0;
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "locked");
	offered->mesh.list_count = 0;
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "locked");
	offer(offered, 1, 6, 1, "100.64.0.0/17"); /* half of the range is gone */
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "locked");
	offer(offered, 2, 1, 1, "100.64.3.0/24"); /* another network in its range, while it is away */
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "locked");
	offer(offered, 2, 1, 1, "100.65.0.0/16");
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "");

	offer(offered, 1, 6, 0, "100.64.0.0/16"); /* operators unlock: then it is open, and its range anybody's, but lists still do not go back */
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "");
	ck_assert_int_eq(lock_remember(&place.state, &offered->mesh), 0);
	offer(offered, 2, 1, 1, "100.64.3.0/24");
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "");
	offer(offered, 1, 5, 1, "100.64.0.0/16");
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "admission");
	free(offered);
}
END_TEST

START_TEST(a_flag_alone_is_no_lock)
{
	CLEANUP(place_free) struct place place = place_new();
	struct offered *offered = malloc(sizeof(*offered));
	struct refusal refusal;

	offer(offered, 1, 1, 1, "100.64.0.0/16");
	offered->mesh.list_count = 0;
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "locked");
	offered->network.flags = 0;
	ck_assert_str_eq(refused(&place.state, offered, &refusal), "");
	free(offered);
}
END_TEST

START_TEST(a_damaged_memory_is_not_none)
{
	static const char *const contents[] = { "", "x", "\x91\x90", "\x90\x90" };
	CLEANUP(place_free) struct place place = place_new();

	for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
		file_put(&place.folder, "locks", contents[i], strlen(contents[i]));
		ck_assert_int_lt(lock_load(&place.state), 0);
	}
	file_put(&place.folder, "locks", "\x90", 1);
	ck_assert_int_eq(lock_load(&place.state), 0);
}
END_TEST

START_TEST(more_than_fits_is_refused_and_nothing_forgotten)
{
	CLEANUP(place_free) struct place place = place_new();
	struct offered *offered = malloc(sizeof(*offered));

	for (uint64_t i = 1; i <= LOCKS_MAX; i++) {
		offer(offered, i, 1, 1, "100.64.0.0/16");
		ck_assert_int_eq(lock_remember(&place.state, &offered->mesh), 0);
	}
	offer(offered, LOCKS_MAX + 1, 1, 1, "100.64.0.0/16");
	ck_assert_int_eq(lock_remember(&place.state, &offered->mesh), -ENOSPC);
	ck_assert_int_eq(lock_load(&place.state), 0);
	ck_assert_uint_eq(place.state.locks.count, LOCKS_MAX);
	free(offered);
}
END_TEST

UNIT_MAIN("netd: locks", what_was_seen_is_held_against_what_comes, a_flag_alone_is_no_lock, a_damaged_memory_is_not_none,
	  more_than_fits_is_refused_and_nothing_forgotten)
