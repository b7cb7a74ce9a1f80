/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables, as numbered migrations. A migration that was released is never edited: a new one follows it.
 *
 * Ids are hexadecimal text. Times are milliseconds of Unix time. On PostgreSQL: CREATE DOMAIN blob AS bytea.
 */
#include "controld/controld.h"

static const char migration_1[] =
	"CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);"
	"CREATE TABLE organizations (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created BIGINT NOT NULL);"
	"CREATE TABLE workspaces (id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organizations (id), name TEXT NOT NULL,"
	" created BIGINT NOT NULL, UNIQUE (organization, name));"
	"CREATE TABLE networks (id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organizations (id),"
	" workspace TEXT REFERENCES workspaces (id), name TEXT NOT NULL, mtu BIGINT NOT NULL, keepalive BIGINT NOT NULL,"
	" flags BIGINT NOT NULL, created BIGINT NOT NULL, UNIQUE (organization, name));"

	/* next: the lowest offset never given out; what came back below it stands in free_offsets. So the lowest free address is found
	 * without a scan, at any size. */
	"CREATE TABLE cidrs (network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE, position BIGINT NOT NULL,"
	" cidr TEXT NOT NULL, next BIGINT NOT NULL, last BIGINT NOT NULL, PRIMARY KEY (network, position));"
	"CREATE TABLE free_offsets (network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE, position BIGINT NOT NULL,"
	" number BIGINT NOT NULL, PRIMARY KEY (network, position, number));"

	"CREATE TABLE hosts (id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organizations (id),"
	" workspace TEXT NOT NULL REFERENCES workspaces (id), name TEXT NOT NULL, state TEXT NOT NULL, created BIGINT NOT NULL,"
	" last_poll BIGINT, registration BLOB NOT NULL, registration_generation BIGINT NOT NULL, host_key BLOB NOT NULL,"
	" wg_key BLOB UNIQUE, wg_counter BIGINT NOT NULL, wg_signature BLOB NOT NULL, transport_key BLOB NOT NULL,"
	" listen_port BIGINT NOT NULL, backend TEXT NOT NULL, version TEXT NOT NULL, reported TEXT NOT NULL, endpoint TEXT, seen TEXT);"
	"CREATE INDEX hosts_by_name ON hosts (name);"
	"CREATE INDEX hosts_by_workspace ON hosts (workspace, id);"
	/* A new key that a host announced, written down before signd sees it: signd never goes back to the old one, so neither may we. */
	"CREATE TABLE pending_registrations (host TEXT PRIMARY KEY REFERENCES hosts (id), envelope BLOB NOT NULL);"
	/* A host keeps its addresses from the first join until it is retired. */
	"CREATE TABLE addresses (network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE, address TEXT NOT NULL,"
	" position BIGINT NOT NULL, number BIGINT NOT NULL, host TEXT NOT NULL REFERENCES hosts (id), PRIMARY KEY (network, address));"
	"CREATE INDEX addresses_of_host ON addresses (host, network);"
	"CREATE TABLE memberships (network TEXT NOT NULL REFERENCES networks (id), host TEXT NOT NULL REFERENCES hosts (id),"
	" joined BIGINT NOT NULL, generation BIGINT, acknowledged BIGINT, outcome TEXT, reason TEXT, apply_us BIGINT,"
	" PRIMARY KEY (network, host));"
	"CREATE INDEX memberships_of_host ON memberships (host, network);"

	"CREATE TABLE tokens (id TEXT PRIMARY KEY, hash BLOB NOT NULL, workspace TEXT NOT NULL REFERENCES workspaces (id),"
	" description TEXT NOT NULL, created BIGINT NOT NULL, expires BIGINT NOT NULL, once BIGINT NOT NULL, revoked BIGINT,"
	" used BIGINT, used_by TEXT, uses BIGINT NOT NULL);"
	"CREATE TABLE token_networks (token TEXT NOT NULL REFERENCES tokens (id), network TEXT NOT NULL REFERENCES networks (id)"
	" ON DELETE CASCADE, PRIMARY KEY (token, network));"
	"CREATE TABLE credentials (id TEXT PRIMARY KEY, hash BLOB NOT NULL, description TEXT NOT NULL, permissions TEXT NOT NULL,"
	" created BIGINT NOT NULL, revoked BIGINT);"

	"CREATE TABLE documents (type BIGINT NOT NULL, id TEXT NOT NULL, epoch BIGINT NOT NULL, generation BIGINT NOT NULL,"
	" hash BLOB NOT NULL, root BLOB, envelope BLOB NOT NULL, committed BIGINT NOT NULL, PRIMARY KEY (type, id));"
	/* Nodes that were replaced stay a while, so that a host can be told the difference to what it has. */
	"CREATE TABLE nodes (network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE, name BLOB NOT NULL, bytes BLOB NOT NULL,"
	" replaced BIGINT, PRIMARY KEY (network, name));"
	"CREATE INDEX nodes_replaced ON nodes (replaced);"
	"CREATE TABLE receipts (host TEXT NOT NULL REFERENCES hosts (id), generation BIGINT NOT NULL, at BIGINT NOT NULL,"
	" outcome TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, entries TEXT NOT NULL, apply_us BIGINT NOT NULL,"
	" peers BIGINT NOT NULL, PRIMARY KEY (host, generation));"

	"CREATE TABLE audit (number BIGINT PRIMARY KEY, at BIGINT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, object TEXT NOT NULL,"
	" detail TEXT NOT NULL);"
	"CREATE TABLE idempotency (credential TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL, status BIGINT NOT NULL,"
	" body TEXT, at BIGINT NOT NULL, PRIMARY KEY (credential, key));"
	"CREATE INDEX idempotency_by_age ON idempotency (at);";

/* What hosts install: files of the folder packages/, each under a name that never comes to mean another file. */
static const char migration_2[] =
	"CREATE TABLE packages (file TEXT PRIMARY KEY, format TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,"
	" architecture TEXT NOT NULL, bytes BIGINT NOT NULL, sha512 TEXT NOT NULL, added BIGINT NOT NULL);";

/* Locked networks. waits: the host is a member, but not on the operators' list yet. ids: the list, as in its leaves (libdoc/admission.h). pending: a list that was written
 * down before signd sees it. */
static const char migration_3[] =
	"ALTER TABLE memberships ADD COLUMN waits BIGINT NOT NULL DEFAULT 0;"
	"CREATE TABLE admissions (network TEXT PRIMARY KEY REFERENCES networks (id) ON DELETE CASCADE, ids BLOB NOT NULL, pending BLOB,"
	" pending_ids BLOB, pending_who TEXT);"
	"CREATE TABLE list_nodes (network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE, name BLOB NOT NULL, bytes BLOB NOT NULL,"
	" replaced BIGINT, PRIMARY KEY (network, name));"
	"CREATE INDEX list_nodes_replaced ON list_nodes (replaced);";

/* Bridges, jobs, what state hosts are in and since when, and machines that share one identity. */
static const char migration_4[] =
	"CREATE TABLE bridges (id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organizations (id), state TEXT NOT NULL,"
	" created BIGINT NOT NULL);"
	/* Both directions. named: the manifest of network, as it was last signed, names the other. */
	"CREATE TABLE bridge_ends (network TEXT NOT NULL REFERENCES networks (id), other TEXT NOT NULL REFERENCES networks (id),"
	" bridge TEXT NOT NULL REFERENCES bridges (id) ON DELETE CASCADE, named BIGINT NOT NULL, PRIMARY KEY (network, other));"
	"CREATE INDEX bridge_ends_of ON bridge_ends (bridge);"

	/* due: not before; until: whom it waits for no longer. outstanding: who had not followed when it ended, the first of them, as JSON. */
	"CREATE TABLE jobs (id TEXT PRIMARY KEY, kind TEXT NOT NULL, object TEXT NOT NULL, label TEXT NOT NULL, state TEXT NOT NULL,"
	" attempts BIGINT NOT NULL, due BIGINT NOT NULL, until BIGINT NOT NULL, total BIGINT NOT NULL, done BIGINT NOT NULL,"
	" outstanding TEXT NOT NULL, error TEXT, created BIGINT NOT NULL, finished BIGINT);"
	"CREATE INDEX jobs_by_state ON jobs (state, id);"
	"CREATE INDEX jobs_by_object ON jobs (object, id);"
	/* The documents that a job had signed: hosts that acknowledge these generations have followed. */
	"CREATE TABLE job_documents (job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, type BIGINT NOT NULL, id TEXT NOT NULL,"
	" generation BIGINT NOT NULL, PRIMARY KEY (job, type, id));"

	"ALTER TABLE hosts ADD COLUMN health TEXT NOT NULL DEFAULT 'enrolling';"
	"ALTER TABLE hosts ADD COLUMN health_reason TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE hosts ADD COLUMN health_since BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE hosts ADD COLUMN document_generation BIGINT;" /* of its own document, acknowledged */
	/* mended: as the host's netd counts since it started; mended_total: as we have counted since the host came. */
	"ALTER TABLE hosts ADD COLUMN mended BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE hosts ADD COLUMN mended_total BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE hosts ADD COLUMN mended_at BIGINT;"
	"UPDATE hosts SET health_since = created;"
	"ALTER TABLE receipts ADD COLUMN confirm TEXT NOT NULL DEFAULT 'none';"
	"ALTER TABLE receipts ADD COLUMN mended BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE documents ADD COLUMN peers BIGINT NOT NULL DEFAULT 0;" /* of a network */
	"UPDATE documents SET peers = (SELECT count(*) FROM memberships m WHERE m.network = documents.id) WHERE type = 3;"

	/* Two machines with one identity: who came first (holder) and who is refused (rival), by the marks of their processes. */
	"CREATE TABLE duplicates (host TEXT PRIMARY KEY REFERENCES hosts (id), holder BLOB NOT NULL, rival BLOB NOT NULL,"
	" holder_address TEXT NOT NULL, rival_address TEXT NOT NULL, holder_at BIGINT NOT NULL, rival_at BIGINT NOT NULL,"
	" since BIGINT NOT NULL);";

/* Keys that are being replaced, and how it went the last time. moving: peers to which a host has not moved over yet, by its last receipt. */
static const char migration_5[] =
	"CREATE TABLE rotations (host TEXT PRIMARY KEY REFERENCES hosts (id), job TEXT NOT NULL, state TEXT NOT NULL, counter BIGINT NOT NULL,"
	" seconds BIGINT NOT NULL, deadline BIGINT NOT NULL, next_key BLOB, next_counter BIGINT, next_signature BLOB);"
	"CREATE INDEX rotations_of_job ON rotations (job, state);"
	"ALTER TABLE hosts ADD COLUMN moving BIGINT NOT NULL DEFAULT 0;";

/* Keys that are made here: sealed to the host, and only until it has announced them. */
static const char migration_6[] =
	"ALTER TABLE hosts ADD COLUMN assignable BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE hosts ADD COLUMN wg_assigned BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE rotations ADD COLUMN assigned BIGINT NOT NULL DEFAULT 0;"
	"ALTER TABLE rotations ADD COLUMN box BLOB;"
	"ALTER TABLE rotations ADD COLUMN assigned_key BLOB;";

static const char *const migrations[] = { migration_1, migration_2, migration_3, migration_4, migration_5, migration_6 };

const struct store_kind control_store = {
	.process = "controld",
	.file = "control.db",
	.migrations = migrations,
	.version = (int)ARRAY_SIZE(migrations),
};
