/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "libipc/log.h"
#include "libipc/pack.h"

#define KEY_FILE "transport.key"
#define LINK_FILE "link"
#define LINK_FORMAT 1
#define LINK_FIELDS 6
#define LINK_BYTES_MAX 65536

static const struct pack_limits link_limits = { .bytes = LINK_BYTES_MAX, .depth = 1, .elements = LINK_FIELDS };

/* -- Files ---------------------------------------------------------------------------------------------------------------------- */

/*
 * Read a file of ours whole.
 * @return bytes read; -ENOENT; -EFBIG larger than room; errors of the file system
 */
static ssize_t file_read(int dir, const char *name, uint8_t *bytes, size_t room)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t at = 0;

	if (fd < 0)
		return -errno;
	while (at < room) {
		ssize_t n = read(fd, bytes + at, room - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return (ssize_t)at;
		at += (size_t)n;
	}
	return -EFBIG;
}

static int write_and_sync(int fd, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, bytes, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		bytes += done;
		n -= (size_t)done;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int file_replace(int dir, const char *name, const void *bytes, size_t n)
{
	char beside[64];
	_cleanup_close_ int fd = -1;
	int r;

	(void)snprintf(beside, sizeof(beside), "%s.new", name);
	if (unlinkat(dir, beside, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir, beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_and_sync(fd, bytes, n);
	if (r == 0 && renameat(dir, beside, dir, name) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dir, beside, 0);
		return r;
	}
	return fsync(dir) < 0 ? -errno : 0;
}

/* -- The transport key ---------------------------------------------------------------------------------------------------------- */

static int key_make(struct state *state, uint8_t seed[static crypto_sign_SEEDBYTES])
{
	int r;

	randombytes_buf(seed, crypto_sign_SEEDBYTES);
	r = file_replace(state->dir, KEY_FILE, seed, crypto_sign_SEEDBYTES);
	if (r < 0)
		return log_errno(r, "cannot write the new transport key (%s); fetchd does not start without one", KEY_FILE);
	log_notice("made a new transport key; netd certifies it in this host's registration");
	return 0;
}

static int key_load(struct state *state)
{
	uint8_t public_key[KEY_BYTES], seed[crypto_sign_SEEDBYTES + 1];
	ssize_t n = file_read(state->dir, KEY_FILE, seed, sizeof(seed));
	int r = 0;

	if (n < 0 && n != -ENOENT && n != -EFBIG)
		return log_errno((int)n, "cannot read the transport key (%s)", KEY_FILE);
	if (n != crypto_sign_SEEDBYTES) {
		if (n != -ENOENT)
			log_warning("the transport key (%s) is damaged: expected %u bytes, found another length; it is replaced", KEY_FILE,
				    crypto_sign_SEEDBYTES);
		r = key_make(state, seed);
	}
	if (r == 0)
		(void)crypto_sign_seed_keypair(public_key, state->transport_secret, seed);
	sodium_memzero(seed, sizeof(seed));
	return r;
}

/* -- The control plane ---------------------------------------------------------------------------------------------------------- */

int state_set(struct state *state, const char *url, const char *ca, const char *token, const char *host_name)
{
	char *copy = NULL;

	if (ca && *ca) {
		copy = strdup(ca);
		if (!copy)
			return -ENOMEM;
	}
	free(state->ca);
	state->ca = copy;
	(void)snprintf(state->url, sizeof(state->url), "%s", url);
	sodium_memzero(state->token, sizeof(state->token));
	(void)snprintf(state->token, sizeof(state->token), "%s", token);
	(void)snprintf(state->host_name, sizeof(state->host_name), "%s", host_name);
	state->enrolled = false;
	return 0;
}

static int link_decode(struct state *state, const uint8_t *bytes, size_t n)
{
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	_cleanup_free_ char *ca = NULL;
	struct pack_cursor cursor;
	struct view view;
	int r = pack_open(&reader, bytes, n, &link_limits, &cursor);

	if (r < 0)
		return r;
	(void)pack_u64(&cursor, LINK_FORMAT);
	pack_text_copy(&cursor, state->url, sizeof(state->url));
	view = pack_text(&cursor, CA_BYTES_MAX);
	ca = view.n ? strndup((const char *)view.p, view.n) : NULL;
	pack_text_copy(&cursor, state->token, sizeof(state->token));
	state->enrolled = pack_bool(&cursor);
	pack_text_copy(&cursor, state->host_name, sizeof(state->host_name));
	r = pack_done(&cursor);
	if (r == 0 && view.n && !ca)
		r = -ENOMEM;
	if (r == 0)
		state->ca = TAKE_PTR(ca);
	return r;
}

static void link_clear(struct state *state)
{
	sodium_memzero(state->token, sizeof(state->token));
	free(state->ca);
	state->ca = NULL;
	state->url[0] = state->host_name[0] = '\0';
	state->enrolled = false;
}

static int link_load(struct state *state)
{
	_cleanup_free_ uint8_t *bytes = malloc(LINK_BYTES_MAX);
	ssize_t n;
	int r;

	if (!bytes)
		return -ENOMEM;
	n = file_read(state->dir, LINK_FILE, bytes, LINK_BYTES_MAX);
	if (n == -ENOENT)
		return 0;
	if (n < 0 && n != -EFBIG)
		return log_errno((int)n, "cannot read which control plane this host belongs to (%s)", LINK_FILE);
	r = n < 0 ? (int)n : link_decode(state, bytes, (size_t)n);
	sodium_memzero(bytes, LINK_BYTES_MAX);
	if (r == 0 || r == -ENOMEM)
		return r;
	link_clear(state);
	log_error("the file %s is damaged and is set aside as %s.damaged: this host has no control plane until `loopback enroll`",
		  LINK_FILE, LINK_FILE);
	return renameat(state->dir, LINK_FILE, state->dir, LINK_FILE ".damaged") < 0 ? -errno : 0;
}

int state_open(const char *path, struct state *state)
{
	int r;

	state->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (state->dir < 0)
		return log_errno(errno, "cannot open the state folder %s (systemd makes it, StateDirectory=; it must be fetchd's, mode 0700)",
				 path);
	r = key_load(state);
	return r < 0 ? r : link_load(state);
}

void state_close(struct state *state)
{
	link_clear(state);
	sodium_memzero(state->transport_secret, sizeof(state->transport_secret));
	state->dir = close_fd(state->dir);
}

int state_save(const struct state *state)
{
	struct pack_writer writer = { 0 };
	int r;

	pack_put_array(&writer, LINK_FIELDS);
	pack_put_u64(&writer, LINK_FORMAT);
	pack_put_text(&writer, state->url);
	pack_put_text(&writer, state->ca ? state->ca : "");
	pack_put_text(&writer, state->token);
	pack_put_bool(&writer, state->enrolled);
	pack_put_text(&writer, state->host_name);
	r = writer.error;
	if (r == 0)
		r = file_replace(state->dir, LINK_FILE, writer.bytes, writer.n);
	if (writer.bytes)
		sodium_memzero(writer.bytes, writer.n);
	pack_writer_free(&writer);
	if (r < 0)
		(void)log_errno(r, "cannot write which control plane this host belongs to (%s); what stood there stays", LINK_FILE);
	return r;
}

int state_forget(struct state *state)
{
	link_clear(state);
	if (unlinkat(state->dir, LINK_FILE, 0) < 0 && errno != ENOENT)
		return log_errno(errno, "cannot remove %s; it is read again at the next start", LINK_FILE);
	return fsync(state->dir) < 0 ? log_errno(errno, "cannot sync the state folder") : 0;
}

int state_enrolled(struct state *state)
{
	state->enrolled = true;
	sodium_memzero(state->token, sizeof(state->token));
	return state_save(state);
}
