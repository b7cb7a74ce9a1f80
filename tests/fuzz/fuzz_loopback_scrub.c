/* SPDX-License-Identifier: Apache-2.0 */
/* Any text with any secret: the scrubber stays within it, blanks and never invents, and is done the second time. */
#include <stdlib.h>
#include <string.h>

#include "cli/loopback/support_scrub.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* The first byte is the length of the secret, which follows; the rest is the text. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	_cleanup_secrets_ struct secrets secrets = { .count = 0 };
	_cleanup_free_ char *text = NULL;
	size_t secret_n = n > 0 ? bytes[0] % 64 : 0;

	if (n < 1 + secret_n)
		return 0;
	if (secrets_add(&secrets, bytes + 1, secret_n) < 0)
		abort();
	bytes += 1 + secret_n;
	n -= 1 + secret_n;
	text = malloc(n ? n : 1);
	if (!text)
		abort();
	memcpy(text, bytes, n);
	(void)scrub_known(text, n, &secrets);
	(void)scrub_likely(text, n);
	for (size_t i = 0; i < n; i++)
		if (text[i] != '*' && text[i] != (char)bytes[i])
			abort();
	if (secrets.count > 0 && memchr(secrets.values[0].bytes, '*', secret_n) == NULL &&
	    memmem(text, n, secrets.values[0].bytes, secret_n))
		abort();
	return 0;
}
