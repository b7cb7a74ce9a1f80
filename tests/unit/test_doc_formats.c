/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worked example at the end of docs/design/formats.md is what libdoc makes of its inputs, and what libdoc accepts.
 * Runs in the root of the tree.
 */
#include "tests/tools/lib/example.h"
#include "tests/unit/documents.h"

START_TEST(the_page_shows_what_libdoc_makes)
{
	_cleanup_fclose_ FILE *file = fopen(EXAMPLE_PAGE, "re");
	_cleanup_free_ char *page = calloc(1, 1 << 20), *written = NULL;
	size_t written_n = 0;
	const char *section;
	FILE *out = open_memstream(&written, &written_n);

	ck_assert_msg(file != NULL, "cannot open %s: run this in the root of the tree", EXAMPLE_PAGE);
	ck_assert_uint_lt(fread(page, 1, 1 << 20, file), 1 << 20);
	ck_assert_int_eq(example_write(out), 0);
	ck_assert_int_eq(fclose(out), 0);
	section = strstr(page, EXAMPLE_HEADING);
	ck_assert_ptr_nonnull(section);
	ck_assert_msg(strcmp(section, written) == 0, "%s: the example is another; build/tests/tools/formatsdoc prints it", EXAMPLE_PAGE);
}
END_TEST

START_TEST(the_example_is_accepted)
{
	struct example example;
	struct envelope envelope;
	struct network_document network;
	struct trie_node node;

	ck_assert_int_eq(example_make(&example), 0);
	ck_assert_int_eq(envelope_open(example.envelope.bytes, example.envelope.n, &envelope), 0);
	ck_assert_int_eq(envelope_verify(&envelope, example.online_key), 0);
	ck_assert_int_eq(network_document_decode(envelope.payload, &network), 0);
	ck_assert(hash_equal(&network.root, &example.leaf_name));
	ck_assert_int_eq(trie_node_decode(example.leaf.bytes, example.leaf.n, NULL, 0, &node), 0);
	ck_assert_uint_eq(node.count, network.count);
	ck_assert_int_eq(statement_verify(&node.peers[0].statement, &network.header.deployment), 0);
	ck_assert(network_document_covers(&network, &node.peers[0].addresses[0]));
	example_free(&example);
}
END_TEST

UNIT_MAIN("doc: the page", the_page_shows_what_libdoc_makes, the_example_is_accepted)
