/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of forge share: one context, the words of a command, the JSON of an answer.
 *
 * forge is one program; its parts are headers of static functions, because every C file in tests/tools is a program of its own.
 */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "libdoc/admission.h"
#include "libdoc/head.h"
#include "libdoc/host.h"
#include "libdoc/keyset.h"
#include "libdoc/network.h"
#include "libdoc/trie.h"
#include "libipc/channel.h"
#include "libjournal/blobs.h"

#define WORDS_MAX 32
#define KEYS_MAX 16
#define FORGED_NETWORKS_MAX 16
#define CONNECTIONS_MAX 32
#define LINE_BYTES_MAX 8192
#define ANSWER_BYTES_MAX 65536

/* -- The words of a command: "verb word ... key=value ..." ------------------------------------------------------------------- */

struct words {
	unsigned count;
	char *word[WORDS_MAX];
	bool used[WORDS_MAX]; /* what no command asked for is a mistake of the test */
};

/** @return the value of key=value, NULL if there is none */
static inline const char *word_of(struct words *words, const char *key)
{
	size_t n = strlen(key);

	for (unsigned i = 1; i < words->count; i++)
		if (strncmp(words->word[i], key, n) == 0 && words->word[i][n] == '=') {
			words->used[i] = true;
			return words->word[i] + n + 1;
		}
	return NULL;
}

static inline uint64_t number_of(struct words *words, const char *key, uint64_t otherwise)
{
	const char *value = word_of(words, key);

	return value ? strtoull(value, NULL, 10) : otherwise;
}

/** @return the word at this place (1 is the first after the verb), NULL */
static inline const char *word_at(struct words *words, unsigned i)
{
	if (i >= words->count || strchr(words->word[i], '='))
		return NULL;
	words->used[i] = true;
	return words->word[i];
}

/** Take the next part of a list "a,b,c" to out. @return false at its end */
static inline bool list_next(const char **list, char *out, size_t size)
{
	size_t n = *list ? strcspn(*list, ",") : 0;

	if (n == 0 || n >= size)
		return false;
	memcpy(out, *list, n);
	out[n] = '\0';
	*list += n + ((*list)[n] == ',');
	return true;
}

/* -- The answer: one line of JSON -------------------------------------------------------------------------------------------- */

struct answer {
	size_t n;
	char text[ANSWER_BYTES_MAX];
};

static inline void _printf_(2, 3) put(struct answer *answer, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(answer->text + answer->n, sizeof(answer->text) - answer->n, format, args);
	va_end(args);
	if (n > 0 && answer->n + (size_t)n < sizeof(answer->text))
		answer->n += (size_t)n;
}

static inline void put_number(struct answer *answer, const char *key, uint64_t value)
{
	put(answer, ", \"%s\": %" PRIu64, key, value);
}

static inline void put_flag(struct answer *answer, const char *key, bool value)
{
	put(answer, ", \"%s\": %s", key, value ? "true" : "false");
}

static inline void put_text_n(struct answer *answer, const char *key, const void *text, size_t n)
{
	const unsigned char *c = text;

	put(answer, ", \"%s\": \"", key);
	for (size_t i = 0; i < n; i++)
		put(answer, c[i] < ' ' || c[i] > '~' || c[i] == '"' || c[i] == '\\' ? "\\u%04x" : "%c", c[i]);
	put(answer, "\"");
}

static inline void put_text(struct answer *answer, const char *key, const char *text)
{
	put_text_n(answer, key, text, strlen(text));
}

static inline void put_hex(struct answer *answer, const char *key, const void *bytes, size_t n)
{
	char text[2 * SECRET_KEY_BYTES + 1];

	put_text(answer, key, hex_format(bytes, n, text));
}

/* -- The context ------------------------------------------------------------------------------------------------------------- */

/* A key pair by name; it is made when it is first named. */
struct named_key {
	char name[32];
	uint8_t public[KEY_BYTES], secret[SECRET_KEY_BYTES];
};

/* A host that exists in documents alone. */
struct virtual_host {
	uint8_t secret[SECRET_KEY_BYTES];
	uint8_t wg_key[KEY_BYTES];
	struct statement statement; /* counter 0: not signed yet */
};

/* What the next publication says instead of the truth; used up by it. */
struct lies {
	bool set_generation, set_epoch, set_count;
	uint64_t generation, count;
	uint32_t epoch;
	char signer[32], deployment[32];
	enum document_type type; /* 0: the right one */
	bool set_root;
	struct hash root;
};

struct forged_network {
	char name[NAME_BYTES_MAX + 1];
	struct network_document document;
	struct trie *trie;
	bool mine, dirty; /* mine: the host under test is in it */
	uint64_t generation;
	unsigned own_count;
	struct prefix own[ADDRESSES_MAX];
	struct lies lies;
	struct head_entry entry; /* as last published */
	uint64_t list_generation;
	struct head_entry list; /* the admission list, as last signed; type 0: none */
	struct head_entry list_before;
	struct admitted *listed; /* as the operators' last list has them */
	size_t listed_count;
};

struct connection {
	char name[32];
	int fd;
	bool asked;
	uint8_t nonce[32], used[32]; /* outstanding; the one before */
};

struct forge {
	uint8_t seed[32];
	unsigned key_count, network_count, connection_count;
	struct named_key keys[KEYS_MAX];
	struct keyset keyset;
	struct pack_writer keyset_envelope;
	struct hash keyset_name;
	struct forged_network networks[FORGED_NETWORKS_MAX];
	struct connection connections[CONNECTIONS_MAX];

	struct virtual_host *hosts;
	unsigned host_count, host_room;
	struct blobs *blobs;

	bool known; /* the host under test has told who it is */
	uint8_t host_key[KEY_BYTES];
	struct id host;
	struct statement statement;
	struct host_document host_document;
	struct head_entry host_entry;
	struct lies host_lies;
	char host_networks[256]; /* names in the host document; empty: all that are mine */
	uint64_t head_generation, host_generation;
	struct pack_writer last_head;
	uint64_t receipt_generation;
	int64_t clock; /* seconds that the control plane's is ahead */

	uint8_t frame[FRAME_BYTES_MAX];
	struct answer answer;
};

/** Say what is wrong. @return -EINVAL, for `return wrong(...)` */
static inline int _printf_(2, 3) wrong(struct forge *forge, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	forge->answer.n = 0;
	put(&forge->answer, "{\"ok\": false");
	put_text(&forge->answer, "error", text);
	return -EINVAL;
}

static inline uint64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/** What the control plane's clock says. */
static inline uint64_t clock_of(const struct forge *forge)
{
	return (uint64_t)((int64_t)time(NULL) + forge->clock);
}

/** Bytes that follow from forge's seed and a name, so that a run can be repeated. */
static inline void derive(const struct forge *forge, const char *kind, uint64_t number, void *out, size_t n)
{
	crypto_generichash_state hash;

	(void)crypto_generichash_init(&hash, forge->seed, sizeof(forge->seed), n);
	(void)crypto_generichash_update(&hash, (const uint8_t *)kind, strlen(kind));
	(void)crypto_generichash_update(&hash, (const uint8_t *)&number, sizeof(number));
	(void)crypto_generichash_final(&hash, out, n);
}
