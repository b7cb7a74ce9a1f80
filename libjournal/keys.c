/* SPDX-License-Identifier: Apache-2.0 */
#include "libjournal/keys.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "libdoc/wgkey.h"
#include "libipc/loop.h"
#include "libjournal/folder.h"

#define FILE_NAME "wg.key"
#define ENTRY_BYTES (8 + KEY_BYTES)
#define CURRENT_BYTES (ENTRY_BYTES + 8)

int host_key_read(int folder, uint8_t secret[static SECRET_KEY_BYTES])
{
	uint8_t seed[crypto_sign_SEEDBYTES], public[KEY_BYTES];
	ssize_t n = folder_read(folder, "host.key", seed, sizeof(seed));

	if (n == -ENOENT) {
		randombytes_buf(seed, sizeof(seed));
		n = folder_write(folder, "host.key", seed, sizeof(seed));
		n = n < 0 ? n : (ssize_t)sizeof(seed);
	}
	if (n >= 0 && n != (ssize_t)sizeof(seed))
		n = -EBADMSG;
	if (n >= 0)
		(void)crypto_sign_seed_keypair(public, secret, seed);
	sodium_memzero(seed, sizeof(seed));
	return n < 0 ? (int)n : 0;
}

static int store(int folder, struct wg_keys *keys, struct wg_keys *new)
{
	uint8_t file[CURRENT_BYTES + ENTRY_BYTES];
	size_t n = new->next_counter ? sizeof(file) : CURRENT_BYTES;
	int r;

	put_counter(file, new->counter);
	memcpy(file + 8, new->private, KEY_BYTES);
	put_counter(file + ENTRY_BYTES, new->since_ms);
	put_counter(file + CURRENT_BYTES, new->next_counter);
	memcpy(file + CURRENT_BYTES + 8, new->next_private, KEY_BYTES);
	r = folder_write(folder, FILE_NAME, file, n);
	sodium_memzero(file, sizeof(file));
	if (r == 0)
		*keys = *new;
	wg_keys_wipe(new);
	return r;
}

static void read_entry(const uint8_t *file, uint64_t *counter, uint8_t *private, uint8_t *public)
{
	*counter = get_counter(file);
	memcpy(private, file + 8, KEY_BYTES);
	(void)crypto_scalarmult_base(public, private);
}

int wg_keys_open(int folder, struct wg_keys *keys)
{
	uint8_t file[CURRENT_BYTES + ENTRY_BYTES];
	ssize_t n = folder_read(folder, FILE_NAME, file, sizeof(file));
	int r = 0;

	*keys = (struct wg_keys){ .counter = 0 };
	if (n == -ENOENT)
		return wg_keys_renew(folder, keys);
	if (n == CURRENT_BYTES || n == sizeof(file)) {
		read_entry(file, &keys->counter, keys->private, keys->public);
		keys->since_ms = get_counter(file + ENTRY_BYTES);
	} else {
		r = n < 0 ? (int)n : -EBADMSG;
	}
	if (n == sizeof(file))
		read_entry(file + CURRENT_BYTES, &keys->next_counter, keys->next_private, keys->next_public);
	sodium_memzero(file, sizeof(file));
	return r;
}

void wg_keys_wipe(struct wg_keys *keys)
{
	sodium_memzero(keys, sizeof(*keys));
}

int wg_keys_renew(int folder, struct wg_keys *keys)
{
	struct wg_keys new = { .counter = keys->counter + 1, .since_ms = unix_now_ms() };

	/* If the file was lost, so was the counter; the time goes on in its stead. */
	if (new.counter < new.since_ms / 1000)
		new.counter = new.since_ms / 1000;
	if (new.counter <= keys->next_counter)
		new.counter = keys->next_counter + 1;
	wg_key_make(new.private, new.public);
	return store(folder, keys, &new);
}

int wg_keys_add_next(int folder, struct wg_keys *keys, const uint8_t *private)
{
	struct wg_keys new = *keys;

	new.next_counter = keys->counter + 1;
	/* An earlier next key may have been announced and given up: its counter is not used twice. */
	if (new.next_counter < (uint64_t)time(NULL))
		new.next_counter = (uint64_t)time(NULL);
	if (private) {
		memcpy(new.next_private, private, KEY_BYTES);
		(void)crypto_scalarmult_base(new.next_public, private);
	} else {
		wg_key_make(new.next_private, new.next_public);
	}
	return store(folder, keys, &new);
}

int wg_keys_adopt_next(int folder, struct wg_keys *keys)
{
	struct wg_keys new = { .counter = keys->next_counter, .since_ms = unix_now_ms() };

	memcpy(new.private, keys->next_private, KEY_BYTES);
	memcpy(new.public, keys->next_public, KEY_BYTES);
	return store(folder, keys, &new);
}

int wg_keys_drop_next(int folder, struct wg_keys *keys)
{
	struct wg_keys new = *keys;

	new.next_counter = 0;
	sodium_memzero(new.next_private, KEY_BYTES);
	return store(folder, keys, &new);
}
