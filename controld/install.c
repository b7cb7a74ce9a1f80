/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The install script (docs/design/agent-api.md): packaging/install/install.sh.in with its @WORDS@ filled in. It holds no secret, so anybody may
 * fetch it; whoever does so through a pipe into a shell gets, when something is wrong, a script that says so and ends.
 *
 * Each value that is filled in is made of characters that mean nothing to a shell, not even within quotes. Nothing of the request is among them
 * but its Host header, where no --url was given, and that only if it is a host name or an address.
 */
#include <errno.h>
#include <string.h>

#include "controld/agent.h"
#include "controld/call.h"
#include "controld/packages.h"
#include "libipc/log.h"

#define URL_MAX 512
#define HOST_MAX 255

/* The template is part of the program: the sandbox has no place to read it from. */
extern const char install_template[], install_template_end[];
__asm__(".section .rodata\n"
	".global install_template, install_template_end\n"
	"install_template: .incbin \"packaging/install/install.sh.in\"\n"
	"install_template_end: .byte 0\n"
	".previous\n");

struct filling {
	char deployment[ID_TEXT], root[2 * KEY_BYTES + 1], url[URL_MAX];
	char *packages; /* owned */
};

bool install_url_valid(const char *url)
{
	const char *rest = strncmp(url, "https://", 8) == 0 ? url + 8 : strncmp(url, "http://", 7) == 0 ? url + 7 : "";
	size_t n = strlen(rest);

	return n > 0 && strlen(url) < URL_MAX && rest[n - 1] != '/' &&
	       strspn(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_~:/[]") == n;
}

/* Where the host that asks reaches us: what the administrator said, else what it called us. */
static int url_choose(struct agent_call *call, char url[static URL_MAX])
{
	const struct controld *controld = call->controld;
	const char *host = request_header(call->request, "Host");

	if (controld->url) {
		(void)snprintf(url, URL_MAX, "%s", controld->url);
		return 0;
	}
	if (host && strlen(host) <= HOST_MAX && !strpbrk(host, "/~_")) {
		(void)snprintf(url, URL_MAX, "%s://%s", controld->tls || controld->behind_proxy ? "https" : "http", host);
		if (install_url_valid(url))
			return 0;
	}
	return problem_set(&call->problem, 400, "malformed", "The Host header is no host name.");
}

/* One line a format and architecture: the package that was added last, or the one of the version that was asked for. */
static int packages_write(struct agent_call *call, FILE *out, unsigned *count)
{
	_cleanup_rows_ struct rows rows = { 0 };
	const char *architecture = request_argument(call->request, "arch");
	const char *version = request_argument(call->request, "version");
	char last[64] = "", kind[64];
	int r = store_query(call->controld->store, &rows,
			    "SELECT format, architecture, version, bytes, sha512, file FROM packages WHERE name = $1"
			    " AND ($2 = '' OR architecture = $2) AND ($3 = '' OR version = $3)"
			    " ORDER BY format, architecture, added DESC, file DESC",
			    "ttt", AGENT_PACKAGE, architecture ? architecture : "", version ? version : "");

	while (r == 0 && (r = rows_next(&rows)) > 0) {
		r = 0;
		(void)snprintf(kind, sizeof(kind), "%s %s", row_text(&rows, 0), row_text(&rows, 1));
		if (strcmp(kind, last) == 0)
			continue;
		memcpy(last, kind, sizeof(last));
		(*count)++;
		if (fprintf(out, "%s %s %lld %s %s\n", kind, row_text(&rows, 2), (long long)row_i64(&rows, 3), row_text(&rows, 4),
			    row_text(&rows, 5)) < 0)
			return -ENOMEM;
	}
	return r;
}

static int packages_collect(struct agent_call *call, char **text)
{
	unsigned count = 0;
	size_t n = 0;
	FILE *out = open_memstream(text, &n);
	int r = out ? packages_write(call, out, &count) : -ENOMEM;

	if (out && fclose(out) == EOF)
		r = -ENOMEM;
	if (r == 0 && count == 0)
		r = problem_set(&call->problem, 404, "no-package",
				"The control plane has no agent package that fits. An administrator adds one there: controld package add.");
	return r;
}

static int arguments_check(struct agent_call *call)
{
	static const char *const names[] = { "arch", "version", NULL };
	const char *architecture = request_argument(call->request, "arch");
	const char *version = request_argument(call->request, "version");

	if (!request_arguments_are(call->request, names))
		return problem_set(&call->problem, 400, "malformed", "The query may have arch and version, once each, and nothing else.");
	if (architecture && !package_architecture_valid(architecture))
		return problem_set(&call->problem, 400, "malformed", "arch: expected an architecture such as amd64.");
	if (version && !package_version_valid(version))
		return problem_set(&call->problem, 400, "malformed", "version: expected a version such as 0.1.0.");
	return 0;
}

static const char *word_value(const struct filling *filling, const char *word, size_t n)
{
	const struct {
		const char *word, *value;
	} words[] = { { "@DEPLOYMENT@", filling->deployment },
		      { "@ROOT@", filling->root },
		      { "@URL@", filling->url },
		      { "@PACKAGES@", filling->packages } };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strlen(words[i].word) == n && memcmp(words[i].word, word, n) == 0)
			return words[i].value;
	return NULL;
}

static int template_fill(const struct filling *filling, FILE *out)
{
	const char *at = install_template;

	while (at < install_template_end) {
		size_t word = *at == '@' ? 1 + strspn(at + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") : 0;
		const char *value = word > 1 && at[word] == '@' ? word_value(filling, at, word + 1) : NULL;

		if (value ? fputs(value, out) == EOF : fputc(*at, out) == EOF)
			return -ENOMEM;
		at += value ? word + 1 : 1;
	}
	return 0;
}

static int script_write(const struct filling *filling, char **script, size_t *n)
{
	FILE *out = open_memstream(script, n);
	int r = out ? template_fill(filling, out) : -ENOMEM;

	if (out && fclose(out) == EOF)
		r = -ENOMEM;
	return r;
}

static int install_script(struct agent_call *call)
{
	struct filling filling = { .packages = NULL };
	char *script = NULL;
	size_t n = 0;
	int r = arguments_check(call);

	if (r == 0)
		r = url_choose(call, filling.url);
	if (r == 0)
		r = packages_collect(call, &filling.packages);
	(void)id_format(&call->controld->keyset.header.deployment, filling.deployment);
	(void)hex_format(call->controld->keyset.root, KEY_BYTES, filling.root);
	if (r == 0)
		r = script_write(&filling, &script, &n);
	free(filling.packages);
	if (r < 0) {
		free(script);
		return r;
	}
	request_answer(call->request, 200, "text/x-shellscript; charset=utf-8", script, n);
	return 0;
}

/* problem->detail is one of our own sentences here: no quote, no dollar, nothing of the request. */
static void refuse_as_script(struct request *request, const struct problem *problem)
{
	char *text = NULL;
	int n = asprintf(&text, "# HTTP %u %s\nprintf '%%s\\n' 'loopback: %s' >&2\nexit 1\n", problem->status, problem->code, problem->detail);

	request_answer(request, problem->status, "text/x-shellscript; charset=utf-8", n < 0 ? NULL : text, n < 0 ? 0 : (size_t)n);
}

int agent_install(struct agent_call *call)
{
	int r = install_script(call);

	if (r >= 0)
		return 0;
	problem_of(&call->problem, r);
	refuse_as_script(call->request, &call->problem);
	return 0;
}
