/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hosts install, as the control plane lists it. A list from elsewhere: nothing of it becomes a file's name before it was checked here.
 */
#pragma once

#include "cli/loopbackctl/ctl.h"

#define PACKAGE_BYTES_MAX (256ull * 1024 * 1024)
#define SHA512_TEXT 129

struct package {
	const char *file, *sha512; /* borrowed from the item */
	uint64_t bytes;
};

/** Read one item of the list. Reports failures itself. @return CLI_OK; CLI_REFUSED */
_must_check_ int package_read(struct cli *cli, const json_t *item, struct package *package);

/** SHA-512 of a descriptor's file from its beginning. @return 0; negative errno */
_must_check_ int file_sha512(int fd, char out[static SHA512_TEXT]);
