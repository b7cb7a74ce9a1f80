/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/mesh.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "controld/admission.h"
#include "controld/documents.h"
#include "controld/endpoints.h"
#include "libipc/log.h"
#include "libipc/memfd.h"

/* -- Peers, from the database ------------------------------------------------------------------------------------------------------ */

#define PEER_COLUMNS                                                                                                      \
	"h.host_key, h.wg_key, h.wg_counter, h.wg_signature, h.endpoint, h.reported, h.seen, h.listen_port, a.address, h.id,"                                 \
	" r.next_key, r.next_counter, r.next_signature"
#define PEER_TABLES                                                                                                       \
	" FROM memberships m JOIN hosts h ON h.id = m.host AND m.waits = 0"                                                               \
	" JOIN addresses a ON a.network = m.network AND a.host = m.host"                                                             \
	" LEFT JOIN rotations r ON r.host = m.host AND r.state IN ('both', 'swapping') WHERE m.network = $1"

/* A peer is as many rows as it has addresses. */
static int peer_read(const struct rows *rows, struct peer *peer)
{
	*peer = (struct peer){ .host = row_id(rows, 9), .statement = { .counter = row_u64(rows, 2) } };
	row_fixed(rows, 0, peer->statement.host_key, KEY_BYTES);
	row_fixed(rows, 1, peer->statement.wg_key, KEY_BYTES);
	row_fixed(rows, 3, peer->statement.signature, SIGNATURE_BYTES);
	if (!row_null(rows, 11)) {
		memcpy(peer->next.host_key, peer->statement.host_key, KEY_BYTES);
		row_fixed(rows, 10, peer->next.wg_key, KEY_BYTES);
		peer->next.counter = row_u64(rows, 11);
		row_fixed(rows, 12, peer->next.signature, SIGNATURE_BYTES);
	}
	peer->endpoint_count = endpoints_choose(row_text(rows, 4), row_text(rows, 5), row_text(rows, 6), (uint16_t)row_i64(rows, 7),
						peer->endpoints);
	return 0;
}

static int peer_add_address(const struct rows *rows, struct peer *peer)
{
	if (peer->address_count == ADDRESSES_MAX)
		return -E2BIG;
	return prefix_parse(row_text(rows, 8), &peer->addresses[peer->address_count++]);
}

int mesh_peer(struct controld *controld, const struct id *network, const struct id *host, struct peer *peer)
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct peer found = { 0 };
	int r = store_query(controld->store, &rows, "SELECT " PEER_COLUMNS PEER_TABLES " AND m.host = $2 ORDER BY a.position", "dd",
			    network, host);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		r = found.address_count == 0 ? peer_read(&rows, &found) : 0;
		if (r == 0)
			r = peer_add_address(&rows, &found);
	}
	if (r < 0)
		return r;
	if (found.address_count == 0)
		return -ENOENT;
	*peer = found;
	return 0;
}

static int trie_load(struct controld *controld, const struct id *network, struct trie **trie)
{
	_cleanup_(trie_free) struct trie *made = NULL;
	_cleanup_rows_ struct rows rows = { 0 };
	struct peer peer = { 0 };
	int r = trie_new(&made);

	if (r == 0)
		r = store_query(controld->store, &rows, "SELECT " PEER_COLUMNS PEER_TABLES " ORDER BY m.host, a.position", "d", network);
	while (r == 0 && (r = rows_next(&rows)) > 0) {
		struct id host = row_id(&rows, 9);

		r = 0;
		if (!id_equal(&host, &peer.host)) {
			if (peer.address_count)
				r = trie_put(made, &peer);
			if (r == 0)
				r = peer_read(&rows, &peer);
		}
		if (r == 0)
			r = peer_add_address(&rows, &peer);
	}
	if (r == 0 && peer.address_count)
		r = trie_put(made, &peer);
	if (r < 0)
		return r;
	*trie = TAKE_PTR(made);
	return 0;
}

/* -- Tries in memory --------------------------------------------------------------------------------------------------------------- */

static void mesh_free(struct mesh *mesh)
{
	trie_free(mesh->trie);
	free(mesh);
}
DEFINE_CLEANUP(struct mesh *, mesh_free)

void mesh_forget(struct controld *controld, const struct id *network)
{
	struct mesh *mesh = idmap_remove(&controld->meshes, network);

	if (mesh)
		mesh_free(mesh);
}

void mesh_forget_all(struct controld *controld)
{
	struct mesh *mesh;
	size_t at = 0;

	while ((mesh = idmap_next(&controld->meshes, &at, NULL)))
		mesh_free(mesh);
	idmap_free(&controld->meshes);
}

/* Replace the trie by one whose nodes all count as new. */
static int mesh_reload_whole(struct controld *controld, struct mesh *mesh)
{
	struct trie *trie;
	int r = trie_load(controld, &mesh->network, &trie);

	if (r < 0)
		return r;
	trie_free(mesh->trie);
	mesh->trie = trie;
	mesh->whole = true;
	return 0;
}

int mesh_get(struct controld *controld, const struct id *network, struct mesh **mesh)
{
	_cleanup_(mesh_free) struct mesh *made = NULL;
	struct document_row row;
	struct hash root;
	int r;

	*mesh = idmap_get(&controld->meshes, network);
	if (*mesh)
		return 0;
	made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	made->network = *network;
	r = trie_load(controld, network, &made->trie);
	if (r < 0)
		return r;
	r = document_get(controld, DOC_network, network, &row);
	if (r == 0)
		r = trie_commit(made->trie, NULL, NULL, &root);
	if (r == -ENOENT || (r == 0 && !hash_equal(&root, &row.root)))
		r = mesh_reload_whole(controld, made);
	if (r == 0)
		r = idmap_put(&controld->meshes, network, made);
	if (r < 0)
		return r;
	*mesh = TAKE_PTR(made);
	return 0;
}

int mesh_follow(struct controld *controld, const struct id *network, const struct id *host)
{
	struct mesh *mesh;
	struct peer peer;
	int r = mesh_get(controld, network, &mesh);

	if (r < 0)
		return r;
	r = mesh_peer(controld, network, host, &peer);
	if (r == 0)
		return trie_put(mesh->trie, &peer);
	if (r == -ENOENT)
		r = trie_remove(mesh->trie, host);
	return r == -ENOENT ? 0 : r;
}

/* -- Publishing -------------------------------------------------------------------------------------------------------------------- */

struct publication {
	struct controld *controld;
	struct mesh *mesh;
	struct network_document document;
	struct document_row row;
	bool have_row;
	int nodes; /* memfd of what signd has not seen */
	struct hash *fresh; /* names of those nodes */
	size_t fresh_count, fresh_room;
};

static int node_emit(const struct hash *name, const void *bytes, size_t n, void *arg)
{
	struct publication *publication = arg;
	struct hash *grown;
	int r;

	if (publication->fresh_count == publication->fresh_room) {
		publication->fresh_room = publication->fresh_room ? publication->fresh_room * 2 : 32;
		grown = realloc(publication->fresh, publication->fresh_room * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		publication->fresh = grown;
	}
	publication->fresh[publication->fresh_count++] = *name;
	r = store_exec(publication->controld->store,
		       "INSERT INTO nodes (network, name, bytes, replaced) VALUES ($1, $2, $3, NULL)"
		       " ON CONFLICT (network, name) DO UPDATE SET replaced = NULL",
		       "dhb", &publication->mesh->network, name, bytes, n);
	return r < 0 ? r : blob_append(publication->nodes, bytes, n);
}

static int collect(struct publication *publication)
{
	struct mesh *mesh = publication->mesh;
	int r = 0;

	publication->nodes = close_fd(publication->nodes);
	publication->nodes = memfd_open("nodes");
	if (publication->nodes < 0)
		return publication->nodes;
	publication->fresh_count = 0;
	if (mesh->whole)
		r = store_exec(publication->controld->store, "UPDATE nodes SET replaced = $1 WHERE network = $2 AND replaced IS NULL", "id",
			       now_ms(), &mesh->network);
	if (r >= 0)
		r = trie_commit(mesh->trie, node_emit, publication, &publication->document.root);
	if (r < 0)
		return r;
	publication->document.count = trie_count(mesh->trie);
	if (mesh->whole || mesh->list_news)
		r = admission_nodes(publication->controld, &mesh->network, publication->nodes);
	return r < 0 ? r : memfd_seal(publication->nodes);
}

/* Those that the reconciler has come to: both manifests begin to name each other in one transaction, and cease to. */
static int bridges_read(struct controld *controld, struct network_document *document)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_query(controld->store, &rows, "SELECT other FROM bridge_ends WHERE network = $1 AND named = 1 ORDER BY other", "d",
			    &document->header.id);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (document->bridge_count == BRIDGES_MAX)
			return -E2BIG;
		document->bridges[document->bridge_count++] = row_id(&rows, 0);
		r = 0;
	}
	return r;
}

static int settings_read(struct controld *controld, struct network_document *document)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(controld->store, &rows, "SELECT organization, name, mtu, keepalive, flags FROM networks WHERE id = $1", "d",
			    &document->header.id);

	if (r < 0)
		return r;
	document->header.organization = row_id(&rows, 0);
	(void)snprintf(document->name, sizeof(document->name), "%s", row_text(&rows, 1));
	document->mtu = (uint16_t)row_i64(&rows, 2);
	document->keepalive = (uint16_t)row_i64(&rows, 3);
	document->flags = (uint32_t)row_i64(&rows, 4);
	r = store_query(controld->store, &rows, "SELECT cidr FROM cidrs WHERE network = $1 ORDER BY position", "d", &document->header.id);
	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (document->cidr_count == CIDRS_MAX)
			return -E2BIG;
		r = prefix_parse(row_text(&rows, 0), &document->cidrs[document->cidr_count++]);
	}
	return r < 0 ? r : bridges_read(controld, document);
}

static int ask(struct publication *publication, struct pack_writer *envelope, struct sign_refusal *refusal)
{
	const struct proposal *proposal = proposal_get(publication->controld, &publication->mesh->network);
	_cleanup_writer_ struct pack_writer payload = { 0 }, list = { 0 };
	struct view cosign = { 0 };
	int r = admission_envelope(publication->controld, &publication->mesh->network, &list);

	/* What an operator has co-signed is a payload to the byte, its date included. */
	publication->document.header.issued = proposal ? proposal->document.header.issued : (uint64_t)time(NULL);
	if (r == 0)
		r = network_document_encode(&publication->document, &payload);
	if (r < 0)
		return r;
	if (proposal && proposal->payload.n == payload.n && memcmp(proposal->payload.bytes, payload.bytes, payload.n) == 0)
		cosign = (struct view){ proposal->cosign.bytes, proposal->cosign.n };
	r = signer_sign_network(publication->controld->signer, (struct view){ payload.bytes, payload.n }, (struct view){ list.bytes, list.n },
				cosign, publication->nodes, envelope, refusal);
	if (r == -EPERM && refusal->cosign && cosign.n == 0) {
		int kept = proposal_keep(publication->controld, &publication->document, &payload);

		r = kept < 0 ? kept : r;
	}
	if (r == 0)
		proposal_forget(publication->controld, &publication->mesh->network);
	return r;
}

/* -- Nodes that the new trie has no more: kept a while, for hosts that still have the old root. -- */

struct replaced {
	struct publication *publication;
	struct rows rows;
	int64_t now;
};

static int replaced_lookup(const struct hash *name, struct view *bytes, void *arg)
{
	struct replaced *replaced = arg;
	int r = store_first(replaced->publication->controld->store, &replaced->rows,
			    "SELECT bytes FROM nodes WHERE network = $1 AND name = $2", "dh", &replaced->publication->mesh->network, name);

	if (r == 0)
		*bytes = row_bytes(&replaced->rows, 0);
	return r;
}

static int replaced_node(const struct hash *name, _unused_ struct view bytes, void *arg)
{
	struct replaced *replaced = arg;
	const struct publication *publication = replaced->publication;
	int r;

	for (size_t i = 0; i < publication->fresh_count; i++)
		if (hash_equal(name, &publication->fresh[i])) /* stands elsewhere in the new trie */
			return 0;
	r = store_exec(publication->controld->store, "UPDATE nodes SET replaced = $1 WHERE network = $2 AND name = $3", "idh", replaced->now,
		       &publication->mesh->network, name);
	return r < 0 ? r : 0;
}

static int mark_replaced(struct publication *publication)
{
	const struct trie_diff_events events = { .fresh = replaced_node };
	struct replaced replaced = { .publication = publication, .now = now_ms() };
	int r;

	if (!publication->have_row || publication->mesh->whole)
		return 0;
	r = trie_diff(&publication->document.root, &publication->row.root, replaced_lookup, &events, &replaced);
	rows_end(&replaced.rows);
	return r;
}

static int publish(struct publication *publication, struct pack_writer *envelope, struct problem *problem)
{
	struct network_document *document = &publication->document;
	struct sign_refusal refusal = { 0 };
	int r;

	document->header.generation = publication->row.generation + 1;
	r = ask(publication, envelope, &refusal);
	if (r == -EPERM && document_conflicts(&refusal, document->header.generation)) {
		/* signd's last trie is not the one that we think: give it all nodes. */
		r = document_follow(publication->controld, document->name, &publication->row, publication->have_row, &refusal,
				    &document->header.generation, problem);
		if (r == 0)
			r = mesh_reload_whole(publication->controld, publication->mesh);
		if (r == 0)
			r = collect(publication);
		if (r == 0)
			r = ask(publication, envelope, &refusal);
	}
	if (r == -EPERM && refusal.cosign)
		return problem_set(problem, 409, "change-cap",
				   "The signer does not sign so large a change alone: %s. Nothing was changed; repeat the call once it is co-signed.",
				   refusal.reason);
	if (r == -EPERM)
		return problem_set(problem, 409, "signer-refused", "The signer refused: %s. Nothing was changed.", refusal.reason);
	return r;
}

int mesh_publish(struct controld *controld, const struct id *network, bool again, struct problem *problem)
{
	_cleanup_writer_ struct pack_writer envelope = { 0 };
	struct publication publication = { .controld = controld, .nodes = -1 };
	int r;

	publication.document.header = (struct document_header){ .deployment = controld->keyset.header.deployment,
								.id = *network,
								.epoch = controld->keyset.header.epoch };
	r = mesh_get(controld, network, &publication.mesh);
	if (r == 0)
		r = settings_read(controld, &publication.document);
	if (r < 0)
		return r;
	r = document_get(controld, DOC_network, network, &publication.row);
	if (r < 0 && r != -ENOENT)
		return r;
	publication.have_row = r == 0;

	r = collect(&publication);
	if (r == 0 && !again && publication.have_row && hash_equal(&publication.document.root, &publication.row.root))
		r = 1;
	if (r == 0)
		r = publish(&publication, &envelope, problem);
	if (r == 0)
		r = mark_replaced(&publication);
	if (r == 0)
		r = document_put(controld, DOC_network, &publication.document.header, &publication.document.root,
				 publication.document.count, &envelope);
	if (r == 0)
		publication.mesh->whole = publication.mesh->list_news = false;
	free(publication.fresh);
	publication.nodes = close_fd(publication.nodes);
	return r;
}
