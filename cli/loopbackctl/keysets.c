/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/keysets.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "cli/common/file.h"
#include "cli/loopbackctl/table.h"

void deployment_id_of(const uint8_t root[static KEY_BYTES], struct id *deployment)
{
	struct hash hash;

	hash_of(root, KEY_BYTES, &hash);
	memcpy(deployment->b, hash.b, ID_BYTES);
}

int keyset_file_read(const struct cli_voice *voice, const char *path, struct keyset_file *file)
{
	ssize_t n = file_read(path, (char *)file->bytes, sizeof(file->bytes));

	if (n == -EMSGSIZE)
		return cli_fail(voice, CLI_REFUSED, "keyset", "%s is longer than %d bytes: not a keyset", path,
				ENVELOPE_BYTES_MAX);
	if (n < 0)
		return cli_fail(voice, CLI_REFUSED, "keyset", "cannot read %s: %s", path, strerror((int)-n));
	file->n = (size_t)n;
	return CLI_OK;
}

/* The root that a keyset names: third place of its payload, after header and name. Nothing rests on it until it has verified. */
static int named_root(const struct keyset_file *file, uint8_t root[static KEY_BYTES])
{
	static const struct pack_limits limits = { .bytes = ENVELOPE_BYTES_MAX, .depth = 8, .elements = 512 };
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	struct document_header header;
	struct pack_cursor cursor;
	struct envelope envelope;
	char name[NAME_BYTES_MAX + 1];
	int r = envelope_open(file->bytes, file->n, &envelope);

	if (r < 0 || envelope.type != DOC_keyset)
		return -EBADMSG;
	r = pack_open(&reader, envelope.payload.p, envelope.payload.n, &limits, &cursor);
	if (r < 0)
		return r;
	document_header_read(&cursor, &header);
	pack_text_copy(&cursor, name, sizeof(name));
	pack_fixed(&cursor, root, KEY_BYTES);
	return cursor.error;
}

int keyset_file_open(const struct cli_voice *voice, const char *what, const uint8_t *root, struct keyset_file *file)
{
	uint8_t named[KEY_BYTES];
	char hex[2 * KEY_BYTES + 1];
	int r;

	if (named_root(file, named) < 0)
		return cli_fail(voice, CLI_REFUSED, "keyset", "%s is not a keyset of loopback", what);
	r = keyset_open(file->bytes, file->n, root ? root : named, &file->keyset);
	if (r == -EKEYREJECTED)
		return cli_fail(voice, CLI_REFUSED, "wrong-root", "%s is not signed by %s %s", what,
				root ? "the root" : "the root that it names,", hex_format(root ? root : named, KEY_BYTES, hex));
	if (r < 0)
		return cli_fail(voice, CLI_REFUSED, "keyset", "%s is malformed: %s", what, strerror(-r));
	file->verified = root != NULL;
	return CLI_OK;
}

static json_t *key_to_json(const struct keyset *keyset, unsigned i)
{
	char hex[2 * KEY_BYTES + 1], until[32] = "";
	time_t not_after = (time_t)keyset->keys[i].not_after;
	json_t *usages = json_array();
	struct tm tm;

	if (keyset->keys[i].usage & KEY_ONLINE)
		(void)json_array_append_new(usages, json_string("online"));
	if (keyset->keys[i].usage & KEY_OPERATOR)
		(void)json_array_append_new(usages, json_string("operator"));
	if (not_after && gmtime_r(&not_after, &tm))
		(void)strftime(until, sizeof(until), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_pack("{s:s, s:o, s:s?}", "key", hex_format(keyset->keys[i].key, KEY_BYTES, hex), "usage", usages, "not_after",
			 until[0] ? until : NULL);
}

static json_t *keyset_to_json(const struct keyset_file *file)
{
	const struct keyset *keyset = &file->keyset;
	char deployment[ID_TEXT], root[2 * KEY_BYTES + 1], hash[HASH_TEXT];
	json_t *keys = json_array();
	struct envelope envelope;
	struct hash name;

	for (unsigned i = 0; i < keyset->count; i++)
		(void)json_array_append_new(keys, key_to_json(keyset, i));
	hash_of(file->bytes, file->n, &name);
	if (envelope_open(file->bytes, file->n, &envelope) < 0)
		return NULL;
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:I, s:b, s:o}", "name", keyset->name, "deployment",
			 id_format(&keyset->header.deployment, deployment), "epoch", (json_int_t)keyset->header.epoch,
			 "generation", (json_int_t)keyset->header.generation, "issued", (json_int_t)keyset->header.issued * 1000,
			 "root", hex_format(keyset->root, KEY_BYTES, root), "hash", hex_format(name.b, HASH_BYTES, hash),
			 "signatures", (json_int_t)envelope.signature_count, "verified", (int)file->verified, "keys", keys);
}

int keyset_file_print(struct cli *cli, const struct keyset_file *file)
{
	static const struct column columns[] = {
		{ "Deployment", "name", AS_TEXT },         { "Deployment id", "deployment", AS_TEXT },
		{ "Epoch", "epoch", AS_NUMBER },           { "Generation", "generation", AS_NUMBER },
		{ "Issued", "issued", AS_TIME },           { "Root", "root", AS_TEXT },
		{ "Signatures", "signatures", AS_NUMBER }, { "Verified by root", "verified", AS_YES },
	};
	static const struct column key_columns[] = {
		{ "KEY", "key", AS_TEXT },
		{ "MAY SIGN AS", "usage", AS_LIST },
		{ "NOT AFTER", "not_after", AS_TEXT },
	};
	static const struct listing listing = { .columns = columns, .count = ARRAY_SIZE(columns) };
	static const struct listing key_listing = { key_columns, ARRAY_SIZE(key_columns), NULL,
						    "No keys: nothing can be signed." };
	_cleanup_json_ json_t *value = keyset_to_json(file);
	int r;

	if (!value)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	r = print_object(cli, value, &listing);
	if (r || cli->voice.json)
		return r;
	(void)fputc('\n', stdout);
	r = print_list(cli, json_object_get(value, "keys"), &key_listing);
	if (!file->verified)
		cli_note(&cli->voice, "NOT VERIFIED: signed by the root that it names itself, and nobody said that this is "
				      "yours. Give --root-pub FILE.");
	return r;
}
