/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/rootkey.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <termios.h>

#include "cli/common/file.h"

#define PASSPHRASE_BYTES_MAX 1024
#define SEED_BYTES crypto_sign_SEEDBYTES
#define BOX_BYTES (crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + SEED_BYTES)
/* What a file may ask of this machine: a hostile one must not eat its memory. */
#define OPS_MAX 64
#define MEMORY_MAX (2048ull * 1024 * 1024)

/* Keys that are kept alike: one that can sign keysets, one that can sign what operators do. None is taken for the other. */
struct key_kind {
	const char *word, *code, *first_line, *lost;
};

static const struct key_kind root_kind = { "root key", "root-key", "loopback root key 1", "Restore it from paper: loopbackctl root restore" };
static const struct key_kind operator_kind = { "operator key", "operator-key", "loopback operator key 1",
					       "Make another one (loopbackctl operator create), and a keyset that lists it instead" };

struct passphrase {
	char text[PASSPHRASE_BYTES_MAX];
	size_t n;
};

static void passphrase_wipe(struct passphrase *passphrase)
{
	sodium_memzero(passphrase, sizeof(*passphrase));
}

static void buffer_wipe(char (*buffer)[ROOT_FILE_BYTES_MAX])
{
	sodium_memzero(*buffer, sizeof(*buffer));
}

void root_key_of_seed(struct root_key *key, const uint8_t seed[static crypto_sign_SEEDBYTES])
{
	(void)crypto_sign_seed_keypair(key->public, key->secret, seed);
}

/* -- The passphrase. --------------------------------------------------------------------------------------------- */

/* Ask on the terminal, unseen. The terminal's own interrupt key ends the program only once echo is back on. */
static int passphrase_prompt(const struct cli_voice *voice, const char *path, struct passphrase *passphrase)
{
	_cleanup_fclose_ FILE *tty = fopen("/dev/tty", "r+e");
	struct termios before, silent;
	char *line;

	if (!tty || tcgetattr(fileno(tty), &before) < 0)
		return cli_fail(voice, CLI_REFUSED, "passphrase",
				"%s is under a passphrase and there is no terminal to ask for it on; "
				"give --passphrase-file FILE",
				path);
	silent = before;
	silent.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
	(void)setvbuf(tty, NULL, _IONBF, 0);
	(void)fprintf(tty, "Passphrase of %s: ", path);
	(void)tcsetattr(fileno(tty), TCSAFLUSH, &silent);
	line = fgets(passphrase->text, sizeof(passphrase->text), tty);
	(void)tcsetattr(fileno(tty), TCSAFLUSH, &before);
	(void)fputc('\n', tty);
	passphrase->n = line ? strcspn(passphrase->text, "\r\n") : 0;
	passphrase->text[passphrase->n] = '\0';
	if (passphrase->n == 0 || passphrase->text[0] == 0x03)
		return cli_fail(voice, CLI_REFUSED, "passphrase", "no passphrase was given; %s stays closed", path);
	return CLI_OK;
}

static int passphrase_get(const struct cli_voice *voice, const char *file, const char *path, struct passphrase *passphrase)
{
	ssize_t n;

	if (!file)
		return passphrase_prompt(voice, path, passphrase);
	n = file_read_line(file, passphrase->text, sizeof(passphrase->text));
	if (n == -EBADMSG || n == -EMSGSIZE)
		return cli_fail(voice, CLI_REFUSED, "passphrase", "%s: expected a passphrase in one line of at most %d bytes",
				file, PASSPHRASE_BYTES_MAX - 1);
	if (n < 0)
		return cli_fail(voice, CLI_REFUSED, "passphrase", "cannot read the passphrase from %s: %s", file,
				strerror((int)-n));
	passphrase->n = (size_t)n;
	return CLI_OK;
}

/* -- Reading. ---------------------------------------------------------------------------------------------------- */

/* The value of a line "name: value", terminated in place; NULL if there is none. */
static char *field(char *text, const char *name)
{
	size_t n = strlen(name);

	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) == 0 && strncmp(line + n, ": ", 2) == 0)
			return line + n + 2;
	}
	return NULL;
}

static void end_lines(char *text)
{
	for (; *text; text++)
		if (*text == '\n' || *text == '\r')
			*text = '\0';
}

struct locked_seed {
	uint64_t ops, memory;
	uint8_t salt[crypto_pwhash_SALTBYTES];
	uint8_t box[BOX_BYTES];
};

static int parse_locked(const char *argon2id, const char *box, struct locked_seed *locked)
{
	int at = 0;

	if (sscanf(argon2id, "%" SCNu64 " %" SCNu64 " %n", &locked->ops, &locked->memory, &at) < 2 || at == 0)
		return -EINVAL;
	if (locked->ops < crypto_pwhash_OPSLIMIT_MIN || locked->ops > OPS_MAX || locked->memory < crypto_pwhash_MEMLIMIT_MIN ||
	    locked->memory > MEMORY_MAX)
		return -EINVAL;
	if (hex_parse(argon2id + at, locked->salt, sizeof(locked->salt)) < 0)
		return -EINVAL;
	return hex_parse(box, locked->box, sizeof(locked->box));
}

static int open_locked(const struct cli_voice *voice, const char *path, const char *passphrase_file,
		       const struct locked_seed *locked, uint8_t seed[static SEED_BYTES])
{
	CLEANUP(passphrase_wipe) struct passphrase passphrase = { .n = 0 };
	uint8_t key[crypto_secretbox_KEYBYTES];
	const uint8_t *sealed = locked->box + crypto_secretbox_NONCEBYTES;
	int r = passphrase_get(voice, passphrase_file, path, &passphrase);

	if (r)
		return r;
	if (crypto_pwhash(key, sizeof(key), passphrase.text, passphrase.n, locked->salt, locked->ops, (size_t)locked->memory,
			  crypto_pwhash_ALG_ARGON2ID13) < 0)
		return cli_fail(voice, CLI_REFUSED, "memory",
				"%s: its passphrase needs %" PRIu64 " MiB of memory to check, which this machine "
				"does not give",
				path, locked->memory >> 20);
	r = crypto_secretbox_open_easy(seed, sealed, crypto_secretbox_MACBYTES + SEED_BYTES, locked->box, key);
	sodium_memzero(key, sizeof(key));
	if (r < 0)
		return cli_fail(voice, CLI_REFUSED, "passphrase", "%s: wrong passphrase, or the file is damaged", path);
	return CLI_OK;
}

static int malformed(const struct cli_voice *voice, const struct key_kind *kind, const char *path, const char *what)
{
	return cli_fail(voice, CLI_REFUSED, kind->code, "%s is not a whole %s: %s. %s", path, kind->word, what, kind->lost);
}

static int parse_key(const struct cli_voice *voice, const struct key_kind *kind, const char *path, const char *passphrase_file, char *text,
		     struct root_key *key)
{
	char *name = field(text, "name"), *public = field(text, "public"), *seed_hex = field(text, "seed");
	char *argon2id = field(text, "argon2id"), *box = field(text, "box");
	uint8_t expected[KEY_BYTES];
	uint8_t seed[SEED_BYTES];
	struct locked_seed locked;
	int r = CLI_OK;

	end_lines(text);
	if (!public || hex_parse(public, expected, sizeof(expected)) < 0)
		return malformed(voice, kind, path, "its line 'public' is missing or broken");
	if (seed_hex) {
		if (hex_parse(seed_hex, seed, sizeof(seed)) < 0)
			return malformed(voice, kind, path, "its line 'seed' is not 64 hexadecimal digits");
	} else {
		if (!argon2id || !box || parse_locked(argon2id, box, &locked) < 0)
			return malformed(voice, kind, path, "it has neither a line 'seed' nor sound lines 'argon2id' and 'box'");
		r = open_locked(voice, path, passphrase_file, &locked, seed);
	}
	if (r)
		return r;
	root_key_of_seed(key, seed);
	sodium_memzero(seed, sizeof(seed));
	(void)snprintf(key->name, sizeof(key->name), "%.*s", NAME_BYTES_MAX, name ? name : "");
	if (memcmp(key->public, expected, KEY_BYTES) != 0) {
		root_key_wipe(key);
		return malformed(voice, kind, path, "its public key does not belong to its seed");
	}
	return CLI_OK;
}

static int key_read(const struct cli_voice *voice, const struct key_kind *kind, const char *path, const char *passphrase_file,
		    struct root_key *key)
{
	CLEANUP(buffer_wipe) char text[ROOT_FILE_BYTES_MAX];
	ssize_t n;

	if (file_is_open_to_others(path))
		return cli_fail(voice, CLI_REFUSED, "file-mode",
				"%s can be read by others than its owner, so it is not used; chmod 600 it, and "
				"think about who may have read it",
				path);
	n = file_read(path, text, sizeof(text));
	if (n == -EMSGSIZE)
		return malformed(voice, kind, path, "it is too long");
	if (n < 0)
		return cli_fail(voice, CLI_REFUSED, kind->code, "cannot read the %s %s: %s", kind->word, path, strerror((int)-n));
	if (strncmp(text, kind->first_line, strlen(kind->first_line)) != 0) {
		char what[80];

		(void)snprintf(what, sizeof(what), "it does not begin with '%s'", kind->first_line);
		return malformed(voice, kind, path, what);
	}
	return parse_key(voice, kind, path, passphrase_file, text, key);
}

int root_key_read(const struct cli_voice *voice, const char *path, const char *passphrase_file, struct root_key *key)
{
	return key_read(voice, &root_kind, path, passphrase_file, key);
}

int operator_key_read(const struct cli_voice *voice, const char *path, const char *passphrase_file, struct root_key *key)
{
	return key_read(voice, &operator_kind, path, passphrase_file, key);
}

/* -- Writing. ---------------------------------------------------------------------------------------------------- */

static int lock_seed(const struct cli_voice *voice, const struct key_kind *kind, const char *passphrase_file, const uint8_t *seed,
		     struct locked_seed *locked)
{
	CLEANUP(passphrase_wipe) struct passphrase passphrase = { .n = 0 };
	uint8_t key[crypto_secretbox_KEYBYTES];
	char what[32];
	int r;

	(void)snprintf(what, sizeof(what), "the new %s", kind->word);
	r = passphrase_get(voice, passphrase_file, what, &passphrase);

	if (r)
		return r;
	locked->ops = crypto_pwhash_OPSLIMIT_MODERATE;
	locked->memory = crypto_pwhash_MEMLIMIT_MODERATE;
	randombytes_buf(locked->salt, sizeof(locked->salt));
	randombytes_buf(locked->box, crypto_secretbox_NONCEBYTES);
	if (crypto_pwhash(key, sizeof(key), passphrase.text, passphrase.n, locked->salt, locked->ops, (size_t)locked->memory,
			  crypto_pwhash_ALG_ARGON2ID13) < 0)
		return cli_fail(voice, CLI_REFUSED, "memory",
				"a passphrase needs %" PRIu64 " MiB of memory, which this machine does not give",
				locked->memory >> 20);
	(void)crypto_secretbox_easy(locked->box + crypto_secretbox_NONCEBYTES, seed, SEED_BYTES, locked->box, key);
	sodium_memzero(key, sizeof(key));
	return CLI_OK;
}

static int key_write(const struct cli_voice *voice, const struct key_kind *kind, const char *path, const char *passphrase_file,
		     const struct root_key *key)
{
	CLEANUP(buffer_wipe) char text[ROOT_FILE_BYTES_MAX];
	char public[2 * KEY_BYTES + 1], hex[2 * BOX_BYTES + 1], salt[2 * crypto_pwhash_SALTBYTES + 1];
	struct locked_seed locked;
	int r;

	if (passphrase_file) {
		r = lock_seed(voice, kind, passphrase_file, key->secret, &locked);
		if (r)
			return r;
		(void)snprintf(text, sizeof(text), "%s\nname: %s\npublic: %s\nargon2id: %" PRIu64 " %" PRIu64 " %s\nbox: %s\n",
			       kind->first_line, key->name, hex_format(key->public, KEY_BYTES, public), locked.ops, locked.memory,
			       hex_format(locked.salt, sizeof(locked.salt), salt),
			       hex_format(locked.box, sizeof(locked.box), hex));
	} else {
		/* libsodium's secret key begins with the seed */
		(void)snprintf(text, sizeof(text), "%s\nname: %s\npublic: %s\nseed: %s\n", kind->first_line, key->name,
			       hex_format(key->public, KEY_BYTES, public), hex_format(key->secret, SEED_BYTES, hex));
		sodium_memzero(hex, sizeof(hex));
	}
	r = file_create(path, text, strlen(text), 0600);
	if (r == -EEXIST)
		return cli_fail(voice, CLI_REFUSED, "exists",
				"%s exists and a %s is never written over; choose another place", path, kind->word);
	if (r < 0)
		return cli_fail(voice, CLI_REFUSED, kind->code, "cannot write %s: %s", path, strerror(-r));
	return CLI_OK;
}

int root_key_write(const struct cli_voice *voice, const char *path, const char *passphrase_file, const struct root_key *key)
{
	return key_write(voice, &root_kind, path, passphrase_file, key);
}

int operator_key_write(const struct cli_voice *voice, const char *path, const char *passphrase_file, const struct root_key *key)
{
	return key_write(voice, &operator_kind, path, passphrase_file, key);
}
