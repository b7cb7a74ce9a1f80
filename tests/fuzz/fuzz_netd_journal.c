/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh.log as a disk may give it back. Byte 0 is even: the rest is the file. Odd: the rest is a list of records [kind, length of two bytes, body] that get
 * their right checksums and signatures here, since no mutation finds those.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "libdoc/pae.h"
#include "libipc/log.h"
#include "libjournal/journal.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static struct {
	char path[40];
	int fd;
} folder = { "/dev/shm/loopback-fuzz-XXXXXX", -1 };

static void folder_end(void)
{
	(void)unlinkat(folder.fd, "mesh.log", 0);
	(void)rmdir(folder.path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	if (!mkdtemp(folder.path))
		abort();
	folder.fd = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder.fd < 0 || atexit(folder_end) != 0)
		abort();
	log_level_set(LOG_ERROR);
	return 0;
}

/* Of a host whose seed is zero. */
static const uint8_t *host_secret(void)
{
	static uint8_t secret[SECRET_KEY_BYTES];
	static const uint8_t seed[crypto_sign_SEEDBYTES];
	uint8_t key[KEY_BYTES];

	(void)crypto_sign_seed_keypair(key, secret, seed);
	return secret;
}

/* As netd/journal.h says: kind, length, body, the first 16 bytes of BLAKE2b over these (BLAKE2b-128). */
static void put_record(int fd, uint8_t kind, const uint8_t *body, size_t n)
{
	uint8_t head[5] = { kind, 0, 0, (uint8_t)(n >> 8), (uint8_t)n }, check[16];
	crypto_generichash_state hash;

	(void)crypto_generichash_init(&hash, NULL, 0, sizeof(check));
	(void)crypto_generichash_update(&hash, head, sizeof(head));
	(void)crypto_generichash_update(&hash, body, n);
	(void)crypto_generichash_final(&hash, check, sizeof(check));
	if (write(fd, head, sizeof(head)) != sizeof(head) || write(fd, body, n) != (ssize_t)n ||
	    write(fd, check, sizeof(check)) != sizeof(check))
		abort();
}

static void write_log(const uint8_t *bytes, size_t n)
{
	_cleanup_close_ int fd = openat(folder.fd, "mesh.log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t at = 1;

	if (fd < 0)
		abort();
	if (n == 0)
		return;
	if (bytes[0] % 2 == 0) {
		if (write(fd, bytes + 1, n - 1) != (ssize_t)(n - 1))
			abort();
		return;
	}
	while (n - at >= 3) {
		size_t length = (size_t)bytes[at + 1] << 8 | bytes[at + 2];
		uint8_t body[65535 + SIGNATURE_BYTES];
		bool commit = bytes[at] == 3; /* signed, as no mutation signs */

		if (length > n - at - 3)
			length = n - at - 3;
		memcpy(body, bytes + at + 3, length);
		if (commit && pae_sign("loopback/commit/1", body, length, host_secret(), body + length) < 0)
			abort();
		put_record(fd, bytes[at], body, length + (commit ? SIGNATURE_BYTES : 0));
		at += 3 + length;
	}
}

struct opened {
	struct blobs *blobs;
	struct journal *journal;
	struct journal_end end;
};

static int reopen(struct opened *opened)
{
	*opened = (struct opened){ .blobs = NULL };
	if (blobs_new(&opened->blobs) < 0)
		abort();
	return journal_open(folder.fd, host_secret(), opened->blobs, &opened->end, &opened->journal);
}

static void opened_end(struct opened *opened)
{
	journal_close(opened->journal);
	blobs_free(opened->blobs);
}

static int check_name(const struct hash *name, struct view bytes, void *arg)
{
	struct hash hash;

	(void)arg;
	hash_of(bytes.p, bytes.n, &hash);
	if (!hash_equal(&hash, name))
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct head_entry entry = { .type = DOC_host, .epoch = 1, .generation = 7 };
	CLEANUP(opened_end) struct opened first = { .blobs = NULL }, second = { .blobs = NULL };

	write_log(bytes, n);
	if (reopen(&first) < 0)
		return 0;
	if (first.end.count > HEAD_ENTRIES_MAX || blobs_each(first.blobs, check_name, NULL) < 0)
		abort();
	/* Whatever was in it: it goes on from there, and what is committed now is what the next start finds. */
	if (journal_add(first.journal, (struct view){ (const uint8_t *)"blob", 4 }) < 0 || journal_intent(first.journal, &entry, 1) < 0 ||
	    journal_commit(first.journal, &entry, 1, false) < 0)
		abort();
	if (reopen(&second) < 0 || second.end.count != 1 || second.end.entries[0].generation != 7 || second.end.interrupted)
		abort();
	return 0;
}
