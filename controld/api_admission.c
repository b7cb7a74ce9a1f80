/* SPDX-License-Identifier: Apache-2.0 */
/* Locked networks: admission lists and co-signatures, which operators make and hand over. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "controld/admission.h"
#include "controld/call.h"
#include "controld/documents.h"
#include "libipc/log.h"

#define BASE64_MAX (4 * ((ENVELOPE_BYTES_MAX + 2) / 3))
#define CHANGES_MAX 1500 /* of one call: so that it fits into a body */

static json_t *base64_json(struct view bytes)
{
	char text[BASE64_MAX + 1];

	if (bytes.n > ENVELOPE_BYTES_MAX)
		return NULL;
	return json_string(sodium_bin2base64(text, sizeof(text), bytes.p, bytes.n, sodium_base64_VARIANT_ORIGINAL));
}

static int base64_read(struct call *call, const char *key, const char *text, uint8_t bytes[static ENVELOPE_BYTES_MAX], size_t *n)
{
	if (sodium_base642bin(bytes, ENVELOPE_BYTES_MAX, text, strlen(text), NULL, n, NULL, sodium_base64_VARIANT_ORIGINAL) < 0)
		return call_problem(call, 400, "malformed", "\"%s\": expected base64 (RFC 4648, 4) of at most %d bytes.", key, ENVELOPE_BYTES_MAX);
	return 0;
}

/* -- Lists --------------------------------------------------------------------------------------------------------------------------- */

/* Hosts that are in the network, or would be, but are not on its list. */
static json_t *awaiting_json(struct store *store, const struct id *network)
{
	_cleanup_rows_ struct rows rows = { 0 };
	json_t *hosts = json_array();
	int r = store_query(store, &rows,
			    "SELECT h.id, h.name FROM memberships m JOIN hosts h ON h.id = m.host WHERE m.network = $1 AND m.waits = 1 ORDER BY h.name",
			    "d", network);

	while (r == 0 && (r = rows_next(&rows)) > 0)
		r = json_array_append_new(hosts, json_pack("{s:s, s:s}", "id", row_text(&rows, 0), "name", row_text(&rows, 1)));
	return hosts;
}

static json_t *hosts_json(const struct admitted *hosts, ssize_t count)
{
	json_t *list = json_array();
	char text[ID_TEXT];

	for (ssize_t i = 0; i < count; i++)
		(void)json_array_append_new(list, json_pack("{s:s, s:I}", "id", id_format(&hosts[i].host, text), "since",
							    (json_int_t)hosts[i].since));
	return list;
}

static int admission_answer(struct call *call, const struct id *network)
{
	_cleanup_writer_ struct pack_writer envelope = { 0 };
	_cleanup_rows_ struct rows rows = { 0 };
	_cleanup_free_ struct admitted *hosts = NULL;
	struct document_row list = { 0 };
	ssize_t count = admission_hosts(call->controld, network, &hosts);
	int r = count < 0 ? (int)count : admission_envelope(call->controld, network, &envelope);

	if (r == 0)
		r = document_get(call->controld, DOC_admission, network, &list);
	if (r == 0 || r == -ENOENT)
		r = store_first(call->controld->store, &rows, "SELECT id, name, organization, flags FROM networks WHERE id = $1", "d", network);
	if (r < 0)
		return r;
	call->answer = json_pack("{s:s, s:s, s:s, s:b, s:I, s:o, s:o, s:o}", "id", row_text(&rows, 0), "name",
				 row_text(&rows, 1), "organization", row_text(&rows, 2), "locked", (int)(row_i64(&rows, 3) & NETWORK_LOCKED),
				 "generation", (json_int_t)list.generation, "envelope",
				 envelope.n ? base64_json((struct view){ envelope.bytes, envelope.n }) : json_null(), "hosts",
				 hosts_json(hosts, count), "awaiting", awaiting_json(call->controld->store, network));
	return call->answer ? 0 : -ENOMEM;
}

int admission_get(struct call *call)
{
	struct id id;
	int r = resolve(call, OBJECT_NETWORK, call->segments[0], &id);

	return r < 0 ? r : admission_answer(call, &id);
}

/* Ascending, as in the list: then the two are merged in one go. (The C library's qsort() asks the kernel how large the machine is, which the filter forbids.) */
static int changes_read(struct call *call, const char *key, const json_t *texts, struct id *ids, size_t *count)
{
	json_t *text;
	size_t i;

	json_array_foreach(texts, i, text) {
		char clean[64];

		if (id_parse(json_string_value(text), &ids[i]) < 0)
			return call_problem(call, 400, "malformed", "\"%s\": \"%s\" is no id of a host.", key,
					    log_clean(clean, sizeof(clean), json_string_value(text), strlen(json_string_value(text))));
		if (i > 0 && memcmp(ids[i - 1].b, ids[i].b, ID_BYTES) >= 0)
			return call_problem(call, 400, "malformed", "\"%s\": expected ids in ascending order, none twice.", key);
	}
	*count = json_array_size(texts);
	return 0;
}

/* The list in force, without those that go and with those that come, by this generation. @param list the caller's; replaced */
static int list_change(struct call *call, const json_t *add, const json_t *remove, uint64_t generation, struct admitted **list, ssize_t *count)
{
	struct id adding[CHANGES_MAX], removing[CHANGES_MAX];
	size_t add_count = 0, remove_count = 0, at = 0, n = 0;
	struct admitted *merged;
	int r = changes_read(call, "add", add, adding, &add_count);

	if (r == 0)
		r = changes_read(call, "remove", remove, removing, &remove_count);
	if (r < 0)
		return r;
	merged = malloc(((size_t)*count + add_count + 1) * sizeof(*merged));
	if (!merged)
		return -ENOMEM;
	for (ssize_t i = 0; i < *count; i++) {
		const struct id *id = &(*list)[i].host;

		for (; at < add_count && memcmp(adding[at].b, id->b, ID_BYTES) < 0; at++)
			merged[n++] = (struct admitted){ adding[at], generation };
		if (!id_listed(removing, remove_count, id) && !(at < add_count && id_equal(&adding[at], id)))
			merged[n++] = (*list)[i];
	}
	for (; at < add_count; at++)
		merged[n++] = (struct admitted){ adding[at], generation };
	free(*list);
	*list = merged;
	*count = (ssize_t)n;
	return 0;
}

/* What the envelope says of itself, before it is verified: which generation the changes are of. */
static uint64_t generation_claimed(const uint8_t *bytes, size_t n)
{
	struct admission admission;
	struct envelope envelope;

	if (envelope_open(bytes, n, &envelope) < 0 || admission_decode(envelope.payload, &admission) < 0)
		return 0;
	return admission.header.generation;
}

int admission_put(struct call *call)
{
	const char *text = NULL;
	json_t *add = NULL, *remove = NULL;
	const struct json_field fields[] = { { "envelope", JSON_TEXT, true, &text, 1, BASE64_MAX },
					     { "add", JSON_TEXTS, false, &add, 0, CHANGES_MAX },
					     { "remove", JSON_TEXTS, false, &remove, 0, CHANGES_MAX } };
	_cleanup_free_ struct admitted *hosts = NULL;
	uint8_t envelope[ENVELOPE_BYTES_MAX];
	struct id network;
	ssize_t count;
	size_t n = 0;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r == 0)
		r = resolve(call, OBJECT_NETWORK, call->segments[0], &network);
	if (r == 0)
		r = base64_read(call, "envelope", text, envelope, &n);
	if (r == 0)
		r = admissions_finish(call->controld);
	if (r < 0)
		return r;
	count = admission_hosts(call->controld, &network, &hosts);
	r = count < 0 ? (int)count : list_change(call, add, remove, generation_claimed(envelope, n), &hosts, &count);
	if (r == 0)
		r = admission_take(call->controld, call->who, &network, (struct view){ envelope, n }, hosts, (size_t)count, &call->change.problem);
	return r < 0 ? r : admission_answer(call, &network);
}

/* -- Co-signatures ------------------------------------------------------------------------------------------------------------------- */

static int proposal_find(struct call *call, struct proposal **proposal)
{
	struct id network;
	int r = resolve(call, OBJECT_NETWORK, call->segments[0], &network);

	if (r < 0)
		return r;
	*proposal = proposal_get(call->controld, &network);
	if (!*proposal)
		return call_problem(call, 404, "not-found", "No change of this network waits for a co-signature.");
	call_object(call, &network);
	return 0;
}

static int proposal_answer(struct call *call, const struct proposal *proposal)
{
	struct document_row last = { 0 };
	int r = document_get(call->controld, DOC_network, &proposal->document.header.id, &last);

	if (r < 0 && r != -ENOENT)
		return r;
	call->answer = json_pack("{s:o, s:I, s:b}", "payload", base64_json((struct view){ proposal->payload.bytes, proposal->payload.n }),
				 "in_force", (json_int_t)last.generation, "cosigned", (int)(proposal->cosign.n > 0));
	return call->answer ? 0 : -ENOMEM;
}

int cosign_get(struct call *call)
{
	struct proposal *proposal = NULL;
	int r = proposal_find(call, &proposal);

	return r < 0 ? r : proposal_answer(call, proposal);
}

int cosign_put(struct call *call)
{
	const char *text = NULL;
	const struct json_field fields[] = { { "envelope", JSON_TEXT, true, &text, 1, BASE64_MAX } };
	uint8_t envelope[ENVELOPE_BYTES_MAX];
	struct proposal *proposal = NULL;
	size_t n = 0;
	int r = fields_read(call, fields, ARRAY_SIZE(fields));

	if (r == 0)
		r = proposal_find(call, &proposal);
	if (r == 0)
		r = base64_read(call, "envelope", text, envelope, &n);
	if (r < 0)
		return r;
	if (cosign_open(envelope, n, &call->controld->keyset, &proposal->document.header,
			(struct view){ proposal->payload.bytes, proposal->payload.n }) < 0)
		return call_problem(call, 403, "not-operator", "That is no operator's co-signature of the manifest that waits for one.");
	proposal->cosign.n = 0;
	pack_put_raw(&proposal->cosign, envelope, n);
	return proposal->cosign.error < 0 ? proposal->cosign.error : proposal_answer(call, proposal);
}
