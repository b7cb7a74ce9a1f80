/* SPDX-License-Identifier: Apache-2.0 */
#include "libstore/owner.h"

#include <errno.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libipc/log.h"

int owner_become(const char *dir, bool make)
{
	struct stat st;

	(void)umask(0077); /* SQLite makes its files with what this leaves */
	if (make && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return log_errno(errno, "%s: cannot make this directory", dir);
	if (stat(dir, &st) < 0)
		return log_errno(errno, "%s: stat", dir);
	if (geteuid() != 0 || st.st_uid == 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setgid(st.st_gid) < 0 || setuid(st.st_uid) < 0)
		return log_errno(errno, "%s: cannot become uid %u, its owner", dir, (unsigned)st.st_uid);
	return 0;
}
