/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/context.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/common/file.h"
#include "cli/loopbackctl/table.h"

#define CONFIG_BYTES_MAX (1024 * 1024)

/* -- The file. --------------------------------------------------------------------------------------------------- */

static int config_path(const struct cli_voice *voice, char out[static PATH_MAX])
{
	const char *set = getenv("LOOPBACKCTL_CONFIG");
	const char *base = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");
	int n;

	if (set && set[0])
		n = snprintf(out, PATH_MAX, "%s", set);
	else if (base && base[0] == '/')
		n = snprintf(out, PATH_MAX, "%s/loopback/loopbackctl.json", base);
	else if (home && home[0])
		n = snprintf(out, PATH_MAX, "%s/.config/loopback/loopbackctl.json", home);
	else
		return cli_fail(voice, CLI_REFUSED, "config",
				"neither LOOPBACKCTL_CONFIG nor HOME is set: nowhere to keep contexts");
	if (n < 0 || n >= PATH_MAX)
		return cli_fail(voice, CLI_REFUSED, "config", "the path of the configuration is too long");
	return CLI_OK;
}

int context_beside(const struct cli_voice *voice, const char *name, char *out, size_t size)
{
	char path[PATH_MAX];
	int r = config_path(voice, path);
	char *slash = strrchr(path, '/');

	if (r)
		return r;
	if (snprintf(out, size, "%.*s%s", slash ? (int)(slash - path) + 1 : 0, path, name) >= (int)size)
		return cli_fail(voice, CLI_REFUSED, "config", "the path of the configuration is too long");
	return CLI_OK;
}

static int config_parse(const struct cli_voice *voice, const char *path, const char *text, size_t n, json_t **config)
{
	json_error_t error;
	_cleanup_json_ json_t *loaded = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);

	if (!loaded)
		return cli_fail(voice, CLI_REFUSED, "config", "%s, line %d: %s; mend it or move it away", path, error.line,
				error.text);
	if (!json_is_object(json_object_get(loaded, "contexts")))
		return cli_fail(voice, CLI_REFUSED, "config", "%s has no \"contexts\" object; mend it or move it away", path);
	*config = TAKE_PTR(loaded);
	return CLI_OK;
}

/* Load into cli->config; no file is an empty configuration. */
static int config_load(struct cli *cli)
{
	_cleanup_free_ char *text = NULL;
	char path[PATH_MAX];
	ssize_t n;
	int r;

	if (cli->config)
		return CLI_OK;
	r = config_path(&cli->voice, path);
	if (r)
		return r;
	text = malloc(CONFIG_BYTES_MAX);
	if (!text)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	n = file_read(path, text, CONFIG_BYTES_MAX);
	if (n == -ENOENT) {
		cli->config = json_pack("{s:n, s:{}}", "current", "contexts");
		return cli->config ? CLI_OK : cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	}
	if (n < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "config", "cannot read %s: %s", path, strerror((int)-n));
	return config_parse(&cli->voice, path, text, (size_t)n, &cli->config);
}

static int config_save(struct cli *cli)
{
	_cleanup_free_ char *text = json_dumps(cli->config, JSON_INDENT(2) | JSON_SORT_KEYS);
	char path[PATH_MAX];
	int r = config_path(&cli->voice, path);

	if (r)
		return r;
	if (!text)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return cli_fail(&cli->voice, CLI_REFUSED, "config", "cannot make %s: %s", path, strerror(errno));
		*slash = '/';
	}
	r = file_replace(path, text, strlen(text), 0600);
	if (r < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "config", "cannot write %s: %s", path, strerror(-r));
	return CLI_OK;
}

static json_t *contexts_of(const struct cli *cli)
{
	return json_object_get(cli->config, "contexts");
}

static const char *current_name(const struct cli *cli)
{
	return cli->context_name ? cli->context_name : json_string_value(json_object_get(cli->config, "current"));
}

/* -- For other commands. ----------------------------------------------------------------------------------------- */

int context_get(struct cli *cli, struct context *context)
{
	const char *name, *root;
	const json_t *entry;
	int r = config_load(cli);

	if (r)
		return r;
	name = current_name(cli);
	if (!name)
		return cli_fail(&cli->voice, CLI_REFUSED, "no-context",
				"no context is set: which control plane? "
				"loopbackctl context set NAME --url URL --credential-file FILE --root-pub FILE");
	entry = json_object_get(contexts_of(cli), name);
	if (!entry)
		return cli_fail(&cli->voice, CLI_REFUSED, "no-context", "there is no context '%s'; see loopbackctl context list",
				name);

	*context = (struct context){ .name = name };
	context->url = json_string_value(json_object_get(entry, "url"));
	context->ca = json_string_value(json_object_get(entry, "ca"));
	context->credential_file = json_string_value(json_object_get(entry, "credential_file"));
	root = json_string_value(json_object_get(entry, "root_public"));
	if (!context->url || !context->credential_file)
		return cli_fail(&cli->voice, CLI_REFUSED, "config",
				"context '%s' lacks url or credential_file; "
				"loopbackctl context set %s --url URL --credential-file FILE",
				name, name);
	if (root && hex_parse(root, context->root, KEY_BYTES) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "config",
				"context '%s': root_public is not 64 hexadecimal digits; "
				"loopbackctl context set %s --root-pub FILE",
				name, name);
	context->has_root = root != NULL;
	return CLI_OK;
}

bool context_root(struct cli *cli, uint8_t root[static KEY_BYTES])
{
	const char *name, *hex;

	/* without a file there is no complaint; a broken one is reported, and then counts as none */
	if (config_load(cli))
		return false;
	name = current_name(cli);
	hex = name ? json_string_value(json_object_get(json_object_get(contexts_of(cli), name), "root_public")) : NULL;
	return hex && hex_parse(hex, root, KEY_BYTES) == 0;
}

int root_public_read(const struct cli_voice *voice, const char *path, uint8_t root[static KEY_BYTES])
{
	char text[256];
	ssize_t n = file_read_line(path, text, sizeof(text));

	if (n < 0 && n != -EBADMSG && n != -EMSGSIZE)
		return cli_fail(voice, CLI_REFUSED, "root-pub", "cannot read %s: %s", path, strerror((int)-n));
	if (n < 0 || hex_parse(text, root, KEY_BYTES) < 0)
		return cli_fail(voice, CLI_REFUSED, "root-pub",
				"%s is not a root's public key: expected 64 hexadecimal digits, as in the "
				"root.pub of 'loopbackctl root create'",
				path);
	return CLI_OK;
}

/* -- Commands. --------------------------------------------------------------------------------------------------- */

/* A credential in clear over a network would be anybody's; a local control plane (or a proxy beside it) needs no TLS. */
static int check_url(const struct cli_voice *voice, const char *url)
{
	static const char *const local[] = { "127.0.0.1", "localhost", "[::1]" };
	size_t n;

	if (strncmp(url, "https://", 8) == 0 && url[8])
		return CLI_OK;
	if (strncmp(url, "http://", 7) != 0 || !url[7])
		return cli_fail(voice, CLI_USAGE, "usage", "--url %s: expected https://HOST[:PORT]", url);
	for (size_t i = 0; i < ARRAY_SIZE(local); i++) {
		n = strlen(local[i]);
		if (strncmp(url + 7, local[i], n) == 0 && (url[7 + n] == ':' || url[7 + n] == '/' || !url[7 + n]))
			return CLI_OK;
	}
	return cli_fail(voice, CLI_USAGE, "usage", "--url %s would carry the credential in clear over a network: use https://",
			url);
}

/* Paths are kept absolute: a context works from every folder. */
static int set_path(const struct cli_voice *voice, json_t *entry, const char *key, const char *option, const char *path)
{
	_cleanup_free_ char *absolute = NULL;

	if (!path)
		return CLI_OK;
	absolute = realpath(path, NULL);
	if (!absolute)
		return cli_fail(voice, CLI_REFUSED, "file", "--%s %s: %s", option, path, strerror(errno));
	if (json_object_set_new(entry, key, json_string(absolute)) < 0)
		return cli_fail(voice, CLI_REFUSED, "memory", "out of memory, or %s is not UTF-8", absolute);
	return CLI_OK;
}

static int set_root(const struct cli_voice *voice, json_t *entry, const char *path)
{
	uint8_t root[KEY_BYTES];
	char hex[2 * KEY_BYTES + 1];
	int r;

	if (!path)
		return CLI_OK;
	r = root_public_read(voice, path, root);
	if (r)
		return r;
	if (json_object_set_new(entry, "root_public", json_string(hex_format(root, KEY_BYTES, hex))) < 0)
		return cli_fail(voice, CLI_REFUSED, "memory", "out of memory");
	return CLI_OK;
}

static int fill_entry(const struct cli_voice *voice, json_t *entry, const struct cli_args *args)
{
	const char *name = args->words[0];
	const char *url = cli_value(args, "url");
	char trimmed[1025];
	int r;

	if (url) {
		size_t n = strlen(url);

		while (n > 0 && url[n - 1] == '/')
			n--;
		if (n >= sizeof(trimmed))
			return cli_fail(voice, CLI_USAGE, "usage", "--url is longer than %zu bytes", sizeof(trimmed) - 1);
		(void)snprintf(trimmed, sizeof(trimmed), "%.*s", (int)n, url);
		r = check_url(voice, trimmed);
		if (r)
			return r;
		if (json_object_set_new(entry, "url", json_string(trimmed)) < 0)
			return cli_fail(voice, CLI_USAGE, "usage", "--url is not UTF-8");
	}
	r = set_path(voice, entry, "ca", "ca", cli_value(args, "ca"));
	if (!r)
		r = set_path(voice, entry, "credential_file", "credential-file", cli_value(args, "credential-file"));
	if (!r)
		r = set_root(voice, entry, cli_value(args, "root-pub"));
	if (r)
		return r;
	if (!json_object_get(entry, "url") || !json_object_get(entry, "credential_file"))
		return cli_fail(voice, CLI_USAGE, "usage", "context '%s' is new: it needs --url and --credential-file", name);
	return CLI_OK;
}

int context_set(struct cli *cli, const struct cli_args *args)
{
	const char *name = args->words[0];
	_cleanup_json_ json_t *entry = NULL;
	int r = config_load(cli);

	if (r)
		return r;
	entry = json_object_get(contexts_of(cli), name) ? json_deep_copy(json_object_get(contexts_of(cli), name)) : json_object();
	if (!entry)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	r = fill_entry(&cli->voice, entry, args);
	if (r)
		return r;
	if (file_is_open_to_others(json_string_value(json_object_get(entry, "credential_file"))))
		return cli_fail(&cli->voice, CLI_REFUSED, "file-mode", "%s can be read by others than its owner; chmod 600 it",
				json_string_value(json_object_get(entry, "credential_file")));
	if (json_object_set(contexts_of(cli), name, entry) < 0)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "the name of the context is not UTF-8");
	if (!json_string_value(json_object_get(cli->config, "current")))
		(void)json_object_set_new(cli->config, "current", json_string(name));
	r = config_save(cli);
	if (r)
		return r;
	if (!json_object_get(entry, "root_public"))
		cli_note(&cli->voice,
			 "Context '%s' has no root key yet, which 'token create' needs: "
			 "loopbackctl context set %s --root-pub FILE",
			 name, name);
	return context_show(cli, args);
}

int context_list(struct cli *cli, const struct cli_args *args)
{
	static const struct column columns[] = {
		{ "CURRENT", "current", AS_YES },
		{ "NAME", "name", AS_TEXT },
		{ "URL", "url", AS_TEXT },
		{ "ROOT", "root_public", AS_TEXT },
	};
	static const struct listing listing = { columns, ARRAY_SIZE(columns), NULL,
						"No contexts. loopbackctl context set --help" };
	_cleanup_json_ json_t *items = json_array();
	const char *name, *current;
	json_t *entry;
	int r = config_load(cli);

	(void)args;
	if (r)
		return r;
	current = current_name(cli);
	json_object_foreach(contexts_of(cli), name, entry) {
		json_t *row = json_copy(entry);

		if (json_object_set_new(row, "name", json_string(name)) < 0 ||
		    json_object_set_new(row, "current", json_boolean(current && strcmp(current, name) == 0)) < 0 ||
		    json_array_append_new(items, row) < 0)
			return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	}
	return print_list(cli, items, &listing);
}

static int show_entry(struct cli *cli, const char *name)
{
	static const struct column columns[] = {
		{ "Name", "name", AS_TEXT },
		{ "Current", "current", AS_YES },
		{ "URL", "url", AS_TEXT },
		{ "CA", "ca", AS_TEXT },
		{ "Credential file", "credential_file", AS_TEXT },
		{ "Root public key", "root_public", AS_TEXT },
	};
	static const struct listing listing = { .columns = columns, .count = ARRAY_SIZE(columns) };
	const char *current = json_string_value(json_object_get(cli->config, "current"));
	_cleanup_json_ json_t *row = json_copy(json_object_get(contexts_of(cli), name));

	if (!row || json_object_set_new(row, "name", json_string(name)) < 0 ||
	    json_object_set_new(row, "current", json_boolean(current && strcmp(current, name) == 0)) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	return print_object(cli, row, &listing);
}

/* The context named on the command line, or the one in use; reports a missing one. */
static int named_context(struct cli *cli, const struct cli_args *args, const char **name)
{
	int r = config_load(cli);

	if (r)
		return r;
	*name = args->count > 0 ? args->words[0] : current_name(cli);
	if (!*name)
		return cli_fail(&cli->voice, CLI_REFUSED, "no-context", "no context is set; see loopbackctl context set --help");
	if (!json_object_get(contexts_of(cli), *name))
		return cli_fail(&cli->voice, CLI_REFUSED, "no-context", "there is no context '%s'; see loopbackctl context list",
				*name);
	return CLI_OK;
}

int context_show(struct cli *cli, const struct cli_args *args)
{
	const char *name;
	int r = named_context(cli, args, &name);

	return r ? r : show_entry(cli, name);
}

int context_use(struct cli *cli, const struct cli_args *args)
{
	const char *name;
	int r = named_context(cli, args, &name);

	if (r)
		return r;
	if (json_object_set_new(cli->config, "current", json_string(name)) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	r = config_save(cli);
	return r ? r : show_entry(cli, name);
}

int context_delete(struct cli *cli, const struct cli_args *args)
{
	const char *name, *current;
	int r = named_context(cli, args, &name);

	if (r)
		return r;
	current = json_string_value(json_object_get(cli->config, "current"));
	if (current && strcmp(current, name) == 0)
		(void)json_object_set_new(cli->config, "current", json_null());
	(void)json_object_del(contexts_of(cli), name);
	r = config_save(cli);
	if (r == CLI_OK)
		cli_note(&cli->voice, "Context '%s' is deleted. The files that it named are still there.", name);
	return r;
}
