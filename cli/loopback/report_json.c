/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "cli/common/emit.h"
#include "cli/loopback/report.h"
#include "libdoc/host.h"

static void emit_prefixes(struct emit *emit, const char *key, const struct prefix *list, unsigned count)
{
	char text[PREFIX_TEXT];

	emit_array(emit, key);
	for (unsigned i = 0; i < count; i++)
		emit_text(emit, NULL, prefix_format(&list[i], text));
	emit_end(emit);
}

static void emit_networks(struct emit *emit, const struct mesh_view *view)
{
	char id[ID_TEXT];

	emit_array(emit, "networks");
	for (unsigned i = 0; i < view->network_count; i++) {
		const struct mesh_network *network = &view->networks[i];

		emit_object(emit, NULL);
		emit_text(emit, "id", id_format(&network->id, id));
		emit_text(emit, "name", network->name);
		emit_u64(emit, "epoch", network->epoch);
		emit_u64(emit, "generation", network->generation);
		emit_u64(emit, "mtu", network->mtu);
		emit_u64(emit, "keepalive", network->keepalive);
		emit_prefixes(emit, "addresses", network->addresses, network->address_count);
		emit_prefixes(emit, "cidrs", network->cidrs, network->cidr_count);
		emit_u64(emit, "hosts", network->hosts);
		emit_bool(emit, "locked", network->locked);
		emit_u64(emit, "admission_generation", network->list);
		emit_end(emit);
	}
	emit_end(emit);
}

static void emit_result(struct emit *emit, const struct mesh_view *view)
{
	if (view->outcome == 0) {
		emit_null(emit, "last_result");
		return;
	}
	emit_object(emit, "last_result");
	emit_text(emit, "outcome", outcome_name((enum outcome)view->outcome));
	emit_text(emit, "code", view->code);
	emit_text(emit, "reason", view->reason);
	emit_u64(emit, "seconds_ago", view->outcome_age);
	emit_end(emit);
}

static void emit_confirm(struct emit *emit, const struct mesh_view *view)
{
	emit_object(emit, "confirm");
	emit_text(emit, "state", confirm_name((enum confirm)view->confirm));
	emit_text(emit, "code", view->confirm_code);
	emit_text(emit, "reason", view->confirm_reason);
	emit_u64(emit, "seconds_ago", view->confirm_age);
	emit_end(emit);
}

static void emit_link(struct emit *emit, const struct link_report *link)
{
	if (!link->answered) {
		emit_null(emit, "control_plane");
		return;
	}
	emit_object(emit, "control_plane");
	emit_bool(emit, "enrolled", link->enrolled);
	emit_bool(emit, "online", link->online);
	emit_text(emit, "url", link->url[0] ? link->url : NULL);
	emit_u64(emit, "last_answer", link->last_answer);
	emit_text(emit, "last_error", link->last_error[0] ? link->last_error : NULL);
	emit_text(emit, "last_code", link->last_code[0] ? link->last_code : NULL);
	emit_u64(emit, "clock_ahead_seconds", link->skew_ahead);
	emit_u64(emit, "clock_behind_seconds", link->skew_behind);
	emit_end(emit);
}

static void emit_peer(struct emit *emit, const struct mesh_peer *peer)
{
	char id[ID_TEXT], key[KEY_BASE64_TEXT], endpoint[ENDPOINT_TEXT];

	emit_object(emit, NULL);
	emit_text(emit, "host", peer->has_host ? id_format(&peer->host, id) : NULL);
	emit_text(emit, "public_key", key_format(peer->wg_key, key));
	emit_prefixes(emit, "allowed_ips", peer->allowed, peer->allowed_count);
	emit_text(emit, "endpoint", peer->has_endpoint ? endpoint_format(&peer->endpoint, endpoint) : NULL);
	emit_u64(emit, "handshake", peer->handshake);
	emit_u64(emit, "rx_bytes", peer->rx_bytes);
	emit_u64(emit, "tx_bytes", peer->tx_bytes);
	emit_u64(emit, "keepalive", peer->keepalive);
	emit_end(emit);
}

static int emit_peers(struct cli *cli, struct emit *emit, struct mesh_view *view, bool listed)
{
	struct peer_tally tally = { .all = 0 };
	uint64_t now = (uint64_t)time(NULL);
	struct mesh_peer peer;
	int r;

	if (listed)
		emit_array(emit, "peer_list");
	while ((r = mesh_view_next(view, &peer)) > 0) {
		if (!peer.there) /* what is missing is for loopback doctor to tell */
			continue;
		peer_tally_add(&tally, &peer, now);
		if (listed)
			emit_peer(emit, &peer);
	}
	if (listed)
		emit_end(emit);
	if (r < 0)
		return report_broken(cli);
	emit_object(emit, "peers");
	emit_u64(emit, "count", tally.all);
	emit_u64(emit, "handshake_fresh", tally.fresh);
	emit_u64(emit, "handshake_old", tally.old);
	emit_u64(emit, "handshake_never", tally.never);
	emit_u64(emit, "rx_bytes", tally.rx_bytes);
	emit_u64(emit, "tx_bytes", tally.tx_bytes);
	emit_end(emit);
	return CLI_OK;
}

/* null: no key is being replaced, and none was a moment ago. */
static void emit_rotation(struct emit *emit, const struct mesh_view *view)
{
	if (!view->rotation.hosts && !view->rotation.second) {
		emit_null(emit, "rotation");
		return;
	}
	emit_object(emit, "rotation");
	emit_u64(emit, "hosts", view->rotation.hosts);
	emit_bool(emit, "this_host", view->rotation.own);
	emit_u64(emit, "moving", view->rotation.moving);
	emit_bool(emit, "second_tunnel", view->rotation.second);
	emit_end(emit);
}

int report_json(struct cli *cli, struct mesh_view *view, const struct link_report *link, bool counted, bool peers)
{
	struct emit emit = emit_to(stdout);
	char id[ID_TEXT], key[KEY_BASE64_TEXT];
	int r = CLI_OK;

	emit_object(&emit, NULL);
	emit_text(&emit, "state", view->state);
	emit_text(&emit, "host", view->has_host ? id_format(&view->host, id) : NULL);
	emit_text(&emit, "interface", view->interface[0] ? view->interface : NULL);
	emit_text(&emit, "backend", view->backend);
	emit_u64(&emit, "listen_port", view->listen_port);
	emit_text(&emit, "public_key", view->has_key ? key_format(view->wg_key, key) : NULL);
	emit_bool(&emit, "stale", view->stale);
	if (view->head_age == VIEW_NEVER)
		emit_null(&emit, "seconds_since_fresh");
	else
		emit_u64(&emit, "seconds_since_fresh", view->head_age);
	emit_link(&emit, link);
	emit_result(&emit, view);
	emit_confirm(&emit, view);
	emit_u64(&emit, "drift_mended", view->mended);
	emit_rotation(&emit, view);
	emit_networks(&emit, view);
	if (counted)
		r = emit_peers(cli, &emit, view, peers);
	else
		emit_null(&emit, "peers");
	emit_end(&emit);
	return r;
}
