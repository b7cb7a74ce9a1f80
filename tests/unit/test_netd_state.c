/* SPDX-License-Identifier: Apache-2.0 */
/* netd's state folder: who this host is outlives everything but its owner's will. */
#include <signal.h>
#include <sys/resource.h>

#include "libjournal/state.h"
#include "tests/unit/documents.h"

static void state_closep(struct state *state)
{
	state_close(state);
}
#define _cleanup_state_ CLEANUP(state_closep)

static struct state opened(const struct folder *folder)
{
	struct state state;

	ck_assert_int_ge(sodium_init(), 0);
	ck_assert_int_eq(state_open(folder->path, &state), 0);
	return state;
}

static int reopen_fails(const struct folder *folder)
{
	struct state state;
	int r;

	ck_assert_int_ge(sodium_init(), 0);
	r = state_open(folder->path, &state);
	state_close(&state);
	return r;
}

struct ceremony {
	struct actor root, online;
	struct id deployment;
};

static struct ceremony ceremony_of(uint64_t number)
{
	return (struct ceremony){ actor_of(number), actor_of(number + 1), id_of(number) };
}

static int take(struct state *state, const struct ceremony *ceremony, uint32_t epoch, uint64_t generation)
{
	struct keyset keyset = keyset_of(&ceremony->root, &ceremony->online, ceremony->deployment, generation);
	const char *why = NULL;
	int r;

	keyset.header.epoch = epoch;
	_cleanup_writer_ struct pack_writer envelope = keyset_sealed(&keyset, &ceremony->root, NULL);
	r = state_take_keyset(state, envelope.bytes, envelope.n, &why);
	ck_assert_ptr_nonnull(why);
	return r;
}

/* -- Keys --------------------------------------------------------------------------------------------------------------------------- */

START_TEST(keys_are_made_once_and_survive)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state first = opened(&folder), second = opened(&folder);
	static const char *const files[] = { "host.key", "wg.key", "starts" };
	uint8_t public[KEY_BYTES];

	ck_assert_mem_eq(first.host_secret, second.host_secret, SECRET_KEY_BYTES);
	ck_assert_mem_eq(first.keys.private, second.keys.private, KEY_BYTES);
	ck_assert(id_equal(&first.host, &second.host));
	ck_assert_uint_eq(first.keys.counter, second.keys.counter);
	ck_assert_uint_gt(second.sequence, first.sequence); /* receipts go on from one start to the next */
	ck_assert_int_eq(crypto_scalarmult_base(public, first.keys.private), 0);
	ck_assert_mem_eq(public, first.keys.public, KEY_BYTES);
	ck_assert(!first.pinned && !first.deployed);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		struct stat stat;

		ck_assert_int_eq(fstatat(folder.fd, files[i], &stat, 0), 0);
		ck_assert_uint_eq(stat.st_mode & 0777, 0600);
	}
}
END_TEST

START_TEST(two_hosts_are_two_hosts)
{
	_cleanup_folder_ struct folder one = folder_new(), other = folder_new();
	_cleanup_state_ struct state first = opened(&one), second = opened(&other);

	ck_assert(!id_equal(&first.host, &second.host));
	ck_assert_mem_ne(first.keys.private, second.keys.private, KEY_BYTES);
}
END_TEST

START_TEST(a_damaged_key_is_not_replaced)
{
	static const struct {
		const char *name;
		size_t n;
	} damages[] = { { "host.key", 0 }, { "host.key", 31 }, { "host.key", 33 }, { "wg.key", 0 }, { "wg.key", 39 }, { "wg.key", 41 } };

	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		_cleanup_folder_ struct folder folder = folder_new();
		uint8_t damaged[64], after[64];

		{
			_cleanup_state_ struct state state = opened(&folder);
		}
		memset(damaged, 0x5a, sizeof(damaged));
		file_put(&folder, damages[i].name, damaged, damages[i].n);
		ck_assert_int_lt(reopen_fails(&folder), 0);
		ck_assert_int_eq(file_get(&folder, damages[i].name, after, sizeof(after)), (ssize_t)damages[i].n);
		ck_assert_mem_eq(after, damaged, damages[i].n);
	}
}
END_TEST

START_TEST(a_link_in_place_of_a_key_is_not_followed)
{
	_cleanup_folder_ struct folder folder = folder_new();
	uint8_t seed[32] = { 1 };

	file_put(&folder, "elsewhere", seed, sizeof(seed));
	ck_assert_int_eq(symlinkat("elsewhere", folder.fd, "host.key"), 0);
	ck_assert_int_eq(reopen_fails(&folder), -ELOOP);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_an_error)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct folder missing = folder;

	missing.path[strlen(missing.path) - 1] ^= 1;
	ck_assert_int_eq(reopen_fails(&missing), -ENOENT);
}
END_TEST

START_TEST(a_key_that_cannot_be_written_is_not_used)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct rlimit whole, limit;
	uint8_t bytes[64];

	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &whole), 0);
	/* Not a byte, and some bytes of it. */
	for (rlim_t room = 0; room <= 16; room += 16) {
		limit = (struct rlimit){ room, whole.rlim_max };
		ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
		ck_assert_int_lt(reopen_fails(&folder), 0);
		ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &whole), 0);
		ck_assert_int_eq(file_get(&folder, "host.key", bytes, sizeof(bytes)), -1);
		ck_assert_int_eq(file_get(&folder, "host.key.new", bytes, sizeof(bytes)), -1);
	}
	_cleanup_state_ struct state state = opened(&folder);
}
END_TEST

/* -- Root --------------------------------------------------------------------------------------------------------------------------- */

START_TEST(one_root_is_pinned_and_no_other)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct actor root = actor_of(1), other = actor_of(2);

	{
		_cleanup_state_ struct state state = opened(&folder);

		ck_assert_int_eq(state_pin(&state, root.key), 0);
		ck_assert_int_eq(state_pin(&state, root.key), 0);
		ck_assert_int_eq(state_pin(&state, other.key), -EEXIST);
		ck_assert_mem_eq(state.root, root.key, KEY_BYTES);
	}
	_cleanup_state_ struct state state = opened(&folder);
	ck_assert(state.pinned && !state.deployed);
	ck_assert_int_eq(state_pin(&state, other.key), -EEXIST);
	ck_assert_mem_eq(state.root, root.key, KEY_BYTES);
}
END_TEST

START_TEST(a_damaged_pin_is_not_no_pin)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct actor root = actor_of(1);

	{
		_cleanup_state_ struct state state = opened(&folder);

		ck_assert_int_eq(state_pin(&state, root.key), 0);
	}
	file_put(&folder, "root.pub", root.key, KEY_BYTES - 1);
	ck_assert_int_lt(reopen_fails(&folder), 0);
}
END_TEST

/* -- Keyset --------------------------------------------------------------------------------------------------------------------------- */

START_TEST(a_keyset_is_taken_once_kept_and_never_downgraded)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct ceremony ceremony = ceremony_of(1);

	{
		_cleanup_state_ struct state state = opened(&folder);

		ck_assert_int_eq(take(&state, &ceremony, 1, 5), -EKEYREJECTED); /* nothing is pinned */
		ck_assert_int_eq(state_pin(&state, ceremony.root.key), 0);
		ck_assert_int_eq(take(&state, &ceremony, 1, 5), 1);
		ck_assert_int_eq(take(&state, &ceremony, 1, 5), 0);
		ck_assert_int_eq(take(&state, &ceremony, 1, 4), -ESTALE);
		ck_assert_int_eq(take(&state, &ceremony, 0, 9), -ESTALE);
		ck_assert_uint_eq(state.keyset.header.generation, 5);
	}
	_cleanup_state_ struct state state = opened(&folder);
	ck_assert(state.deployed);
	ck_assert_uint_eq(state.keyset.header.generation, 5);
	ck_assert_int_eq(take(&state, &ceremony, 1, 4), -ESTALE);
	ck_assert_int_eq(take(&state, &ceremony, 2, 1), 1); /* a new epoch begins at one again */
	ck_assert_int_eq(take(&state, &ceremony, 1, 6), -ESTALE);
}
END_TEST

START_TEST(a_second_keyset_of_one_generation_is_refused)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = opened(&folder);
	struct ceremony ceremony = ceremony_of(1), twin = ceremony;

	ck_assert_int_eq(state_pin(&state, ceremony.root.key), 0);
	ck_assert_int_eq(take(&state, &ceremony, 1, 5), 1);
	twin.online = actor_of(77);
	ck_assert_int_eq(take(&state, &twin, 1, 5), -ESTALE);
	ck_assert_mem_eq(state.keyset.keys[0].key, ceremony.online.key, KEY_BYTES);
}
END_TEST

START_TEST(a_keyset_of_another_root_or_deployment_is_refused)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = opened(&folder);
	struct ceremony ceremony = ceremony_of(1), other = ceremony_of(10), elsewhere = ceremony;
	const char *why;

	ck_assert_int_eq(state_pin(&state, ceremony.root.key), 0);
	ck_assert_int_eq(take(&state, &other, 1, 1), -EKEYREJECTED);
	ck_assert(!state.deployed);
	ck_assert_int_eq(take(&state, &ceremony, 1, 1), 1);
	elsewhere.deployment = other.deployment; /* the same root, another deployment */
	ck_assert_int_eq(take(&state, &elsewhere, 1, 2), -EKEYREJECTED);
	ck_assert_int_eq(state_take_keyset(&state, "junk", 4, &why), -EBADMSG);
	ck_assert_uint_eq(state.keyset.header.generation, 1);
}
END_TEST

/* A keyset that names a new root, signed by the old one and by it. */
static struct pack_writer rotation_of(const struct ceremony *from, const struct actor *to, uint64_t generation, bool both)
{
	struct keyset keyset = keyset_of(to, &from->online, from->deployment, generation);

	return keyset_sealed(&keyset, &from->root, both ? to : NULL);
}

START_TEST(a_root_rotates_by_both_signatures)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct ceremony ceremony = ceremony_of(1), next = ceremony;
	const char *why;

	next.root = actor_of(50);
	_cleanup_writer_ struct pack_writer half = rotation_of(&ceremony, &next.root, 2, false);
	_cleanup_writer_ struct pack_writer whole = rotation_of(&ceremony, &next.root, 2, true);
	{
		_cleanup_state_ struct state state = opened(&folder);

		ck_assert_int_eq(state_pin(&state, ceremony.root.key), 0);
		ck_assert_int_eq(take(&state, &ceremony, 1, 1), 1);
		ck_assert_int_eq(state_take_keyset(&state, half.bytes, half.n, &why), -EKEYREJECTED);
		ck_assert_mem_eq(state.root, ceremony.root.key, KEY_BYTES);
		ck_assert_int_eq(state_take_keyset(&state, whole.bytes, whole.n, &why), 1);
		ck_assert_mem_eq(state.root, next.root.key, KEY_BYTES);
		ck_assert_int_eq(take(&state, &ceremony, 1, 3), -EKEYREJECTED); /* the old root signs nothing any more */
	}
	_cleanup_state_ struct state state = opened(&folder);
	ck_assert(state.deployed);
	ck_assert_mem_eq(state.root, next.root.key, KEY_BYTES);
	ck_assert_int_eq(take(&state, &next, 1, 3), 1);
	ck_assert_int_eq(state_pin(&state, ceremony.root.key), -EEXIST);
}
END_TEST

/* The power goes between the two files of a rotation: the keyset is written, the pin is not. */
START_TEST(a_rotation_cut_short_is_finished_at_the_next_start)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct ceremony ceremony = ceremony_of(1), next = ceremony;
	const char *why;

	next.root = actor_of(50);
	_cleanup_writer_ struct pack_writer whole = rotation_of(&ceremony, &next.root, 2, true);
	{
		_cleanup_state_ struct state state = opened(&folder);

		ck_assert_int_eq(state_pin(&state, ceremony.root.key), 0);
		ck_assert_int_eq(state_take_keyset(&state, whole.bytes, whole.n, &why), 1);
	}
	file_put(&folder, "root.pub", ceremony.root.key, KEY_BYTES);
	{
		_cleanup_state_ struct state state = opened(&folder);

		ck_assert(state.deployed);
		ck_assert_mem_eq(state.root, next.root.key, KEY_BYTES);
		ck_assert_int_eq(take(&state, &ceremony, 1, 3), -EKEYREJECTED);
		ck_assert_int_eq(take(&state, &next, 1, 3), 1);
	}
	_cleanup_state_ struct state state = opened(&folder);
	ck_assert(state.deployed);
	ck_assert_uint_eq(state.keyset.header.generation, 3);
}
END_TEST

START_TEST(a_damaged_keyset_is_awaited_anew)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct ceremony ceremony = ceremony_of(1);
	uint8_t bytes[ENVELOPE_BYTES_MAX];
	ssize_t n;

	{
		_cleanup_state_ struct state state = opened(&folder);

		ck_assert_int_eq(state_pin(&state, ceremony.root.key), 0);
		ck_assert_int_eq(take(&state, &ceremony, 1, 5), 1);
	}
	n = file_get(&folder, "keyset", bytes, sizeof(bytes));
	ck_assert_int_gt(n, 0);
	for (ssize_t i = 0; i < n; i++) {
		bytes[i] ^= 0x10;
		file_put(&folder, "keyset", bytes, (size_t)n);
		bytes[i] ^= 0x10;
		_cleanup_state_ struct state state = opened(&folder);
		ck_assert(state.pinned && !state.deployed);
		if (i % 64 == 0)
			ck_assert_int_eq(take(&state, &ceremony, 1, 5), 1);
	}
}
END_TEST

/* -- Leaving and signing -------------------------------------------------------------------------------------------------------------- */

START_TEST(leaving_forgets_the_deployment_and_keeps_the_host)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct ceremony ceremony = ceremony_of(1), other = ceremony_of(10);
	struct id host;

	{
		_cleanup_state_ struct state state = opened(&folder);

		host = state.host;
		ck_assert_int_eq(state_pin(&state, ceremony.root.key), 0);
		ck_assert_int_eq(take(&state, &ceremony, 1, 5), 1);
		ck_assert_int_eq(state_unpin(&state, false), 0);
		ck_assert(!state.pinned && !state.deployed);
		ck_assert(id_equal(&state.host, &host));
	}
	_cleanup_state_ struct state state = opened(&folder);
	ck_assert(!state.pinned && !state.deployed);
	ck_assert(id_equal(&state.host, &host));
	ck_assert_int_eq(state_pin(&state, other.root.key), 0);
	ck_assert_int_eq(take(&state, &other, 1, 1), 1); /* of the old one's generation nothing is left */
}
END_TEST

START_TEST(leaving_for_good_makes_a_new_host)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct ceremony ceremony = ceremony_of(1);
	struct state before, after;

	before = opened(&folder);
	after = before;
	ck_assert_int_eq(state_pin(&after, ceremony.root.key), 0);
	ck_assert_int_eq(state_unpin(&after, true), 0);
	ck_assert(!id_equal(&before.host, &after.host));
	ck_assert_mem_ne(before.keys.private, after.keys.private, KEY_BYTES);
	ck_assert_uint_gt(after.keys.counter, before.keys.counter); /* an old key cannot come back under a new counter */
	state_close(&after);
	_cleanup_state_ struct state again = opened(&folder);
	ck_assert(!again.pinned);
	ck_assert_mem_ne(before.host_secret, again.host_secret, SECRET_KEY_BYTES);
}
END_TEST

START_TEST(what_netd_signs_verifies_by_its_host_key)
{
	_cleanup_folder_ struct folder folder = folder_new();
	_cleanup_state_ struct state state = opened(&folder);
	_cleanup_writer_ struct pack_writer payload = { .bytes = NULL }, envelope = { .bytes = NULL };
	struct ceremony ceremony = ceremony_of(1);
	struct registration registration = { .backend = "kernel", .version = "0", .listen_port = 51820 }, opened_again;
	struct id other = id_of(99);
	struct document_header next;

	ck_assert_int_eq(state_pin(&state, ceremony.root.key), 0);
	ck_assert_int_eq(take(&state, &ceremony, 3, 5), 1);
	registration.header = state_header(&state);
	next = state_header(&state);
	ck_assert_uint_eq(registration.header.epoch, 3);
	ck_assert_uint_gt(next.generation, registration.header.generation);
	ck_assert_int_eq(state_statement(&state, false, &registration.statement), 0);
	ck_assert_int_eq(statement_verify(&registration.statement, &ceremony.deployment), 0);
	ck_assert_int_eq(statement_verify(&registration.statement, &other), -EKEYREJECTED);
	ck_assert_int_eq(registration_encode(&registration, &payload), 0);
	ck_assert_int_eq(state_sign(&state, DOC_registration, &payload, &envelope), 0);
	ck_assert_int_eq(registration_open(envelope.bytes, envelope.n, &opened_again), 0);
	ck_assert(id_equal(&opened_again.header.id, &state.host));
}
END_TEST

START_TEST(closing_wipes_the_keys)
{
	_cleanup_folder_ struct folder folder = folder_new();
	struct state state = opened(&folder);

	state_close(&state);
	ck_assert_int_eq(state.folder, -1);
	ck_assert(sodium_is_zero(state.host_secret, sizeof(state.host_secret)));
	ck_assert(sodium_is_zero(state.keys.private, sizeof(state.keys.private)));
}
END_TEST

UNIT_MAIN("netd: state", keys_are_made_once_and_survive, two_hosts_are_two_hosts, a_damaged_key_is_not_replaced,
	  a_link_in_place_of_a_key_is_not_followed, a_folder_that_is_not_there_is_an_error, a_key_that_cannot_be_written_is_not_used,
	  one_root_is_pinned_and_no_other, a_damaged_pin_is_not_no_pin, a_keyset_is_taken_once_kept_and_never_downgraded,
	  a_second_keyset_of_one_generation_is_refused, a_keyset_of_another_root_or_deployment_is_refused,
	  a_root_rotates_by_both_signatures, a_rotation_cut_short_is_finished_at_the_next_start, a_damaged_keyset_is_awaited_anew,
	  leaving_forgets_the_deployment_and_keeps_the_host, leaving_for_good_makes_a_new_host,
	  what_netd_signs_verifies_by_its_host_key, closing_wipes_the_keys)
