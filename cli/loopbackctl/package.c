/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/loopbackctl/package.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/table.h"

#define FILE_MAX 200

int package_list(struct cli *cli, const struct cli_args *args)
{
	static const struct column columns[] = {
		{ "FILE", "id", AS_TEXT },
		{ "VERSION", "version", AS_TEXT },
		{ "ARCHITECTURE", "architecture", AS_TEXT },
		{ "BYTES", "bytes", AS_NUMBER },
		{ "ADDED", "added", AS_TIME },
	};
	static const struct listing listing = { columns, ARRAY_SIZE(columns), NULL,
						"No packages. On the control plane: controld package add FILE" };
	_cleanup_json_ json_t *items = NULL;
	int r = api_list(cli, "/v1/packages", &items);

	(void)args;
	return r ? r : print_list(cli, items, &listing);
}

static bool is_package_name(const char *file)
{
	size_t n = file ? strlen(file) : 0;

	return n > 4 && n <= FILE_MAX && file[0] != '.' && file[0] != '-' &&
	       strspn(file, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~_-") == n &&
	       (strcmp(file + n - 4, ".deb") == 0 || strcmp(file + n - 4, ".rpm") == 0);
}

int package_read(struct cli *cli, const json_t *item, struct package *package)
{
	const char *file = json_string_value(json_object_get(item, "id"));
	const char *sha512 = json_string_value(json_object_get(item, "sha512"));
	json_int_t bytes = json_integer_value(json_object_get(item, "bytes"));
	char clean[80];

	if (!is_package_name(file))
		return cli_fail(&cli->voice, CLI_REFUSED, "answer",
				"the control plane lists a package '%s', which is no file name for one; nothing of it is fetched",
				file ? cli_clean(clean, sizeof(clean), file, strlen(file)) : "");
	if (!sha512 || strlen(sha512) != SHA512_TEXT - 1 || strspn(sha512, "0123456789abcdef") != SHA512_TEXT - 1 || bytes < 1 ||
	    (unsigned long long)bytes > PACKAGE_BYTES_MAX)
		return cli_fail(&cli->voice, CLI_REFUSED, "answer",
				"the control plane lists %s without a SHA-512 and a size that could be", file);
	*package = (struct package){ .file = file, .sha512 = sha512, .bytes = (uint64_t)bytes };
	return CLI_OK;
}

int file_sha512(int fd, char out[static SHA512_TEXT])
{
	uint8_t digest[crypto_hash_sha512_BYTES], buffer[64 * 1024];
	crypto_hash_sha512_state state;
	off_t at = 0;
	ssize_t n;

	(void)crypto_hash_sha512_init(&state);
	while ((n = pread(fd, buffer, sizeof(buffer), at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		(void)crypto_hash_sha512_update(&state, buffer, (size_t)n);
		at += n;
	}
	(void)crypto_hash_sha512_final(&state, digest);
	(void)hex_format(digest, sizeof(digest), out);
	return 0;
}
