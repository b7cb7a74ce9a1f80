/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlay addresses: the lowest free one, without looking at those that are taken. A range's row says up to where addresses were
 * given out; what came back below that stands in free_offsets.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "controld/membership.h"

void addresses_bounds(const struct prefix *cidr, int64_t *first, int64_t *last)
{
	unsigned bits = family_bits(cidr->family) - cidr->length;

	/* No network of ours has as many hosts; a larger range is used from its low end. */
	if (bits > 62)
		bits = 62;
	*first = 0;
	*last = (int64_t)((1ULL << bits) - 1);
	if (cidr->family == 4 && bits > 1) { /* network and broadcast; a /31 has neither (RFC 3021) */
		*first = 1;
		*last -= 1;
	}
	if (cidr->family == 6 && bits > 1) /* the subnet-router anycast address (RFC 4291, 2.6.1) */
		*first = 1;
}

static void address_at(const struct prefix *cidr, int64_t number, struct prefix *address)
{
	int byte = (int)family_bits(cidr->family) / 8 - 1;

	*address = *cidr;
	address->length = (uint8_t)family_bits(cidr->family);
	for (uint64_t rest = (uint64_t)number; rest && byte >= 0; rest >>= 8, byte--)
		address->b[byte] = (uint8_t)(address->b[byte] | (rest & 0xff));
}

/* Take the lowest free offset of one range. @return 0; -ENOSPC none is free */
static int offset_take(struct store *store, const struct id *network, int64_t position, int64_t *number)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(store, &rows,
			    "SELECT number FROM free_offsets WHERE network = $1 AND position = $2 ORDER BY number LIMIT 1", "di", network,
			    position);

	if (r == 0) {
		*number = row_i64(&rows, 0);
		r = store_exec(store, "DELETE FROM free_offsets WHERE network = $1 AND position = $2 AND number = $3", "dii", network,
			       position, *number);
		return r < 0 ? r : 0;
	}
	if (r != -ENOENT)
		return r;
	r = store_first(store, &rows, "SELECT next, last FROM cidrs WHERE network = $1 AND position = $2", "di", network, position);
	if (r < 0)
		return r;
	*number = row_i64(&rows, 0);
	if (*number > row_i64(&rows, 1))
		return -ENOSPC;
	r = store_exec(store, "UPDATE cidrs SET next = next + 1 WHERE network = $1 AND position = $2", "di", network, position);
	return r < 0 ? r : 0;
}

static int address_take(struct change *change, const struct id *network, const struct id *host, int64_t position,
			const struct prefix *cidr)
{
	struct store *store = change->controld->store;
	char text[PREFIX_TEXT];
	struct prefix address;
	int64_t number = 0;
	int r = offset_take(store, network, position, &number);

	if (r < 0)
		return r;
	address_at(cidr, number, &address);
	r = store_exec(store, "INSERT INTO addresses (network, address, position, number, host) VALUES ($1, $2, $3, $4, $5)", "dtiid",
		       network, prefix_format(&address, text), position, number, host);
	return r < 0 ? r : 0;
}

/* Which families has the host an address of in this network already? */
static int families_held(struct store *store, const struct id *network, const struct id *host, bool held[static 2])
{
	_cleanup_rows_ struct rows rows = { 0 };
	struct prefix address;
	int r = store_query(store, &rows, "SELECT address FROM addresses WHERE host = $1 AND network = $2", "dd", host, network);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		r = prefix_parse(row_text(&rows, 0), &address);
		if (r == 0)
			held[address.family == 6] = true;
	}
	return r;
}

static int exhausted(struct change *change, const struct id *network, const char *cidrs)
{
	_cleanup_rows_ struct rows rows = { 0 };
	int r = store_first(change->controld->store, &rows, "SELECT name FROM networks WHERE id = $1", "d", network);

	if (r < 0)
		return r;
	return problem_set(&change->problem, 409, "address-exhausted",
			   "Network %s has no free address left in %s. Retire hosts that are gone (loopbackctl host retire), which frees theirs, "
			   "or make a network with a larger range.",
			   row_text(&rows, 0), cidrs);
}

struct range {
	int64_t position;
	struct prefix cidr;
};

static int ranges_read(struct store *store, const struct id *network, struct range ranges[static CIDRS_MAX])
{
	_cleanup_rows_ struct rows rows = { 0 };
	int count = 0;
	int r = store_query(store, &rows, "SELECT position, cidr FROM cidrs WHERE network = $1 ORDER BY position", "d", network);

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		if (count == CIDRS_MAX)
			return -E2BIG;
		ranges[count].position = row_i64(&rows, 0);
		r = prefix_parse(row_text(&rows, 1), &ranges[count++].cidr);
	}
	return r < 0 ? r : count;
}

int addresses_assign(struct change *change, const struct id *network, const struct id *host)
{
	struct range ranges[CIDRS_MAX];
	char full[2][CIDRS_MAX * (PREFIX_TEXT + 2)] = { "", "" };
	char text[PREFIX_TEXT];
	bool held[2] = { false, false };
	int count = ranges_read(change->controld->store, network, ranges);
	int r = count < 0 ? count : families_held(change->controld->store, network, host, held);

	for (int i = 0; r == 0 && i < count; i++) {
		const unsigned family = ranges[i].cidr.family == 6;
		const size_t at = strlen(full[family]);

		if (held[family])
			continue;
		r = address_take(change, network, host, ranges[i].position, &ranges[i].cidr);
		if (r == -ENOSPC) { /* the next range of this family may have one */
			(void)snprintf(full[family] + at, sizeof(full[family]) - at, "%s%s", at ? ", " : "",
				       prefix_format(&ranges[i].cidr, text));
			r = 0;
			continue;
		}
		held[family] = r == 0;
	}
	for (unsigned family = 0; r == 0 && family < 2; family++)
		if (!held[family] && full[family][0])
			r = exhausted(change, network, full[family]);
	return r;
}

int addresses_release(struct change *change, const struct id *host)
{
	int r = store_exec(change->controld->store,
			   "INSERT INTO free_offsets (network, position, number) SELECT network, position, number FROM addresses"
			   " WHERE host = $1",
			   "d", host);

	if (r >= 0)
		r = store_exec(change->controld->store, "DELETE FROM addresses WHERE host = $1", "d", host);
	return r < 0 ? r : 0;
}
