/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets on which a process is spoken to: where they lie, whose they are, who may connect (systemd.socket(5), unix(7)). */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/loopback/audit_find.h"

struct listeners {
	struct phrase declared, found, changes;
	bool differs;
};

static void tell(struct phrase *out, const char *path, const char *user, unsigned mode)
{
	phrase_item(out, "%s %s %04o", path, user, mode);
}

static void tell_found(struct phrase *out, const char *path)
{
	const struct passwd *account;
	struct stat status;
	char uid[16];

	if (lstat(path, &status) < 0 || !S_ISSOCK(status.st_mode)) {
		phrase_item(out, "%s is not there", path);
		return;
	}
	account = getpwuid(status.st_uid);
	(void)snprintf(uid, sizeof(uid), "%u", (unsigned)status.st_uid);
	tell(out, path, account ? account->pw_name : uid, (unsigned)status.st_mode & 07777);
}

static void value_or(const struct unit *unit, const char *key, const char *otherwise, struct phrase *out)
{
	(void)unit_value(unit, key, out);
	if (out->n == 0)
		phrase_add(out, "%s", otherwise);
}

/* The shipped unit's words against the file system, and against what is in force. */
static void look_at(struct listeners *listeners, const char *name, const struct unit_state *unit)
{
	_cleanup_phrase_ struct phrase path = { .text = NULL }, user = { .text = NULL }, mode = { .text = NULL };
	_cleanup_phrase_ struct phrase should = { .text = NULL }, is = { .text = NULL };

	if (!unit->has_shipped) {
		phrase_item(&listeners->declared, "%s", name);
		phrase_item(&listeners->found, "%s is not installed", name);
		listeners->differs = true;
		return;
	}
	value_or(&unit->shipped, "ListenSequentialPacket", "", &path);
	value_or(&unit->shipped, "SocketUser", "root", &user);
	value_or(&unit->shipped, "SocketMode", "0666", &mode);
	tell(&should, phrase_text(&path), phrase_text(&user), (unsigned)strtoul(phrase_text(&mode), NULL, 8));
	tell_found(&is, phrase_text(&path));
	phrase_item(&listeners->declared, "%s", phrase_text(&should));
	phrase_item(&listeners->found, "%s", phrase_text(&is));
	if (strcmp(phrase_text(&should), phrase_text(&is)) != 0)
		listeners->differs = true;
	if (unit->has_shown && unit_changes(&unit->shipped, &unit->in_force, &listeners->changes) > 0)
		listeners->differs = true;
}

void audit_listeners(struct audited *audited, const struct finder *finder)
{
	_cleanup_phrase_ struct phrase names = { .text = NULL };
	struct listeners listeners = { .differs = false };
	char *rest = NULL;
	int r = 0;

	if (!audited->shipped || !unit_value(audited->shipped, "Sockets", &names) || names.n == 0)
		return;
	for (const char *name = strtok_r(names.text, " \t", &rest); r == 0 && name; name = strtok_r(NULL, " \t", &rest)) {
		_cleanup_unit_state_ struct unit_state unit = { .has_shown = false };

		r = audit_unit_look(finder, name, &unit);
		if (r == 0)
			look_at(&listeners, name, &unit);
	}
	if (listeners.changes.n)
		phrase_add(&listeners.found, "; %s", phrase_text(&listeners.changes));
	if (r < 0)
		audit_unreadable(audited, AUDIT_listeners, phrase_text(&listeners.declared), r);
	else
		audit_say_phrases(audited, AUDIT_listeners, listeners.differs ? AUDIT_DIFFERS : AUDIT_SAME, &listeners.declared,
				  &listeners.found);
	phrase_free(&listeners.declared);
	phrase_free(&listeners.found);
	phrase_free(&listeners.changes);
}
