/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: the daemon, and what an administrator does with its state on this machine. */
#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "controld/packages.h"
#include "controld/restore.h"
#include "controld/serve.h"
#include "libipc/log.h"

#define SECONDS_MAX 86400
#define SIGND_DEFAULT "/run/loopback/signd/sign.sock"

static const char usage[] =
	"usage: controld init --state DIR --keyset FILE\n"
	"       controld --state DIR --listen ADDRESS:PORT [--tls-cert FILE --tls-key FILE] [--signd PATH] [--behind-proxy]\n"
	"                [--url URL] [--user NAME] [--offline-after SECONDS] [--degraded-after SECONDS]\n"
	"       controld package add FILE... | remove NAME... | list   --state DIR\n"
	"       controld backup FILE --state DIR\n"
	"       controld restore FILE --state DIR [--retire HOST]... [--keep-tokens] [--new-credential]\n"
	"\n"
	"The control plane: desired state, API, documents.\n"
	"\n"
	"  init               make the database in DIR and write DIR/admin.credential\n"
	"  package            what hosts install: take in files, with their SHA-512, and forget them\n"
	"  backup             write the database into a new FILE; the daemon may run meanwhile\n"
	"  restore            make DIR's database of a backup; DIR must hold none\n"
	"\n"
	"  --state DIR        where the database is kept\n"
	"  --keyset FILE      the first keyset, signed by the root (loopbackctl root sign-keyset)\n"
	"  --listen ADDRESS:PORT\n"
	"  --tls-cert FILE, --tls-key FILE  PEM; without them only a loopback address is listened on\n"
	"  --behind-proxy     a proxy does TLS and sets X-Forwarded-For\n"
	"  --url URL          how hosts reach this control plane, for the install script (default: as they call it)\n"
	"  --signd PATH       signd's socket (default: " SIGND_DEFAULT ")\n"
	"  --offline-after SECONDS   without a poll a host is offline (default: 120)\n"
	"  --degraded-after SECONDS  staged and not acknowledged, a host is degraded (default: 60)\n"
	"  --user NAME        whom to become when started as root (default: _lb-controld)\n"
	"  --retire HOST      a host of the backup, by name or id, that was retired since\n"
	"  --keep-tokens      tokens of the backup stay valid; else they are revoked, for some may have been since\n"
	"  --new-credential   write DIR/admin.credential anew\n"
	"  --help, --version\n";

struct options {
	struct serve_options serve;
	struct restore_options restore;
	const char *keyset;
};

static int seconds_parse(const char *option, const char *text, unsigned *seconds)
{
	char *end = NULL;
	unsigned long value = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;

	if (value < 1 || value > SECONDS_MAX || !end || *end) {
		log_error("--%s %s: expected a number of seconds from 1 to %d", option, text, SECONDS_MAX);
		return -EINVAL;
	}
	*seconds = (unsigned)value;
	return 0;
}

/* @return 0 understood; -ENOENT not one of these; -EINVAL, logged */
static int serve_option(int c, struct options *options)
{
	switch (c) {
	case 's':
		options->serve.state = optarg;
		return 0;
	case 'l':
		options->serve.http.listen = optarg;
		return 0;
	case 'c':
		options->serve.http.tls_cert = optarg;
		return 0;
	case 'y':
		options->serve.http.tls_key = optarg;
		return 0;
	case 'd':
		options->serve.signd = optarg;
		return 0;
	case 'u':
		options->serve.url = optarg;
		return 0;
	case 'U':
		options->serve.user = optarg;
		return 0;
	case 'o':
		return seconds_parse("offline-after", optarg, &options->serve.offline_after);
	case 'g':
		return seconds_parse("degraded-after", optarg, &options->serve.degraded_after);
	case 'p':
		options->serve.http.behind_proxy = true;
		return 0;
	default:
		return -ENOENT;
	}
}

static int command_option(int c, struct options *options)
{
	switch (c) {
	case 'k':
		options->keyset = optarg;
		return 0;
	case 'r':
		if (options->restore.retired_count == RETIRED_MAX) {
			log_error("--retire: at most %d hosts; retire the others once the control plane runs", RETIRED_MAX);
			return -EINVAL;
		}
		options->restore.retired[options->restore.retired_count++] = optarg;
		return 0;
	case 't':
		options->restore.keep_tokens = true;
		return 0;
	case 'n':
		options->restore.new_credential = true;
		return 0;
	default:
		return -EINVAL;
	}
}

/* @return 0 go on; 1 all is said; -EINVAL */
static int options_parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "state", required_argument, NULL, 's' },    { "keyset", required_argument, NULL, 'k' },
		{ "listen", required_argument, NULL, 'l' },   { "tls-cert", required_argument, NULL, 'c' },
		{ "tls-key", required_argument, NULL, 'y' },  { "signd", required_argument, NULL, 'd' },
		{ "behind-proxy", no_argument, NULL, 'p' },   { "url", required_argument, NULL, 'u' },
		{ "user", required_argument, NULL, 'U' },     { "retire", required_argument, NULL, 'r' },
		{ "keep-tokens", no_argument, NULL, 't' },    { "new-credential", no_argument, NULL, 'n' },
		{ "offline-after", required_argument, NULL, 'o' },
		{ "degraded-after", required_argument, NULL, 'g' },
		{ "help", no_argument, NULL, 'h' },	      { "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	int c;

	options->serve.signd = SIGND_DEFAULT;
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		int r;

		if (c == 'h' || c == 'v') {
			(void)fputs(c == 'h' ? usage : "controld " LOOPBACK_VERSION "\n", stdout);
			return 1;
		}
		r = serve_option(c, options);
		if (r == -EINVAL || (r < 0 && command_option(c, options) < 0))
			return -EINVAL;
	}
	if (options->serve.state)
		return 0;
	log_error("--state DIR is needed; --help tells more");
	return -EINVAL;
}

/* -- Commands. Words are what follows those that name the command. -- */

typedef int command_fn(const struct options *options, char **words, int count);

static int run_serve(const struct options *options, _unused_ char **words, _unused_ int count)
{
	return controld_serve(&options->serve);
}

static int run_init(const struct options *options, _unused_ char **words, _unused_ int count)
{
	if (options->keyset)
		return controld_init(options->serve.state, options->keyset);
	log_error("init: --keyset FILE is needed: the first keyset, from `loopbackctl root sign-keyset`");
	return -EINVAL;
}

static int run_package_add(const struct options *options, char **words, int count)
{
	return packages_add(options->serve.state, words, count);
}

static int run_package_remove(const struct options *options, char **words, int count)
{
	return packages_remove(options->serve.state, words, count);
}

static int run_package_list(const struct options *options, _unused_ char **words, _unused_ int count)
{
	return packages_print(options->serve.state);
}

static int run_backup(const struct options *options, char **words, _unused_ int count)
{
	return controld_backup(options->serve.state, words[0]);
}

static int run_restore(const struct options *options, char **words, _unused_ int count)
{
	return controld_restore(options->serve.state, words[0], &options->restore);
}

static const struct command {
	const char *words[2];
	int min, max; /* words that follow */
	command_fn *run;
} commands[] = {
	{ { "init", NULL }, 0, 0, run_init },
	{ { "package", "add" }, 1, 64, run_package_add },
	{ { "package", "remove" }, 1, 64, run_package_remove },
	{ { "package", "list" }, 0, 0, run_package_list },
	{ { "backup", NULL }, 1, 1, run_backup },
	{ { "restore", NULL }, 1, 1, run_restore },
	{ { NULL, NULL }, 0, 0, run_serve },
};

/* @return how many words name the command; -1 it is another */
static int command_matches(const struct command *command, char **words, int count)
{
	int n = 0;

	for (; n < 2 && command->words[n]; n++)
		if (n >= count || strcmp(command->words[n], words[n]) != 0)
			return -1;
	return count - n >= command->min && count - n <= command->max ? n : -1;
}

static int run(const struct options *options, char **words, int count)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		int n = command_matches(&commands[i], words, count);

		if (n >= 0)
			return commands[i].run(options, words + n, count - n);
	}
	log_error("\"%s%s%s\" is not understood; --help tells more", words[0], count > 1 ? " " : "", count > 1 ? words[1] : "");
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct options options = { .keyset = NULL };
	int r;

	log_open("controld");
	r = options_parse(argc, argv, &options);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	if (sodium_init() < 0) {
		log_error("libsodium does not start");
		return EXIT_FAILURE;
	}
	r = run(&options, argv + optind, argc - optind);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
