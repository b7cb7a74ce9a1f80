/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>

#include "controld/call.h"
#include "controld/secrets.h"
#include "libipc/log.h"
#include "libstore/owner.h"

static int file_read(const char *path, uint8_t *bytes, size_t room, size_t *n)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return log_errno(errno, "%s: cannot open", path);
	got = read(fd, bytes, room);
	if (got < 0)
		return log_errno(errno, "%s: cannot read", path);
	*n = (size_t)got;
	return 0;
}

int keyset_root_claimed(struct view bytes, uint8_t root[static KEY_BYTES])
{
	static const struct pack_limits limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 3, .elements = 16 + KEYSET_KEYS_MAX * 4 };
	_cleanup_reader_ struct pack_reader reader = { 0 };
	struct document_header header;
	struct envelope envelope;
	struct pack_cursor payload;
	char name[NAME_BYTES_MAX + 1];
	int r = envelope_open(bytes.p, bytes.n, &envelope);

	if (r == 0 && envelope.type != DOC_keyset)
		r = -EBADMSG;
	if (r == 0)
		r = pack_open(&reader, envelope.payload.p, envelope.payload.n, &limits, &payload);
	if (r < 0)
		return r;
	document_header_read(&payload, &header);
	pack_text_copy(&payload, name, sizeof(name));
	pack_fixed(&payload, root, KEY_BYTES);
	return payload.error;
}

static int keyset_read(const char *path, uint8_t *bytes, size_t room, size_t *n)
{
	struct keyset keyset;
	uint8_t root[KEY_BYTES];
	int r = file_read(path, bytes, room, n);

	if (r < 0)
		return r;
	r = keyset_root_claimed((struct view){ bytes, *n }, root);
	if (r == 0)
		r = keyset_open(bytes, *n, root, &keyset);
	if (r < 0) {
		log_error("%s: expected a signed keyset (loopbackctl root sign-keyset), found something else", path);
		return r;
	}
	return 0;
}

/* The credential is in the database only once its file is on the disk: a crash in between leaves neither. */
int administrator_make(struct store *store, const char *dir, const char *description)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	char text[BEARER_TEXT + 1];
	struct id id;
	int r;

	if (asprintf(&path, "%s/admin.credential", dir) < 0)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return log_errno(errno, "%s: cannot write", path);
	r = credential_make(store, description, "admin", &id, text);
	if (r == 0) {
		size_t n = strlen(text);

		text[n] = '\n';
		if (write(fd, text, n + 1) != (ssize_t)(n + 1) || fsync(fd) < 0)
			r = log_errno(errno ? errno : EIO, "%s: cannot write", path);
	}
	sodium_memzero(text, sizeof(text));
	return r;
}

int controld_init(const char *dir, const char *keyset_path)
{
	_cleanup_(store_free) struct store *store = NULL;
	_cleanup_free_ uint8_t *there = NULL;
	uint8_t bytes[ENVELOPE_BYTES_MAX + 1];
	size_t n = 0, there_n; /* newer compilers do not see that keyset_read() sets it */
	int r = keyset_read(keyset_path, bytes, sizeof(bytes), &n);

	if (r == 0)
		r = owner_become(dir, true);
	if (r == 0)
		r = store_open(&control_store, dir, true, &store);
	if (r < 0)
		return r;
	if (store_meta(store, "keyset", &there, &there_n) == 0) {
		log_error("%s: holds a control plane already; it stays as it is", dir);
		return -EEXIST;
	}
	r = store_begin(store, true);
	if (r == 0)
		r = store_meta_put(store, "keyset", bytes, n);
	if (r == 0)
		r = administrator_make(store, dir, "first administrator");
	if (r == 0)
		r = store_commit(store);
	if (r < 0)
		return r;
	(void)printf("The first administrator's credential is in %s/admin.credential\n", dir);
	return 0;
}
