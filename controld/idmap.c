/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/idmap.h"

#include <errno.h>
#include <string.h>

#define ROOM_FIRST 64

static size_t home(const struct idmap *map, const struct id *id)
{
	uint64_t bits;

	memcpy(&bits, id->b, sizeof(bits));
	return (size_t)bits & (map->room - 1);
}

/* The slot of this id, or the free one where it would go. */
static struct idmap_slot *find(const struct idmap *map, const struct id *id)
{
	size_t at = home(map, id);

	while (map->slots[at].value && !id_equal(&map->slots[at].id, id))
		at = (at + 1) & (map->room - 1);
	return &map->slots[at];
}

static int grow(struct idmap *map)
{
	struct idmap bigger = { .room = map->room ? map->room * 2 : ROOM_FIRST, .count = map->count };

	bigger.slots = calloc(bigger.room, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < map->room; i++)
		if (map->slots[i].value)
			*find(&bigger, &map->slots[i].id) = map->slots[i];
	free(map->slots);
	*map = bigger;
	return 0;
}

void *idmap_get(const struct idmap *map, const struct id *id)
{
	return map->room ? find(map, id)->value : NULL;
}

int idmap_put(struct idmap *map, const struct id *id, void *value)
{
	struct idmap_slot *slot;

	if ((map->count + 1) * 4 > map->room * 3 && grow(map) < 0)
		return -ENOMEM;
	slot = find(map, id);
	if (!slot->value)
		map->count++;
	*slot = (struct idmap_slot){ *id, value };
	return 0;
}

void *idmap_remove(struct idmap *map, const struct id *id)
{
	struct idmap_slot *slot = map->room ? find(map, id) : NULL;
	void *value = slot ? slot->value : NULL;
	size_t hole, at;

	if (!value)
		return NULL;
	map->count--;
	/* Move up what would not be found any more across the hole (Knuth, 6.4, algorithm R). */
	hole = (size_t)(slot - map->slots);
	for (at = (hole + 1) & (map->room - 1); map->slots[at].value; at = (at + 1) & (map->room - 1)) {
		size_t wanted = home(map, &map->slots[at].id);

		if (((at - wanted) & (map->room - 1)) < ((at - hole) & (map->room - 1)))
			continue;
		map->slots[hole] = map->slots[at];
		hole = at;
	}
	map->slots[hole].value = NULL;
	return value;
}

void *idmap_next(const struct idmap *map, size_t *at, struct id *id)
{
	while (*at < map->room) {
		const struct idmap_slot *slot = &map->slots[(*at)++];

		if (!slot->value)
			continue;
		if (id)
			*id = slot->id;
		return slot->value;
	}
	return NULL;
}

void idmap_free(struct idmap *map)
{
	free(map->slots);
	*map = (struct idmap){ 0 };
}
