/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/common/columns.h"
#include "cli/loopback/report.h"
#include "libdoc/host.h"

void peer_tally_add(struct peer_tally *tally, const struct mesh_peer *peer, uint64_t now)
{
	tally->all++;
	if (peer->handshake == 0)
		tally->never++;
	else if (now < peer->handshake + HANDSHAKE_FRESH_S)
		tally->fresh++;
	else
		tally->old++;
	tally->rx_bytes += peer->rx_bytes;
	tally->tx_bytes += peer->tx_bytes;
}

int report_broken(struct cli *cli)
{
	return cli_fail(&cli->voice, CLI_UNREACHABLE, "protocol",
			"netd's view breaks off among its peers; are loopback and netd of one version?");
}

/* -- Words. ------------------------------------------------------------------------------------------------------ */

const char *words_ago(uint64_t seconds, char out[static WORDS])
{
	if (seconds < 120)
		(void)snprintf(out, WORDS, "%" PRIu64 " s ago", seconds);
	else if (seconds < 2 * 3600)
		(void)snprintf(out, WORDS, "%" PRIu64 " min ago", seconds / 60);
	else if (seconds < 2 * 86400)
		(void)snprintf(out, WORDS, "%" PRIu64 " h ago", seconds / 3600);
	else
		(void)snprintf(out, WORDS, "%" PRIu64 " d ago", seconds / 86400);
	return out;
}

const char *words_amount(uint64_t bytes, char out[static WORDS])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	(void)snprintf(out, WORDS, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
	return out;
}

/* Prefixes side by side; hosts' addresses lose their /32 or /128, which says nothing. */
static const char *prefixes(const struct prefix *list, unsigned count, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < count && n < size; i++) {
		char text[PREFIX_TEXT];
		int written;

		(void)prefix_format(&list[i], text);
		if (list[i].length == family_bits(list[i].family) && strchr(text, '/'))
			*strchr(text, '/') = '\0';
		written = snprintf(out + n, size - n, "%s%s", i ? ", " : "", text);
		n += written < 0 ? 0 : (size_t)written;
	}
	return out;
}

const char *words_state(const char *state)
{
	static const struct {
		const char *state, *words;
	} table[] = {
		{ "running", "running" },
		{ "waiting-tunnel", "waiting for the userspace tunnel (wg-launch); see: systemctl status loopback-wg" },
		{ "unpinned", "not enrolled; see: loopback enroll --help" },
		{ "unenrolled", "a root key is pinned, and no documents have come yet; if nobody enrols just now: loopback "
				"enroll again, or loopback leave" },
		{ "broken", "broken: the last change failed and going back failed too; netd keeps trying" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].state, state) == 0)
			return table[i].words;
	return state;
}

/* A line "Name   text"; text comes from daemons and may hold what others wrote. */
static void line(const char *name, const char *text)
{
	char clean[2048];

	(void)printf("%-14s %s\n", name, cli_clean(clean, sizeof(clean), text, strlen(text)));
}

/* -- Parts. ------------------------------------------------------------------------------------------------------ */

static void tell_device(const struct mesh_view *view)
{
	char text[256], key[KEY_BASE64_TEXT], id[ID_TEXT];

	line("State", words_state(view->state));
	if (view->has_host)
		line("Host id", id_format(&view->host, id));
	if (view->interface[0]) {
		(void)snprintf(text, sizeof(text), "%s, %s backend, UDP port %" PRIu64, view->interface, view->backend,
			       view->listen_port);
		line("Interface", text);
	}
	if (view->has_key)
		line("Public key", key_format(view->wg_key, key));
}

static void tell_freshness(const struct mesh_view *view)
{
	char text[256], age[WORDS];

	if (strcmp(view->state, "unpinned") == 0)
		return;
	if (view->head_age == VIEW_NEVER)
		(void)snprintf(text, sizeof(text), "no proof of freshness since netd started%s", view->stale ? "; stale" : "");
	else
		(void)snprintf(text, sizeof(text), "%s%s", words_ago(view->head_age, age),
			       view->stale ? "; stale: the mesh runs on from what is known, and changes do not arrive" : "");
	line("Fresh as of", text);
}

static void tell_result(const struct mesh_view *view)
{
	char text[1024], age[WORDS];

	if (view->outcome != 0) {
		const char *name = outcome_name((enum outcome)view->outcome);

		(void)snprintf(text, sizeof(text), "%s, %s%s%s%s%s%s", name ? name : "unknown", words_ago(view->outcome_age, age),
			       view->reason[0] ? ": " : "", view->reason, view->code[0] ? " (" : "", view->code,
			       view->code[0] ? ")" : "");
		line("Last result", text);
	}
	if (view->confirm_code[0]) {
		(void)snprintf(text, sizeof(text), "%s, %s: %s", confirm_name((enum confirm)view->confirm), words_ago(view->confirm_age, age),
			       view->confirm_reason);
		line("Confirm", text);
	}
	if (view->rotation.hosts)
		(void)snprintf(text, sizeof(text), "of %" PRIu64 " hosts are being replaced%s; %s", view->rotation.hosts, view->rotation.own ? ", this one's among them" : "",
			       !view->rotation.second ? "there is no second tunnel for that yet" : view->rotation.moving ? "moving to the second tunnel" :
									"all has moved to the second tunnel");
	else
		(void)snprintf(text, sizeof(text), "moving back from the second tunnel");
	if (view->rotation.hosts || view->rotation.second)
		line("Keys", text);
	if (view->mended > 0) {
		(void)snprintf(text, sizeof(text),
			       "mended %" PRIu64 " times since netd started: somebody else changes the device", view->mended);
		line("Drift", text);
	}
}

static void tell_link(const struct link_report *link)
{
	uint64_t now_s = (uint64_t)time(NULL);
	char text[2200], age[WORDS];

	if (!link->asked)
		return;
	if (!link->answered) {
		line("Control plane", "fetchd does not answer; see: systemctl status loopback-fetchd");
		return;
	}
	if (!link->enrolled)
		return;
	(void)snprintf(text, sizeof(text), "%s, %s%s%s", link->url, link->online ? "online" : "offline",
		       link->last_answer ? ", last answer " : "",
		       link->last_answer ? words_ago(now_s > link->last_answer / 1000 ? now_s - link->last_answer / 1000 : 0, age)
					 : "");
	line("Control plane", text);
	if (link->last_error[0] && !link->online)
		line("Last error", link->last_error);
	if (link->skew_ahead > CLOCK_TOLD_S || link->skew_behind > CLOCK_TOLD_S) {
		(void)snprintf(text, sizeof(text), "this host's is %" PRIu64 " s %s",
			       link->skew_ahead ? link->skew_ahead : link->skew_behind, link->skew_ahead ? "ahead" : "behind");
		line("Clock", text);
	}
}

static int tell_networks(struct cli *cli, const struct mesh_view *view)
{
	static const char *const titles[] = { "NETWORK", "GENERATION", "ADDRESSES", "HOSTS", "MTU", "KEEPALIVE", "ADMISSION", "RANGES" };
	_cleanup_columns_ struct columns table = { .titles = titles, .count = ARRAY_SIZE(titles) };
	char text[512];

	if (view->network_count == 0)
		return CLI_OK;
	for (unsigned i = 0; i < view->network_count; i++) {
		const struct mesh_network *network = &view->networks[i];

		columns_cell(&table, "%s", network->name);
		columns_cell(&table, "%" PRIu64, network->generation);
		columns_cell(&table, "%s", prefixes(network->addresses, network->address_count, text, sizeof(text)));
		columns_cell(&table, "%" PRIu64, network->hosts);
		columns_cell(&table, "%" PRIu64, network->mtu);
		columns_cell(&table, "%" PRIu64 " s", network->keepalive);
		if (network->locked)
			columns_cell(&table, "locked, list %" PRIu64, network->list);
		else
			columns_cell(&table, "open");
		columns_cell(&table, "%s", prefixes(network->cidrs, network->cidr_count, text, sizeof(text)));
	}
	(void)fputc('\n', stdout);
	return columns_print(&table) == 0 ? CLI_OK : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
}

static void add_peer(struct columns *table, const struct mesh_peer *peer, uint64_t now)
{
	char id[ID_TEXT], text[2048], endpoint[ENDPOINT_TEXT], words[WORDS];

	columns_cell(table, "%s", peer->has_host ? id_format(&peer->host, id) : "not ours");
	columns_cell(table, "%s", prefixes(peer->allowed, peer->allowed_count, text, sizeof(text)));
	columns_cell(table, "%s", peer->has_endpoint ? endpoint_format(&peer->endpoint, endpoint) : "");
	columns_cell(table, "%s", peer->handshake ? words_ago(now > peer->handshake ? now - peer->handshake : 0, words) : "never");
	columns_cell(table, "%s", words_amount(peer->rx_bytes, words));
	columns_cell(table, "%s", words_amount(peer->tx_bytes, words));
}

static int tell_peers(struct cli *cli, struct mesh_view *view, bool listed)
{
	static const char *const titles[] = { "PEER", "ADDRESSES", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT" };
	_cleanup_columns_ struct columns table = { .titles = titles, .count = ARRAY_SIZE(titles) };
	struct peer_tally tally = { .all = 0 };
	uint64_t now = (uint64_t)time(NULL);
	struct mesh_peer peer;
	int r;

	while ((r = mesh_view_next(view, &peer)) > 0) {
		if (!peer.there) /* what is missing is for loopback doctor to tell */
			continue;
		peer_tally_add(&tally, &peer, now);
		if (listed)
			add_peer(&table, &peer, now);
	}
	if (r < 0)
		return report_broken(cli);
	(void)printf("\n%" PRIu64 " peer%s: ", tally.all, tally.all == 1 ? "" : "s");
	(void)printf("%" PRIu64 " with a handshake in the last %d s, ", tally.fresh, HANDSHAKE_FRESH_S);
	(void)printf("%" PRIu64 " with an older one, %" PRIu64 " with none yet\n", tally.old, tally.never);
	if (!listed || tally.all == 0)
		return CLI_OK;
	(void)fputc('\n', stdout);
	return columns_print(&table) == 0 ? CLI_OK : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
}

/* Where something is amiss, there is more to be had. */
static void tell_more(const struct mesh_view *view, const struct link_report *link)
{
	bool enrolled = strcmp(view->state, "unpinned") != 0;
	bool offline = link->asked && (!link->answered || (link->enrolled && !link->online));

	if (enrolled && (offline || view->stale || view->confirm_code[0] || view->code[0]))
		(void)puts("\nWhat is wrong, and what to do about it: loopback doctor");
}

int report_text(struct cli *cli, struct mesh_view *view, const struct link_report *link, bool counted, bool peers)
{
	int r;

	tell_device(view);
	tell_link(link);
	tell_freshness(view);
	tell_result(view);
	r = tell_networks(cli, view);
	if (!r && counted && view->network_count > 0)
		r = tell_peers(cli, view, peers);
	tell_more(view, link);
	return r;
}
