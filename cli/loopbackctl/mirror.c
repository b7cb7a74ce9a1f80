/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder from which hosts without a way to the control plane install: on a disk that is carried there, or behind any web server.
 *
 * The folder is ours from the first byte on (.loopback-mirror); files get their names once they are whole and verified; what was fetched in part
 * is continued. SHA512SUMS is written last.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/context.h"
#include "cli/loopbackctl/package.h"
#include "cli/loopbackctl/table.h"

#define MARK ".loopback-mirror"
#define SCRIPT_BYTES_MAX (256 * 1024)
#define PACKAGES_MAX 10000

static const char readme[] =
	"What hosts install to join the loopback fleet of this deployment. Made by `loopbackctl mirror export`, which can be run again at any time.\n"
	"\n"
	"Is everything here as it was exported?\n"
	"\n"
	"    sha512sum -c SHA512SUMS\n"
	"\n"
	"On a host, as root, with this folder and no network:\n"
	"\n"
	"    LOOPBACK_TOKEN_FILE=/root/token sh install.sh --offline .\n"
	"\n"
	"On a host that reaches this folder through a web server:\n"
	"\n"
	"    LOOPBACK_MIRROR=http://MIRROR/FOLDER LOOPBACK_TOKEN_FILE=/root/token sh install.sh\n"
	"\n"
	"install.sh is short; read it first. What the agent itself depends on comes from the distribution.\n";

struct mirror {
	struct cli *cli;
	const char *path;
	int fd;
	struct context context;
	json_t *items; /* owned */
	FILE *sums;    /* owned; text of SHA512SUMS so far */
	json_int_t fetched;
};

static int fail(const struct mirror *mirror, const char *file, int error)
{
	return cli_fail(&mirror->cli->voice, CLI_REFUSED, "file", "%s/%s: %s", mirror->path, file, strerror(error < 0 ? -error : error));
}

/* -- The folder. ------------------------------------------------------------------------------------------------- */

/* But for a mark that was not finished. */
static bool is_empty(int fd)
{
	DIR *dir = fdopendir(dup(fd));
	const struct dirent *entry;
	bool empty = dir != NULL;

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && strcmp(entry->d_name, MARK ".partial") != 0)
			empty = false;
	if (dir)
		(void)closedir(dir);
	return empty;
}

/* A file under its name is whole. */
static int write_file(const struct mirror *mirror, const char *file, const char *text, size_t n)
{
	_cleanup_close_ int fd = -1;
	char partial[256];

	(void)snprintf(partial, sizeof(partial), "%s.partial", file);
	fd = openat(mirror->fd, partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return fail(mirror, file, errno);
	errno = ENOSPC; /* what a short write means */
	if (write(fd, text, n) != (ssize_t)n || fsync(fd) < 0 || renameat(mirror->fd, partial, mirror->fd, file) < 0)
		return fail(mirror, file, errno);
	return CLI_OK;
}

/* The mark names the root: a mirror of one deployment never becomes another's. */
static int mark_check(const struct mirror *mirror, const char *root)
{
	_cleanup_close_ int fd = openat(mirror->fd, MARK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[2 * KEY_BYTES + 2] = "";

	if (fd < 0 && errno == ENOENT) {
		if (!is_empty(mirror->fd))
			return cli_fail(&mirror->cli->voice, CLI_REFUSED, "not-a-mirror",
					"%s is neither empty nor a mirror; nothing in it was touched. Choose another folder", mirror->path);
		(void)snprintf(text, sizeof(text), "%s\n", root);
		return write_file(mirror, MARK, text, strlen(text));
	}
	if (fd < 0)
		return fail(mirror, MARK, errno);
	if (read(fd, text, sizeof(text)) != (ssize_t)sizeof(text) - 1 || strncmp(text, root, 2 * KEY_BYTES) != 0)
		return cli_fail(&mirror->cli->voice, CLI_REFUSED, "other-mirror",
				"%s is the mirror of another deployment; nothing in it was touched. Choose another folder", mirror->path);
	return CLI_OK;
}

static int folder_open(struct mirror *mirror, const char *root)
{
	if (mkdir(mirror->path, 0755) < 0 && errno != EEXIST)
		return cli_fail(&mirror->cli->voice, CLI_REFUSED, "file", "cannot make %s: %s", mirror->path, strerror(errno));
	mirror->fd = open(mirror->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mirror->fd < 0)
		return cli_fail(&mirror->cli->voice, CLI_REFUSED, "file", "cannot open %s: %s", mirror->path, strerror(errno));
	return mark_check(mirror, root);
}

/* -- Packages. --------------------------------------------------------------------------------------------------- */

/* @return 1 it is there, whole; 0 it is not; negative errno */
static int is_there(int dir, const char *file, const struct package *package, uint64_t *bytes)
{
	_cleanup_close_ int fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char sha512[SHA512_TEXT];
	struct stat st;
	int r;

	*bytes = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	*bytes = (uint64_t)st.st_size;
	if (*bytes != package->bytes)
		return 0;
	r = file_sha512(fd, sha512);
	return r < 0 ? r : strcmp(sha512, package->sha512) == 0;
}

static int fetch(struct mirror *mirror, const struct package *package, const char *partial)
{
	_cleanup_close_ int fd = -1;
	char path[API_PATH_MAX];
	uint64_t offset = 0;
	int r = is_there(mirror->fd, partial, package, &offset);

	if (r < 0)
		return fail(mirror, partial, r);
	if (r > 0)
		return CLI_OK;
	if (offset >= package->bytes)
		offset = 0; /* it is not what it was: from the beginning */
	fd = openat(mirror->fd, partial, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | (offset ? 0 : O_TRUNC), 0644);
	if (fd < 0)
		return fail(mirror, partial, errno);
	cli_note(&mirror->cli->voice, "%s: %s%llu bytes", package->file, offset ? "the rest of " : "", (unsigned long long)package->bytes);
	(void)snprintf(path, sizeof(path), "/v1/agent/packages/%s", package->file);
	r = api_download(mirror->cli, path, fd, offset, package->bytes - offset);
	if (!r && fsync(fd) < 0)
		r = fail(mirror, partial, errno);
	return r;
}

static int take_package(struct mirror *mirror, const struct package *package)
{
	char partial[256];
	uint64_t bytes;
	int r = is_there(mirror->fd, package->file, package, &bytes);

	if (r < 0)
		return fail(mirror, package->file, r);
	if (r > 0)
		return CLI_OK;
	(void)snprintf(partial, sizeof(partial), "%s.partial", package->file);
	r = fetch(mirror, package, partial);
	if (r)
		return r;
	r = is_there(mirror->fd, partial, package, &bytes);
	if (r < 0)
		return fail(mirror, partial, r);
	if (r == 0) {
		(void)unlinkat(mirror->fd, partial, 0);
		return cli_fail(&mirror->cli->voice, CLI_REFUSED, "package",
				"%s: what came is not what the control plane lists (SHA-512 %.16s...); it is removed. Run this again",
				package->file, package->sha512);
	}
	if (renameat(mirror->fd, partial, mirror->fd, package->file) < 0)
		return fail(mirror, package->file, errno);
	mirror->fetched++;
	return CLI_OK;
}

static int take_packages(struct mirror *mirror)
{
	const json_t *item;
	size_t i;
	int r = api_list(mirror->cli, "/v1/packages", &mirror->items);

	if (r)
		return r;
	if (json_array_size(mirror->items) == 0 || json_array_size(mirror->items) > PACKAGES_MAX)
		return cli_fail(&mirror->cli->voice, CLI_REFUSED, "no-packages",
				"the control plane has %s packages. On it: controld package add FILE", json_array_size(mirror->items) ? "too many" : "no");
	json_array_foreach(mirror->items, i, item) {
		struct package package;

		r = package_read(mirror->cli, item, &package);
		if (!r)
			r = take_package(mirror, &package);
		if (r)
			return r;
		(void)fprintf(mirror->sums, "%s  %s\n", package.sha512, package.file);
	}
	return CLI_OK;
}

/* -- The script. ------------------------------------------------------------------------------------------------- */

/* It must carry the operator's own root: hosts would find out, but not before somebody had walked there with the disk. */
static int script_check(struct mirror *mirror, const char *text, const char *root)
{
	char line[2 * KEY_BYTES + 16];

	(void)snprintf(line, sizeof(line), "\nroot='%s'\n", root);
	if (strncmp(text, "#!/bin/sh\n", 10) == 0 && strstr(text, line))
		return CLI_OK;
	return cli_fail(&mirror->cli->voice, CLI_REFUSED, "wrong-root",
			"the control plane's install script does not carry the root key of context '%s'; it is not taken", mirror->context.name);
}

static int take_script(struct mirror *mirror, const char *root)
{
	_cleanup_close_ int fd = openat(mirror->fd, "install.sh.partial", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	char text[SCRIPT_BYTES_MAX + 1], sha512[SHA512_TEXT];
	ssize_t n;
	int r;

	if (fd < 0)
		return fail(mirror, "install.sh", errno);
	r = api_download(mirror->cli, "/v1/agent/install.sh", fd, 0, SCRIPT_BYTES_MAX);
	if (r)
		return r;
	n = pread(fd, text, SCRIPT_BYTES_MAX, 0);
	if (n < 0 || fsync(fd) < 0 || file_sha512(fd, sha512) < 0)
		return fail(mirror, "install.sh", errno);
	text[n] = '\0';
	r = script_check(mirror, text, root);
	if (r)
		return r;
	if (renameat(mirror->fd, "install.sh.partial", mirror->fd, "install.sh") < 0)
		return fail(mirror, "install.sh", errno);
	(void)fprintf(mirror->sums, "%s  install.sh\n", sha512);
	return CLI_OK;
}

/* -- All of it. -------------------------------------------------------------------------------------------------- */

static int take_readme(struct mirror *mirror)
{
	_cleanup_close_ int fd = -1;
	char sha512[SHA512_TEXT];
	int r = write_file(mirror, "README", readme, strlen(readme));

	if (r)
		return r;
	fd = openat(mirror->fd, "README", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || file_sha512(fd, sha512) < 0)
		return fail(mirror, "README", errno);
	(void)fprintf(mirror->sums, "%s  README\n", sha512);
	return CLI_OK;
}

static int tell(const struct mirror *mirror)
{
	static const struct column columns[] = {
		{ "Folder", "folder", AS_TEXT },
		{ "Packages", "packages", AS_NUMBER },
		{ "Fetched now", "fetched", AS_NUMBER },
	};
	static const struct listing listing = { .columns = columns, .count = ARRAY_SIZE(columns) };
	_cleanup_json_ json_t *value = json_pack("{s:s, s:I, s:I}", "folder", mirror->path, "packages",
						 (json_int_t)json_array_size(mirror->items), "fetched", mirror->fetched);

	if (!value)
		return cli_fail(&mirror->cli->voice, CLI_REFUSED, "memory", "out of memory");
	return print_object(mirror->cli, value, &listing);
}

static int export_all(struct mirror *mirror, const char *root, char **text, size_t *n)
{
	int r = folder_open(mirror, root);

	if (!r)
		r = take_packages(mirror);
	if (!r)
		r = take_script(mirror, root);
	if (!r)
		r = take_readme(mirror);
	if (!r && fflush(mirror->sums) == EOF)
		r = cli_fail(&mirror->cli->voice, CLI_REFUSED, "memory", "out of memory");
	if (!r)
		r = write_file(mirror, "SHA512SUMS", *text, *n);
	if (!r && fsync(mirror->fd) < 0)
		r = fail(mirror, "SHA512SUMS", errno);
	return r ? r : tell(mirror);
}

int mirror_export(struct cli *cli, const struct cli_args *args)
{
	struct mirror mirror = { .cli = cli, .path = args->words[0], .fd = -1 };
	char root[2 * KEY_BYTES + 1];
	char *text = NULL;
	size_t n = 0;
	int r = context_get(cli, &mirror.context);

	if (r)
		return r;
	if (!mirror.context.has_root)
		return cli_fail(&cli->voice, CLI_REFUSED, "no-root", "context '%s' has no root public key, which the script is held against: "
				"loopbackctl context set %s --root-pub FILE", mirror.context.name, mirror.context.name);
	(void)hex_format(mirror.context.root, KEY_BYTES, root);
	mirror.sums = open_memstream(&text, &n);
	if (!mirror.sums)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	r = export_all(&mirror, root, &text, &n);
	(void)fclose(mirror.sums);
	free(text);
	json_decref(mirror.items);
	(void)close_fd(mirror.fd);
	return r;
}
