/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <fcntl.h>

#include "libipc/log.h"
#include "libipc/service.h"
#include "libstore/backup.h"
#include "libstore/owner.h"
#include "privileges/tables.h"
#include "signd/signd.h"

#define CHANNELS_MAX 8 /* controld keeps two; the rest is for one that replaces it */

static const char usage[] =
	"usage: signd init --state DIR --root-pub FILE\n"
	"       signd --state DIR [--listen PATH] [--peer-user NAME] [--change-cap PEERS] [--user NAME]\n"
	"       signd backup FILE --state DIR\n"
	"       signd restore FILE --state DIR\n"
	"\n"
	"Checks documents of the control plane, then signs them with the online key.\n"
	"\n"
	"  init               make the online key in DIR and print its public half\n"
	"  backup             write the memory of what was signed into a new FILE, without the key; the daemon may run meanwhile\n"
	"  restore            make DIR's memory of a backup, and a new online key; print its public half\n"
	"\n"
	"  --state DIR        where the key and the memory of what was signed are kept\n"
	"  --root-pub FILE    the root's public key, hexadecimal or base64: it alone signs keysets\n"
	"  --listen PATH      make the socket, instead of taking it from the service manager\n"
	"  --peer-user NAME   who may ask for signatures (default: _lb-controld; with --listen, the user of this process)\n"
	"  --change-cap PEERS refuse a network document that changes more peers than this, unless an operator co-signs it\n"
	"                     (default: half of a network of more than 32)\n"
	"  --user NAME        whom to become when started as root (default: _lb-signd)\n"
	"  --help, --version\n";

struct options {
	const char *state, *root_pub, *listen, *peer_user, *user;
	uint32_t change_cap;
};

static int run_init(const struct options *options)
{
	_cleanup_(state_free) struct state *state = NULL;
	uint8_t root[KEY_BYTES], public_key[KEY_BYTES];
	char text[2 * KEY_BYTES + 1];
	int r;

	if (!options->root_pub) {
		log_error("init: --root-pub FILE is needed: the root's public key, from `loopbackctl root create`");
		return -EINVAL;
	}
	r = key_read_public(options->root_pub, root);
	if (r == 0)
		r = owner_become(options->state, true);
	if (r == 0)
		r = key_make(options->state, public_key);
	if (r == 0)
		r = state_open(options->state, &state);
	if (r == 0)
		r = state_begin(state);
	if (r == 0)
		r = state_meta_put(state, "root", root, sizeof(root));
	if (r == 0)
		r = state_commit(state);
	if (r < 0)
		return r;
	(void)printf("%s\n", hex_format(public_key, sizeof(public_key), text));
	return 0;
}

static int run_backup(const struct options *options, const char *path)
{
	struct backup backup;
	int r = backup_write(&signd_store, options->state, path, &backup);

	if (r == 0)
		(void)printf("%s: %" PRIu64 " bytes, schema %d, without the online key\n", path, backup.bytes, backup.schema);
	return r;
}

struct new_key {
	const char *dir;
	uint8_t public_key[KEY_BYTES];
	bool made;
};

/* A key that was in a backup could be in anybody's hands: a restored signd has a new one, and signs nothing before the root lists it. */
static int key_anew(struct store *store, void *arg)
{
	_cleanup_free_ uint8_t *root = NULL;
	struct new_key *key = arg;
	size_t n;
	int r = store_meta(store, "root", &root, &n);

	if (r < 0 || n != KEY_BYTES) {
		log_error("the backup pins no root key; nothing is restored");
		return -EBADMSG;
	}
	r = key_make(key->dir, key->public_key);
	key->made = r == 0;
	return r;
}

static void key_forget(const char *dir)
{
	static const char *const names[] = { "online.key", "online.pub" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s", dir, names[i]) >= 0)
			(void)unlink(path);
	}
}

static int run_restore(const struct options *options, const char *path)
{
	struct new_key key = { .dir = options->state };
	struct backup backup;
	char text[2 * KEY_BYTES + 1];
	int r = backup_restore(&signd_store, options->state, path, key_anew, &key, &backup);

	if (r < 0) {
		if (key.made)
			key_forget(options->state);
		return r;
	}
	(void)printf("%s\n", hex_format(key.public_key, sizeof(key.public_key), text));
	(void)fprintf(stderr, "This is the new online key. Sign a keyset of the next epoch that names it (loopbackctl root sign-keyset), "
			      "and publish it.\n");
	return 0;
}

static int root_load(struct signd *signd)
{
	_cleanup_free_ uint8_t *root = NULL;
	size_t n;
	int r = state_meta(signd->state, "root", &root, &n);

	if (r == 0 && n != KEY_BYTES)
		r = -EBADMSG;
	if (r < 0)
		return log_errno(r, "state.db: no pinned root key; `signd init` was not run to its end");
	memcpy(signd->root, root, KEY_BYTES);
	return 0;
}

/* Who may connect: the service manager's socket is controld's, one of our own making is for rigs. */
static int peer_uid(const struct options *options, bool passed, uid_t *uid)
{
	const char *own = getuid() != 0 ? NULL : options->user ? options->user : "_lb-signd";
	const char *name = options->peer_user ? options->peer_user : passed ? "_lb-controld" : own;
	const struct passwd *user;

	if (!name) {
		*uid = getuid();
		return 0;
	}
	user = getpwnam(name);
	if (!user) {
		log_error("user %s, who may ask for signatures, does not exist", name);
		return -ENOENT;
	}
	*uid = user->pw_uid;
	return 0;
}

static void channel_gone(_unused_ struct channel *channel, int error, _unused_ void *arg)
{
	if (error < 0)
		log_warning("controld's channel closed: %s; it will connect again", strerror(-error));
}

static int listen_start(struct signd *signd, const struct options *options, struct listener **listener)
{
	struct listener_config config = {
		.self = PARTY_SIGND,
		.peer = PARTY_CONTROLD,
		.phase = PHASE_READY,
		.channels_max = CHANNELS_MAX,
		.events = { .message = sign_message, .closed = channel_gone },
		.arg = signd,
	};
	_cleanup_close_ int fd = -1;
	int r;

	r = peer_uid(options, options->listen == NULL, &config.uid);
	if (r < 0)
		return r;
	/* root connects to a socket of any owner, and is none that we could give it to */
	fd = options->listen ? service_listen(options->listen, config.uid ? config.uid : (uid_t)-1, 0600) : service_socket("sign");
	if (fd == -ENOENT)
		log_error("no socket named \"sign\" was passed; without a service manager, give --listen PATH");
	if (fd < 0)
		return log_errno(fd, "sign socket");
	(void)service_sockets_close_rest();
	return listener_new(signd->loop, TAKE_FD(fd), &config, listener);
}

static void on_signal(_unused_ int signal, void *arg)
{
	struct signd *signd = arg;

	loop_stop(signd->loop, 0);
}

/* What must be open before the sandbox is complete; nothing of a peer is read here. */
static int prepare(struct signd *signd, const struct options *options, struct listener **listener)
{
	static const int signals[] = { SIGTERM, SIGINT, 0 };
	int r = loop_new(&signd->loop);

	if (r == 0)
		r = service_open();
	if (r == 0)
		r = loop_signals(signd->loop, signals, on_signal, signd);
	if (r == 0)
		r = listen_start(signd, options, listener);
	return r;
}

static int load(struct signd *signd, const struct options *options)
{
	int r = key_load(options->state, signd->secret, signd->public_key);

	if (r == 0)
		r = state_open(options->state, &signd->state);
	if (r == 0)
		r = root_load(signd);
	if (r == 0)
		r = keyset_load(signd);
	return r;
}

static int run_serve(const struct options *options)
{
	const struct sandbox_place places[] = { { "state", options->state }, { NULL, NULL } };
	struct signd signd = { .change_cap = options->change_cap };
	struct listener *listener = NULL;
	int r = prepare(&signd, options, &listener);

	if (r == 0)
		r = sandbox_enter(&signd_privileges, options->user, places);
	if (r == 0)
		r = load(&signd, options);
	if (r == 0)
		r = loop_watchdog(signd.loop);
	if (r == 0) {
		service_notify("READY=1");
		log_info("ready; %s", signd.deployed ? signd.keyset.name : "waiting for a keyset");
		r = loop_run(signd.loop);
		service_notify("STOPPING=1");
	}
	listener_free(listener);
	loop_free(signd.loop);
	state_free(signd.state);
	sodium_memzero(signd.secret, sizeof(signd.secret));
	return r;
}

static int number_parse(const char *text, uint32_t *number)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || end == text || value == 0 || value > PEERS_MAX) {
		log_error("--change-cap: expected a number from 1 to %d, found \"%s\"", PEERS_MAX, text);
		return -EINVAL;
	}
	*number = (uint32_t)value;
	return 0;
}

/* @return 0 go on; 1 all is said; -EINVAL */
static int options_parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "state", required_argument, NULL, 's' },   { "root-pub", required_argument, NULL, 'r' },
		{ "listen", required_argument, NULL, 'l' },  { "peer-user", required_argument, NULL, 'u' },
		{ "change-cap", required_argument, NULL, 'c' }, { "user", required_argument, NULL, 'U' },
		{ "help", no_argument, NULL, 'h' },	     { "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case 's':
			options->state = optarg;
			break;
		case 'r':
			options->root_pub = optarg;
			break;
		case 'l':
			options->listen = optarg;
			break;
		case 'u':
			options->peer_user = optarg;
			break;
		case 'U':
			options->user = optarg;
			break;
		case 'c':
			if (number_parse(optarg, &options->change_cap) < 0)
				return -EINVAL;
			break;
		case 'h':
			(void)fputs(usage, stdout);
			return 1;
		case 'v':
			(void)puts("signd " LOOPBACK_VERSION);
			return 1;
		default:
			return -EINVAL;
		}
	}
	if (!options->state) {
		log_error("--state DIR is needed; --help tells more");
		return -EINVAL;
	}
	return 0;
}

static int run(const struct options *options, char **words, int count)
{
	const char *command = count > 0 ? words[0] : "";

	if (count == 0)
		return run_serve(options);
	if (count == 1 && strcmp(command, "init") == 0)
		return run_init(options);
	if (count == 2 && strcmp(command, "backup") == 0)
		return run_backup(options, words[1]);
	if (count == 2 && strcmp(command, "restore") == 0)
		return run_restore(options, words[1]);
	log_error("\"%s%s%s\" is not understood; --help tells more", command, count > 1 ? " " : "", count > 1 ? words[1] : "");
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	int r;

	log_open("signd");
	r = options_parse(argc, argv, &options);
	if (r != 0)
		return r > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	if (sodium_init() < 0) {
		log_error("libsodium does not start; nothing can be signed");
		return EXIT_FAILURE;
	}
	r = run(&options, argv + optind, argc - optind);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
