/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "controld/agent.h"
#include "libipc/log.h"

#define NONCES 48
#define NONCES_FIRST 6 /* a host that waits in long polls has no more within the window */
#define PATIENCE 3 /* same answers to the same question before it is slowed down */
#define DELAY_MAX_S 30
#define MOVES_EVERY_MS 60000

struct seen_nonce {
	uint64_t created;
	uint64_t mark; /* of the nonce: 64 bits of its hash are enough within one host */
};

struct caller {
	int64_t last_poll;
	bool unsaved, fine;
	int64_t behind_since; /* ms of Unix time; 0: nothing is staged for it */
	uint64_t floor; /* nothing made before this is believed: its nonce is not remembered any more */
	unsigned nonce_room;
	struct seen_nonce *nonces;
	struct hash digest;
	unsigned repeats;
	int64_t moved;
};

static struct caller *caller_get(struct controld *controld, const struct id *host)
{
	struct caller *caller = idmap_get(&controld->callers, host);

	if (caller)
		return caller;
	caller = calloc(1, sizeof(*caller));
	if (!caller)
		return NULL;
	caller->floor = controld->started;
	if (idmap_put(&controld->callers, host, caller) < 0) {
		free(caller);
		return NULL;
	}
	return caller;
}

int64_t caller_last_poll(const struct controld *controld, const struct id *host)
{
	const struct caller *caller = idmap_get(&controld->callers, host);

	return caller ? caller->last_poll : 0;
}

int caller_polled(struct controld *controld, const struct id *host)
{
	struct caller *caller = caller_get(controld, host);

	if (!caller)
		return -ENOMEM;
	caller->last_poll = now_ms();
	caller->unsaved = true;
	return 0;
}

/* Where a new one goes: an empty place, that of one which the clock alone refuses by now, a place more, or that of the oldest. */
static struct seen_nonce *nonce_place(struct caller *caller)
{
	const uint64_t now = (uint64_t)time(NULL);
	unsigned room = caller->nonce_room ? 2 * caller->nonce_room : NONCES_FIRST;
	struct seen_nonce *oldest = caller->nonces, *grown;

	for (unsigned i = 1; i < caller->nonce_room; i++)
		if (caller->nonces[i].created < oldest->created)
			oldest = &caller->nonces[i];
	if (caller->nonce_room == NONCES || (oldest && oldest->created + CLOCK_WINDOW_S < now))
		return oldest;
	grown = reallocarray(caller->nonces, room, sizeof(*grown));
	if (!grown)
		return NULL;
	memset(grown + caller->nonce_room, 0, (room - caller->nonce_room) * sizeof(*grown));
	oldest = &grown[caller->nonce_room];
	caller->nonces = grown;
	caller->nonce_room = room;
	return oldest;
}

int caller_nonce(struct controld *controld, const struct id *host, uint64_t created, const char *nonce, size_t n)
{
	struct caller *caller = caller_get(controld, host);
	struct seen_nonce *oldest;
	struct hash hash;
	uint64_t mark;

	if (!caller)
		return -ENOMEM;
	hash_of(nonce, n, &hash);
	memcpy(&mark, hash.b, sizeof(mark));
	if (created < caller->floor)
		return -EALREADY;
	for (unsigned i = 0; i < caller->nonce_room; i++)
		if (caller->nonces[i].created && caller->nonces[i].mark == mark)
			return -EALREADY;
	oldest = nonce_place(caller);
	if (!oldest)
		return -ENOMEM;
	if (oldest->created && oldest->created >= created)
		return -EALREADY; /* older than all that are kept */
	if (oldest->created + 1 > caller->floor)
		caller->floor = oldest->created + 1;
	*oldest = (struct seen_nonce){ created, mark };
	return 0;
}

unsigned caller_delay(struct controld *controld, const struct id *host, const struct hash *digest)
{
	struct caller *caller = caller_get(controld, host);
	unsigned seconds;

	if (!caller)
		return 0;
	if (!hash_equal(&caller->digest, digest)) {
		caller->digest = *digest;
		caller->repeats = 0;
		return 0;
	}
	if (++caller->repeats < PATIENCE)
		return 0;
	seconds = caller->repeats - PATIENCE < 5 ? 1u << (caller->repeats - PATIENCE) : DELAY_MAX_S;
	return (seconds < DELAY_MAX_S ? seconds : DELAY_MAX_S) * 1000;
}

int64_t caller_behind_since(struct controld *controld, const struct id *host, bool behind)
{
	struct caller *caller = idmap_get(&controld->callers, host);

	if (!caller)
		return 0;
	if (!behind)
		caller->behind_since = 0;
	else if (!caller->behind_since)
		caller->behind_since = now_ms();
	return caller->behind_since;
}

void caller_acknowledged(struct controld *controld, const struct id *host)
{
	struct caller *caller = idmap_get(&controld->callers, host);

	if (caller)
		caller->behind_since = 0;
}

void caller_fine(struct controld *controld, const struct id *host, bool fine)
{
	struct caller *caller = idmap_get(&controld->callers, host);

	if (caller)
		caller->fine = fine;
}

bool caller_is_fine(const struct controld *controld, const struct id *host)
{
	const struct caller *caller = idmap_get(&controld->callers, host);

	return caller && caller->fine;
}

bool caller_may_move(struct controld *controld, const struct id *host)
{
	struct caller *caller = caller_get(controld, host);
	int64_t now = now_ms();

	if (!caller || now - caller->moved < MOVES_EVERY_MS)
		return false;
	caller->moved = now;
	return true;
}

int callers_flush(struct controld *controld)
{
	struct caller *caller;
	struct id host;
	size_t at = 0;
	int r = store_begin(controld->store, false);

	while (r >= 0 && (caller = idmap_next(&controld->callers, &at, &host))) {
		if (!caller->unsaved)
			continue;
		r = store_exec(controld->store, "UPDATE hosts SET last_poll = $1 WHERE id = $2", "id", caller->last_poll, &host);
		caller->unsaved = r < 0;
	}
	if (r >= 0)
		return store_commit(controld->store);
	store_rollback(controld->store);
	return r;
}

void callers_free(struct controld *controld)
{
	struct caller *caller;
	size_t at = 0;

	while ((caller = idmap_next(&controld->callers, &at, NULL))) {
		free(caller->nonces);
		free(caller);
	}
	idmap_free(&controld->callers);
}
