/* SPDX-License-Identifier: Apache-2.0 */
#include "libdoc/owners.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

struct owner {
	uint64_t tag;
	struct id host;
	uint32_t count; /* 0: free */
	bool marked;
};

struct owners {
	struct owner *slots; /* open addressing, linear probing, deletion by shifting back */
	size_t slot_count;   /* a power of two */
	size_t used;
	uint8_t secret[crypto_shorthash_KEYBYTES]; /* so that nobody can aim at a tag */
};

#define SLOTS_MIN 64

int owners_new(struct owners **out)
{
	_cleanup_(owners_free) struct owners *owners = calloc(1, sizeof(*owners));

	if (!owners)
		return -ENOMEM;
	owners->slots = calloc(SLOTS_MIN, sizeof(owners->slots[0]));
	if (!owners->slots)
		return -ENOMEM;
	owners->slot_count = SLOTS_MIN;
	crypto_shorthash_keygen(owners->secret);
	*out = TAKE_PTR(owners);
	return 0;
}

void owners_free(struct owners *owners)
{
	if (!owners)
		return;
	free(owners->slots);
	free(owners);
}

void owners_clear(struct owners *owners)
{
	memset(owners->slots, 0, owners->slot_count * sizeof(owners->slots[0]));
	owners->used = 0;
}

static uint64_t tag_of_key(const struct owners *owners, const uint8_t *key)
{
	uint64_t tag;

	(void)crypto_shorthash((uint8_t *)&tag, key, KEY_BYTES, owners->secret);
	return tag;
}

/* A byte more than a key's multiple of eight: an address can never have the tag of a key by being the same bytes. */
static uint64_t tag_of_address(const struct owners *owners, const struct prefix *address)
{
	uint8_t bytes[17];
	uint64_t tag;

	bytes[0] = address->family;
	memcpy(bytes + 1, address->b, 16);
	(void)crypto_shorthash((uint8_t *)&tag, bytes, sizeof(bytes), owners->secret);
	return tag;
}

/* The slot of a tag, or the free one where it would go. */
static struct owner *slot_of(const struct owners *owners, uint64_t tag)
{
	size_t i = tag & (owners->slot_count - 1);

	while (owners->slots[i].count && owners->slots[i].tag != tag)
		i = (i + 1) & (owners->slot_count - 1);
	return &owners->slots[i];
}

static int grow(struct owners *owners)
{
	struct owners larger = { .slot_count = owners->slot_count * 2 };

	larger.slots = calloc(larger.slot_count, sizeof(larger.slots[0]));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < owners->slot_count; i++)
		if (owners->slots[i].count)
			*slot_of(&larger, owners->slots[i].tag) = owners->slots[i];
	free(owners->slots);
	owners->slots = larger.slots;
	owners->slot_count = larger.slot_count;
	return 0;
}

static int note(struct owners *owners, uint64_t tag, const struct id *host, struct id *conflict)
{
	struct owner *slot;

	if (owners->used * 4 >= owners->slot_count * 3) {
		int r = grow(owners);

		if (r < 0)
			return r;
	}
	slot = slot_of(owners, tag);
	if (slot->count == 0) {
		*slot = (struct owner){ .tag = tag, .host = *host };
		owners->used++;
	} else if (!id_equal(&slot->host, host)) {
		*conflict = slot->host;
		return -EEXIST;
	}
	slot->count++;
	return 0;
}

static void forget(struct owners *owners, uint64_t tag)
{
	struct owner *slot = slot_of(owners, tag);
	size_t mask = owners->slot_count - 1;
	size_t hole, i;

	if (slot->count == 0 || --slot->count > 0)
		return;
	owners->used--;
	hole = (size_t)(slot - owners->slots);
	for (i = (hole + 1) & mask; owners->slots[i].count; i = (i + 1) & mask) {
		size_t home = owners->slots[i].tag & mask;

		/* Move back only what may stand at the hole: its home is not between hole and here. */
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		owners->slots[hole] = owners->slots[i];
		hole = i;
	}
	memset(&owners->slots[hole], 0, sizeof(owners->slots[hole]));
}

int owners_add(struct owners *owners, const struct peer *peer, struct id *conflict, const struct prefix **address)
{
	int r = note(owners, tag_of_key(owners, peer->statement.wg_key), &peer->host, conflict);

	*address = NULL;
	for (unsigned i = 0; r == 0 && i < peer->address_count; i++) {
		*address = &peer->addresses[i];
		r = note(owners, tag_of_address(owners, &peer->addresses[i]), &peer->host, conflict);
	}
	return r;
}

void owners_remove(struct owners *owners, const struct peer *peer)
{
	forget(owners, tag_of_key(owners, peer->statement.wg_key));
	for (unsigned i = 0; i < peer->address_count; i++)
		forget(owners, tag_of_address(owners, &peer->addresses[i]));
}

const struct id *owners_of_key(const struct owners *owners, const uint8_t wg_key[static KEY_BYTES])
{
	const struct owner *slot = slot_of(owners, tag_of_key(owners, wg_key));

	return slot->count ? &slot->host : NULL;
}

void owners_unmark(struct owners *owners)
{
	for (size_t i = 0; i < owners->slot_count; i++)
		owners->slots[i].marked = false;
}

void owners_mark(struct owners *owners, const uint8_t wg_key[static KEY_BYTES])
{
	struct owner *slot = slot_of(owners, tag_of_key(owners, wg_key));

	if (slot->count)
		slot->marked = true;
}

bool owners_marked(const struct owners *owners, const uint8_t wg_key[static KEY_BYTES])
{
	return slot_of(owners, tag_of_key(owners, wg_key))->marked;
}
