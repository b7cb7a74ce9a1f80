/* SPDX-License-Identifier: Apache-2.0 */
/* Print docs/design/ipc.md: build/tests/tools/ipcdoc >docs/design/ipc.md, from the root of the tree. */
#include "tests/tools/lib/ipcdoc.h"

int main(void)
{
	_cleanup_fclose_ FILE *source = fopen(IPCDOC_SOURCE, "re");
	int r = source ? ipcdoc_write(source, stdout) : -errno;

	if (r < 0)
		(void)fprintf(stderr, "ipcdoc: cannot describe %s: %s\n", IPCDOC_SOURCE, strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
