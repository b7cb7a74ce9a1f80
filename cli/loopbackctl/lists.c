/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/lists.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "cli/common/file.h"
#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/context.h"
#include "cli/loopbackctl/keysets.h"

#define BASE64_MAX (4 * ((ENVELOPE_BYTES_MAX + 2) / 3) + 1)
#define CHANGES_MAX 1500 /* of one call */
#define SEEN_BYTES_MAX (1024 * 1024)

void list_free(struct list *list)
{
	free(TAKE_PTR(list->hosts));
	json_decref(TAKE_PTR(list->awaiting));
}

/* -- What was seen before. --------------------------------------------------------------------------------------- */

static int seen_load(struct cli *cli, json_t **seen, char path[static PATH_MAX])
{
	_cleanup_free_ char *text = malloc(SEEN_BYTES_MAX);
	ssize_t n;
	int r = context_beside(&cli->voice, "lists.json", path, PATH_MAX);

	if (r)
		return r;
	n = text ? file_read(path, text, SEEN_BYTES_MAX) : -ENOMEM;
	*seen = n == -ENOENT ? json_object() : n < 0 ? NULL : json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(*seen))
		return cli_fail(&cli->voice, CLI_REFUSED, "lists", "%s, which says what lists this machine has seen, cannot be used; mend it "
				"or move it away, and look then at each list before you sign", path);
	return CLI_OK;
}

static int seen_save(struct cli *cli, const struct list *list)
{
	_cleanup_json_ json_t *seen = NULL;
	_cleanup_free_ char *text = NULL;
	char path[PATH_MAX], id[ID_TEXT], hash[HASH_TEXT], keyset[ID_TEXT + 8] = "keyset ";
	int r = seen_load(cli, &seen, path);

	if (r)
		return r;
	r = json_object_set_new(seen, id_format(&list->network, id),
				json_pack("{s:s, s:I, s:s}", "name", list->name, "generation", (json_int_t)list->admission.header.generation,
					  "hash", hex_format(list->hash.b, HASH_BYTES, hash)));
	(void)id_format(&list->keyset.header.deployment, keyset + strlen(keyset));
	if (r == 0)
		r = json_object_set_new(seen, keyset, json_pack("{s:I, s:I}", "epoch", (json_int_t)list->keyset.header.epoch, "generation",
								(json_int_t)list->keyset.header.generation));
	text = json_dumps(seen, JSON_INDENT(2) | JSON_SORT_KEYS);
	r = r < 0 || !text ? -ENOMEM : file_replace(path, text, strlen(text), 0600);
	if (r < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "lists", "cannot write %s: %s; the list itself is handed over", path, strerror(-r));
	return CLI_OK;
}

/* Nor an older keyset: it may list an operator's key that was withdrawn since. */
static int keyset_seen(struct cli *cli, const struct keyset *keyset)
{
	_cleanup_json_ json_t *seen = NULL;
	char path[PATH_MAX], key[ID_TEXT + 8] = "keyset ";
	struct document_header last = { .epoch = 0 };
	const json_t *value;
	int r = seen_load(cli, &seen, path);

	if (r)
		return r;
	(void)id_format(&keyset->header.deployment, key + strlen(key));
	value = json_object_get(seen, key);
	last.epoch = (uint32_t)json_integer_value(json_object_get(value, "epoch"));
	last.generation = (uint64_t)json_integer_value(json_object_get(value, "generation"));
	if (value && document_newer(&last, &keyset->header))
		return cli_fail(&cli->voice, CLI_REFUSED, "older-keyset",
				"the control plane shows keyset %llu of epoch %u, but keyset %llu of epoch %u was seen here: keys that were withdrawn "
				"would count again",
				(unsigned long long)keyset->header.generation, keyset->header.epoch, (unsigned long long)last.generation, last.epoch);
	return CLI_OK;
}

/* Nobody shows this operator an older list, or another network under a name that is known. */
static int seen_check(struct cli *cli, struct list *list, bool accept_older)
{
	_cleanup_json_ json_t *seen = NULL;
	char path[PATH_MAX], id[ID_TEXT], hash[HASH_TEXT];
	const char *key;
	json_t *value;
	int r = seen_load(cli, &seen, path);

	if (r)
		return r;
	(void)id_format(&list->network, id);
	json_object_foreach(seen, key, value) {
		const char *name = json_string_value(json_object_get(value, "name"));

		if (strcmp(key, id) != 0 && name && strcmp(name, list->name) == 0)
			return cli_fail(&cli->voice, CLI_REFUSED, "other-network",
					"the control plane says that network '%s' is %s; on this machine it was %s. If the network was made "
					"anew, remove that entry from %s",
					list->name, id, key, path);
	}
	value = json_object_get(seen, id);
	if (!value)
		return CLI_OK;
	list->seen = (uint64_t)json_integer_value(json_object_get(value, "generation"));
	(void)hex_format(list->hash.b, HASH_BYTES, hash);
	if (!accept_older && (list->admission.header.generation < list->seen ||
			      (list->admission.header.generation == list->seen && list->seen > 0 &&
			       strcmp(hash, json_string_value(json_object_get(value, "hash")) ? json_string_value(json_object_get(value, "hash")) : "") != 0)))
		return cli_fail(&cli->voice, CLI_REFUSED, "older-list",
				"the control plane shows list %llu of network '%s', but list %llu was seen here: hosts that were taken off would "
				"be on it again. Was it restored from a backup? Then look at the list (network admission), and give "
				"--accept-older",
				(unsigned long long)list->admission.header.generation, list->name, (unsigned long long)list->seen);
	return CLI_OK;
}

/* -- Reading. ---------------------------------------------------------------------------------------------------- */

static int bad_answer(struct cli *cli, const char *what)
{
	return cli_fail(&cli->voice, CLI_REFUSED, "answer", "the control plane's answer is not what operators signed: %s; nothing is signed", what);
}

static bool bytes_of(const json_t *text, uint8_t bytes[static ENVELOPE_BYTES_MAX], size_t *n)
{
	const char *base64 = json_string_value(text);

	return base64 && sodium_base642bin(bytes, ENVELOPE_BYTES_MAX, base64, strlen(base64), NULL, n, NULL, sodium_base64_VARIANT_ORIGINAL) == 0;
}

/* The keyset by the operator's own root, which is needed: a list is only as good as the keys that may sign it. */
static int keyset_read(struct cli *cli, struct keyset *keyset)
{
	_cleanup_json_ json_t *answer = NULL;
	struct keyset_file file = { .n = 0 };
	uint8_t root[KEY_BYTES];
	int r;

	if (!context_root(cli, root))
		return cli_fail(&cli->voice, CLI_REFUSED, "root-pub",
				"this context has no root public key, and the control plane's word is not enough here: loopbackctl context set "
				"NAME --root-pub FILE");
	r = api_call(cli, "GET", "/v1/keyset", NULL, &answer);
	if (r)
		return r;
	if (!bytes_of(json_object_get(answer, "envelope"), file.bytes, &file.n))
		return bad_answer(cli, "no keyset");
	r = keyset_file_open(&cli->voice, "the control plane's keyset", root, &file);
	if (!r)
		*keyset = file.keyset;
	return r;
}

static int hosts_take(struct cli *cli, const json_t *hosts, struct list *list)
{
	json_t *host;
	size_t i;

	list->hosts = malloc((json_array_size(hosts) + 1) * sizeof(*list->hosts));
	if (!list->hosts)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	json_array_foreach(hosts, i, host) {
		const char *id = json_string_value(json_object_get(host, "id"));
		json_int_t since = json_integer_value(json_object_get(host, "since"));

		if (!id || id_parse(id, &list->hosts[i].host) < 0 || since < 1)
			return bad_answer(cli, "a host's entry is none");
		list->hosts[i].since = (uint64_t)since;
	}
	list->count = json_array_size(hosts);
	return CLI_OK;
}

static int admission_take(struct cli *cli, const json_t *envelope, struct list *list)
{
	uint8_t bytes[ENVELOPE_BYTES_MAX];
	struct hash root;
	size_t n;

	if (!bytes_of(envelope, bytes, &n))
		return bad_answer(cli, "the list's envelope is not base64");
	if (admission_open(bytes, n, &list->keyset, &list->admission) < 0)
		return bad_answer(cli, "the list is not signed by an operator key of the keyset");
	if (!id_equal(&list->admission.header.id, &list->network) ||
	    !id_equal(&list->admission.header.deployment, &list->keyset.header.deployment))
		return bad_answer(cli, "the list is another network's");
	if (admission_build(list->hosts, list->count, NULL, NULL, &root) < 0 || list->count != list->admission.count ||
	    !hash_equal(&root, &list->admission.root))
		return bad_answer(cli, "the hosts are not those of the signed list");
	hash_of(bytes, n, &list->hash);
	return CLI_OK;
}

int list_read(struct cli *cli, const char *network, bool accept_older, struct list *list)
{
	_cleanup_json_ json_t *answer = NULL;
	char path[API_PATH_MAX];
	const char *id, *name, *organization;
	int r = keyset_read(cli, &list->keyset);

	if (!r)
		r = keyset_seen(cli, &list->keyset);
	if (!r)
		r = api_path(cli, path, "networks", network, "admission", NULL);
	if (!r)
		r = api_call(cli, "GET", path, NULL, &answer);
	if (r)
		return r;
	id = json_string_value(json_object_get(answer, "id"));
	name = json_string_value(json_object_get(answer, "name"));
	organization = json_string_value(json_object_get(answer, "organization"));
	if (!id || id_parse(id, &list->network) < 0 || !name || strlen(name) > NAME_BYTES_MAX || !organization ||
	    id_parse(organization, &list->organization) < 0 || (strcmp(name, network) != 0 && strcmp(id, network) != 0))
		return bad_answer(cli, "it is about another network");
	(void)snprintf(list->name, sizeof(list->name), "%s", name);
	list->awaiting = json_incref(json_object_get(answer, "awaiting"));
	r = hosts_take(cli, json_object_get(answer, "hosts"), list);
	if (!r && !json_is_null(json_object_get(answer, "envelope")))
		r = admission_take(cli, json_object_get(answer, "envelope"), list);
	else if (!r && list->count > 0)
		r = bad_answer(cli, "hosts without a list");
	return r ? r : seen_check(cli, list, accept_older);
}

/* -- Changing. --------------------------------------------------------------------------------------------------- */

static size_t place_of(const struct list *list, const struct id *host)
{
	size_t at = 0;

	while (at < list->count && memcmp(list->hosts[at].host.b, host->b, ID_BYTES) < 0)
		at++;
	return at;
}

int list_admit(struct list *list, const struct id *host)
{
	size_t at = place_of(list, host);
	struct admitted *grown;

	if (at < list->count && id_equal(&list->hosts[at].host, host))
		return 0;
	grown = realloc(list->hosts, (list->count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->hosts = grown;
	memmove(&grown[at + 1], &grown[at], (list->count++ - at) * sizeof(*grown));
	grown[at] = (struct admitted){ .host = *host };
	return 1;
}

bool list_evict(struct list *list, const struct id *host)
{
	size_t at = place_of(list, host);

	if (at == list->count || !id_equal(&list->hosts[at].host, host))
		return false;
	memmove(&list->hosts[at], &list->hosts[at + 1], (--list->count - at) * sizeof(*list->hosts));
	return true;
}

int list_copy(const struct list *from, struct list *to)
{
	to->admission = from->admission;
	to->hosts = malloc((from->count + 1) * sizeof(*to->hosts));
	if (!to->hosts)
		return -ENOMEM;
	if (from->count)
		memcpy(to->hosts, from->hosts, from->count * sizeof(*to->hosts));
	to->count = from->count;
	return 0;
}

/* -- Signing. ---------------------------------------------------------------------------------------------------- */

static int key_check(struct cli *cli, const struct keyset *keyset, const struct root_key *key)
{
	char hex[2 * KEY_BYTES + 1];

	for (unsigned i = 0; i < keyset->count; i++)
		if (memcmp(keyset->keys[i].key, key->public, KEY_BYTES) == 0 && keyset->keys[i].usage & KEY_OPERATOR)
			return CLI_OK;
	return cli_fail(&cli->voice, CLI_REFUSED, "not-operator",
			"keyset %llu does not list this key as an operator's: root sign-keyset --operator %s, and publish it",
			(unsigned long long)keyset->header.generation, hex_format(key->public, KEY_BYTES, hex));
}

/* What one list has and the other has not, or has by another admission. */
static json_t *difference(const struct list *of, const struct list *without)
{
	json_t *list = json_array();
	char text[ID_TEXT];

	for (size_t i = 0; i < of->count; i++) {
		const struct admitted *other = admitted_find(without->hosts, without->count, &of->hosts[i].host);

		if (!other)
			(void)json_array_append_new(list, json_string(id_format(&of->hosts[i].host, text)));
	}
	return list;
}

/* Sign the hosts of `now` as the generation of list, and hand over what differs from before. */
static int put(struct cli *cli, struct list *list, struct list *now, const struct list *before, const struct root_key *key)
{
	_cleanup_writer_ struct pack_writer payload = { .n = 0 }, envelope = { .n = 0 };
	_cleanup_json_ json_t *body = NULL;
	char base64[BASE64_MAX], path[API_PATH_MAX], id[ID_TEXT];
	int r;

	for (size_t i = 0; i < now->count; i++)
		if (now->hosts[i].since == 0)
			now->hosts[i].since = list->admission.header.generation;
	r = admission_build(now->hosts, now->count, NULL, NULL, &list->admission.root);
	list->admission.count = (uint32_t)now->count;
	list->admission.header.issued = (uint64_t)time(NULL);
	if (r == 0)
		r = admission_encode(&list->admission, &payload);
	if (r == 0)
		r = envelope_sign(DOC_admission, payload.bytes, payload.n, key->secret, &envelope);
	if (r < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "list", "cannot make the list: %s", strerror(-r));
	hash_of(envelope.bytes, envelope.n, &list->hash);
	body = json_pack("{s:s, s:o, s:o}", "envelope",
			 sodium_bin2base64(base64, sizeof(base64), envelope.bytes, envelope.n, sodium_base64_VARIANT_ORIGINAL), "add",
			 difference(now, before), "remove", difference(before, now));
	if (!body)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	r = api_path(cli, path, "networks", id_format(&list->network, id), "admission", NULL);
	if (!r)
		r = api_call(cli, "PUT", path, body, NULL);
	return r ? r : seen_save(cli, list);
}

/* Let a list grow by as much as fits into one call. @return how much; negative errno */
static int grow(struct list *now, const struct list *wanted)
{
	int added = 0;
	int r = 0;

	for (size_t i = 0; i < wanted->count && added < CHANGES_MAX && r >= 0; i++) {
		r = list_admit(now, &wanted->hosts[i].host);
		added += r > 0;
	}
	return r < 0 ? r : added;
}

/* A list that gains more than fits into one call grows in several, all but the last as the network is now: locked by one of them, it would let nobody in who is still to come. */
static int put_in_parts(struct cli *cli, struct list *list, const struct list *before, const struct root_key *key)
{
	_cleanup_list_ struct list now = { .count = 0 };
	uint32_t flags = list->admission.flags;
	int r = list_copy(before, &now) < 0 ? cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory") : CLI_OK;

	list->admission.flags = before->admission.flags;
	while (!r) {
		_cleanup_list_ struct list last = { .count = 0 };
		int grown = list_copy(&now, &last) < 0 ? -ENOMEM : grow(&now, list);

		if (grown < 0)
			return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
		if (grown < CHANGES_MAX)
			list->admission.flags = flags;
		r = put(cli, list, &now, &last, key);
		if (grown < CHANGES_MAX)
			return r;
		list->admission.header.generation++;
	}
	return r;
}

int list_sign(struct cli *cli, struct list *list, const struct list *before, const struct root_key *key, uint64_t generation)
{
	struct document_header *header = &list->admission.header;
	uint64_t last = header->generation > list->seen ? header->generation : list->seen;
	_cleanup_json_ json_t *more = NULL;
	int r = key_check(cli, &list->keyset, key);

	if (r)
		return r;
	if (generation && generation <= last)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "--generation %llu: list %llu is known here already; expected a greater number",
				(unsigned long long)generation, (unsigned long long)last);
	*header = (struct document_header){ .deployment = list->keyset.header.deployment,
					    .organization = list->organization,
					    .id = list->network,
					    .epoch = list->keyset.header.epoch,
					    .generation = generation ? generation : last + 1 };
	more = difference(list, before);
	if (json_array_size(more) > CHANGES_MAX)
		return put_in_parts(cli, list, before, key);
	return put(cli, list, list, before, key);
}

/* -- Reminding. -------------------------------------------------------------------------------------------------- */

static bool listed_in(struct cli *cli, const char *network, const char *id)
{
	_cleanup_json_ json_t *answer = NULL;
	char path[API_PATH_MAX];
	json_t *host;
	size_t i;

	if (api_path(cli, path, "networks", network, "admission", NULL) || api_call(cli, "GET", path, NULL, &answer))
		return false;
	json_array_foreach(json_object_get(answer, "hosts"), i, host) {
		const char *listed = json_string_value(json_object_get(host, "id"));

		if (listed && strcmp(listed, id) == 0)
			return true;
	}
	return false;
}

void lists_remind(struct cli *cli, const char *id)
{
	_cleanup_json_ json_t *networks = NULL;
	json_t *network;
	size_t i;

	cli->voice.mute = true;
	if (!id || api_list(cli, "/v1/networks", &networks))
		networks = NULL;
	json_array_foreach(networks, i, network) {
		const char *name = json_string_value(json_object_get(network, "name"));

		if (!name || json_integer_value(json_object_get(network, "admission_generation")) == 0 || !listed_in(cli, name, id))
			continue;
		cli->voice.mute = false;
		cli_note(&cli->voice, "It is still on the admission list of network '%s', so it is not gone for good there: loopbackctl host evict %s "
				      "--network %s", name, id, name);
		cli->voice.mute = true;
	}
	cli->voice.mute = false;
}
