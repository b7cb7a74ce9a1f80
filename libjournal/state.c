/* SPDX-License-Identifier: Apache-2.0 */
#include "libjournal/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "libipc/log.h"
#include "libjournal/folder.h"

/* -- Keys ------------------------------------------------------------------------------------------------------------------------- */

const uint8_t *state_host_key(const struct state *state)
{
	return state->host_secret + SECRET_KEY_BYTES - KEY_BYTES;
}

static int host_key_open(struct state *state)
{
	int r = host_key_read(state->folder, state->host_secret);

	/* A damaged identity is not replaced behind the owner's back: the host would come back as a stranger. */
	if (r < 0)
		return log_errno(r, "host.key cannot be used; restore it, or remove it to become a new host");
	host_id_of(state_host_key(state), &state->host);
	return 0;
}

static int starts_open(struct state *state)
{
	uint64_t starts;
	int r = folder_count(state->folder, "starts", &starts);

	if (r == -ENOSPC || r == -EDQUOT || r == -EROFS)
		log_warning("the state folder cannot be written; receipts may be taken for old ones until it can");
	else if (r < 0)
		return log_errno(r, "cannot count this start");
	state->sequence = (starts << 24) + 1;
	return 0;
}

/* -- Root and keyset -------------------------------------------------------------------------------------------------------------- */

/*
 * The keyset names another root than the pinned one: a rotation was cut short between its two files. The pin follows, but not before it is on
 * disk: else a keyset that the new root alone signed would be stored beside the old pin, and not verify at the next start.
 */
static void finish_rotation(struct state *state)
{
	int r = folder_write(state->folder, "root.pub", state->keyset.root, KEY_BYTES);

	if (r < 0)
		(void)log_errno(r, "cannot pin the root key that the keyset names; keysets signed by it alone are refused until a start that can");
	else
		memcpy(state->root, state->keyset.root, KEY_BYTES);
}

static int root_open(struct state *state)
{
	uint8_t bytes[ENVELOPE_BYTES_MAX];
	ssize_t n = folder_read(state->folder, "root.pub", state->root, KEY_BYTES);
	int r;

	if (n == -ENOENT)
		return 0;
	if (n != KEY_BYTES)
		return log_errno(n < 0 ? (int)n : -EBADMSG, "root.pub cannot be used; enrol again");
	state->pinned = true;
	n = folder_read(state->folder, "keyset", bytes, sizeof(bytes));
	if (n == -ENOENT)
		return 0;
	r = n < 0 ? (int)n : keyset_open(bytes, (size_t)n, state->root, &state->keyset);
	if (r < 0)
		return log_errno(r, "the stored keyset does not verify by the pinned root; a new one is awaited"), 0;
	hash_of(bytes, (size_t)n, &state->keyset_name);
	state->deployed = true;
	if (memcmp(state->keyset.root, state->root, KEY_BYTES) != 0)
		finish_rotation(state);
	return 0;
}

int state_open(const char *path, struct state *state)
{
	int r;

	*state = (struct state){ .folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	if (state->folder < 0)
		return log_errno(errno, "cannot open the state folder %s", path);
	r = host_key_open(state);
	if (r == 0)
		r = wg_keys_open(state->folder, &state->keys);
	if (r < 0)
		return log_errno(r, "wg.key cannot be used; remove it to make a new one");
	if (r == 0)
		r = starts_open(state);
	if (r == 0)
		r = root_open(state);
	return r;
}

void state_close(struct state *state)
{
	state->folder = close_fd(state->folder);
	sodium_memzero(state->host_secret, sizeof(state->host_secret));
	wg_keys_wipe(&state->keys);
}

int state_pin(struct state *state, const uint8_t root[static KEY_BYTES])
{
	int r;

	if (state->pinned)
		return memcmp(state->root, root, KEY_BYTES) == 0 ? 0 : -EEXIST;
	r = folder_remove(state->folder, "locks"); /* of a deployment that was left, should that have been cut short */
	if (r < 0)
		return r;
	r = folder_write(state->folder, "root.pub", root, KEY_BYTES);
	if (r < 0)
		return r;
	memcpy(state->root, root, KEY_BYTES);
	state->pinned = true;
	return 0;
}

int state_unpin(struct state *state, bool forget_keys)
{
	int r = folder_remove(state->folder, "keyset");

	if (r == 0)
		r = folder_remove(state->folder, "root.pub");
	if (r == 0)
		r = folder_remove(state->folder, "locks");
	if (r == 0 && forget_keys)
		r = folder_remove(state->folder, "host.key");
	if (r == 0 && forget_keys)
		r = wg_keys_renew(state->folder, &state->keys); /* not just removed: the counter goes on */
	if (r == 0 && fsync(state->folder) < 0)
		r = -errno;
	if (r < 0)
		return r;
	state->pinned = state->deployed = false;
	state->locks.count = 0;
	if (!forget_keys)
		return 0;
	return host_key_open(state);
}

int state_take_keyset(struct state *state, const void *bytes, size_t n, const char **why)
{
	struct keyset keyset;
	struct hash name;
	int r;

	*why = "no root key is pinned here; run loopback enroll";
	if (!state->pinned)
		return -EKEYREJECTED;
	hash_of(bytes, n, &name);
	if (state->deployed && hash_equal(&name, &state->keyset_name))
		return 0;
	*why = "it is not signed by the root key that was pinned at enrolment";
	r = keyset_open(bytes, n, state->root, &keyset);
	if (r < 0)
		return r;
	*why = "it is of another deployment";
	if (state->deployed && !id_equal(&keyset.header.deployment, &state->keyset.header.deployment))
		return -EKEYREJECTED;
	*why = "it is older than the one in use";
	if (state->deployed && !document_newer(&keyset.header, &state->keyset.header))
		return -ESTALE;
	*why = "it cannot be stored";
	r = folder_write(state->folder, "keyset", bytes, n);
	/* The new root is in force only now; a crash in between leaves the old root and a keyset that it signed too. */
	if (r == 0 && memcmp(keyset.root, state->root, KEY_BYTES) != 0)
		r = folder_write(state->folder, "root.pub", keyset.root, KEY_BYTES);
	if (r < 0)
		return r;
	memcpy(state->root, keyset.root, KEY_BYTES);
	state->keyset = keyset;
	state->keyset_name = name;
	state->deployed = true;
	return 1;
}

/* -- Signing ---------------------------------------------------------------------------------------------------------------------- */

struct document_header state_header(struct state *state)
{
	return (struct document_header){
		.deployment = state->keyset.header.deployment,
		.id = state->host,
		.epoch = state->keyset.header.epoch,
		.generation = state->sequence++,
		.issued = (uint64_t)time(NULL),
	};
}

int state_sign(const struct state *state, enum document_type type, const struct pack_writer *payload, struct pack_writer *envelope)
{
	return envelope_sign(type, payload->bytes, payload->n, state->host_secret, envelope);
}

int state_statement(const struct state *state, bool next, struct statement *statement)
{
	memcpy(statement->host_key, state_host_key(state), KEY_BYTES);
	memcpy(statement->wg_key, next ? state->keys.next_public : state->keys.public, KEY_BYTES);
	statement->counter = next ? state->keys.next_counter : state->keys.counter;
	return statement_sign(statement, &state->keyset.header.deployment, state->host_secret);
}
