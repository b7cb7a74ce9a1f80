/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forge: root, signd, control plane, all other hosts and fetchd in one, so that netd can be offered whatever there is.
 *
 * Reads commands from stdin, one a line, "verb word ... key=value ...", and answers each with one line of JSON: {"ok": true, ...}
 * or {"ok": false, "error": "..."}. Keys, networks and connections are named; a key is made when it is first named. What a
 * command understands stands before its function: forge_sign.h (keyset clock), forge_mesh.h (network empty host self peers peer
 * unpeer tamper admission publish setconf), forge_talk.h (connect disconnect hello hand-over pin listen), forge_offer.h (offer await
 * bring), forge_odd.h (send flood).
 *
 *   pin /run/loopback/netd/admin.sock
 *   connect /run/loopback/netd/documents.sock as=_lb-fetchd
 *   keyset | hello | hand-over
 *   network mesh cidr=100.64.0.0/16
 *   self mesh address=100.64.0.1/32
 *   peers mesh count=300 base=100.64.1.0 endpoint=198.18.0.9:51820
 *   publish
 *   offer                {"ok": true, "us": 6400, "closed": false, ..., "outcome": "applied", "receipt": {...}}
 */
#include "tests/tools/lib/forge_odd.h"
#include "tests/tools/lib/forge_offer.h"

static const struct command {
	const char *verb;
	int (*run)(struct forge *forge, struct words *words);
} commands[] = {
	{ "keyset", cmd_keyset },   { "network", cmd_network }, { "empty", cmd_empty },
	{ "host", cmd_host },       { "self", cmd_self },       { "peers", cmd_peers },
	{ "peer", cmd_peer },       { "unpeer", cmd_unpeer },   { "tamper", cmd_tamper },
	{ "publish", cmd_publish }, { "setconf", cmd_setconf }, { "connect", cmd_connect },
	{ "hello", cmd_hello },     { "pin", cmd_pin },         { "disconnect", cmd_disconnect },
	{ "offer", cmd_offer },     { "await", cmd_await },     { "hand-over", cmd_hand_over },
	{ "bring", cmd_bring },     { "listen", cmd_listen },   { "send", cmd_send },
	{ "flood", cmd_flood },     { "clock", cmd_clock },
	{ "admission", cmd_admission },
};

static void words_split(char *line, struct words *words)
{
	char *rest = line, *word;

	*words = (struct words){ .count = 0 };
	while (words->count < WORDS_MAX && (word = strsep(&rest, " \n")))
		if (*word)
			words->word[words->count++] = word;
}

static int all_used(struct forge *forge, const struct words *words)
{
	for (unsigned i = 1; i < words->count; i++)
		if (!words->used[i])
			return wrong(forge, "%s: nobody asked for %s", words->word[0], words->word[i]);
	return 0;
}

static void obey(struct forge *forge, char *line)
{
	struct words words;
	int r;

	forge->answer.n = 0;
	put(&forge->answer, "{\"ok\": true");
	words_split(line, &words);
	if (words.count == 0)
		return;
	r = wrong(forge, "there is no command %s", words.word[0]);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].verb, words.word[0]) != 0)
			continue;
		forge->answer.n = 0;
		put(&forge->answer, "{\"ok\": true");
		r = commands[i].run(forge, &words);
	}
	if (r >= 0)
		r = all_used(forge, &words);
	if (r < 0 && strncmp(forge->answer.text, "{\"ok\": true", 11) == 0)
		(void)wrong(forge, "%s: %s", words.word[0], strerror(-r));
}

int main(void)
{
	static struct forge forge; /* the one context; static for its size */
	static char line[LINE_BYTES_MAX];

	if (sodium_init() < 0 || blobs_new(&forge.blobs) < 0)
		return EXIT_FAILURE;
	randombytes_buf(forge.seed, sizeof(forge.seed));
	while (fgets(line, sizeof(line), stdin)) {
		obey(&forge, line);
		if (printf("%s}\n", forge.answer.text) < 0 || fflush(stdout) != 0)
			return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
