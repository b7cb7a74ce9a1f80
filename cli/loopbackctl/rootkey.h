/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root key of a deployment: an Ed25519 seed in a file that stays offline, and its form on paper. Nothing here uses a network.
 *
 * The file is text, one "name: value" a line:
 *
 *     loopback root key 1
 *     name: NAME                                    for people
 *     public: HEX                                   Ed25519 public key
 *     seed: HEX                                     32 bytes; or, under a passphrase, instead of it:
 *     argon2id: OPSLIMIT MEMLIMIT-BYTES SALT-HEX    crypto_pwhash(3) of libsodium, algorithm argon2id 1.3 (RFC 9106)
 *     box: HEX                                      24 bytes nonce, then crypto_secretbox of the seed (XSalsa20-Poly1305)
 */
#pragma once

#include <sodium.h>

#include "cli/loopbackctl/ctl.h"

#define ROOT_FILE_BYTES_MAX 4096

struct root_key {
	char name[NAME_BYTES_MAX + 1];
	uint8_t public[KEY_BYTES];
	uint8_t secret[SECRET_KEY_BYTES];
};

static inline void root_key_wipe(struct root_key *key)
{
	sodium_memzero(key, sizeof(*key));
}
#define _cleanup_root_key_ CLEANUP(root_key_wipe)

/** Fill in the key pair of a seed. */
void root_key_of_seed(struct root_key *key, const uint8_t seed[static crypto_sign_SEEDBYTES]);

/**
 * Read a root key. One under a passphrase asks for it: from passphrase_file, else on the terminal. Reports failures itself.
 * @param passphrase_file "-" is stdin; may be NULL
 * @return CLI_OK, or what the program ends with
 */
_must_check_ int root_key_read(const struct cli_voice *voice, const char *path, const char *passphrase_file,
			       struct root_key *key);

/** Write a root key to a new file of mode 0600, under the passphrase that passphrase_file holds, if one is given. Reports
 * failures itself. */
_must_check_ int root_key_write(const struct cli_voice *voice, const char *path, const char *passphrase_file,
				const struct root_key *key);

/** The same for an operator's key, whose file begins with "loopback operator key 1". */
_must_check_ int operator_key_read(const struct cli_voice *voice, const char *path, const char *passphrase_file, struct root_key *key);
_must_check_ int operator_key_write(const struct cli_voice *voice, const char *path, const char *passphrase_file,
				    const struct root_key *key);

/* -- On paper (paper.c). ----------------------------------------------------------------------------------------- */

/** Print the seed in four numbered lines, each with its own checksum, and the public key. */
void paper_print(FILE *out, const struct root_key *key);

/**
 * Read what paper_print() printed, typed in again: case, spaces and surrounding text do not matter. Reports failures itself, by
 * the line that is wrong.
 * @return CLI_OK, or what the program ends with
 */
_must_check_ int paper_read(const struct cli_voice *voice, FILE *in, struct root_key *key);
