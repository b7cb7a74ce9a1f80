/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hosts reach, and whether it fits on one interface: networks that they are in and those bridged with one of them. Bridges count from the moment that
 * they are asked for until they are gone from every host. Hosts are many, networks are few: nothing here walks hosts unless it must.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "controld/bridges.h"

struct range {
	struct id network;
	char name[NAME_BYTES_MAX + 1];
	bool own; /* the host is in it; else it comes over a bridge */
	struct prefix cidr;
};

/* What a host reaches: [network, name, range, is it in it]. */
#define OF_HOST                                                                                                            \
	"SELECT n.id, n.name, c.cidr, EXISTS (SELECT 1 FROM memberships o WHERE o.network = n.id AND o.host = $1)"        \
	" FROM networks n JOIN cidrs c ON c.network = n.id WHERE n.id IN (SELECT network FROM memberships WHERE host = $1"  \
	" UNION SELECT e.other FROM memberships m JOIN bridge_ends e ON e.network = m.network WHERE m.host = $1)"

/* What reaches a host together with a network, or may once a host joins; the network itself first. */
#define WITH_NETWORK                                                                                                     \
	"WITH direct (id) AS (SELECT $1 UNION SELECT other FROM bridge_ends WHERE network = $1),"                        \
	" own (id) AS (SELECT id FROM direct UNION SELECT DISTINCT there.network FROM direct d"                          \
	" JOIN memberships here ON here.network = d.id JOIN memberships there ON there.host = here.host),"              \
	" reached (id) AS (SELECT id FROM own UNION SELECT e.other FROM own JOIN bridge_ends e ON e.network = own.id)"   \
	" SELECT n.id, n.name, c.cidr, 1 FROM reached r JOIN networks n ON n.id = r.id JOIN cidrs c ON c.network = n.id" \
	" ORDER BY n.id <> $1"

static int range_read(const struct rows *rows, struct range *range)
{
	*range = (struct range){ .network = row_id(rows, 0), .own = row_i64(rows, 3) != 0 };
	(void)snprintf(range->name, sizeof(range->name), "%s", row_text(rows, 1));
	return prefix_parse(row_text(rows, 2), &range->cidr);
}

/* @param ranges receives them all, the caller's: free() @return their number; negative errno */
static int ranges_next(struct rows *rows, struct range **ranges)
{
	size_t count = 0, room = 0;
	int r;

	while ((r = rows_next(rows)) > 0) {
		if (count == room) {
			struct range *grown = realloc(*ranges, (room ? room * 2 : 32) * sizeof(*grown));

			if (!grown)
				return -ENOMEM;
			*ranges = grown;
			room = room ? room * 2 : 32;
		}
		r = range_read(rows, &(*ranges)[count++]);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : (int)count;
}

/* The ranges that a query finds. @param ranges the caller's, also on failure @return their number; negative errno */
static int ranges_read(struct controld *controld, const char *sql, const struct id *id, struct range **ranges)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_query(controld->store, &rows, sql, "d", id);

	return r < 0 ? r : ranges_next(&rows, ranges);
}

static int overlap(struct change *change, const struct range *a, const struct range *b, const char *who)
{
	char one[PREFIX_TEXT], other[PREFIX_TEXT];

	return problem_set(&change->problem, 409, "cidr-overlap",
			   "%s of network %s%s overlaps %s of network %s%s, and %s would reach both. Make one of the two anew with another range.",
			   prefix_format(&a->cidr, one), a->name, a->own ? "" : " (over a bridge)", prefix_format(&b->cidr, other), b->name,
			   b->own ? "" : " (over a bridge)", who);
}

/* -- A host that joins --------------------------------------------------------------------------------------------------------------- */

static int host_ranges_check(struct change *change, const struct range *ranges, int count)
{
	const struct id *networks[NETWORKS_MAX];
	unsigned reached = 0;

	for (int i = 0; i < count; i++) {
		unsigned at = 0;

		while (at < reached && !id_equal(networks[at], &ranges[i].network))
			at++;
		if (at == NETWORKS_MAX)
			return problem_set(&change->problem, 409, "too-many-networks",
					   "The host would reach more than %d networks, bridges included. Take it out of one, or delete a bridge.",
					   NETWORKS_MAX);
		if (at == reached)
			networks[reached++] = &ranges[i].network;
		for (int j = 0; j < i; j++)
			if (!id_equal(&ranges[i].network, &ranges[j].network) && prefix_overlaps(&ranges[i].cidr, &ranges[j].cidr))
				return overlap(change, &ranges[i], &ranges[j], "the host");
	}
	return 0;
}

/* -- How many peers ------------------------------------------------------------------------------------------------------------------ */

/* As long as all networks together have room for each other, no host can have too many. */
static int everything_fits(struct change *change, bool *fits)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(change->controld->store, &rows, "SELECT COALESCE(SUM(peers), 0) FROM documents WHERE type = 3", "");

	if (r == 0)
		*fits = row_i64(&rows, 0) < PEERS_MAX;
	return r;
}

/* Hosts that reach a network, and all that each of them reaches. */
#define REACH                                                                                                       \
	"WITH direct (id) AS (SELECT $1 UNION SELECT other FROM bridge_ends WHERE network = $1),"                   \
	" there (host) AS (SELECT DISTINCT m.host FROM direct d JOIN memberships m ON m.network = d.id),"          \
	" reach (host, network) AS (SELECT t.host, m.network FROM there t JOIN memberships m ON m.host = t.host"   \
	" UNION SELECT t.host, e.other FROM there t JOIN memberships m ON m.host = t.host"                         \
	" JOIN bridge_ends e ON e.network = m.network)"

/* The fullest of them, exactly; a host of two networks counts in both. */
static int fullest_check(struct change *change, const struct id *network)
{
	_cleanup_rows_ struct rows rows = { 0 };
	bool fits = false;
	int r = everything_fits(change, &fits);

	if (r < 0 || fits)
		return r;
	r = store_first(change->controld->store, &rows,
			REACH ", counts (network, peers) AS (SELECT network, count(*) FROM memberships GROUP BY network)"
			" SELECT h.name, SUM(c.peers) AS total FROM reach r JOIN hosts h ON h.id = r.host JOIN counts c ON c.network = r.network"
			" GROUP BY h.id, h.name ORDER BY total DESC LIMIT 1",
			"d", network);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (row_i64(&rows, 1) > PEERS_MAX)
		return problem_set(&change->problem, 409, "too-many-peers",
				   "Host %s would have %" PRId64 " peers over all its networks and bridges; %d is the most there can be.",
				   row_text(&rows, 0), row_i64(&rows, 1), PEERS_MAX);
	return 0;
}

int reach_check_host(struct change *change, const struct id *host, const struct id *joined)
{
	_cleanup_free_ struct range *ranges = NULL;
	int count = ranges_read(change->controld, OF_HOST, host, &ranges);
	int r = count < 0 ? count : host_ranges_check(change, ranges, count);

	return r < 0 ? r : fullest_check(change, joined);
}

/* -- A network that gets a bridge or a range ------------------------------------------------------------------------------------------ */

/* No host reaches more networks than its organization has. */
static int few_networks(struct change *change, const struct id *network, bool *few)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(change->controld->store, &rows,
			    "SELECT count(*) FROM networks WHERE organization = (SELECT organization FROM networks WHERE id = $1)", "d", network);

	if (r == 0)
		*few = row_i64(&rows, 0) <= NETWORKS_MAX;
	return r;
}

static int most_networks_check(struct change *change, const struct id *network)
{
	_cleanup_rows_ struct rows rows = { 0 };
	bool few = false;
	int r = few_networks(change, network, &few);

	if (r < 0 || few)
		return r;
	r = store_first(change->controld->store, &rows,
			    REACH " SELECT h.name, count(*) AS total FROM reach r JOIN hosts h ON h.id = r.host"
			    " GROUP BY h.id, h.name ORDER BY total DESC LIMIT 1",
			    "d", network);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (row_i64(&rows, 1) > NETWORKS_MAX)
		return problem_set(&change->problem, 409, "too-many-networks",
				   "Host %s would reach %" PRId64 " networks, bridges included; %d is the most there can be. Take it out of one first.",
				   row_text(&rows, 0), row_i64(&rows, 1), NETWORKS_MAX);
	return 0;
}

/* Two ranges of different networks that meet, one of them of this network; the network's own stand first. @return 1 and which; 0 */
static int ranges_meet(const struct range *ranges, int count, const struct id *network, int *a, int *b)
{
	for (*a = 0; *a < count && id_equal(&ranges[*a].network, network); (*a)++)
		for (*b = 0; *b < count; (*b)++)
			if (!id_equal(&ranges[*b].network, network) && prefix_overlaps(&ranges[*a].cidr, &ranges[*b].cidr))
				return 1;
	return 0;
}

/* Everything that the organization has, without a look at who reaches what. */
#define OF_ORGANIZATION                                                                                                \
	"SELECT n.id, n.name, c.cidr, 1 FROM networks n JOIN cidrs c ON c.network = n.id WHERE n.organization ="      \
	" (SELECT organization FROM networks WHERE id = $1) ORDER BY n.id <> $1"

int reach_check_network(struct change *change, const struct id *network)
{
	_cleanup_free_ struct range *all = NULL, *ranges = NULL;
	int a, b;
	int count = ranges_read(change->controld, OF_ORGANIZATION, network, &all);
	int r = count;

	/* Networks whose ranges meet are rare; only then hosts are asked for who reaches both. */
	if (count >= 0 && ranges_meet(all, count, network, &a, &b)) {
		r = count = ranges_read(change->controld, WITH_NETWORK, network, &ranges);
		if (count >= 0 && ranges_meet(ranges, count, network, &a, &b))
			return overlap(change, &ranges[a], &ranges[b], "hosts");
	}
	if (r >= 0)
		r = most_networks_check(change, network);
	return r < 0 ? r : fullest_check(change, network);
}
