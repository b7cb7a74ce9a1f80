/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keysets in files and for people.
 */
#pragma once

#include "cli/loopbackctl/ctl.h"
#include "libdoc/keyset.h"

/** A keyset's envelope as it was read, and what is in it. */
struct keyset_file {
	uint8_t bytes[ENVELOPE_BYTES_MAX + 1];
	size_t n;
	struct keyset keyset;
	bool verified; /* against a root that the operator gave; else only against the root that it names itself */
};

/** Who created it: the deployment's id is the head of BLAKE2b-256 of the first root's public key. */
void deployment_id_of(const uint8_t root[static KEY_BYTES], struct id *deployment);

/** Read a keyset's envelope from a file, unverified. Reports failures itself. */
_must_check_ int keyset_file_read(const struct cli_voice *voice, const char *path, struct keyset_file *file);

/**
 * Verify and decode file->bytes.
 * @param root the operator's; NULL: only the root that the keyset names itself
 * @param what names it in messages
 */
_must_check_ int keyset_file_open(const struct cli_voice *voice, const char *what, const uint8_t *root, struct keyset_file *file);

/** Tell what is in it. @return CLI_OK, or what the program ends with */
int keyset_file_print(struct cli *cli, const struct keyset_file *file);
