/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "controld/call.h"
#include "controld/membership.h"
#include "libipc/log.h"
#include "libstore/backup.h"

#define WHO "administrator"

static const char *time_text(int64_t ms, char out[static 32])
{
	time_t seconds = (time_t)(ms / 1000);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		(void)snprintf(out, 32, "an unknown time");
	return out;
}

int controld_backup(const char *dir, const char *path)
{
	struct backup backup;
	int r = backup_write(&control_store, dir, path, &backup);

	if (r == 0)
		(void)printf("%s: %" PRIu64 " bytes, schema %d. Back up signd as well: signd backup\n", path, backup.bytes, backup.schema);
	return r;
}

/* -- What a restored database is told before it is one ------------------------------------------------------------------------------ */

struct adaption {
	const struct restore_options *options;
	const char *dir;
	struct keyset keyset;
	int64_t hosts, networks;
	int tokens; /* revoked */
};

/* Documents must not go out for a keyset that nobody can verify. */
static int keyset_read(struct store *store, struct keyset *keyset)
{
	struct controld controld = { .store = store };
	int r = controld_keyset_load(&controld);

	if (r == 0)
		*keyset = controld.keyset;
	free(controld.keyset_bytes);
	return r;
}

static int host_find(struct store *store, const char *text, struct id *id)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(store, &rows, "SELECT id FROM hosts WHERE (id = $1 OR name = $1) AND state <> 'retired'", "t", text);

	if (r == -ENOENT) {
		log_error("--retire %s: the backup has no such host; leave it out: it is not restored", text);
		return r;
	}
	if (r < 0)
		return r;
	*id = row_id(&rows, 0);
	r = rows_next(&rows);
	if (r > 0) {
		log_error("--retire %s: the backup has several hosts of this name; give an id", text);
		return -EINVAL;
	}
	return r;
}

/* As `loopbackctl host retire`, before anything is signed: nobody is ever told of this host again. */
static int host_retire_now(struct store *store, const char *text)
{
	struct controld controld = { .store = store };
	struct change change = { .controld = &controld };
	struct id id;
	int r = host_find(store, text, &id);

	if (r == 0)
		r = store_exec(store, "DELETE FROM memberships WHERE host = $1", "d", &id);
	if (r >= 0)
		r = addresses_release(&change, &id);
	if (r == 0)
		r = store_exec(store, "UPDATE hosts SET state = 'retired', wg_key = NULL WHERE id = $1", "d", &id);
	if (r >= 0)
		r = audit_note(&controld, WHO, "restore --retire", text, "");
	return r;
}

static int count_rows(struct store *store, struct adaption *adaption)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(store, &rows, "SELECT count(*), (SELECT count(*) FROM networks) FROM hosts WHERE state <> 'retired'", "");

	if (r < 0)
		return r;
	adaption->hosts = row_i64(&rows, 0);
	adaption->networks = row_i64(&rows, 1);
	return 0;
}

static int adapt_within(struct store *store, struct adaption *adaption)
{
	const struct restore_options *options = adaption->options;
	struct controld controld = { .store = store };
	int r = 0;

	if (!options->keep_tokens)
		r = adaption->tokens = store_exec(store, "UPDATE tokens SET revoked = $1 WHERE revoked IS NULL AND expires > $1", "i", now_ms());
	for (unsigned i = 0; i < options->retired_count && r >= 0; i++)
		r = host_retire_now(store, options->retired[i]);
	if (r >= 0)
		r = count_rows(store, adaption);
	if (r == 0)
		r = audit_note(&controld, WHO, "restore", "", options->keep_tokens ? "tokens kept" : "tokens revoked");
	if (r == 0 && options->new_credential) /* last: it leaves a file */
		r = administrator_make(store, adaption->dir, "administrator after a restore");
	return r;
}

static int adapt(struct store *store, void *arg)
{
	struct adaption *adaption = arg;
	int r = keyset_read(store, &adaption->keyset);

	if (r == 0)
		r = store_begin(store, true);
	if (r < 0)
		return r;
	r = adapt_within(store, adaption);
	if (r == 0)
		r = store_commit(store);
	if (r < 0)
		store_rollback(store);
	return r;
}

static void tell(const struct adaption *adaption, const struct backup *backup)
{
	char made[32];

	(void)printf("Restored as of %s: deployment %s, %" PRId64 " hosts, %" PRId64 " networks, keyset of epoch %" PRIu32
		     " generation %" PRIu64 ".\n",
		     time_text(backup->made, made), adaption->keyset.name, adaption->hosts, adaption->networks, adaption->keyset.header.epoch,
		     adaption->keyset.header.generation);
	if (adaption->tokens > 0)
		(void)printf("%d tokens are revoked; make new ones.\n", adaption->tokens);
	if (adaption->options->new_credential)
		(void)printf("A new administrator's credential is in %s/admin.credential\n", adaption->dir);
	(void)printf("Credentials that were revoked since are valid again: revoke them again.\n"
		     "Hosts that were retired since are members again, unless they were named with --retire.\n"
		     "Hosts that were enrolled since are unknown: they enrol again, with new tokens.\n"
		     "Next: restore signd too (signd restore), then publish a keyset of epoch %" PRIu32
		     " that names its key; see controld(8).\n",
		     adaption->keyset.header.epoch + 1);
}

int controld_restore(const char *dir, const char *path, const struct restore_options *options)
{
	struct adaption adaption = { .options = options, .dir = dir };
	struct backup backup;
	int r = backup_restore(&control_store, dir, path, adapt, &adaption, &backup);

	if (r == 0)
		tell(&adaption, &backup);
	return r;
}
