/* SPDX-License-Identifier: Apache-2.0 */
/* The keyset that the control plane hands out. */
#include <sodium.h>
#include <string.h>

#include "cli/loopbackctl/api.h"
#include "cli/loopbackctl/context.h"
#include "cli/loopbackctl/keysets.h"

#define KEYSET_BASE64_MAX (4 * ((ENVELOPE_BYTES_MAX + 2) / 3) + 1)

/* Take the envelope out of an answer and check it by the operator's own root: nobody vouches for itself. */
static int take_envelope(struct cli *cli, const json_t *answer, const uint8_t *root, struct keyset_file *file)
{
	const char *base64 = json_string_value(json_object_get(answer, "envelope"));

	if (!base64 || sodium_base642bin(file->bytes, ENVELOPE_BYTES_MAX, base64, strlen(base64), NULL, &file->n, NULL,
					 sodium_base64_VARIANT_ORIGINAL) < 0)
		return cli_fail(&cli->voice, CLI_REFUSED, "answer", "the control plane answered without an envelope in base64");
	return keyset_file_open(&cli->voice, "the control plane's keyset", root, file);
}

int keyset_show(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *answer = NULL;
	struct keyset_file file = { .n = 0 };
	uint8_t root[KEY_BYTES];
	bool have_root = context_root(cli, root);
	int r = api_call(cli, "GET", "/v1/keyset", NULL, &answer);

	(void)args;
	if (!r)
		r = take_envelope(cli, answer, have_root ? root : NULL, &file);
	return r ? r : keyset_file_print(cli, &file);
}

int keyset_publish(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ json_t *body = NULL;
	struct keyset_file file = { .n = 0 };
	char base64[KEYSET_BASE64_MAX];
	uint8_t root[KEY_BYTES];
	bool have_root = context_root(cli, root);
	int r = keyset_file_read(&cli->voice, args->words[0], &file);

	if (!r)
		r = keyset_file_open(&cli->voice, args->words[0], have_root ? root : NULL, &file);
	if (r)
		return r;
	body = json_pack("{s:s}", "envelope",
			 sodium_bin2base64(base64, sizeof(base64), file.bytes, file.n, sodium_base64_VARIANT_ORIGINAL));
	if (!body)
		return cli_fail(&cli->voice, CLI_REFUSED, "memory", "out of memory");
	r = api_call(cli, "PUT", "/v1/keyset", body, NULL);
	return r ? r : keyset_file_print(cli, &file);
}
