/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "libipc/log.h"
#include "signd/signd.h"

int refuse(struct refusal *refusal, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(refusal->reason, sizeof(refusal->reason), format, args);
	va_end(args);
	return -EPERM;
}

int keyset_load(struct signd *signd)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t n;
	int r = state_meta(signd->state, "keyset", &bytes, &n);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	/* The disk is no more trusted than the socket. */
	r = keyset_open(bytes, n, signd->root, &signd->keyset);
	if (r < 0)
		return log_errno(r, "state.db: the keyset kept there does not verify by the pinned root; nothing will be signed");
	hash_of(bytes, n, &signd->keyset_hash);
	signd->deployed = true;
	return 0;
}

static int keyset_store(struct signd *signd, struct view envelope, const struct keyset *keyset)
{
	int r = state_begin(signd->state);

	if (r == 0)
		r = state_meta_put(signd->state, "keyset", envelope.p, envelope.n);
	/* A rotated root: this keyset was signed by the old one and by the new one, which signs the next. */
	if (r == 0)
		r = state_meta_put(signd->state, "root", keyset->root, KEY_BYTES);
	if (r == 0)
		r = state_commit(signd->state);
	if (r < 0)
		state_rollback(signd->state);
	return r;
}

int keyset_take(struct signd *signd, struct view envelope, struct refusal *refusal)
{
	struct keyset keyset;
	struct hash hash;
	int r;

	refusal->last = signd->deployed ? signd->keyset.header.generation : 0;
	hash_of(envelope.p, envelope.n, &hash);
	if (signd->deployed && hash_equal(&hash, &signd->keyset_hash))
		return 0;

	r = keyset_open(envelope.p, envelope.n, signd->root, &keyset);
	if (r == -EKEYREJECTED)
		return refuse(refusal, "keyset: not signed by the root key that signd has pinned; it keeps what it has");
	if (r < 0)
		return refuse(refusal, "keyset: malformed");
	if (signd->deployed && !id_equal(&keyset.header.deployment, &signd->keyset.header.deployment))
		return refuse(refusal, "keyset: of another deployment; signd serves one");
	if (signd->deployed && !document_newer(&keyset.header, &signd->keyset.header))
		return refuse(refusal, "keyset: epoch %" PRIu32 " generation %" PRIu64 " is not newer than epoch %" PRIu32
			      " generation %" PRIu64 ", which signd has", keyset.header.epoch, keyset.header.generation,
			      signd->keyset.header.epoch, signd->keyset.header.generation);

	r = keyset_store(signd, envelope, &keyset);
	if (r < 0)
		return r;
	signd->keyset = keyset;
	signd->keyset_hash = hash;
	memcpy(signd->root, keyset.root, KEY_BYTES);
	signd->deployed = true;
	log_notice("keyset taken: deployment %s, epoch %" PRIu32 ", generation %" PRIu64, keyset.name, keyset.header.epoch,
		   keyset.header.generation);
	return 0;
}

int keyset_permits(const struct signd *signd, struct refusal *refusal)
{
	uint64_t now = (uint64_t)time(NULL);

	if (!signd->deployed)
		return refuse(refusal, "signd has no keyset yet: hand it one that the root signed (loopbackctl root sign-keyset)");
	for (unsigned i = 0; i < signd->keyset.count; i++) {
		if (memcmp(signd->keyset.keys[i].key, signd->public_key, KEY_BYTES) != 0 || !(signd->keyset.keys[i].usage & KEY_ONLINE))
			continue;
		if (signd->keyset.keys[i].not_after != 0 && signd->keyset.keys[i].not_after < now)
			return refuse(refusal, "the online key expired; sign a new keyset with the root (loopbackctl root sign-keyset)");
		return 0;
	}
	return refuse(refusal, "the keyset does not list signd's key as an online key; put the key of online.pub into a new keyset");
}

int header_check(const struct signd *signd, const struct document_header *header, struct refusal *refusal)
{
	if (!id_equal(&header->deployment, &signd->keyset.header.deployment))
		return refuse(refusal, "the document is of another deployment");
	if (header->epoch != signd->keyset.header.epoch)
		return refuse(refusal, "the document's epoch is %" PRIu32 ", the keyset's %" PRIu32, header->epoch,
			      signd->keyset.header.epoch);
	if (id_is_zero(&header->organization))
		return refuse(refusal, "the document names no organization");
	if (id_is_zero(&header->id))
		return refuse(refusal, "the document names no object");
	return 0;
}
