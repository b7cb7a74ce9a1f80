/* SPDX-License-Identifier: Apache-2.0 */
#include "libjournal/blobs.h"

#include <errno.h>
#include <string.h>

struct blob {
	struct blob *next; /* in its bucket */
	struct hash name;
	uint32_t references;
	uint32_t n;
	uint8_t bytes[];
};

struct blobs {
	struct blob **buckets;
	size_t bucket_count; /* a power of two */
	size_t count;
	size_t bytes;
};

/* A name is a hash already; nobody can choose many names of one bucket without finding partial preimages for all of them. */
static struct blob **bucket_of(const struct blobs *blobs, const struct hash *name)
{
	uint64_t head;

	memcpy(&head, name->b, sizeof(head));
	return &blobs->buckets[head & (blobs->bucket_count - 1)];
}

static struct blob *find(const struct blobs *blobs, const struct hash *name)
{
	struct blob *blob = *bucket_of(blobs, name);

	while (blob && !hash_equal(&blob->name, name))
		blob = blob->next;
	return blob;
}

int blobs_new(struct blobs **out)
{
	_cleanup_(blobs_free) struct blobs *blobs = calloc(1, sizeof(*blobs));

	if (!blobs)
		return -ENOMEM;
	blobs->bucket_count = 64;
	blobs->buckets = calloc(blobs->bucket_count, sizeof(blobs->buckets[0]));
	if (!blobs->buckets)
		return -ENOMEM;
	*out = TAKE_PTR(blobs);
	return 0;
}

void blobs_free(struct blobs *blobs)
{
	if (!blobs)
		return;
	for (size_t i = 0; blobs->buckets && i < blobs->bucket_count; i++)
		while (blobs->buckets[i]) {
			struct blob *blob = blobs->buckets[i];

			blobs->buckets[i] = blob->next;
			free(blob);
		}
	free(blobs->buckets);
	free(blobs);
}

/* A table that cannot grow is slower, not wrong. */
static void grow(struct blobs *blobs)
{
	struct blobs larger = { .bucket_count = blobs->bucket_count * 2 };

	larger.buckets = calloc(larger.bucket_count, sizeof(larger.buckets[0]));
	if (!larger.buckets)
		return;
	for (size_t i = 0; i < blobs->bucket_count; i++)
		while (blobs->buckets[i]) {
			struct blob *blob = blobs->buckets[i];
			struct blob **bucket = bucket_of(&larger, &blob->name);

			blobs->buckets[i] = blob->next;
			blob->next = *bucket;
			*bucket = blob;
		}
	free(blobs->buckets);
	blobs->buckets = larger.buckets;
	blobs->bucket_count = larger.bucket_count;
}

int blobs_put(struct blobs *blobs, const struct hash *name, const void *bytes, size_t n)
{
	struct blob **bucket;
	struct blob *blob;

	if (find(blobs, name))
		return 0;
	if (blobs->count >= blobs->bucket_count)
		grow(blobs);
	blob = malloc(sizeof(*blob) + n);
	if (!blob)
		return -ENOMEM;
	bucket = bucket_of(blobs, name);
	blob->next = *bucket;
	blob->name = *name;
	blob->references = 0;
	blob->n = (uint32_t)n;
	memcpy(blob->bytes, bytes, n);
	*bucket = blob;
	blobs->count++;
	blobs->bytes += n;
	return 0;
}

int blobs_get(const struct blobs *blobs, const struct hash *name, struct view *bytes)
{
	const struct blob *blob = find(blobs, name);

	if (!blob)
		return -ENOENT;
	*bytes = (struct view){ blob->bytes, blob->n };
	return 0;
}

int blobs_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	return blobs_get(arg, name, bytes);
}

void blobs_hold(struct blobs *blobs, const struct hash *name)
{
	struct blob *blob = find(blobs, name);

	if (blob)
		blob->references++;
}

static void discard(struct blobs *blobs, struct blob **link)
{
	struct blob *blob = *link;

	*link = blob->next;
	blobs->count--;
	blobs->bytes -= blob->n;
	free(blob);
}

void blobs_drop(struct blobs *blobs, const struct hash *name)
{
	struct blob **link = bucket_of(blobs, name);

	while (*link && !hash_equal(&(*link)->name, name))
		link = &(*link)->next;
	if (!*link)
		return;
	if ((*link)->references > 0)
		(*link)->references--;
	if ((*link)->references == 0)
		discard(blobs, link);
}

void blobs_sweep(struct blobs *blobs)
{
	for (size_t i = 0; i < blobs->bucket_count; i++) {
		struct blob **link = &blobs->buckets[i];

		while (*link) {
			if ((*link)->references == 0)
				discard(blobs, link);
			else
				link = &(*link)->next;
		}
	}
}

size_t blobs_bytes(const struct blobs *blobs)
{
	return blobs->bytes;
}

int blobs_each(const struct blobs *blobs, int (*each)(const struct hash *name, struct view bytes, void *arg), void *arg)
{
	for (size_t i = 0; i < blobs->bucket_count; i++)
		for (const struct blob *blob = blobs->buckets[i]; blob; blob = blob->next) {
			int r = each(&blob->name, (struct view){ blob->bytes, blob->n }, arg);

			if (r < 0)
				return r;
		}
	return 0;
}
