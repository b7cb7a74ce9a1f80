/* SPDX-License-Identifier: Apache-2.0 */
/* Every command and option there is. */
#include "cli/loopbackctl/ctl.h"

#define END { .name = NULL }
#define PASSPHRASE(option) { .name = option, .value = "FILE", .help = "a file with the passphrase of the root key; - is stdin" }

static const struct cli_option everywhere[] = {
	{ .name = "json", .help = "results and errors as JSON" },
	{ .name = "context", .value = "NAME", .help = "work in this context, not the current one" },
	{ .name = "help", .help = "tell what there is; works after every command" },
	{ .name = "version", .help = "tell this program's version" },
	END,
};

static const struct cli_option set_options[] = {
	{ .name = "url", .value = "URL", .help = "the control plane, https://HOST[:PORT]" },
	{ .name = "ca", .value = "FILE", .help = "PEM of the only CA to believe; else the system's" },
	{ .name = "credential-file", .value = "FILE", .help = "holds ID.SECRET in one line; mode 0600" },
	{ .name = "root-pub", .value = "FILE", .help = "your copy of the root public key; tokens carry it" },
	END,
};

static const struct cli_option create_root_options[] = {
	{ .name = "out", .value = "FOLDER", .help = "gets root.key and root.pub", .needed = true },
	{ .name = "name", .value = "NAME", .help = "of the deployment, for people" },
	PASSPHRASE("passphrase-file"),
	END,
};

static const struct cli_option passphrase_options[] = { PASSPHRASE("passphrase-file"), END };

static const struct cli_option sign_options[] = {
	{ .name = "root", .value = "FILE", .help = "the root key that signs", .needed = true },
	{ .name = "online", .value = "HEX", .help = "public key of a signd", .repeats = true },
	{ .name = "operator", .value = "HEX", .help = "public key of an operator", .repeats = true },
	{ .name = "epoch", .value = "N", .help = "grows when a control plane is restored", .needed = true },
	{ .name = "generation", .value = "N", .help = "grows with every keyset of an epoch", .needed = true },
	{ .name = "not-after", .value = "DATE", .help = "after it these keys sign nothing new" },
	{ .name = "name", .value = "NAME", .help = "of the deployment, for people" },
	{ .name = "after", .value = "FILE", .help = "the keyset in force, which this one follows" },
	{ .name = "out", .value = "FILE", .help = "gets the signed keyset", .needed = true },
	PASSPHRASE("passphrase-file"),
	END,
};

#define OPERATOR_PASSPHRASE { .name = "passphrase-file", .value = "FILE", .help = "a file with the key's passphrase; - is stdin" }
#define OPERATOR_KEY { .name = "operator-key", .value = "FILE", .help = "the operator key that signs", .needed = true }
#define LIST_OPTIONS                                                                                                     \
	OPERATOR_KEY, OPERATOR_PASSPHRASE,                                                                               \
	{ .name = "accept-older", .help = "go on from a list older than one seen before" },                             \
	{ .name = "generation", .value = "N", .help = "of the new list; else the next" }

static const struct cli_option create_operator_options[] = {
	{ .name = "out", .value = "FILE", .help = "gets the key, mode 0600", .needed = true },
	{ .name = "name", .value = "NAME", .help = "whose it is, for people" },
	OPERATOR_PASSPHRASE,
	END,
};

static const struct cli_option lock_options[] = {
	LIST_OPTIONS,
	{ .name = "admit", .value = "ID", .help = "a host, as 'loopback status' on it shows", .repeats = true },
	{ .name = "admit-file", .value = "FILE", .help = "the ids of more, one a line; - is stdin" },
	{ .name = "all", .help = "admit all that the control plane says are in it" },
	{ .name = "bridge", .value = "ID", .help = "a network that may be bridged; or none", .repeats = true },
	END,
};

static const struct cli_option list_options[] = { LIST_OPTIONS, END };

static const struct cli_option admit_options[] = {
	{ .name = "network", .value = "NAME", .help = "the locked network", .needed = true },
	LIST_OPTIONS,
	END,
};

static const struct cli_option cosign_options[] = { OPERATOR_KEY, OPERATOR_PASSPHRASE, END };

static const struct cli_option show_keyset_options[] = {
	{ .name = "root-pub", .value = "FILE", .help = "verify by this root; else by the context's" },
	END,
};

static const struct cli_option rotate_options[] = {
	{ .name = "old", .value = "FILE", .help = "the root key until now", .needed = true },
	{ .name = "new", .value = "FILE", .help = "the root key from now on", .needed = true },
	{ .name = "keyset", .value = "FILE", .help = "the keyset in force", .needed = true },
	{ .name = "out", .value = "FILE", .help = "gets the next keyset, signed by both", .needed = true },
	PASSPHRASE("passphrase-file"),
	{ .name = "new-passphrase-file", .value = "FILE", .help = "the same for --new" },
	END,
};

static const struct cli_option workspace_options[] = {
	{ .name = "organization", .value = "NAME", .help = "that it belongs to", .needed = true },
	END,
};

static const struct cli_option network_options[] = {
	{ .name = "workspace", .value = "NAME", .help = "that it belongs to" },
	{ .name = "organization", .value = "NAME", .help = "that it belongs to, if to no one workspace" },
	{ .name = "cidr", .value = "CIDR", .help = "its range of addresses", .repeats = true },
	{ .name = "mtu", .value = "BYTES", .help = "of the tunnel, 1280 to 9000; default 1380" },
	{ .name = "keepalive", .value = "SECONDS", .help = "0 is off; default 25" },
	END,
};

static const struct cli_option status_options[] = {
	{ .name = "wait", .value = "TIME", .help = "until every host has acknowledged, at most 60s", .lax = true },
	END,
};

static const struct cli_option wait_options[] = {
	{ .name = "wait", .value = "TIME", .help = "until the job is over, at most 10m; tells how far it is", .lax = true },
	END,
};

static const struct cli_option new_key_options[] = {
	{ .name = "assigned", .help = "the control plane makes the key, sealed to the host, and forgets it; the host's owner must allow it" },
	{ .name = "deadline", .value = "TIME", .help = "for a host and its peers to move over; default 5m" },
	{ .name = "wait", .value = "TIME", .help = "until the job is over, at most 10m; tells how far it is", .lax = true },
	END,
};

static const struct cli_option set_network_options[] = {
	{ .name = "mtu", .value = "BYTES", .help = "of the tunnel, 1280 to 9000" },
	{ .name = "keepalive", .value = "SECONDS", .help = "0 is off" },
	{ .name = "add-cidr", .value = "CIDR", .help = "one more range of addresses; none is ever taken away", .repeats = true },
	END,
};

static const struct cli_option host_list_options[] = {
	{ .name = "workspace", .value = "NAME", .help = "only its hosts" },
	{ .name = "network", .value = "NAME", .help = "only hosts in it" },
	END,
};

static const struct cli_option endpoint_options[] = {
	{ .name = "clear", .help = "back to what the host reports" },
	END,
};

static const struct cli_option token_options[] = {
	{ .name = "workspace", .value = "NAME", .help = "that hosts enrol into", .needed = true },
	{ .name = "network", .value = "NAME", .help = "that they join at once", .repeats = true },
	{ .name = "ttl", .value = "TIME", .help = "how long it can be used, such as 30m or 7d; default 1h" },
	{ .name = "description", .value = "TEXT", .help = "for people" },
	{ .name = "once", .help = "for one host only" },
	{ .name = "out", .value = "FILE", .help = "write the token to a new file, mode 0600" },
	END,
};

static const struct cli_option credential_options[] = {
	{ .name = "permission", .value = "NAME", .help = "read, hosts.write, tokens.mint ...", .repeats = true, .needed = true },
	{ .name = "description", .value = "TEXT", .help = "for people" },
	{ .name = "out", .value = "FILE", .help = "write the credential to a new file, mode 0600" },
	END,
};

static const struct cli_command commands[] = {
	{ "context", "set", "NAME", "Name a control plane, or change what is given", set_options, context_set },
	{ "context", "list", "", "List contexts", NULL, context_list },
	{ "context", "use", "NAME", "Make a context the current one", NULL, context_use },
	{ "context", "show", "[NAME]", "Show a context", NULL, context_show },
	{ "context", "delete", "NAME", "Forget a context", NULL, context_delete },

	{ "root", "create", "", "Make a root key (offline)", create_root_options, root_create },
	{ "root", "sign-keyset", "", "Say which keys may sign (offline)", sign_options, root_sign_keyset },
	{ "root", "show-keyset", "FILE", "Verify and show a keyset (offline)", show_keyset_options, root_show_keyset },
	{ "root", "rotate", "", "Make the next keyset name a new root (offline)", rotate_options, root_rotate },
	{ "root", "print", "FILE", "Print a root key for paper (offline)", passphrase_options, root_print },
	{ "root", "restore", "", "Make a root key file of a printed page, from stdin", create_root_options, root_restore },

	{ "operator", "create", "", "Make an operator's key", create_operator_options, operator_create },

	{ "keyset", "show", "", "Show the keyset that hosts get", NULL, keyset_show },
	{ "keyset", "publish", "FILE", "Hand a signed keyset to the control plane", NULL, keyset_publish },

	{ "organization", "create", "NAME", "Create an organization", NULL, organization_create },
	{ "organization", "list", "", "List organizations", NULL, organization_list },
	{ "workspace", "create", "NAME", "Create a workspace", workspace_options, workspace_create },
	{ "workspace", "list", "", "List workspaces", NULL, workspace_list },

	{ "network", "create", "NAME", "Create a network", network_options, network_create },
	{ "network", "list", "", "List networks", NULL, network_list },
	{ "network", "show", "NETWORK", "Show a network", NULL, network_show },
	{ "network", "status", "NETWORK", "Show what each host has acknowledged", status_options, network_status },
	{ "network", "set", "NETWORK", "Change a network's MTU, keepalive or ranges", set_network_options, network_set },
	{ "network", "reapply", "NETWORK", "Sign a network anew for all of its hosts", wait_options, network_reapply },
	{ "network", "rotate-keys", "NETWORK", "Replace the WireGuard keys of all hosts, losing no packet", new_key_options, network_rotate_keys },
	{ "network", "lock", "NETWORK", "Let in only hosts that operators admit", lock_options, network_lock },
	{ "network", "unlock", "NETWORK", "Leave it to the control plane again", list_options, network_unlock },
	{ "network", "admission", "NETWORK", "Verify and show who is admitted, and who waits", NULL, network_admission },
	{ "network", "cosign", "NETWORK", "Stand for a change that signd does not sign alone", cosign_options, network_cosign },
	{ "network", "delete", "NETWORK", "Delete a network that no host is in", NULL, network_delete },

	{ "bridge", "create", "NETWORK NETWORK", "Make peers of the hosts of two networks", wait_options, bridge_create },
	{ "bridge", "list", "", "List bridges", NULL, bridge_list },
	{ "bridge", "show", "BRIDGE-ID", "Show a bridge and how far it is", NULL, bridge_show },
	{ "bridge", "delete", "BRIDGE-ID", "End a bridge: its peers go from every host", wait_options, bridge_delete },

	{ "host", "list", "", "List hosts", host_list_options, host_list },
	{ "host", "show", "HOST", "Show a host and its last result", NULL, host_show },
	{ "host", "join", "HOST NETWORK", "Put a host into a network", NULL, host_join },
	{ "host", "admit", "HOST", "Let a host into a locked network", admit_options, host_admit },
	{ "host", "evict", "HOST", "Take a host off a locked network's list", admit_options, host_evict },
	{ "host", "leave", "HOST NETWORK", "Take a host out of a network", NULL, host_leave },
	{ "host", "retire", "HOST", "Take a host out of everything, for good", NULL, host_retire },
	{ "host", "endpoint", "HOST [ADDRESS:PORT]", "Say where peers reach a host", endpoint_options, host_endpoint },
	{ "host", "reapply", "HOST", "Put a host's networks together anew, for it to apply", wait_options, host_reapply },
	{ "host", "rotate-key", "HOST", "Replace a host's WireGuard key, losing no packet", new_key_options, host_rotate_key },

	{ "job", "list", "", "List what is under way, and what was", NULL, job_list },
	{ "job", "show", "JOB-ID", "Show a job and who is outstanding", NULL, job_show },
	{ "job", "wait", "JOB-ID", "Wait until a job is over", wait_options, job_wait },

	{ "token", "create", "", "Make a token for 'loopback enroll'", token_options, token_create },
	{ "token", "list", "", "List tokens, without secrets", NULL, token_list },
	{ "token", "revoke", "TOKEN-ID", "Revoke a token", NULL, token_revoke },

	{ "credential", "create", "", "Make a credential for the API", credential_options, credential_create },
	{ "credential", "list", "", "List credentials, without secrets", NULL, credential_list },
	{ "credential", "revoke", "CREDENTIAL-ID", "Revoke a credential", NULL, credential_revoke },

	{ "package", "list", "", "List what hosts install", NULL, package_list },
	{ "mirror", "export", "FOLDER", "Write what an air-gapped site installs from", NULL, mirror_export },

	{ "audit", "list", "", "List every change that was made", NULL, audit_list },
	{ "server", "version", "", "Show the control plane's version", NULL, version_show },
};

const struct cli_program loopbackctl_program = {
	.name = "loopbackctl",
	.summary = "Operate a loopback control plane.",
	.version = LOOPBACK_VERSION,
	.epilogue = "Objects are named by name or id.\n"
		    "Exit: 0 done, 1 refused or failed, 2 usage, 3 control plane not reached. See loopbackctl(1).",
	.commands = commands,
	.command_count = ARRAY_SIZE(commands),
	.options = everywhere,
};
