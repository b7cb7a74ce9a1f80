/* SPDX-License-Identifier: Apache-2.0 */
/* Print the worked example that ends docs/design/formats.md. */
#include "tests/tools/lib/example.h"

int main(void)
{
	int r = sodium_init() < 0 ? -EIO : example_write(stdout);

	if (r < 0)
		(void)fprintf(stderr, "formatsdoc: cannot make the example: %s\n", strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
