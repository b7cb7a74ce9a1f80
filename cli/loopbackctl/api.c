/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/api.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "cli/common/file.h"
#include "cli/loopbackctl/context.h"

#define ANSWER_BYTES_MAX (256u * 1024 * 1024)
#define CONNECT_TIMEOUT_MS 10000L
#define CALL_TIMEOUT_MS 120000L
#define PAGE_ITEMS "1000"
#define CREDENTIAL_BYTES_MAX 256

struct api {
	CURL *curl;
	char url[1025];
	char error[CURL_ERROR_SIZE];
	char authorization[CREDENTIAL_BYTES_MAX + 32];
};

struct answer {
	char *bytes;
	size_t n;
	bool too_long;
};

void api_free(struct api *api)
{
	if (!api)
		return;
	curl_easy_cleanup(api->curl);
	sodium_memzero(api, sizeof(*api));
	free(api);
	curl_global_cleanup();
}

/* -- Paths. ------------------------------------------------------------------------------------------------------ */

static bool append(char out[static API_PATH_MAX], const char *text, bool encode)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	size_t n = strlen(out);

	for (; *text; text++) {
		bool as_is = !encode || strchr(plain, *text);

		if (n + 4 > API_PATH_MAX)
			return false;
		n += (size_t)snprintf(out + n, API_PATH_MAX - n, as_is ? "%c" : "%%%02X", (unsigned char)*text);
	}
	return true;
}

/* Names are DNS labels and ids hexadecimal digits: nothing else is worth asking for, and a '/' would ask for something else. */
static bool is_word(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZ");

	return n > 0 && n <= NAME_BYTES_MAX && !text[n];
}

int api_path(struct cli *cli, char out[static API_PATH_MAX], ...)
{
	const char *segment;
	int r = CLI_OK;
	va_list args;

	(void)snprintf(out, API_PATH_MAX, "/v1");
	va_start(args, out);
	while (!r && (segment = va_arg(args, const char *))) {
		if (!is_word(segment))
			r = cli_fail(&cli->voice, CLI_USAGE, "usage",
				     "'%s' is neither a name (1 to %d of a-z, 0-9 and '-') nor an id", segment, NAME_BYTES_MAX);
		else if (!append(out, "/", false) || !append(out, segment, false))
			r = cli_fail(&cli->voice, CLI_USAGE, "usage", "that path is too long");
	}
	va_end(args);
	return r;
}

int api_query(struct cli *cli, char path[static API_PATH_MAX], const char *key, const char *value)
{
	if (!value)
		return CLI_OK;
	if (append(path, strchr(path, '?') ? "&" : "?", false) && append(path, key, false) && append(path, "=", false) &&
	    append(path, value, true))
		return CLI_OK;
	return cli_fail(&cli->voice, CLI_USAGE, "usage", "the value of --%s is too long", key);
}

/* -- The connection. --------------------------------------------------------------------------------------------- */

static size_t take_bytes(char *bytes, size_t size, size_t count, void *arg)
{
	struct answer *answer = arg;
	size_t n = size * count;
	char *grown;

	if (answer->n + n > ANSWER_BYTES_MAX) {
		answer->too_long = true;
		return 0;
	}
	grown = realloc(answer->bytes, answer->n + n + 1);
	if (!grown)
		return 0;
	answer->bytes = grown;
	memcpy(answer->bytes + answer->n, bytes, n);
	answer->n += n;
	return n;
}

static int read_credential(const struct cli_voice *voice, const struct context *context, struct api *api)
{
	char credential[CREDENTIAL_BYTES_MAX];
	ssize_t n;

	if (file_is_open_to_others(context->credential_file))
		return cli_fail(voice, CLI_REFUSED, "file-mode",
				"%s can be read by others than its owner, so it is not used; chmod 600 it",
				context->credential_file);
	n = file_read_line(context->credential_file, credential, sizeof(credential));
	if (n == -EBADMSG || n == -EMSGSIZE)
		return cli_fail(voice, CLI_REFUSED, "credential", "%s is not a credential: expected one line, ID.SECRET",
				context->credential_file);
	if (n < 0)
		return cli_fail(voice, CLI_REFUSED, "credential", "cannot read the credential %s: %s", context->credential_file,
				strerror((int)-n));
	(void)snprintf(api->authorization, sizeof(api->authorization), "Authorization: Bearer %s", credential);
	sodium_memzero(credential, sizeof(credential));
	return CLI_OK;
}

static int configure(struct api *api, const char *ca)
{
	CURL *curl = api->curl;
	CURLcode c = curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, api->error);

	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https,http");
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, CALL_TIMEOUT_MS);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_USERAGENT, "loopbackctl/" LOOPBACK_VERSION);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
	if (c == CURLE_OK && ca)
		c = curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
	return c == CURLE_OK ? 0 : -EINVAL;
}

static int api_open(struct cli *cli)
{
	struct context context;
	struct api *api;
	int r;

	if (cli->api)
		return CLI_OK;
	r = context_get(cli, &context);
	if (r)
		return r;
	api = calloc(1, sizeof(*api));
	if (!api)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(api);
		return cli_fail(&cli->voice, CLI_REFUSED, "curl", "libcurl does not start");
	}
	cli->api = api; /* freed with the program's context from here on */
	(void)snprintf(api->url, sizeof(api->url), "%s", context.url);
	api->curl = curl_easy_init();
	if (!api->curl || configure(api, context.ca) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "curl",
				"libcurl refuses its settings; a CA file that it cannot use? %s", context.ca ? context.ca : "");
	return read_credential(&cli->voice, &context, api);
}

/* -- One call. --------------------------------------------------------------------------------------------------- */

static bool add_header(struct curl_slist **headers, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*headers, line);

	if (longer)
		*headers = longer;
	return longer != NULL;
}

static void headers_free(struct curl_slist *headers)
{
	for (struct curl_slist *at = headers; at; at = at->next)
		sodium_memzero(at->data, strlen(at->data)); /* the credential is one of them */
	curl_slist_free_all(headers);
}
DEFINE_CLEANUP(struct curl_slist *, headers_free)

/* The same key in a repeated POST lets the control plane see that it is one and the same wish. */
static bool make_headers(const struct api *api, bool with_key, struct curl_slist **headers)
{
	uint8_t random[16];
	char key[2 * sizeof(random) + 1];
	char line[64];

	randombytes_buf(random, sizeof(random));
	(void)snprintf(line, sizeof(line), "Idempotency-Key: %s", hex_format(random, sizeof(random), key));
	return add_header(headers, api->authorization) && add_header(headers, "Content-Type: application/json") &&
	       add_header(headers, "Accept: application/json") && add_header(headers, "Expect:") &&
	       (!with_key || add_header(headers, line));
}

static CURLcode perform(struct api *api, const char *method, const char *url, const char *body, struct curl_slist *headers,
			struct answer *answer)
{
	CURLcode c = curl_easy_setopt(api->curl, CURLOPT_URL, url);

	if (c == CURLE_OK)
		c = curl_easy_setopt(api->curl, CURLOPT_HTTPHEADER, headers);
	if (c == CURLE_OK)
		c = curl_easy_setopt(api->curl, CURLOPT_WRITEDATA, answer);
	if (c == CURLE_OK && body)
		c = curl_easy_setopt(api->curl, CURLOPT_POSTFIELDS, body);
	else if (c == CURLE_OK)
		c = curl_easy_setopt(api->curl, CURLOPT_HTTPGET, 1L);
	if (c == CURLE_OK)
		c = curl_easy_setopt(api->curl, CURLOPT_CUSTOMREQUEST, method);
	api->error[0] = '\0';
	return c == CURLE_OK ? curl_easy_perform(api->curl) : c;
}

/* Did the connection break where one more try does no harm? A POST is known again by its Idempotency-Key; a second DELETE would
 * find nothing. */
static bool answer_lost(CURLcode c, const char *method)
{
	return strcmp(method, "DELETE") != 0 &&
	       (c == CURLE_GOT_NOTHING || c == CURLE_RECV_ERROR || c == CURLE_SEND_ERROR || c == CURLE_PARTIAL_FILE);
}

static int unreachable(struct cli *cli, CURLcode c, const struct answer *answer)
{
	const struct api *api = cli->api;
	const char *why = api->error[0] ? api->error : curl_easy_strerror(c);

	if (answer->too_long)
		return cli_fail(&cli->voice, CLI_REFUSED, "answer", "%s sent more than %u MiB; gave up", api->url,
				ANSWER_BYTES_MAX >> 20);
	if (c == CURLE_PEER_FAILED_VERIFICATION)
		return cli_fail(&cli->voice, CLI_UNREACHABLE, "certificate",
				"%s shows a certificate that is not believed: %s. If it is of a "
				"private CA: loopbackctl context set NAME --ca FILE",
				api->url, why);
	return cli_fail(&cli->voice, CLI_UNREACHABLE, "unreachable", "cannot reach the control plane at %s: %s", api->url, why);
}

/* A 4xx or 5xx: in the control plane's own words (RFC 9457), for a person its detail, with --json the object itself. */
static int refused(struct cli *cli, long status, const char *method, const char *path, const json_t *problem)
{
	const char *detail = json_string_value(json_object_get(problem, "detail"));
	const char *title = json_string_value(json_object_get(problem, "title"));

	if (!detail && !title)
		return cli_fail(&cli->voice, CLI_REFUSED, "http",
				"%s answered HTTP %ld to %s %s without saying why; is this a control plane?", cli->api->url,
				status, method, path);
	if (cli->voice.json && !cli->voice.mute) {
		(void)fflush(stdout);
		(void)json_dumpf(problem, stderr, JSON_INDENT(2));
		(void)fputc('\n', stderr);
		return CLI_REFUSED;
	}
	return cli_fail(&cli->voice, CLI_REFUSED, "refused", "%s", detail ? detail : title);
}

static int judge(struct cli *cli, const char *method, const char *path, const struct answer *raw, json_t **answer)
{
	_cleanup_json_ json_t *value = raw->n > 0 ? json_loadb(raw->bytes, raw->n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	long status = 0;

	(void)curl_easy_getinfo(cli->api->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200 || status > 299)
		return refused(cli, status, method, path, value);
	if (raw->n > 0 && !value)
		return cli_fail(&cli->voice, CLI_REFUSED, "answer",
				"%s answered %s %s with something that is not JSON; is this a control plane?", cli->api->url,
				method, path);
	if (answer)
		*answer = TAKE_PTR(value);
	return CLI_OK;
}

int api_call(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **answer)
{
	_cleanup_(headers_free) struct curl_slist *headers = NULL;
	_cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	bool post = strcmp(method, "POST") == 0;
	char url[API_PATH_MAX + 1025];
	struct answer raw = { .n = 0 };
	CURLcode c;
	int r = api_open(cli);

	if (r)
		return r;
	if ((body && !text) || !make_headers(cli->api, post, &headers))
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	(void)snprintf(url, sizeof(url), "%s%s", cli->api->url, path);
	/* a POST without a body is one of zero bytes, not one that waits for its body */
	c = perform(cli->api, method, url, text ? text : post ? "" : NULL, headers, &raw);
	if (answer_lost(c, method)) {
		raw.n = 0;
		c = perform(cli->api, method, url, text ? text : post ? "" : NULL, headers, &raw);
	}
	r = c == CURLE_OK ? judge(cli, method, path, &raw, answer) : unreachable(cli, c, &raw);
	if (raw.bytes)
		sodium_memzero(raw.bytes, raw.n); /* may hold a new token */
	free(raw.bytes);
	return r;
}

int api_list(struct cli *cli, const char *path, json_t **items)
{
	_cleanup_json_ json_t *all = json_array();
	_cleanup_free_ char *after = NULL;

	if (!all)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	for (;;) {
		_cleanup_json_ json_t *page = NULL;
		char url[API_PATH_MAX];
		const char *next;
		int r;

		(void)snprintf(url, sizeof(url), "%s", path);
		r = api_query(cli, url, "limit", PAGE_ITEMS);
		if (!r)
			r = api_query(cli, url, "after", after);
		if (!r)
			r = api_call(cli, "GET", url, NULL, &page);
		if (r)
			return r;
		if (!json_is_array(json_object_get(page, "items")))
			return cli_fail(&cli->voice, CLI_REFUSED, "answer",
					"%s: expected {\"items\": [...]}, found something else", path);
		if (json_array_extend(all, json_object_get(page, "items")) < 0)
			return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
		next = json_string_value(json_object_get(page, "next"));
		/* a cursor that stands still would never end */
		if (!next || (after && strcmp(next, after) == 0))
			break;
		free(after);
		after = strdup(next);
		if (!after)
			return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	}
	*items = TAKE_PTR(all);
	return CLI_OK;
}

/* -- Files. ------------------------------------------------------------------------------------------------------ */

struct download {
	int fd;
	uint64_t room;
	int error; /* of the disk, or -E2BIG */
};

static size_t take_to_file(char *bytes, size_t size, size_t count, void *arg)
{
	struct download *download = arg;
	size_t n = size * count, at = 0;

	if (n > download->room) {
		download->error = -E2BIG;
		return 0;
	}
	while (at < n) {
		ssize_t put = write(download->fd, bytes + at, n - at);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0) {
			download->error = -errno;
			return 0;
		}
		at += (size_t)put;
	}
	download->room -= n;
	return n;
}

/* For as long as it takes, if only something comes. */
static CURLcode configure_download(CURL *curl, const char *url, struct download *download, const char *range)
{
	CURLcode c = curl_easy_setopt(curl, CURLOPT_URL, url);

	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_to_file);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_WRITEDATA, download);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, NULL);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_HTTPHEADER, NULL);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_RANGE, range);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 0L);
	if (c == CURLE_OK)
		c = curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
	return c == CURLE_OK ? curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L) : c;
}

int api_download(struct cli *cli, const char *path, int fd, uint64_t offset, uint64_t limit)
{
	struct download download = { .fd = fd, .room = limit };
	const struct answer none = { .n = 0 };
	char url[API_PATH_MAX + 1025], range[32];
	long status = 0;
	CURL *curl;
	CURLcode c;
	int r = api_open(cli);

	if (r)
		return r;
	curl = curl_easy_duphandle(cli->api->curl);
	if (!curl)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	(void)snprintf(url, sizeof(url), "%s%s", cli->api->url, path);
	(void)snprintf(range, sizeof(range), "%llu-", (unsigned long long)offset);
	cli->api->error[0] = '\0';
	c = configure_download(curl, url, &download, offset ? range : NULL);
	if (c == CURLE_OK)
		c = curl_easy_perform(curl);
	(void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	if (download.error)
		return cli_fail(&cli->voice, CLI_REFUSED, "download", "%s: %s", path,
				download.error == -E2BIG ? "longer than it should be; gave up" : strerror(-download.error));
	if (c == CURLE_HTTP_RETURNED_ERROR)
		return cli_fail(&cli->voice, CLI_REFUSED, "http", "%s answered HTTP %ld to GET %s", cli->api->url, status, path);
	return c == CURLE_OK ? CLI_OK : unreachable(cli, c, &none);
}
