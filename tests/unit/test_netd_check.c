/* SPDX-License-Identifier: Apache-2.0 */
/* What is new in the tries, held against everything else: mesh_check(), each of its refusals, and what it must not refuse. */
#include "libdoc/trie_node.h"
#include "tests/unit/world.h"

/* This host and ten others, accepted. */
static struct world running(struct mesh **mesh)
{
	struct world world = world_new();

	(void)world_network_add(&world, 1);
	for (uint32_t i = 10; i < 20; i++) {
		struct peer peer = world_peer(&world, i);

		world_put(&world, 0, &peer);
	}
	ck_assert_accepted(&world, world_accept(&world, NULL, mesh));
	return world;
}

#define _cleanup_mesh_ _cleanup_(mesh_free)

/* The host that peer_signed() makes of a number. */
static struct actor host_of(uint32_t number)
{
	return actor_of(number ^ 0x4057000000ULL);
}

START_TEST(a_first_mesh_is_noted)
{
	_cleanup_mesh_ struct mesh *mesh = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer peer = world_peer(&world, 12);
	const struct id *owner = owners_of_key(world.owners, peer.statement.wg_key);

	ck_assert_ptr_nonnull(owner);
	ck_assert(id_equal(owner, &peer.host));
	owner = owners_of_key(world.owners, world.state.keys.public);
	ck_assert(owner && id_equal(owner, &world.state.host));
}
END_TEST

START_TEST(an_address_of_two_hosts_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer peer = world_peer(&world, 30);

	peer.addresses[0] = address_of_number(12);
	world_put(&world, 0, &peer);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "overlap");
	ck_assert_ptr_nonnull(strstr(world.refusal.reason, "100.64.0.12"));
	ck_assert_int_eq(mesh_note_all(world.blobs, mesh, world.owners), 0);
	/* This host's own address is nobody else's either. */
	peer.addresses[0] = address_of_number(1);
	world_put(&world, 0, &peer);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "overlap");
	ck_assert_int_eq(mesh_note_all(world.blobs, mesh, world.owners), 0);
	/* Put right, the same peer is welcome: what was refused has left nothing behind. */
	peer.addresses[0] = address_of_number(30);
	world_put(&world, 0, &peer);
	ck_assert_accepted(&world, world_accept(&world, mesh, &next));
}
END_TEST

START_TEST(an_address_of_two_hosts_in_two_networks_is_refused)
{
	_cleanup_world_ struct world world = world_new();
	struct mesh *mesh = NULL;
	struct peer one, other;

	(void)world_network_add(&world, 1);
	(void)world_network_add(&world, 1);
	one = world_peer(&world, 10);
	other = world_peer(&world, 11);
	other.addresses[0] = one.addresses[0];
	world_put(&world, 0, &one);
	world_put(&world, 1, &other);
	ck_assert_refused(&world, world_accept(&world, NULL, &mesh), "overlap");
}
END_TEST

START_TEST(an_address_twice_in_one_entry_is_that_hosts_own)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *with = NULL, *without = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer peer = world_peer(&world, 30), successor = world_peer(&world, 31);

	peer.address_count = 2;
	peer.addresses[1] = peer.addresses[0];
	world_put(&world, 0, &peer);
	ck_assert_accepted(&world, world_accept(&world, mesh, &with));
	/* Counted twice, taken back twice: it is free again. */
	world_take(&world, 0, &peer);
	successor.addresses[0] = peer.addresses[0];
	world_put(&world, 0, &successor);
	ck_assert_accepted(&world, world_accept(&world, with, &without));
}
END_TEST

START_TEST(an_address_moves_from_one_host_to_another_in_one_step)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *moved = NULL, *swapped = NULL;
	_cleanup_world_ struct world world = running(&mesh);

	/* One goes and its address goes to a new one; and two hosts trade theirs. */
	struct peer gone = world_peer(&world, 12), heir = world_peer(&world, 30);
	struct peer left = world_peer(&world, 13), right = world_peer(&world, 14);

	heir.addresses[0] = gone.addresses[0];
	world_take(&world, 0, &gone);
	world_put(&world, 0, &heir);
	ck_assert_accepted(&world, world_accept(&world, mesh, &moved));
	left.addresses[0] = address_of_number(14);
	right.addresses[0] = address_of_number(13);
	world_put(&world, 0, &left);
	world_put(&world, 0, &right);
	ck_assert_accepted(&world, world_accept(&world, moved, &swapped));
}
END_TEST

START_TEST(an_address_moves_between_networks_in_one_step)
{
	_cleanup_world_ struct world world = world_new();
	_cleanup_mesh_ struct mesh *mesh = NULL, *moved = NULL;
	struct peer gone, heir;

	(void)world_network_add(&world, 1);
	(void)world_network_add(&world, 1);
	gone = world_peer(&world, 10);
	heir = world_peer(&world, 11);
	heir.addresses[0] = gone.addresses[0];
	/* The second network is walked after the first: the address is noted there before it would be forgotten here. */
	world_put(&world, 1, &gone);
	ck_assert_accepted(&world, world_accept(&world, NULL, &mesh));
	world_take(&world, 1, &gone);
	world_put(&world, 0, &heir);
	ck_assert_accepted(&world, world_accept(&world, mesh, &moved));
}
END_TEST

START_TEST(a_network_that_goes_takes_its_addresses_along)
{
	_cleanup_world_ struct world world = world_new();
	_cleanup_mesh_ struct mesh *mesh = NULL, *less = NULL;
	struct peer gone, heir;

	(void)world_network_add(&world, 1);
	(void)world_network_add(&world, 1);
	gone = world_peer(&world, 10);
	world_put(&world, 1, &gone);
	ck_assert_accepted(&world, world_accept(&world, NULL, &mesh));
	world.networks[1].member = false;
	heir = world_peer(&world, 11);
	heir.addresses[0] = gone.addresses[0];
	world_put(&world, 0, &heir);
	ck_assert_accepted(&world, world_accept(&world, mesh, &less));
	ck_assert_ptr_null(owners_of_key(world.owners, gone.statement.wg_key));
	ck_assert_ptr_nonnull(owners_of_key(world.owners, world.state.keys.public));
}
END_TEST

START_TEST(a_wireguard_key_of_two_hosts_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer standing = world_peer(&world, 12), thief = world_peer(&world, 30);
	struct actor host = host_of(30);

	memcpy(thief.statement.wg_key, standing.statement.wg_key, KEY_BYTES);
	peer_vouch(&thief, &host, &world.deployment);
	world_put(&world, 0, &thief);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "duplicate-key");
}
END_TEST

START_TEST(this_hosts_key_for_another_host_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer thief = world_peer(&world, 30);
	struct actor host = host_of(30);

	memcpy(thief.statement.wg_key, world.state.keys.public, KEY_BYTES);
	peer_vouch(&thief, &host, &world.deployment);
	world_put(&world, 0, &thief);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "own-key");
}
END_TEST

START_TEST(another_key_for_this_host_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer self = world_self(&world, 1);

	self.statement.wg_key[5] ^= 1;
	peer_vouch(&self, &world.host, &world.deployment);
	world_put(&world, 0, &self);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "own-key");
}
END_TEST

START_TEST(two_keys_of_this_host_in_two_networks_are_refused)
{
	_cleanup_world_ struct world world = world_new();
	struct mesh *mesh = NULL;
	struct peer self;

	(void)world_network_add(&world, 1);
	(void)world_network_add(&world, 1);
	self = world_self(&world, 1);
	self.statement.wg_key[5] ^= 1;
	peer_vouch(&self, &world.host, &world.deployment);
	world_put(&world, 1, &self);
	ck_assert_refused(&world, world_accept(&world, NULL, &mesh), "two-keys");
	/* M5: the message names both. */
	ck_assert_ptr_nonnull(strstr(world.refusal.reason, "net-0"));
	ck_assert_ptr_nonnull(strstr(world.refusal.reason, "net-1"));
}
END_TEST

START_TEST(two_keys_of_a_peer_in_two_networks_are_refused)
{
	_cleanup_world_ struct world world = world_new();
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	struct peer peer = world_peer(&world, 10);
	struct actor host = host_of(10);

	(void)world_network_add(&world, 1);
	(void)world_network_add(&world, 1);
	world_put(&world, 0, &peer);
	world_put(&world, 1, &peer);
	ck_assert_accepted(&world, world_accept(&world, NULL, &mesh));
	/* In one of them alone it changes: the other, which did not, is asked as well. */
	peer.statement.wg_key[5] ^= 1;
	peer.statement.counter++;
	peer_vouch(&peer, &host, &world.deployment);
	world_put(&world, 1, &peer);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "two-keys");
	ck_assert_int_eq(mesh_note_all(world.blobs, mesh, world.owners), 0);
	world_put(&world, 0, &peer);
	ck_assert_accepted(&world, world_accept(&world, mesh, &next));
}
END_TEST

START_TEST(a_key_that_its_host_does_not_vouch_for_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer good = world_peer(&world, 12), swapped = good, elsewhere = world_peer(&world, 13);
	struct actor host = host_of(13);
	struct id other = id_of(5);

	/* The control plane swaps a key: the signature is of the old one. */
	swapped.statement.wg_key[0] ^= 1;
	world_put(&world, 0, &swapped);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "statement");
	ck_assert_int_eq(mesh_note_all(world.blobs, mesh, world.owners), 0);
	/* So is a raised counter, which would make an old key the newest. */
	swapped = good;
	swapped.statement.counter++;
	world_put(&world, 0, &swapped);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "statement");
	ck_assert_int_eq(mesh_note_all(world.blobs, mesh, world.owners), 0);
	world_put(&world, 0, &good);
	/* A statement made for another deployment. */
	elsewhere.statement.counter++;
	peer_vouch(&elsewhere, &host, &other);
	world_put(&world, 0, &elsewhere);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "statement");
}
END_TEST

START_TEST(an_old_key_does_not_come_back)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *newer = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer old = world_peer(&world, 12), new = old, twin = old;
	struct actor host = host_of(12);

	new.statement.wg_key[0] ^= 1;
	new.statement.counter = 5;
	peer_vouch(&new, &host, &world.deployment);
	world_put(&world, 0, &new);
	ck_assert_accepted(&world, world_accept(&world, mesh, &newer));
	world_put(&world, 0, &old); /* validly signed, once */
	ck_assert_refused(&world, world_accept(&world, newer, &next), "downgraded");
	ck_assert_int_eq(mesh_note_all(world.blobs, newer, world.owners), 0);
	/* Another key under the same counter: one of the two came back from somewhere. */
	twin.statement.wg_key[1] ^= 1;
	twin.statement.counter = 5;
	peer_vouch(&twin, &host, &world.deployment);
	world_put(&world, 0, &twin);
	ck_assert_refused(&world, world_accept(&world, newer, &next), "downgraded");
}
END_TEST

START_TEST(a_peers_address_outside_of_the_network_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer peer = world_peer(&world, 30);

	peer.address_count = 2;
	peer.addresses[1] = prefix_of("8.8.8.8/32");
	world_put(&world, 0, &peer);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "address");
	ck_assert_ptr_nonnull(strstr(world.refusal.reason, "8.8.8.8"));
}
END_TEST

START_TEST(a_wrong_count_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer peer = world_peer(&world, 30);

	world.networks[0].forge_count = true;
	for (uint32_t wrong = 10; wrong <= 13; wrong++) {
		if (wrong == 12)
			world_put(&world, 0, &peer); /* the trie has twelve now */
		world.networks[0].document.count = wrong == 12 ? 11 : wrong == 11 ? 12 : wrong;
		ck_assert_refused(&world, world_accept(&world, mesh, &next), "count");
		ck_assert_int_eq(mesh_note_all(world.blobs, mesh, world.owners), 0);
	}
	world.networks[0].document.count = 12;
	ck_assert_accepted(&world, world_accept(&world, mesh, &next));
}
END_TEST

static int count_accepted(const struct network_document *network _unused_, const struct peer *peer _unused_, void *count)
{
	++*(unsigned *)count;
	return 0;
}

START_TEST(no_more_peers_are_verified_than_the_manifest_says)
{
	_cleanup_world_ struct world world = world_new();
	_cleanup_mesh_ struct mesh *mesh = NULL;
	unsigned accepted = 0;

	(void)world_network_add(&world, 1);
	for (uint32_t i = 10; i < 310; i++) {
		struct peer peer = world_peer(&world, i);

		world_put(&world, 0, &peer);
	}
	world.networks[0].forge_count = true;
	world.networks[0].document.count = 5;
	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_refused(&world, mesh_check(&world.state, world.blobs, NULL, mesh, world.owners, count_accepted, &accepted, &world.refusal),
			  "count");
	ck_assert_uint_eq(accepted, 5);
}
END_TEST

START_TEST(a_membership_that_does_not_fit_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct peer self = world_self(&world, 1);

	/* The host document gives another address than the network. */
	world.networks[0].seat.addresses[0] = address_of_number(2);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "mixed");
	world.networks[0].seat.addresses[0] = address_of_number(1);
	world.networks[0].seat.address_count = 2;
	world.networks[0].seat.addresses[1] = address_of_number(2);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "mixed");
	world.networks[0].seat.address_count = 1;
	/* The network does not have this host. */
	world_take(&world, 0, &self);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "mixed");
}
END_TEST

/* Publish a network whose trie is one branch over one leaf with this host in it, standing under this child. */
static void publish_crooked(struct world *world, unsigned child_off, bool torn)
{
	struct world_network *network = &world->networks[0];
	_cleanup_writer_ struct pack_writer leaf = { .bytes = NULL }, other = { .bytes = NULL }, branch = { .bytes = NULL };
	struct peer self = world_self(world, 1), peer = world_peer(world, 30);
	const struct peer *one[] = { &self }, *two[] = { &peer };
	const struct hash *children[TRIE_FANOUT] = { NULL };
	struct hash leaf_name, other_name, place;
	unsigned own, theirs;

	trie_place(&self.host, &place);
	own = trie_digit(place.b, 0);
	trie_place(&peer.host, &place);
	theirs = (trie_digit(place.b, 0) + child_off) % TRIE_FANOUT;
	ck_assert_uint_ne(own, theirs);
	trie_leaf_write(&leaf, one, 1);
	trie_leaf_write(&other, two, 1);
	if (torn)
		other.n--;
	hash_of(leaf.bytes, leaf.n, &leaf_name);
	hash_of(other.bytes, other.n, &other_name);
	children[own] = &leaf_name;
	children[theirs] = &other_name;
	trie_branch_write(&branch, children);
	hash_of(branch.bytes, branch.n, &network->document.root);
	ck_assert_int_eq(blobs_put(world->blobs, &leaf_name, leaf.bytes, leaf.n), 0);
	ck_assert_int_eq(blobs_put(world->blobs, &other_name, other.bytes, other.n), 0);
	ck_assert_int_eq(blobs_put(world->blobs, &network->document.root, branch.bytes, branch.n), 0);
	network->forge_root = network->forge_count = true;
	network->document.count = 2;
}

START_TEST(a_peer_out_of_its_place_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);

	publish_crooked(&world, 2, false);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "misplaced");
	ck_assert_int_eq(mesh_note_all(world.blobs, mesh, world.owners), 0);
	publish_crooked(&world, 2, false);
	owners_clear(world.owners);
	ck_assert_refused(&world, world_accept(&world, NULL, &next), "misplaced");
	owners_clear(world.owners);
	publish_crooked(&world, 0, false); /* a branch of few is not how a builder would do it, but nobody is out of place */
	ck_assert_accepted(&world, world_accept(&world, NULL, &next));
}
END_TEST

START_TEST(a_malformed_node_is_refused)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);

	publish_crooked(&world, 0, true);
	ck_assert_refused(&world, world_accept(&world, mesh, &next), "malformed");
	owners_clear(world.owners);
	ck_assert_refused(&world, world_accept(&world, NULL, &next), "malformed");
}
END_TEST

START_TEST(a_missing_node_is_never_no_peers)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *next = NULL;
	_cleanup_world_ struct world world = running(&mesh);

	world.networks[0].forge_root = world.networks[0].forge_count = true;
	world.networks[0].document.root.b[0] ^= 1;
	world.networks[0].document.count = 0;
	ck_assert_int_eq(world_accept(&world, mesh, &next), -EBADMSG);
	ck_assert_str_ne(world.refusal.code, "");
	ck_assert_ptr_null(next);
}
END_TEST

struct accepted {
	unsigned count, left; /* left: so many are let through */
	bool stranger;        /* something was handed over that had not passed */
};

static int on_accepted(const struct network_document *network, const struct peer *peer, void *arg)
{
	struct accepted *accepted = arg;

	accepted->count++;
	if (statement_verify(&peer->statement, &network->header.deployment) < 0)
		accepted->stranger = true;
	return accepted->left-- == 0 ? -EIO : 0;
}

START_TEST(whoever_stages_peers_gets_checked_ones_only)
{
	_cleanup_mesh_ struct mesh *mesh = NULL, *opened = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct accepted all = { .left = 100 }, few = { .left = 3 }, until = { .left = 100 };
	struct peer forged = world_peer(&world, 30);
	int r;

	owners_clear(world.owners);
	ck_assert_int_eq(mesh_check(&world.state, world.blobs, NULL, mesh, world.owners, on_accepted, &all, &world.refusal), 0);
	ck_assert_uint_eq(all.count, 11);
	/* Its error ends the check, and is nobody's fault among the documents. */
	owners_clear(world.owners);
	ck_assert_int_eq(mesh_check(&world.state, world.blobs, NULL, mesh, world.owners, on_accepted, &few, &world.refusal), -EIO);
	ck_assert_uint_eq(few.count, 4);
	ck_assert_str_eq(world.refusal.code, "");
	/* A forged one among them is not handed over. */
	forged.statement.signature[0] ^= 1;
	world_put(&world, 0, &forged);
	world_republish(&world);
	ck_assert_accepted(&world, world_open(&world, &opened));
	owners_clear(world.owners);
	r = mesh_check(&world.state, world.blobs, NULL, opened, world.owners, on_accepted, &until, &world.refusal);
	ck_assert_refused(&world, r, "statement");
	ck_assert(!until.stranger);
	ck_assert_uint_lt(until.count, 12);
}
END_TEST

/* Whatever came and went before, the notes are those of a first look at the mesh in force. */
START_TEST(notes_after_many_changes_are_those_of_a_first_look)
{
	_cleanup_mesh_ struct mesh *mesh = NULL;
	_cleanup_world_ struct world world = running(&mesh);
	struct dice dice = dice_of(9);
	bool in[60] = { false };

	for (unsigned i = 10; i < 20; i++)
		in[i] = true;
	for (unsigned round = 0; round < 60; round++) {
		struct mesh *next = NULL;

		for (unsigned change = 0; change < 6; change++) {
			uint32_t number = 10 + dice_below(&dice, 50);
			struct peer peer = world_peer(&world, number);

			if (in[number])
				world_take(&world, 0, &peer);
			else
				world_put(&world, 0, &peer);
			in[number] = !in[number];
		}
		ck_assert_accepted(&world, world_accept(&world, mesh, &next));
		mesh_free(mesh);
		mesh = next;
		for (uint32_t number = 10; number < 60; number++) {
			struct peer peer = world_peer(&world, number);

			ck_assert_int_eq(owners_of_key(world.owners, peer.statement.wg_key) != NULL, in[number]);
		}
	}
	ck_assert_int_eq(mesh_note_all(world.blobs, NULL, world.owners), 0);
	ck_assert_ptr_null(owners_of_key(world.owners, world.state.keys.public));
}
END_TEST

UNIT_MAIN("netd: check", a_first_mesh_is_noted, an_address_of_two_hosts_is_refused, an_address_of_two_hosts_in_two_networks_is_refused,
	  an_address_twice_in_one_entry_is_that_hosts_own, an_address_moves_from_one_host_to_another_in_one_step,
	  an_address_moves_between_networks_in_one_step, a_network_that_goes_takes_its_addresses_along,
	  a_wireguard_key_of_two_hosts_is_refused, this_hosts_key_for_another_host_is_refused, another_key_for_this_host_is_refused,
	  two_keys_of_this_host_in_two_networks_are_refused, two_keys_of_a_peer_in_two_networks_are_refused,
	  a_key_that_its_host_does_not_vouch_for_is_refused,
	  an_old_key_does_not_come_back, a_peers_address_outside_of_the_network_is_refused, a_wrong_count_is_refused,
	  no_more_peers_are_verified_than_the_manifest_says,
	  a_membership_that_does_not_fit_is_refused, a_peer_out_of_its_place_is_refused, a_malformed_node_is_refused,
	  a_missing_node_is_never_no_peers, whoever_stages_peers_gets_checked_ones_only,
	  notes_after_many_changes_are_those_of_a_first_look)
