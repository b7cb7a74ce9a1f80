/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/documents.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "libipc/log.h"

int document_get(struct controld *controld, enum document_type type, const struct id *id, struct document_row *row)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows,
			    "SELECT epoch, generation, hash, root, committed FROM documents WHERE type = $1 AND id = $2", "id",
			    (int64_t)type, id);

	if (r < 0)
		return r;
	row->epoch = (uint32_t)row_i64(&rows, 0);
	row->generation = row_u64(&rows, 1);
	row_fixed(&rows, 2, row->hash.b, HASH_BYTES);
	row_fixed(&rows, 3, row->root.b, HASH_BYTES);
	row->committed = row_i64(&rows, 4);
	return 0;
}

int document_put(struct controld *controld, enum document_type type, const struct document_header *header, const struct hash *root,
		 uint32_t peers, const struct pack_writer *envelope)
{
	static const struct hash none;
	struct hash hash;
	int r;

	hash_of(envelope->bytes, envelope->n, &hash);
	r = store_exec(controld->store,
		       "INSERT INTO documents (type, id, epoch, generation, hash, root, envelope, committed, peers)"
		       " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (type, id) DO UPDATE SET epoch = excluded.epoch,"
		       " generation = excluded.generation, hash = excluded.hash, root = excluded.root, envelope = excluded.envelope,"
		       " committed = excluded.committed, peers = excluded.peers",
		       "idiihhbii", (int64_t)type, &header->id, (int64_t)header->epoch, (int64_t)header->generation, &hash,
		       root ? root : &none, envelope->bytes, envelope->n, now_ms(), (int64_t)peers);
	return r < 0 ? r : 0;
}

bool document_conflicts(const struct sign_refusal *refusal, uint64_t asked)
{
	return refusal->last + 1 != asked;
}

int document_follow(struct controld *controld, const char *what, const struct document_row *row, bool have_row,
		    const struct sign_refusal *refusal, uint64_t *generation, struct problem *problem)
{
	/* Hosts refuse to go back within an epoch: a signd that lost its memory needs a new one, which only the root can start. */
	if (have_row && refusal->last < row->generation && row->epoch >= controld->keyset.header.epoch)
		return problem_set(problem, 503, "signer-behind",
				   "The signer last signed generation %" PRIu64 " of %s, hosts have %" PRIu64
				   ". If its state was lost, sign a keyset with a new epoch: loopbackctl root sign-keyset.",
				   refusal->last, what, row->generation);
	log_warning("%s: signd signed generation %" PRIu64 " last, we know %" PRIu64 "; going on after it", what, refusal->last,
		    have_row ? row->generation : 0);
	*generation = refusal->last + 1;
	return 0;
}

/* -- The host document ------------------------------------------------------------------------------------------------------------ */

static int host_read_addresses(struct controld *controld, const struct id *host, struct host_network *network)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_query(controld->store, &rows,
			    "SELECT address FROM addresses WHERE host = $1 AND network = $2 ORDER BY position", "dd", host,
			    &network->network);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (network->address_count == ADDRESSES_MAX)
			return -E2BIG;
		r = prefix_parse(row_text(&rows, 0), &network->addresses[network->address_count++]);
	}
	return r;
}

static int host_read(struct controld *controld, const struct id *id, struct host_document *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows, "SELECT h.organization, h.name, COALESCE(r.counter, 0), CASE r.state WHEN 'asked' THEN r.box END FROM hosts h LEFT JOIN rotations r ON r.host = h.id"
			    " AND r.state IN ('asked', 'announced', 'both', 'swapping') WHERE h.id = $1",
			    "d", id);

	if (r < 0)
		return r;
	*host = (struct host_document){ .header = { .deployment = controld->keyset.header.deployment,
						    .organization = row_id(&rows, 0),
						    .id = *id,
						    .epoch = controld->keyset.header.epoch } };
	(void)snprintf(host->name, sizeof(host->name), "%s", row_text(&rows, 1));
	host->rotate = row_u64(&rows, 2);
	host->assigned = !row_null(&rows, 3);
	row_fixed(&rows, 3, host->box, host->assigned ? ASSIGNED_BYTES : 0);
	r = store_query(controld->store, &rows, "SELECT network FROM memberships WHERE host = $1 AND waits = 0 ORDER BY network", "d", id);
	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (host->network_count == NETWORKS_MAX)
			return -E2BIG;
		host->networks[host->network_count].network = row_id(&rows, 0);
		r = host_read_addresses(controld, id, &host->networks[host->network_count++]);
	}
	return r;
}

static int host_sign(struct controld *controld, struct host_document *host, struct pack_writer *envelope, struct sign_refusal *refusal)
{
	_cleanup_writer_ struct pack_writer payload = { 0 };
	int r;

	host->header.issued = (uint64_t)time(NULL);
	r = host_document_encode(host, &payload);
	if (r < 0)
		return r;
	return signer_sign(controld->signer, DOC_host, (struct view){ payload.bytes, payload.n }, -1, envelope, refusal);
}

int host_publish(struct controld *controld, const struct id *id, struct problem *problem)
{
	_cleanup_writer_ struct pack_writer envelope = { 0 };
	struct sign_refusal refusal = { 0 };
	struct document_row row = { 0 };
	struct host_document host;
	bool have_row;
	int r;

	r = document_get(controld, DOC_host, id, &row);
	if (r < 0 && r != -ENOENT)
		return r;
	have_row = r == 0;
	r = host_read(controld, id, &host);
	if (r < 0)
		return r;
	host.header.generation = row.generation + 1;
	r = host_sign(controld, &host, &envelope, &refusal);
	if (r == -EPERM && document_conflicts(&refusal, host.header.generation)) {
		r = document_follow(controld, host.name, &row, have_row, &refusal, &host.header.generation, problem);
		if (r == 0)
			r = host_sign(controld, &host, &envelope, &refusal);
	}
	if (r == -EPERM)
		return problem_set(problem, 409, "signer-refused", "The signer refused: %s. Nothing was changed.", refusal.reason);
	if (r < 0)
		return r;
	return document_put(controld, DOC_host, &host.header, NULL, 0, &envelope);
}

static struct head_entry keyset_entry(const struct controld *controld)
{
	return (struct head_entry){ .type = DOC_keyset,
				    .id = controld->keyset.header.id,
				    .epoch = controld->keyset.header.epoch,
				    .generation = controld->keyset.header.generation,
				    .hash = controld->keyset_hash };
}

/* -- A host document for one nonce alone ------------------------------------------------------------------------------------------- */

static int silent_head(struct controld *controld, const struct host_document *host, const struct pack_writer *document,
		       const uint8_t nonce[static 32], struct pack_writer *out, struct sign_refusal *refusal)
{
	_cleanup_writer_ struct pack_writer payload = { 0 };
	struct head head = { .header = host->header, .host = host->header.id, .count = 2 };
	int r;

	memcpy(head.nonce, nonce, sizeof(head.nonce));
	head.entries[0] = keyset_entry(controld);
	head.entries[1] = (struct head_entry){ .type = DOC_host,
					       .id = host->header.id,
					       .epoch = host->header.epoch,
					       .generation = host->header.generation };
	hash_of(document->bytes, document->n, &head.entries[1].hash);
	r = head_encode(&head, &payload);
	/* Not over the connection for heads: it must come after the document that it names. */
	return r < 0 ? r : signer_sign(controld->signer, DOC_head, (struct view){ payload.bytes, payload.n }, -1, out, refusal);
}

int host_silence(struct controld *controld, const struct id *id, const uint8_t nonce[static 32], struct pack_writer *head,
		 struct pack_writer *document, struct problem *problem)
{
	_cleanup_writer_ struct pack_writer envelope = { 0 };
	struct sign_refusal refusal = { 0 };
	struct document_row row = { 0 };
	struct host_document host, silent;
	int r = document_get(controld, DOC_host, id, &row);

	if (r == 0)
		r = host_read(controld, id, &host);
	if (r < 0)
		return r;
	silent = host;
	silent.network_count = 0;
	silent.header.generation = row.generation + 1;
	r = host_sign(controld, &silent, document, &refusal);
	if (r == -EPERM && document_conflicts(&refusal, silent.header.generation)) {
		r = document_follow(controld, host.name, &row, true, &refusal, &silent.header.generation, problem);
		if (r == 0)
			r = host_sign(controld, &silent, document, &refusal);
	}
	if (r == 0)
		r = silent_head(controld, &silent, document, nonce, head, &refusal);
	host.header.generation = silent.header.generation + 1;
	if (r == 0)
		r = host_sign(controld, &host, &envelope, &refusal);
	if (r == -EPERM)
		return problem_set(problem, 409, "signer-refused", "The signer refused: %s.", refusal.reason);
	return r < 0 ? r : document_put(controld, DOC_host, &host.header, NULL, 0, &envelope);
}

/* -- What is current -------------------------------------------------------------------------------------------------------------- */

static void entry_read(const struct rows *rows, enum document_type type, struct head_entry *entry)
{
	*entry = (struct head_entry){ .type = type, .id = row_id(rows, 0), .epoch = (uint32_t)row_i64(rows, 1), .generation = row_u64(rows, 2) };
	row_fixed(rows, 3, entry->hash.b, HASH_BYTES);
	row_fixed(rows, 4, entry->root.b, HASH_BYTES);
}

/* With each network its admission list, if it has one. */
static int lists_current(struct controld *controld, struct head_entry *entries, int networks)
{
	int count = networks;

	for (int i = 0; i < networks; i++) {
		_cleanup_rows_ struct rows rows = { 0 };
		int r;

		if (entries[i].type != DOC_network)
			continue;
		r = store_first(controld->store, &rows, "SELECT id, epoch, generation, hash, root FROM documents WHERE type = $1 AND id = $2", "id",
				(int64_t)DOC_admission, &entries[i].id);
		if (r == -ENOENT)
			continue;
		if (r < 0 || count == HEAD_ENTRIES_MAX)
			return r < 0 ? r : -E2BIG;
		entry_read(&rows, DOC_admission, &entries[count++]);
	}
	return count;
}

int documents_current(struct controld *controld, const struct id *host, struct id *organization, struct head_entry *entries)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int count = 2;
	int r;

	entries[0] = keyset_entry(controld);
	r = store_first(controld->store, &rows,
			"SELECT d.id, d.epoch, d.generation, d.hash, d.root, h.organization FROM hosts h"
			" JOIN documents d ON d.type = $1 AND d.id = h.id WHERE h.id = $2",
			"id", (int64_t)DOC_host, host);
	if (r < 0)
		return r;
	entry_read(&rows, DOC_host, &entries[1]);
	*organization = row_id(&rows, 5);
	r = store_query(controld->store, &rows,
			"SELECT d.id, d.epoch, d.generation, d.hash, d.root FROM documents d WHERE d.type = $1 AND d.id IN"
			" (SELECT network FROM memberships WHERE host = $2 AND waits = 0 UNION SELECT e.other FROM memberships m"
			" JOIN bridge_ends e ON e.network = m.network AND e.named = 1 WHERE m.host = $2 AND m.waits = 0) ORDER BY d.id",
			"id", (int64_t)DOC_network, host);
	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (count == HEAD_ENTRIES_MAX)
			return -E2BIG;
		entry_read(&rows, DOC_network, &entries[count++]);
		r = 0;
	}
	return r < 0 ? r : lists_current(controld, entries, count);
}

int document_append(struct controld *controld, const struct head_entry *entry, struct pack_writer *out)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct view envelope;
	int r = store_first(controld->store, &rows, "SELECT envelope FROM documents WHERE type = $1 AND id = $2 AND hash = $3", "idh",
			    (int64_t)entry->type, &entry->id, &entry->hash);

	if (r < 0)
		return r;
	envelope = row_bytes(&rows, 0);
	pack_put_bytes(out, envelope.p, envelope.n);
	return out->error;
}
