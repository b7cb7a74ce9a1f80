/* SPDX-License-Identifier: Apache-2.0 */
/* Operators' keys, and what they sign: who may be in a locked network, and changes that signd does not sign alone. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "cli/common/file.h"
#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/lists.h"
#include "cli/loopbackctl/table.h"
#include "cli/loopbackctl/words.h"
#include "libdoc/network.h"

#define ADMIT_FILE_BYTES_MAX (PEERS_MAX * 2 * (ID_TEXT + 1))

/* -- Keys. ------------------------------------------------------------------------------------------------------- */

int operator_create(struct cli *cli, const struct cli_args *args)
{
	static const struct column columns[] = { { "Operator key", "operator_key", AS_TEXT }, { "Public", "operator_public", AS_TEXT } };
	static const struct listing listing = { .columns = columns, .count = ARRAY_SIZE(columns) };
	_cleanup_root_key_ struct root_key key = { .name = "" };
	const char *name = cli_value(args, "name"), *path = cli_value(args, "out");
	char public[2 * KEY_BYTES + 1];
	uint8_t seed[crypto_sign_SEEDBYTES];
	_cleanup_json_ json_t *value = NULL;
	int r = name ? name_check(&cli->voice, "name", name) : CLI_OK;

	if (r)
		return r;
	randombytes_buf(seed, sizeof(seed));
	root_key_of_seed(&key, seed);
	sodium_memzero(seed, sizeof(seed));
	(void)snprintf(key.name, sizeof(key.name), "%s", name ? name : "");
	r = operator_key_write(&cli->voice, path, cli_value(args, "passphrase-file"), &key);
	if (r)
		return r;
	value = json_pack("{s:s, s:s}", "operator_key", path, "operator_public", hex_format(key.public, KEY_BYTES, public));
	r = value ? print_object(cli, value, &listing) : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	if (!r)
		cli_note(&cli->voice, "It signs once a keyset lists it: loopbackctl root sign-keyset --operator %s, then keyset publish. Keep it where "
				      "the control plane is not.", public);
	return r;
}

/* -- Lists. ------------------------------------------------------------------------------------------------------ */

/* What people see of a list; names of hosts are the control plane's word, ids are what is signed. */
static int list_print(struct cli *cli, const struct list *list)
{
	static const struct column columns[] = {
		{ "Network", "name", AS_TEXT },	  { "Id", "id", AS_TEXT },	  { "Locked", "locked", AS_YES },
		{ "List", "generation", AS_NUMBER }, { "Hosts", "count", AS_NUMBER }, { "May be bridged with", "bridges", AS_LIST },
		{ "Admitted", "hosts", AS_LIST }, { "Awaiting", "awaiting", AS_NAMES },
	};
	static const struct listing listing = { .columns = columns, .count = ARRAY_SIZE(columns) };
	_cleanup_json_ json_t *value = NULL;
	json_t *hosts = json_array(), *bridges = json_array();
	char id[ID_TEXT];

	for (size_t i = 0; i < list->count; i++)
		(void)json_array_append_new(hosts, json_string(id_format(&list->hosts[i].host, id)));
	for (unsigned i = 0; i < list->admission.bridge_count; i++)
		(void)json_array_append_new(bridges, json_string(id_format(&list->admission.bridges[i], id)));
	value = json_pack("{s:s, s:s, s:b, s:I, s:I, s:o, s:o, s:O}", "name", list->name, "id", id_format(&list->network, id), "locked",
			  (int)(list->admission.flags & ADMISSION_LOCKED), "generation", (json_int_t)list->admission.header.generation, "count",
			  (json_int_t)list->count, "bridges", bridges, "hosts", hosts, "awaiting", list->awaiting);
	return value ? print_object(cli, value, &listing) : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
}

int network_admission(struct cli *cli, const struct cli_args *args)
{
	_cleanup_list_ struct list list = { .count = 0 };
	int r = list_read(cli, args->words[0], true, &list);

	if (r)
		return r;
	if (list.admission.header.generation < list.seen)
		cli_note(&cli->voice, "This list is OLDER than list %llu, which was seen on this machine.", (unsigned long long)list.seen);
	return list_print(cli, &list);
}

/* Read the list and the key, and remember the list as it was. */
static int begin(struct cli *cli, const struct cli_args *args, const char *network, struct list *list, struct list *before, struct root_key *key)
{
	int r = list_read(cli, network, cli_has(args, "accept-older"), list);

	if (!r)
		r = operator_key_read(&cli->voice, cli_value(args, "operator-key"), cli_value(args, "passphrase-file"), key);
	if (r)
		return r;
	return list_copy(list, before) < 0 ? cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory") : CLI_OK;
}

static int finish(struct cli *cli, const struct cli_args *args, struct list *list, const struct list *before, const struct root_key *key)
{
	uint64_t generation = 0;
	int r = CLI_OK;

	if (cli_has(args, "generation"))
		r = number_parse(&cli->voice, "generation", cli_value(args, "generation"), 1, UINT64_MAX >> 9, &generation);
	if (!r)
		r = list_sign(cli, list, before, key, generation);
	if (r)
		return r;
	cli_note(&cli->voice, "List %llu of network '%s' is signed and handed over.", (unsigned long long)list->admission.header.generation, list->name);
	return list_print(cli, list);
}

/* -- Hosts. ------------------------------------------------------------------------------------------------------ */

/* A name means what the control plane says it means. */
static int host_named(struct cli *cli, const char *name, struct id *host)
{
	_cleanup_json_ json_t *answer = NULL;
	char path[API_PATH_MAX];
	const char *id;
	int r = api_path(cli, path, "hosts", name, NULL);

	if (!r)
		r = api_call(cli, "GET", path, NULL, &answer);
	if (r)
		return r;
	id = json_string_value(json_object_get(answer, "id"));
	if (!id || id_parse(id, host) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "answer", "the control plane gives host '%s' no id", name);
	return CLI_OK;
}

/* Whoever admits a host by its name asks the host itself who it is. */
static int compared(struct cli *cli, const char *name, const struct id *host)
{
	char id[ID_TEXT], typed[64];
	size_t n;

	(void)id_format(host, id);
	if (!isatty(STDIN_FILENO) || cli->voice.json)
		return cli_fail(&cli->voice, CLI_REFUSED, "not-compared",
				"the control plane says that '%s' is %s, and a lock is there against the control plane: run 'loopback status' on the "
				"host, and give the id that it shows in the place of the name",
				name, id);
	cli_note(&cli->voice, "The control plane says that '%s' is %s.", name, id);
	cli_note(&cli->voice, "Run 'loopback status' on the host, and type the last 8 digits of the id that it shows:");
	if (!fgets(typed, sizeof(typed), stdin))
		typed[0] = '\0';
	n = strcspn(typed, " \r\n");
	if (n != 8 || strncmp(typed, id + ID_TEXT - 1 - 8, 8) != 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "not-compared", "these are not the last 8 digits of %s; nothing is signed", id);
	return CLI_OK;
}

int host_admit(struct cli *cli, const struct cli_args *args)
{
	_cleanup_list_ struct list list = { .count = 0 }, before = { .count = 0 };
	_cleanup_root_key_ struct root_key key = { .name = "" };
	struct id host;
	int r = begin(cli, args, cli_value(args, "network"), &list, &before, &key);

	if (!r && id_parse(args->words[0], &host) < 0) {
		r = host_named(cli, args->words[0], &host);
		if (!r)
			r = compared(cli, args->words[0], &host);
	}
	if (r)
		return r;
	r = list_admit(&list, &host);
	if (r < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	if (r == 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "listed", "host %s is on the list of network '%s' already", args->words[0], list.name);
	return finish(cli, args, &list, &before, &key);
}

int host_evict(struct cli *cli, const struct cli_args *args)
{
	_cleanup_list_ struct list list = { .count = 0 }, before = { .count = 0 };
	_cleanup_root_key_ struct root_key key = { .name = "" };
	struct id host;
	int r = begin(cli, args, cli_value(args, "network"), &list, &before, &key);

	if (!r && id_parse(args->words[0], &host) < 0)
		r = host_named(cli, args->words[0], &host);
	if (r)
		return r;
	if (!list_evict(&list, &host))
		return cli_fail(&cli->voice, CLI_REFUSED, "not-listed", "host %s is not on the list of network '%s'", args->words[0], list.name);
	return finish(cli, args, &list, &before, &key);
}

/* -- Networks. --------------------------------------------------------------------------------------------------- */

static int admit_all(struct cli *cli, struct list *list)
{
	_cleanup_json_ json_t *items = NULL;
	char path[API_PATH_MAX], network[ID_TEXT];
	json_t *item;
	size_t i;
	int r = api_path(cli, path, "hosts", NULL);

	if (!r)
		r = api_query(cli, path, "network", id_format(&list->network, network));
	if (!r)
		r = api_list(cli, path, &items);
	if (r)
		return r;
	json_array_foreach(items, i, item) {
		const char *text = json_string_value(json_object_get(item, "id"));
		struct id host;

		if (!text || id_parse(text, &host) < 0 || list_admit(list, &host) < 0)
			return cli_fail(&cli->voice, CLI_REFUSED, "answer", "the control plane lists a host without an id");
		cli_note(&cli->voice, "admits %s  %s", text, json_string_value(json_object_get(item, "name")));
	}
	return CLI_OK;
}

static int admit_one(struct cli *cli, const char *option, const char *text, struct list *list)
{
	struct id host;

	if (id_parse(text, &host) < 0)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "--%s: '%.64s': expected an id of 32 hexadecimal digits, as 'loopback status' on the host "
				"shows it", option, text);
	return list_admit(list, &host) < 0 ? cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory") : CLI_OK;
}

static int admit_file(struct cli *cli, const char *path, struct list *list)
{
	_cleanup_free_ char *text = malloc(ADMIT_FILE_BYTES_MAX);
	char *rest = text, *word;
	ssize_t n = text ? file_read(path, text, ADMIT_FILE_BYTES_MAX) : -ENOMEM;
	int r = CLI_OK;

	if (n < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "admit-file", "cannot read %s: %s", path, strerror((int)-n));
	while (!r && (word = strsep(&rest, " \t\r\n")))
		if (*word)
			r = admit_one(cli, "admit-file", word, list);
	return r;
}

static int admit_given(struct cli *cli, const struct cli_args *args, struct list *list)
{
	const char *text;
	unsigned at = 0;
	int r = cli_has(args, "admit-file") ? admit_file(cli, cli_value(args, "admit-file"), list) : CLI_OK;

	while (!r && (text = cli_next(args, "admit", &at)))
		r = admit_one(cli, "admit", text, list);
	return r;
}

static int order(const void *a, const void *b)
{
	return memcmp(a, b, ID_BYTES);
}

/* --bridge says all that there are: none is none. */
static int bridges_given(struct cli *cli, const struct cli_args *args, struct admission *admission)
{
	const char *text;
	unsigned at = 0;

	if (cli_has(args, "bridge"))
		admission->bridge_count = 0;
	while ((text = cli_next(args, "bridge", &at))) {
		if (strcmp(text, "none") == 0)
			continue;
		if (admission->bridge_count == BRIDGES_MAX)
			return cli_fail(&cli->voice, CLI_USAGE, "usage", "--bridge: at most %d networks", BRIDGES_MAX);
		if (id_parse(text, &admission->bridges[admission->bridge_count++]) < 0)
			return cli_fail(&cli->voice, CLI_USAGE, "usage", "--bridge %s: expected a network's id (network show), or none", text);
	}
	qsort(admission->bridges, admission->bridge_count, ID_BYTES, order);
	return CLI_OK;
}

int network_lock(struct cli *cli, const struct cli_args *args)
{
	_cleanup_list_ struct list list = { .count = 0 }, before = { .count = 0 };
	_cleanup_root_key_ struct root_key key = { .name = "" };
	int r = begin(cli, args, args->words[0], &list, &before, &key);

	if (!r && list.admission.header.generation == 0 && cli_has(args, "all") + cli_has(args, "admit") + cli_has(args, "admit-file") == 0)
		r = cli_fail(&cli->voice, CLI_USAGE, "usage",
			     "who is admitted? Give --admit ID for each host, --admit-file FILE, or --all for those that the control plane says are in it");
	if (!r && cli_has(args, "all"))
		r = admit_all(cli, &list);
	if (!r)
		r = admit_given(cli, args, &list);
	if (!r)
		r = bridges_given(cli, args, &list.admission);
	if (r)
		return r;
	list.admission.flags |= ADMISSION_LOCKED;
	return finish(cli, args, &list, &before, &key);
}

int network_unlock(struct cli *cli, const struct cli_args *args)
{
	_cleanup_list_ struct list list = { .count = 0 }, before = { .count = 0 };
	_cleanup_root_key_ struct root_key key = { .name = "" };
	int r = begin(cli, args, args->words[0], &list, &before, &key);

	if (!r && !(list.admission.flags & ADMISSION_LOCKED))
		r = cli_fail(&cli->voice, CLI_REFUSED, "not-locked", "network '%s' is not locked", list.name);
	if (r)
		return r;
	list.admission.flags &= ~(uint32_t)ADMISSION_LOCKED;
	return finish(cli, args, &list, &before, &key);
}

/* -- Co-signatures. ---------------------------------------------------------------------------------------------- */

static int proposal_show(struct cli *cli, const struct network_document *network, json_int_t in_force)
{
	static const struct column columns[] = {
		{ "Network", "name", AS_TEXT },		 { "Id", "id", AS_TEXT },   { "Generation", "generation", AS_NUMBER },
		{ "In force", "in_force", AS_NUMBER },	 { "Peers", "peers", AS_NUMBER }, { "Root of the trie", "root", AS_TEXT },
	};
	static const struct listing listing = { .columns = columns, .count = ARRAY_SIZE(columns) };
	_cleanup_json_ json_t *value = NULL;
	char id[ID_TEXT], root[HASH_TEXT];

	value = json_pack("{s:s, s:s, s:I, s:I, s:I, s:s}", "name", network->name, "id", id_format(&network->header.id, id), "generation",
			  (json_int_t)network->header.generation, "in_force", in_force, "peers", (json_int_t)network->count, "root",
			  hex_format(network->root.b, HASH_BYTES, root));
	return value ? print_object(cli, value, &listing) : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
}

static int proposal_sign(struct cli *cli, const char *path, const uint8_t *payload, size_t n, const struct network_document *network,
			 const struct root_key *key)
{
	_cleanup_writer_ struct pack_writer cosign = { .n = 0 }, envelope = { .n = 0 };
	char base64[4 * ((ENVELOPE_BYTES_MAX + 2) / 3) + 1];
	struct document_header header = network->header;
	_cleanup_json_ json_t *body = NULL;
	struct hash hash;
	int r;

	hash_of(payload, n, &hash);
	header.issued = (uint64_t)time(NULL);
	r = cosign_encode(&header, &hash, &cosign);
	if (r == 0)
		r = envelope_sign(DOC_cosign, cosign.bytes, cosign.n, key->secret, &envelope);
	if (r < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "cannot sign: %s", strerror(-r));
	body = json_pack("{s:s}", "envelope",
			 sodium_bin2base64(base64, sizeof(base64), envelope.bytes, envelope.n, sodium_base64_VARIANT_ORIGINAL));
	return body ? api_call(cli, "PUT", path, body, NULL) : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
}

int network_cosign(struct cli *cli, const struct cli_args *args)
{
	_cleanup_root_key_ struct root_key key = { .name = "" };
	_cleanup_json_ json_t *answer = NULL;
	struct network_document network;
	uint8_t payload[ENVELOPE_BYTES_MAX];
	char path[API_PATH_MAX];
	const char *base64;
	size_t n = 0;
	int r = api_path(cli, path, "networks", args->words[0], "cosign", NULL);

	if (!r)
		r = operator_key_read(&cli->voice, cli_value(args, "operator-key"), cli_value(args, "passphrase-file"), &key);
	if (!r)
		r = api_call(cli, "GET", path, NULL, &answer);
	if (r)
		return r;
	base64 = json_string_value(json_object_get(answer, "payload"));
	if (!base64 || sodium_base642bin(payload, sizeof(payload), base64, strlen(base64), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) < 0 ||
	    network_document_decode((struct view){ payload, n }, &network) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "answer", "the control plane shows no manifest to co-sign");
	r = proposal_sign(cli, path, payload, n, &network, &key);
	if (!r)
		r = proposal_show(cli, &network, json_integer_value(json_object_get(answer, "in_force")));
	if (!r)
		cli_note(&cli->voice, "Co-signed. Now repeat the change.");
	return r;
}
