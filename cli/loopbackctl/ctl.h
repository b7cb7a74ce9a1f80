/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loopbackctl, the operator's program: one context for a run, and the commands.
 */
#pragma once

#include <curl/curl.h>
#include <jansson.h>
#include <stdint.h>

#include "cli/common/command.h"
#include "cli/common/voice.h"
#include "libipc/types.h"

struct cli {
	struct cli_voice voice;
	const char *context_name; /* --context; NULL: the current one */
	json_t *config;           /* contexts as they stand in the file; NULL until asked for */
	struct api *api;          /* NULL until the first call */
};

#define _cleanup_json_ CLEANUP(json_decrefp) /* jansson's own json_decrefp() */

/* context.c, root.c, keyset.c, objects.c, status.c, job.c, token.c, package.c, mirror.c, admission.c: one function a command, named noun_verb */
cli_run_fn context_set, context_list, context_use, context_show, context_delete;
cli_run_fn root_create, root_sign_keyset, root_show_keyset, root_rotate, root_print, root_restore;
cli_run_fn keyset_show, keyset_publish;
cli_run_fn organization_list, organization_create, workspace_list, workspace_create;
cli_run_fn network_list, network_create, network_show, network_delete, network_status, network_set, network_reapply, network_rotate_keys;
cli_run_fn host_list, host_show, host_join, host_leave, host_retire, host_endpoint, host_reapply, host_rotate_key;
cli_run_fn bridge_list, bridge_create, bridge_show, bridge_delete, job_list, job_show, job_wait;
cli_run_fn operator_create, network_lock, network_unlock, network_admission, network_cosign, host_admit, host_evict;
cli_run_fn token_list, token_create, token_revoke;
cli_run_fn credential_list, credential_create, credential_revoke;
cli_run_fn version_show, audit_list;
cli_run_fn package_list, mirror_export;

/** The commands and their options (commands.c). */
extern const struct cli_program loopbackctl_program;
