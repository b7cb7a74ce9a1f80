/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls to the control plane (docs/design/operator-api.md): JSON over HTTPS, a credential from a file.
 */
#pragma once

#include "cli/loopbackctl/ctl.h"

#define API_PATH_MAX 2048

/**
 * Make a path of segments.
 * @param ... segments after "/v1", ended by NULL: words of ours, and names or ids that the operator gave
 * @return CLI_OK; CLI_USAGE (reported) if one cannot be a name or an id
 */
_must_check_ int api_path(struct cli *cli, char out[static API_PATH_MAX], ...) __attribute__((sentinel));

/** Append "?key=value" or "&key=value", percent-encoded (RFC 3986, 2.1); value NULL appends nothing. @return CLI_OK; CLI_USAGE
 * (reported) if it gets too long */
_must_check_ int api_query(struct cli *cli, char path[static API_PATH_MAX], const char *key, const char *value);

/**
 * One call. Failures are reported, with the control plane's own words if it gave any.
 * @param body may be NULL; borrowed
 * @param answer receives the answer, owned by the caller (NULL for an answer without content); may be NULL
 * @return CLI_OK; CLI_REFUSED; CLI_UNREACHABLE
 */
_must_check_ int api_call(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **answer);

/** Read a whole list, page by page. @param items receives an array, owned by the caller */
_must_check_ int api_list(struct cli *cli, const char *path, json_t **items);

/**
 * Fetch a file of the control plane: append what comes to a descriptor. Failures are reported.
 * @param path begins with "/v1/"; made of characters that need no encoding
 * @param offset bytes that are there already and are not asked for again; the control plane may send all the same, which is an error
 * @param limit bytes after which it gives up
 * @return CLI_OK; CLI_REFUSED; CLI_UNREACHABLE
 */
_must_check_ int api_download(struct cli *cli, const char *path, int fd, uint64_t offset, uint64_t limit);

void api_free(struct api *api);
