/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ceremony of the root key (C6): create, sign, show, rotate, print, restore. Works without a network and without a context.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/common/file.h"
#include "cli/loopbackctl/context.h"
#include "cli/loopbackctl/keysets.h"
#include "cli/loopbackctl/rootkey.h"
#include "cli/loopbackctl/table.h"
#include "cli/loopbackctl/words.h"

/* -- Making keys. ------------------------------------------------------------------------------------------------ */

static int public_write(const struct cli_voice *voice, const char *path, const struct root_key *key)
{
	char text[2 * KEY_BYTES + 2];
	int r;

	(void)hex_format(key->public, KEY_BYTES, text);
	(void)strcat(text, "\n");
	r = file_create(path, text, strlen(text), 0644);
	if (r < 0)
		return cli_fail(voice, CLI_REFUSED, "root-pub", "cannot write %s: %s; the root key itself is written", path,
				strerror(-r));
	return CLI_OK;
}

static int show_key(struct cli *cli, const struct root_key *key, const char *key_path, const char *public_path)
{
	static const struct column columns[] = {
		{ "Root key", "root_key", AS_TEXT },
		{ "Root public key", "root_public_file", AS_TEXT },
		{ "Public", "root_public", AS_TEXT },
		{ "Deployment id", "deployment", AS_TEXT },
	};
	static const struct listing listing = { .columns = columns, .count = ARRAY_SIZE(columns) };
	char public[2 * KEY_BYTES + 1], deployment[ID_TEXT];
	_cleanup_json_ json_t *value = NULL;
	struct id id;

	deployment_id_of(key->public, &id);
	value = json_pack("{s:s, s:s, s:s, s:s}", "root_key", key_path, "root_public_file", public_path, "root_public",
			  hex_format(key->public, KEY_BYTES, public), "deployment", id_format(&id, deployment));
	if (!value)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	return print_object(cli, value, &listing);
}

/* Write root.key and root.pub into a folder, which is made if need be. */
static int keep_key(struct cli *cli, const struct cli_args *args, const struct root_key *key)
{
	const char *folder = cli_value(args, "out");
	char key_path[PATH_MAX], public_path[PATH_MAX];
	int r;

	if (snprintf(key_path, sizeof(key_path), "%s/root.key", folder) >= PATH_MAX ||
	    snprintf(public_path, sizeof(public_path), "%s/root.pub", folder) >= PATH_MAX)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "--out: that path is too long");
	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		return cli_fail(&cli->voice, CLI_REFUSED, "folder", "cannot make %s: %s", folder, strerror(errno));
	if (access(public_path, F_OK) == 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "exists",
				"%s exists and a root key is never written over; choose another folder", public_path);
	r = root_key_write(&cli->voice, key_path, cli_value(args, "passphrase-file"), key);
	if (!r)
		r = public_write(&cli->voice, public_path, key);
	return r ? r : show_key(cli, key, key_path, public_path);
}

int root_create(struct cli *cli, const struct cli_args *args)
{
	_cleanup_root_key_ struct root_key key = { .name = "" };
	const char *name = cli_value(args, "name");
	uint8_t seed[crypto_sign_SEEDBYTES];
	int r = name ? name_check(&cli->voice, "name", name) : CLI_OK;

	if (r)
		return r;
	randombytes_buf(seed, sizeof(seed));
	root_key_of_seed(&key, seed);
	sodium_memzero(seed, sizeof(seed));
	(void)snprintf(key.name, sizeof(key.name), "%s", name ? name : "");
	r = keep_key(cli, args, &key);
	if (!r && !cli_has(args, "passphrase-file"))
		cli_note(&cli->voice, "root.key is not under a passphrase: whoever reads it owns the deployment. Keep it "
				      "offline; 'loopbackctl root print' makes a copy for paper.");
	return r;
}

int root_print(struct cli *cli, const struct cli_args *args)
{
	_cleanup_root_key_ struct root_key key = { .name = "" };
	int r = root_key_read(&cli->voice, args->words[0], cli_value(args, "passphrase-file"), &key);

	if (r)
		return r;
	if (cli->voice.json)
		return cli_fail(&cli->voice, CLI_USAGE, "usage",
				"a root key is printed for paper, not for programs: leave --json out");
	(void)setvbuf(stdout, NULL, _IONBF, 0); /* no copy of the seed in a buffer that nobody wipes */
	paper_print(stdout, &key);
	return CLI_OK;
}

int root_restore(struct cli *cli, const struct cli_args *args)
{
	_cleanup_root_key_ struct root_key key = { .name = "" };
	const char *name = cli_value(args, "name");
	const char *passphrase_file = cli_value(args, "passphrase-file");
	int r = name ? name_check(&cli->voice, "name", name) : CLI_OK;

	if (r)
		return r;
	if (passphrase_file && strcmp(passphrase_file, "-") == 0)
		return cli_fail(&cli->voice, CLI_USAGE, "usage",
				"the page comes from stdin, so the passphrase cannot: give --passphrase-file a file");
	if (isatty(STDIN_FILENO))
		cli_note(&cli->voice, "Type the lines '1:' to '4:' and 'public:' of the page:");
	r = paper_read(&cli->voice, stdin, &key);
	if (r)
		return r;
	(void)snprintf(key.name, sizeof(key.name), "%s", name ? name : "");
	return keep_key(cli, args, &key);
}

/* -- Signing. ---------------------------------------------------------------------------------------------------- */

static int add_keys(const struct cli_voice *voice, const struct cli_args *args, const char *option, uint32_t usage,
		    uint64_t not_after, struct keyset *keyset)
{
	const char *hex;
	unsigned at = 0;

	while ((hex = cli_next(args, option, &at))) {
		uint8_t key[KEY_BYTES];
		unsigned i = 0;

		if (hex_parse(hex, key, KEY_BYTES) < 0)
			return cli_fail(voice, CLI_USAGE, "usage", "--%s %s: expected a public key of 64 hexadecimal digits",
					option, hex);
		while (i < keyset->count && memcmp(keyset->keys[i].key, key, KEY_BYTES) != 0)
			i++;
		if (i == KEYSET_KEYS_MAX)
			return cli_fail(voice, CLI_USAGE, "usage", "a keyset holds at most %d keys", KEYSET_KEYS_MAX);
		memcpy(keyset->keys[i].key, key, KEY_BYTES);
		keyset->keys[i].usage |= usage;
		keyset->keys[i].not_after = not_after;
		keyset->count = i == keyset->count ? i + 1 : keyset->count;
	}
	return CLI_OK;
}

/* Encode, sign with every key given, check the result as a host would, write it. */
static int sign_and_write(struct cli *cli, const struct keyset *keyset, const struct root_key *first,
			  const struct root_key *second, const char *path)
{
	_cleanup_writer_ struct pack_writer payload = { .n = 0 }, envelope = { .n = 0 }, both = { .n = 0 };
	const struct pack_writer *done = second ? &both : &envelope;
	struct keyset_file file = { .n = 0 };
	int r = keyset_encode(keyset, &payload);

	if (r == 0)
		r = envelope_sign(DOC_keyset, payload.bytes, payload.n, first->secret, &envelope);
	if (r == 0 && second)
		r = envelope_add_signature(envelope.bytes, envelope.n, second->secret, &both);
	if (r < 0 || done->n > ENVELOPE_BYTES_MAX)
		return cli_fail(&cli->voice, CLI_REFUSED, "keyset", "cannot make the keyset: %s",
				r < 0 ? strerror(-r) : "it is too long");

	memcpy(file.bytes, done->bytes, done->n);
	file.n = done->n;
	r = keyset_file_open(&cli->voice, "the new keyset", first->public, &file);
	if (r)
		return r;
	r = file_create(path, file.bytes, file.n, 0644);
	if (r == -EEXIST)
		return cli_fail(&cli->voice, CLI_REFUSED, "exists", "%s exists and is not written over; choose another name",
				path);
	if (r < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "keyset", "cannot write %s: %s", path, strerror(-r));
	return keyset_file_print(cli, &file);
}

/* What the keyset in force says of the next one: same deployment, newer. */
static int follow(const struct cli_voice *voice, const struct keyset *previous, const char *path, struct keyset *keyset)
{
	keyset->header.deployment = previous->header.deployment;
	if (!keyset->name[0])
		memcpy(keyset->name, previous->name, sizeof(keyset->name));
	if (!document_newer(&keyset->header, &previous->header))
		return cli_fail(voice, CLI_USAGE, "usage",
				"%s has epoch %u, generation %llu: the next keyset must be newer, and hosts would "
				"refuse epoch %u, generation %llu",
				path, previous->header.epoch, (unsigned long long)previous->header.generation,
				keyset->header.epoch, (unsigned long long)keyset->header.generation);
	return CLI_OK;
}

static int fill_keyset(struct cli *cli, const struct cli_args *args, const struct root_key *root, struct keyset *keyset)
{
	const struct cli_voice *voice = &cli->voice;
	const char *name = cli_value(args, "name");
	const char *after = cli_value(args, "after");
	struct keyset_file previous = { .n = 0 };
	uint64_t epoch = 0, not_after = 0;
	int r = number_parse(voice, "epoch", cli_value(args, "epoch"), 1, UINT32_MAX, &epoch);

	if (!r)
		r = number_parse(voice, "generation", cli_value(args, "generation"), 1, INT64_MAX, &keyset->header.generation);
	if (!r && cli_has(args, "not-after"))
		r = date_parse(voice, "not-after", cli_value(args, "not-after"), &not_after);
	if (!r && name)
		r = name_check(voice, "name", name);
	if (r)
		return r;
	(void)snprintf(keyset->name, sizeof(keyset->name), "%s", name ? name : root->name);
	memcpy(keyset->root, root->public, KEY_BYTES);
	keyset->header.epoch = (uint32_t)epoch;
	keyset->header.issued = (uint64_t)time(NULL);
	deployment_id_of(root->public, &keyset->header.deployment);
	if (after) {
		r = keyset_file_read(voice, after, &previous);
		if (!r)
			r = keyset_file_open(voice, after, root->public, &previous);
		if (!r)
			r = follow(voice, &previous.keyset, after, keyset);
		if (r)
			return r;
	}
	if (!keyset->name[0])
		return cli_fail(voice, CLI_USAGE, "usage", "--name is missing: a keyset carries the deployment's name");
	keyset->header.id = keyset->header.deployment;
	r = add_keys(voice, args, "online", KEY_ONLINE, not_after, keyset);
	return r ? r : add_keys(voice, args, "operator", KEY_OPERATOR, not_after, keyset);
}

int root_sign_keyset(struct cli *cli, const struct cli_args *args)
{
	_cleanup_root_key_ struct root_key root = { .name = "" };
	struct keyset keyset = { .count = 0 };
	int r = root_key_read(&cli->voice, cli_value(args, "root"), cli_value(args, "passphrase-file"), &root);

	if (!r)
		r = fill_keyset(cli, args, &root, &keyset);
	return r ? r : sign_and_write(cli, &keyset, &root, NULL, cli_value(args, "out"));
}

int root_rotate(struct cli *cli, const struct cli_args *args)
{
	_cleanup_root_key_ struct root_key old = { .name = "" };
	_cleanup_root_key_ struct root_key new = { .name = "" };
	struct keyset_file file = { .n = 0 };
	const char *path = cli_value(args, "keyset");
	int r = root_key_read(&cli->voice, cli_value(args, "old"), cli_value(args, "passphrase-file"), &old);

	if (!r)
		r = root_key_read(&cli->voice, cli_value(args, "new"), cli_value(args, "new-passphrase-file"), &new);
	if (!r)
		r = keyset_file_read(&cli->voice, path, &file);
	if (!r)
		r = keyset_file_open(&cli->voice, path, old.public, &file);
	if (r)
		return r;
	if (memcmp(old.public, new.public, KEY_BYTES) == 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "same-root",
				"--old and --new are the same key; make a new one: loopbackctl root create");
	if (memcmp(file.keyset.root, old.public, KEY_BYTES) != 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "wrong-root",
				"%s names another root than --old: it has been rotated away from it already", path);
	file.keyset.header.generation++;
	file.keyset.header.issued = (uint64_t)time(NULL);
	memcpy(file.keyset.root, new.public, KEY_BYTES);
	r = sign_and_write(cli, &file.keyset, &old, &new, cli_value(args, "out"));
	if (!r)
		cli_note(&cli->voice,
			 "Next: loopbackctl keyset publish %s, then loopbackctl context set NAME --root-pub with the new root's "
			 "root.pub. Keep the old key until every host has acknowledged.",
			 cli_value(args, "out"));
	return r;
}

int root_show_keyset(struct cli *cli, const struct cli_args *args)
{
	const char *root_file = cli_value(args, "root-pub");
	struct keyset_file file = { .n = 0 };
	uint8_t root[KEY_BYTES];
	bool have_root = true;
	int r;

	if (root_file) {
		r = root_public_read(&cli->voice, root_file, root);
		if (r)
			return r;
	} else {
		have_root = context_root(cli, root);
	}
	r = keyset_file_read(&cli->voice, args->words[0], &file);
	if (!r)
		r = keyset_file_open(&cli->voice, args->words[0], have_root ? root : NULL, &file);
	return r ? r : keyset_file_print(cli, &file);
}
