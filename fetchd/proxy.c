/* SPDX-License-Identifier: Apache-2.0 */
#include "fetchd/proxy.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "fetchd/state.h"
#include "libipc/log.h"

#define ENVIRONMENT_FILE "/etc/loopback/fetchd.env"
#define EXPECTED "expected http://HOST:PORT or https://HOST:PORT, with NAME:PASSWORD@ before HOST if the proxy wants them"

/* -- A URL ------------------------------------------------------------------------------------------------------------------- */

struct proxy_parts {
	CURLU *url;
	char *scheme, *host, *port, *user, *password, *path, *query, *fragment;
};

static void secret_free(char *text)
{
	if (text)
		sodium_memzero(text, strlen(text));
	free(text); /* curl_free() of its strings is the same: curl_global_init() got no other allocator */
}

static void proxy_parts_free(struct proxy_parts *parts)
{
	curl_free(parts->scheme);
	curl_free(parts->host);
	curl_free(parts->port);
	secret_free(parts->user);
	secret_free(parts->password);
	curl_free(parts->path);
	curl_free(parts->query);
	curl_free(parts->fragment);
	curl_url_cleanup(parts->url);
}

/* @return false: this is no URL, or it lacks what every one has */
static bool proxy_parts_of(const char *text, struct proxy_parts *parts)
{
	/* A bare HOST:PORT is what many write; without a scheme it would be looked at for one. */
	_cleanup_free_ char *whole = NULL;
	bool good;

	if (asprintf(&whole, "%s%s", strstr(text, "://") ? "" : "http://", text) < 0)
		return false;
	parts->url = curl_url();
	good = parts->url && curl_url_set(parts->url, CURLUPART_URL, whole, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK;
	sodium_memzero(whole, strlen(whole));
	if (!good)
		return false;
	(void)curl_url_get(parts->url, CURLUPART_SCHEME, &parts->scheme, 0);
	(void)curl_url_get(parts->url, CURLUPART_HOST, &parts->host, 0);
	(void)curl_url_get(parts->url, CURLUPART_PORT, &parts->port, 0);
	(void)curl_url_get(parts->url, CURLUPART_PATH, &parts->path, 0);
	(void)curl_url_get(parts->url, CURLUPART_QUERY, &parts->query, 0);
	(void)curl_url_get(parts->url, CURLUPART_FRAGMENT, &parts->fragment, 0);
	/* What decodes to control characters is an error here: it could end a header line. */
	if (curl_url_get(parts->url, CURLUPART_USER, &parts->user, CURLU_URLDECODE) == CURLUE_URLDECODE ||
	    curl_url_get(parts->url, CURLUPART_PASSWORD, &parts->password, CURLU_URLDECODE) == CURLUE_URLDECODE)
		return false;
	return parts->scheme && parts->host && parts->path;
}

static int proxy_refuse(struct proxy *proxy, const char *set_by, const char *why)
{
	proxy->url[0] = '\0';
	(void)snprintf(proxy->error, sizeof(proxy->error),
		       "the proxy setting %s cannot be used: %s. Requests wait until it is mended in " ENVIRONMENT_FILE
		       " and loopback-fetchd restarted",
		       set_by, why);
	return -EINVAL;
}

/*
 * Basic authentication (RFC 7617), which ends the name at its first colon. The line is made here because libcurl decodes percent
 * signs of a password once more than it should.
 */
static int authorization_make(const char *user, const char *password, struct curl_slist **out)
{
	char pair[2 * PROXY_CREDENTIAL_BYTES_MAX + 2],
		line[32 + sodium_base64_ENCODED_LEN(sizeof(pair), sodium_base64_VARIANT_ORIGINAL)];
	int at;

	if (strlen(user) > PROXY_CREDENTIAL_BYTES_MAX || strlen(password) > PROXY_CREDENTIAL_BYTES_MAX || strchr(user, ':'))
		return -EINVAL;
	(void)snprintf(pair, sizeof(pair), "%s:%s", user, password);
	at = snprintf(line, sizeof(line), "Proxy-Authorization: Basic ");
	(void)sodium_bin2base64(line + at, sizeof(line) - (size_t)at, (uint8_t *)pair, strlen(pair),
				sodium_base64_VARIANT_ORIGINAL);
	*out = curl_slist_append(NULL, line);
	sodium_memzero(pair, sizeof(pair));
	sodium_memzero(line, sizeof(line));
	return *out ? 0 : -ENOMEM;
}

int proxy_parse(struct proxy *proxy, const char *text, const char *set_by)
{
	CLEANUP(proxy_parts_free) struct proxy_parts parts = { 0 };
	char clean[PROXY_SHOWN_BYTES - 40];
	const char *port;

	if (strlen(text) > PROXY_URL_BYTES_MAX || !proxy_parts_of(text, &parts))
		return proxy_refuse(proxy, set_by, "it is not a URL; " EXPECTED);
	if (strcmp(parts.scheme, "http") != 0 && strcmp(parts.scheme, "https") != 0)
		return proxy_refuse(proxy, set_by, "proxies of its kind are not supported; " EXPECTED);
	if (strcmp(parts.path, "/") != 0 || parts.query || parts.fragment)
		return proxy_refuse(proxy, set_by, "something follows HOST:PORT; " EXPECTED);
	if ((parts.user || parts.password) &&
	    authorization_make(parts.user ? parts.user : "", parts.password ? parts.password : "", &proxy->authorization) < 0)
		return proxy_refuse(proxy, set_by, "its name or password is too long, or the name holds a colon");
	port = parts.port ? parts.port : strcmp(parts.scheme, "https") == 0 ? "443" : "3128";
	(void)snprintf(proxy->url, sizeof(proxy->url), "%s://%s:%s", parts.scheme, parts.host, port);
	(void)log_clean(clean, sizeof(clean), proxy->url, strlen(proxy->url));
	(void)snprintf(proxy->shown, sizeof(proxy->shown), "%s (%.30s)", clean, set_by);
	return 0;
}

/* -- Where the settings come from -------------------------------------------------------------------------------------------- */

/* Take a variable's value and leave nothing of it where /proc/PID/environ looks. @return owned by the caller; NULL: not set, or
 * empty */
static char *variable_take(const char *name)
{
	char *value = getenv(name);
	char *copy = value && *value ? strdup(value) : NULL;

	if (value)
		sodium_memzero(value, strlen(value));
	(void)unsetenv(name);
	return copy;
}

/* Of several, all are removed and the first that is set counts. @param which receives its name */
static char *first_taken(const char *const *names, const char **which)
{
	char *first = NULL;

	for (; *names; names++) {
		char *value = variable_take(*names);

		if (!value)
			continue;
		if (!first) {
			first = value;
			*which = *names;
			continue;
		}
		secret_free(value);
	}
	return first;
}

static void ca_read(struct proxy *proxy, const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ char *pem = calloc(1, CA_BYTES_MAX + 1);
	char why[160];

	if (!file || !pem) {
		(void)snprintf(why, sizeof(why), "cannot read %.60s (%s); it must be below /etc and readable by fetchd", path,
			       strerror(errno));
		(void)proxy_refuse(proxy, "--proxy-ca", why);
		return;
	}
	if (fread(pem, 1, CA_BYTES_MAX + 1, file) > CA_BYTES_MAX)
		(void)proxy_refuse(proxy, "--proxy-ca", "the file is longer than 50,000 bytes");
	else if (!strstr(pem, "-----BEGIN CERTIFICATE-----"))
		(void)proxy_refuse(proxy, "--proxy-ca",
				   "the file holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)");
	else
		proxy->ca = TAKE_PTR(pem);
}

/* A password in a file that fetchd's user can read, without being given it, can be read by every user. */
static void warn_of_an_open_file(void)
{
	_cleanup_close_ int fd = open(ENVIRONMENT_FILE, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		log_warning("%s holds the proxy's password and can be read by others than root: chmod 600 %s", ENVIRONMENT_FILE,
			    ENVIRONMENT_FILE);
}

static void proxy_tell(const struct proxy *proxy)
{
	char clean[200];

	if (proxy->error[0])
		log_error("%s", proxy->error);
	else if (proxy->url[0])
		log_info("the control plane is reached through the proxy %s, %s a password%s%s", proxy->shown,
			 proxy->authorization ? "with" : "without", proxy->except[0] ? ", but for " : "",
			 log_clean(clean, sizeof(clean), proxy->except, strlen(proxy->except)));
	if (proxy->authorization)
		warn_of_an_open_file();
}

static void url_find(const struct proxy_options *options, struct proxy *proxy)
{
	static const char *const variables[] = { "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL };
	static const char *const unused[] = { "http_proxy", "HTTP_PROXY", NULL }; /* plain HTTP never leaves this host */
	const char *which = NULL;
	char *value = first_taken(variables, &which);
	char *other = first_taken(unused, &(const char *){ NULL });

	secret_free(other);

	if (options->proxy && strcmp(options->proxy, "none") != 0) {
		/* Every user reads the command line of every process. */
		if (strchr(options->proxy, '@'))
			(void)proxy_refuse(proxy, "--proxy",
					   "a name or a password does not belong on a command line; give them in https_proxy");
		else
			(void)proxy_parse(proxy, options->proxy, "--proxy");
	} else if (!options->proxy && value) {
		(void)proxy_parse(proxy, value, which);
	}
	secret_free(value);
}

static void except_find(const struct proxy_options *options, struct proxy *proxy)
{
	static const char *const variables[] = { "no_proxy", "NO_PROXY", NULL };
	const char *which = "--no-proxy";
	_cleanup_free_ char *value = first_taken(variables, &which);
	const char *list = options->no_proxy ? options->no_proxy : value ? value : "";

	if (strlen(list) > PROXY_EXCEPT_BYTES_MAX)
		(void)proxy_refuse(proxy, options->no_proxy ? "--no-proxy" : which, "it is longer than 4,096 bytes");
	else
		(void)snprintf(proxy->except, sizeof(proxy->except), "%s", list);
}

void proxy_open(const struct proxy_options *options, struct proxy *proxy)
{
	url_find(options, proxy);
	except_find(options, proxy);
	if (!proxy->error[0] && options->ca_file)
		ca_read(proxy, options->ca_file);
	proxy_tell(proxy);
}

void proxy_close(struct proxy *proxy)
{
	if (proxy->authorization)
		sodium_memzero(proxy->authorization->data, strlen(proxy->authorization->data));
	curl_slist_free_all(proxy->authorization);
	proxy->authorization = NULL;
	free(proxy->ca);
	proxy->ca = NULL;
}
