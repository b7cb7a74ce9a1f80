/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/admission.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "controld/change.h"
#include "controld/documents.h"
#include "controld/mesh.h"
#include "controld/reconcile.h"
#include "libipc/log.h"
#include "libipc/memfd.h"

/* -- What the database has ---------------------------------------------------------------------------------------------------------- */

/* Hosts as the database keeps them. @return their number; negative errno */
static ssize_t hosts_read(struct view bytes, struct admitted **hosts)
{
	size_t count = bytes.n / ADMITTED_BYTES;

	*hosts = malloc((count + 1) * sizeof(**hosts));
	if (!*hosts)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		admitted_read(bytes.p + i * ADMITTED_BYTES, &(*hosts)[i]);
	return (ssize_t)count;
}

ssize_t admission_hosts(struct controld *controld, const struct id *network, struct admitted **hosts)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct view bytes = { 0 };
	int r = store_first(controld->store, &rows, "SELECT ids FROM admissions WHERE network = $1", "d", network);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		bytes = row_bytes(&rows, 0);
	return hosts_read(bytes, hosts);
}

int admission_envelope(struct controld *controld, const struct id *network, struct pack_writer *out)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct view bytes;
	int r = store_first(controld->store, &rows, "SELECT envelope FROM documents WHERE type = $1 AND id = $2", "id", (int64_t)DOC_admission,
			    network);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	bytes = row_bytes(&rows, 0);
	pack_put_raw(out, bytes.p, bytes.n);
	return out->error;
}

int admission_nodes(struct controld *controld, const struct id *network, int nodes)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_query(controld->store, &rows, "SELECT bytes FROM list_nodes WHERE network = $1 AND replaced IS NULL", "d", network);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		struct view bytes = row_bytes(&rows, 0);

		r = blob_append(nodes, bytes.p, bytes.n);
	}
	return r < 0 ? r : 0;
}

int admission_waits(struct controld *controld, const struct id *network, const struct id *host)
{
	_cleanup_rows_ struct rows rows = { 0 };
	_cleanup_free_ struct admitted *hosts = NULL;
	ssize_t count;
	int r = store_first(controld->store, &rows, "SELECT flags FROM networks WHERE id = $1", "d", network);

	if (r < 0)
		return r;
	if (!(row_i64(&rows, 0) & NETWORK_LOCKED))
		return 0;
	count = admission_hosts(controld, network, &hosts);
	return count < 0 ? (int)count : !admitted_find(hosts, (size_t)count, host);
}

/* -- Taking one in ------------------------------------------------------------------------------------------------------------------- */

struct list {
	struct id network;
	struct view envelope;
	struct admission document;
	const struct admitted *hosts;
	size_t count;
};

static int pending_put(struct controld *controld, const struct list *list, const char *who)
{
	_cleanup_free_ uint8_t *bytes = malloc(list->count * ADMITTED_BYTES + 1);
	int r;

	if (!bytes)
		return -ENOMEM;
	for (size_t i = 0; i < list->count; i++)
		admitted_write(&list->hosts[i], bytes + i * ADMITTED_BYTES);
	r = store_exec(controld->store,
			   "INSERT INTO admissions (network, ids, pending, pending_ids, pending_who) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (network)"
			   " DO UPDATE SET pending = excluded.pending, pending_ids = excluded.pending_ids, pending_who = excluded.pending_who",
			   "dbbbt", &list->network, "", (size_t)0, list->envelope.p, list->envelope.n, bytes,
		       list->count * ADMITTED_BYTES, who);

	return r < 0 ? r : 0;
}

static int pending_drop(struct controld *controld, const struct id *network)
{
	int r = store_exec(controld->store, "UPDATE admissions SET pending = NULL, pending_ids = NULL WHERE network = $1", "d", network);

	return r < 0 ? r : 0;
}

struct emission {
	struct controld *controld;
	const struct id *network;
};

static int node_emit(const struct hash *name, const void *bytes, size_t n, void *arg)
{
	const struct emission *emission = arg;
	int r = store_exec(emission->controld->store,
			   "INSERT INTO list_nodes (network, name, bytes, replaced) VALUES ($1, $2, $3, NULL)"
			   " ON CONFLICT (network, name) DO UPDATE SET replaced = NULL",
			   "dhb", emission->network, name, bytes, n);

	return r < 0 ? r : 0;
}

/* The list, its nodes and its document, in the place of the last one. */
static int list_put(struct controld *controld, const struct list *list)
{
	struct emission emission = { controld, &list->network };
	struct pack_writer envelope = { .bytes = (uint8_t *)(uintptr_t)list->envelope.p, .n = list->envelope.n }; /* only read */
	struct hash root;
	int r = store_exec(controld->store, "UPDATE list_nodes SET replaced = $1 WHERE network = $2 AND replaced IS NULL", "id", now_ms(),
			   &list->network);

	if (r >= 0)
		r = admission_build(list->hosts, list->count, node_emit, &emission, &root);
	if (r >= 0)
		r = document_put(controld, DOC_admission, &list->document.header, &root, 0, &envelope);
	if (r >= 0)
		r = store_exec(controld->store,
			       "UPDATE admissions SET ids = pending_ids, pending = NULL, pending_ids = NULL WHERE network = $1", "d", &list->network);
	if (r >= 0)
		r = store_exec(controld->store, "UPDATE networks SET flags = $1 WHERE id = $2", "id",
			       (int64_t)(list->document.flags & ADMISSION_LOCKED ? NETWORK_LOCKED : 0), &list->network);
	return r < 0 ? r : 0;
}

struct member {
	struct id host;
	bool waits;
};

/* @return their number; negative errno */
static ssize_t members_read(struct controld *controld, const struct id *network, struct member **members)
{
	_cleanup_rows_ struct rows rows = { 0 };
	_cleanup_free_ struct member *list = NULL;
	size_t count = 0, room = 0;
	int r = store_query(controld->store, &rows, "SELECT host, waits FROM memberships WHERE network = $1", "d", network);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		struct member *grown = list;

		if (count == room)
			grown = realloc(list, (room = room ? 2 * room : 64) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list = grown;
		list[count++] = (struct member){ row_id(&rows, 0), row_i64(&rows, 1) != 0 };
		r = 0;
	}
	if (r < 0)
		return r;
	*members = TAKE_PTR(list);
	return (ssize_t)count;
}

static int members_follow(struct change *change, const struct list *list)
{
	_cleanup_free_ struct member *members = NULL;
	ssize_t count = members_read(change->controld, &list->network, &members);
	int r = count < 0 ? (int)count : 0;

	for (ssize_t i = 0; r == 0 && i < count; i++) {
		bool waits = list->document.flags & ADMISSION_LOCKED && !admitted_find(list->hosts, list->count, &members[i].host);

		if (waits == members[i].waits)
			continue;
		r = store_exec(change->controld->store, "UPDATE memberships SET waits = $1 WHERE network = $2 AND host = $3", "idd", (int64_t)waits,
			       &list->network, &members[i].host);
		if (r >= 0)
			r = mesh_follow(change->controld, &list->network, &members[i].host);
		if (r == 0)
			r = waits ? change_host_leaves(change, &members[i].host) : change_host_joins(change, &members[i].host);
	}
	return r;
}

static int apply(struct controld *controld, const struct list *list, const char *who, struct problem *problem)
{
	_cleanup_change_ struct change change = { 0 };
	char id[ID_TEXT], detail[96];
	struct mesh *mesh;
	int r = change_begin(controld, &change);

	(void)snprintf(detail, sizeof(detail), "list %" PRIu64 ", %zu hosts, %slocked", list->document.header.generation, list->count,
		       list->document.flags & ADMISSION_LOCKED ? "" : "un");
	if (r == 0)
		r = change_network(&change, &list->network, true);
	if (r == 0)
		r = list_put(controld, list);
	if (r == 0)
		r = members_follow(&change, list);
	if (r == 0)
		r = audit_note(controld, who, "PUT /v1/networks/*/admission", id_format(&list->network, id), detail);
	if (r == 0)
		r = mesh_get(controld, &list->network, &mesh);
	if (r == 0) {
		mesh->list_news = true;
		r = change_commit(&change);
	}
	if (r < 0) {
		problem_of(&change.problem, r);
		*problem = change.problem;
	}
	return r;
}

/* Everything that signd and hosts would refuse, told in time. */
static int list_check(struct controld *controld, struct list *list, struct problem *problem)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct admission *document = &list->document;
	struct document_row last = { 0 };
	struct id organization;
	struct hash root;
	int r = admission_open(list->envelope.p, list->envelope.n, &controld->keyset, document);

	if (r == -EKEYREJECTED)
		return problem_set(problem, 403, "not-operator", "The list is not signed by an operator key of keyset %" PRIu64 ".",
				   controld->keyset.header.generation);
	if (r < 0)
		return problem_set(problem, 400, "malformed", "The envelope is not that of an admission list.");
	r = store_first(controld->store, &rows, "SELECT organization FROM networks WHERE id = $1", "d", &list->network);
	if (r < 0)
		return r;
	organization = row_id(&rows, 0);
	if (!id_equal(&document->header.id, &list->network) || !id_equal(&document->header.organization, &organization) ||
	    !id_equal(&document->header.deployment, &controld->keyset.header.deployment))
		return problem_set(problem, 409, "other-network", "The list is for another network.");
	r = document_get(controld, DOC_admission, &list->network, &last);
	if (r < 0 && r != -ENOENT)
		return r;
	if (document->header.generation <= last.generation)
		return problem_set(problem, 409, "list-older", "The list has generation %" PRIu64 "; generation %" PRIu64 " is in force.",
				   document->header.generation, last.generation);
	if (admission_build(list->hosts, list->count, NULL, NULL, &root) < 0 || list->count != document->count ||
	    !hash_equal(&root, &document->root))
		return problem_set(problem, 409, "list-differs",
				   "The changes do not lead from the list in force to the one that was signed. Read the list again, and sign anew.");
	return 0;
}

int admission_take(struct controld *controld, const char *who, const struct id *network, struct view envelope,
		   const struct admitted *hosts, size_t count, struct problem *problem)
{
	struct list list = { .network = *network, .envelope = envelope, .hosts = hosts, .count = count };
	int r = list_check(controld, &list, problem);

	if (r == 0)
		r = pending_put(controld, &list, who);
	if (r == 0)
		r = apply(controld, &list, who, problem);
	if (r == 0)
		return 0;
	problem_of(problem, r);
	/* Refused for good: the old list stays. What failed for want of an answer is tried again. */
	if (problem->status >= 500)
		reconcile_soon(controld);
	else if (pending_drop(controld, network) < 0)
		log_error("a refused admission list stays to be tried; it will be refused again");
	return r;
}

static int finish_one(struct controld *controld, const struct id *network)
{
	_cleanup_rows_ struct rows rows = { 0 };
	_cleanup_writer_ struct pack_writer envelope = { 0 };
	_cleanup_free_ struct admitted *hosts = NULL;
	struct list list = { .network = *network };
	struct problem problem = { 0 };
	struct view bytes;
	char who[64], id[ID_TEXT];
	ssize_t count;
	int r = store_first(controld->store, &rows, "SELECT pending, pending_ids, pending_who FROM admissions WHERE network = $1", "d", network);

	if (r < 0)
		return r;
	bytes = row_bytes(&rows, 0);
	pack_put_raw(&envelope, bytes.p, bytes.n);
	count = hosts_read(row_bytes(&rows, 1), &hosts);
	r = envelope.error < 0 ? envelope.error : count < 0 ? (int)count : 0;
	(void)snprintf(who, sizeof(who), "%s", row_text(&rows, 2));
	rows_end(&rows);
	list.envelope = (struct view){ envelope.bytes, envelope.n };
	list.hosts = hosts;
	list.count = count < 0 ? 0 : (size_t)count;
	if (r == 0)
		r = list_check(controld, &list, &problem);
	if (r == 0)
		r = apply(controld, &list, who, &problem);
	if (r == 0)
		return 0;
	problem_of(&problem, r);
	log_warning("network %s: an admission list that was left half done: %s", id_format(network, id), problem.detail);
	return problem.status >= 500 ? r : pending_drop(controld, network);
}

int admissions_finish(struct controld *controld)
{
	for (;;) {
		_cleanup_rows_ struct rows rows = { 0 };
		struct id network;
		int r = store_first(controld->store, &rows, "SELECT network FROM admissions WHERE pending IS NOT NULL LIMIT 1", "");

		if (r < 0)
			return r == -ENOENT ? 0 : r;
		network = row_id(&rows, 0);
		rows_end(&rows);
		r = finish_one(controld, &network);
		if (r < 0)
			return r;
	}
}

/* -- Co-signatures ------------------------------------------------------------------------------------------------------------------- */

static void proposal_free(struct proposal *proposal)
{
	if (!proposal)
		return;
	pack_writer_free(&proposal->payload);
	pack_writer_free(&proposal->cosign);
	free(proposal);
}

struct proposal *proposal_get(const struct controld *controld, const struct id *network)
{
	return idmap_get(&controld->proposals, network);
}

void proposal_forget(struct controld *controld, const struct id *network)
{
	proposal_free(idmap_remove(&controld->proposals, network));
}

int proposal_keep(struct controld *controld, const struct network_document *document, const struct pack_writer *payload)
{
	struct proposal *proposal = calloc(1, sizeof(*proposal));
	int r;

	if (!proposal)
		return -ENOMEM;
	proposal->document = *document;
	pack_put_raw(&proposal->payload, payload->bytes, payload->n);
	proposal_forget(controld, &document->header.id);
	r = proposal->payload.error < 0 ? proposal->payload.error : idmap_put(&controld->proposals, &document->header.id, proposal);
	if (r < 0)
		proposal_free(proposal);
	return r;
}

void proposals_free(struct controld *controld)
{
	struct proposal *proposal;
	size_t at = 0;

	while ((proposal = idmap_next(&controld->proposals, &at, NULL)))
		proposal_free(proposal);
	idmap_free(&controld->proposals);
}
