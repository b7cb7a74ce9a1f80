/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which control plane, as whom: named contexts in one file of the operator's, $LOOPBACKCTL_CONFIG or
 * ~/.config/loopback/loopbackctl.json.
 *
 * The file names where the credential lies and holds the root's public key; it contains no secret. It is 0600 all the same.
 *
 *   {"current": NAME or null, "contexts": {NAME: {"url", "ca", "credential_file", "root_public"}}}
 */
#pragma once

#include "cli/loopbackctl/ctl.h"

struct context {
	const char *name, *url, *ca, *credential_file; /* borrowed from cli->config; ca may be NULL */
	bool has_root;
	uint8_t root[KEY_BYTES]; /* the operator's own copy, never the control plane's */
};

/** The context that this run works in. Reports failures itself. @return CLI_OK, or what the program ends with */
_must_check_ int context_get(struct cli *cli, struct context *context);

/** The root of the context that this run works in, without complaint. @return whether there is one */
bool context_root(struct cli *cli, uint8_t root[static KEY_BYTES]);

/** The path of a file beside the configuration. Reports failures itself. @return CLI_OK, or what the program ends with */
_must_check_ int context_beside(const struct cli_voice *voice, const char *name, char *out, size_t size);

/** Read a root's public key: 64 hexadecimal digits in a file. Reports failures itself. @return CLI_OK, or what the program ends
 * with */
_must_check_ int root_public_read(const struct cli_voice *voice, const char *path, uint8_t root[static KEY_BYTES]);
