/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopback/support_secrets.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cli/common/file.h"
#include "libipc/pack.h"
#include "libjournal/keys.h"

#define ETC "/etc/loopback"
#define STATE "/var/lib/loopback"
#define FILE_BYTES_MAX 65536
#define KEY_BYTES_OF_FILE 32
#define LEFT_OUT "[left out]"

/* -- Writing and reading the list -------------------------------------------------------------------------------------------- */

static void tell_secret(const void *bytes, size_t n)
{
	uint32_t length = (uint32_t)n;

	if (n < SECRET_BYTES_MIN || n > SECRET_BYTES_MAX)
		return;
	(void)fwrite(&length, sizeof(length), 1, stdout);
	(void)fwrite(bytes, 1, n, stdout);
}

int secrets_parse(const char *bytes, size_t n, struct secrets *secrets)
{
	while (n > 0) {
		uint32_t length;
		int r;

		if (n < sizeof(length))
			return -EBADMSG;
		memcpy(&length, bytes, sizeof(length));
		bytes += sizeof(length);
		n -= sizeof(length);
		if (length > n)
			return -EBADMSG;
		r = secrets_add(secrets, bytes, length);
		if (r < 0)
			return r;
		bytes += length;
		n -= length;
	}
	return 0;
}

/* -- State folders ----------------------------------------------------------------------------------------------------------- */

/* libjournal/keys.h: the WireGuard key in force, and the next one while it is being replaced. */
static void wg_key_file(const char *path)
{
	static const size_t places[] = { WG_KEY_AT, WG_NEXT_KEY_AT };
	char bytes[256];
	ssize_t n = file_read(path, bytes, sizeof(bytes));

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (n >= (ssize_t)(places[i] + KEY_BYTES))
			tell_secret(bytes + places[i], KEY_BYTES);
	sodium_memzero(bytes, sizeof(bytes));
}

/* host.key, transport.key, online.key: the key is what the file ends with. */
static void key_file(const char *path)
{
	char bytes[256];
	ssize_t n = file_read(path, bytes, sizeof(bytes));

	if (n >= KEY_BYTES_OF_FILE)
		tell_secret(bytes + n - KEY_BYTES_OF_FILE, KEY_BYTES_OF_FILE);
	sodium_memzero(bytes, sizeof(bytes));
}

/* fetchd/state.h: [1, url, CA PEM, token, enrolled, host name] */
static void link_file(const char *path)
{
	static const struct pack_limits limits = { .bytes = FILE_BYTES_MAX, .depth = 1, .elements = 6 };
	_cleanup_reader_ struct pack_reader reader = { .ready = false };
	_cleanup_free_ char *bytes = calloc(1, FILE_BYTES_MAX);
	struct pack_cursor cursor;
	struct view token;
	ssize_t n = bytes ? file_read(path, bytes, FILE_BYTES_MAX) : -ENOMEM;

	if (n < 0 || pack_open(&reader, bytes, (size_t)n, &limits, &cursor) < 0)
		return;
	(void)pack_u64(&cursor, UINT8_MAX);
	(void)pack_text(&cursor, FILE_BYTES_MAX);
	(void)pack_text(&cursor, FILE_BYTES_MAX);
	token = pack_text(&cursor, FILE_BYTES_MAX);
	tell_secret(token.p, token.n);
	sodium_memzero(bytes, FILE_BYTES_MAX);
}

/* controld's first administrator's credential, ID.SECRET; the ID alone is none. */
static void credential_file(const char *path)
{
	char line[SECRET_BYTES_MAX];
	ssize_t n = file_read_line(path, line, sizeof(line));
	const char *dot = n > 0 ? strchr(line, '.') : NULL;

	if (dot)
		tell_secret(dot + 1, strlen(dot + 1));
	sodium_memzero(line, sizeof(line));
}

/* -- Environment files (systemd.exec(5), EnvironmentFile=) ------------------------------------------------------------------- */

/* Values that are shown, with NAME:PASSWORD@ of their URLs blanked by scrub_likely(); of *_OPTIONS those words that follow an
 * option of ours. */
static bool name_is_harmless(const char *name)
{
	static const char *const names[] = { "LOOPBACK_LOG_LEVEL", "no_proxy", "NO_PROXY" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), end_n = strlen(end);

	return n >= end_n && strcasecmp(name + n - end_n, end) == 0;
}

static bool option_is_ours(const char *word)
{
	static const char *const options[] = { "state",	    "cache",	    "netd",	   "admin",	"user",
					       "proxy",	    "no-proxy",	    "proxy-ca",	   "interface", "listen-port",
					       "backend",   "fetchd-user",  "launch-user", "listen",	"tls-cert",
					       "tls-key",   "behind-proxy", "url",	   "signd",	"peer-user",
					       "change-cap" };

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, options[i]) == 0)
			return true;
	return false;
}

/* NAME:PASSWORD of a URL: both as they stand, and as they are after decoding; whatever shows them shows one of these. */
static void url_secret(const char *url)
{
	const char *begin = strstr(url, "://"), *at, *colon;
	char decoded[SECRET_BYTES_MAX];
	size_t n = 0;

	begin = begin ? begin + 3 : url;
	at = strrchr(begin, '@');
	if (!at)
		return;
	for (const char *c = begin; c < at && n < sizeof(decoded); c++) {
		unsigned byte;

		if (*c == '%' && at - c > 2 && isxdigit((unsigned char)c[1]) && isxdigit((unsigned char)c[2]) &&
		    sscanf(c + 1, "%2x", &byte) == 1) {
			decoded[n++] = (char)byte;
			c += 2;
		} else {
			decoded[n++] = *c;
		}
	}
	tell_secret(begin, (size_t)(at - begin));
	tell_secret(decoded, n);
	colon = memchr(begin, ':', (size_t)(at - begin));
	if (colon)
		tell_secret(colon + 1, (size_t)(at - colon - 1));
	colon = memchr(decoded, ':', n);
	if (colon)
		tell_secret(colon + 1, n - (size_t)(colon + 1 - decoded));
	sodium_memzero(decoded, sizeof(decoded));
}

/* What becomes of a value: told as a secret, or shown. */
typedef void value_fn(const char *name, char *value);

static void options_show(char *value)
{
	bool follows = false;
	char *rest, *word;

	for (word = strtok_r(value, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
		bool ours = option_is_ours(word);

		(void)printf(" %s", ours || follows ? word : LEFT_OUT);
		follows = ours;
	}
	(void)printf("\n");
}

static void value_show(const char *name, char *value)
{
	(void)printf("%s=", name);
	if (ends_in(name, "_OPTIONS"))
		options_show(value);
	else
		(void)printf("%s\n", name_is_harmless(name) || ends_in(name, "_proxy") ? value : LEFT_OUT);
}

static void value_tell(const char *name, char *value)
{
	bool follows = false;
	char *rest, *word;

	if (name_is_harmless(name))
		return;
	if (!ends_in(name, "_OPTIONS")) {
		url_secret(value);
		if (!ends_in(name, "_proxy") && value[0] != '/')
			tell_secret(value, strlen(value));
		return;
	}
	for (word = strtok_r(value, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
		bool ours = option_is_ours(word);

		url_secret(word);
		if (!ours && !follows)
			tell_secret(word, strlen(word));
		follows = ours;
	}
}

/* The quotes around a value are not part of it. */
static char *unquoted(char *value)
{
	size_t n = strlen(value);

	if (n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n - 1] == value[0]) {
		value[n - 1] = '\0';
		return value + 1;
	}
	return value;
}

static void environment_file(const char *path, value_fn *each)
{
	_cleanup_free_ char *text = calloc(1, FILE_BYTES_MAX);
	ssize_t n = text ? file_read(path, text, FILE_BYTES_MAX) : -ENOMEM;
	char *rest, *line;

	if (n < 0) {
		(void)fprintf(stderr, "%s: %s\n", path, strerror((int)-n));
		return;
	}
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *equals, *end = line + strlen(line);

		line += strspn(line, " \t");
		equals = strchr(line, '=');
		if (*line == '#' || *line == ';' || !equals)
			continue; /* a comment can hold what was a setting yesterday */
		while (end > equals + 1 && isspace((unsigned char)end[-1]))
			*--end = '\0';
		*equals = '\0';
		each(line, unquoted(equals + 1 + strspn(equals + 1, " \t")));
	}
	sodium_memzero(text, FILE_BYTES_MAX);
}

static int environment_walk(value_fn *each, bool named)
{
	DIR *folder = opendir(ETC);
	struct dirent *entry;
	char path[sizeof(ETC) + 257];

	if (!folder) {
		(void)fprintf(stderr, ETC ": %s\n", strerror(errno));
		return 1;
	}
	while ((entry = readdir(folder))) {
		if (!ends_in(entry->d_name, ".env"))
			continue;
		(void)snprintf(path, sizeof(path), ETC "/%s", entry->d_name);
		if (named)
			(void)printf("-- %s: names of all, values of those that are known to be harmless\n", path);
		environment_file(path, each);
	}
	(void)closedir(folder);
	return 0;
}

int environment_files(void)
{
	return environment_walk(value_show, true);
}

int secrets_gather(void)
{
	/* stderr goes where stdout goes, and that is read by a program. */
	if (!freopen("/dev/null", "w", stderr))
		return 1;
	key_file(STATE "/netd/host.key");
	wg_key_file(STATE "/netd/wg.key");
	key_file(STATE "/fetchd/transport.key");
	key_file(STATE "/signd/online.key");
	link_file(STATE "/fetchd/link");
	credential_file(STATE "/controld/admin.credential");
	return environment_walk(value_tell, false);
}
