/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hosts install: files in STATE/packages, taken in on this machine by an administrator (`controld package add`), each with the SHA-512
 * that it had then. A name never comes to mean another file.
 */
#pragma once

#include "controld/controld.h"

#define PACKAGE_FILE_MAX 200
#define PACKAGE_BYTES_MAX (256ull * 1024 * 1024)
#define SHA512_TEXT 129
#define AGENT_PACKAGE "loopback-agent"

struct package {
	char file[PACKAGE_FILE_MAX + 1];
	const char *format; /* "deb", "rpm" */
	char name[64], version[64], architecture[32];
};

/**
 * Read a file's name: NAME_VERSION_ARCHITECTURE.deb or NAME-VERSION-RELEASE.ARCHITECTURE.rpm. Nothing in any part means something to a shell,
 * a URL or a file system.
 * @return 0; -EINVAL
 */
_must_check_ int package_parse(const char *file, struct package *package);
/** Is this a version, as a package's name carries it? */
bool package_version_valid(const char *text);
/** An architecture? */
bool package_architecture_valid(const char *text);

/** Open a package that is listed, and has the size that it had when it was added. @return a descriptor; -ENOENT; -EIO logged */
_must_check_ int package_open(struct controld *controld, const char *file, uint64_t *bytes);

/* package_add.c: `controld package ...`, on this machine, whether or not the daemon runs. @return 0; negative errno, logged */
_must_check_ int packages_add(const char *dir, char **paths, int count);
_must_check_ int packages_remove(const char *dir, char **files, int count);
_must_check_ int packages_print(const char *dir);
