/* SPDX-License-Identifier: Apache-2.0 */
/* Identifiers, keys, addresses: as text, as bytes, against each other. */
#include "tests/unit/documents.h"

START_TEST(prefixes_parse_and_print)
{
	static const struct {
		const char *text, *printed;
	} good[] = {
		{ "100.64.0.0/10", "100.64.0.0/10" }, { "10.1.2.3", "10.1.2.3/32" },   { "0.0.0.0/0", "0.0.0.0/0" },
		{ "fd00::/64", "fd00::/64" },         { "fd00::1", "fd00::1/128" },    { "::/0", "::/0" },
		{ "2001:DB8::/33", "2001:db8::/33" }, { "255.255.255.255/32", "255.255.255.255/32" },
	};
	static const char *const bad[] = {
		"", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/ 8", "10.0.0.0/8 ", "10.0.0.0/8x", "10.0.0.1/8",
		"10.0.0.128/24", "10.0.0/8", "256.0.0.0/8", "fd00::1/64", "fd00::/129", "fd00:/64", "fd00::/064x", "[fd00::]/64", "10.0.0.0/8/8",
		"10.0.0.0/4294967304", "1111:2222:3333:4444:5555:6666:7777:8888:9999", "0000:0000:0000:0000:0000:ffff:255.255.255.2555/128",
	};
	char out[PREFIX_TEXT];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct prefix prefix;

		ck_assert_int_eq(prefix_parse(good[i].text, &prefix), 0);
		ck_assert_str_eq(prefix_format(&prefix, out), good[i].printed);
		ck_assert(prefix_valid(&prefix));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct prefix prefix = { .family = 99 };

		ck_assert_msg(prefix_parse(bad[i], &prefix) == -EINVAL, "%s is accepted", bad[i]);
		ck_assert_uint_eq(prefix.family, 99);
	}
}
END_TEST

/* Every bit beyond the length, and every byte beyond the family. */
START_TEST(bits_beyond_the_length_are_no_prefix)
{
	for (unsigned family = 4; family <= 6; family += 2)
		for (unsigned length = 0; length <= family_bits((uint8_t)family); length++)
			for (unsigned bit = 0; bit < 128; bit++) {
				struct prefix prefix = { (uint8_t)family, (uint8_t)length, { 0 } };
				bool within = bit < length;

				prefix.b[bit / 8] = (uint8_t)(0x80 >> bit % 8);
				if (prefix_valid(&prefix) != within)
					ck_abort_msg("family %u length %u bit %u", family, length, bit);
			}
	ck_assert(!prefix_valid(&(struct prefix){ .family = 4, .length = 33 }));
	ck_assert(!prefix_valid(&(struct prefix){ .family = 6, .length = 129 }));
	ck_assert(!prefix_valid(&(struct prefix){ .family = 0, .length = 0 }));
	ck_assert(!prefix_valid(&(struct prefix){ .family = 5, .length = 0 }));
}
END_TEST

/* Does an address lie in a range? Bit by bit, as a child would. */
static bool naive_contains(const struct prefix *outer, const struct prefix *inner)
{
	if (outer->family != inner->family || inner->length < outer->length)
		return false;
	for (unsigned bit = 0; bit < outer->length; bit++)
		if ((outer->b[bit / 8] ^ inner->b[bit / 8]) & (0x80 >> bit % 8))
			return false;
	return true;
}

START_TEST(containment_agrees_with_a_naive_one)
{
	struct dice dice = dice_of(1);
	unsigned contained = 0;

	for (unsigned i = 0; i < 200000; i++) {
		struct prefix pair[2];

		for (unsigned j = 0; j < 2; j++) {
			struct prefix *prefix = &pair[j];
			unsigned bits;

			*prefix = (struct prefix){ .family = dice_below(&dice, 2) ? 4 : 6 };
			bits = family_bits(prefix->family);
			prefix->length = (uint8_t)dice_below(&dice, bits + 1);
			for (unsigned bit = 0; bit < prefix->length; bit++) /* mostly zero, so that they meet */
				if (dice_below(&dice, 12) == 0)
					prefix->b[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
		}
		if (prefix_contains(&pair[0], &pair[1]) != naive_contains(&pair[0], &pair[1]) ||
		    prefix_overlaps(&pair[0], &pair[1]) != (naive_contains(&pair[0], &pair[1]) || naive_contains(&pair[1], &pair[0])))
			ck_abort_msg("round %u", i);
		contained += prefix_contains(&pair[0], &pair[1]);
	}
	ck_assert_uint_gt(contained, 1000);
}
END_TEST

START_TEST(endpoints_parse_and_print)
{
	static const char *const good[] = { "192.0.2.1:51820", "[2001:db8::1]:51820", "0.0.0.0:1", "[::]:65535" };
	static const char *const bad[] = {
		"", ":", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:+1", "[192.0.2.1]:1", "2001:db8::1:51820",
		"[2001:db8::1]", "[2001:db8::1]51820", "[2001:db8::1:51820", "2001:db8::1]:1", "[]:1", "[:1", "host:1", "192.0.2.1:1 ",
	};
	char out[ENDPOINT_TEXT];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct endpoint endpoint;

		ck_assert_int_eq(endpoint_parse(good[i], &endpoint), 0);
		ck_assert_str_eq(endpoint_format(&endpoint, out), good[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct endpoint endpoint = { .port = 4711 };

		ck_assert_msg(endpoint_parse(bad[i], &endpoint) == -EINVAL, "%s is accepted", bad[i]);
		ck_assert_uint_eq(endpoint.port, 4711);
	}
	ck_assert_str_eq(endpoint_format(&(struct endpoint){ .family = 0 }, out), "none");
}
END_TEST

START_TEST(the_longest_texts_fit)
{
	struct prefix prefix = { .family = 6, .length = 128 };
	struct endpoint endpoint = { .family = 6, .port = 65535 };
	char prefix_text[PREFIX_TEXT], endpoint_text[ENDPOINT_TEXT];

	memset(prefix.b, 0xff, 16);
	memset(endpoint.b, 0xff, 16);
	ck_assert_str_eq(prefix_format(&prefix, prefix_text), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128");
	ck_assert_str_eq(endpoint_format(&endpoint, endpoint_text), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}
END_TEST

START_TEST(identifiers_are_32_hexadecimal_digits)
{
	struct id id = id_of(1), again, zero = { { 0 } };
	char text[ID_TEXT];

	ck_assert_int_eq(id_parse(id_format(&id, text), &again), 0);
	ck_assert(id_equal(&id, &again));
	ck_assert_uint_eq(strlen(text), 32);
	ck_assert(id_is_zero(&zero) && !id_is_zero(&id));
	text[31] = 'g';
	ck_assert_int_eq(id_parse(text, &again), -EINVAL);
	text[31] = '\0';
	ck_assert_int_eq(id_parse(text, &again), -EINVAL);
	ck_assert_int_eq(id_parse("", &again), -EINVAL);
	ck_assert_int_eq(id_parse("0123456789abcdef0123456789abcdef0", &again), -EINVAL);
	ck_assert_int_eq(id_parse("01:23:45:67:89:ab:cd:ef:01:23:45", &again), -EINVAL);
	ck_assert_int_eq(id_parse("0123456789ABCDEF0123456789abcdef", &again), 0);
}
END_TEST

START_TEST(keys_are_wireguards_base64)
{
	/* What `wg pubkey` prints for the private key of all zeros but for the clamping (RFC 7748). */
	static const char text[] = "L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3Q=";
	uint8_t key[KEY_BYTES], zero[KEY_BYTES] = { 0 }, computed[KEY_BYTES];
	char again[KEY_BASE64_TEXT];

	ck_assert_int_eq(crypto_scalarmult_base(computed, zero), 0);
	ck_assert_int_eq(key_parse(text, key), 0);
	ck_assert_mem_eq(key, computed, KEY_BYTES);
	ck_assert_str_eq(key_format(key, again), text);
	ck_assert_int_eq(key_parse("", key), -EINVAL);
	ck_assert_int_eq(key_parse("L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3Q", key), -EINVAL);
	ck_assert_int_eq(key_parse("L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3Q= ", key), -EINVAL);
	ck_assert_int_eq(key_parse("L-V9o0fNYkMVKNqsX7spBzD_9oSvxM_C7ZCZX1jLO3Q=", key), -EINVAL);
	ck_assert_int_eq(key_parse("L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3R=", key), -EINVAL); /* bits beyond the last byte */
	ck_assert_int_eq(key_parse("L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLOw==", key), -EINVAL);
	ck_assert_mem_eq(key, computed, KEY_BYTES);
}
END_TEST

START_TEST(hashes_are_those_of_b2sum)
{
	/* printf abc | b2sum -l 256; printf '' | b2sum -l 256 */
	static const char abc[] = "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319";
	static const char nothing[] = "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8";
	struct hash hash;
	char text[HASH_TEXT];

	hash_of("abc", 3, &hash);
	ck_assert_str_eq(hex_format(hash.b, HASH_BYTES, text), abc);
	hash_of(NULL, 0, &hash);
	ck_assert_str_eq(hex_format(hash.b, HASH_BYTES, text), nothing);
}
END_TEST

START_TEST(a_host_id_is_the_head_of_its_keys_hash)
{
	struct actor host = actor_of(1);
	struct hash hash;
	struct id id;

	hash_of(host.key, KEY_BYTES, &hash);
	host_id_of(host.key, &id);
	ck_assert_mem_eq(id.b, hash.b, ID_BYTES);
}
END_TEST

UNIT_MAIN("doc: types", prefixes_parse_and_print, bits_beyond_the_length_are_no_prefix, containment_agrees_with_a_naive_one,
	  endpoints_parse_and_print, the_longest_texts_fit, identifiers_are_32_hexadecimal_digits, keys_are_wireguards_base64,
	  hashes_are_those_of_b2sum, a_host_id_is_the_head_of_its_keys_hash)
