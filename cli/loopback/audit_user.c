/* SPDX-License-Identifier: Apache-2.0 */
/* Who else runs as a process's user. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/loopback/audit.h"

#define NAMED_MAX 6

/* Not this program itself: the child that asks what the user may write becomes that user, and another audit may have one. */
static bool is_audit(const char *entry)
{
	struct stat theirs, ours;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%.16s/exe", entry);
	return stat(path, &theirs) == 0 && stat("/proc/self/exe", &ours) == 0 && theirs.st_dev == ours.st_dev &&
	       theirs.st_ino == ours.st_ino;
}

static bool has_uid(const char *entry, uid_t uid)
{
	_cleanup_free_ char *status = NULL;
	const char *line;
	unsigned ids[4];
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%.16s/status", entry);
	if (audit_read(AT_FDCWD, path, &status) < 0)
		return false; /* ended meanwhile */
	line = strstr(status, "\nUid:");
	if (!line || sscanf(line, "\nUid: %u %u %u %u", &ids[0], &ids[1], &ids[2], &ids[3]) != 4)
		return false;
	return ids[0] == uid || ids[1] == uid || ids[2] == uid || ids[3] == uid;
}

void audit_user(struct audited *audited)
{
	static const char should[] = "no other process has its user";
	_cleanup_phrase_ struct phrase found = { .text = NULL };
	DIR *folder = audited->managed && audited->uid != (uid_t)-1 ? opendir("/proc") : NULL;
	const struct dirent *entry;
	unsigned count = 0;

	if (!folder)
		return;
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || strtol(entry->d_name, NULL, 10) == audited->pid)
			continue;
		if (has_uid(entry->d_name, audited->uid) && !is_audit(entry->d_name) && ++count <= NAMED_MAX)
			phrase_item(&found, "process %s has it too", entry->d_name);
	}
	(void)closedir(folder);
	if (count > NAMED_MAX)
		phrase_add(&found, " and %u more", count - NAMED_MAX);
	audit_say(audited, AUDIT_user_alone, count ? AUDIT_DIFFERS : AUDIT_SAME, should, count ? phrase_text(&found) : should);
	audited->failed |= found.failed;
}
