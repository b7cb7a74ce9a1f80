/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of the operators' API: method, path ('*' is one segment), permission, whether it changes something, handler. */
#pragma once

/* "" : anybody. "admin" has all permissions. */
#define ROUTES(R)                                                                          \
	R("GET", "/v1/version", "", false, version_get)                                    \
	R("GET", "/v1/organizations", "read", false, organizations_list)                   \
	R("POST", "/v1/organizations", "admin", true, organization_create)                 \
	R("GET", "/v1/workspaces", "read", false, workspaces_list)                         \
	R("POST", "/v1/workspaces", "admin", true, workspace_create)                       \
	R("GET", "/v1/networks", "read", false, networks_list)                             \
	R("POST", "/v1/networks", "networks.write", true, network_create)                  \
	R("GET", "/v1/networks/*", "read", false, network_get)                             \
	R("PATCH", "/v1/networks/*", "networks.write", true, network_change)               \
	R("DELETE", "/v1/networks/*", "networks.write", true, network_delete)              \
	R("POST", "/v1/networks/*/reapply", "networks.write", true, network_reapply)       \
	R("POST", "/v1/networks/*/rotate-keys", "networks.write", true, network_rotate)    \
	R("GET", "/v1/networks/*/status", "read", false, network_status)                   \
	R("GET", "/v1/networks/*/admission", "read", false, admission_get)                 \
	R("PUT", "/v1/networks/*/admission", "networks.write", false, admission_put)       \
	R("GET", "/v1/networks/*/cosign", "read", false, cosign_get)                       \
	R("PUT", "/v1/networks/*/cosign", "networks.write", true, cosign_put)              \
	R("GET", "/v1/bridges", "read", false, bridges_list)                               \
	R("POST", "/v1/bridges", "networks.write", true, bridge_create)                    \
	R("GET", "/v1/bridges/*", "read", false, bridge_get)                               \
	R("DELETE", "/v1/bridges/*", "networks.write", true, bridge_delete)                \
	R("GET", "/v1/jobs", "read", false, jobs_list)                                     \
	R("GET", "/v1/jobs/*", "read", false, job_get)                                     \
	R("GET", "/v1/hosts", "read", false, hosts_list)                                   \
	R("GET", "/v1/hosts/*", "read", false, host_get)                                   \
	R("POST", "/v1/hosts/*/networks", "hosts.write", true, host_join)                  \
	R("DELETE", "/v1/hosts/*/networks/*", "hosts.write", true, host_leave)             \
	R("POST", "/v1/hosts/*/retire", "hosts.write", true, host_retire)                  \
	R("POST", "/v1/hosts/*/reapply", "hosts.write", true, host_reapply)                \
	R("POST", "/v1/hosts/*/rotate-key", "hosts.write", true, host_rotate)              \
	R("PUT", "/v1/hosts/*/endpoint", "hosts.write", true, host_endpoint)               \
	R("GET", "/v1/tokens", "tokens.list", false, tokens_list)                          \
	R("POST", "/v1/tokens", "tokens.mint", true, token_create)                         \
	R("POST", "/v1/tokens/*/revoke", "tokens.revoke", true, token_revoke)              \
	R("GET", "/v1/credentials", "admin", false, credentials_list)                      \
	R("POST", "/v1/credentials", "admin", true, credential_create)                     \
	R("POST", "/v1/credentials/*/revoke", "admin", true, credential_revoke)            \
	R("GET", "/v1/keyset", "read", false, keyset_get)                                  \
	R("PUT", "/v1/keyset", "admin", true, keyset_put)                                  \
	R("GET", "/v1/packages", "read", false, packages_list)                             \
	R("GET", "/v1/audit", "admin", false, audit_list)
