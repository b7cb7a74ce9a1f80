/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enrol and leave. The token's parts go different ways: the root to netd, which pins it; id and secret to fetchd, which never
 * learns the root from here. So nothing between this host and its operator's file can name another root.
 */
#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "cli/common/emit.h"
#include "cli/common/file.h"
#include "cli/loopback/host.h"
#include "cli/loopback/meshview.h"
#include "cli/loopback/status.h"
#include "libipc/types.h"

#define TOKEN_BYTES_MAX 512
#define CA_BYTES_MAX 50000
#define NETD_TIMEOUT_MS 20000    /* unpinning takes an interface down */
#define FETCHD_FIRST_MS 45000    /* its first word: on leaving, that of the control plane */
#define FETCHD_TIMEOUT_MS 120000 /* between two words of fetchd, which tries again on its own */

struct enrolment {
	char half[TOKEN_BYTES_MAX]; /* ID.SECRET */
	uint8_t root[KEY_BYTES];
	char ca[CA_BYTES_MAX + 1];
	char name[NAME_BYTES_MAX + 1];
	const char *url;
	bool pinned_here; /* it was this command that pinned */
	struct id host;
};

static void enrolment_wipe(struct enrolment *enrolment)
{
	sodium_memzero(enrolment, sizeof(*enrolment));
}

/* -- What is asked for. ------------------------------------------------------------------------------------------ */

static bool is_token_half(const char *text)
{
	const char *dot = strchr(text, '.');

	if (!dot || dot == text || !dot[1] || strchr(dot + 1, '.'))
		return false;
	for (; *text; text++)
		if (!isgraph((unsigned char)*text))
			return false;
	return true;
}

static int parse_token(struct cli *cli, const char *path, struct enrolment *enrolment)
{
	ssize_t n = file_read_line(path, enrolment->half, sizeof(enrolment->half));
	char *root;

	if (n == -EBADMSG || n == -EMSGSIZE)
		return cli_fail(&cli->voice, CLI_REFUSED, "token",
				"%s: expected one line, ID.SECRET.ROOT, as 'loopbackctl token create' prints it", path);
	if (n < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "token", "cannot read the token from %s: %s", path, strerror((int)-n));
	root = strrchr(enrolment->half, '.');
	if (root && is_token_half(enrolment->half))
		return cli_fail(&cli->voice, CLI_REFUSED, "token",
				"%s: this token has no third part, the root key, so this host could not tell its "
				"control plane from another. Make it with 'loopbackctl token create', which adds the root from "
				"the operator's own file",
				path);
	if (!root || hex_parse(root + 1, enrolment->root, KEY_BYTES) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "token",
				"%s: expected ID.SECRET.ROOT with a ROOT of 64 hexadecimal digits; was it copied "
				"whole?",
				path);
	*root = '\0';
	if (!is_token_half(enrolment->half))
		return cli_fail(&cli->voice, CLI_REFUSED, "token",
				"%s: expected ID.SECRET.ROOT, three parts with two dots; was it copied whole?", path);
	return CLI_OK;
}

/* This machine's name as a DNS label: its first part, in lower case, anything else a dash. */
static void default_name(char out[static NAME_BYTES_MAX + 1])
{
	char name[256] = "";
	size_t n = 0;

	if (gethostname(name, sizeof(name) - 1) < 0)
		name[0] = '\0';
	for (const char *c = name; *c && *c != '.' && n < NAME_BYTES_MAX; c++) {
		bool plain = isalnum((unsigned char)*c) != 0;

		if (plain || n > 0)
			out[n++] = plain ? (char)tolower((unsigned char)*c) : '-';
	}
	while (n > 0 && out[n - 1] == '-')
		n--;
	out[n] = '\0';
}

static int choose_name(struct cli *cli, const char *given, struct enrolment *enrolment)
{
	size_t n;

	if (!given) {
		default_name(enrolment->name);
		if (enrolment->name[0])
			return CLI_OK;
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "this machine has no host name to go by; give --name NAME");
	}
	n = strspn(given, "abcdefghijklmnopqrstuvwxyz0123456789-");
	if (n == 0 || given[n] || n > NAME_BYTES_MAX || given[0] == '-' || given[n - 1] == '-')
		return cli_fail(&cli->voice, CLI_USAGE, "usage",
				"--name %s: expected 1 to %d of a-z, 0-9 and '-', with no '-' at either end", given,
				NAME_BYTES_MAX);
	memcpy(enrolment->name, given, n + 1);
	return CLI_OK;
}

static int read_ca(struct cli *cli, const char *path, struct enrolment *enrolment)
{
	ssize_t n;

	if (!path)
		return CLI_OK;
	n = file_read(path, enrolment->ca, sizeof(enrolment->ca));
	if (n == -EMSGSIZE)
		return cli_fail(&cli->voice, CLI_REFUSED, "ca",
				"--ca %s: longer than %d bytes; give the one CA that signed the control plane's "
				"certificate",
				path, CA_BYTES_MAX);
	if (n < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "ca", "--ca %s: %s", path, strerror((int)-n));
	if (strlen(enrolment->ca) != (size_t)n || !strstr(enrolment->ca, "-----BEGIN CERTIFICATE-----"))
		return cli_fail(&cli->voice, CLI_REFUSED, "ca", "--ca %s: holds no certificate in PEM", path);
	return CLI_OK;
}

static int prepare(struct cli *cli, const struct cli_args *args, struct enrolment *enrolment)
{
	int r;

	enrolment->url = cli_value(args, "url");
	if (strncmp(enrolment->url, "https://", 8) != 0 && strncmp(enrolment->url, "http://", 7) != 0)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "--url %s: expected https://HOST[:PORT]", enrolment->url);
	if (strlen(enrolment->url) > 1024)
		return cli_fail(&cli->voice, CLI_USAGE, "usage", "--url is longer than 1024 bytes");
	r = choose_name(cli, cli_value(args, "name"), enrolment);
	if (!r)
		r = read_ca(cli, cli_value(args, "ca"), enrolment);
	return r ? r : parse_token(cli, cli_value(args, "token-file"), enrolment);
}

/* -- netd: the root. --------------------------------------------------------------------------------------------- */

/* Ask netd for something that it answers with admin_done. */
static int ask_netd(struct cli *cli, enum message_number number, const void *body, const char *what, struct message *answer)
{
	_cleanup_close_ int fd = -1;
	char text[1025];
	int r = daemon_dial(cli, &netd_admin, &fd);

	if (!r)
		r = daemon_call(cli, &netd_admin, fd, number, body, MSG_admin_done, NETD_TIMEOUT_MS, answer);
	if (r)
		return r;
	if (!answer->body.admin_done.ok)
		return cli_fail(&cli->voice, CLI_REFUSED, "netd", "netd does not %s: %s", what,
				text_copy(text, sizeof(text), answer->body.admin_done.text));
	return CLI_OK;
}

static int pin(struct cli *cli, struct enrolment *enrolment)
{
	struct msg_pin body = { .root_key = enrolment->root };
	struct message answer;
	int r;

	enrolment->pinned_here = netd_state_is(cli, "unpinned");
	r = ask_netd(cli, MSG_pin, &body, "pin this token's root key", &answer);
	if (!r)
		host_id_of(answer.body.admin_done.host_key, &enrolment->host);
	return r;
}

static int unpin(struct cli *cli, bool forget_keys)
{
	struct msg_unpin body = { .forget_keys = forget_keys };
	struct message answer;

	return ask_netd(cli, MSG_unpin, &body, "leave", &answer);
}

/* -- fetchd: the control plane. ---------------------------------------------------------------------------------- */

/**
 * Send to fetchd and pass its progress on until it is done.
 * @param text receives its last words
 * @return CLI_OK done and well; CLI_REFUSED done and not, text says why; a negative errno if it falls silent. Nothing was
 * reported.
 */
static int ask_fetchd(struct cli *cli, int fd, enum message_number number, const void *body, char text[static 1025])
{
	struct message answer;
	int r = daemon_call_quietly(cli, &fetchd_admin, fd, number, body, MSG_enroll_state, FETCHD_FIRST_MS, &answer);

	while (r == 0) {
		(void)text_copy(text, 1025, answer.body.enroll_state.text);
		if (answer.body.enroll_state.done)
			return answer.body.enroll_state.ok ? CLI_OK : CLI_REFUSED;
		cli_note(&cli->voice, "%s", text);
		r = daemon_receive_quietly(cli, &fetchd_admin, fd, MSG_enroll_state, FETCHD_TIMEOUT_MS, &answer);
	}
	return r;
}

static int enrol_at_fetchd(struct cli *cli, int fd, const struct enrolment *enrolment, char text[static 1025])
{
	struct msg_enroll body = {
		.url = text_view(enrolment->url),
		.token = text_view(enrolment->half),
		.ca = text_view(enrolment->ca),
		.host_name = text_view(enrolment->name),
	};

	return ask_fetchd(cli, fd, MSG_enroll, &body, text);
}

/* It did not work. A root that this command pinned goes again, so that a mistaken token leaves this host as it was. Not so if the
 * control plane took this host in and only the first configuration failed: that goes on by itself. */
static int enrolment_failed(struct cli *cli, const struct enrolment *enrolment, const char *text)
{
	struct link_report link = { .asked = false };
	bool unpinned, ends;

	fetchd_link(cli, LINK_TIMEOUT_MS, &link);
	if (link.answered && link.enrolled)
		return cli_fail(&cli->voice, CLI_REFUSED, "enrolled", "%s", text);
	unpinned = enrolment->pinned_here && unpin(cli, false) == CLI_OK;
	ends = text[0] && strchr(".?!", text[strlen(text) - 1]);
	return cli_fail(&cli->voice, CLI_REFUSED, "enroll", "this host is not enrolled: %s%s %s", text, ends ? "" : ".",
			unpinned ? "The root key that came with the token is forgotten again, so another token can be tried"
				 : "The root key stays pinned, as it was before; 'loopback leave' forgets it");
}

static int tell_enrolled(struct cli *cli, const struct enrolment *enrolment)
{
	struct emit emit = emit_to(stdout);
	char id[ID_TEXT];

	(void)id_format(&enrolment->host, id);
	if (!cli->voice.json) {
		(void)printf("Enrolled at %s as %s, host id %s.\n", enrolment->url, enrolment->name, id);
		return CLI_OK;
	}
	emit_object(&emit, NULL);
	emit_bool(&emit, "enrolled", true);
	emit_text(&emit, "url", enrolment->url);
	emit_text(&emit, "name", enrolment->name);
	emit_text(&emit, "host", id);
	emit_end(&emit);
	return CLI_OK;
}

int loopback_enroll(struct cli *cli, const struct cli_args *args)
{
	CLEANUP(enrolment_wipe) struct enrolment enrolment = { .pinned_here = false };
	_cleanup_close_ int fetchd = -1;
	char text[1025] = "";
	int r = prepare(cli, args, &enrolment);

	/* both daemons must be there before anything changes */
	if (!r)
		r = daemon_dial(cli, &fetchd_admin, &fetchd);
	if (!r)
		r = pin(cli, &enrolment);
	if (r)
		return r;
	r = enrol_at_fetchd(cli, fetchd, &enrolment, text);
	if (r < 0)
		return daemon_no_answer(cli, &fetchd_admin, r);
	return r ? enrolment_failed(cli, &enrolment, text) : tell_enrolled(cli, &enrolment);
}

/* -- Leaving. ---------------------------------------------------------------------------------------------------- */

struct departure {
	uint8_t bytes[512];
	size_t n;
};

/* netd's signature that this host leaves; with force it may be missing. */
static int ask_departure(struct cli *cli, bool force, struct departure *departure)
{
	const struct msg_depart body = { 0 };
	_cleanup_close_ int fd = -1;
	struct message answer;
	int r;

	if (force) {
		fd = daemon_dial_quietly(cli, &netd_admin);
		r = fd < 0 ? fd : daemon_call_quietly(cli, &netd_admin, fd, MSG_depart, &body, MSG_departure, NETD_TIMEOUT_MS, &answer);
		if (r < 0)
			return CLI_OK;
	} else {
		r = daemon_dial(cli, &netd_admin, &fd);
		if (!r)
			r = daemon_call(cli, &netd_admin, fd, MSG_depart, &body, MSG_departure, NETD_TIMEOUT_MS, &answer);
		if (r)
			return r;
	}
	departure->n = answer.body.departure.envelope.n;
	if (departure->n)
		memcpy(departure->bytes, answer.body.departure.envelope.p, departure->n);
	return CLI_OK;
}

/* Tell the control plane, through fetchd. With force this host leaves whatever comes of it. */
static int leave_at_fetchd(struct cli *cli, bool force)
{
	_cleanup_close_ int fd = -1;
	struct msg_leave body = { .force = force };
	struct departure departure = { .n = 0 };
	char text[1025] = "";
	int r = ask_departure(cli, force, &departure);

	if (r)
		return r;
	body.departure = (struct view){ departure.bytes, departure.n };
	r = force ? 0 : daemon_dial(cli, &fetchd_admin, &fd);
	if (r)
		return r;
	if (force)
		r = fd = daemon_dial_quietly(cli, &fetchd_admin);
	if (r >= 0)
		r = ask_fetchd(cli, fd, MSG_leave, &body, text);
	if (r < 0 && force) {
		cli_note(&cli->voice, "fetchd does not answer, so the control plane is not told: an operator should retire this "
				      "host there.");
		return CLI_OK;
	}
	if (r < 0)
		return daemon_no_answer(cli, &fetchd_admin, r);
	if (r == CLI_REFUSED)
		return cli_fail(&cli->voice, CLI_REFUSED, "leave", "this host has not left: %s", text);
	cli_note(&cli->voice, "%s", text);
	return CLI_OK;
}

int loopback_leave(struct cli *cli, const struct cli_args *args)
{
	bool forget_keys = cli_has(args, "forget-keys");
	struct emit emit = emit_to(stdout);
	int r = leave_at_fetchd(cli, cli_has(args, "force"));

	if (r)
		return r;
	r = unpin(cli, forget_keys);
	if (r)
		return r;
	if (cli->voice.json) {
		emit_object(&emit, NULL);
		emit_bool(&emit, "enrolled", false);
		emit_bool(&emit, "keys_forgotten", forget_keys);
		emit_end(&emit);
	} else {
		(void)printf("This host has left: overlay addresses, routes and peers are gone, documents and root key are "
			     "forgotten%s.\n",
			     forget_keys ? ", and so are its keys" : "; its keys stay, and with them its identity");
	}
	return CLI_OK;
}
