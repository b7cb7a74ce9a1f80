/* SPDX-License-Identifier: Apache-2.0 */
/* loopback support-bundle: one file that tells somebody else how this host is, and none of its secrets. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "cli/common/emit.h"
#include "cli/loopback/host.h"
#include "cli/loopback/interrupt.h"
#include "cli/loopback/support_pieces.h"
#include "cli/loopback/support_secrets.h"
#include "cli/loopback/support_tar.h"

#define FOLDER "loopback-support/"
#define SECRETS_SECONDS 10

/* One bundle under way. */
struct bundle {
	struct cli *cli;
	char file[PATH_MAX], beside[PATH_MAX]; /* where it will be, where it is being written */
	int fd, signals;
	time_t began;
	struct secrets secrets;
	char *manifest;
	size_t manifest_n;
	FILE *notes; /* writes the manifest */
	unsigned whole, flawed, missing;
	size_t blanked;
};

/* -- The file ---------------------------------------------------------------------------------------------------------------- */

static int name_it(struct bundle *bundle, const char *output)
{
	char host[HOST_NAME_MAX + 1] = "host", when[32] = "";
	struct tm utc;
	int n;

	(void)gethostname(host, sizeof(host) - 1);
	for (char *c = host; *c; c++)
		if (*c == '/')
			*c = '_';
	if (gmtime_r(&bundle->began, &utc))
		(void)strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &utc);
	if (output)
		n = snprintf(bundle->file, sizeof(bundle->file), "%s", output);
	else
		n = snprintf(bundle->file, sizeof(bundle->file), "loopback-support-%s-%s.tar", host, when);
	if (n < 1 || (size_t)n >= sizeof(bundle->file) - sizeof(".XXXXXX"))
		return -ENAMETOOLONG;
	(void)snprintf(bundle->beside, sizeof(bundle->beside), "%.*s.XXXXXX", (int)(PATH_MAX - sizeof(".XXXXXX")), bundle->file);
	return 0;
}

static int bundle_open(struct bundle *bundle, const char *output)
{
	int r = name_it(bundle, output);

	if (r < 0)
		return r;
	if (access(bundle->file, F_OK) == 0)
		return -EEXIST;
	bundle->fd = mkostemp(bundle->beside, O_CLOEXEC); /* 0600 */
	if (bundle->fd < 0)
		return -errno;
	bundle->notes = open_memstream(&bundle->manifest, &bundle->manifest_n);
	return bundle->notes ? 0 : -ENOMEM;
}

/* Another file of the name stays. Some file systems know no renameat2(2); link(2) does as much in two steps. */
static int bundle_place(struct bundle *bundle)
{
	if (renameat2(AT_FDCWD, bundle->beside, AT_FDCWD, bundle->file, RENAME_NOREPLACE) == 0) {
		bundle->beside[0] = '\0';
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	return link(bundle->beside, bundle->file) < 0 ? -errno : 0;
}

/* Whole and on disk, or not there at all. */
static int bundle_finish(struct bundle *bundle)
{
	int r;

	if (fflush(bundle->notes) == EOF)
		return -ENOMEM;
	r = tar_add(bundle->fd, FOLDER "MANIFEST.txt", bundle->manifest, bundle->manifest_n, (uint64_t)bundle->began);
	if (r == 0)
		r = tar_end(bundle->fd);
	if (r == 0 && fsync(bundle->fd) < 0)
		r = -errno;
	return r == 0 ? bundle_place(bundle) : r;
}

static void bundle_close(struct bundle *bundle)
{
	if (bundle->fd >= 0 && bundle->beside[0])
		(void)unlink(bundle->beside);
	bundle->fd = close_fd(bundle->fd);
	bundle->signals = close_fd(bundle->signals);
	if (bundle->notes)
		(void)fclose(bundle->notes);
	free(bundle->manifest);
	secrets_free(&bundle->secrets);
}

/* -- Pieces ------------------------------------------------------------------------------------------------------------------ */

static void progress(const struct bundle *bundle, size_t at, const char *what)
{
	if (bundle->cli->voice.json || !isatty(STDERR_FILENO))
		return;
	if (what)
		(void)fprintf(stderr, "\r\033[K%zu/%zu %s", at + 1, support_piece_count, what);
	else
		(void)fprintf(stderr, "\r\033[K");
}

static void note(struct bundle *bundle, const char *name, const char *format, ...) _printf_(3, 4);
static void note(struct bundle *bundle, const char *name, const char *format, ...)
{
	va_list list;

	(void)fprintf(bundle->notes, "%-44s ", name);
	va_start(list, format);
	(void)vfprintf(bundle->notes, format, list);
	va_end(list);
	(void)fputc('\n', bundle->notes);
}

static void note_piece(struct bundle *bundle, const struct piece *piece, const struct piece_output *output, size_t blanked)
{
	char end[80] = "";

	if (output->timed_out)
		(void)snprintf(end, sizeof(end), "; NOT WHOLE: it was given %u s", piece->seconds);
	else if (output->cut)
		(void)snprintf(end, sizeof(end), "; NOT WHOLE: cut at %u MiB", PIECE_BYTES_MAX >> 20);
	else if (output->status == -1 || !WIFEXITED(output->status))
		(void)snprintf(end, sizeof(end), "; NOT WHOLE: it was killed");
	else if (WEXITSTATUS(output->status) != 0)
		(void)snprintf(end, sizeof(end), "; exit status %d", WEXITSTATUS(output->status));
	if (output->timed_out || output->cut || output->status == -1 || !WIFEXITED(output->status))
		bundle->flawed++;
	else
		bundle->whole++;
	note(bundle, piece->name, "%8zu bytes; %s; %zu blanked%s", output->n, piece->holds, blanked, end);
}

/* @param argv receives the command line, with this very program in the place of "loopback" */
static void argv_of(const struct bundle *bundle, const struct piece *piece, const char *argv[static PIECE_WORDS_MAX + 3])
{
	size_t n = 0, from = 0;

	if (strcmp(piece->argv[0], "loopback") == 0) {
		argv[n++] = "/proc/self/exe";
		if (strcmp(bundle->cli->run, RUN_DEFAULT) != 0 && strcmp(piece->argv[1], "--version") != 0) {
			argv[n++] = piece->argv[1];
			argv[n++] = "--run";
			argv[n++] = bundle->cli->run;
			from = 2;
		} else {
			from = 1;
		}
	}
	for (; from < PIECE_WORDS_MAX && piece->argv[from]; from++)
		argv[n++] = piece->argv[from];
	argv[n] = NULL;
}

/* @return 0; -EINTR; what keeps the bundle from being written at all */
static int piece_add(struct bundle *bundle, const struct piece *piece)
{
	_cleanup_piece_ struct piece_output output = { .bytes = NULL };
	const char *argv[PIECE_WORDS_MAX + 3];
	char name[TAR_NAME_BYTES_MAX + 1];
	size_t blanked;
	int r;

	if (piece->argv[0])
		argv_of(bundle, piece, argv);
	r = piece_run(piece->argv[0] ? argv : NULL, piece->fill, piece->seconds, bundle->signals, &output);
	if (r == -EINTR)
		return r;
	if (r < 0) {
		bundle->missing++;
		note(bundle, piece->name, "left out: %s: %s", piece->argv[0] ? piece->argv[0] : piece->holds, strerror(-r));
		return 0;
	}
	blanked = scrub_known(output.bytes, output.n, &bundle->secrets) + scrub_likely(output.bytes, output.n);
	bundle->blanked += blanked;
	note_piece(bundle, piece, &output, blanked);
	(void)snprintf(name, sizeof(name), FOLDER "%s", piece->name);
	return tar_add(bundle->fd, name, output.bytes, output.n, (uint64_t)bundle->began);
}

/* Without them the bundle would be made by guesses alone. */
static int secrets_find(struct bundle *bundle)
{
	_cleanup_piece_ struct piece_output output = { .bytes = NULL };
	int r = piece_run(NULL, secrets_gather, SECRETS_SECONDS, bundle->signals, &output);

	if (r == 0 && (output.timed_out || output.cut))
		r = -ETIMEDOUT;
	return r == 0 ? secrets_parse(output.bytes, output.n, &bundle->secrets) : r;
}

static int pieces_add(struct bundle *bundle)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < support_piece_count; i++) {
		progress(bundle, i, support_pieces[i].holds);
		r = piece_add(bundle, &support_pieces[i]);
	}
	progress(bundle, 0, NULL);
	return r;
}

/* -- The command ------------------------------------------------------------------------------------------------------------- */

static void foreword(struct bundle *bundle)
{
	(void)fprintf(bundle->notes,
		      "Made by loopback " LOOPBACK_VERSION " support-bundle.\n\n"
		      "Left out on purpose: what is in our state folders and TLS keys (files.txt has names, modes and sizes),\n"
		      "values of /etc/loopback/*.env that are not known to be harmless, environments of processes. This host's\n"
		      "own secrets (%zu known) and what looks like a secret were overwritten with asterisks in every piece,\n"
		      "however they were written there.\n\n",
		      bundle->secrets.count);
}

static int report(struct bundle *bundle)
{
	struct emit emit = emit_to(stdout);
	struct stat file = { 0 };

	(void)fstat(bundle->fd, &file);
	if (!bundle->cli->voice.json) {
		(void)printf("%s: %" PRId64 " bytes, %u pieces (%u not whole, %u left out), %zu places blanked.\n"
			     "MANIFEST.txt in it says which. "
			     "Look through it before you hand it on: it names addresses, hosts and users of this network.\n",
			     bundle->file, (int64_t)file.st_size, bundle->whole + bundle->flawed, bundle->flawed, bundle->missing,
			     bundle->blanked);
		return CLI_OK;
	}
	emit_object(&emit, NULL);
	emit_text(&emit, "file", bundle->file);
	emit_u64(&emit, "bytes", (uint64_t)file.st_size);
	emit_u64(&emit, "pieces", bundle->whole + bundle->flawed);
	emit_u64(&emit, "not_whole", bundle->flawed);
	emit_u64(&emit, "left_out", bundle->missing);
	emit_u64(&emit, "blanked", bundle->blanked);
	emit_end(&emit);
	return CLI_OK;
}

static int complain(const struct bundle *bundle, int error)
{
	const struct cli_voice *voice = &bundle->cli->voice;

	if (error == -EINTR)
		return cli_fail(voice, EXIT_INTERRUPTED, "interrupted", "interrupted; no file was made");
	if (error == -EEXIST)
		return cli_fail(voice, CLI_REFUSED, "exists", "%s exists and stays as it is; name another file with --output",
				bundle->file);
	return cli_fail(voice, CLI_REFUSED, "file", "cannot write %s: %s; no file was made", bundle->file, strerror(-error));
}

int loopback_support_bundle(struct cli *cli, const struct cli_args *args)
{
	CLEANUP(bundle_close) struct bundle bundle = { .cli = cli, .fd = -1, .signals = -1, .began = time(NULL) };
	int r;

	if (geteuid() != 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "permission",
				"only root can see what belongs into a support bundle; try again with sudo");
	bundle.signals = interrupt_open();
	r = bundle.signals < 0 ? bundle.signals : 0;
	if (r == 0)
		r = bundle_open(&bundle, cli_value(args, "output"));
	if (r < 0)
		return complain(&bundle, r);
	r = secrets_find(&bundle);
	if (r < 0 && r != -EINTR)
		return cli_fail(
			&cli->voice, CLI_REFUSED, "secrets",
			"cannot tell this host's secrets from the rest, because its state cannot be read (%s); no file was made",
			strerror(-r));
	foreword(&bundle);
	if (r == 0)
		r = pieces_add(&bundle);
	if (r == 0)
		r = bundle_finish(&bundle);
	return r < 0 ? complain(&bundle, r) : report(&bundle);
}
