/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes secrets out of what a support bundle is about to hold, by two means that know nothing of each other: the values of this
 * host's own secrets are looked for in every form that they commonly take, and what merely looks like a secret is blanked as
 * well. Bytes are replaced one for one with asterisks.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "libipc/cleanup.h"

#define SECRET_BYTES_MIN 6 /* a shorter one would blank half of every page, and is no secret */
#define SECRET_BYTES_MAX 4096

/* Values to be looked for; zeroed is empty. */
struct secrets {
	struct secret {
		uint8_t *bytes;
		size_t n;
	} *values;
	size_t count, room;
};

/** Copy one in; one that is too short or known already is left out. @return 0; -ENOMEM; -EMSGSIZE */
_must_check_ int secrets_add(struct secrets *secrets, const void *bytes, size_t n);
/** Wipe and free. */
void secrets_free(struct secrets *secrets);
#define _cleanup_secrets_ CLEANUP(secrets_free)

/**
 * Blank every known secret: as it is; with percent, backslash, \x and \u escapes; in hexadecimal, with or without separators; in
 * base64 of both alphabets, at any offset within what was encoded; in UTF-16 of both byte orders.
 * @return how many were found
 */
size_t scrub_known(char *bytes, size_t n, const struct secrets *secrets);

/**
 * Blank what looks like a secret: NAME:PASSWORD@ of a URL, Bearer and Basic credentials, ID.SECRET of tokens, values of names
 * like password=, private keys in PEM.
 * @return how many were found
 */
size_t scrub_likely(char *bytes, size_t n);
