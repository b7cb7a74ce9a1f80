/* SPDX-License-Identifier: Apache-2.0 */
#include "libjournal/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "libdoc/pae.h"
#include "libipc/log.h"

#define NAME "mesh.log"
#define NEW_NAME "mesh.log.new"
#define HEAD_BYTES 5
#define CHECK_BYTES 16
#define SEAL_TYPE "loopback/commit/1"
#define COMMIT_ROOM (HEAD_ENTRIES_MAX * 128) /* reserved for the record that must not fail */
#define SLACK_BYTES (1024 * 1024)            /* a file below this is never written anew */

enum record { RECORD_BLOB = 1, RECORD_INTENT, RECORD_COMMIT, RECORD_MARK };

struct journal {
	int folder, fd;
	const uint8_t *secret;      /* of the host; borrowed */
	off_t end;                  /* of what was written */
	off_t committed;            /* end of the last commit */
	struct pack_writer pending; /* records that wait for the next intent */
};

static void record_write(struct pack_writer *out, enum record kind, const void *bytes, size_t n)
{
	uint8_t head[HEAD_BYTES] = { (uint8_t)kind, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
	uint8_t check[CHECK_BYTES];
	crypto_generichash_state hash;

	(void)crypto_generichash_init(&hash, NULL, 0, CHECK_BYTES);
	(void)crypto_generichash_update(&hash, head, sizeof(head));
	(void)crypto_generichash_update(&hash, bytes, n);
	(void)crypto_generichash_final(&hash, check, CHECK_BYTES);
	pack_put_raw(out, head, sizeof(head));
	pack_put_raw(out, bytes, n);
	pack_put_raw(out, check, sizeof(check));
}

/* The record at *at. @return its kind; 0 at the end, also a torn or damaged one */
static unsigned record_next(const uint8_t *file, size_t size, size_t *at, struct view *body)
{
	const uint8_t *head = file + *at;
	uint8_t check[CHECK_BYTES];
	size_t n;

	if (size - *at < HEAD_BYTES + CHECK_BYTES)
		return 0;
	n = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
	if (n > size - *at - HEAD_BYTES - CHECK_BYTES)
		return 0;
	(void)crypto_generichash(check, CHECK_BYTES, head, HEAD_BYTES + n, NULL, 0);
	if (memcmp(check, head + HEAD_BYTES + n, CHECK_BYTES) != 0)
		return 0;
	*body = (struct view){ head + HEAD_BYTES, n };
	*at += HEAD_BYTES + n + CHECK_BYTES;
	return head[0];
}

static int replay_commit(struct view body, const uint8_t *host_key, struct journal_end *end)
{
	struct head_entry entries[HEAD_ENTRIES_MAX];
	size_t n = body.n < SIGNATURE_BYTES ? 0 : body.n - SIGNATURE_BYTES;
	int count = n ? have_decode(body.p, n, entries) : -EBADMSG;

	if (count < 0 || pae_verify(SEAL_TYPE, body.p, n, body.p + n, host_key) < 0)
		return -EBADMSG;
	/* What the control plane was last heard under stays the way back, however many changes have come since. */
	if (end->confirm != CONFIRM_unconfirmed && end->confirm != CONFIRM_restored) {
		memcpy(end->before, end->entries, end->count * sizeof(entries[0]));
		end->before_count = end->count;
	}
	memcpy(end->entries, entries, (size_t)count * sizeof(entries[0]));
	end->count = (unsigned)count;
	end->confirm = CONFIRM_none;
	end->interrupted = false;
	return 0;
}

static int replay_mark(struct view body, struct journal_end *end)
{
	if (body.n != 1 || body.p[0] > CONFIRM_restored || end->count == 0)
		return -EBADMSG;
	end->confirm = (enum confirm)body.p[0];
	return 0;
}

static int replay(const uint8_t *file, size_t size, const uint8_t *host_key, struct blobs *blobs, struct journal_end *end, size_t *good)
{
	struct view body;
	unsigned kind;
	size_t at = 0;

	*good = 0;
	while ((kind = record_next(file, size, &at, &body)) != 0) {
		struct hash name;
		int r = 0;

		switch (kind) {
		case RECORD_BLOB:
			hash_of(body.p, body.n, &name);
			r = blobs_put(blobs, &name, body.p, body.n);
			break;
		case RECORD_COMMIT:
			r = replay_commit(body, host_key, end);
			*good = r < 0 ? *good : at;
			break;
		case RECORD_MARK:
			r = replay_mark(body, end);
			*good = r < 0 || end->interrupted ? *good : at;
			break;
		case RECORD_INTENT:
			end->interrupted = true;
			break;
		default:
			r = -EBADMSG;
		}
		if (r == -EBADMSG)
			return 0; /* whole, but nothing that this netd writes: damage like any other, the file is used up to it */
		if (r < 0)
			return r;
	}
	return 0;
}

static int replay_file(struct journal *journal, struct blobs *blobs, struct journal_end *end)
{
	struct stat stat;
	uint8_t *file;
	size_t good;
	int r;

	if (fstat(journal->fd, &stat) < 0)
		return -errno;
	if (stat.st_size == 0)
		return 0;
	file = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, journal->fd, 0);
	if (file == MAP_FAILED)
		return -errno;
	r = replay(file, (size_t)stat.st_size, journal->secret + SECRET_KEY_BYTES - KEY_BYTES, blobs, end, &good);
	(void)munmap(file, (size_t)stat.st_size);
	if (r < 0)
		return r;
	journal->end = journal->committed = (off_t)good;
	if ((off_t)good < stat.st_size)
		log_notice("mesh.log: %lld bytes after the last commit are cut off", (long long)(stat.st_size - (off_t)good));
	return ftruncate(journal->fd, journal->end) < 0 ? -errno : 0;
}

int journal_open(int folder, const uint8_t secret[static SECRET_KEY_BYTES], struct blobs *blobs, struct journal_end *end,
		 struct journal **out)
{
	_cleanup_(journal_close) struct journal *journal = calloc(1, sizeof(*journal));
	int r;

	if (!journal)
		return -ENOMEM;
	*end = (struct journal_end){ 0 };
	journal->folder = folder;
	journal->secret = secret;
	journal->fd = openat(folder, NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (journal->fd < 0)
		return -errno;
	(void)unlinkat(folder, NEW_NAME, 0); /* of a compaction that was cut short */
	r = replay_file(journal, blobs, end);
	if (r < 0)
		return r;
	*out = TAKE_PTR(journal);
	return 0;
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	pack_writer_free(&journal->pending);
	close_fd(journal->fd);
	free(journal);
}

int journal_add(struct journal *journal, struct view bytes)
{
	record_write(&journal->pending, RECORD_BLOB, bytes.p, bytes.n);
	return journal->pending.error;
}

/*
 * Write records at the end. With reserve, room for them and that much more is set aside first, and the disk is not waited for: the commit that follows waits for all.
 * Until then the file system may lose or mix what was written; a record that is not whole ends the replay, and the last commit counts.
 */
static int append(struct journal *journal, const struct pack_writer *records, size_t reserve)
{
	bool wait = reserve == 0;
	size_t at = 0;

	if (records->error < 0)
		return records->error;
	if (reserve && fallocate(journal->fd, FALLOC_FL_KEEP_SIZE, journal->end, (off_t)(records->n + reserve)) < 0) {
		if (errno != EOPNOTSUPP)
			return -errno;
		wait = true; /* nothing can be set aside here: find out now whether there is room */
	}
	while (at < records->n) {
		ssize_t n = pwrite(journal->fd, records->bytes + at, records->n - at, journal->end + (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	if (wait && fdatasync(journal->fd) < 0)
		return -errno;
	journal->end += (off_t)records->n;
	return 0;
}

/* After a failed append: what may have got to the file does not count. */
static void cut(struct journal *journal)
{
	if (ftruncate(journal->fd, journal->end) < 0)
		(void)log_errno(errno, "mesh.log: cannot cut off a failed write; the next start does");
}

static void mark_write(struct pack_writer *records, enum confirm confirm)
{
	const uint8_t body = (uint8_t)confirm;

	record_write(records, RECORD_MARK, &body, 1);
}

static int append_entries(struct journal *journal, struct pack_writer *records, enum record kind, const struct head_entry *entries,
			  unsigned count, bool unconfirmed, size_t reserve)
{
	CLEANUP(pack_writer_free) struct pack_writer body = { .bytes = NULL };
	uint8_t seal[SIGNATURE_BYTES];
	int r = have_encode(entries, count, &body);

	if (r == 0 && kind == RECORD_COMMIT) {
		r = pae_sign(SEAL_TYPE, body.bytes, body.n, journal->secret, seal);
		pack_put_raw(&body, seal, sizeof(seal));
	}
	if (r < 0 || body.error < 0)
		return r < 0 ? r : body.error;
	record_write(records, kind, body.bytes, body.n);
	if (unconfirmed)
		mark_write(records, CONFIRM_unconfirmed);
	r = append(journal, records, reserve);
	if (r < 0)
		cut(journal);
	return r;
}

int journal_intent(struct journal *journal, const struct head_entry *entries, unsigned count)
{
	CLEANUP(pack_writer_free) struct pack_writer records = journal->pending;

	journal->pending = (struct pack_writer){ .bytes = NULL };
	return append_entries(journal, &records, RECORD_INTENT, entries, count, false, COMMIT_ROOM);
}

int journal_commit(struct journal *journal, const struct head_entry *entries, unsigned count, bool unconfirmed)
{
	CLEANUP(pack_writer_free) struct pack_writer records = { .bytes = NULL };
	int r = append_entries(journal, &records, RECORD_COMMIT, entries, count, unconfirmed, 0);

	if (r == 0)
		journal->committed = journal->end;
	return r;
}

void journal_mark(struct journal *journal, enum confirm confirm)
{
	CLEANUP(pack_writer_free) struct pack_writer records = { .bytes = NULL };
	int r;

	mark_write(&records, confirm);
	r = append(journal, &records, 1);
	if (r == 0) {
		journal->committed = journal->end;
		return;
	}
	cut(journal);
	(void)log_errno(r, "mesh.log: cannot note that the change is %s", confirm_name(confirm));
}

void journal_abort(struct journal *journal)
{
	pack_writer_free(&journal->pending);
	journal->end = journal->committed;
	cut(journal);
	(void)fsync(journal->fd); /* an intent that comes back after a crash is one that was interrupted, but it may have a commit with it that failed half-way */
}

int journal_reset(struct journal *journal)
{
	pack_writer_free(&journal->pending);
	if (ftruncate(journal->fd, 0) < 0)
		return -errno;
	journal->end = journal->committed = 0;
	return fsync(journal->fd) < 0 ? -errno : 0;
}

static int add_blob(const struct hash *name _unused_, struct view bytes, void *arg)
{
	struct pack_writer *records = arg;

	record_write(records, RECORD_BLOB, bytes.p, bytes.n);
	return records->error;
}

static int write_anew(struct journal *journal, const struct blobs *blobs, const struct head_entry *entries, unsigned count)
{
	CLEANUP(pack_writer_free) struct pack_writer records = { .bytes = NULL };
	struct journal fresh = { .folder = journal->folder, .secret = journal->secret };
	int r;

	fresh.fd = openat(journal->folder, NEW_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fresh.fd < 0)
		return -errno;
	r = blobs_each(blobs, add_blob, &records);
	if (r == 0)
		r = append_entries(&fresh, &records, RECORD_COMMIT, entries, count, false, 0);
	if (r == 0 && renameat(journal->folder, NEW_NAME, journal->folder, NAME) < 0)
		r = -errno;
	if (r < 0) {
		close_fd(fresh.fd);
		(void)unlinkat(journal->folder, NEW_NAME, 0);
		return r;
	}
	close_fd(journal->fd);
	journal->fd = fresh.fd;
	journal->end = journal->committed = fresh.end;
	/* From the rename on, the new file is mesh.log, whatever becomes of this. */
	return fsync(journal->folder) < 0 ? -errno : 0;
}

void journal_compact(struct journal *journal, const struct blobs *blobs, const struct head_entry *entries, unsigned count)
{
	int r;

	if (journal->end < SLACK_BYTES || (size_t)journal->end < 2 * blobs_bytes(blobs))
		return;
	r = write_anew(journal, blobs, entries, count);
	if (r < 0)
		(void)log_errno(r, "mesh.log: cannot write it anew, or not for sure; the old one may stay in use");
}
