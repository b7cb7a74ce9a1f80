/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of keys, ways and peers. Pure: facts in, diagnoses out. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/loopback/doctor.h"
#include "libdoc/network.h"

const char *doctor_address(const struct prefix *address, char out[static PREFIX_TEXT])
{
	(void)prefix_format(address, out);
	if (address->length == family_bits(address->family))
		out[strcspn(out, "/")] = '\0';
	return out;
}

const char *doctor_named(const struct doctor_peer *peer, char out[static NAMED_BYTES])
{
	char address[PREFIX_TEXT] = "no address", id[ID_TEXT], key[KEY_BASE64_TEXT];

	if (peer->allowed_count)
		(void)doctor_address(&peer->allowed[0], address);
	if (peer->known)
		(void)snprintf(out, NAMED_BYTES, "%s (host %s)", address, id_format(&peer->host, id));
	else
		(void)snprintf(out, NAMED_BYTES, "%s (key %s)", address, key_format(peer->wg_key, key));
	return out;
}

struct finding *diagnosis_peer(struct diagnosis *diagnosis, enum doctor_cause cause, const struct doctor_peer *peer)
{
	char named[NAMED_BYTES];
	struct finding *finding = diagnosis_problem(diagnosis, cause, "peer", "peer %.120s", doctor_named(peer, named));

	if (peer->known)
		(void)id_format(&peer->host, finding->host);
	return finding;
}

/* -- Keys ------------------------------------------------------------------------------------------------------------------------------ */

void judge_own_key(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct mesh_view *view = &facts->view;
	char expected[KEY_BASE64_TEXT], found[KEY_BASE64_TEXT];
	struct finding *finding;

	if (!view->has_device_key || !view->has_key) {
		diagnosis_say(diagnosis, DOCTOR_NOT_APPLICABLE, "nothing is in force yet");
		return;
	}
	if (memcmp(view->device_key, view->wg_key, KEY_BYTES) != 0) {
		finding = diagnosis_problem(diagnosis, CAUSE_own_key_differs, "interface", "%s", view->interface);
		finding_expected(finding, "public key %s, which is signed for this host", key_format(view->wg_key, expected));
		finding_found(finding, "public key %s", key_format(view->device_key, found));
	}
	if (view->device_port != view->listen_port) {
		finding = diagnosis_problem(diagnosis, CAUSE_own_port_differs, "interface", "%s", view->interface);
		finding_expected(finding, "UDP port %" PRIu64, view->listen_port);
		finding_found(finding, "UDP port %" PRIu64, view->device_port);
	}
	if (!diagnosis->count)
		diagnosis_say(diagnosis, DOCTOR_OK, "%s", key_format(view->wg_key, expected));
}

#define FOREIGN_MAX 64 /* keys that nobody signed for, of which it is asked whose addresses they have */

struct foreigners {
	unsigned count, kept;
	const struct doctor_peer *list[FOREIGN_MAX];
	bool stands_in[FOREIGN_MAX]; /* for a peer that is missing */
};

static bool shares_address(const struct doctor_peer *one, const struct doctor_peer *other)
{
	for (unsigned j = 0; j < one->allowed_count; j++)
		for (unsigned k = 0; k < other->allowed_count; k++)
			if (prefix_overlaps(&one->allowed[j], &other->allowed[k]))
				return true;
	return false;
}

/* The key that nobody signed for and that has an address of this peer. */
static const struct doctor_peer *impostor(struct foreigners *foreigners, const struct doctor_peer *missing)
{
	for (unsigned i = 0; i < foreigners->kept; i++)
		if (shares_address(foreigners->list[i], missing)) {
			foreigners->stands_in[i] = true;
			return foreigners->list[i];
		}
	return NULL;
}

/* Is this entry the first of a host that is missing? (One comes for each of its endpoints.) */
static bool is_missing(const struct facts *facts, size_t place)
{
	const struct doctor_peer *peer = &facts->peers[place];

	return !peer->there && peer->known && !peer->own &&
	       (place == 0 || memcmp(facts->peers[place - 1].wg_key, peer->wg_key, KEY_BYTES) != 0);
}

static void judge_missing(struct foreigners *foreigners, const struct doctor_peer *peer, struct diagnosis *diagnosis)
{
	const struct doctor_peer *other = impostor(foreigners, peer);
	struct finding *finding = diagnosis_peer(diagnosis, other ? CAUSE_peer_key_differs : CAUSE_peer_missing, peer);
	char expected[KEY_BASE64_TEXT], found[KEY_BASE64_TEXT];

	finding_expected(finding, "key %s, which is signed for it", key_format(peer->wg_key, expected));
	finding_found(finding, "%s%s", other ? "its address is with key " : "the interface does not have that peer", other ? key_format(other->wg_key, found) : "");
}

static void judge_foreign(const struct doctor_peer *peer, struct diagnosis *diagnosis)
{
	struct finding *finding = diagnosis_peer(diagnosis, CAUSE_peer_foreign, peer);

	finding_expected(finding, "only peers that are signed");
	finding_found(finding, "a peer that nobody signed for");
}

void judge_peer_keys(const struct facts *facts, struct diagnosis *diagnosis)
{
	struct foreigners foreigners = { .count = 0 };
	unsigned known = 0;

	for (size_t i = 0; i < facts->peer_count; i++) {
		const struct doctor_peer *peer = &facts->peers[i];

		known += peer->there && peer->known;
		if (!peer->there || peer->known)
			continue;
		if (foreigners.kept < FOREIGN_MAX)
			foreigners.list[foreigners.kept++] = peer;
		foreigners.count++;
	}
	for (size_t i = 0; i < facts->peer_count; i++)
		if (is_missing(facts, i))
			judge_missing(&foreigners, &facts->peers[i], diagnosis);
	for (unsigned i = 0; i < foreigners.count; i++) /* those beyond the list are only counted */
		if (i >= FOREIGN_MAX || !foreigners.stands_in[i])
			judge_foreign(foreigners.list[i < FOREIGN_MAX ? i : FOREIGN_MAX - 1], diagnosis);
	if (!diagnosis->count)
		diagnosis_say(diagnosis, DOCTOR_OK, "%u peer%s, as signed", known, known == 1 ? "" : "s");
}

/* -- Ways ------------------------------------------------------------------------------------------------------------------------------ */

void judge_route(const struct facts *facts, struct diagnosis *diagnosis)
{
	unsigned asked = 0;

	for (size_t i = 0; i < facts->peer_count; i++) {
		const struct doctor_peer *peer = &facts->peers[i];
		struct finding *finding;

		if (!doctor_concerns(facts, peer) || !peer->probed || !peer->echo.to.family)
			continue;
		asked++;
		if (!peer->way_error && peer->way.index == facts->host.link.index)
			continue;
		finding = diagnosis_peer(diagnosis, CAUSE_route_hidden, peer);
		finding_expected(finding, "packets to it go into %s", facts->view.interface);
		if (peer->way_error)
			finding_found(finding, "the kernel has no way for them: %s", strerror(-peer->way_error));
		else
			finding_found(finding, "they go into %s, by routing table %u", peer->way_name, peer->way.table);
	}
	if (!diagnosis->count)
		diagnosis_say(diagnosis, asked ? DOCTOR_OK : DOCTOR_NOT_APPLICABLE, asked ? "to %u of the peers, as asked of the kernel" : "there is no peer", asked);
}

/* The interface by which peers are told to send to this host; NULL: not an address of ours (behind a NAT). */
static const struct seen_address *told_address(const struct facts *facts)
{
	for (size_t i = 0; i < facts->peer_count; i++)
		for (unsigned j = 0; facts->peers[i].own && facts->peers[i].endpoint.family == 4 && j < facts->host.underlay_count; j++)
			if (facts->host.underlay[j].address.family == 4 && memcmp(facts->host.underlay[j].address.b, facts->peers[i].endpoint.b, 4) == 0)
				return &facts->host.underlay[j];
	return NULL;
}

void judge_rp_filter(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct seen_address *told = told_address(facts);
	char text[PREFIX_TEXT], endpoint[ENDPOINT_TEXT];

	if (facts->host.error) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "the kernel cannot be asked: %s", strerror(-facts->host.error));
		return;
	}
	for (size_t i = 0; told && told->strict && i < facts->peer_count; i++) {
		const struct doctor_peer *peer = &facts->peers[i];
		struct finding *finding;

		if (!doctor_concerns(facts, peer) || peer->endpoint.family != 4 || !peer->under_way.index || peer->under_way.index == told->index)
			continue;
		finding = diagnosis_peer(diagnosis, CAUSE_rp_filter_strict, peer);
		finding_expected(finding, "ways to %s leave by %s, or rp_filter of %s is 2 (loose) or 0", endpoint_format(&peer->endpoint, endpoint),
				 told->interface, told->interface);
		finding_found(finding, "it is 1 (strict), and another interface is the way; peers send to %s", doctor_address(&told->address, text));
	}
	if (!diagnosis->count)
		diagnosis_say(diagnosis, DOCTOR_OK, "%s", told && told->strict ? "strict, and ways are the same in both directions" : "it is not strict");
}

void judge_address_told(const struct facts *facts, struct diagnosis *diagnosis)
{
	unsigned told = 0, ours = 0, near = 0;
	char text[ENDPOINT_TEXT] = "", list[256] = "", one[PREFIX_TEXT];
	struct finding *finding;

	for (size_t i = 0; i < facts->peer_count; i++) {
		const struct endpoint *endpoint = &facts->peers[i].endpoint;
		struct prefix address = { .family = endpoint->family, .length = (uint8_t)family_bits(endpoint->family) };

		if (!facts->peers[i].own || !facts->peers[i].has_endpoint)
			continue;
		told++;
		memcpy(address.b, endpoint->b, sizeof(address.b));
		for (unsigned j = 0; j < facts->host.underlay_count; j++) {
			const struct prefix *mine = &facts->host.underlay[j].address;
			bool same = mine->family == address.family && memcmp(mine->b, address.b, sizeof(address.b)) == 0;

			ours += same;
			near += !same && mine->length < family_bits(mine->family) && prefix_contains(mine, &address);
		}
		(void)endpoint_format(endpoint, text);
	}
	if (!told || facts->host.error) {
		diagnosis_say(diagnosis, told ? DOCTOR_UNKNOWN : DOCTOR_NOT_APPLICABLE, "%s", told ? strerror(-facts->host.error) :
			      "peers are told of no address: this host speaks first");
		return;
	}
	if (ours || !near) { /* an address of ours; or of a NAT, or what an operator set */
		diagnosis_say(diagnosis, DOCTOR_OK, "%s%s", text, ours ? "" : ", which is not on this host: a NAT's, or an operator's choice");
		return;
	}
	for (unsigned j = 0; j < facts->host.underlay_count; j++)
		(void)snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", j ? ", " : "", doctor_address(&facts->host.underlay[j].address, one));
	finding = diagnosis_problem(diagnosis, CAUSE_address_untold, "host", "this host");
	finding_expected(finding, "peers are told of an address that this host has: %.200s", list);
	finding_found(finding, "they are told of %s, which lies in a network of this host and is not its address", text);
}

/* -- Tunnels --------------------------------------------------------------------------------------------------------------------------- */

enum condition doctor_condition(const struct facts *facts, const struct doctor_peer *peer)
{
	bool fresh = peer->handshake_after && facts->now < peer->handshake_after + HANDSHAKE_FRESH_S;
	bool heard = peer->rx_after > peer->rx || (peer->handshake_after == 0 && peer->rx_after > 0);
	bool asked = peer->probed && peer->echo.to.family && peer->echo.error == 0 && facts->root;

	if (peer->echo.answered || (fresh && (!asked || !facts->observed_ms)))
		return PEER_WELL;
	if (fresh)
		return heard ? PEER_QUIET : PEER_LOST;
	if (!asked && !peer->keepalive)
		return PEER_IDLE;
	if (heard)
		return PEER_HALF;
	return peer->has_endpoint ? PEER_UNHEARD : PEER_NOWHERE;
}

static unsigned count_of(const struct facts *facts, enum condition condition)
{
	unsigned count = 0;

	for (size_t i = 0; i < facts->peer_count; i++)
		if (doctor_concerns(facts, &facts->peers[i]))
			count += doctor_condition(facts, &facts->peers[i]) == condition;
	return count;
}

/* What this host's own kernel would not send. */
static void judge_refusals(const struct facts *facts, struct diagnosis *diagnosis)
{
	for (size_t i = 0; i < facts->peer_count; i++) {
		const struct doctor_peer *peer = &facts->peers[i];
		bool tunnel = peer->echo.error == -EPERM;
		struct finding *finding;

		if (!doctor_concerns(facts, peer) || !peer->probed || (!tunnel && peer->knock.error != -EPERM))
			continue;
		finding = diagnosis_peer(diagnosis, CAUSE_firewall_drops, peer);
		finding_expected(finding, "packets to it leave this host");
		finding_found(finding, "the kernel refuses to send %s: a rule of this host's own on output",
			      tunnel ? "into the interface" : "UDP to its endpoint");
	}
}

void judge_firewall(const struct facts *facts, struct diagnosis *diagnosis)
{
	const struct firewall_facts *firewall = &facts->host.firewall;
	unsigned well = count_of(facts, PEER_WELL), quiet = count_of(facts, PEER_QUIET);
	unsigned unwell = count_of(facts, PEER_LOST) + count_of(facts, PEER_HALF) + count_of(facts, PEER_UNHEARD);
	struct finding *finding;

	judge_refusals(facts, diagnosis);
	if (diagnosis->count)
		return;
	if (!unwell && !(quiet && firewall->count)) {
		diagnosis_say(diagnosis, DOCTOR_OK, "nothing points to it%s", firewall->count ? ", though it has rules that name the port or the interface and drop" : "");
	} else if (firewall->error) {
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "its rules cannot be read: %s",
			      firewall->error == -EACCES ? "only root may" : firewall->error == -ENOENT ? "the program nft is not here" : strerror(-firewall->error));
	} else if (firewall->count || (firewall->closed_input && !well)) {
		finding = diagnosis_problem(diagnosis, CAUSE_firewall_drops, "host", "this host's firewall");
		finding_expected(finding, "UDP port %" PRIu64 " and %s are let through", facts->view.listen_port, facts->view.interface);
		finding_found(finding, "%u peer%s without an answer, and %s%.190s", unwell + quiet, unwell + quiet == 1 ? "" : "s",
			      firewall->count ? "the rule: " : "a chain on input that drops by default, and no rule that names the port",
			      firewall->count ? firewall->rules[0] : "");
	} else {
		diagnosis_say(diagnosis, DOCTOR_OK, "no rule names the port or the interface and drops");
	}
}

static void describe_silence(const struct facts *facts, const struct doctor_peer *peer, struct finding *finding)
{
	char endpoint[ENDPOINT_TEXT] = "an unknown endpoint", ago[WORDS], sent[WORDS], heard[WORDS], all_sent[WORDS], all_heard[WORDS];

	if (peer->has_endpoint)
		(void)endpoint_format(&peer->endpoint, endpoint);
	finding_expected(finding, "a handshake within %d s with %s", HANDSHAKE_FRESH_S, endpoint);
	finding_found(finding, "handshake: %s; sent %s and received %s in all, %s and %s in the last %u.%u s; without the tunnel its address %s",
		      peer->handshake_after ? words_ago(facts->now > peer->handshake_after ? facts->now - peer->handshake_after : 0, ago) : "never",
		      words_amount(peer->tx_after, all_sent), words_amount(peer->rx_after, all_heard), words_amount(peer->tx_after - peer->tx, sent),
		      words_amount(peer->rx_after - peer->rx, heard), facts->observed_ms / 1000, facts->observed_ms % 1000 / 100,
		      !peer->under.to.family ? "was not asked" : peer->under.answered ? "answers a ping" : "does not answer a ping");
}

static enum doctor_cause cause_of_silence(const struct doctor_peer *peer, enum condition condition)
{
	if (condition == PEER_HALF)
		return CAUSE_asymmetric_path;
	if (condition == PEER_NOWHERE)
		return CAUSE_no_endpoint;
	if (peer->knock.error == -ECONNREFUSED)
		return CAUSE_port_unreachable;
	if (peer->probed && peer->under.to.family && !peer->under.answered)
		return CAUSE_peer_unreachable;
	return CAUSE_udp_blocked;
}

void judge_handshake(const struct facts *facts, struct diagnosis *diagnosis)
{
	unsigned well = count_of(facts, PEER_WELL) + count_of(facts, PEER_QUIET), idle = count_of(facts, PEER_IDLE), asked = 0;

	for (size_t i = 0; i < facts->peer_count; i++) {
		const struct doctor_peer *peer = &facts->peers[i];
		enum condition condition = doctor_condition(facts, peer);

		if (!doctor_concerns(facts, peer))
			continue;
		asked++;
		if (condition == PEER_WELL || condition == PEER_QUIET || condition == PEER_IDLE)
			continue;
		describe_silence(facts, peer, diagnosis_peer(diagnosis, cause_of_silence(peer, condition), peer));
	}
	if (diagnosis->count)
		return;
	if (!asked)
		diagnosis_say(diagnosis, DOCTOR_NOT_APPLICABLE, "there is no peer");
	else if (!well)
		diagnosis_say(diagnosis, facts->root ? DOCTOR_OK : DOCTOR_UNKNOWN, "%u peers, all idle%s", idle, facts->root ? "" : "; only root may ask them");
	else
		diagnosis_say(diagnosis, DOCTOR_OK, "%u of %u peers%s", well, asked, idle ? "; the others are idle" : "");
}

/* -- Large packets --------------------------------------------------------------------------------------------------------------------- */

/* The network that has a peer's address. */
static const char *network_of(const struct facts *facts, const struct doctor_peer *peer)
{
	for (unsigned i = 0; i < facts->view.network_count; i++)
		for (unsigned j = 0; j < facts->view.networks[i].cidr_count; j++)
			if (prefix_contains(&facts->view.networks[i].cidrs[j], &peer->echo.to))
				return facts->view.networks[i].name;
	return "NETWORK";
}

void judge_path_mtu(const struct facts *facts, struct diagnosis *diagnosis)
{
	unsigned measured = 0, mtu = facts->host.link.mtu;

	for (size_t i = 0; i < facts->peer_count; i++) {
		const struct doctor_peer *peer = &facts->peers[i];
		struct finding *finding;

		if (!doctor_concerns(facts, peer) || !peer->passes)
			continue;
		measured++;
		if (!peer->fails)
			continue;
		finding = diagnosis_peer(diagnosis, CAUSE_mtu_black_hole, peer);
		finding_expected(finding, "packets as large as the MTU of %s, %u bytes, come back", facts->view.interface, mtu);
		finding_found(finding, "%u bytes come back, %u do not, and nobody says so", peer->passes, peer->fails);
		if (peer->passes >= MTU_MIN)
			finding_do(finding, "loopbackctl network set %s --mtu %u; or find who drops outer packets of more than about %u bytes (UDP and ICMP \"fragmentation "
				   "needed\" must pass)", network_of(facts, peer), peer->passes, peer->passes + (peer->endpoint.family == 6 ? 80 : 60));
		else
			finding_do(finding, "no MTU of a network may be below %u: find who drops outer packets of more than %u bytes (UDP and ICMP \"fragmentation needed\" "
				   "must pass)", MTU_MIN, peer->passes + (peer->endpoint.family == 6 ? 80 : 60));
	}
	if (diagnosis->count)
		return;
	if (measured)
		diagnosis_say(diagnosis, DOCTOR_OK, "%u bytes, the interface's MTU, to %u peer%s", mtu, measured, measured == 1 ? "" : "s");
	else if (!facts->root)
		diagnosis_say(diagnosis, DOCTOR_UNKNOWN, "only root may ask; try again with sudo");
	else
		diagnosis_say(diagnosis, DOCTOR_NOT_APPLICABLE, "no peer answers a ping over the tunnel");
}
