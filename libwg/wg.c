/* SPDX-License-Identifier: Apache-2.0 */
#include "libwg/wg.h"

#include <errno.h>
#include <string.h>

#include "libwg/wg_internal.h"

int wg_open(enum wg_backend_kind kind, const char *name, struct wg **wg)
{
	if (name[0] == '\0' || strlen(name) >= IFNAMSIZ || strchr(name, '/'))
		return -ENODEV;
	return kind == WG_KERNEL ? wg_kernel_open(name, wg) : wg_uapi_open(name, wg);
}

void wg_close(struct wg *wg)
{
	if (wg)
		wg->ops->close(wg);
}

int wg_lifeline(const struct wg *wg)
{
	return wg->lifeline;
}

uint64_t wg_sets(const struct wg *wg)
{
	return wg->sets;
}

int wg_begin(struct wg *wg, const struct wg_device *device)
{
	if (wg->changing)
		return -EBUSY;
	wg->changing = true;
	wg->error = 0;
	if (device && (device->set_private_key || device->set_listen_port))
		wg->ops->device(wg, device);
	return 0;
}

static bool peer_valid(const struct wg_peer *peer)
{
	if (peer->remove)
		return true;
	if (peer->set_endpoint && family_bits(peer->endpoint.family) == 0)
		return false;
	for (size_t i = 0; i < peer->allowed_count; i++)
		if (!prefix_valid(&peer->allowed[i]))
			return false;
	return true;
}

int wg_put(struct wg *wg, const struct wg_peer *peer)
{
	if (!wg->changing || !peer_valid(peer))
		return -EINVAL;
	if (wg->error == 0)
		wg->error = wg->ops->peer(wg, peer);
	return wg->error;
}

int wg_commit(struct wg *wg)
{
	if (!wg->changing)
		return -EINVAL;
	if (wg->error == 0)
		wg->error = wg->ops->flush(wg);
	wg->ops->drop(wg);
	wg->changing = false;
	return wg->error;
}

void wg_abandon(struct wg *wg)
{
	wg->ops->drop(wg);
	wg->changing = false;
}

int wg_dump(struct wg *wg, wg_dump_fn *each, void *arg)
{
	return wg->ops->dump(wg, each, arg);
}

static void reader_device(struct wg_reader *reader)
{
	if (!reader->device_given)
		reader->result = reader->each(&reader->device, NULL, reader->arg);
	reader->device_given = true;
}

static void reader_finish_peer(struct wg_reader *reader)
{
	if (!reader->peer_begun)
		return;
	reader->peer_begun = false;
	reader->peer.allowed = reader->allowed;
	if (reader->result == 0)
		reader->result = reader->each(&reader->device, &reader->peer, reader->arg);
}

void wg_reader_peer(struct wg_reader *reader, const uint8_t public_key[static KEY_BYTES])
{
	reader_device(reader);
	if (reader->peer_begun && memcmp(reader->peer.public_key, public_key, KEY_BYTES) == 0)
		return;
	reader_finish_peer(reader);
	memset(&reader->peer, 0, sizeof(reader->peer));
	memcpy(reader->peer.public_key, public_key, KEY_BYTES);
	reader->peer_begun = true;
}

void wg_reader_allowed(struct wg_reader *reader, const struct prefix *prefix)
{
	if (reader->peer.allowed_count == WG_ALLOWED_MAX)
		reader->peer.allowed_cut = true;
	else
		reader->allowed[reader->peer.allowed_count++] = *prefix;
}

int wg_reader_end(struct wg_reader *reader)
{
	reader_device(reader);
	reader_finish_peer(reader);
	return reader->result;
}

int wg_put_removal(struct wg *wg, const uint8_t public_key[static KEY_BYTES])
{
	struct wg_peer peer = { .remove = true };

	memcpy(peer.public_key, public_key, KEY_BYTES);
	return wg_put(wg, &peer);
}

int wg_end(struct wg *wg, int r)
{
	if (r == 0)
		return wg_commit(wg);
	wg_abandon(wg);
	return r;
}

bool prefixes_equal(const struct prefix *a, unsigned a_count, const struct prefix *b, unsigned b_count)
{
	if (a_count != b_count)
		return false;
	for (unsigned i = 0; i < a_count; i++) {
		bool found = false;

		for (unsigned j = 0; j < b_count; j++)
			found = found || prefix_equal(&a[i], &b[j]);
		if (!found)
			return false;
	}
	return true;
}

int wg_backend_named(const char *name, enum wg_backend_kind *kind)
{
	int r = 0;

	if (strcmp(name, "auto") == 0) {
		r = wg_kernel_available();
		*kind = r == 1 ? WG_KERNEL : WG_USERSPACE;
		return r < 0 ? r : 0;
	}
	*kind = strcmp(name, "kernel") == 0 ? WG_KERNEL : WG_USERSPACE;
	return *kind == WG_USERSPACE && strcmp(name, "userspace") != 0 ? -EINVAL : 0;
}
