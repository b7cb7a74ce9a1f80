/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer secrets, ID.SECRET: tokens of hosts and credentials of operators. Only a hash of the secret is ever stored. */
#pragma once

#include "libipc/types.h"

#define SECRET_BYTES 32
#define BEARER_TEXT (2 * ID_BYTES + 1 + 43 + 1) /* hexadecimal, dot, base64url without padding */

/** Make a new one. @param text the only place where it stands in the clear; the caller wipes it */
void secret_mint(struct id *id, struct hash *hash, char text[static BEARER_TEXT]);

/** Take ID.SECRET apart: the id, and the hash of what follows the dot. @return 0; -EINVAL it does not look like one */
_must_check_ int secret_parse(const char *text, struct id *id, struct hash *hash);

/** The secret of an "Authorization: Bearer" header. @return NULL if it is none */
const char *bearer_of(const char *header);

/** Compare in constant time. */
bool secret_matches(const struct hash *a, struct view stored);
