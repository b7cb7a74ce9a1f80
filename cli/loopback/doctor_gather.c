/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemons say, and what peers answer. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/loopback/doctor.h"
#include "cli/loopback/interrupt.h"
#include "cli/loopback/status.h"

#define NETD_MS 10000 /* it reads tens of thousands of peers in less */
#define DEAD_MS 2000  /* for a service manager to start it, as the first word to its socket may */
#define ECHO_MS 1500
#define LADDER_MS 1000
#define STEPS 16          /* of a ladder; two ladders name the size to within 6 bytes of 1500 */
#define LOOK_SHORT_MS 200 /* between the looks at the peers if there is no doubt */
#define LOOK_SHAKE_MS 6000 /* WireGuard repeats a handshake after 5 s (REKEY_TIMEOUT) */
#define LOOK_TALK_MS 11000 /* and answers what it receives after 10 s at the latest (KEEPALIVE_TIMEOUT) */
#define SLOW_VIEW_MS 300   /* netd gives the same view for ten times as long as it took: a second look would show nothing new */

void facts_free(struct facts *facts)
{
	mesh_view_free(&facts->view);
	free(facts->peers);
	facts->peers = NULL;
	facts->peer_count = 0;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A person at a terminal sees what is waited for. */
static void progress(const struct cli *cli, const char *text)
{
	if (!cli->voice.json && isatty(STDERR_FILENO))
		(void)fprintf(stderr, "\r\033[K%s%s", text, text[0] ? " ..." : "");
}

/* -- netd's view ----------------------------------------------------------------------------------------------------------------------- */

static void peer_take(struct doctor_peer *peer, const struct mesh_peer *seen, const struct mesh_view *view)
{
	*peer = (struct doctor_peer){ .there = seen->there, .known = seen->has_host, .knock = { .fd = -1 } };
	peer->host = seen->host;
	peer->own = view->has_host && seen->has_host && id_equal(&seen->host, &view->host);
	memcpy(peer->wg_key, seen->wg_key, KEY_BYTES);
	peer->allowed_count = seen->allowed_count < ADDRESSES_MAX ? seen->allowed_count : ADDRESSES_MAX;
	memcpy(peer->allowed, seen->allowed, peer->allowed_count * sizeof(peer->allowed[0]));
	peer->has_endpoint = seen->has_endpoint;
	if (seen->has_endpoint)
		peer->endpoint = seen->endpoint;
	peer->keepalive = seen->keepalive;
	peer->handshake = peer->handshake_after = seen->handshake;
	peer->rx = peer->rx_after = seen->rx_bytes;
	peer->tx = peer->tx_after = seen->tx_bytes;
}

static int look(struct cli *cli, struct facts *facts)
{
	struct mesh_peer *seen = NULL;
	int r = netd_view_ask(cli, true, facts->netd_runs ? NETD_MS : DEAD_MS, &facts->view);

	if (r < 0)
		return r;
	facts->now = (uint64_t)time(NULL);
	seen = malloc(sizeof(*seen));
	facts->peers = calloc((size_t)facts->view.peer_count + 1, sizeof(facts->peers[0]));
	if (!seen || !facts->peers)
		r = -ENOMEM;
	while (r == 0 && facts->peer_count < facts->view.peer_count) {
		r = mesh_view_next(&facts->view, seen);
		if (r == 1)
			peer_take(&facts->peers[facts->peer_count++], seen, &facts->view);
		r = r == 1 ? 0 : -EBADMSG;
	}
	free(seen);
	return r;
}

static int by_key(const void *a, const void *b)
{
	return memcmp(((const struct doctor_peer *)a)->wg_key, ((const struct doctor_peer *)b)->wg_key, KEY_BYTES);
}

/* The same peers once more: what has moved meanwhile. One that is new says nothing yet. */
static void look_again(struct cli *cli, struct facts *facts)
{
	struct facts again = { .root = facts->root, .netd_runs = true };

	if (look(cli, &again) == 0) {
		facts->mended_before = facts->view.mended;
		facts->now = again.now;
		qsort(again.peers, again.peer_count, sizeof(again.peers[0]), by_key);
		for (size_t i = 0; i < facts->peer_count; i++) {
			struct doctor_peer *peer = &facts->peers[i];
			const struct doctor_peer *now = bsearch(peer, again.peers, again.peer_count, sizeof(again.peers[0]), by_key);

			if (!now || now->there != peer->there)
				continue;
			peer->handshake_after = now->handshake;
			peer->rx_after = now->rx;
			peer->tx_after = now->tx;
		}
		mesh_view_free(&facts->view);
		facts->view = again.view;
		again.view = (struct mesh_view){ .bytes = NULL };
	}
	facts_free(&again);
}

/* -- Which peers ----------------------------------------------------------------------------------------------------------------------- */

bool doctor_concerns(const struct facts *facts, const struct doctor_peer *peer)
{
	return peer->there && peer->known && !peer->own && (!facts->chosen || peer == &facts->peers[facts->chosen - 1]);
}

static bool is_fresh(const struct facts *facts, const struct doctor_peer *peer)
{
	return peer->handshake && facts->now < peer->handshake + HANDSHAKE_FRESH_S;
}

static void probe_it(struct doctor_peer *peer)
{
	peer->probed = true;
	for (unsigned i = 0; i < peer->allowed_count; i++)
		if (!peer->echo.to.family && peer->allowed[i].length == family_bits(peer->allowed[i].family))
			peer->echo.to = peer->allowed[i];
}

/* Those without a fresh handshake are the more interesting ones; of the others some, for the path's MTU. */
static void choose(struct facts *facts)
{
	unsigned count[2] = { 0, 0 };

	for (size_t i = 0; i < facts->peer_count; i++) {
		struct doctor_peer *peer = &facts->peers[i];
		bool fresh = is_fresh(facts, peer);

		if (!doctor_concerns(facts, peer) || !peer->allowed_count || count[fresh] == PROBED_MAX / 2)
			continue;
		count[fresh]++;
		probe_it(peer);
	}
	for (size_t i = 0; i < facts->peer_count && count[0] + count[1] < PROBED_MAX; i++) {
		struct doctor_peer *peer = &facts->peers[i];

		if (!doctor_concerns(facts, peer) || !peer->allowed_count || peer->probed)
			continue;
		count[0]++;
		probe_it(peer);
	}
}

static bool has_address(const struct doctor_peer *peer, const struct prefix *address)
{
	for (unsigned i = 0; i < peer->allowed_count; i++)
		if (prefix_contains(&peer->allowed[i], address))
			return true;
	return peer->has_endpoint && peer->endpoint.family == address->family &&
	       memcmp(peer->endpoint.b, address->b, family_bits(address->family) / 8) == 0;
}

static bool is_called(const struct doctor_peer *peer, const char *words, const struct prefix *addresses, unsigned count)
{
	char id[ID_TEXT], key[KEY_BASE64_TEXT];

	if ((peer->known && strcmp(id_format(&peer->host, id), words) == 0) || strcmp(key_format(peer->wg_key, key), words) == 0)
		return true;
	for (unsigned i = 0; i < count; i++)
		if (has_address(peer, &addresses[i]))
			return true;
	return false;
}

/* The mesh carries no names of hosts: this host's own resolver is asked for one. */
static unsigned resolve(const char *words, struct prefix *addresses, unsigned max)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_DGRAM };
	struct addrinfo *found = NULL;
	unsigned count = 0;

	if (getaddrinfo(words, NULL, &hints, &found) != 0)
		return 0;
	for (const struct addrinfo *each = found; each && count < max; each = each->ai_next) {
		struct prefix *address = &addresses[count++];

		*address = (struct prefix){ .family = each->ai_family == AF_INET6 ? 6 : 4 };
		address->length = (uint8_t)family_bits(address->family);
		if (address->family == 6)
			memcpy(address->b, &((const struct sockaddr_in6 *)(const void *)each->ai_addr)->sin6_addr, 16);
		else
			memcpy(address->b, &((const struct sockaddr_in *)(const void *)each->ai_addr)->sin_addr, 4);
	}
	freeaddrinfo(found);
	return count;
}

static int choose_called(struct cli *cli, const char *words, struct facts *facts)
{
	struct prefix addresses[8];
	unsigned count = resolve(words, addresses, ARRAY_SIZE(addresses));

	for (size_t i = 0; i < facts->peer_count; i++) {
		if (facts->peers[i].own || !is_called(&facts->peers[i], words, addresses, count))
			continue;
		facts->chosen = i + 1;
		return CLI_OK;
	}
	return cli_fail(&cli->voice, CLI_USAGE, "no-peer",
			"\"%s\" is no peer of this host: expected an address of one, in the mesh or outside, its host id or public key, or a name that this "
			"host resolves to such an address. See: loopback status --peers", words);
}

/* -- Asking them ----------------------------------------------------------------------------------------------------------------------- */

/* One round for all that are probed: each one's echo goes to a list and back. */
static int ask_round(struct facts *facts, bool under, unsigned milliseconds, int stop)
{
	struct echo echoes[PROBED_MAX];
	struct doctor_peer *whose[PROBED_MAX];
	size_t count = 0;
	int r;

	for (size_t i = 0; i < facts->peer_count && count < PROBED_MAX; i++) {
		if (!facts->peers[i].probed)
			continue;
		whose[count] = &facts->peers[i];
		echoes[count] = under ? facts->peers[i].under : facts->peers[i].echo;
		count++;
	}
	r = echo_ask(echoes, count, milliseconds, stop);
	for (size_t i = 0; i < count; i++)
		*(under ? &whose[i]->under : &whose[i]->echo) = echoes[i];
	return r;
}

/* The largest packet that comes back, between one that does and one that does not: steps of equal size, all at once. */
static int climb(struct doctor_peer *peer, unsigned milliseconds, int stop)
{
	struct echo steps[STEPS] = { { .bytes = 0 } };
	unsigned low = peer->passes, high = peer->fails;
	int r;

	for (unsigned i = 0; i < STEPS; i++)
		steps[i] = (struct echo){ .to = peer->echo.to, .bytes = low + (high - low) * (i + 1) / (STEPS + 1), .whole = true };
	r = echo_ask(steps, STEPS, milliseconds, stop);
	for (unsigned i = 0; i < STEPS; i++)
		if (steps[i].answered)
			peer->passes = steps[i].bytes;
	for (unsigned i = STEPS; i > 0; i--)
		if (!steps[i - 1].answered && steps[i - 1].bytes > peer->passes)
			peer->fails = steps[i - 1].bytes;
	return r;
}

static int measure(struct facts *facts, int stop)
{
	struct echo whole[PROBED_MAX] = { { .bytes = 0 } };
	struct doctor_peer *whose[PROBED_MAX];
	unsigned mtu = facts->host.link.mtu < ECHO_BYTES_MAX ? facts->host.link.mtu : ECHO_BYTES_MAX;
	size_t count = 0;
	int r;

	for (size_t i = 0; i < facts->peer_count && count < PROBED_MAX; i++) {
		if (!facts->peers[i].probed || !facts->peers[i].echo.answered)
			continue;
		whose[count] = &facts->peers[i];
		whole[count++] = (struct echo){ .to = facts->peers[i].echo.to, .bytes = mtu, .whole = true };
	}
	if (!count || mtu <= ECHO_BYTES_MIN)
		return 0;
	r = echo_ask(whole, count, ECHO_MS, stop);
	for (size_t i = 0; i < count; i++) {
		whose[i]->passes = whole[i].answered ? mtu : ECHO_BYTES_MIN;
		whose[i]->fails = whole[i].answered ? 0 : mtu;
	}
	for (size_t i = 0, climbed = 0; r == 0 && i < count && climbed < 2; i++) {
		if (whole[i].answered)
			continue;
		climbed++;
		r = climb(whose[i], LADDER_MS, stop);
		if (r == 0)
			r = climb(whose[i], LADDER_MS, stop);
	}
	return r;
}

/* Without the tunnel: is the machine there at all, and does it say that nobody listens? */
static void knock_at_silent(struct facts *facts)
{
	for (size_t i = 0; i < facts->peer_count; i++) {
		struct doctor_peer *peer = &facts->peers[i];

		if (!peer->probed || peer->echo.answered || !peer->has_endpoint)
			continue;
		peer->under.to = (struct prefix){ .family = peer->endpoint.family, .length = (uint8_t)family_bits(peer->endpoint.family) };
		memcpy(peer->under.to.b, peer->endpoint.b, sizeof(peer->under.to.b));
		peer->knock.to = peer->endpoint;
		knock_send(&peer->knock);
	}
}

/* The reason is known: this host would not send it, or the other said that nobody listens. */
static bool is_told(struct doctor_peer *peer)
{
	knock_listen(&peer->knock);
	return peer->echo.error || peer->knock.error == -EPERM || peer->knock.error == -ECONNREFUSED;
}

/* How long the peers must be looked at, so that what did not come would have come. */
static unsigned doubt_ms(struct facts *facts)
{
	unsigned wait = LOOK_SHORT_MS;

	for (size_t i = 0; i < facts->peer_count; i++) {
		struct doctor_peer *peer = &facts->peers[i];
		unsigned needs = is_fresh(facts, peer) ? LOOK_TALK_MS : peer->handshake || !peer->rx ? LOOK_SHAKE_MS : LOOK_SHORT_MS;

		if (peer->probed && peer->echo.to.family && !peer->echo.answered && !is_told(peer) && needs > wait)
			wait = needs;
	}
	return wait;
}

static int ask_peers(struct cli *cli, struct facts *facts, int stop)
{
	uint64_t began = now_ms(), asked;
	unsigned doubt;
	int r;

	progress(cli, "asking peers over the tunnel");
	r = ask_round(facts, false, ECHO_MS, stop);
	if (r == 0)
		r = measure(facts, stop);
	knock_at_silent(facts);
	if (r == 0)
		r = ask_round(facts, true, ECHO_MS, stop);
	doubt = doubt_ms(facts);
	asked = now_ms() - began;
	if (doubt > LOOK_SHORT_MS)
		progress(cli, "waiting for what peers send");
	if (r == 0 && doubt > asked)
		r = doctor_wait(doubt - (unsigned)asked, stop);
	for (size_t i = 0; i < facts->peer_count; i++)
		if (facts->peers[i].probed)
			knock_end(&facts->peers[i].knock);
	facts->observed_ms = (unsigned)(now_ms() - began);
	return r == -EINTR ? r : 0; /* what could not be asked is seen to be so by each check */
}

static int examine(struct cli *cli, const char *words, int stop, struct facts *facts, struct rtnl *rtnl, unsigned took_ms)
{
	int r = CLI_OK;

	if (words)
		r = choose_called(cli, words, facts);
	if (r)
		return r;
	choose(facts);
	if (rtnl)
		doctor_ways(facts, rtnl);
	/* With another key on the interface nobody answers. */
	if (facts->root && memcmp(facts->view.device_key, facts->view.wg_key, KEY_BYTES) == 0)
		r = ask_peers(cli, facts, stop);
	else
		r = doctor_wait(LOOK_SHORT_MS, stop);
	if (r == 0 && took_ms < SLOW_VIEW_MS)
		look_again(cli, facts);
	else
		facts->observed_ms = 0;
	return r;
}

int doctor_gather(struct cli *cli, const char *words, struct facts *facts)
{
	_cleanup_close_ int stop = -1;
	_cleanup_(rtnl_close) struct rtnl *rtnl = NULL;
	uint64_t began = now_ms();
	unsigned took_ms;
	int r = CLI_OK;

	facts->root = geteuid() == 0;
	progress(cli, "asking netd and fetchd");
	facts->netd_runs = doctor_runs("netd");
	facts->fetchd_runs = doctor_runs("fetchd");
	facts->netd_error = look(cli, facts);
	facts->mended_before = facts->view.mended;
	took_ms = (unsigned)(now_ms() - began);
	fetchd_link(cli, facts->fetchd_runs ? LINK_TIMEOUT_MS : DEAD_MS, &facts->link);
	stop = interrupt_open(); /* not before: a daemon that hangs must not hold back a Ctrl-C */
	if (stop < 0)
		return stop;
	facts->host.error = rtnl_open(&rtnl);
	doctor_host(facts, rtnl);
	doctor_port(facts);
	if (facts->netd_error == 0 && strcmp(facts->view.state, "running") == 0)
		r = examine(cli, words, stop, facts, rtnl, took_ms);
	if (r == 0) {
		progress(cli, "reading the firewall's rules");
		doctor_firewall(facts, stop);
		r = facts->host.firewall.error == -EINTR ? -EINTR : 0;
	}
	progress(cli, "");
	return r;
}
