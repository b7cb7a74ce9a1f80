/* SPDX-License-Identifier: Apache-2.0 */
/* Documents become a mesh, or the reason why not: mesh_open() and mesh_merge(). */
#include "tests/unit/world.h"

static struct world two_networks(void)
{
	struct world world = world_new();

	(void)world_network_add(&world, 1);
	(void)world_network_add(&world, 1);
	for (uint32_t i = 10; i < 20; i++) {
		struct peer peer = world_peer(&world, i);

		world_put(&world, 0, &peer);
		if (i % 2)
			world_put(&world, 1, &peer);
	}
	return world;
}

START_TEST(good_documents_open)
{
	_cleanup_world_ struct world world = two_networks();
	_cleanup_(mesh_free) struct mesh *mesh = NULL;

	world.networks[1].document.mtu = 1300;
	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_uint_eq(mesh->network_count, 2);
	ck_assert_uint_eq(mesh->count, 3);
	ck_assert_uint_eq(mesh->mtu, 1300);
	ck_assert_uint_eq(mesh->peers, 11 + 6);
	ck_assert_str_eq(mesh->host.name, "web-1");
	ck_assert_ptr_eq(mesh_network(mesh, &world.networks[1].document.header.id), &mesh->networks[1]);
	ck_assert_ptr_null(mesh_network(mesh, &world.deployment));
	ck_assert_ptr_null(mesh_network(NULL, &world.deployment));
}
END_TEST

START_TEST(a_host_without_networks_opens)
{
	_cleanup_world_ struct world world = world_new();
	_cleanup_(mesh_free) struct mesh *mesh = NULL;

	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_uint_eq(mesh->network_count, 0);
	ck_assert_uint_eq(mesh->mtu, 0);
	ck_assert_int_eq(world_check(&world, NULL, mesh), 0);
}
END_TEST

START_TEST(a_set_without_this_hosts_document_is_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;

	world_publish(&world);
	world.entries[0].id = id_of(77);
	ck_assert_refused(&world, world_open(&world, &mesh), "other-host");
	world_publish(&world);
	world.entries[0] = world.entries[--world.count];
	ck_assert_refused(&world, world_open(&world, &mesh), "other-host");
	world.count = 0;
	ck_assert_refused(&world, world_open(&world, &mesh), "other-host");
	/* Another host's beside it. */
	world_publish(&world);
	world.entries[world.count++] = world.entries[0];
	world.entries[0].id = id_of(77);
	ck_assert_refused(&world, world_open(&world, &mesh), "other-host");
	/* Another host's document under our name. */
	world.document.header.id = id_of(77);
	world_publish(&world);
	world.entries[0].id = world.state.host;
	ck_assert_refused(&world, world_open(&world, &mesh), "mixed");
	ck_assert_ptr_null(mesh);
}
END_TEST

START_TEST(a_document_that_is_not_there_is_refused)
{
	struct mesh *mesh = NULL;

	for (unsigned i = 0; i < 3; i++) {
		_cleanup_world_ struct world world = two_networks();

		world_publish(&world);
		world.entries[i].hash.b[31] ^= 1;
		ck_assert_refused(&world, world_open(&world, &mesh), "missing-document");
	}
}
END_TEST

START_TEST(a_signature_by_another_key_is_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct actor stranger = actor_of(99);
	struct mesh *mesh = NULL;

	world.signer = &stranger;
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "forged");
	/* The root signs keysets; its signature under anything else is worth nothing. */
	world.signer = &world.root;
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "forged");
	/* Nor is a key good that may sign other things only. */
	world.signer = NULL;
	world_publish(&world);
	world.state.keyset.keys[0].usage = KEY_OPERATOR;
	ck_assert_refused(&world, world_open(&world, &mesh), "forged");
}
END_TEST

START_TEST(a_document_of_another_type_is_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;

	world_publish(&world);
	world.entries[0].hash = world.entries[1].hash; /* validly signed, but a network */
	ck_assert_refused(&world, world_open(&world, &mesh), "malformed");
	world_publish(&world);
	world.entries[1].hash = world.entries[0].hash;
	ck_assert_refused(&world, world_open(&world, &mesh), "malformed");
}
END_TEST

START_TEST(a_signed_payload_that_does_not_decode_is_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;

	world.networks[0].document.mtu = MTU_MIN - 1;
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "malformed");
	world.networks[0].document.mtu = MTU_DEFAULT;
	world.networks[0].seat.addresses[0].length = 31; /* no single address */
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "malformed");
}
END_TEST

START_TEST(another_deployment_is_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;

	world.document.header.deployment = id_of(5);
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "deployment");
	world.document.header.deployment = world.deployment;
	world.networks[1].document.header.deployment = id_of(5);
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "deployment");
}
END_TEST

START_TEST(another_generation_or_epoch_than_named_is_refused)
{
	struct mesh *mesh = NULL;

	for (unsigned i = 0; i < 3; i++) {
		_cleanup_world_ struct world world = two_networks();

		world_publish(&world);
		world.entries[i].generation++;
		ck_assert_refused(&world, world_open(&world, &mesh), "mixed");
		world.entries[i].generation--;
		world.entries[i].epoch++;
		ck_assert_refused(&world, world_open(&world, &mesh), "mixed");
	}
}
END_TEST

START_TEST(another_epoch_than_the_keysets_is_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;

	world_publish(&world);
	world.state.keyset.header.epoch = 2;
	ck_assert_refused(&world, world_open(&world, &mesh), "epoch");
	world.document.header.epoch = 2;
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "epoch");
	world.networks[0].document.header.epoch = world.networks[1].document.header.epoch = 2;
	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	mesh_free(mesh);
}
END_TEST

START_TEST(a_bridged_network_is_taken_if_both_say_so_and_are_of_one_organization)
{
	_cleanup_world_ struct world world = two_networks();
	struct network_document *own = &world.networks[0].document, *other = &world.networks[1].document;
	_cleanup_(mesh_free) struct mesh *mesh = NULL;

	world.networks[1].member = false;
	own->bridge_count = other->bridge_count = 1;
	own->bridges[0] = other->header.id;
	other->bridges[0] = own->header.id;
	world_publish(&world);
	world_publish_network(&world, &world.networks[1]);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_uint_eq(mesh->network_count, 2);
	ck_assert_uint_eq(mesh->host.network_count, 1);
	ck_assert_ptr_eq(mesh_bridged_with(mesh, &mesh->networks[1]), &mesh->networks[0]);
	mesh_free(TAKE_PTR(mesh));

	other->header.organization = id_of(77);
	world_republish(&world);
	world_publish_network(&world, &world.networks[1]);
	ck_assert_refused(&world, world_open(&world, &mesh), "not-bridged");
}
END_TEST

START_TEST(networks_that_do_not_fit_the_host_document_are_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;

	world_publish(&world);
	world.count--; /* one less than the host document names */
	ck_assert_refused(&world, world_open(&world, &mesh), "mixed");
	world.networks[1].member = false;
	world_publish(&world);
	world_publish_network(&world, &world.networks[1]); /* one more */
	ck_assert_refused(&world, world_open(&world, &mesh), "not-bridged");
	world.networks[1].member = true;
	world_publish(&world);
	world.entries[2] = world.entries[1]; /* as many, but one of them twice */
	ck_assert_refused(&world, world_open(&world, &mesh), "mixed");
}
END_TEST

START_TEST(an_address_outside_of_its_network_is_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;

	world.networks[1].seat.addresses[0] = prefix_of("10.0.0.1/32");
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "address");
	world.networks[1].seat.addresses[0] = prefix_of("fd00::1/128");
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "address");
}
END_TEST

START_TEST(more_peers_than_a_host_takes_are_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;

	/* 65,537 in one network. */
	world.networks[0].forge_count = world.networks[1].forge_count = true;
	world.networks[0].document.count = PEERS_MAX + 1;
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "too-many-peers");
	/* 65,537 over several, each of which is small enough. */
	world.networks[0].document.count = PEERS_MAX / 2 + 1;
	world.networks[1].document.count = PEERS_MAX / 2;
	world_publish(&world);
	ck_assert_refused(&world, world_open(&world, &mesh), "too-many-peers");
	/* 65,536 are taken; nothing has looked at a trie so far. */
	world.networks[0].document.count--;
	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_uint_eq(mesh->peers, PEERS_MAX);
	mesh_free(mesh);
}
END_TEST

START_TEST(a_flipped_byte_anywhere_is_refused)
{
	_cleanup_world_ struct world world = two_networks();
	struct mesh *mesh = NULL;
	struct view host;

	world_publish(&world);
	ck_assert_int_eq(blobs_get(world.blobs, &world.entries[0].hash, &host), 0);
	for (size_t i = 0; i < host.n; i++) {
		uint8_t bytes[ENVELOPE_BYTES_MAX];
		struct hash name;

		memcpy(bytes, host.p, host.n);
		bytes[i] ^= 0x40;
		hash_of(bytes, host.n, &name);
		ck_assert_int_eq(blobs_put(world.blobs, &name, bytes, host.n), 0);
		world.entries[0].hash = name;
		ck_assert_int_eq(world_open(&world, &mesh), -EBADMSG);
		ck_assert(strcmp(world.refusal.code, "forged") == 0 || strcmp(world.refusal.code, "malformed") == 0);
		ck_assert_int_eq(blobs_get(world.blobs, &name, &(struct view){ NULL, 0 }), 0);
		blobs_drop(world.blobs, &name);
	}
}
END_TEST

/* -- Merging ------------------------------------------------------------------------------------------------------------------------ */

static bool allows(const struct merged_peer *merged, const char *text)
{
	struct prefix prefix = prefix_of(text);
	bool found = false;

	for (unsigned i = 0; i < merged->allowed_count; i++)
		found = found || prefix_equal(&merged->allowed[i], &prefix);
	return found;
}

START_TEST(a_host_of_two_networks_is_one_peer)
{
	_cleanup_world_ struct world world = two_networks();
	_cleanup_(mesh_free) struct mesh *mesh = NULL;
	struct peer peer = world_peer(&world, 11); /* in both */
	struct merged_peer merged, again;

	world.networks[0].document.keepalive = 0;
	world.networks[1].document.keepalive = 15;
	peer.address_count = 2;
	peer.addresses[1] = prefix_of("100.64.9.9");
	world_put(&world, 1, &peer);
	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &peer.host, NULL, NULL, FAMILY_4, &merged), 0);
	ck_assert(merged.present);
	ck_assert_mem_eq(merged.wg_key, peer.statement.wg_key, KEY_BYTES);
	ck_assert_uint_eq(merged.allowed_count, 2); /* the shared address once */
	ck_assert(allows(&merged, "100.64.0.11") && allows(&merged, "100.64.9.9"));
	ck_assert_uint_eq(merged.keepalive, 15); /* off is not more conservative than on */
	ck_assert(endpoint_equal(&merged.endpoint, &peer.endpoints[0]));
	/* With an entry in hand: the same. */
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &peer.host, &peer, &world.networks[1].document.header.id, FAMILY_4, &again), 0);
	ck_assert_uint_eq(again.allowed_count, 2);
	ck_assert(prefix_equal(&merged.allowed[0], &again.allowed[0]) && prefix_equal(&merged.allowed[1], &again.allowed[1]));
}
END_TEST

START_TEST(the_most_conservative_tunnel_wins)
{
	static const struct {
		uint16_t keepalive[2], mtu[2], expected_keepalive, expected_mtu;
	} cases[] = {
		{ { 15, 30 }, { 1380, 1300 }, 15, 1300 }, { { 30, 15 }, { 1300, 1380 }, 15, 1300 },
		{ { 0, 30 }, { 1380, 1380 }, 30, 1380 },  { { 30, 0 }, { 1280, 9000 }, 30, 1280 }, { { 0, 0 }, { 9000, 1280 }, 0, 1280 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_world_ struct world world = two_networks();
		_cleanup_(mesh_free) struct mesh *mesh = NULL;
		struct peer peer = world_peer(&world, 11);
		struct merged_peer merged;

		for (unsigned j = 0; j < 2; j++) {
			world.networks[j].document.keepalive = cases[i].keepalive[j];
			world.networks[j].document.mtu = cases[i].mtu[j];
		}
		world_publish(&world);
		ck_assert_accepted(&world, world_open(&world, &mesh));
		ck_assert_uint_eq(mesh->mtu, cases[i].expected_mtu);
		ck_assert_int_eq(mesh_merge(mesh, world.blobs, &peer.host, NULL, NULL, FAMILY_4, &merged), 0);
		ck_assert_uint_eq(merged.keepalive, cases[i].expected_keepalive);
	}
}
END_TEST

START_TEST(a_host_of_no_network_is_absent)
{
	_cleanup_world_ struct world world = two_networks();
	_cleanup_(mesh_free) struct mesh *mesh = NULL;
	struct peer stranger = world_peer(&world, 500), one = world_peer(&world, 12); /* only in the first */
	struct merged_peer merged;

	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &stranger.host, NULL, NULL, FAMILY_4, &merged), 0);
	ck_assert(!merged.present);
	ck_assert_uint_eq(merged.allowed_count, 0);
	ck_assert_int_eq(mesh_merge(NULL, world.blobs, &one.host, NULL, NULL, FAMILY_4, &merged), 0);
	ck_assert(!merged.present);
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &one.host, NULL, NULL, FAMILY_4, &merged), 0);
	ck_assert(merged.present);
}
END_TEST

START_TEST(networks_that_disagree_on_a_key_do_not_merge)
{
	_cleanup_world_ struct world world = two_networks();
	_cleanup_(mesh_free) struct mesh *mesh = NULL;
	struct peer peer = world_peer(&world, 11);
	struct actor host = actor_of(11 ^ 0x4057000000ULL);
	struct merged_peer merged;

	peer.statement.wg_key[0] ^= 1;
	peer_vouch(&peer, &host, &world.deployment);
	world_put(&world, 1, &peer);
	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &peer.host, NULL, NULL, FAMILY_4, &merged), -EKEYREJECTED);
}
END_TEST

START_TEST(an_endpoint_is_of_a_family_that_this_host_has)
{
	_cleanup_world_ struct world world = two_networks();
	_cleanup_(mesh_free) struct mesh *mesh = NULL;
	struct peer peer = world_peer(&world, 12);
	struct merged_peer merged;

	peer.endpoint_count = 2;
	peer.endpoints[0] = endpoint_of("[2001:db8::1]:51820");
	peer.endpoints[1] = endpoint_of("192.0.2.1:51821");
	world_put(&world, 0, &peer);
	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &peer.host, NULL, NULL, FAMILY_4 | FAMILY_6, &merged), 0);
	ck_assert_uint_eq(merged.endpoint.family, 6);
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &peer.host, NULL, NULL, FAMILY_4, &merged), 0);
	ck_assert_uint_eq(merged.endpoint.port, 51821);
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &peer.host, NULL, NULL, 0, &merged), 0);
	ck_assert_uint_eq(merged.endpoint.family, 0);
}
END_TEST

START_TEST(a_missing_node_is_not_an_absent_peer)
{
	_cleanup_world_ struct world world = two_networks();
	_cleanup_(mesh_free) struct mesh *mesh = NULL;
	struct peer peer = world_peer(&world, 11);
	struct merged_peer merged;

	world_publish(&world);
	ck_assert_accepted(&world, world_open(&world, &mesh));
	blobs_drop(world.blobs, &mesh->networks[1].root);
	ck_assert_int_eq(mesh_merge(mesh, world.blobs, &peer.host, NULL, NULL, FAMILY_4, &merged), -ENOENT);
}
END_TEST

UNIT_MAIN("netd: mesh", good_documents_open, a_host_without_networks_opens, a_set_without_this_hosts_document_is_refused,
	  a_document_that_is_not_there_is_refused, a_signature_by_another_key_is_refused, a_document_of_another_type_is_refused,
	  a_signed_payload_that_does_not_decode_is_refused, another_deployment_is_refused,
	  another_generation_or_epoch_than_named_is_refused, another_epoch_than_the_keysets_is_refused,
	  a_bridged_network_is_taken_if_both_say_so_and_are_of_one_organization,
	  networks_that_do_not_fit_the_host_document_are_refused, an_address_outside_of_its_network_is_refused,
	  more_peers_than_a_host_takes_are_refused, a_flipped_byte_anywhere_is_refused, a_host_of_two_networks_is_one_peer, the_most_conservative_tunnel_wins,
	  a_host_of_no_network_is_absent, networks_that_disagree_on_a_key_do_not_merge,
	  an_endpoint_is_of_a_family_that_this_host_has, a_missing_node_is_not_an_absent_peer)
