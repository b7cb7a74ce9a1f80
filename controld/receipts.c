/* SPDX-License-Identifier: Apache-2.0 */
/* Receipts: what hosts did with what they were offered, signed by their own keys. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "controld/agent.h"
#include "controld/health.h"
#include "libipc/log.h"

#define KEPT 20 /* of each host */

static json_t *entries_json(const struct receipt *receipt)
{
	json_t *entries = json_array();

	for (unsigned i = 0; i < receipt->count; i++) {
		const struct head_entry *entry = &receipt->entries[i];
		const char *type = entry->type == DOC_network ? "network" :
				   entry->type == DOC_host ? "host" :
				   entry->type == DOC_keyset ? "keyset" : "admission";
		char id[ID_TEXT];

		(void)json_array_append_new(entries, json_pack("{s:s, s:s, s:I}", "type", type, "id", id_format(&entry->id, id),
							       "generation", (json_int_t)entry->generation));
	}
	return entries;
}

static int store_receipt(struct controld *controld, const struct id *host, const struct receipt *receipt)
{
	json_t *entries = entries_json(receipt);
	char *text = json_dumps(entries, JSON_COMPACT);
	int64_t generation = (int64_t)receipt->header.generation;
	int r = -ENOMEM;

	json_decref(entries);
	if (text)
		r = store_exec(controld->store,
			       "INSERT INTO receipts (host, generation, at, outcome, code, reason, entries, apply_us, peers, confirm,"
			       " mended) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
			       "diittttiiti", host, generation, now_ms(), outcome_name(receipt->outcome), receipt->code, receipt->reason,
			       text, (int64_t)receipt->apply_us, (int64_t)receipt->peers, confirm_name(receipt->confirm),
			       (int64_t)receipt->mended);
	free(text);
	if (r >= 0)
		r = store_exec(controld->store,
			       "DELETE FROM receipts WHERE host = $1 AND generation <= (SELECT generation FROM receipts WHERE host = $1"
			       " ORDER BY generation DESC LIMIT 1 OFFSET $2)",
			       "di", host, (int64_t)KEPT);
	return r < 0 ? r : 0;
}

static bool is_in_force(const struct receipt *receipt)
{
	return receipt->outcome == OUTCOME_applied || receipt->outcome == OUTCOME_unchanged;
}

/* What the receipt says of each network goes to the host's membership. A refusal acknowledges nothing. */
static int acknowledge(struct controld *controld, const struct id *host, const struct receipt *receipt)
{
	const bool in_force = is_in_force(receipt);
	int r = 0;

	for (unsigned i = 0; i < receipt->count && r >= 0; i++) {
		const struct head_entry *entry = &receipt->entries[i];

		if (entry->type != DOC_network)
			continue;
		if (in_force)
			r = store_exec(controld->store,
				       "UPDATE memberships SET acknowledged = CASE WHEN COALESCE(generation, -1) < $1 THEN $2 ELSE acknowledged END,"
				       " generation = $1, outcome = $3, reason = $4, apply_us = $5 WHERE network = $6 AND host = $7",
				       "iittidd", (int64_t)entry->generation, now_ms(), outcome_name(receipt->outcome), receipt->reason,
				       (int64_t)receipt->apply_us, &entry->id, host);
		else
			r = store_exec(controld->store, "UPDATE memberships SET outcome = $1, reason = $2 WHERE network = $3 AND host = $4",
				       "ttdd", outcome_name(receipt->outcome), receipt->reason, &entry->id, host);
	}
	return r < 0 ? r : 0;
}

/* Of the host's own document, and how often its netd mended drift. A netd that counts from the beginning again was started anew. */
static int note_host(struct controld *controld, const struct id *host, const struct receipt *receipt)
{
	int64_t generation = -1;
	int r;

	for (unsigned i = 0; i < receipt->count && is_in_force(receipt); i++)
		if (receipt->entries[i].type == DOC_host)
			generation = (int64_t)receipt->entries[i].generation;
	r = store_exec(controld->store,
		       "UPDATE hosts SET document_generation = CASE WHEN $1 < 0 THEN document_generation ELSE $1 END,"
		       " mended_total = mended_total + CASE WHEN $2 >= mended THEN $2 - mended ELSE $2 END,"
		       " mended_at = CASE WHEN $2 > 0 AND $2 <> mended THEN $3 ELSE mended_at END, mended = $2, moving = $4 WHERE id = $5"
		       " AND (COALESCE(document_generation, -1) <> $1 OR mended <> $2 OR moving <> $4)",
		       "iiiid", generation, (int64_t)receipt->mended, now_ms(), (int64_t)receipt->moving, host);
	if (is_in_force(receipt))
		caller_acknowledged(controld, host);
	return r < 0 ? r : 0;
}

/* A host whose state is online, and of which nothing else is said now, needs no judgement. */
static int judge(struct controld *controld, const struct id *host, const struct receipt *receipt)
{
	if (caller_is_fine(controld, host) && is_in_force(receipt) && receipt->confirm <= CONFIRM_confirmed)
		return 0;
	return health_settle(controld, host);
}

static int newer_than_last(struct controld *controld, const struct id *host, const struct receipt *receipt)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows, "SELECT max(generation) FROM receipts WHERE host = $1", "d", host);

	if (r < 0)
		return r;
	return row_null(&rows, 0) || receipt->header.generation > row_u64(&rows, 0);
}

int receipt_take(struct controld *controld, const struct id *host, const uint8_t host_key[static KEY_BYTES], struct view bytes)
{
	struct head_entry entries[HEAD_ENTRIES_MAX];
	struct receipt receipt = { .entries = entries };
	char id[ID_TEXT];
	int r = receipt_open(bytes.p, bytes.n, host_key, &receipt);

	if (r < 0 || !id_equal(&receipt.header.id, host) ||
	    !id_equal(&receipt.header.deployment, &controld->keyset.header.deployment)) {
		log_warning("host %s: a receipt that the host did not sign for this deployment; ignored", id_format(host, id));
		return 0;
	}
	r = newer_than_last(controld, host, &receipt);
	if (r < 0)
		return r;
	if (r == 0) {
		log_info("host %s: receipt %" PRIu64 " is not newer than the last; ignored", id_format(host, id), receipt.header.generation);
		return 0;
	}
	r = store_begin(controld->store, false);
	if (r == 0)
		r = store_receipt(controld, host, &receipt);
	if (r == 0)
		r = acknowledge(controld, host, &receipt);
	if (r == 0)
		r = note_host(controld, host, &receipt);
	if (r == 0)
		r = judge(controld, host, &receipt);
	if (r == 0)
		return store_commit(controld->store);
	store_rollback(controld->store);
	return r;
}
