/* SPDX-License-Identifier: Apache-2.0 */
/* What the HTTP server is started with: an address to listen on, certificate and key. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include "libipc/cleanup.h"

/** Parse ADDRESS:PORT. As endpoint_parse(), but port 0 and [::] are fine.
 * @param loopback receives whether only this machine reaches it @return 0; -EINVAL */
_must_check_ int listen_parse(const char *text, struct sockaddr_storage *out, socklen_t *length, bool *loopback);
/** Listen. @param text names it in messages @param port receives the one that it became @return a descriptor; negative errno, logged */
_must_check_ int listen_open(const char *text, const struct sockaddr_storage *address, socklen_t length, unsigned *port);
/** Read a PEM file. @param text the caller's: free() @return 0; negative errno, logged */
_must_check_ int pem_read(const char *path, char **text);
