/* SPDX-License-Identifier: Apache-2.0 */
#include "controld/packages.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "controld/agent.h"
#include "controld/call.h"
#include "libipc/log.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyz"
#define CAPITALS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define PATH_PREFIX "/v1/agent/packages/"

/* -- Names ------------------------------------------------------------------------------------------------------------------------- */

static bool consists_of(const char *text, const char *characters)
{
	return *text && *text != '-' && *text != '.' && text[strspn(text, characters)] == '\0';
}

bool package_version_valid(const char *text)
{
	return strlen(text) < sizeof(((struct package *)0)->version) && consists_of(text, LETTERS CAPITALS DIGITS ".+~-");
}

bool package_architecture_valid(const char *text)
{
	return strlen(text) < sizeof(((struct package *)0)->architecture) && consists_of(text, LETTERS DIGITS "_-");
}

/* Cut the last part off, from the last of these characters on. @return the part; NULL if there is none */
static char *cut_last(char *text, char at)
{
	char *found = strrchr(text, at);

	if (!found)
		return NULL;
	*found = '\0';
	return found + 1;
}

static int parts_take(struct package *package, const char *name, const char *version, const char *architecture)
{
	if (!name || !version || !architecture || strlen(name) >= sizeof(package->name) || !consists_of(name, LETTERS DIGITS "+.-") ||
	    !package_version_valid(version) || !package_architecture_valid(architecture))
		return -EINVAL;
	(void)snprintf(package->name, sizeof(package->name), "%s", name);
	(void)snprintf(package->version, sizeof(package->version), "%s", version);
	(void)snprintf(package->architecture, sizeof(package->architecture), "%s", architecture);
	return 0;
}

int package_parse(const char *file, struct package *package)
{
	char text[PACKAGE_FILE_MAX + 1];
	char *extension, *architecture, *version, *release;

	if (strlen(file) > PACKAGE_FILE_MAX)
		return -EINVAL;
	(void)snprintf(package->file, sizeof(package->file), "%s", file);
	(void)snprintf(text, sizeof(text), "%s", file);
	extension = cut_last(text, '.');
	if (extension && strcmp(extension, "deb") == 0) {
		package->format = "deb";
		architecture = cut_last(text, '_');
		version = architecture ? cut_last(text, '_') : NULL;
		return parts_take(package, text, version, architecture);
	}
	if (!extension || strcmp(extension, "rpm") != 0)
		return -EINVAL;
	package->format = "rpm";
	architecture = cut_last(text, '.');
	release = architecture ? cut_last(text, '-') : NULL;
	version = release ? cut_last(text, '-') : NULL;
	if (!version || !*release)
		return -EINVAL;
	release[-1] = '-'; /* the version is VERSION-RELEASE */
	return parts_take(package, text, version, architecture);
}

/* -- Files ------------------------------------------------------------------------------------------------------------------------- */

int package_open(struct controld *controld, const char *file, uint64_t *bytes)
{
	_cleanup_rows_ struct rows rows = { 0 };
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *path = NULL;
	struct stat st;
	int r = store_first(controld->store, &rows, "SELECT bytes FROM packages WHERE file = $1", "t", file);

	if (r < 0)
		return r;
	/* What is listed was taken in under a name that package_parse() understood: it names a file of the folder. */
	if (asprintf(&path, "%s/packages/%s", controld->state, file) < 0)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0) {
		(void)log_errno(errno, "%s: cannot be served; `controld package add` takes it in again", path);
		return -EIO;
	}
	if (!S_ISREG(st.st_mode) || st.st_size != row_i64(&rows, 0)) {
		log_error("%s: has %lld bytes, had %lld when it was added; not served. Remove it and add it again", path, (long long)st.st_size,
			  (long long)row_i64(&rows, 0));
		return -EIO;
	}
	*bytes = (uint64_t)st.st_size;
	return TAKE_FD(fd);
}

/* -- For hosts --------------------------------------------------------------------------------------------------------------------- */

/* "bytes=FIRST-" or "bytes=FIRST-LAST" (RFC 9110, 14.1.2); anything else is ignored, as a server may. @return 1 a part; 0 all; -ERANGE */
static int range_parse(const char *header, uint64_t size, uint64_t *first, uint64_t *n)
{
	unsigned long long from, to = size ? size - 1 : 0;
	char *end;

	if (!header || strncmp(header, "bytes=", 6) != 0 || header[6] < '0' || header[6] > '9')
		return 0;
	errno = 0;
	from = strtoull(header + 6, &end, 10);
	if (*end++ != '-' || errno)
		return 0;
	if (*end) {
		if (*end < '0' || *end > '9')
			return 0;
		to = strtoull(end, &end, 10);
		if (*end || errno || to < from)
			return 0;
	}
	if (from >= size)
		return -ERANGE;
	*first = from;
	*n = (to < size ? to : size - 1) - from + 1;
	return 1;
}

int agent_package(struct agent_call *call)
{
	struct request *request = call->request;
	uint64_t size = 0, first = 0, n;
	char range[80];
	int part;
	int fd = package_open(call->controld, request->path + strlen(PATH_PREFIX), &size);

	if (fd == -ENOENT)
		return problem_set(&call->problem, 404, "not-found", "There is no such package; the install script names those that there are.");
	if (fd < 0)
		return fd;
	n = size;
	part = range_parse(request_header(request, "Range"), size, &first, &n);
	if (part == -ERANGE) {
		(void)close_fd(fd);
		return problem_set(&call->problem, 416, "range", "The package has %llu bytes.", (unsigned long long)size);
	}
	request_answer_file(request, part ? 206 : 200, "application/octet-stream", fd, first, n);
	request_header_add(request, "Accept-Ranges", "bytes");
	if (!part)
		return 0;
	(void)snprintf(range, sizeof(range), "bytes %llu-%llu/%llu", (unsigned long long)first, (unsigned long long)(first + n - 1),
		       (unsigned long long)size);
	request_header_add(request, "Content-Range", range);
	return 0;
}

/* -- For operators ----------------------------------------------------------------------------------------------------------------- */

static json_t *package_item(_unused_ struct call *call, const struct rows *rows)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:I}", "id", row_text(rows, 0), "format", row_text(rows, 1), "name", row_text(rows, 2),
			 "version", row_text(rows, 3), "architecture", row_text(rows, 4), "bytes", (json_int_t)row_i64(rows, 5), "sha512",
			 row_text(rows, 6), "added", (json_int_t)row_i64(rows, 7));
}

int packages_list(struct call *call)
{
	return list_plain(call,
			  "SELECT file, format, name, version, architecture, bytes, sha512, added FROM packages WHERE file > $1"
			  " ORDER BY file LIMIT $2",
			  package_item);
}
